"""The parts of a recipe, compared with PyTorch's, timm's and torchvision's where these are installed."""

import mxnet as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mxnet import gluon
from PIL import Image
from torch_witness import timm, torch

from gluon_aff.data.erasing import random_erasing
from gluon_aff.data.rand_augment import OPERATIONS, RandAugment
from gluon_aff.train.ema import WeightAverage
from gluon_aff.train.optimizer import AdamW
from gluon_aff.train.soft_labels import cutmix


def adamw(weight, gradients, lr, wd, betas, epsilon):
    """AdamW in float64, as the paper and PyTorch have it."""
    weight, m, v = weight.astype(np.float64), 0, 0
    for step, grad in enumerate(gradients, start=1):
        m, v = betas[0] * m + (1 - betas[0]) * grad, betas[1] * v + (1 - betas[1]) * grad**2
        weight = weight * (1 - lr * wd)
        weight -= lr * m / (1 - betas[0] ** step) / (np.sqrt(v / (1 - betas[1] ** step)) + epsilon)
    return weight


def by_ours(weight, gradients, lr, wd, betas, epsilon):
    optimizer = mx.optimizer.create('adamw', learning_rate=lr, wd=wd, beta1=betas[0], beta2=betas[1], epsilon=epsilon)
    assert isinstance(optimizer, AdamW)
    array = mx.nd.array(weight)
    state = optimizer.create_state_multi_precision(0, array)
    for grad in gradients:
        optimizer.update_multi_precision(0, array, mx.nd.array(grad), state)
    return array.asnumpy()


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**31),
    steps=st.integers(1, 12),
    lr=st.sampled_from([1e-1, 1e-3]),
    wd=st.sampled_from([0, 0.05]),
    betas=st.sampled_from([(0.9, 0.999), (0.5, 0.9)]),
    epsilon=st.sampled_from([1e-8, 1e-2]),
)
def test_adamw_is_the_papers(seed, steps, lr, wd, betas, epsilon):
    random = np.random.RandomState(seed)
    weight, gradients = random.normal(size=7), random.normal(size=(steps, 7))
    expected = adamw(weight, gradients, lr, wd, betas, epsilon)
    np.testing.assert_allclose(by_ours(weight, gradients, lr, wd, betas, epsilon), expected, rtol=1e-4, atol=1e-5)


def test_adamw_is_pytorchs():
    library, random = torch(), np.random.RandomState(0)
    weight, gradients = random.normal(size=50).astype(np.float32), random.normal(size=(30, 50)).astype(np.float32)
    parameter = library.nn.Parameter(library.from_numpy(weight.copy()))
    theirs = library.optim.AdamW([parameter], lr=0.01, weight_decay=0.1)
    for grad in gradients:
        parameter.grad = library.from_numpy(grad)
        theirs.step()
    ours = by_ours(weight, gradients, 0.01, 0.1, (0.9, 0.999), 1e-8)
    np.testing.assert_allclose(ours, parameter.detach().numpy(), rtol=1e-4, atol=1e-5)


def small_network():
    net = gluon.nn.HybridSequential()
    net.add(gluon.nn.Dense(3, in_units=4), gluon.nn.BatchNorm(in_channels=3))
    net.initialize(mx.init.Xavier())
    return net


def values(net):
    return {name: parameter.data().asnumpy() for name, parameter in net._collect_params_with_prefix().items()}


def test_the_average_is_the_recurrence_over_parameters_and_statistics():
    net, random = small_network(), np.random.RandomState(0)
    average, expected = WeightAverage(net, 0.9), values(net)
    for _ in range(5):
        with mx.autograd.record():
            loss = net(mx.nd.array(random.normal(1, 1, (8, 4)))).sum()
        loss.backward()
        net[0].weight.set_data(net[0].weight.data() + 1)
        average.update()
        expected = {name: 0.9 * expected[name] + 0.1 * value for name, value in values(net).items()}
    own = values(net)
    with average.applied():
        inside = values(net)
    for name, value in expected.items():
        np.testing.assert_allclose(inside[name], value, rtol=1e-5, atol=1e-6)
    assert not np.array_equal(inside['1.running_mean'], own['1.running_mean'])
    assert all(np.array_equal(value, own[name]) for name, value in values(net).items())


