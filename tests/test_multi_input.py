"""Fusion of more than two maps, and of maps of different shape."""

import cv2
import mxnet as mx
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from mxnet import autograd
from reference import error, filled, in_every_form, parameters, refused, tensor, trainable

from gluon_aff import AFF, FUSIONS, AlignedFusion, MultiInputAFF

SCALES = [('local', 'global'), ('global', 'local'), ('local', 'local'), ('global', 'global')]
SHAPE = (2, 16, 5, 4)
every_scales = pytest.mark.parametrize('scales', SCALES)


def gradients(block, inputs):
    """Of a training step: by input, then by parameter name."""
    for x in inputs:
        x.attach_grad()
    with autograd.record():
        z = block(*inputs)
        loss = (z * tensor(z.shape, 9)).sum()
    loss.backward()
    return [x.grad.copy() for x in inputs], {
        name: p.grad() for name, p in parameters(block).items() if p.grad_req != 'null'
    }


def maps(n, shape=SHAPE):
    return [tensor(shape, seed) for seed in range(n)]


# Any number of inputs


@every_scales
def test_of_two_inputs_it_is_aff_with_the_same_parameters(scales, tmp_path):
    aff, path = filled(AFF(16, reduction=4, scales=scales)), str(tmp_path / 'aff.params')
    aff.save_parameters(path)
    block = MultiInputAFF(16, inputs=2, reduction=4, scales=scales)
    block.load_parameters(path)
    assert {k: p.shape for k, p in parameters(block).items()} == {k: p.shape for k, p in parameters(aff).items()}
    assert error(block(*maps(2)), aff(*maps(2))) <= 1e-6

    # A local context's batch has as many values for a channel as the maps; a global one's needs a larger batch.
    shape = (16, 16, 5, 4)
    (of_inputs, of_parameters), (expected_inputs, expected_parameters) = (
        gradients(b, maps(2, shape)) for b in (block, aff)
    )
    assert max(error(actual, e) for actual, e in zip(of_inputs, expected_inputs)) <= 1e-4
    largest = max(abs(e.asnumpy()).max() for e in expected_parameters.values())
    for name, expected in expected_parameters.items():
        assert np.abs(of_parameters[name].asnumpy() - expected.asnumpy()).max() <= 1e-4 * largest, name


@every_scales
@pytest.mark.parametrize('n', [3, 5])
def test_of_more_inputs_it_is_the_softmax_over_their_contexts_and_zero(scales, n):
    block, inputs = filled(MultiInputAFF(16, inputs=n, scales=scales)), maps(n)
    total = sum(inputs)
    logits = mx.nd.broadcast_add(block.local_att(total), block.global_att(total)).asnumpy().astype('float64')
    logits = [np.broadcast_to(part, SHAPE) for part in np.split(logits, n - 1, axis=1)] + [np.zeros(SHAPE)]
    share = np.exp(logits) / np.exp(logits).sum(0)
    expected = n * sum(w * x.asnumpy() for w, x in zip(share, inputs))
    assert error(block(*inputs), expected) <= 1e-5
    assert error(block(*inputs[::-1]), expected) > 1e-2


@given(
    n=st.integers(2, 6),
    reduction=st.sampled_from([1, 2, 4]),
    channels=st.sampled_from([4, 8, 12]),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
)
def test_weights_add_up_to_one_and_even_ones_make_an_addition(n, reduction, channels, height, width):
    block, inputs = filled(MultiInputAFF(channels, n, reduction)), maps(n, (2, channels, height, width))
    np.testing.assert_allclose(block(*n * [inputs[0]]).asnumpy(), n * inputs[0].asnumpy(), rtol=1e-4, atol=1e-5)
    for context in (block.local_att, block.global_att):
        last = list(context._children.values())[-1]
        last.gamma.set_data(mx.nd.zeros(last.gamma.shape))
        last.beta.set_data(mx.nd.zeros(last.beta.shape))
    np.testing.assert_allclose(block(*inputs).asnumpy(), sum(inputs).asnumpy(), atol=1e-5)


@every_scales
def test_every_input_and_parameter_of_a_fusion_of_three_has_a_gradient(scales):
    of_inputs, of_parameters = gradients(filled(MultiInputAFF(16, inputs=3, scales=scales)), maps(3, (4, 16, 5, 4)))
    for gradient in [*of_inputs, *(g for name, g in of_parameters.items() if not name.endswith('bias'))]:
        assert np.isfinite(gradient.asnumpy()).all() and gradient.asnumpy().any()


