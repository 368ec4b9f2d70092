"""The parts of a recipe at work in a run: each against its definition, and all of them together resumed bit for bit."""

import json
import shutil
from functools import partial
from types import SimpleNamespace

import mxnet as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mxnet import gluon
from PIL import Image
from test_resume import same, trained
from torch_witness import timm, torch

import train_cifar
from gluon_aff.data.cifar import Batches
from gluon_aff.data.class_folders import ImageFiles
from gluon_aff.data.erasing import random_erasing
from gluon_aff.data.image_sets import digits
from gluon_aff.data.imagenet import Images
from gluon_aff.params_file import read_parameters
from gluon_aff.train import (
    Classification,
    ClassificationConfig,
    Progress,
    RunFolder,
    TrainConfig,
    augmentation,
    checkpoints,
    evaluate,
    fit,
    freeze_stages,
    recipe,
)
from gluon_aff.train.checkpoint import restore_average
from gluon_aff.train.ema import WeightAverage
from gluon_aff.train.loop import _Loop
from gluon_aff.train.optimizer import clip_factor, make_optimizer
from gluon_aff.train.soft_labels import balanced_weights
from model_zoo import get_model

FEW = '--width 1 --train-images 96 --test-images 50 --batch-size 16 --num-epochs 3 --accumulate 2 --keep 99'.split()
EVERYTHING = (
    '--ema 0.9 --optimizer adamw --lr 0.002 --no-wd --rand-augment 7 --cutmix 1 --mixup --random-erasing 0.5 '
    '--early-stopping 2 --freeze 0 --class-weights balanced --balanced-sampler --clip-gradient 0.5 --drop-rate 0.2'
).split()


def values(net):
    return {name: parameter.data().asnumpy() for name, parameter in net._collect_params_with_prefix().items()}


def test_a_run_with_everything_on_is_resumed_bit_for_bit(tmp_path, monkeypatch):
    """From the middle of an epoch, from its end before the evaluation, and from its end."""
    monkeypatch.setattr(recipe, 'fit', partial(fit, save_seconds=0))
    train_cifar.main([*FEW, *EVERYTHING, '--save-dir', str(tmp_path / 'whole')])
    expected = trained(tmp_path / 'whole')
    saved = checkpoints(str(tmp_path / 'whole'))
    assert len(saved) == 9 and any(name.startswith('average/') for name in expected[0])
    for path in (saved[-2], saved[-3], saved[-5]):
        folder = tmp_path / path[-5]
        folder.mkdir()
        for name in (path, 'best.params', 'model.json'):
            shutil.copy(tmp_path / 'whole' / name, folder)
        train_cifar.main([*FEW, *EVERYTHING, '--save-dir', str(folder), '--resume'])
        same(trained(folder), expected)
        assert (folder / 'best.params').read_bytes() == (tmp_path / 'whole' / 'best.params').read_bytes()


class Linear(gluon.nn.HybridSequential):
    """A network whose batches of any division give the same gradients."""

    def __init__(self, ctx):
        super().__init__()
        self.add(gluon.nn.Flatten(), gluon.nn.Dense(10, in_units=3 * 8 * 8))
        mx.random.seed(3)
        self.initialize(mx.init.Xavier(), ctx=ctx)


def loaders(batch_size, images=64):
    data = digits()
    train = [array[:images] for array in data.train]
    shrunk = [(array[:, ::4, ::4] if array.ndim == 4 else array) for array in train]
    return Batches(*shrunk, batch_size, data.mean, data.std), Batches(*shrunk, 32, data.mean, data.std)


def fitted(folder, *, devices=1, batch_size=16, task=None, net=None, **settings):
    ctx = [mx.cpu(i) for i in range(devices)]
    net = net or Linear(ctx)
    settings = {'num_epochs': 2, 'lr_mode': 'constant', 'warmup_epochs': 0, 'wd': 0.0, **settings}
    best = fit(
        net,
        *loaders(batch_size),
        TrainConfig(**settings),
        RunFolder(folder, {}),
        task=task or Classification(10),
        ctx=ctx,
    )
    return net, best


# The average of the weights


