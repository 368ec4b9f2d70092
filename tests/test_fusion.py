"""The fusion blocks: their formulas, their shapes, their life as Gluon blocks, and what they refuse."""

from functools import partial

import mxnet as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mxnet import autograd
from mxnet.gluon import nn
from reference import DATA, error, filled, in_every_form, parameters, refused, tensor, trainable

from gluon_aff import AFF, FUSIONS, IAFF, MSCAM, Add, ChannelContext, Concat, Fusion, HalfAFF, RecursiveAFF, get_fusion
from model_zoo.hosts.cifar_resnet import CifarResNet
from model_zoo.hosts.cifar_resnext import CifarResNeXt
from model_zoo.hosts.resnet import ResNet
from model_zoo.hosts.resnext import ResNeXt

SCALES = [('local', 'global'), ('global', 'local'), ('local', 'local'), ('global', 'global')]
SHAPE = (2, 16, 5, 4)
X, Y = tensor(SHAPE, 0), tensor(SHAPE, 1)

by_name = pytest.mark.parametrize('name', FUSIONS)
# One fusion for each way in which a block sets its widths.
by_widths = pytest.mark.parametrize('name', ['aff', 'sk', 'concat_aff', 'recursive_aff'])


@st.composite
def sizes(draw):
    """A reduction and the shape of a feature map that it fits."""
    reduction = draw(st.sampled_from([1, 2, 4, 16]))
    return reduction, (
        draw(st.integers(1, 3)),
        reduction * draw(st.integers(1, 5)),
        draw(st.integers(1, 9)),
        draw(st.integers(1, 9)),
    )


# Reference figures

BLOCKS = {
    'aff': AFF,
    'iaff': IAFF,
    'aff_local_local': partial(AFF, scales=('local', 'local')),
    'aff_global_global': partial(AFF, scales=('global', 'global')),
}


@pytest.mark.parametrize('name', BLOCKS)
def test_outputs_and_input_gradients_are_the_reference_ones(name):
    figures = np.load(DATA / 'fusion.npz')
    shape, step = (16, 32, 8, 6), figures['step']
    block, x, y = filled(BLOCKS[name](channels=32, reduction=4)), tensor(shape, 0), tensor(shape, 1)

    def difference(array, figure):
        return error(array.asnumpy().ravel()[::step], figures[f'{name}/{figure}'])

    assert difference(block(x, y), 'z') <= 1e-5
    x.attach_grad()
    y.attach_grad()
    with autograd.record():
        z = block(x, y)
        loss = (z * tensor(shape, 2)).sum()
    loss.backward()
    assert difference(z, 'train_z') <= 1e-5
    assert difference(x.grad, 'grad_x') <= 1e-4
    assert difference(y.grad, 'grad_y') <= 1e-4


# Formulas, in numpy


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def channelwise(values, x):
    """Values of channels, with as many axes behind as a map x has."""
    return values.reshape(-1, *[1] * (x.ndim - 2))


def normalise(p, layer, x):
    gamma, beta, mean, var = (
        channelwise(p[f'{layer}.{leaf}'], x) for leaf in ('gamma', 'beta', 'running_mean', 'running_var')
    )
    return (x - mean) / np.sqrt(var + 1e-5) * gamma + beta


def pointwise(p, layer, x):
    """The 1x1 convolution of a map x (N, C, ...), without its bias."""
    return np.einsum('oi,ni...->no...', p[f'{layer}.weight'][..., 0, 0], x)


def context(p, name, x, pooled):
    if pooled:
        x = x.mean(tuple(range(2, x.ndim)), keepdims=True)
    conv1, norm1, _, conv2, norm2 = (f'{name}.{i + pooled}' for i in range(5))
    x = pointwise(p, conv1, x) + channelwise(p[f'{conv1}.bias'], x)
    x = np.maximum(normalise(p, norm1, x), 0)
    x = pointwise(p, conv2, x) + channelwise(p[f'{conv2}.bias'], x)
    return normalise(p, norm2, x)


def weights(p, x, suffix='', scales=('local', 'global')):
    """M(x)."""
    return sigmoid(
        sum(context(p, name + suffix, x, scale == 'global') for name, scale in zip(('local_att', 'global_att'), scales))
    )


