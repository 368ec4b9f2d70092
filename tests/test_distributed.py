"""Several workers over MXNet's parameter server: equal to one, identical, and none waits for a lost one."""

import os
import re
import signal
import subprocess
import sys
import time
import types

import mxnet as mx
import numpy as np
import pytest
from programs import SHORT_RUN, finish, start

import train_cifar
from gluon_aff.params_file import read_parameters
from gluon_aff.train import checkpoints, get_workers, read_checkpoint

LAUNCH = ['-m', 'gluon_aff.train.launch', '-n', '2', '-s', '1', '--launcher', 'local', sys.executable, SHORT_RUN]


def parameters(path):
    with np.load(path) as file:
        return dict(file)


@pytest.fixture(scope='module')
def two_workers(tmp_path_factory):
    folder = tmp_path_factory.mktemp('two')
    status, out, err = finish(start(*LAUNCH, folder, '--kvstore', 'dist_sync', '--batch-size', 8, '--frozen'))
    assert status == 0, err
    return folder, out


def test_two_workers_update_as_one_on_the_concatenated_batch(two_workers, tmp_path):
    """With the statistics of the norms frozen; else each worker normalises by its own half of the batch."""
    status, _, err = finish(start(SHORT_RUN, tmp_path, '--batch-size', 16, '--frozen'))
    assert status == 0, err
    one, two = parameters(tmp_path / 'rank-0.npz'), parameters(two_workers[0] / 'rank-0.npz')
    for name, value in one.items():
        np.testing.assert_allclose(two[name], value, rtol=0, atol=1e-4, err_msg=name)
    assert one.keys() == two.keys()
    metrics = [
        [
            {name: record[name] for name in ('loss', 'train_accuracy', 'accuracy', 'val_loss')}
            for record in read_checkpoint(checkpoints(str(folder))[0])[1].history
        ]
        for folder in (tmp_path, two_workers[0])
    ]
    for alone, together in zip(*metrics):
        assert together == pytest.approx(alone, rel=1e-4)


def test_two_workers_average_clip_and_sample_as_one(tmp_path):
    best = []
    for folder, command in (('one', [SHORT_RUN]), ('two', LAUNCH)):
        flags = ['--batch-size', 16] if folder == 'one' else ['--batch-size', 8, '--kvstore', 'dist_sync']
        status, _, err = finish(start(*command, tmp_path / folder, *flags, '--frozen', '--recipe'))
        assert status == 0, err
        best.append(read_parameters(str(tmp_path / folder / 'best.params')))
    for name, value in best[0].items():
        np.testing.assert_allclose(best[1][name], value, rtol=0, atol=1e-4, err_msg=name)
    kept = parameters(tmp_path / 'one' / 'rank-0.npz')
    assert any(abs(kept[name] - value).max() > 1e-3 for name, value in best[0].items())  # the average is another


def test_workers_end_with_the_same_parameters_and_the_first_one_writes(two_workers):
    folder, out = two_workers
    first, second = (parameters(folder / f'rank-{rank}.npz') for rank in (0, 1))
    for name, value in first.items():
        np.testing.assert_array_equal(second[name], value)
    assert out.count('[Epoch 1]') == 1 and (folder / 'best.params').exists()


def test_live_statistics_are_averaged_so_that_workers_agree(tmp_path):
    status, _, err = finish(start(*LAUNCH, tmp_path, '--kvstore', 'dist_device_sync', '--batch-size', 8))
    assert status == 0, err
    first, second = (parameters(tmp_path / f'rank-{rank}.npz') for rank in (0, 1))
    assert any('running_mean' in name and value.any() for name, value in first.items())
    for name, value in first.items():
        np.testing.assert_array_equal(second[name], value)


