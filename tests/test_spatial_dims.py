"""Fusion blocks on sequences (N, C, T) and volumes (N, C, D, H, W): the functions that they are on images."""

from functools import partial

import mxnet as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mxnet import autograd
from mxnet.gluon import nn
from reference import error, filled, in_every_form, parameters, refused, tensor
from test_fusion import FORMULAS, arrays, weights

from gluon_aff import AFF, FUSIONS, IAFF, MSCAM, AlignedFusion, ChannelContext, MultiInputAFF
from gluon_aff.deploy import export_onnx
from gluon_aff.layers import kernels

SHARED = partial(IAFF, shared_global=True)
BLOCKS = {**FUSIONS, 'iaff_shared': SHARED, 'ms_cam': MSCAM, 'multi_input': MultiInputAFF}
INPUTS = {'ms_cam': 1}  # of a block; the others have two


def shared(p, x, y):
    """iAFF whose second round uses the first one's global context."""
    first = {name: value for name, value in p.items() if name.startswith('global_att.')}
    return FORMULAS['iaff']({**p, **{name.replace('.', '2.', 1): value for name, value in first.items()}}, x, y)


FORMULA = {**FORMULAS, 'iaff_shared': shared, 'multi_input': FORMULAS['aff'], 'ms_cam': lambda p, x: x * weights(p, x)}
SIDES = {1: (7,), 2: (5, 4), 3: (3, 2, 4)}

by_name = pytest.mark.parametrize('name', BLOCKS)
by_dims = pytest.mark.parametrize('dims', [1, 3])


def inputs(name, shape, dtype='float32'):
    return [tensor(shape, seed).astype(dtype) for seed in range(INPUTS.get(name, 2))]


def step(block, maps, cotangent, training):
    """(output, gradients of the maps and of the trainable parameters by name) of sum(output * cotangent)."""
    for x in maps:
        x.attach_grad()
    with autograd.record(train_mode=training):
        z = block(*maps)
        loss = (z * cotangent).sum()
    loss.backward(train_mode=training)
    grads = {name: p.grad().copy() for name, p in parameters(block).items() if p.grad_req != 'null'}
    return z.asnumpy(), {**{i: x.grad.copy() for i, x in enumerate(maps)}, **grads}


@st.composite
def maps_of_any_rank(draw):
    """A reduction and the shape of a map that it fits, of one to three spatial axes."""
    reduction = draw(st.sampled_from([1, 2, 4]))
    sides = draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
    return reduction, (draw(st.integers(1, 3)), reduction * draw(st.integers(1, 4)), *sides)


@given(
    name=st.sampled_from(sorted(BLOCKS)),
    size=maps_of_any_rank(),
    dtype=st.sampled_from(['float32', 'float64']),
    hybridize=st.booleans(),
    say=st.booleans(),
)
@settings(max_examples=40)
def test_a_block_computes_its_formula_on_maps_of_any_rank_and_type(name, size, dtype, hybridize, say):
    reduction, shape = size
    block = filled(BLOCKS[name](shape[1], reduction=reduction, spatial_dims=len(shape) - 2 if say else 0))
    block.cast(dtype)
    expected = FORMULA[name](arrays(block), *(x.asnumpy().astype('float64') for x in inputs(name, shape, dtype)))
    if hybridize:
        block.hybridize()
    z = block(*inputs(name, shape, dtype))
    assert z.dtype == np.dtype(dtype) and error(z, expected) <= (1e-5 if dtype == 'float32' else 1e-12)