def select(m, x, y):
    return m * x + (1 - m) * y


def sk(p, x, y):
    logits = np.exp(context(p, 'global_att', x + y, True))
    a, b = np.split(logits, 2, axis=1)
    return 2 * (a * x + b * y) / (a + b)


def contexts(p, x):
    """The local and the global context of x, as maps of its shape."""
    return context(p, 'local_att', x, False), np.broadcast_to(context(p, 'global_att', x, True), x.shape)


def half(p, x):
    local, pooled = contexts(p, x)
    return sigmoid(local / 2 + pooled / 2)


def concatenated(p, x):
    weight = np.concatenate([p['local_conv.weight'], p['global_conv.weight']], 1)
    return sigmoid(pointwise({'conv.weight': weight}, 'conv', np.concatenate(contexts(p, x), 1)))


def recursive(p, x):
    local, pooled = contexts(p, x)
    inner = {name[len('fuse.') :]: value for name, value in p.items() if name.startswith('fuse.')}
    return sigmoid(2 * select(weights(inner, local + pooled), local, pooled))


FORMULAS = {
    'add': lambda p, x, y: x + y,
    'concat': lambda p, x, y: pointwise(p, 'conv', normalise(p, 'bn', np.concatenate([x, y], 1))),
    'aff': lambda p, x, y: 2 * select(weights(p, x + y), x, y),
    'iaff': lambda p, x, y: select(weights(p, select(weights(p, x + y), x, y), '2'), x, y),
    'ms_gau': lambda p, x, y: weights(p, y) * x + y,
    'ms_se': lambda p, x, y: x + weights(p, y) * y,
    'ms_sa': lambda p, x, y: weights(p, x + y) * x + y,
    'highway': lambda p, x, y: select(weights(p, x), x, y),
    'sk': sk,
    'global_aff': lambda p, x, y: 2 * select(weights(p, x + y, scales=('global', 'global')), x, y),
    'local_aff': lambda p, x, y: 2 * select(weights(p, x + y, scales=('local', 'local')), x, y),
    'half_aff': lambda p, x, y: 2 * select(half(p, x + y), x, y),
    'concat_aff': lambda p, x, y: 2 * select(concatenated(p, x + y), x, y),
    'recursive_aff': lambda p, x, y: 2 * select(recursive(p, x + y), x, y),
}


def arrays(block):
    return {name: p.data().asnumpy().astype('float64') for name, p in parameters(block).items()}


def test_every_fusion_has_a_formula_here():
    assert FORMULAS.keys() == FUSIONS.keys()


@by_name
def test_fusion_computes_its_formula(name):
    block = filled(FUSIONS[name](channels=16, reduction=4))
    expected = FORMULAS[name](arrays(block), *(a.asnumpy().astype('float64') for a in (X, Y)))
    assert error(block(X, Y), expected) <= 1e-5
    assert error(block(Y, X), expected) > 1e-2 or name == 'add', 'x and y have places of their own'


@pytest.mark.parametrize('scales', SCALES)
def test_mscam_multiplies_its_input_by_its_weights(scales):
    block, x = filled(MSCAM(16, reduction=2, scales=scales)), X.asnumpy().astype('float64')
    expected = weights(arrays(block), x, scales=scales)
    assert error(block(X), x * expected) <= 1e-5
    assert error(block.weights(mx.nd, X), np.broadcast_to(expected, x.shape)) <= 1e-5


@by_name
def test_residual_gives_the_learned_branch_to_m_in_aff_and_its_variants_and_the_identity_to_x_elsewhere(name):
    block, body, identity = filled(FUSIONS[name](16)), X, Y
    expected = block(body, identity) if name.endswith('aff') else block(identity, body)
    assert error(block.residual(body, identity), expected) == 0


# Properties


@given(name=st.sampled_from(sorted(FUSIONS)), size=sizes())
def test_output_has_the_shape_of_the_inputs(name, size):
    reduction, shape = size
    z = filled(FUSIONS[name](shape[1], reduction=reduction))(tensor(shape, 0), tensor(shape, 1))
    assert z.shape == shape and np.isfinite(z.asnumpy()).all()


