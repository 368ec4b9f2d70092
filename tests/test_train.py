"""Training: the schedule's values, files written whole, and a short run of the script."""

import json
import math
import os
import struct
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import mxnet as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

import train_cifar
from gluon_aff.data.cifar import Batches
from gluon_aff.data.image_sets import digits
from gluon_aff.files import atomic
from gluon_aff.train import (
    SCHEDULES,
    Classification,
    RunFolder,
    TrainConfig,
    checkpoints,
    evaluate,
    fit,
    initialize,
    learning_rate,
    mixup,
    read_checkpoint,
    smooth,
    task,
    tune_backbone,
)
from gluon_aff.train.curves import plot_curves
from gluon_aff.train.optimizer import Nesterov
from gluon_aff.train.schedule import make_schedule
from model_zoo import get_model
from model_zoo.loading import load_model


@pytest.mark.parametrize('warmup, warmup_lr', [(0, 0), (5, 0), (5, 0.02)])
@pytest.mark.parametrize('mode', SCHEDULES)
def test_schedule_is_a_linear_warmup_then_its_formula_at_every_step(mode, warmup, warmup_lr):
    lr, epochs, batches = 0.2, 30, 7
    schedule = learning_rate(
        mode,
        lr,
        epochs=epochs,
        batches=batches,
        warmup_epochs=warmup,
        warmup_lr=warmup_lr,
        decay_epochs=(15, 20),
        decay=0.1,
        power=2,
    )
    rising, falling = warmup * batches, (epochs - warmup) * batches
    for step in range(epochs * batches):
        done = (step - rising) / (falling - 1)
        expected = {
            'cosine': lr * (1 + math.cos(math.pi * done)) / 2,
            'poly': lr * (1 - done) ** 2,
            'constant': lr,
            'step': lr * 0.1 ** ((step >= 15 * batches) + (step >= 20 * batches)),
        }[mode]
        if step < rising:
            expected = warmup_lr + (lr - warmup_lr) * step / (rising - 1)
        assert schedule(step) == pytest.approx(expected, abs=1e-9)