def test_context_scales_of_a_fusion_of_three_have_equal_parameter_counts():
    assert len({trainable(MultiInputAFF(16, inputs=3, scales=scales)) for scales in SCALES}) == 1


@every_scales
def test_fusion_of_three_is_one_function_in_every_form(scales, tmp_path):
    block = filled(MultiInputAFF(16, inputs=3, scales=scales))
    outputs = in_every_form(block, tmp_path, maps(3), [m[:1, :, 1:] for m in maps(3)])
    for form, actual in outputs.items():
        assert max(error(z, expected) for z, expected in zip(actual, outputs['eager'])) <= 1e-6, form


def test_unknown_channels_of_a_fusion_of_three_are_those_of_the_first_input():
    block = MultiInputAFF(inputs=3)
    block.initialize()
    assert block(*maps(3)).shape == SHAPE
    expected = {key: p.shape for key, p in parameters(MultiInputAFF(16, inputs=3)).items()}
    assert {key: p.shape for key, p in parameters(block).items()} == expected


def test_wrong_inputs_of_a_fusion_of_three_are_refused():
    block = filled(MultiInputAFF(16, inputs=3))
    with refused('made for 3 inputs, got 2'):
        block(*maps(2))
    with refused('feature maps'):
        block(*maps(2), tensor((2, 16, 5, 5)))
    with refused('two inputs or more'):
        MultiInputAFF(16, inputs=1)
    for inputs in (0, 2.0, None):
        with refused('inputs must be a positive whole number'):
            MultiInputAFF(16, inputs=inputs)
    with refused('scale'):
        MultiInputAFF(16, inputs=3, scales=('local', 'regional'))
    with refused('reduction 3'):
        MultiInputAFF(16, inputs=3, reduction=3)


# Inputs of different shape

sides = st.integers(1, 9)


def resized(y, height, width):
    """OpenCV's bilinear resizing of (N, C, h, w)."""
    return np.stack(
        [[cv2.resize(m, (width, height), interpolation=cv2.INTER_LINEAR) for m in image] for image in y.asnumpy()]
    )


@given(height=sides, width=sides, h=sides, w=sides)
def test_x_is_convolved_to_the_channels_of_y_and_y_resized_to_the_size_of_x(height, width, h, w):
    block, x, y = filled(AlignedFusion(6, 4, fusion='add')), tensor((2, 4, height, width)), tensor((2, 6, h, w), 1)
    weight = parameters(block)['expand.weight'].data().asnumpy()[..., 0, 0]
    # Where several rows or columns shrink to a single one, MXNet takes the first, unlike OpenCV.
    assume((height > 1 or h == 1) and (width > 1 or w == 1))
    expected = np.einsum('oi,nihw->nohw', weight, x.asnumpy()) + resized(y, height, width)
    assert error(block(x, y), expected) <= 1e-5


def linear(y, axis, size):
    """Linear resizing of one axis by the centres of pixels, with the last ones repeated beyond them."""
    at = (np.arange(size) + 0.5) * y.shape[axis] / size - 0.5
    return np.apply_along_axis(lambda row: np.interp(at, np.arange(len(row)), row), axis, y)


@settings(max_examples=12)
@given(to=st.lists(st.integers(2, 6), min_size=1, max_size=3), start=st.lists(sides, min_size=3, max_size=3))
def test_sequences_and_volumes_are_resized_along_each_axis(to, start):
    block, x = filled(AlignedFusion(6, 4, fusion='aff', reduction=2)), tensor((2, 4, *to))
    y = tensor((2, 6, *start[: len(to)]), 1)
    expected = y.asnumpy()
    for axis, size in enumerate(to, 2):
        expected = linear(expected, axis, size)
    flat = (2, -1, 1, int(np.prod(to)))
    expected = block.fuse(block.expand(x.reshape(flat)), mx.nd.array(expected.reshape(flat)))
    for hybridize in (False, True):
        block.hybridize(hybridize)
        assert error(block(x, y), expected.reshape((2, 6, *to))) <= 1e-5