def test_the_best_parameters_are_the_average_that_was_evaluated(tmp_path, monkeypatch):
    after = []
    update = WeightAverage.update
    monkeypatch.setattr(WeightAverage, 'update', lambda self: (update(self), after.append(values(self.net))))
    ctx = [mx.cpu()]
    net = get_model('cifar_aff_resnet8', classes=10, width=1)
    net.initialize(mx.init.Xavier())
    begun = values(net)
    _, best = fitted(tmp_path, net=net, ema=0.8, lr=0.02)
    assert len(after) == 8
    average = begun
    for epoch in (1, 2):
        for new in after[4 * (epoch - 1) : 4 * epoch]:
            average = {name: 0.8 * value + 0.2 * new[name] for name, value in average.items()}
        if epoch == best['epoch']:
            break
    kept = read_parameters(str(tmp_path / 'best.params'))
    assert kept.keys() == average.keys()
    for name, value in average.items():
        np.testing.assert_allclose(kept[name], value, rtol=1e-4, atol=1e-6, err_msg=name)
    assert all(np.array_equal(value, after[-1][name]) for name, value in values(net).items())  # its own again
    net.load_parameters(str(tmp_path / 'best.params'))
    metrics = evaluate(net, loaders(16)[1], task=Classification(10), ctx=ctx)
    assert metrics['accuracy'] == best['accuracy'] and metrics['val_loss'] == pytest.approx(best['val_loss'], rel=1e-5)


def test_devices_have_their_own_statistics_again_after_the_average():
    net = gluon.nn.BatchNorm(in_channels=2)
    net.initialize(ctx=[mx.cpu(0), mx.cpu(1)])
    net.running_mean.list_data()[1][:] = 5
    with WeightAverage(net, 0.5).applied():
        assert [array.asnumpy().tolist() for array in net.running_mean.list_data()] == [[0, 0], [0, 0]]
    assert [array.asnumpy().tolist() for array in net.running_mean.list_data()] == [[0, 0], [5, 5]]


def test_an_average_that_does_not_fit_is_refused():
    net = gluon.nn.Dense(2, in_units=3)
    with pytest.raises(ValueError, match='^weight has no values to average yet'):
        WeightAverage(net, 0.5)
    net.initialize()
    with pytest.raises(ValueError, match='^c.npz lacks the average of weight; resume from an earlier'):
        restore_average(WeightAverage(net, 0.5), SimpleNamespace(headers={}, path='c.npz'))


# Clipping


@pytest.mark.parametrize('limit', [1e-3, 0.7, 1e3])
def test_clipping_divides_by_what_pytorchs_would(limit):
    random, images = np.random.RandomState(0), 4
    net = gluon.nn.HybridSequential()
    net.add(gluon.nn.Dense(3, in_units=5), gluon.nn.Dense(2, in_units=3))
    net.initialize()
    net[1].bias.grad_req = 'null'
    trainer = gluon.Trainer(net.collect_params(), 'sgd')
    gradients = []
    for parameter in net.collect_params().values():
        if parameter.grad_req != 'null':
            gradients.append(random.normal(size=parameter.shape).astype(np.float32))
            parameter.grad()[:] = images * mx.nd.array(gradients[-1])
    norm = np.sqrt(sum((gradient.astype(np.float64) ** 2).sum() for gradient in gradients))
    factor = clip_factor(trainer, limit, images)
    assert factor == pytest.approx(max((norm + 1e-6) / limit, 1), rel=1e-6)
    library = torch()
    theirs = [library.nn.Parameter(library.zeros(gradient.shape)) for gradient in gradients]
    for parameter, gradient in zip(theirs, gradients):
        parameter.grad = library.from_numpy(gradient.copy())
    assert float(library.nn.utils.clip_grad_norm_(theirs, limit)) == pytest.approx(norm, rel=1e-6)
    for parameter, gradient in zip(theirs, gradients):
        np.testing.assert_allclose(gradient / factor, parameter.grad.numpy(), rtol=1e-5)


