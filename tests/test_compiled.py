"""The compiled operators: what MXNet's operators compute, and only where they should stand."""
import logging
from functools import partial

import mxnet as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mxnet import autograd
from mxnet.gluon import nn
from reference import error, filled, parameters, tensor

from gluon_aff import AFF, IAFF, MSGAU, MSSA, MSSE, ConcatAFF, GlobalAFF, HalfAFF, Highway, LocalAFF, compiled
from model_zoo import get_model

built = pytest.mark.skipif(not compiled.available(), reason='built where a C++ compiler, MXNet and AVX2 are')
FUSIONS = (AFF, IAFF, MSGAU, MSSE, MSSA, Highway)


@pytest.fixture
def calls(monkeypatch):
    """Counts the gates that are traced with the compiled operators."""
    found, gate = [], compiled.gate
    monkeypatch.setattr(compiled, 'gate', lambda *args: found.append(args) or gate(*args))
    return found


def hybridized(block):
    block.hybridize(static_alloc=True, static_shape=True)
    return block


def results(block, x, y, c, dtype='float32'):
    """The outputs in training and in inference, the gradients, and the running statistics after it."""
    block.cast(dtype)
    x, y, c = (array.astype(dtype) for array in (x, y, c))
    for array in (x, y):
        array.attach_grad()
    with autograd.record():
        z = block(x, y)
        (z * c).sum().backward()
    found = {'z': z, 'dx': x.grad, 'dy': y.grad}
    # A bias in front of a norm has no gradient but rounding errors.
    found.update({name: p.data() if p.grad_req == 'null' else p.grad() for name, p in parameters(block).items()
                  if not name.endswith('bias')})
    found['inference'] = block(x, y)
    return {name: array.asnumpy() for name, array in found.items()}


def agree(found, expected):
    """Outputs and statistics to 1e-5 of the largest value, gradients to 1e-4 of the largest gradient."""
    assert found.keys() == expected.keys()
    largest = {}
    for name, array in expected.items():
        kind = name if name in ('z', 'inference') or 'running' in name else 'gradient'
        largest[kind] = max(largest.get(kind, 0), abs(array).max())
        found[name] = found[name], kind
    for name, (array, kind) in found.items():
        tolerance = 1e-4 if kind == 'gradient' else 1e-5
        assert abs(array - expected[name]).max() <= tolerance * largest[kind], name


@built
@settings(max_examples=40, deadline=None)
@given(fusion=st.sampled_from(FUSIONS), images=st.integers(6, 9), hidden=st.sampled_from([1, 3, 8, 13, 20]),
       reduction=st.sampled_from([1, 2, 4]), height=st.integers(1, 20), width=st.integers(1, 20),
       scales=st.permutations(['local', 'global']), seed=st.integers(0, 9))
def test_they_give_the_values_gradients_and_statistics_of_float64(fusion, images, hidden, reduction, height, width,
                                                                  scales, seed):
    shape = (images, hidden * reduction, height, width)
    x, y, c = (tensor(shape, 3 * seed + i) for i in range(3))
    make = partial(fusion, shape[1], reduction=reduction, scales=tuple(scales))
    agree(results(hybridized(filled(make())), x, y, c), results(filled(make()), x, y, c, 'float64'))


@built
@pytest.mark.parametrize('shape', [(2, 64, 33, 31), (1, 8, 1, 1), (1, 16, 40, 23), (3, 48, 7, 7)])
@pytest.mark.parametrize('fusion', FUSIONS)
def test_they_give_the_values_of_float64_in_inference_for_one_image_as_well(fusion, shape):
    x, y = tensor(shape), tensor(shape, 1)
    block, exact = hybridized(filled(fusion(shape[1]))), filled(fusion(shape[1]))
    exact.cast('float64')
    assert error(block(x, y), exact(x.astype('float64'), y.astype('float64'))) <= 1e-5


@built
def test_frozen_statistics_stay_and_are_used():
    kwargs = {'norm_kwargs': {'use_global_stats': True}}
    x, y, c = (tensor((6, 16, 5, 4), i) for i in range(3))
    found, expected = (results(block, x, y, c, dtype) for block, dtype in
                       ((hybridized(filled(AFF(16, **kwargs))), 'float32'), (filled(AFF(16, **kwargs)), 'float64')))
    agree(found, expected)
    before = filled(AFF(16))
    for name, p in parameters(before).items():
        if 'running' in name:
            assert np.array_equal(p.data().asnumpy(), expected[name].astype('float32'))


@built
def test_equal_calls_give_equal_bits():
    x, y, c = (tensor((6, 32, 20, 20), i) for i in range(3))
    first, second = (results(hybridized(filled(IAFF(32))), x, y, c) for _ in range(2))
    assert all(np.array_equal(first[name], second[name]) for name in first)


@built
def test_gradients_are_added_where_they_should_be():
    block, x, y = hybridized(filled(IAFF(16))), tensor((6, 16, 5, 4)), tensor((6, 16, 5, 4), 1)
    block.collect_params().setattr('grad_req', 'add')
    once = {}
    for array in (x, y):
        array.attach_grad('add')
    for turn in range(2):
        with autograd.record():
            loss = (block(x, y) ** 2).sum()
        loss.backward()
        gradients = {'x': x.grad, 'y': y.grad, **{name: p.grad() for name, p in parameters(block).items()
                                                  if p.grad_req != 'null' and not name.endswith('bias')}}
        if not turn:
            once = {name: grad.copy() for name, grad in gradients.items()}
    for name, grad in gradients.items():
        assert error(grad, 2 * once[name]) <= 1e-3, name


