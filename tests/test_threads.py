"""What belongs to the whole process stays as it is while one thread works: standard output, warnings, variables."""

import os
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
from matplotlib import rcParams
from mxnet.gluon import nn

from gluon_aff._mxnet import mxnet_variable
from gluon_aff.deploy import Predictor, export
from gluon_aff.deploy.onnx_files import session
from gluon_aff.inspect.complexity import complexity
from gluon_aff.train.curves import plot_curves
from model_zoo import get_model
from model_zoo.loading import load_model


def counted():
    """The parameters of a network that takes the shape, and of one that does not."""
    net = get_model('cifar_add_resnet8', width=1)
    complexity(net, (1, 3, 32, 32))
    dense = nn.Dense(3, in_units=4)
    with pytest.raises(ValueError, match='cannot take inputs of shape'):
        complexity(dense, (1, 5))


@pytest.mark.parametrize('what', ['counted', 'exported', 'opened'])
def test_nothing_replaces_standard_output_or_the_filters_of_warnings(what, tmp_path, capsys):
    """For a moment would do: of two threads that save and restore it, the second one's restores the first one's."""
    model, folder = load_model('fashion_mnist_aff_resnet8'), tmp_path / 'out'
    export(model, folder, ['symbol'])
    work = {
        'counted': counted,
        'exported': lambda: export(model, folder, ['symbol']),
        'opened': lambda: Predictor(folder),
    }[what]
    work()  # imports replace the filters
    capsys.readouterr()
    output, filters, replaced, done = sys.stdout, warnings.filters, set(), threading.Event()

    def watch():
        while not done.is_set():
            if sys.stdout is not output:
                replaced.add('standard output')
            if warnings.filters is not filters:
                replaced.add('the filters of warnings')

    watcher, interval = threading.Thread(target=watch), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    watcher.start()
    try:
        for _ in range(5):
            work()
    finally:
        done.set()
        watcher.join()
        sys.setswitchinterval(interval)
    assert not replaced and sys.stdout is output and warnings.filters is filters
    assert capsys.readouterr().out == ''


def test_the_settings_of_matplotlib_are_as_before_after_threads_have_drawn(tmp_path):
    rows = [{'epoch': epoch, 'loss': 1 / epoch, 'val_loss': 1 / epoch, 'lr': 0.1} for epoch in (1, 2)]
    plot_curves(rows, str(tmp_path / 'first.png'))
    before = dict(rcParams)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda i: plot_curves(rows, str(tmp_path / f'{i}.png')), range(18)))
    assert dict(rcParams) == before


def test_onnxruntime_is_silent_where_it_fails(monkeypatch, capsys):
    onnxruntime = pytest.importorskip('onnxruntime')

    def fail(*_):
        raise RuntimeError('no kernel')

    monkeypatch.setattr(onnxruntime.InferenceSession, '_create_inference_session', fail)
    with pytest.raises(RuntimeError, match='no kernel'):
        session(b'')
    assert capsys.readouterr().out == ''


@pytest.mark.parametrize('before', [None, 'mine'])
def test_a_variable_of_mxnets_is_as_before_after_the_last_of_overlapping_blocks(before, monkeypatch):
    name = 'MXNET_GLUON_AFF_TEST'
    if before is None:
        monkeypatch.delenv(name, raising=False)
    else:
        monkeypatch.setenv(name, before)
    first, second = mxnet_variable(name, '1'), mxnet_variable(name, '1')
    for step in (first.__enter__, second.__enter__, lambda: first.__exit__(None, None, None)):
        step()
        assert os.environ[name] == '1'
    second.__exit__(None, None, None)
    assert os.environ.get(name) == before