@pytest.mark.parametrize('options', [{'devices': 2}, {'batch_size': 8, 'accumulate': 2}])
def test_the_norm_is_that_of_the_whole_update_over_devices_and_batches(tmp_path, options):
    settings = {'clip_gradient': 0.05, 'lr': 0.1, 'momentum': 0.0}
    begun = values(Linear([mx.cpu()]))
    one = values(fitted(tmp_path / 'one', **settings)[0])
    other = values(fitted(tmp_path / 'other', **settings, **options)[0])
    free = values(fitted(tmp_path / 'free', lr=0.1, momentum=0.0)[0])
    for name, value in one.items():
        np.testing.assert_allclose(other[name], value, atol=1e-6)
    change, unclipped = (
        np.sqrt(sum(((after[name] - value) ** 2).sum() for name, value in begun.items())) for after in (one, free)
    )
    assert change < 8 * 0.1 * 0.05 < unclipped  # eight updates


# Early stopping


@given(
    scores=st.lists(st.integers(0, 4), min_size=1, max_size=12), patience=st.integers(1, 4), resumed=st.integers(0, 12)
)
def test_a_run_ends_where_the_history_says_and_so_does_a_resumed_one(scores, patience, resumed):
    def played(history):
        """The epochs of a run that continues from a history."""
        history = list(history)
        while len(history) < len(scores):
            best = max(history, key=lambda record: record['accuracy'], default=None)  # the first of equal ones
            loop = SimpleNamespace(
                config=SimpleNamespace(early_stopping=patience),
                progress=Progress(history=history, best=best),
                workers=SimpleNamespace(rank=1),
            )
            if _Loop.ends_early(loop):
                break
            history.append({'epoch': len(history) + 1, 'accuracy': scores[len(history)]})
        return history

    expected, best, waited = 0, -1, 0  # as Keras's EarlyStopping counts
    for score in scores:
        expected += 1
        waited = 0 if score > best else waited + 1
        best = max(best, score)
        if waited >= patience:
            break
    whole = played([])
    assert len(whole) == expected
    assert played(whole[:resumed]) == whole


def test_early_stopping_is_said_and_a_stopped_run_stays_so(tmp_path, capsys):
    class Worse(Classification):
        accuracies = iter([0.5, 0.6, 0.6, 0.1, 0.9])

        def metrics(self, sums):
            return {**super().metrics(sums), 'accuracy': next(self.accuracies)}

    settings = {'early_stopping': 2, 'num_epochs': 5, 'task': Worse(10)}
    _, best = fitted(tmp_path, **settings)
    sentence = 'Stopped early after epoch 4: accuracy has not been better for 2 epochs.'
    assert best['epoch'] == 2 and capsys.readouterr().out.splitlines()[-1] == sentence
    fitted(tmp_path, **settings, resume='auto')
    assert capsys.readouterr().out.splitlines()[-1] == sentence
    assert len((tmp_path / 'log.jsonl').read_text().splitlines()) == 4


# Frozen stages


def test_frozen_stages_stay_to_the_last_bit_and_the_others_learn(tmp_path):
    net = get_model('cifar_aff_resnet8', classes=10, width=1)
    net.initialize(mx.init.Xavier())
    frozen = {
        name
        for stage in net.stages()[:2]
        for layer in stage
        for name in (p.name for p in layer.collect_params().values())
    }
    names = {name: parameter.name for name, parameter in net._collect_params_with_prefix().items()}
    sizes = {name: value.size for name, value in values(net).items()}
    count = sum(size for name, size in sizes.items() if names[name] in frozen)
    text = freeze_stages(net, 1)
    assert text == f'Frozen: the stem and stage 1 of 3, {count:,} of {sum(sizes.values()):,} parameters.'
    before = values(net)
    fitted(tmp_path, net=net)
    for name, value in values(net).items():
        assert np.array_equal(value, before[name]) == (names[name] in frozen), name


@pytest.mark.parametrize('last, text', [(0, 'the stem of 4,'), (3, 'the stem and stages 1 to 3 of 4,')])
def test_what_is_frozen_is_said(last, text):
    net = get_model('aff_resnet50', classes=3)
    net.initialize()
    assert text in freeze_stages(net, last)
    with pytest.raises(ValueError, match='^--freeze must be 0 to 4, .* got 5.$'):
        freeze_stages(net, 5)


# Uneven classes