def workers_of(launcher):
    """The process ids of the training processes that a launcher has started (the scheduler and the server, too)."""
    listed = subprocess.run(
        ['ps', '-ww', '-o', 'pid=,args=', '--sid', str(launcher.pid)], stdout=subprocess.PIPE, text=True
    )
    return [
        int(line.split()[0])
        for line in listed.stdout.splitlines()
        if re.search(r'python\S* \S*short_run.py', line) and 'launch' not in line
    ]


def role(process):
    with open(f'/proc/{process}/environ') as file:
        return re.search(r'DMLC_ROLE=(\w+)', file.read()).group(1)


@pytest.mark.skipif(not os.path.isdir('/proc/self'), reason='finds the workers in /proc')
def test_a_killed_worker_ends_the_job_with_a_message_and_a_checkpoint_to_go_on_from(tmp_path):
    job = start(*LAUNCH, tmp_path, '--kvstore', 'dist_sync', '--batch-size', 8, '--slow', 0.2, '--epochs', 30)
    until = time.monotonic() + 240
    while not checkpoints(str(tmp_path)) and job.poll() is None and time.monotonic() < until:
        time.sleep(0.1)
    assert job.poll() is None, finish(job)
    workers = [process for process in workers_of(job) if role(process) == 'worker']
    assert len(workers) == 2
    os.kill(workers[-1], signal.SIGKILL)
    status, _, err = finish(job)
    assert status == 1 and 'a process of the job failed' in err
    assert 'one of them is lost' in err and str(tmp_path) in err, err
    assert read_checkpoint(checkpoints(str(tmp_path))[0])[1].updates >= 6


def test_a_dist_kvstore_without_a_launcher_is_refused():
    with pytest.raises(ValueError, match='gluon_aff.train.launch'):
        train_cifar.main(['--kvstore', 'dist_sync'])


def test_without_horovod_the_flag_says_so():
    with pytest.raises(ImportError, match='HOROVOD_WITH_MXNET'):
        train_cifar.main(['--kvstore', 'horovod'])


def test_an_unknown_kvstore_is_refused():
    with pytest.raises(ValueError, match='one of device'):
        get_workers('dist')


def test_horovods_workers_broadcast_then_average(monkeypatch):
    """On a stand-in with Horovod's documented interface and two equal workers: Horovod itself has no wheels."""
    called = []

    class DistributedTrainer(mx.gluon.Trainer):
        def __init__(self, params, optimizer):
            super().__init__(params, optimizer, kvstore=None)
            self._scale /= 2  # as Horovod's, which sums gradients and divides by its size

        def _allreduce_grads(self):
            for parameter in self._params:
                if parameter.grad_req != 'null':
                    parameter.grad()[:] *= 2

    hvd = types.SimpleNamespace(
        init=lambda: called.append('init'),
        rank=lambda: 1,
        size=lambda: 2,
        local_rank=lambda: 1,
        allreduce=lambda values, average: values * 2,
        DistributedTrainer=DistributedTrainer,
        broadcast_parameters=lambda parameters, root_rank: called.append(('broadcast', root_rank)),
    )
    monkeypatch.setitem(sys.modules, 'horovod', types.SimpleNamespace(mxnet=hvd))
    monkeypatch.setitem(sys.modules, 'horovod.mxnet', hvd)
    workers = get_workers('horovod')
    assert (workers.rank, workers.size, workers.local_rank) == (1, 2, 1)
    np.testing.assert_array_equal(workers.total([1, 2.5]), [2, 5])

    def updated(workers):
        mx.random.seed(0)
        net = mx.gluon.nn.Dense(2, in_units=3)
        net.initialize(mx.init.Xavier())
        trainer = workers.trainer(net.collect_params(), mx.optimizer.create('nesterov', learning_rate=1, momentum=0.9))
        with mx.autograd.record():
            loss = net(mx.nd.ones((4, 3))).sum(axis=1)
        loss.backward()
        trainer.step(workers.images(4))
        return net.weight.data().asnumpy()

    np.testing.assert_allclose(updated(workers), updated(get_workers()), rtol=1e-6)
    assert called == ['init', ('broadcast', 0)]
