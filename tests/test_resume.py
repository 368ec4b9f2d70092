"""Checkpoints and runs that are stopped: nothing is lost, and a resumed run ends as one that was never stopped."""

import json
import os
import random
import re
import signal
import time

import mxnet as mx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from programs import SHORT_RUN, finish, start

import train_cifar
from gluon_aff.train import Progress, checkpoints, read_checkpoint
from gluon_aff.train.checkpoint import restore_optimizer, restore_parameters, write_checkpoint
from model_zoo import get_model
from model_zoo.loading import load_model

KILLS = int(os.environ.get('GLUON_AFF_KILLS', '5'))
RUN = [SHORT_RUN, '--epochs', 6]


def trained(folder):
    """The last checkpoint of a run: its arrays, and its progress without what a clock says."""
    arrays, progress = read_checkpoint(checkpoints(str(folder))[0])
    for record in [*progress.history, progress.best]:
        for name in ('time', 'waiting', 'images_per_second'):
            record.pop(name, None)
    return arrays, progress


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp('whole')
    status, _, err = finish(start(*RUN, folder))
    assert status == 0, err
    return trained(folder)


def same(actual, expected):
    assert actual[1] == expected[1]
    assert actual[0].keys() == expected[0].keys()
    for name, value in expected[0].items():
        np.testing.assert_array_equal(actual[0][name], value, err_msg=name)


def wait_for_a_new_checkpoint(folder, program, known, seconds=90):
    until = time.monotonic() + seconds
    while program.poll() is None and set(checkpoints(str(folder))) == known and time.monotonic() < until:
        time.sleep(0.01)


@pytest.mark.parametrize('kills', [KILLS, pytest.param(20, marks=pytest.mark.slow)])
def test_a_run_that_is_killed_again_and_again_ends_bit_for_bit_as_a_whole_one(kills, tmp_path, whole):
    """With dropout, mixup and AutoAugment; GLUON_AFF_KILLS says how often."""
    when, killed = random.Random(0), 0
    while killed < kills:
        program = start(*RUN, tmp_path, '--save-seconds', 0.1, '--slow', 0.1)
        wait_for_a_new_checkpoint(tmp_path, program, set(checkpoints(str(tmp_path))))
        time.sleep(when.uniform(0, 0.3))
        if program.poll() is not None:
            break
        os.killpg(program.pid, signal.SIGKILL)
        program.communicate()
        killed += 1
        for path in checkpoints(str(tmp_path)):
            read_checkpoint(path)
    assert killed > min(kills, 15) // 2
    status, _, err = finish(start(*RUN, tmp_path))
    assert status == 0, err
    same(trained(tmp_path), whole)
    assert len(checkpoints(str(tmp_path))) == 3 and not list(tmp_path.glob('.*.part'))
    lines = (tmp_path / 'log.jsonl').read_text().splitlines()
    assert [json.loads(line)['epoch'] for line in lines] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize('kills', [2, pytest.param(12, marks=pytest.mark.slow)])
def test_a_run_that_is_killed_before_its_first_checkpoint_begins_anew(kills, tmp_path, whole):
    when = random.Random(1)
    for _ in range(kills):
        program, until = start(*RUN, tmp_path / 'run', '--slow', 2), time.monotonic() + 90
        while program.poll() is None and not (tmp_path / 'run').exists() and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(when.uniform(0, 1.5))
        assert program.poll() is None, program.communicate()
        os.killpg(program.pid, signal.SIGKILL)
        program.communicate()
        assert not checkpoints(str(tmp_path / 'run'))
    status, _, err = finish(start(*RUN, tmp_path / 'run'))
    assert status == 0, err
    same(trained(tmp_path / 'run'), whole)


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_says_how_to_go_on(number, tmp_path, whole):
    program = start(*RUN, tmp_path, '--slow', 0.5)
    until = time.monotonic() + 90
    while program.poll() is None and not (tmp_path / 'model.json').exists() and time.monotonic() < until:
        time.sleep(0.01)  # the first epoch ends
    time.sleep(0.7)
    program.send_signal(number)
    status, _, err = finish(program)
    assert status == 128 + number
    lines = err.strip().splitlines()
    assert re.search(r'Stopped after \d+ updates, in epoch \d of 6; a checkpoint is in ', lines[-2])
    assert (
        re.match(r'To go on: \S*python ', lines[-1]) and lines[-1].endswith('--resume') and str(tmp_path) in lines[-1]
    )
    assert read_checkpoint(checkpoints(str(tmp_path))[0])[1].batch > 0
    status, _, err = finish(start(*RUN, tmp_path))
    assert status == 0, err
    same(trained(tmp_path), whole)