@built
def test_nan_stays_nan():
    block, x, y = filled(AFF(16)), tensor((6, 16, 5, 4)), tensor((6, 16, 5, 4), 1)
    weight = parameters(block)['local_att.3.weight']
    weight.set_data(mx.nd.concat(weight.data()[:1] * np.nan, weight.data()[1:], dim=0))
    expected, found = block(x, y), hybridized(block)(x, y)
    assert np.isnan(expected.asnumpy()[:, 0]).all()
    assert np.array_equal(np.isnan(found.asnumpy()), np.isnan(expected.asnumpy()))


@built
@pytest.mark.parametrize('fusion', FUSIONS)
def test_in_inference_an_image_does_not_touch_the_others(fusion):
    x, y = tensor((3, 16, 5, 4)), tensor((3, 16, 5, 4), 1)
    block = hybridized(filled(fusion(16)))
    expected = block(x, y)
    for bad in (1e6, np.inf, np.nan):
        x[1, 3] = y[1, 5] = bad
        found = block(x, y)
        assert error(found[::2], expected[::2]) <= 1e-6
    assert np.isnan(found[1].asnumpy()).any()


@built
def test_a_network_of_the_zoo_runs_with_them_and_is_exported_without(calls, tmp_path):
    net, x = filled(get_model('cifar_iaff_resnet8')), tensor((2, 3, 32, 32))
    eager = net(x)
    assert not calls, 'called on arrays, a network is made of operators that can be looked at'
    hybridized(net)
    assert error(net(x), eager) <= 1e-5 and len(calls) == 6
    net.export(str(tmp_path / 'net'))
    assert 'gluon_aff' not in (tmp_path / 'net-symbol.json').read_text()
    again = mx.gluon.SymbolBlock.imports(str(tmp_path / 'net-symbol.json'), ['data'], str(tmp_path / 'net-0000.params'))
    assert error(again(x), eager) <= 1e-5
    net(mx.sym.var('data'))
    net.optimize_for(x, backend='MKLDNN')
    assert len(calls) == 6, 'a graph that others are to read has none of them'


@built
def test_a_network_of_your_own_has_them_where_you_say_so(calls):
    class Yours(nn.HybridBlock):
        def __init__(self):
            super().__init__()
            with self.name_scope():
                self.fuse = filled(AFF(16))

        def hybrid_forward(self, F, x):
            return self.fuse(x, 2 * x)

    x = tensor((6, 16, 5, 4))
    first, second = hybridized(Yours()), hybridized(Yours())
    expected = first(x)
    assert not calls
    with compiled.compiled():
        assert error(second(x), expected) <= 1e-5
    assert len(calls) == 1
    with compiled.compiled(False):
        assert error(hybridized(filled(AFF(16)))(x, 2 * x), expected) <= 1e-5
    assert len(calls) == 1


class OtherNorm(nn.BatchNorm):
    """Whose calls may mean anything."""


@built
@pytest.mark.parametrize('make', [partial(AFF, norm_layer=OtherNorm), partial(AFF, scales=('local', 'local')),
                                  GlobalAFF, LocalAFF, HalfAFF, ConcatAFF])
def test_a_block_that_they_do_not_compute_does_without(make, calls):
    block, x, y = filled(make(16)), tensor((6, 16, 5, 4)), tensor((6, 16, 5, 4), 1)
    expected = block(x, y)
    assert error(hybridized(block)(x, y), expected) <= 1e-5 and not calls


@built
def test_a_block_of_many_squeezed_channels_does_without(calls):
    for hidden, traced in ((compiled.WIDEST, 1), (compiled.WIDEST + 1, 1)):
        block, x = filled(AFF(hidden, reduction=1)), tensor((2, hidden, 3, 3))
        expected = block(x, 2 * x)
        assert error(hybridized(block)(x, 2 * x), expected) <= 1e-5 and len(calls) == traced


@built
def test_a_block_of_float64_does_without(calls):
    block, x = filled(AFF(16)), tensor((6, 16, 5, 4)).astype('float64')
    block.cast('float64')
    expected = block(x, 2 * x)
    assert error(hybridized(block)(x, 2 * x), expected) <= 1e-12 and not calls


@built
def test_arrays_that_do_not_fit_are_refused():
    for arrays, said in (([tensor((2, 8, 3, 3)), tensor((2, 4, 1, 1)), tensor((2,))], 'shape'),
                         ([tensor((2, 4, 3, 3)).astype('float64'), tensor((2, 4, 1, 1)), tensor((2,))], 'float32')):
        with pytest.raises(mx.MXNetError, match=said):
            mx.nd.gluon_aff_squeeze(*arrays)[0].wait_to_read()


def test_without_the_library_a_block_does_the_same(monkeypatch, tmp_path, caplog):
    x, y = tensor((6, 16, 5, 4)), tensor((6, 16, 5, 4), 1)
    expected = filled(AFF(16))(x, y)
    broken = tmp_path / 'broken.so'
    broken.write_text('no library')
    compiled.available()
    try:
        for library, said in ((tmp_path / 'none.so', 0), (broken, 1)):
            monkeypatch.setattr(compiled, 'LIBRARY', library)
            compiled.available.cache_clear()
            with caplog.at_level(logging.WARNING, 'gluon_aff'):
                assert not compiled.available()
            assert len(caplog.records) == said and all(str(library) in each.getMessage() for each in caplog.records)
            assert error(hybridized(filled(AFF(16)))(x, y), expected) <= 1e-5
    finally:
        monkeypatch.undo()
        compiled.available.cache_clear()


def test_loading_them_leaves_mxnets_namespaces_as_they_were():
    compiled.available()
    assert mx.nd.__name__ == 'mxnet.ndarray' and mx.sym.__name__ == 'mxnet.symbol'
    assert mx.nd.__file__.endswith('__init__.py') and 'CachedOp' in mx.nd.__all__