def test_the_average_continues_from_its_state():
    net = small_network()
    first = WeightAverage(net, 0.5)
    second = WeightAverage(net, 0.5)
    net[0].weight.set_data(net[0].weight.data() * 2)
    first.update()
    second.restore({name: value.asnumpy() for name, value in first.state().items()})
    net[0].weight.set_data(net[0].weight.data() * 2)
    for average in (first, second):
        average.update()
    assert all(np.array_equal(value.asnumpy(), second.values[name].asnumpy()) for name, value in first.values.items())


def test_the_average_is_timms():
    library, module = torch(), timm()
    theirs_net = library.nn.Linear(4, 3)
    net = gluon.nn.Dense(3, in_units=4)
    net.initialize()
    for ours, parameter in ((net.weight, theirs_net.weight), (net.bias, theirs_net.bias)):
        ours.set_data(parameter.detach().numpy())
    average, theirs = WeightAverage(net, 0.7), module.utils.ModelEmaV2(theirs_net, decay=0.7)
    for step in range(4):
        net.weight.set_data(net.weight.data() + step)
        with library.no_grad():
            theirs_net.weight += step
        average.update()
        theirs.update(theirs_net)
    np.testing.assert_allclose(average.values['weight'].asnumpy(), theirs.module.weight.detach().numpy(), rtol=1e-6)


@pytest.mark.parametrize('decay', [-0.1, 1, 2, float('nan')])
def test_a_decay_out_of_its_range_is_refused(decay):
    with pytest.raises(ValueError, match='^decay must be'):
        WeightAverage(small_network(), decay)


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**31), share=st.floats(0, 1), height=st.integers(1, 9), width=st.integers(1, 9))
def test_cutmix_mixes_targets_by_the_pixels_that_are_kept(seed, share, height, width):
    data = np.stack([np.full((2, height, width), i, np.float32) for i in range(4)])
    mixed, target = cutmix(data, np.eye(4, dtype=np.float32), share, np.random.RandomState(seed))
    kept = (mixed == data).mean((1, 2, 3))
    np.testing.assert_allclose(np.diag(target), kept, atol=1e-6)
    np.testing.assert_allclose(target[np.arange(4), 3 - np.arange(4)], 1 - kept, atol=1e-6)
    rows = (mixed != data)[0, 0]
    inside = rows[rows.any(1)][:, rows.any(0)]
    assert inside.all()  # one rectangle


def test_cutmix_is_timms(monkeypatch):
    library = torch()
    timm()
    from timm.data import mixup as theirs

    data = np.random.RandomState(0).normal(size=(6, 3, 20, 31)).astype(np.float32)
    for seed in range(20):
        random, again = np.random.RandomState(seed), np.random.RandomState(seed)
        share = again.beta(1, 1)
        # timm draws the centre below the side; ours are those draws.
        monkeypatch.setattr(theirs.np.random, 'randint', lambda low, high, size=None, again=again: again.randint(high))
        (yl, yh, xl, xh), kept = theirs.cutmix_bbox_and_lam((6, 3, 20, 31), share, correct_lam=True)
        monkeypatch.undo()
        tensor = library.from_numpy(data.copy())
        tensor[:, :, yl:yh, xl:xh] = tensor.flip(0)[:, :, yl:yh, xl:xh]
        mixed, target = cutmix(data, np.eye(6, dtype=np.float32), random.beta(1, 1), random)
        np.testing.assert_array_equal(mixed, tensor.numpy())
        assert target[0, 0] == pytest.approx(float(kept), abs=1e-6)


def boxes(erase, size, number):
    """Areas and aspects of the rectangles of `number` erasures of zeros; noise is never zero."""
    actual = []
    for _ in range(number):
        changed = erase(size)
        if changed.any():
            rows, columns = changed.any(1).sum(), changed.any(0).sum()
            assert changed.sum() == rows * columns
            actual.append((rows * columns / changed.size, rows / columns))
    return np.array(actual)


def ours(random):
    def erase(size):
        data = np.zeros((3, *size), np.float32)
        random_erasing(data, 0.5, random)
        return (data != 0).all(0)

    return erase


def test_an_erased_rectangle_is_noise_of_the_papers_area_and_aspect():
    actual = boxes(ours(np.random.RandomState(0)), (64, 64), 600)
    assert 0.44 < len(actual) / 600 < 0.56
    assert 0.015 < actual[:, 0].min() and actual[:, 0].max() < 0.36
    assert 0.28 < actual[:, 1].min() and actual[:, 1].max() < 3.6
    data = np.zeros((3, 64, 64), np.float32)
    random_erasing(data, 1, np.random.RandomState(1))
    noise = data[data != 0]
    assert abs(noise.mean()) < 0.1 and abs(noise.std() - 1) < 0.1