def small(width=1, optimizer='nesterov', **options):
    mx.random.seed(0)
    net = get_model('cifar_aff_resnet8', classes=3, width=width)
    net.initialize(mx.init.Xavier())
    trainer = mx.gluon.Trainer(net.collect_params(), mx.optimizer.create(optimizer, learning_rate=0.1, **options))
    return net, trainer


def step(net, trainer):
    with mx.autograd.record():
        loss = net(mx.nd.array(np.random.RandomState(0).rand(4, 3, 8, 8))).square().sum()
    loss.backward()
    trainer.step(4)


@pytest.mark.parametrize('optimizer, options', [('nesterov', {'momentum': 0.9}), ('adagrad', {}), ('adam', {})])
def test_a_checkpoint_restores_parameters_and_optimizer_to_the_last_bit(tmp_path, optimizer, options):
    net, trainer = small(optimizer=optimizer, **options)
    step(net, trainer)
    path, progress = str(tmp_path / 'c.npz'), Progress(2, 5, 1, {'loss': 0.1}, [{'epoch': 1}], {'epoch': 1}, {'a': [1]})
    write_checkpoint(path, net, trainer, progress)
    other, fresh = small(optimizer=optimizer, begin_num_update=1, **options)
    arrays, restored = read_checkpoint(path)
    restore_parameters(other, arrays, path)
    restore_optimizer(other, fresh, arrays)
    assert restored == progress
    step(net, trainer)
    step(other, fresh)
    for name, parameter in net._collect_params_with_prefix().items():
        np.testing.assert_array_equal(
            other._collect_params_with_prefix()[name].data().asnumpy(), parameter.data().asnumpy(), err_msg=name
        )


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    net, trainer = small(momentum=0.9)
    step(net, trainer)
    path = tmp_path_factory.mktemp('checkpoint') / 'checkpoint-00000001.npz'
    write_checkpoint(str(path), net, trainer, Progress())
    return path


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(data=st.data())
def test_a_damaged_checkpoint_is_refused_in_one_sentence(data, checkpoint, tmp_path):
    content = bytearray(checkpoint.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        for _ in range(data.draw(st.integers(1, 5))):
            content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path = tmp_path / 'c.npz'
    path.write_bytes(content)
    try:
        arrays, _ = read_checkpoint(str(path))
    except ValueError as error:
        assert 'not a checkpoint, or is damaged' in str(error) and '\n' not in str(error)
    else:  # bytes that say nothing, such as a date
        for name, array in read_checkpoint(str(checkpoint))[0].items():
            np.testing.assert_array_equal(arrays[name], array)


def test_a_checkpoint_is_never_unpickled(tmp_path):
    class Payload:
        def __reduce__(self):
            return os.system, (f'touch {tmp_path}/executed',)

    np.savez(tmp_path / 'c.npz', progress=np.array([Payload()], dtype=object))
    with pytest.raises(ValueError, match='not a checkpoint'):
        read_checkpoint(str(tmp_path / 'c.npz'))
    assert not (tmp_path / 'executed').exists()


def test_a_missing_checkpoint_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match='There is no checkpoint'):
        read_checkpoint(str(tmp_path / 'c.npz'))