@given(size=sizes(), scales=st.sampled_from(SCALES))
def test_weights_lie_strictly_between_0_and_1(size, scales):
    reduction, shape = size
    m = filled(MSCAM(shape[1], reduction=reduction, scales=scales)).weights(mx.nd, tensor(shape)).asnumpy()
    assert m.shape == shape
    assert (0 < m).all() and (m < 1).all()


@given(size=sizes(), block=st.sampled_from([AFF, IAFF, MSCAM, HalfAFF, RecursiveAFF]))
def test_context_scales_have_equal_parameter_counts(size, block):
    reduction, (_, channels, _, _) = size
    squeezed = channels // reduction
    context = 2 * channels * squeezed + squeezed + channels + 2 * squeezed + 2 * channels
    expected = 2 * context * (2 if block in (IAFF, RecursiveAFF) else 1)
    assert [trainable(block(channels, reduction=reduction, scales=scales)) for scales in SCALES] == [expected] * 4


@given(
    size=sizes(),
    name=st.sampled_from(['aff', 'sk', 'global_aff', 'local_aff', 'half_aff', 'concat_aff', 'recursive_aff']),
)
def test_with_even_weights_the_fusion_is_an_addition(name, size):
    reduction, shape = size
    block = filled(FUSIONS[name](shape[1], reduction=reduction))
    for context in (child for child in block._children.values() if isinstance(child, ChannelContext)):
        last = list(context._children.values())[-1]
        last.gamma.set_data(mx.nd.zeros(last.gamma.shape))
        last.beta.set_data(mx.nd.zeros(last.beta.shape))
    x, y = tensor(shape, 0), tensor(shape, 1)
    np.testing.assert_allclose(block(x, y).asnumpy(), (x + y).asnumpy(), atol=1e-6)


def test_a_global_context_is_one_value_per_channel_and_outputs_stack_along_the_channels():
    for scale, size in (('local', SHAPE[2:]), ('global', (1, 1))):
        assert filled(ChannelContext(16, scale=scale, outputs=3))(X).shape == (2, 48, *size)


@by_name
def test_hybridized_exported_and_imported_block_computes_the_same(name, tmp_path):
    outputs = in_every_form(filled(FUSIONS[name](16)), tmp_path, (X, Y), (X[:1, :, 1:], Y[:1, :, 1:]))
    for form, actual in outputs.items():
        for z, expected in zip(actual, outputs['eager']):
            assert error(z, expected) <= 1e-6, form


@by_name
def test_block_on_symbols_is_one_symbol_of_the_shape_of_the_inputs(name):
    z = FUSIONS[name](16)(mx.sym.var('x'), mx.sym.var('y'))
    assert len(z.list_outputs()) == 1
    assert z.infer_shape(x=SHAPE, y=SHAPE)[1] == [SHAPE]


# Channels read off the first input


@by_name
def test_unknown_channels_are_those_of_the_first_input(name):
    known = filled(FUSIONS[name](channels=16))
    for hybridize in (False, True):
        block = FUSIONS[name]()
        block.initialize()
        if hybridize:
            block.hybridize()
        assert block(X, Y).shape == SHAPE
        assert {key: p.shape for key, p in parameters(block).items()} == {
            key: p.shape for key, p in parameters(known).items()
        }
        filled(block)
        assert error(block(X, Y), known(X, Y)) <= 1e-6


@by_name
def test_saved_parameters_load_into_a_block_of_known_and_of_unknown_channels(name, tmp_path):
    block, path = filled(FUSIONS[name](channels=16)), str(tmp_path / 'block.params')
    block.save_parameters(path)
    for channels in (0, 16):
        other = FUSIONS[name](channels=channels)
        other.load_parameters(path)
        assert error(other(X, Y), block(X, Y)) == 0


@by_widths
def test_a_block_loaded_with_unknown_channels_refuses_another_number_of_them(name, tmp_path):
    block, path = filled(FUSIONS[name](channels=32)), str(tmp_path / 'block.params')
    block.save_parameters(path)
    other = FUSIONS[name]()
    other.load_parameters(path)
    with refused('32'):
        other(X, Y)