def test_erased_rectangles_are_distributed_as_timms():
    library, module = torch(), timm()
    import random as python_random

    python_random.seed(0)
    library.manual_seed(0)
    theirs = module.data.random_erasing.RandomErasing(0.5, mode='pixel', device='cpu')
    actual = boxes(ours(np.random.RandomState(0)), (40, 56), 1500)
    expected = boxes(lambda size: (theirs(library.zeros(3, *size)).numpy() != 0).all(0), (40, 56), 1500)
    for column, tolerance in ((0, 0.02), (1, 0.15)):
        np.testing.assert_allclose(
            np.quantile(actual[:, column], [0.1, 0.5, 0.9]),
            np.quantile(expected[:, column], [0.1, 0.5, 0.9]),
            rtol=0.15,
            atol=tolerance,
        )


def photograph():
    random = np.random.RandomState(3)
    small = random.randint(0, 256, (6, 8, 3)).astype(np.uint8)
    return Image.fromarray(small).resize((64, 48), Image.BICUBIC)


class Draws:
    """In place of a RandomState: always this operation and sign."""

    def __init__(self, operation, sign):
        self.operation, self.sign = OPERATIONS.index(operation), sign

    def randint(self, high, size):
        return np.full(size, self.operation)

    def choice(self, values, size):
        return np.full(size, self.sign)


@pytest.mark.parametrize('operation', OPERATIONS)
def test_every_operation_of_randaugment_is_torchvisions(operation):
    torch()
    timm()
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.autoaugment import RandAugment as Theirs
    from torchvision.transforms.autoaugment import _apply_op

    image = photograph()
    for strength in (0, 4, 9, 17, 30):
        magnitudes, signed = Theirs(magnitude=strength)._augmentation_space(31, (48, 64))[operation]
        value = float(magnitudes[strength].item()) if magnitudes.ndim > 0 else 0.0
        # Where the two round differently, torchvision's operation is given our value.
        value = {'TranslateX': round(value), 'TranslateY': round(value), 'Solarize': 256 * (1 - strength / 30)}.get(
            operation, value
        )
        for sign in (1, -1) if signed else (1,):
            theirs = _apply_op(image, operation, sign * value, InterpolationMode.NEAREST, [128, 128, 128])
            got = RandAugment(1, strength)(image, Draws(operation, sign))
            if operation in ('ShearX', 'ShearY', 'TranslateX', 'TranslateY', 'Rotate'):
                # torchvision's matrix is rounded otherwise, or runs the other way: edges may differ by a pixel.
                got = min(
                    (got, RandAugment(1, strength)(image, Draws(operation, -sign))),
                    key=lambda other: np.mean(np.asarray(other) != np.asarray(theirs)),
                )
                assert np.mean(np.abs(np.asarray(got, int) - np.asarray(theirs, int)) > 24) < 0.06, (strength, sign)
            else:
                difference = np.abs(np.asarray(got, int) - np.asarray(theirs, int))
                assert difference.mean() < 1.5, (strength, sign, difference.mean())


def test_randaugment_draws_all_operations_alike_and_repeats_by_seed():
    image, augment = photograph(), RandAugment(2, 12)
    same = [np.asarray(augment(image, np.random.RandomState(seed))) for seed in (7, 7, 8)]
    assert np.array_equal(same[0], same[1]) and not np.array_equal(same[0], same[2])

    counts = np.zeros(len(OPERATIONS))

    class Counting(np.random.RandomState):
        def randint(self, low, high=None, size=None):
            drawn = super().randint(low, high, size)
            if low == len(OPERATIONS):  # choice, for the signs, draws by randint as well
                np.add.at(counts, drawn, 1)
            return drawn

    small, random = image.resize((4, 4)), Counting(0)
    for _ in range(1400):
        augment(small, random)
    assert abs(counts / counts.sum() - 1 / len(OPERATIONS)).max() < 0.02
    assert np.array_equal(np.asarray(image), np.asarray(photograph()))


@pytest.mark.parametrize('number, strength', [(0, 9), (2, -1), (2, 31), (1.5, 9), (2, 9.5)])
def test_randaugment_refuses_what_is_out_of_range(number, strength):
    with pytest.raises(ValueError, match='must be a whole number'):
        RandAugment(number, strength)
