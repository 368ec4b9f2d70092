"""gluon_aff.inspect.complexity against formulas by hand and figures that are known."""

import math

import mxnet as mx
import numpy as np
import pytest
from gluoncv.model_zoo import get_model as gluoncv_model
from hypothesis import given
from hypothesis import strategies as st
from mxnet.gluon import nn
from reference import error, parameters, refused, tensor

from gluon_aff import AFF, IAFF, AlignedFusion, complexity
from model_zoo import get_model
from model_zoo.hosts.cifar_resnet import CifarResNet


class Function(nn.HybridBlock):
    """A block made of a function of F and its inputs."""

    def __init__(self, function, *children):
        super().__init__()
        self.function = function
        for child in children:
            self.register_child(child)

    def hybrid_forward(self, F, *inputs):
        return self.function(F, *inputs)


# Formulas by hand

pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@given(
    groups=st.integers(1, 3),
    ins=st.integers(1, 4),
    outs=st.integers(1, 4),
    kernel=pairs,
    stride=pairs,
    padding=pairs,
    dilation=pairs,
    size=st.tuples(st.integers(7, 12), st.integers(7, 12)),
    batch=st.integers(1, 3),
    bias=st.booleans(),
)
def test_convolution(groups, ins, outs, kernel, stride, padding, dilation, size, batch, bias):
    ins, outs = ins * groups, outs * groups
    net = nn.Conv2D(outs, kernel, stride, padding, dilation, groups, use_bias=bias, in_channels=ins)
    out_size = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1 for n, p, d, k, s in zip(size, padding, dilation, kernel, stride)
    ]
    weights = outs * (ins // groups) * math.prod(kernel)
    counted = complexity(net, (batch, ins, *size))
    assert counted == (weights + bias * outs, batch * math.prod(out_size) * weights)


@given(
    groups=st.integers(1, 3),
    ins=st.integers(1, 4),
    outs=st.integers(1, 4),
    kernel=pairs,
    stride=pairs,
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    batch=st.integers(1, 3),
    bias=st.booleans(),
)
def test_transposed_convolution(groups, ins, outs, kernel, stride, size, batch, bias):
    ins, outs = ins * groups, outs * groups
    net = nn.Conv2DTranspose(outs, kernel, stride, groups=groups, use_bias=bias, in_channels=ins)
    weights = ins * (outs // groups) * math.prod(kernel)
    assert complexity(net, (batch, ins, *size)) == (weights + bias * outs, batch * math.prod(size) * weights)


@pytest.mark.parametrize(
    'net, shape', [(nn.Conv1D(5, 3, in_channels=4), (2, 4, 9)), (nn.Conv3D(5, 3, in_channels=4), (2, 4, 9, 8, 7))]
)
def test_convolution_in_other_dimensions(net, shape):
    weights = 5 * 4 * 3 ** (len(shape) - 2)
    positions = math.prod(n - 2 for n in shape[2:])
    assert complexity(net, shape) == (weights + 5, 2 * positions * weights)


@given(
    batch=st.integers(1, 4), rows=st.integers(1, 4), ins=st.integers(1, 9), outs=st.integers(1, 9), bias=st.booleans()
)
def test_dense_layer(batch, rows, ins, outs, bias):
    flat = nn.Dense(outs, use_bias=bias, in_units=rows * ins)
    assert complexity(flat, (batch, rows, ins)) == (outs * (rows * ins + bias), batch * outs * rows * ins)
    rowwise = nn.Dense(outs, use_bias=bias, in_units=ins, flatten=False)
    assert complexity(rowwise, (batch, rows, ins)) == (outs * (ins + bias), batch * rows * outs * ins)


@given(
    batch=st.integers(1, 3),
    m=st.integers(1, 5),
    k=st.integers(1, 5),
    n=st.integers(1, 5),
    transpose_a=st.booleans(),
    transpose_b=st.booleans(),
)
def test_matrix_products(batch, m, k, n, transpose_a, transpose_b):
    a, b = (k, m) if transpose_a else (m, k), (n, k) if transpose_b else (k, n)
    options = {'transpose_a': transpose_a, 'transpose_b': transpose_b}
    batched = Function(lambda F, a, b: F.batch_dot(a, b, **options))
    assert complexity(batched, (batch, *a), (batch, *b)) == (0, batch * m * k * n)
    product = Function(lambda F, a, b: F.dot(a, b, **options))
    assert complexity(product, a, b) == (0, m * k * n)


@pytest.mark.parametrize('block, rounds', [(AFF, 1), (IAFF, 2)])
def test_fusion_block_of_two_inputs(block, rounds):
    channels, squeezed, batch, size = 32, 8, 3, 8 * 6
    context = 2 * channels * squeezed + squeezed + channels + 2 * squeezed + 2 * channels
    products = 2 * channels * squeezed * (size + 1)  # the local context at every place, the global one once
    counted = complexity(block(channels, reduction=4), *2 * [(batch, channels, 8, 6)])
    assert counted == (rounds * 2 * context, rounds * batch * products)


def test_resizing_multiplies_nothing():
    block, shapes = AlignedFusion(6, 4, fusion='add'), [(2, 4, 9, 7), (2, 6, 5, 4)]
    assert complexity(block, *shapes) == (4 * 6, 4 * 6 * 2 * 9 * 7)


def test_a_layer_called_twice_works_twice_with_one_set_of_parameters():
    layer = nn.Dense(4, in_units=4, use_bias=False)
    assert complexity(Function(lambda F, x: layer(layer(x)), layer), (2, 4)) == (16, 2 * 2 * 16)


def test_several_outputs_and_what_is_off_their_way():
    a, b, unused = (nn.Dense(n, in_units=4, use_bias=False) for n in (2, 3, 5))
    counted = complexity(Function(lambda F, x: (a(x), b(x)), a, b, unused), (1, 4))
    assert counted == (4 * 5, 4 * 5)


def test_frozen_parameters_are_not_trainable():
    net = nn.HybridSequential()
    net.add(nn.Dense(4, in_units=4), nn.BatchNorm(in_channels=4), nn.BatchNorm(in_channels=4, scale=False))
    assert complexity(net, (2, 4)).parameters == 20 + 8 + 4
    net[0].collect_params().setattr('grad_req', 'null')
    assert complexity(net, (2, 4)).parameters == 8 + 4


def test_pooling_activation_and_normalisation_multiply_nothing():
    net = nn.HybridSequential()
    net.add(nn.BatchNorm(in_channels=4), nn.Activation('relu'), nn.MaxPool2D((2, 2)), nn.GlobalAvgPool2D())
    assert complexity(net, (2, 4, 6, 8)) == (8, 0)


# Known figures


@pytest.mark.parametrize('depth, count, giga', [(50, 25_557_032, 4.09), (101, 44_549_160, 7.80)])
def test_plain_resnets_have_the_figures_of_other_libraries(depth, count, giga):
    counted = complexity(gluoncv_model(f'resnet{depth}_v1b'), (1, 3, 224, 224))
    assert (counted.parameters, round(counted.multiply_adds / 1e9, 2)) == (count, giga)


def test_multiply_adds_follow_batch_and_size():
    net = get_model('iaff_resnext50_32x4d', fusion='add')
    head = 2048 * 1000
    one, three, large = (
        complexity(net, shape).multiply_adds for shape in ((1, 3, 64, 64), (3, 3, 64, 64), (1, 3, 128, 128))
    )
    assert three == 3 * one and large - head == 4 * (one - head)


# The network stays as it is


def test_an_uninitialised_network_of_unknown_shapes_stays_so():
    net = get_model('cifar_aff_resnet8', in_channels=0)
    before = {name: p.shape for name, p in parameters(net).items()}
    assert complexity(net, (1, 3, 32, 32)) == complexity(get_model('cifar_aff_resnet8'), (1, 3, 32, 32))
    assert {name: p.shape for name, p in parameters(net).items()} == before
    net.initialize()
    assert net(tensor((1, 5, 32, 32))).shape == (1, 100)


@pytest.mark.parametrize('hybridize', [False, True])
def test_an_initialised_network_computes_what_it_did(hybridize):
    net, x = get_model('cifar_aff_resnet8'), tensor((2, 3, 32, 32))
    net.initialize()
    if hybridize:
        net.hybridize()
    expected = net(x)
    complexity(net, (1, 3, 64, 64))
    assert error(net(x), expected) == 0


def test_a_network_may_still_change_its_type():
    net = get_model('cifar_aff_resnet8')
    complexity(net, (1, 3, 32, 32))
    net.cast('float16')
    _, outputs, _ = net(mx.sym.var('data')).infer_type(data='float16')
    assert outputs == [np.float16]


# What is refused

IMPOSSIBLE = {
    'channels': (CifarResNet, [(1, 4, 32, 32)]),
    'no batch': (CifarResNet, [(3, 32, 32)]),
    'empty batch': (CifarResNet, [(0, 3, 32, 32)]),
    'empty image': (CifarResNet, [(1, 3, 0, 0)]),
    'negative': (CifarResNet, [(1, 3, -1, 32)]),
    'no shape': (CifarResNet, [32]),
    'a word': (CifarResNet, ['32x32']),
    'no input': (CifarResNet, []),
    'two inputs': (CifarResNet, [(1, 3, 32, 32)] * 2),
    'too small': (lambda layers: nn.Conv2D(4, 5, in_channels=3), [(1, 3, 2, 2)]),
    'unequal': (lambda layers: AFF(16), [(1, 16, 4, 4), (1, 16, 4, 5)]),
    'one of two': (lambda layers: AFF(16), [(1, 16, 4, 4)]),
    'unknown channels': (lambda layers: AFF(), [(1, 16, 4, 4)] * 2),
}


@pytest.mark.parametrize('case', IMPOSSIBLE)
def test_input_that_the_network_cannot_take_is_refused_without_a_word_on_the_screen(case, capsys):
    make, shapes = IMPOSSIBLE[case]
    with refused('input|shape|channels'):
        complexity(make((1, 1, 1)), *shapes)
    assert capsys.readouterr().out == ''