@by_name
@pytest.mark.parametrize('dims', SIDES)
def test_gradients_are_those_of_the_formula(name, dims):
    """The derivative along a random direction of each input and parameter, by central differences in float64."""
    shape = (2, 8, *SIDES[dims])
    block, maps, cotangent = filled(BLOCKS[name](8)), inputs(name, shape), tensor(shape, 9)
    block.hybridize()
    _, grads = step(block, maps, cotangent, training=False)
    values = {**dict(enumerate(x.asnumpy().astype('float64') for x in maps)), **arrays(block)}

    def loss(values):
        named = {key: value for key, value in values.items() if isinstance(key, str)}
        return (FORMULA[name](named, *(values[i] for i in range(len(maps)))) * cotangent.asnumpy()).sum()

    random = np.random.RandomState(0)
    for key, grad in grads.items():
        direction, grad = random.standard_normal(values[key].shape), grad.asnumpy().astype('float64')
        direction += np.sign((direction * grad).sum()) * grad / max(np.abs(grad).max(), 1e-12)  # not across it
        above, below = (loss({**values, key: values[key] + sign * 1e-6 * direction}) for sign in (1, -1))
        assert abs((above - below) / 2e-6 - (grad * direction).sum()) <= 1e-4 * np.abs(grad * direction).sum(), key


@by_name
@by_dims
def test_training_is_that_of_the_same_positions_as_an_image(name, dims):
    shape = (6, 8, *SIDES[dims])
    image, block = (filled(BLOCKS[name](8)) for _ in range(2))
    block.hybridize(static_alloc=True)
    image.cast('float64')
    maps, cotangent = inputs(name, shape), tensor(shape, 9)
    flat = (6, 8, 1, -1)
    expected, expected_grads = step(
        image, [x.astype('float64').reshape(flat) for x in maps], cotangent.astype('float64').reshape(flat), True
    )
    z, grads = step(block, maps, cotangent, True)
    assert error(z.reshape(expected.shape), expected) <= 1e-5
    # A bias in front of a norm has no gradient but rounding errors.
    largest = max(abs(grad.asnumpy()).max() for grad in expected_grads.values())
    for key, grad in expected_grads.items():
        actual = grads[key].asnumpy().reshape(grad.shape)
        assert abs(actual - grad.asnumpy()).max() <= 1e-4 * largest, key
    for key, p in parameters(image).items():
        assert p.shape == parameters(block)[key].shape
        if p.grad_req == 'null':
            assert error(parameters(block)[key].data(), p.data()) <= 1e-5, key


@by_name
@by_dims
def test_a_block_is_one_function_hybridized_exported_and_on_symbols(name, dims, tmp_path):
    shape = (2, 8, *SIDES[dims])
    maps = inputs(name, shape)
    others = [x[:1, :, 1:] for x in maps]
    outputs = in_every_form(filled(BLOCKS[name](8)), tmp_path, maps, others)
    for form, actual in outputs.items():
        for z, expected in zip(actual, outputs['eager']):
            assert error(z, expected) <= 1e-6, form
    symbol = BLOCKS[name](8, spatial_dims=dims)(*(mx.sym.var(f'x{i}') for i in range(len(maps))))
    assert symbol.infer_shape(**{f'x{i}': shape for i in range(len(maps))})[1] == [shape]


class Network(nn.HybridBlock):
    """Two convolutions of the input, and a fusion of theirs."""

    def __init__(self, dims, fuse):
        super().__init__()
        convolution = {1: nn.Conv1D, 2: nn.Conv2D, 3: nn.Conv3D}[dims]
        with self.name_scope():
            self.first, self.second = (convolution(8, 3, padding=1, in_channels=2) for _ in range(2))
            self.fuse = fuse

    def hybrid_forward(self, F, x):
        maps = self.first(x), self.second(x)
        if isinstance(self.fuse, AlignedFusion):
            return self.fuse(maps[0], F.concat(maps[1], maps[1], dim=2))
        return self.fuse(*maps[: 1 if isinstance(self.fuse, MSCAM) else 2])