def test_the_checkpoint_of_another_network_changes_nothing(checkpoint):
    net, _ = small(width=2)
    before = net.output.weight.data().asnumpy()
    with pytest.raises(ValueError, match='is from another network: .* differ'):
        restore_parameters(net, read_checkpoint(str(checkpoint))[0], 'c.npz')
    np.testing.assert_array_equal(net.output.weight.data().asnumpy(), before)


def test_parameters_that_are_not_finite_are_not_saved(tmp_path):
    net, trainer = small(momentum=0.9)
    net.output.bias.set_data(mx.nd.array([1, float('inf'), 0]))
    with pytest.raises(FloatingPointError, match='output.bias'):
        write_checkpoint(str(tmp_path / 'c.npz'), net, trainer, Progress())
    assert os.listdir(tmp_path) == []


@pytest.fixture(scope='module')
def digits_run(tmp_path_factory):
    flags = [
        *'--width 1 --num-epochs 2 --batch-size 256 --save-dir'.split(),
        str(tmp_path_factory.mktemp('digits') / 'run'),
    ]
    train_cifar.main(flags)
    return flags


@pytest.mark.parametrize(
    'change, says',
    [
        (['--lr', '0.3'], '--lr was 0.1 and is 0.3'),
        (['--width', '2'], '--width was 1 and is 2'),
        (['--model', 'cifar_add_resnet8'], "--model was 'cifar_aff_resnet8' and is 'cifar_add_resnet8'"),
        (['--seed', '4', '--mixup'], '--mixup was False and is True; --seed was 0 and is 4'),
    ],
)
def test_resuming_with_other_arguments_is_refused_with_the_difference(digits_run, change, says):
    with pytest.raises(ValueError, match=f'other arguments \\({says}\\)') as caught:
        train_cifar.main([*digits_run, '--resume', *change])
    assert '\n' not in str(caught.value)


def test_checkpoints_are_listed_from_the_latest(tmp_path):
    for name in (
        'checkpoint-00000009.npz',
        'checkpoint-00000012.npz',
        'checkpoint-12.npz',
        '.checkpoint-00000013.npz.part',
    ):
        (tmp_path / name).touch()
    (tmp_path / 'checkpoint-00000014.npz').mkdir()
    assert checkpoints(str(tmp_path)) == [str(tmp_path / f'checkpoint-{number:08}.npz') for number in (12, 9)]


def test_a_finished_run_is_not_run_again(digits_run, capsys):
    train_cifar.main([*digits_run, '--resume'])
    out = capsys.readouterr().out
    assert 'Resuming from' in out and '[Epoch' not in out and 'Best accuracy' in out


def test_a_run_in_the_way_is_neither_lost_nor_mixed_with_another(digits_run, tmp_path):
    folder = digits_run[-1]
    files = {name: os.path.getmtime(os.path.join(folder, name)) for name in os.listdir(folder)}
    with pytest.raises(ValueError, match='holds a run; give --resume'):
        train_cifar.main(digits_run)
    assert {name: os.path.getmtime(os.path.join(folder, name)) for name in os.listdir(folder)} == files


def test_resume_begins_where_there_is_nothing_yet(tmp_path):
    flags = ['--width', '1', '--num-epochs', '2', '--batch-size', '512', '--save-dir', str(tmp_path / 'run')]
    train_cifar.main([*flags, '--resume'])
    assert load_model(str(tmp_path / 'run')).spec.class_names == tuple('0123456789')
    assert len(checkpoints(str(tmp_path / 'run'))) == 2
    with pytest.raises(FileNotFoundError, match='no checkpoint nowhere.npz'):
        train_cifar.main([*flags, '--resume', 'nowhere.npz'])
    train_cifar.main([*flags, '--overwrite', '--keep', '1'])
    assert len(checkpoints(str(tmp_path / 'run'))) == 1
    assert {'best.params', 'curves.png', 'log.jsonl', 'log.txt', 'model.json'} < set(os.listdir(tmp_path / 'run'))