@given(counts=st.lists(st.integers(0, 9), min_size=2, max_size=6).filter(any))
def test_class_weights_are_scikit_learns_balanced_ones(counts):
    from sklearn.utils.class_weight import compute_class_weight

    labels = np.repeat(np.arange(len(counts)), counts)
    present = np.unique(labels)
    weights = balanced_weights(labels, len(counts))
    np.testing.assert_allclose(weights[present], compute_class_weight('balanced', classes=present, y=labels), rtol=1e-6)
    assert weights[labels].mean() == pytest.approx(1) and not weights[np.setdiff1d(range(len(counts)), present)].any()


@pytest.mark.parametrize('smoothing', [0, 0.1])
def test_the_weighted_loss_is_numpys_and_pytorchs(smoothing):
    random = np.random.RandomState(0)
    logits, labels, weights = random.normal(size=(6, 4)).astype(np.float32), random.randint(4, size=6), [1, 0.5, 2, 0]
    task = Classification(4, smoothing, class_weights=weights)
    target = task.encode(labels)
    ours = task.loss(mx.nd.array(logits), mx.nd.array(target)).asnumpy()
    log_softmax = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    np.testing.assert_allclose(ours, -(np.array(weights) * target * log_softmax).sum(1), rtol=1e-5, atol=1e-6)
    library = torch()
    theirs = library.nn.CrossEntropyLoss(library.tensor(weights), reduction='none')
    np.testing.assert_allclose(
        ours, theirs(library.from_numpy(logits), library.from_numpy(target)).numpy(), rtol=1e-5, atol=1e-6
    )


def uneven(**options):
    labels = np.repeat([0, 1, 2], [2, 30, 68])
    images = np.random.RandomState(0).randint(0, 256, (100, 32, 32, 3)).astype(np.uint8)
    return Batches(images, labels, options.pop('batch_size', 20), (0.5,) * 3, (0.2,) * 3, train=True, **options)


def test_a_balanced_epoch_draws_each_class_alike_from_its_seed():
    loader, counts = uneven(balanced=True), np.zeros(3)
    for number in range(60):
        counts += np.bincount(np.concatenate([labels for _, labels in loader.epoch(number)]).astype(int), minlength=3)
    # Pearson's chi-squared, 2 degrees of freedom: 13.8 has probability 0.001.
    assert ((counts - 2000) ** 2 / 2000).sum() < 13.8
    drawn = [np.concatenate([labels for _, labels in uneven(balanced=True).epoch(number)]) for number in (1, 1, 2)]
    assert np.array_equal(drawn[0], drawn[1]) and not np.array_equal(drawn[0], drawn[2])


def test_shards_of_a_balanced_epoch_make_up_the_batches_of_one_process():
    whole = list(uneven(balanced=True, erasing=0.5).epoch(3))
    shards = [list(uneven(balanced=True, erasing=0.5, batch_size=10, shard=(i, 2)).epoch(3)) for i in (0, 1)]
    for batch, halves in zip(whole, zip(*shards)):
        for k in (0, 1):
            np.testing.assert_array_equal(np.concatenate([half[k] for half in halves]), batch[k])
    resumed = list(uneven(balanced=True, erasing=0.5).epoch(3, 2))
    np.testing.assert_array_equal(resumed[0][0], whole[2][0])


def test_an_image_that_is_drawn_again_is_changed_anew():
    loader = uneven(balanced=True)
    indices, keys = np.concatenate(loader._batches(np.random.RandomState(0)), axis=1)
    assert len(set(keys)) == 100 and np.bincount(indices).max() > 5
    first = np.unique(indices, return_index=True)[1]
    np.testing.assert_array_equal(keys[first], indices[first])
    data = np.concatenate([data for data, labels in loader.epoch(0)])
    labels = np.concatenate([labels for _, labels in loader.epoch(0)])
    rare = data[labels == 0]
    assert len(np.unique(rare.reshape(len(rare), -1), axis=0)) > 20  # of 33 draws of two images; 81 crops


# What is done to images


def test_flags_reach_the_loader():
    assert augmentation(ClassificationConfig(), 'cifar10') == {'augment': None, 'erasing': 0.0, 'balanced': False}
    options = augmentation(ClassificationConfig(rand_augment=0, random_erasing=0.3, balanced_sampler=True), 'imagenet')
    assert options['augment'].strength == 0 and options['erasing'] == 0.3 and options['balanced']
    assert type(augmentation(ClassificationConfig(auto_aug=True), 'imagenet')['augment']).__name__ == 'AutoAugment'


