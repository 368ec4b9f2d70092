"""The comparators' blocks: their papers' equations in numpy, their gradients, sizes, and what they refuse."""

from functools import partial

import mxnet as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mxnet import autograd
from reference import error, filled, in_every_form, parameters, refused, tensor, trainable

from gluon_aff.layers.comparators import ECA, LIP, SE, AAConv, GatherExcite, SharedLIP, SKConv, importance_pool
from gluon_aff.layers.comparators.lip import ImportancePool

# A normalisation in training is a function of the batch; with this it is the same in training and inference.
RUNNING = {'use_global_stats': True}


# The papers' equations, in numpy


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def relu(x):
    return np.maximum(x, 0)


def mean(x):
    return x.mean((2, 3), keepdims=True)


def conv(x, weight, stride=1, dilation=1, groups=1, padding=None):
    """Convolution that keeps the size, unless it is strided or padding says otherwise."""
    kernel = weight.shape[2:]
    pads = [dilation * (k // 2) if padding is None else padding for k in kernel]
    x = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in pads)])
    span = [dilation * (k - 1) + 1 for k in kernel]
    windows = np.lib.stride_tricks.sliding_window_view(x, span, (2, 3))[
        :, :, ::stride, ::stride, ::dilation, ::dilation
    ]
    pieces = zip(np.split(windows, groups, axis=1), np.split(weight, groups, axis=0))
    return np.concatenate([np.einsum('nchwij,ocij->nohw', window, piece) for window, piece in pieces], axis=1)


def norm(p, layer, x):
    gamma, beta, average, variance = (
        p[f'{layer}.{leaf}'][:, None, None] for leaf in ('gamma', 'beta', 'running_mean', 'running_var')
    )
    return (x - average) / np.sqrt(variance + 1e-5) * gamma + beta


def instance_norm(p, layer, x):
    gamma, beta = (p[f'{layer}.{leaf}'][:, None, None] for leaf in ('gamma', 'beta'))
    return (x - mean(x)) / np.sqrt(x.var((2, 3), keepdims=True) + 1e-5) * gamma + beta


def excite(p, z):
    hidden = relu(conv(z, p['excite.0.weight']) + p['excite.0.bias'][:, None, None])
    return sigmoid(conv(hidden, p['excite.2.weight']) + p['excite.2.bias'][:, None, None])


def se(p, x):
    return x * excite(p, mean(x))


def gather_excite(p, x):
    gathered = np.einsum('nchw,chw->nc', x, p['gather.0.weight'][:, 0])[:, :, None, None]
    return x * excite(p, relu(norm(p, 'gather.1', gathered)))


def eca(p, x):
    weight, z = p['conv.weight'][0, 0], mean(x)[:, :, 0, 0]
    half = len(weight) // 2
    padded = np.pad(z, [(0, 0), (half, half)])
    mixed = sum(weight[j] * padded[:, j : j + z.shape[1]] for j in range(len(weight)))
    return x * sigmoid(mixed)[:, :, None, None]