@pytest.mark.parametrize('sides', [(7,), (4, 6, 5)])
def test_aligned_sequences_and_volumes_are_one_function_in_every_form(sides, tmp_path):
    inputs = tensor((2, 4, *sides)), tensor((2, 8, *(side // 2 for side in sides)))
    (_, expected) = gradients(filled(AlignedFusion(8, 4)), inputs)
    block = filled(AlignedFusion(8, 4, spatial_dims=len(sides)))
    block.hybridize()
    _, actual = gradients(block, inputs)
    largest = max(abs(e.asnumpy()).max() for e in expected.values())
    assert max(abs((actual[name] - e).asnumpy()).max() for name, e in expected.items()) <= 1e-4 * largest
    larger = [tensor((1, *x.shape[1:2], *(side + 2 for side in x.shape[2:]))) for x in inputs]
    outputs = in_every_form(filled(AlignedFusion(8, 4)), tmp_path, inputs, larger)
    for form, outs in outputs.items():
        assert max(error(z, expected) for z, expected in zip(outs, outputs['eager'])) <= 1e-6, form


@given(height=sides, width=sides, h=sides, w=sides)
def test_gradient_of_the_resizing_is_its_adjoint(height, width, h, w):
    block, x, y = filled(AlignedFusion(3, 2, fusion='add')), mx.nd.zeros((1, 2, height, width)), tensor((1, 3, h, w))
    (_, gradient), _ = gradients(block, [x, y])
    for seed in (1, 2):
        other = tensor(y.shape, seed)
        there = (block(x, other) * tensor((1, 3, height, width), 9)).sum().asscalar()
        assert abs(there - (other * gradient).sum().asscalar()) <= 1e-4


@pytest.mark.parametrize('fusion', FUSIONS)
def test_any_fusion_takes_the_low_level_map_as_x_and_the_high_level_one_as_y(fusion):
    block, x, y = filled(AlignedFusion(16, 8, fusion=fusion, reduction=4)), tensor((2, 8, 9, 7)), tensor((2, 16, 5, 4))
    assert type(block.fuse) is FUSIONS[fusion]
    expected = block.fuse(block.expand(x), mx.nd.array(resized(y, 9, 7)))
    assert error(block(x, y), expected) <= 1e-5


@pytest.mark.parametrize('fusion', ['add', 'concat', 'aff', 'recursive_aff'])
def test_aligned_fusion_is_one_function_in_every_form_at_several_sizes(fusion, tmp_path):
    block = filled(AlignedFusion(16, 8, fusion=fusion))
    batches = [(tensor((1, 8, 8, 6)), tensor((1, 16, 4, 3))), (tensor((3, 8, 9, 7)), tensor((3, 16, 5, 4)))]
    outputs = in_every_form(block, tmp_path, *batches)
    for form, actual in outputs.items():
        assert max(error(z, expected) for z, expected in zip(actual, outputs['eager'])) <= 1e-6, form


@pytest.mark.parametrize('hybridize', [False, True])
def test_channels_of_x_are_read_off_the_first_one(hybridize):
    block = AlignedFusion(16)
    block.initialize()
    if hybridize:
        block.hybridize()
    x, y = tensor((2, 5, 6, 6)), tensor((2, 16, 3, 3))
    assert block(x, y).shape == (2, 16, 6, 6) and block.expand.weight.shape == (16, 5, 1, 1)
    with refused(r'x \(N, 5, H, W\)'):
        block(tensor((2, 8, 6, 6)), y)


@pytest.mark.parametrize('hybridize', [False, True])
def test_what_an_aligned_fusion_cannot_take_is_refused(hybridize):
    block, x, y = filled(AlignedFusion(16, 8)), tensor((2, 8, 6, 6)), tensor((2, 16, 3, 3))
    if hybridize:
        block.hybridize()
    block(x, y)
    for wrong in ((x, x), (y, y), (x[:1], y), (x[0], y), (x, y[0]), (x, y.reshape((2, 16, 9)))):
        with refused(r'takes x \(N, 8, H, W\) and y \(N, 16, h, w\)'):
            block(*wrong)
    with refused('float16'):
        block(x, y.astype('float16'))
    for channels in (0, -16, None):
        with refused('channels must be a positive whole number'):
            AlignedFusion(channels)
    with refused('did you mean aff'):
        AlignedFusion(16, fusion='afff')
    with refused('reduction 3'):
        AlignedFusion(16, reduction=3)