def test_small_images_are_erased_by_their_own_generators():
    """After AutoAugment or RandAugment has drawn from the same one."""

    def augment(image, random):
        return image.point(lambda value: value) if random.rand() < 2 else image

    whole, erased = (next(uneven(augment=augment, erasing=p, seed=4).epoch(2)) for p in (0, 0.7))
    indices = uneven(seed=4)._batches(np.random.RandomState(4 * 100003 + 2))[0][0]
    for image, expected, index in zip(erased[0], whole[0], indices):
        random = np.random.RandomState([4, 2, index])
        random.rand()
        random_erasing(expected, 0.7, random)
        np.testing.assert_array_equal(image, expected)


def test_photographs_are_erased_after_everything_else(tmp_path, monkeypatch):
    random = np.random.RandomState(0)
    paths = [str(tmp_path / f'{i}.png') for i in range(6)]
    for path in paths:
        Image.fromarray(random.randint(0, 256, (40, 50, 3)).astype(np.uint8)).save(path)
    files = ImageFiles(('a', 'b'), tuple(paths), np.array([0, 0, 0, 0, 0, 1]))

    def batch(**options):
        return next(Images(files, 32, 6, (0.5,) * 3, (0.2,) * 3, train=True, workers=2, **options).epoch(1))[0]

    whole, erased = batch(), batch(erasing=1.0)
    for before, after in zip(whole, erased):
        changed = (before != after).all(0)
        assert 0.01 < changed.mean() < 0.4
        rows, columns = changed.any(1), changed.any(0)
        assert changed[rows][:, columns].all() and (before == after)[:, ~changed].all()
    balanced = next(Images(files, 32, 6, (0.5,) * 3, (0.2,) * 3, train=True, balanced=True).epoch(1))
    assert balanced[1].sum() > 1  # the one image of class 1, again


def test_cutmix_and_mixup_are_switched_as_timms():
    timm()
    from timm.data import Mixup

    theirs = Mixup(mixup_alpha=0.4, cutmix_alpha=1.3, switch_prob=0.5, num_classes=3)
    task, chosen = Classification(3, mixup_alpha=0.4, cutmix_alpha=1.3, mixup_epochs=1), set()
    data, target = mx.nd.array(np.random.RandomState(0).rand(4, 3, 16, 16)), mx.nd.one_hot(mx.nd.arange(4), 4)
    for seed in range(12):
        np.random.seed(seed)
        share, is_cutmix = theirs._params_per_batch()
        random = np.random.RandomState(seed)
        random.rand()  # theirs: whether to mix at all
        mixed, mixed_target = task.mix(data, target, 1, random)
        chosen.add(bool(is_cutmix))
        if is_cutmix:
            kept = (mixed == data).asnumpy().all(1).mean()
            assert mixed_target[0, 0].asscalar() == pytest.approx(kept, abs=1e-6)
        else:
            np.testing.assert_allclose(mixed.asnumpy(), (share * data + (1 - share) * data[::-1]).asnumpy(), rtol=1e-5)
        unmixed = task.mix(data, target, 2, np.random.RandomState(seed))
        assert unmixed[0] is data
    assert chosen == {False, True}
    only = Classification(3, cutmix_alpha=1.0)
    assert only.train_score == 'train_rmse' and Classification(3).train_score == 'train_accuracy'


def test_adamw_takes_the_schedules_rate_and_leaves_biases_undecayed(tmp_path, capsys):
    net, _ = fitted(tmp_path, optimizer='adamw', lr=0.01, wd=0.1, no_wd=True)
    assert 'overwritten' not in capsys.readouterr().out
    assert {name: p.wd_mult for name, p in net._collect_params_with_prefix().items()} == {'1.weight': 1, '1.bias': 0}
    optimizer = make_optimizer(TrainConfig(optimizer='adamw', wd=0.1), None)
    assert (optimizer.lr, optimizer.wd, optimizer.beta1, optimizer.beta2) == (0.001, 0.1, 0.9, 0.999)
    assert json.loads((tmp_path / 'log.jsonl').read_text().splitlines()[0])['lr'] == 0.01