@pytest.mark.parametrize(
    'name, dims', [*((name, dims) for name in (*BLOCKS, 'aligned') for dims in (1, 3)), ('multi_input', 2)]
)
def test_onnx_files_compute_it_at_every_size(name, dims, tmp_path):
    runtime = pytest.importorskip('onnxruntime')
    make = {**BLOCKS, 'aligned': partial(AlignedFusion, in_channels=8)}[name]
    net, path = filled(Network(dims, make(8, spatial_dims=dims))), str(tmp_path / 'net.onnx')
    export_onnx(net, path, (2, *SIDES[dims]))
    session = runtime.InferenceSession(path, providers=['CPUExecutionProvider'])
    assert session.get_inputs()[0].shape == ['N', 2, *{1: 'T', 2: 'HW', 3: 'DHW'}[dims]]
    for shape in ((3, 2, *SIDES[dims]), (1, 2, *(side + 3 for side in SIDES[dims]))):
        x = tensor(shape)
        assert error(session.run(None, {'data': x.asnumpy()})[0], net(x)) <= 1e-5


@pytest.mark.skipif(not kernels.available(), reason='built where a C++ compiler, MXNet and AVX2 are')
@pytest.mark.parametrize('dims', SIDES)
def test_the_compiled_operators_serve_all(dims, monkeypatch):
    traced, modulate = [], kernels.modulate
    monkeypatch.setattr(kernels, 'modulate', lambda *args: traced.append(args) or modulate(*args))
    block, maps = filled(IAFF(8)), inputs('iaff', (2, 8, *SIDES[dims]))
    expected = block(*maps)
    block.hybridize()
    assert error(block(*maps), expected) <= 1e-6 and len(traced) == 2


@by_dims
def test_a_parent_hybridized_before_its_first_forward_says_the_number_of_axes(dims):
    net = Network(dims, AFF(8, spatial_dims=dims))
    net.initialize()
    x = tensor((2, 2, *SIDES[dims]))
    net.hybridize()
    z, grads = step(net, [x], tensor((2, 8, *SIDES[dims]), 9), training=False)
    net.hybridize(False)
    expected, expected_grads = step(net, [x], tensor((2, 8, *SIDES[dims]), 9), training=False)
    assert error(z, expected) <= 1e-6
    largest = max(abs(grad.asnumpy()).max() for grad in expected_grads.values())
    for key, grad in expected_grads.items():
        assert abs((grads[key] - grad).asnumpy()).max() <= 1e-4 * largest, key
    # One that has seen an array knows it.
    net = Network(dims, AFF())
    net.initialize()
    z = net(x)
    net.hybridize()
    assert error(net(x), z) <= 1e-6


def test_a_context_keeps_the_number_of_axes():
    for sides in SIDES.values():
        for scale, size in (('local', sides), ('global', (1,) * len(sides))):
            block, x = filled(ChannelContext(8, scale=scale, outputs=3)), tensor((2, 8, *sides))
            expected = block(x)
            assert expected.shape == (2, 24, *size)
            block.hybridize()
            assert error(block(x), expected) <= 1e-6


def test_another_number_of_axes_is_refused():
    block, x = filled(AFF(8)), tensor((2, 8, 7))
    assert block(x, x).shape == x.shape
    with refused(r'takes feature maps \(N, C, T\) of one shape'):
        block(tensor((2, 8, 7, 1)), tensor((2, 8, 7, 1)))
    with refused(r'takes feature maps \(N, C, D, H, W\) of one shape'):
        filled(AFF(8, spatial_dims=3))(x, x)
    for shape in ((2, 8), (2, 8, 1, 1, 1, 1)):
        with refused('feature maps'):
            filled(AFF(8))(mx.nd.zeros(shape), mx.nd.zeros(shape))
    for dims in (4, -1, 1.5, '1', None):
        with refused('spatial_dims must be 1, 2 or 3'):
            AFF(8, spatial_dims=dims)


def test_iaff_with_a_shared_global_context_has_no_second_one():
    names = [name for name in parameters(IAFF(8)) if not name.startswith('global_att2.')]
    assert list(parameters(SHARED(8))) == names
