"""Training: the schedule's values, files written whole, and a short run of the script."""
import json
import math
import os

import mxnet as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import train_cifar
from gluon_aff.data.cifar import Batches, digits
from gluon_aff.train import SCHEDULES, RunFolder, evaluate, fit, learning_rate, loop, mixup, smooth
from gluon_aff.train.run import atomic
from model_zoo import get_model, load_parameters
from model_zoo.trained import open_trained


@pytest.mark.parametrize('warmup, warmup_lr', [(0, 0), (5, 0), (5, 0.02)])
@pytest.mark.parametrize('mode', SCHEDULES)
def test_schedule_is_a_linear_warmup_then_its_formula_at_every_step(mode, warmup, warmup_lr):
    lr, epochs, batches = 0.2, 30, 7
    schedule = learning_rate(mode, lr, epochs, batches, warmup, warmup_lr, decay_epochs=(15, 20), decay=0.1, power=2)
    rising, falling = warmup * batches, (epochs - warmup) * batches
    for step in range(epochs * batches):
        done = (step - rising) / (falling - 1)
        wanted = {'cosine': lr * (1 + math.cos(math.pi * done)) / 2, 'poly': lr * (1 - done) ** 2, 'constant': lr,
                  'step': lr * 0.1 ** ((step >= 15 * batches) + (step >= 20 * batches))}[mode]
        if step < rising:
            wanted = warmup_lr + (lr - warmup_lr) * step / (rising - 1)
        assert schedule(step) == pytest.approx(wanted, abs=1e-9)