class Parent(nn.HybridBlock):
    """A network that fuses by a block of unknown channels."""

    def __init__(self, name, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.x = nn.Conv2D(16, 3, padding=1)
            self.y = nn.Conv2D(16, 5, padding=2)
            self.fuse = FUSIONS[name]()

    def hybrid_forward(self, F, x):
        return self.fuse(self.x(x), self.y(x))


@by_widths
def test_a_parent_initialises_a_block_of_unknown_channels_and_can_be_hybridized_after_its_first_forward(name):
    parent = Parent(name)
    parent.initialize()
    eager = parent(X)
    parent.hybridize()
    assert error(parent(X), eager) <= 1e-6


@by_widths
def test_unknown_channels_inside_a_parent_hybridized_before_its_first_forward_are_refused(name):
    parent = Parent(name)
    parent.initialize()
    parent.hybridize()
    with refused('does not know its channels'):
        parent(X)


# Settings


class Norm(nn.BatchNorm):
    """BatchNorm that remembers what it was made with."""

    def __init__(self, **kwargs):
        self.made_with = kwargs
        super().__init__(**kwargs)


def norms(block):
    actual = []
    block.apply(lambda child: actual.append(child) if isinstance(child, nn.BatchNorm) else None)
    return actual


@pytest.mark.parametrize('make', [*(f for f in FUSIONS.values() if f is not Add), MSCAM, ChannelContext])
def test_norm_layer_and_norm_kwargs_reach_every_context(make):
    kwargs = {'use_global_stats': True, 'epsilon': 1e-3}
    block = make(channels=16, norm_layer=Norm, norm_kwargs=kwargs)
    assert len(norms(block)) == len(norms(make(channels=16))) > 0
    for norm in norms(block):
        assert isinstance(norm, Norm)
        assert norm.made_with['use_global_stats'] is True and norm.made_with['epsilon'] == 1e-3
    assert kwargs == {'use_global_stats': True, 'epsilon': 1e-3}, "the caller's dict stays as it is"


@by_name
def test_float16_keeps_the_norms_in_float32_and_survives_a_save(name, tmp_path):
    block, path = filled(FUSIONS[name](16)), str(tmp_path / 'block.params')
    block.cast('float16')
    z = block(mx.sym.var('x'), mx.sym.var('y'))
    arguments, outputs, _ = z.infer_type(x='float16', y='float16')
    assert outputs == [np.float16]
    types = dict(zip(z.list_arguments(), arguments))
    assert {types[p.name] for p in block.collect_params('.*gamma|.*beta').values()} <= {np.float32}
    assert {types[p.name] for p in block.collect_params('.*weight|.*bias').values()} <= {np.float16}
    block.save_parameters(path)
    other = FUSIONS[name](16)
    other.cast('float16')
    other.load_parameters(path)
    for (key, p), q in zip(parameters(block).items(), parameters(other).values()):
        assert p.data().dtype == q.data().dtype and error(q.data(), p.data()) == 0, key


@pytest.mark.gpu
@pytest.mark.skipif(mx.context.num_gpus() == 0, reason='MXNet convolves in float16 on GPUs only')
@by_widths
def test_float16_forward(name):
    block, x, y = filled(FUSIONS[name](16)), X.as_in_context(mx.gpu()), Y.as_in_context(mx.gpu())
    block.collect_params().reset_ctx(mx.gpu())
    expected = block(x, y)
    block.cast('float16')
    z = block(x.astype('float16'), y.astype('float16'))
    assert z.dtype == np.float16 and error(z, expected) <= 1e-2


# get_fusion


def test_get_fusion_finds_a_name_in_any_case():
    assert [get_fusion(name) for name in FUSIONS] == list(FUSIONS.values())
    assert get_fusion('IAFF') is IAFF and get_fusion('Ms_Se') is FUSIONS['ms_se']


def test_unknown_fusion_is_refused_with_the_nearest_names():
    with refused('did you mean ms_gau'):
        get_fusion('ms_gua')
    with refused('Known: add, aff, concat'):
        get_fusion('nothing like it')


def test_get_fusion_returns_a_callable_as_it_is():
    make = partial(AFF, scales=('global', 'global'))
    assert get_fusion(make) is make and get_fusion(Concat) is Concat


@pytest.mark.parametrize(
    'host, layers', [(ResNet, (1,) * 4), (ResNeXt, (1,) * 4), (CifarResNet, (1,) * 3), (CifarResNeXt, (1,) * 3)]
)
def test_hosts_take_a_callable_as_their_fusion(host, layers):
    net = host(layers, classes=2, fusion=partial(AFF, scales=('global', 'global')), start_stage=3)
    contexts, fusions = [], []
    net.apply(lambda child: contexts.append(child.scale) if isinstance(child, ChannelContext) else None)
    net.apply(lambda child: fusions.append(child) if isinstance(child, Fusion) else None)
    attention = len(layers) - 2
    assert contexts == ['global'] * 2 * attention
    assert all(isinstance(fuse, Add) for fuse in fusions[:2])
    assert [type(fuse) for fuse in fusions[2:]] == [AFF] * attention


# What is refused


@by_widths
def test_a_reduction_that_does_not_divide_the_channels_is_refused(name):
    with refused('reduction 3'):
        FUSIONS[name](channels=16, reduction=3)
    block = FUSIONS[name](reduction=3)
    block.initialize()
    with refused('reduction 3'):
        block(X, Y)


@by_widths
def test_fewer_channels_than_the_reduction_are_refused(name):
    with refused('squeeze 2 channels by reduction 4'):
        FUSIONS[name](channels=2)


@pytest.mark.parametrize('name', ['add', 'concat'])
def test_a_fusion_that_squeezes_nothing_takes_any_reduction(name):
    assert filled(FUSIONS[name](channels=16, reduction=3))(X, Y).shape == SHAPE


@pytest.mark.parametrize('make', [AFF, Add, Concat, MSCAM, ChannelContext])
def test_sizes_that_are_no_positive_whole_number_are_refused(make):
    for channels in (-16, 1.5, 16.0, '16', None, True):
        with refused('channels must be a positive whole number'):
            make(channels=channels)
    for reduction in (0, -4, 2.0, '4', None, True):
        with refused('reduction must be a positive whole number'):
            make(channels=16, reduction=reduction)


@pytest.mark.parametrize('make', [AFF, IAFF, MSCAM])
def test_unknown_scales_are_refused(make):
    for scales in ('local', ('local',), ('local', 'regional'), ('local', 'global', 'local'), None, 2):
        with refused('scale'):
            make(channels=16, scales=scales)


def test_unknown_scale_of_a_context_is_refused():
    with refused("local or global, got 'regional'"):
        ChannelContext(16, scale='regional')


@pytest.mark.parametrize('name, hybridize', [('add', False), ('concat', True), ('iaff', True), ('sk', False)])
@pytest.mark.parametrize('channels', [0, 16])
def test_inputs_of_unequal_shapes_or_without_spatial_axes_are_refused(name, hybridize, channels):
    block = FUSIONS[name](channels=channels)
    block.initialize()
    if hybridize:
        block.hybridize()
    for x, y in ((X, Y[:, :, :2]), (X, Y[:1]), (X, Y[:, :8]), (X[:, :, 0, 0], Y[:, :, 0, 0]), (X, Y.flatten())):
        with refused('feature maps'):
            block(x, y)
    assert block(X, Y).shape == SHAPE, 'a refused call leaves the block as it was'


@pytest.mark.parametrize('name, hybridize', [('add', False), ('concat', True), ('iaff', True), ('sk', False)])
def test_another_number_of_channels_is_refused(name, hybridize):
    block = filled(FUSIONS[name](channels=32))
    if hybridize:
        block.hybridize()
    with refused('32 channels, but its input .* has 16'):
        block(X, Y)


@pytest.mark.parametrize('make', [MSCAM, ChannelContext])
def test_attention_refuses_an_input_without_spatial_axes_or_of_other_channels(make):
    block = filled(make(16))
    with refused('feature maps'):
        block(X[:, :, 0, 0])
    with refused('16 channels, but its input'):
        block(X[:, :8])