def test_the_imagenet_recipe_at_every_step_of_its_240_epochs():
    """4 x 128 images a batch; 5 epochs from 0 to 0.075, then half a cosine to 0 (the released runs)."""
    batches = 1281167 // 512
    schedule = learning_rate('cosine', 0.075, epochs=240, batches=batches, warmup_epochs=5)
    rising, falling = np.arange(5 * batches), np.arange(235 * batches)
    expected = np.concatenate([0.075 * rising / rising[-1], 0.0375 * (1 + np.cos(np.pi * falling / falling[-1]))])
    assert len(expected) == 240 * batches
    np.testing.assert_allclose([schedule(step) for step in range(len(expected))], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize('warmup', [-1, 3, 4])
def test_a_warmup_outside_the_run_is_refused(warmup):
    with pytest.raises(ValueError, match='shorter than the run'):
        learning_rate('cosine', 0.1, epochs=3, batches=10, warmup_epochs=warmup)


@pytest.mark.parametrize('epochs, warmup', [(1, 0), (2, 1)])
def test_a_schedule_of_a_single_batch_is_refused(epochs, warmup):
    with pytest.raises(ValueError, match='two batches'):
        learning_rate('cosine', 0.1, epochs=epochs, batches=1, warmup_epochs=warmup)


@pytest.mark.parametrize('mode', SCHEDULES)
def test_scaled_rates_are_those_of_one_worker_times_their_number(mode):
    config = TrainConfig(num_epochs=4, lr_mode=mode, lr=0.1, warmup_lr=0.02, warmup_epochs=2, lr_decay_epoch=(3,))
    workers = SimpleNamespace(rank=0, size=3)
    one, scaled = (make_schedule(replace(config, scale_lr=scale), 5, workers) for scale in (False, True))
    assert (one(0), one(10)) == pytest.approx((0.02, 0.1))
    assert [scaled(update) for update in range(20)] == pytest.approx([3 * one(update) for update in range(20)])


def test_an_unknown_schedule_is_refused():
    with pytest.raises(ValueError, match="one of cosine, step, poly, constant, got 'cosin'"):
        learning_rate('cosin', 0.1, epochs=3, batches=10)


@given(label=st.lists(st.integers(0, 6), min_size=1, max_size=20), smoothing=st.sampled_from([0, 0.05, 0.1, 0.5, 0.9]))
def test_smoothed_labels_are_distributions_as_gluoncv_makes_them(label, smoothing):
    """Against the definition in GluonCV's script: 1 - eta + eta / classes on the class, eta / classes elsewhere."""
    target = smooth(np.array(label, np.float32), 7, smoothing)
    expected = mx.nd.one_hot(mx.nd.array(label), 7, on_value=1 - smoothing + smoothing / 7, off_value=smoothing / 7)
    np.testing.assert_allclose(target, expected.asnumpy(), atol=1e-6)
    np.testing.assert_allclose(target.sum(axis=1), 1, atol=1e-5)


@given(count=st.integers(1, 9), share=st.floats(0, 1))
def test_mixup_mixes_images_and_targets_by_the_same_share(count, share):
    data = np.random.RandomState(count).rand(count, 3, 4, 4).astype(np.float32)
    target = smooth(np.arange(count), 9)
    mixed, mixed_target = mixup(data, target, share)
    for i in range(count):
        np.testing.assert_allclose(mixed[i], share * data[i] + (1 - share) * data[count - 1 - i], atol=1e-6)
        np.testing.assert_allclose(mixed_target[i], share * target[i] + (1 - share) * target[count - 1 - i], atol=1e-6)
    assert mixed.dtype == mixed_target.dtype == np.float32


def test_mixup_is_off_in_the_last_epochs_and_its_shares_follow_the_seed(tmp_path, monkeypatch):
    shares = []
    monkeypatch.setattr(task, 'mixup', lambda data, target, share: shares.append(share) or (data, target))
    for folder in 'ab':
        short_run(tmp_path / folder, 3, epochs=3, task=Classification(10, mixup_alpha=0.2, mixup_epochs=2))
    first, again = np.array(shares).reshape(2, -1)
    assert len(first) == 2 * 4 and (first == again).all() and len(set(first)) == len(first)
    assert ((first >= 0) & (first <= 1)).all()


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / 'file'
    path.write_text('old')
    with pytest.raises(RuntimeError), atomic(path) as partial:
        with open(partial, 'w') as file:
            file.write('half')
        raise RuntimeError
    assert path.read_text() == 'old' and os.listdir(tmp_path) == ['file']
    with atomic(path) as partial, open(partial, 'w') as file:
        file.write('new')
    assert path.read_text() == 'new' and os.listdir(tmp_path) == ['file']


def small_digits(count=128):
    data = digits()
    return data, (data.train[0][:count], data.train[1][:count]), (data.test[0][:50], data.test[1][:50])


def test_accuracy_counts_what_the_network_says():
    data, _, test = small_digits()

    def oracle(rows):
        """Says the digit that the first pixels stand for, which the images below have been given."""
        return mx.nd.one_hot((rows[:, 0, 0, 0] * 0.25 + 0.5) * 255, 10)

    images = test[0].copy()
    images[:, 0, 0, 0] = test[1]
    images[:10, 0, 0, 0] = (test[1][:10] + 1) % 10
    batches = Batches(images, test[1], 16, (0.5,) * 3, (0.25,) * 3)
    assert evaluate(lambda x: oracle(x + 1e-6), batches, task=Classification(10))['accuracy'] == 0.8


def test_a_run_says_what_it_saved_and_the_saved_network_has_the_stated_accuracy(tmp_path, capsys):
    best = train_cifar.main(
        [
            *'--width 1 --num-epochs 2 --batch-size 256 --save-dir'.split(),
            str(tmp_path / 'run'),
            *'--fusion ms_se --no-wd'.split(),
        ]
    )
    model_json = json.loads((tmp_path / 'run' / 'model.json').read_text())
    assert model_json['options'] == {'classes': 10, 'width': 1, 'fusion': 'ms_se'}
    assert model_json['accuracy'] == best['accuracy'] and '--fusion ms_se' in model_json['command']
    log = (tmp_path / 'run' / 'log.txt').read_text().splitlines()
    assert [line.split(']')[0] for line in log] == ['[Epoch 1', '[Epoch 2']
    assert log[-1] in capsys.readouterr().out

    model, data = load_model(str(tmp_path / 'run')), digits()
    spec = model.spec
    assert spec.class_names == data.class_names
    metrics = evaluate(model.net, Batches(*data.test, 60, spec.mean, spec.std), task=Classification(10))
    assert metrics == pytest.approx({name: best[name] for name in metrics}, rel=1e-6)
    assert metrics['accuracy'] == best['accuracy']


def short_run(folder, seed, epochs=1, prepare=None, task=None, **settings):
    data, train, test = small_digits()
    mx.random.seed(seed)
    net = get_model('cifar_aff_resnet8', classes=10, width=1)
    net.initialize(mx.init.Xavier())
    if prepare:
        prepare(net)
    net.hybridize()
    train = Batches(*train, 32, data.mean, data.std, train=True, seed=seed)
    fit(
        net,
        train,
        Batches(*test, 50, data.mean, data.std),
        TrainConfig(num_epochs=epochs, seed=seed, **{'lr': 0.05, 'warmup_epochs': 0, **settings}),
        RunFolder(folder, {}),
        task=task or Classification(10),
    )
    return net


def values(net):
    return {name: param.data().asnumpy() for name, param in net._collect_params_with_prefix().items()}


def test_the_same_seed_gives_the_same_network_to_the_last_bit(tmp_path):
    first, again, other = (values(short_run(tmp_path / str(i), seed, 2)) for i, seed in enumerate((1, 1, 2)))
    for name, value in first.items():
        np.testing.assert_array_equal(again[name], value)
    assert any(not np.allclose(other[name], first[name]) for name in first)


def test_a_norm_on_the_images_keeps_their_statistics(tmp_path):
    # It has nothing to learn; MXNet by itself would leave its statistics at 0 and 1.
    learned = values(short_run(tmp_path / 'run', 0, 2))
    data, train, _ = small_digits()
    train = Batches(*train, 32, data.mean, data.std, train=True, seed=0)
    mean, variance = np.zeros(3), np.ones(3)
    for images, _ in (batch for epoch in (1, 2) for batch in train.epoch(epoch)):
        mean, variance = 0.9 * mean + 0.1 * images.mean((0, 2, 3)), 0.9 * variance + 0.1 * images.var((0, 2, 3))
    np.testing.assert_allclose(learned['features.0.running_mean'], mean, rtol=1e-3)
    np.testing.assert_allclose(learned['features.0.running_var'], variance, rtol=1e-3)


def test_a_run_updates_at_the_rates_and_decays_of_its_schedule(tmp_path, monkeypatch):
    seen = []
    update = Nesterov.update

    def record(self, index, weight, grad, state):
        update(self, index, weight, grad, state)
        seen.append((self.num_update, self._get_lr(index), self._get_wd(index), self.param_dict[index].name))

    monkeypatch.setattr(Nesterov, 'update', record)
    schedule = learning_rate('cosine', 0.05, epochs=3, batches=4, warmup_epochs=1, warmup_lr=0.01)
    net = short_run(tmp_path / 'run', 0, 3, warmup_epochs=1, warmup_lr=0.01, no_wd=True)
    names = sorted(name for name, parameter in net.collect_params().items() if parameter.grad_req != 'null')
    assert [(number, name) for number, *_, name in seen] == [(n, name) for n in range(1, 13) for name in names]
    for number, lr, wd, name in seen:
        assert lr == schedule(number)
        assert wd == (0 if name.endswith(('bias', 'beta', 'gamma')) else 1e-4)


def nesterov(weight, velocity, grad, lr, wd, momentum):
    velocity = momentum * velocity - lr * (grad + wd * weight)
    return weight + momentum * velocity - lr * (grad + wd * weight), velocity


def test_nesterov_follows_its_formula_where_mxnets_own_does_not():
    random = np.random.RandomState(0)
    weight, expected = mx.nd.array(random.randn(20)), None
    optimizer = mx.optimizer.create('nesterov', learning_rate=0.3, momentum=0.9, wd=0.1, rescale_grad=0.5)
    state = optimizer.create_state(0, weight)
    expected, velocity = weight.asnumpy().astype(float), np.zeros(20)
    for _ in range(5):
        grad = random.randn(20)
        optimizer.update(0, weight, mx.nd.array(grad), state)
        expected, velocity = nesterov(expected, velocity, grad / 2, 0.3, 0.1, 0.9)
    np.testing.assert_allclose(weight.asnumpy(), expected, rtol=1e-5)
    np.testing.assert_allclose(state.asnumpy(), velocity, rtol=1e-4)


def test_accumulated_batches_update_as_one_large_batch(tmp_path):
    """Without batch statistics, which differ: 2 x 32 images give the update of 64."""
    data, train, test = small_digits()
    runs = []
    for size, accumulate in ((64, 1), (32, 2)):
        mx.random.seed(0)
        net = get_model('cifar_add_resnet8', classes=10, width=1, use_global_stats=True)
        net.initialize(mx.init.Xavier())
        batches = Batches(*train, size, data.mean, data.std, train=True)
        fit(
            net,
            batches,
            Batches(*test, 50, data.mean, data.std),
            TrainConfig(num_epochs=1, lr_mode='constant', lr=0.01, accumulate=accumulate),
            RunFolder(tmp_path / str(size), {}),
            task=Classification(10),
        )
        runs.append(values(net))
    for name, value in runs[0].items():
        np.testing.assert_allclose(runs[1][name], value, rtol=1e-4, atol=1e-6)


def test_several_devices_train_as_one(tmp_path):
    """Without batch statistics: a batch split over two contexts gives the same updates."""
    data, train, test = small_digits(64)
    runs = []
    for ctx in ([mx.cpu(0)], [mx.cpu(0), mx.cpu(1)]):
        mx.random.seed(0)
        net = get_model('cifar_add_resnet8', classes=10, width=1, use_global_stats=True)
        net.initialize(mx.init.Xavier(), ctx=mx.cpu())
        net.collect_params().reset_ctx(ctx)
        batches = Batches(*train, 32, data.mean, data.std, train=True)
        fit(
            net,
            batches,
            Batches(*test, 50, data.mean, data.std),
            TrainConfig(num_epochs=1, lr_mode='constant', lr=0.01),
            RunFolder(tmp_path / str(len(ctx)), {}),
            task=Classification(10),
            ctx=ctx,
        )
        runs.append(
            {name: parameter.data(ctx[-1]).asnumpy() for name, parameter in net._collect_params_with_prefix().items()}
        )
    for name, value in runs[0].items():
        np.testing.assert_allclose(runs[1][name], value, rtol=1e-4, atol=1e-6)


def test_the_loss_of_a_distilled_network_is_hintons():
    random = np.random.RandomState(0)
    student, teacher = random.randn(2, 4, 7)
    target = smooth(np.array([1, 2, 3, 6]), 7, 0.1)

    def cross_entropy(p, logits):
        return -(p * (logits - np.log(np.exp(logits).sum(1, keepdims=True)))).sum(1)

    soft = np.exp(teacher / 5) / np.exp(teacher / 5).sum(1, keepdims=True)
    expected = 0.3 * cross_entropy(target, student) + 0.7 * 25 * cross_entropy(soft, student / 5)
    distilled = Classification(7, 0.1, teacher=lambda data: mx.nd.array(teacher), temperature=5, hard_weight=0.3)
    loss = distilled.loss(mx.nd.array(student), mx.nd.array(target), None)
    np.testing.assert_allclose(loss.asnumpy(), expected, rtol=1e-5)


def test_metrics_agree_with_mxnets():
    random = np.random.RandomState(0)
    output, label = random.randn(30, 8).astype(np.float32), random.randint(0, 8, 30).astype(np.float32)
    task, mixed = Classification(8), Classification(8, mixup_alpha=1.0)
    sums = sum(task.batch_sums(mx.nd.array(output[i : i + 7]), label[i : i + 7]) for i in range(0, 30, 7))
    references = {'accuracy': mx.metric.Accuracy(), 'top5_accuracy': mx.metric.TopKAccuracy(5)}
    metrics = task.metrics(sums)
    probabilities = mx.nd.softmax(mx.nd.array(output))
    for name, metric in references.items():
        metric.update([mx.nd.array(label)], [probabilities])
        assert metrics[name] == pytest.approx(metric.get()[1])
    loss = mx.metric.CrossEntropy()
    loss.update([mx.nd.array(label)], [probabilities])
    assert metrics['val_loss'] == pytest.approx(loss.get()[1], rel=1e-5)
    rmse, target = mx.metric.RMSE(), mx.nd.array(smooth(label, 8, 0.1))
    rmse.update([target], [probabilities])
    score, number = mixed.score(mx.nd.array(output), target)
    assert score.asscalar() / number == pytest.approx(rmse.get()[1], rel=1e-5)


class Scale(mx.gluon.HybridBlock):
    """A classifier without convolutions, which MXNet can compute in float16 on a CPU, too."""

    def __init__(self):
        super().__init__()
        self.scale = self.params.get('scale', shape=(1, 30), init=mx.init.Uniform(0.5))

    def hybrid_forward(self, F, x, scale):
        x = F.slice_axis(F.reshape(x, (0, -1)), axis=1, begin=300, end=330)
        return F.slice_axis(F.broadcast_mul(x, scale), axis=1, begin=0, end=10)


@pytest.mark.parametrize('before', [None, '0'])
def test_float16_trains_with_float32_copies_of_the_weights(tmp_path, monkeypatch, before):
    """And with safe sums, while it trains."""
    safe = 'MXNET_SAFE_ACCUMULATION'
    monkeypatch.delenv(safe, raising=False)
    if before:
        monkeypatch.setenv(safe, before)
    data, train, test = small_digits()
    net = Scale()
    net.initialize()
    seen = []
    create = mx.optimizer.NAG.create_state_multi_precision

    def watched(self, index, weight):
        assert os.environ[safe] == '1'
        seen.append(create(self, index, weight))
        return seen[-1]

    monkeypatch.setattr(Nesterov, 'create_state_multi_precision', watched)
    best = fit(
        net,
        Batches(*train, 32, data.mean, data.std, train=True),
        Batches(*test, 50, data.mean, data.std),
        TrainConfig(num_epochs=2, lr_mode='constant', warmup_epochs=0, wd=0, dtype='float16'),
        RunFolder(tmp_path / 'run', {}),
        task=Classification(10),
    )
    momentum, copy = seen[0]
    assert net.scale.data().dtype == np.float16 and copy.dtype == momentum.dtype == np.float32
    np.testing.assert_array_equal(copy.asnumpy().astype(np.float16), net.scale.data().asnumpy())
    assert np.abs(momentum.asnumpy()).max() > 0 and os.environ.get(safe) == before
    assert math.isfinite(best['loss'])


def test_adagrad_trains(tmp_path):
    first, last = (
        values(short_run(tmp_path / str(epochs), 0, epochs, optimizer='adagrad', lr=0.01, lr_mode='poly'))[
            'output.weight'
        ]
        for epochs in (1, 2)
    )
    assert not np.allclose(first, last)


def test_tensorboard_gets_the_records_of_the_log(tmp_path):
    """Read with tensorboardX's own message type; a record is its length, a checksum, the message, a checksum."""
    from tensorboardX.proto.event_pb2 import Event

    data, train, test = small_digits(64)
    net = get_model('cifar_add_resnet8', classes=10, width=1)
    net.initialize()
    fit(
        net,
        Batches(*train, 32, data.mean, data.std, train=True),
        Batches(*test, 50, data.mean, data.std),
        TrainConfig(num_epochs=2, lr_mode='constant', warmup_epochs=0),
        RunFolder(tmp_path, {}, tensorboard=True),
        task=Classification(10),
    )
    content, scalars = next((tmp_path / 'tensorboard').iterdir()).read_bytes(), {}
    while content:
        (length,) = struct.unpack('<Q', content[:8])
        event = Event.FromString(content[12 : 12 + length])
        scalars.update({(value.tag, event.step): value.simple_value for value in event.summary.value})
        content = content[16 + length :]
    records = [json.loads(line) for line in (tmp_path / 'log.jsonl').read_text().splitlines()]
    assert scalars == pytest.approx(
        {(name, record['epoch']): value for record in records for name, value in record.items() if name != 'epoch'},
        rel=1e-6,
    )


def test_a_frozen_backbone_stays_to_the_last_bit_and_the_head_learns(tmp_path):
    before = {}

    def freeze(net):
        tune_backbone(net, net.output, 0)
        before.update(values(net))

    after = values(short_run(tmp_path / 'run', 0, prepare=freeze))
    for name, value in after.items():
        assert np.array_equal(value, before[name]) == (not name.startswith('output.')), name


def test_a_backbones_learning_rate_is_scaled(tmp_path):
    rates = {}

    def scale(net):
        tune_backbone(net, net.output, 0.1)
        rates.update({name: parameter.lr_mult for name, parameter in net._collect_params_with_prefix().items()})

    short_run(tmp_path / 'run', 0, prepare=scale)
    assert all(rate == (1 if name.startswith('output.') else 0.1) for name, rate in rates.items())


@pytest.mark.parametrize('kind, fan_in_gain', [('xavier', None), ('kaiming', 2)])
def test_weights_begin_with_the_spread_that_is_asked_for(kind, fan_in_gain):
    layer = mx.gluon.nn.Conv2D(200, 3, in_channels=100)
    initialize(layer, kind, [mx.cpu()])
    weight = layer.weight.data().asnumpy()
    expected = 2 / (100 * 9) if fan_in_gain else 3 / ((100 + 200) * 9 / 2) / 3
    assert weight.var() == pytest.approx(expected, rel=0.02)
    assert (layer.bias.data().asnumpy() == 0).all()


class Exploding(mx.lr_scheduler.LRScheduler):
    """Good for an epoch of four updates."""

    def __call__(self, update):
        return 0.01 if update <= 4 else 1e38


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_what_there_was(tmp_path, monkeypatch):
    monkeypatch.setattr('gluon_aff.train.loop.make_schedule', lambda *_: Exploding())
    with pytest.raises(FloatingPointError, match='no longer finite in epoch 2'):
        short_run(tmp_path / 'run', 0, 3)
    saved = checkpoints(str(tmp_path / 'run'))
    assert len(saved) == 1 and read_checkpoint(saved[0])[1].updates == 4
    net = get_model('cifar_aff_resnet8', classes=10, width=1, pretrained=str(tmp_path / 'run' / 'best.params'))
    arrays, _ = read_checkpoint(saved[0])
    for name, value in values(net).items():
        np.testing.assert_array_equal(value, arrays[f'parameters/{name}'])


def test_where_two_epochs_tie_the_first_is_the_best(tmp_path, monkeypatch):
    metrics = iter([0.5, 0.7, 0.7])
    monkeypatch.setattr('gluon_aff.train.loop.evaluate', lambda *_, **__: {'accuracy': next(metrics), 'val_loss': 1.0})
    short_run(tmp_path / 'run', 0, 3)
    saved = read_checkpoint(checkpoints(str(tmp_path / 'run'))[0])[1]
    assert [record['accuracy'] for record in saved.history] == [0.5, 0.7, 0.7] and saved.best['epoch'] == 2


def test_fine_tuning_starts_from_the_released_backbone_and_a_fresh_head(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        'gluon_aff.train.recipe.fit', lambda net, *_, **__: seen.append(values(net)) or {'accuracy': 0.5, 'epoch': 1}
    )
    train_cifar.main(
        [
            *'--dataset digits --model fashion_mnist_aff_resnet8 --use-pretrained --save-dir'.split(),
            str(tmp_path / 'run'),
        ]
    )
    released = values(get_model('fashion_mnist_aff_resnet8', pretrained=True))
    for name, value in seen[0].items():
        assert name.startswith('output') != np.array_equal(value, released[name]), name


@pytest.mark.parametrize(
    'flags, says',
    [
        (['--dataset', 'fashion_mnist'], 'home/datasets/fashion-mnist/train-images'),
        (['--dataset', 'fashion_mnist', '--data-dir', 'nowhere'], 'nowhere'),
        (['--model', 'cifar_aff_resnet9'], 'did you mean cifar_aff_resnet8'),
        (['--fusion', 'af'], 'did you mean aff'),
        (['--width', '0'], '--width must be a finite number, 1 or more, got 0'),
        (['--batch-size', '1'], '--batch-size must be 2'),
        (['--batch-size', '2000'], '--batch-size must be 2 to 1437'),
        (['--model', 'aff_resnet50', '--width', '1'], 'option'),
    ],
)
def test_wrong_arguments_are_one_sentence(flags, says, tmp_path, monkeypatch):
    monkeypatch.setenv('MXNET_HOME', str(tmp_path / 'home'))
    with pytest.raises((ValueError, FileNotFoundError), match=says) as caught:
        train_cifar.main(['--save-dir', str(tmp_path / 'run'), *flags])
    assert '\n' not in str(caught.value)
    assert not (tmp_path / 'run').exists()


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(ValueError, match='cannot be saved'):
        RunFolder(tmp_path / 'file' / 'run', {}).begin(fresh=True)


@pytest.mark.parametrize('old, new', [('headline', 'main_metric'), ('figures', 'metrics'), ('counters', 'batch_sums')])
def test_the_old_names_of_a_task_still_work(old, new):
    learnt = Classification(3)
    with pytest.warns(DeprecationWarning, match=f'{old} is now called {new}'):
        assert getattr(learnt, old) == getattr(learnt, new)


def drawn_curves(monkeypatch, history, **options):
    """What plot_curves draws: (the text of the figure's title, the panels)."""
    figures = []
    monkeypatch.setattr(Figure, 'savefig', lambda figure, path, **_: figures.append(figure) or Path(path).touch())
    with TemporaryDirectory() as folder:
        plot_curves(history, os.path.join(folder, 'curves.png'), **options)
    figures[0].draw_without_rendering()
    return figures[0].texts[0].get_text(), figures[0].axes


@pytest.mark.parametrize(
    'epochs, lr', [(1, [0.1]), (3, [0.1, 0.01, 0.001]), (200, [0.1 - 0.0002 * i for i in range(200)])]
)
def test_curves_are_in_plain_words_and_mark_the_best_epoch(monkeypatch, epochs, lr):
    best = (epochs + 1) // 2
    history = [
        {
            'epoch': epoch,
            'lr': lr[epoch - 1],
            'loss': 1 / epoch,
            'train_accuracy': 0.5,
            'accuracy': 0.9125 if epoch >= best else 0.8,
            'val_loss': 2.0,
            'time': 1.0,
        }
        for epoch in range(1, epochs + 1)
    ]
    title, panels = drawn_curves(monkeypatch, history, title='a_net on digits', main_metric='accuracy')
    assert title == f'a_net on digits\nbest epoch {best}: 91.25% accuracy on held-out images'
    assert [panel.get_title() for panel in panels] == ['Loss', 'Accuracy', 'Learning rate']
    assert [text.get_text() for panel in panels[:2] for text in panel.get_legend().get_texts()] == [
        'loss on training images',
        'loss on held-out images',
        'accuracy on training images',
        'accuracy on held-out images',
    ]
    for panel in panels:
        left, right = panel.get_xlim()
        ticks = [label.get_text() for label in panel.get_xticklabels()]
        assert [text.get_text() for text in panel.texts] == [f'best: epoch {best}'] and all(map(str.isdigit, ticks))
        assert left < 1 and epochs < right
    ring = panels[1].lines[-1]
    assert ring.get_xydata().tolist() == [[best, 0.9125]]
    assert panels[2].get_yscale() == ('log' if epochs == 3 else 'linear')
    rates = [label.get_text() for label in panels[2].get_yticklabels()]
    assert '0.1' in rates and not any('e' in rate or '$' in rate for rate in rates)


def test_curves_of_segmentation_and_of_unknown_metrics_have_words_too(monkeypatch):
    names = ('loss', 'train_pixel_accuracy', 'miou', 'pixel_accuracy', 'val_loss')
    history = [{'epoch': 1, 'lr': 0.0, **dict.fromkeys(names, 0.5)}]
    title, panels = drawn_curves(monkeypatch, history, main_metric='miou')
    assert title == 'best epoch 1: 50.00% mean IoU on held-out images' and panels[1].get_title() == 'Scores'
    assert [text.get_text() for text in panels[1].get_legend().get_texts()] == [
        'pixel accuracy on training images',
        'mean IoU on held-out images',
        'pixel accuracy on held-out images',
    ]
    history = [{'epoch': 1, 'lr': 0.1, 'loss': 1.0, 'train_rmse': 0.2, 'edit_distance': 17.25}]
    title, panels = drawn_curves(monkeypatch, history, title='x' * 500, main_metric='edit_distance')
    assert title.endswith('...\nbest epoch 1: 17.25 edit distance on held-out images') and len(title) < 200
    assert [text.get_text() for text in panels[0].get_legend().get_texts()][1] == 'RMSE on training images'