def test_the_imagenet_recipe_at_its_turning_points():
    """240 epochs, 5 of warm-up from 0 to 0.075, then a cosine to 0 (paper's released runs)."""
    batches = 2503
    schedule = learning_rate('cosine', 0.075, 240, batches, 5)
    assert schedule(0) == 0 and schedule(5 * batches - 1) == pytest.approx(0.075)
    assert schedule(5 * batches) == pytest.approx(0.075) and schedule(240 * batches - 1) == pytest.approx(0, abs=1e-12)
    assert schedule(5 * batches + 235 * batches // 2) == pytest.approx(0.0375, rel=1e-4)


@pytest.mark.parametrize('warmup', [-1, 3, 4])
def test_a_warmup_outside_the_run_is_refused(warmup):
    with pytest.raises(ValueError, match='shorter than the run'):
        learning_rate('cosine', 0.1, 3, 10, warmup)


@pytest.mark.parametrize('epochs, warmup', [(1, 0), (2, 1)])
def test_a_schedule_of_a_single_batch_is_refused(epochs, warmup):
    with pytest.raises(ValueError, match='two batches'):
        learning_rate('cosine', 0.1, epochs, 1, warmup)


def test_an_unknown_schedule_is_refused():
    with pytest.raises(ValueError, match="one of cosine, step, poly, constant, got 'cosin'"):
        learning_rate('cosin', 0.1, 3, 10)


@given(label=st.lists(st.integers(0, 6), min_size=1, max_size=20), smoothing=st.sampled_from([0, 0.05, 0.1, 0.5, 0.9]))
def test_smoothed_labels_are_distributions_as_gluoncv_makes_them(label, smoothing):
    """Against the definition in GluonCV's script: 1 - eta + eta / classes on the class, eta / classes elsewhere."""
    target = smooth(np.array(label, np.float32), 7, smoothing)
    wanted = mx.nd.one_hot(mx.nd.array(label), 7, on_value=1 - smoothing + smoothing / 7, off_value=smoothing / 7)
    np.testing.assert_allclose(target, wanted.asnumpy(), atol=1e-6)
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
    monkeypatch.setattr(loop, 'mixup', lambda data, target, share: shares.append(share) or (data, target))
    for folder in 'ab':
        short_run(tmp_path / folder, 3, epochs=3, mixup_alpha=0.2, mixup_off_epochs=1)
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
    assert evaluate(lambda x: oracle(x + 1e-6), batches, [mx.cpu()]) == pytest.approx(0.8)


def test_a_run_says_what_it_saved_and_the_saved_network_has_the_stated_accuracy(tmp_path, capsys):
    best = train_cifar.main(['--width', '1', '--num-epochs', '2', '--batch-size', '256', '--save-dir',
                             str(tmp_path / 'run'), '--fusion', 'ms_se', '--no-wd'])
    said = json.loads((tmp_path / 'run' / 'model.json').read_text())
    assert said['options'] == {'classes': 10, 'width': 1, 'final_drop': 0.0, 'fusion': 'ms_se'}
    assert said['accuracy'] == best and '--fusion ms_se' in said['command']
    log = (tmp_path / 'run' / 'log.txt').read_text().splitlines()
    assert [line.split(']')[0] for line in log] == ['[Epoch 1', '[Epoch 2']
    assert log[-1] in capsys.readouterr().out

    model, data = open_trained(str(tmp_path / 'run')), digits()
    assert model.labels == data.labels
    assert evaluate(model.net, Batches(*data.test, 60, model.mean, model.std), [mx.cpu()]) == best


def short_run(folder, seed, **kwargs):
    data, train, test = small_digits()
    mx.random.seed(seed)
    net = get_model('cifar_aff_resnet8', classes=10, width=1)
    net.initialize(mx.init.Xavier())
    net.hybridize()
    train = Batches(*train, 32, data.mean, data.std, train=True, seed=seed)
    epochs = kwargs.pop('epochs', 1)
    fit(net, train, Batches(*test, 50, data.mean, data.std), RunFolder(folder, {}), epochs,
        learning_rate('cosine', 0.05, epochs, len(train)), **kwargs)
    return net


def values(net):
    return {name: param.data().asnumpy() for name, param in net._collect_params_with_prefix().items()}


def test_the_same_seed_gives_the_same_network(tmp_path):
    first, again, other = (values(short_run(tmp_path / str(i), seed)) for i, seed in enumerate((1, 1, 2)))
    for name, value in first.items():
        np.testing.assert_allclose(again[name], value, rtol=1e-4, atol=1e-6)
    assert any(not np.allclose(other[name], first[name]) for name in first)


def test_no_wd_spares_biases_and_norms(tmp_path):
    net = short_run(tmp_path / 'run', 0, no_wd=True)
    for name, param in net.collect_params().items():
        assert param.wd_mult == (0 if name.endswith(('bias', 'beta', 'gamma')) else 1)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_best(tmp_path):
    data, train, test = small_digits()
    net = short_run(tmp_path / 'run', 0)
    before = values(net)
    broken = next(iter(net.collect_params('.*dense.*weight').values()))
    broken.set_data(broken.data() * float('nan'))
    batches = Batches(*train, 32, data.mean, data.std, train=True)
    with pytest.raises(FloatingPointError, match='no longer finite'):
        fit(net, batches, Batches(*test, 50, data.mean, data.std), RunFolder(tmp_path / 'run', {}), 1,
            learning_rate('cosine', 0.1, 1, len(batches)))
    load_parameters(net, str(tmp_path / 'run' / 'best.params'))
    for name, value in values(net).items():
        np.testing.assert_array_equal(value, before[name])


def test_fine_tuning_starts_from_the_released_backbone_and_a_fresh_head(tmp_path, monkeypatch):
    def check(net, *args, **kwargs):
        released = values(get_model('fashion_mnist_aff_resnet8', pretrained=True))
        for name, value in values(net).items():
            assert name.startswith('output') != np.array_equal(value, released[name]), name
    monkeypatch.setattr(train_cifar, 'fit', lambda *args, **kwargs: check(*args, **kwargs) or 0.5)
    train_cifar.main(['--dataset', 'digits', '--model', 'fashion_mnist_aff_resnet8', '--use-pretrained', '--save-dir',
                      str(tmp_path / 'run')])


@pytest.mark.parametrize('flags, says', [
    (['--dataset', 'fashion_mnist'], 'needs --data-dir'),
    (['--dataset', 'fashion_mnist', '--data-dir', 'nowhere'], 'nowhere'),
    (['--model', 'cifar_aff_resnet9'], 'did you mean cifar_aff_resnet8'),
    (['--fusion', 'af'], 'did you mean aff'),
    (['--width', '0'], 'width must be a positive'),
    (['--batch-size', '1'], 'batch_size must be 2'),
    (['--num-epochs', '1'], 'warm-up must be shorter'),
    (['--model', 'aff_resnet50', '--width', '1'], 'option'),
])
def test_wrong_arguments_are_one_sentence(flags, says, tmp_path):
    with pytest.raises((ValueError, FileNotFoundError), match=says) as caught:
        train_cifar.main(['--save-dir', str(tmp_path / 'run'), *flags])
    assert '\n' not in str(caught.value)
    assert not (tmp_path / 'run').exists()


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(ValueError, match='cannot be saved'):
        RunFolder(tmp_path / 'file' / 'run', {})