def pool_by_importance(x, logits, stride=2):
    """One window after the other, over what of it lies inside the map."""
    height, width = x.shape[2:]
    out = np.empty((*x.shape[:2], -(-height // stride), -(-width // stride)))
    for i in range(out.shape[2]):
        for j in range(out.shape[3]):
            rows = slice(max(i * stride - 1, 0), i * stride + 2)
            columns = slice(max(j * stride - 1, 0), j * stride + 2)
            importance = np.exp(logits[:, :, rows, columns])
            out[:, :, i, j] = (x[:, :, rows, columns] * importance).sum((2, 3)) / importance.sum((2, 3))
    return out


def lip_logits(p, head, x):
    return 12 * sigmoid(instance_norm(p, f'{head}.1', conv(x, p[f'{head}.0.weight'])))


def lip(p, x):
    return pool_by_importance(x, lip_logits(p, 'logit', x))


def shared_lip(p, body, x):
    t = relu(instance_norm(p, 'trunk.1', conv(x, p['trunk.0.weight'])))
    t = relu(instance_norm(p, 'trunk.4', conv(t, p['trunk.3.weight'])))
    return np.concatenate(
        [pool_by_importance(body, lip_logits(p, 'body_logit', t)), pool_by_importance(x, lip_logits(p, 'logit', t))],
        axis=1,
    )


def relative_logits(q, rel_height, rel_width):
    """q (N, heads, depth, H, W) with the tables, one pair of places after the other: (N, heads, H, W, H, W)."""
    height, width = q.shape[3:]
    logits = np.empty((*q.shape[:2], height, width, height, width))
    for i in range(height):
        for j in range(width):
            for k in range(height):
                for m in range(width):
                    position = rel_height[k - i + height - 1] + rel_width[m - j + width - 1]
                    logits[:, :, i, j, k, m] = q[:, :, :, i, j] @ position
    return logits


def augmented(p, x, keys, values, heads, stride):
    qkv = conv(x, p['qkv.weight'], stride)
    n, _, height, width = qkv.shape
    q, k, v = (part.reshape(n, heads, -1, height, width) for part in np.split(qkv, [keys, 2 * keys], axis=1))
    logits = np.einsum('nhdij,nhdkm->nhijkm', q, k) + relative_logits(q, p['rel_height'], p['rel_width'])
    weights = np.exp(logits / np.sqrt(keys // heads))
    weights /= weights.sum((4, 5), keepdims=True)
    attended = np.einsum('nhijkm,nhdkm->nhdij', weights, v).reshape(n, values, height, width)
    return np.concatenate([conv(x, p['conv.weight'], stride), conv(attended, p['proj.weight'])], axis=1)


def selective(p, x, groups, stride, dilation):
    small, large = (
        relu(norm(p, f'{branch}.1', conv(x, p[f'{branch}.0.weight'], stride, factor * dilation, groups)))
        for branch, factor in (('small', 1), ('large', 2))
    )
    z = relu(norm(p, 'select.2', conv(mean(small + large), p['select.1.weight'])))
    a, b = np.split(np.exp(conv(z, p['select.4.weight'])), 2, axis=1)
    return (a * small + b * large) / (a + b)


class Joined(SharedLIP):
    """Both of SharedLIP's outputs in one."""

    def hybrid_forward(self, F, body, x):
        return F.concat(*super().hybrid_forward(F, body, x), dim=1)


# Block, formula, and shapes of the inputs. Heights differ from widths, so that none is taken for the other.
CASES = {
    'SE': (partial(SE, 16, reduction=4), se, [(3, 16, 5, 4)]),
    'GatherExcite': (
        partial(GatherExcite, 16, (5, 4), reduction=4, norm_kwargs=RUNNING),
        gather_excite,
        [(3, 16, 5, 4)],
    ),
    'ECA': (partial(ECA, 16, 5), eca, [(3, 16, 5, 4)]),
    'LIP': (partial(LIP, 6), lip, [(2, 6, 7, 8)]),
    'SharedLIP': (partial(Joined, 4, 6, width=8), shared_lip, [(2, 4, 7, 8), (2, 6, 7, 8)]),
    'AAConv': (
        partial(AAConv, 12, 8, 4, (3, 4), heads=2, in_channels=6),
        partial(augmented, keys=8, values=4, heads=2, stride=1),
        [(2, 6, 3, 4)],
    ),
    'AAConv strided': (
        partial(AAConv, 12, 8, 4, (4, 3), heads=4, stride=2, in_channels=6),
        partial(augmented, keys=8, values=4, heads=4, stride=2),
        [(2, 6, 7, 6)],
    ),
    'SKConv': (
        partial(SKConv, 16, groups=4, min_width=8, norm_kwargs=RUNNING),
        partial(selective, groups=4, stride=1, dilation=1),
        [(3, 16, 5, 6)],
    ),
    'SKConv strided': (
        partial(SKConv, 16, groups=2, stride=2, dilation=2, min_width=8, norm_kwargs=RUNNING),
        partial(selective, groups=2, stride=2, dilation=2),
        [(3, 16, 7, 6)],
    ),
}
every_block = pytest.mark.parametrize('case', CASES)


def made(case):
    """A filled block, its formula and its inputs."""
    make, formula, shapes = CASES[case]
    return filled(make()), formula, [tensor(shape, seed) for seed, shape in enumerate(shapes)]


def arrays(block):
    return {name: p.data().asnumpy().astype('float64') for name, p in parameters(block).items()}


@every_block
def test_block_computes_its_equation(case):
    block, formula, inputs = made(case)
    expected = formula(arrays(block), *(x.asnumpy().astype('float64') for x in inputs))
    assert error(block(*inputs), expected) <= 1e-5


@every_block
def test_gradients_are_the_finite_differences_of_the_equation(case):
    block, formula, inputs = made(case)
    point = {**arrays(block), **{i: x.asnumpy().astype('float64') for i, x in enumerate(inputs)}}
    for x in inputs:
        x.attach_grad()
    with autograd.record():
        z = block(*inputs)
        c = tensor(z.shape, 9)
        loss = (z * c).sum()
    loss.backward()
    gradients = {
        **{name: p.grad() for name, p in parameters(block).items() if p.grad_req != 'null'},
        **{i: x.grad for i, x in enumerate(inputs)},
    }

    def loss_at(key, value):
        moved = {**point, key: value}
        return (formula(moved, *(moved[i] for i in range(len(inputs)))) * c.asnumpy().astype('float64')).sum()

    random, step = np.random.RandomState(1), 1e-6
    for key, gradient in gradients.items():
        gradient = gradient.asnumpy().astype('float64')
        size = np.linalg.norm(gradient)
        assert size > 0, f'{key} has no gradient'
        for direction in (gradient / size, *random.standard_normal((2, *gradient.shape))):
            difference = (loss_at(key, point[key] + step * direction) - loss_at(key, point[key] - step * direction)) / (
                2 * step
            )
            assert abs(difference - (gradient * direction).sum()) <= 1e-4 * size * np.linalg.norm(direction), key


@every_block
def test_hybridized_exported_and_imported_block_computes_the_same(case, tmp_path):
    block, _, inputs = made(case)
    outputs = in_every_form(block, tmp_path, inputs, [x[:1] for x in inputs])
    for form, actual in outputs.items():
        for z, expected in zip(actual, outputs['eager']):
            assert error(z, expected) <= 1e-6, form


@every_block
def test_block_computes_in_float64_and_traces_in_float16(case):
    block, formula, inputs = made(case)
    point = arrays(block)
    block.cast('float64')
    z = block(*(x.astype('float64') for x in inputs))
    assert z.dtype == np.float64
    assert error(z, formula(point, *(x.asnumpy().astype('float64') for x in inputs))) <= (
        1e-5 if 'LIP' in case else 1e-12
    )

    block = CASES[case][0]()
    block.cast('float16')
    names = [f'data{i}' for i in range(len(inputs))]
    z = block(*map(mx.sym.var, names))
    arguments, outputs, _ = z.infer_type(**dict.fromkeys(names, 'float16'))
    assert outputs == [np.float16]
    for name, kind in zip(z.list_arguments(), arguments):
        assert kind == (np.float32 if name.endswith(('gamma', 'beta')) else np.float16), name


# Each method's own properties


@given(st.integers(1, 12))
def test_eca_kernel_is_the_odd_number_of_equation_12(power):
    t = int((power + 1) / 2)
    assert ECA(2**power).conv.weight.shape == (1, 1, t if t % 2 else t + 1)


def test_eca_kernels_that_the_paper_names():
    assert [ECA(c).conv.weight.shape[2] for c in (64, 128, 256, 512, 1024, 2048)] == [3, 5, 5, 5, 5, 7]


@pytest.mark.parametrize('stride', [1, 2])
def test_importance_pool_with_equal_logits_is_an_average_without_the_padding(stride):
    x = tensor((2, 3, 7, 6))
    average = mx.nd.Pooling(
        x, kernel=(3, 3), stride=(stride, stride), pad=(1, 1), pool_type='avg', count_include_pad=False
    )
    for level in (0, 6, 12):
        assert error(importance_pool(mx.nd, x, mx.nd.full(x.shape, level), stride=stride), average) <= 1e-6


@pytest.mark.parametrize('case', ['LIP', 'SharedLIP'])
def test_lip_starts_as_an_average_pool(case):
    make, _, shapes = CASES[case]
    block, inputs = make(), [tensor(shape, seed) for seed, shape in enumerate(shapes)]
    block.initialize(mx.init.Xavier())
    expected = [
        mx.nd.Pooling(x, kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type='avg', count_include_pad=False)
        for x in inputs
    ]
    assert error(block(*inputs), mx.nd.concat(*expected, dim=1)) <= 1e-6


def test_importance_pool_of_float16_maps_does_not_overflow():
    pool = ImportancePool(2)
    pool.cast('float16')
    x = mx.nd.array([[[[1000, -1000, 7], [2, 3, 4], [5, 6, 8]]]]).astype('float16')
    z = pool(x, mx.nd.full(x.shape, 20).astype('float16'))  # logits of 12, near enough
    assert z.dtype == np.float16
    np.testing.assert_allclose(z.asnumpy().ravel(), [1.25, -246.5, 4, 5.25], rtol=1e-3)


@given(height=st.integers(1, 6), width=st.integers(1, 6), stride=st.integers(1, 3))
def test_aaconv_takes_every_size_that_its_stride_makes_its_own(height, width, stride):
    block = filled(AAConv(10, 4, 2, (height, width), heads=2, stride=stride, in_channels=3))
    assert {name: parameters(block)[name].shape for name in ('rel_height', 'rel_width')} == {
        'rel_height': (2 * height - 1, 2),
        'rel_width': (2 * width - 1, 2),
    }
    for less in range(stride):
        x = tensor((2, 3, stride * height - less, stride * width - less))
        assert block(x).shape == (2, 10, height, width)


def test_aaconv_without_tables_does_not_know_where_things_are():
    block, _, (x,) = made('AAConv')
    for table in (block.rel_height, block.rel_width):
        table.set_data(mx.nd.zeros(table.shape))

    def turned(x):
        return mx.nd.reverse(x, axis=(2, 3))

    def attention(x):
        return block(x)[:, 8:]

    assert error(turned(attention(turned(x))), attention(x)) <= 1e-5
    block.rel_width.set_data(tensor(block.rel_width.shape))
    assert error(turned(attention(turned(x))), attention(x)) > 1e-3


def test_aaconv_reads_its_input_channels_off_the_first_input():
    block = AAConv(12, 8, 4, (3, 4), heads=2)
    block.initialize()
    assert block(tensor((1, 5, 3, 4))).shape == (1, 12, 3, 4) and block.qkv.weight.shape == (20, 5, 1, 1)


def test_blocks_start_as_their_authors_networks_do_whatever_the_initializer():
    def value(make, name):
        block = make()
        block.initialize(mx.init.One())
        return parameters(block)[name].data().asnumpy()

    assert value(partial(AAConv, 64, 160, 8, 28, in_channels=64), 'rel_width').std() == pytest.approx(20**-0.5, rel=0.1)
    for make, name in (
        (partial(SE, 256), 'excite.2.weight'),
        (partial(GatherExcite, 256, 7), 'excite.0.weight'),
        (partial(SKConv, 128), 'select.4.weight'),
    ):
        assert value(make, name).std() == pytest.approx(0.01, rel=0.1)
    kernel = value(partial(ECA, 2048, 101), 'conv.weight')
    assert np.abs(kernel).max() <= 101**-0.5 and kernel.std() == pytest.approx((3 * 101) ** -0.5, rel=0.3)


# Parameter counts

COUNTS = [(partial(SE, c), n) for c, n in ((256, 8_464), (512, 33_312), (1024, 132_160), (2048, 526_464))]
COUNTS += [
    (partial(GatherExcite, c, side), n)
    for c, side, n in ((256, 56, 811_792), (512, 28, 435_744), (1024, 14, 334_912), (2048, 7, 630_912))
]
COUNTS += [(partial(ECA, 2048, 7), 7), (partial(LIP, 64), 36_992)]
COUNTS += [
    (partial(SharedLIP, p, i), n)
    for p, i, n in (
        (128, 256, 180_736 + 16_640 + 33_280),
        (256, 512, 213_504 + 33_280 + 66_560),
        (512, 1024, 279_040 + 66_560 + 133_120),
    )
]
COUNTS += [
    (partial(AAConv, p, 160, dv, side, in_channels=p), n)
    for p, dv, side, n in ((128, 8, 28, 182_488), (256, 24, 14, 624_248), (512, 48, 7, 2_329_352))
]
COUNTS += [(partial(SKConv, c), n) for c, n in ((128, 22_080), (256, 62_528), (512, 198_720), (1024, 790_656))]


def test_parameters_are_those_of_the_reference_networks():
    for make, count in COUNTS:
        assert trainable(make()) == count, make


# What is refused


@pytest.mark.parametrize('case, hybridize', [(case, i % 2 == 0) for i, case in enumerate(CASES)])
def test_a_map_that_the_block_was_not_made_for_is_refused(case, hybridize):
    block, _, inputs = made(case)
    if hybridize:
        block.hybridize()
    for wrong in ([x[0] for x in inputs], [x.reshape((0, 0, -1)) for x in inputs]):
        with refused('maps'):
            block(*wrong)
    if 'AAConv' not in case:
        with refused('channels|maps'):
            block(*(x[:, :2] for x in inputs))
    assert np.isfinite(block(*inputs).asnumpy()).all(), 'a refused call leaves the block as it was'


@pytest.mark.parametrize('case, hybridize', [('GatherExcite', True), ('AAConv', True), ('AAConv strided', False)])
def test_a_block_bound_to_one_size_refuses_the_others_and_says_which_it_takes(case, hybridize):
    block, _, (x,) = made(case)
    if hybridize:
        block.hybridize()
    height, width = x.shape[2:]
    for size in ((height + 1, width), (height, width + 2), (2 * height, 2 * width), (width, height), (1, 1)):
        if size != (8, 6) or case != 'AAConv strided':
            with refused(r'maps \(N, C, \d+, \d+\) only, got .*build it'):
                block(tensor((2, x.shape[1], *size)))


@pytest.mark.parametrize('case', ['GatherExcite', 'AAConv'])
def test_an_imported_block_bound_to_one_size_computes_nothing_for_another(case, tmp_path):
    block, _, (x,) = made(case)
    block.hybridize()
    block(x)
    block.export(str(tmp_path / 'block'))
    imported = mx.gluon.SymbolBlock.imports(
        str(tmp_path / 'block-symbol.json'), ['data'], str(tmp_path / 'block-0000.params')
    )
    height, width = x.shape[2:]
    for size in ((2 * height, 2 * width), (4 * height, width), (width, height), (1, 1), (1, width), (height, 1)):
        with pytest.raises(mx.MXNetError):
            imported(tensor((*x.shape[:2], *size))).wait_to_read()


def test_shared_lip_refuses_branches_of_two_sizes():
    block, _, (body, x) = made('SharedLIP')
    with refused('of one size, got'):
        block(body[:, :, 1:], x)
    with refused('of one size, got'):
        block(body[:1], x)


REFUSED = [
    (partial(SE, 0), 'channels must be'),
    (partial(SE, 16, 3), 'reduction 3'),
    (partial(GatherExcite, 16, 0), 'size must be'),
    (partial(GatherExcite, 16, (7,)), 'size must be .* pair'),
    (partial(GatherExcite, 16, None), 'size must be'),
    (partial(GatherExcite, 8, 7), 'reduction 16'),
    (partial(ECA, 16, 4), 'kernel_size must be odd'),
    (partial(ECA, 16, 0), 'kernel_size must be'),
    (partial(ECA, 'a'), 'channels must be'),
    (partial(LIP, 0), 'channels must be'),
    (partial(LIP, 16, 0), 'stride must be'),
    (partial(SharedLIP, 0, 16), 'body_channels must be'),
    (partial(SharedLIP, 16, 16, width=0), 'width must be'),
    (partial(AAConv, 16, 9, 8, 7), 'key_channels must be a multiple of the 8 heads'),
    (partial(AAConv, 16, 8, 9, 7), 'value_channels must be a multiple of the 8 heads'),
    (partial(AAConv, 8, 8, 8, 7), 'value_channels must be below the 8 channels'),
    (partial(AAConv, 16, 8, 8, '7'), 'size must be'),
    (partial(AAConv, 16, 8, 8, 7, heads=0), 'heads must be'),
    (partial(SKConv, 48), 'groups must divide the 48 channels'),
    (partial(SKConv, 64, groups=0), 'groups must'),
    (partial(SKConv, 64, min_width=0), 'min_width must be'),
    (partial(SKConv, 0), 'channels must be'),
]


def test_numbers_out_of_their_range_are_refused():
    for make, message in REFUSED:
        with refused(message):
            make()
