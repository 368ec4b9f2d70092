"""The benchmarks: their reference formula is the fusion blocks' function, and they run."""

import csv
import subprocess
import sys
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd
from reference import error, filled, parameters, tensor

import train_cifar
from benchmarks import low_precision, norm_statistics
from gluon_aff import FUSIONS
from gluon_aff.data.cifar import Batches
from gluon_aff.layers.layout import broadcast_spatial
from model_zoo import get_model, list_models

BENCHMARKS = Path(__file__).parents[1] / 'benchmarks'
SHAPES = [(16, 16, 8, 6), (8, 16, 1, 1), (6, 16, 7, 1)]


@pytest.fixture
def naive(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from naive import NAIVE

    return NAIVE


def outputs_and_gradients(block, x, y, c):
    for array in (x, y):
        array.attach_grad()
    with autograd.record():
        z = block(x, y)
        (z * c).sum().backward()
    actual = {'z': z, 'x': x.grad.copy(), 'y': y.grad.copy()}
    # A bias before a norm has no gradient but rounding errors.
    actual.update(
        {
            name: p.grad().copy()
            for name, p in parameters(block).items()
            if p.grad_req != 'null' and not name.endswith('bias')
        }
    )
    actual['inference'] = block(x, y)
    return actual


@pytest.mark.parametrize('hybridize', [False, True])
@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('name', ['aff', 'iaff'])
def test_the_fusion_blocks_compute_what_the_naive_formula_does(name, shape, hybridize, naive):
    ours, reference = filled(FUSIONS[name](16)), filled(naive[name](16))
    assert {k: p.shape for k, p in parameters(ours).items()} == {k: p.shape for k, p in parameters(reference).items()}
    if hybridize:
        ours.hybridize(static_alloc=True, static_shape=True)
    x, y, c = (tensor(shape, seed) for seed in range(3))
    actual, expected = (outputs_and_gradients(block, x, y, c) for block in (ours, reference))
    assert actual.keys() == expected.keys()
    largest = max(abs(a.asnumpy()).max() for key, a in expected.items() if key not in ('z', 'inference'))
    for key, array in expected.items():
        if key in ('z', 'inference'):
            assert error(actual[key], array) <= 1e-5, key
        else:
            assert abs((actual[key] - array).asnumpy()).max() <= 1e-4 * largest, key


@pytest.mark.parametrize('shape', [(2, 3, 4, 5), (1, 1, 1, 1), (3, 2, 1, 4)])
def test_spatial_broadcast_repeats_and_its_gradient_is_the_sum_over_the_map(shape):
    pooled, like = tensor((*shape[:2], 1, 1)), tensor((shape[0], 7, *shape[2:]), 1)
    for array in (pooled, like):
        array.attach_grad()
    c = tensor(shape, 2)
    with autograd.record():
        z = broadcast_spatial(mx.nd, pooled, like)
        z.backward(c)
    assert error(z, mx.nd.broadcast_to(pooled, shape)) == 0
    assert error(pooled.grad, c.sum((2, 3), keepdims=True)) <= 1e-6
    assert not like.grad.asnumpy().any()


def test_spatial_broadcast_refuses_more_than_one_value_per_channel():
    with pytest.raises(mx.MXNetError):
        broadcast_spatial(mx.nd, tensor((2, 3, 2, 1)), tensor((2, 3, 4, 5))).wait_to_read()


@pytest.mark.parametrize(
    'command, expected',
    [
        (
            ['fusion_blocks.py', '--batch-size', '2', '--channels', '8', '--side', '3', '--rounds', '1', '--no-memory'],
            '| aff | ',
        ),
        (
            ['training.py', '--fusions', 'add', 'aff', 'highway', 'naive aff', '--rounds', '1', '--no-memory'],
            '| aff | ',
        ),
        (['training.py', '--fusions', 'aff', '--operators'], '| _backward_Convolution | '),
    ],
)
def test_benchmarks_print_a_row(command, expected):
    sizes = ['--networks', 'cifar_resnet8_w1', '--batch-size', '2'] if command[0] == 'training.py' else []
    out = subprocess.run(
        [sys.executable, str(BENCHMARKS / command[0]), *command[1:], *sizes],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert out.returncode == 0, out.stderr
    assert expected in out.stdout


def test_the_table_has_the_memory_of_each_form():
    """A naive AFF keeps more maps for its backward pass than the one with the compiled operators."""
    out = subprocess.run(
        [
            sys.executable,
            str(BENCHMARKS / 'training.py'),
            '--networks',
            'cifar_resnet8_w1',
            '--fusions',
            'aff',
            'naive aff',
            '--rounds',
            '1',
            '--only',
            'training',
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert out.returncode == 0, out.stderr
    ours, naive = (
        float(line.split(' | ')[-1].strip(' |'))
        for line in out.stdout.splitlines()
        if line.startswith(('| aff', '| naive'))
    )
    assert 50 < ours < naive < 2000


def test_memory_is_that_of_the_process_and_of_the_calls(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from timing import in_a_process

    np.ones((96 << 20,), np.float32)  # a peak before, which must not count
    kept = np.ones((96 << 20,), np.float32)  # 384 MiB, which the child must not inherit
    assert in_a_process(
        '-c', f'import sys; sys.path.insert(0, {str(BENCHMARKS)!r}); import timing; print(timing.peak_memory())'
    ) < kept.nbytes / (1 << 20)
    assert (
        60
        < in_a_process(
            '-c',
            f'import sys; sys.path.insert(0, {str(BENCHMARKS)!r}); import timing, numpy as np; '
            'print(timing.memory_of(lambda: lambda: np.ones((16 << 20,), np.float32)))',
        )
        < 80
    )


@pytest.mark.parametrize('name', ['aff', 'iaff'])
def test_the_torch_rows_compute_what_ours_do(name, monkeypatch):
    torch = pytest.importorskip('torch', reason='the PyTorch rows are for those who have it')
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from in_torch import FUSIONS as TORCH

    ours, theirs = filled(FUSIONS[name](16)), TORCH[name](16).eval()
    state = [value for key, value in theirs.state_dict().items() if not key.endswith('num_batches_tracked')]
    known = [
        p.data()
        for suffix in ('', '2')[: ours.rounds]
        for scale in ('local', 'global')
        for p in parameters(getattr(ours, f'{scale}_att{suffix}')).values()
    ]
    assert len(state) == len(known)
    with torch.no_grad():
        for entry, value in zip(state, known):
            entry.copy_(torch.from_numpy(value.asnumpy()))
        x, y = tensor((2, 16, 5, 4)), tensor((2, 16, 5, 4), 1)
        z = theirs(torch.from_numpy(x.asnumpy()), torch.from_numpy(y.asnumpy())).numpy()
    assert error(ours(x, y), z) <= 1e-5


@pytest.mark.parametrize('fusion', ['add', 'aff', 'iaff'])
@pytest.mark.parametrize(
    'host, name, options', [('cifar_resnet8', 'cifar_add_resnet8', {'width': 2}), ('resnet50', 'add_resnet50', {})]
)
def test_the_torch_networks_have_as_many_parameters(host, name, options, fusion, monkeypatch):
    pytest.importorskip('torch', reason='the PyTorch rows are for those who have it')
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import in_torch

    theirs = getattr(in_torch, host)(in_torch.FUSIONS[fusion], **options)
    ours = get_model(name, fusion=fusion, **options)
    assert sum(p.numel() for p in theirs.parameters()) == sum(
        np.prod(p.shape) for p in ours.collect_params().values() if p.grad_req != 'null'
    )


@pytest.mark.parametrize(
    'network, option, expected',
    [
        ('cifar_aff_resnet8', '--no-memory', '| ONNX Runtime INT8 |'),
        ('cifar_aff_resnet8', '--profile', '| QLinearConv |'),
        ('fpn_concat_resnet8', '--no-memory', 'threads: 2;'),
    ],
)
def test_the_benchmark_of_inference_prints_every_form(network, option, expected):
    pytest.importorskip('onnxruntime', reason="needs the extra 'onnx'")
    command = [
        sys.executable,
        str(BENCHMARKS / 'inference.py'),
        '--network',
        network,
        '--batch-sizes',
        '2',
        '--rounds',
        '1',
        '--input-size',
        '32',
        '--threads',
        '2',
        option,
    ]
    out = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert out.returncode == 0, out.stderr
    rows = {line.split(' | ')[0][2:] for line in out.stdout.splitlines() if line.startswith('| ')}
    assert expected in out.stdout and (
        option == '--profile'
        or rows
        > {
            'eager',
            'hybridized',
            'static',
            'oneDNN subgraph',
            'folded',
            'folded, oneDNN subgraph',
            'ONNX Runtime',
            'ONNX Runtime INT8',
            'OpenCV DNN',
            'OpenVINO',
            'OpenVINO bfloat16',
            'OpenVINO INT8',
            'bfloat16 by amp',
            'INT8 by quantize_net',
            'bfloat16 by amp, folded',
            'INT8 by quantize_net, folded',
            'bfloat16, our export',
            'INT8, our export',
        }
    )


def test_the_list_of_fewer_bits_has_every_network_and_its_summary_is_in_the_docs():
    docs = Path(__file__).parents[1] / 'docs'
    with open(docs / 'low_precision.csv', newline='', encoding='utf-8') as file:
        rows = list(csv.DictReader(file))
    assert [row['network'] for row in rows] == list_models()
    for row in rows:
        assert all(row[form] or 'not run' == row['reason'] or form in row['reason'] for form in low_precision.FORMS)
        for form, limit in (('openvino', 1e-4), ('amp', 0.05), ('openvino-bf16', 0.1)):
            assert float(row[form] or 0) <= limit, row
    table = low_precision.summary(low_precision.read(docs / 'low_precision.csv'))
    assert table in (docs / 'deployment.md').read_text(encoding='utf-8')


def test_the_profile_names_operators():
    command = [sys.executable, str(BENCHMARKS / 'profile_ops.py'), '--networks', 'cifar_aff_resnet8', '--rounds', '1']
    out = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert out.returncode == 0, out.stderr
    (row,) = (line for line in out.stdout.splitlines() if line.startswith('| cifar_aff_resnet8 |'))
    shares = [float(part.split()[-2]) for part in row.strip('| ').split(' | ')[2].split(', ')]
    assert len(shares) == 6 and shares == sorted(shares, reverse=True) and 50 < sum(shares) <= 100.1
    assert 'Convolution ' in row


def test_recomputed_statistics_are_those_that_mxnet_would_keep_of_the_batch():
    images = np.random.RandomState(0).randint(0, 256, (16, 32, 32, 3), dtype=np.uint8)
    batches = Batches(images, np.zeros(16, int), 16, (0.5,) * 3, (0.25,) * 3)
    net = get_model('cifar_aff_resnet8', width=1, norm_kwargs={'momentum': 0.0})
    net.initialize(mx.init.Xavier())
    ((data, _),) = batches.epoch()
    data = mx.nd.array(data)
    data.attach_grad()  # MXNet updates the statistics in the backward pass, the first norm's, too
    with autograd.record():
        outputs = net(data)
    outputs.backward()
    expected = {name: value.data().asnumpy() for name, value in net.collect_params('.*running').items()}
    for value in net.collect_params('.*running').values():
        value.set_data(mx.nd.ones_like(value.data()))
    norm_statistics.recompute(net, batches)
    assert len(expected) == 40
    for name, value in net.collect_params('.*running').items():
        np.testing.assert_allclose(value.data().asnumpy(), expected[name], rtol=1e-4, atol=1e-5)


def test_the_statistics_of_a_run_are_recomputed(tmp_path, capsys):
    flags = '--dataset digits --train-images 200 --width 1 --num-epochs 1 --batch-size 20 --val-images 100'.split()
    train_cifar.main([*flags, '--save-dir', str(tmp_path / 'run')])
    capsys.readouterr()
    norm_statistics.main([str(tmp_path / 'run')])
    *_, row = capsys.readouterr().out.splitlines()
    assert row.startswith('| run |')
    before, after, points = (float(cell) for cell in row.strip('| ').split(' | ')[1:])
    assert 0 <= before <= 100 and points == pytest.approx(after - before, abs=0.011)
