"""The compiled operators: what MXNet's operators compute, and only where they should stand."""

import logging
import subprocess
import sys
from functools import partial

import mxnet as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mxnet import autograd
from mxnet.gluon import nn
from reference import error, filled, parameters, tensor

from gluon_aff import AFF, IAFF, MSGAU, MSSA, MSSE, ConcatAFF, GlobalAFF, HalfAFF, Highway, LocalAFF
from gluon_aff.layers import kernels
from gluon_aff.layers.layout import sigmoid
from model_zoo import get_model

built = pytest.mark.skipif(not kernels.available(), reason='built where a C++ compiler, MXNet and AVX2 are')
FUSIONS = (AFF, IAFF, MSGAU, MSSE, MSSA, Highway)


@pytest.fixture
def calls(monkeypatch):
    """Records the fusions that are traced with the compiled operators."""
    traced, modulate = [], kernels.modulate
    monkeypatch.setattr(kernels, 'modulate', lambda *args: traced.append(args) or modulate(*args))
    return traced


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
    actual = {'z': z, 'dx': x.grad, 'dy': y.grad}
    # A bias in front of a norm has no gradient but rounding errors.
    actual.update(
        {
            name: p.data() if p.grad_req == 'null' else p.grad()
            for name, p in parameters(block).items()
            if not name.endswith('bias')
        }
    )
    actual['inference'] = block(x, y)
    return {name: array.asnumpy() for name, array in actual.items()}


def agree(actual, expected):
    """Outputs and statistics to 1e-5 of the largest value, gradients to 1e-4 of the largest gradient."""
    assert actual.keys() == expected.keys()
    largest = {}
    for name, array in expected.items():
        kind = name if name in ('z', 'inference') or 'running' in name else 'gradient'
        largest[kind] = max(largest.get(kind, 0), abs(array).max())
        actual[name] = actual[name], kind
    for name, (array, kind) in actual.items():
        tolerance = 1e-4 if kind == 'gradient' else 1e-5
        assert abs(array - expected[name]).max() <= tolerance * largest[kind], name


@built
@settings(max_examples=40, deadline=None)
@given(
    fusion=st.sampled_from(FUSIONS),
    images=st.integers(6, 9),
    hidden=st.sampled_from([1, 3, 8, 13, 20]),
    reduction=st.sampled_from([1, 2, 4]),
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    scales=st.permutations(['local', 'global']),
    seed=st.integers(0, 9),
)
def test_they_give_the_values_gradients_and_statistics_of_float64(
    fusion, images, hidden, reduction, height, width, scales, seed
):
    shape = (images, hidden * reduction, height, width)
    x, y, c = (tensor(shape, 3 * seed + i) for i in range(3))
    make = partial(fusion, shape[1], reduction=reduction, scales=tuple(scales))
    agree(results(hybridized(filled(make())), x, y, c), results(filled(make()), x, y, c, 'float64'))


@built
@pytest.mark.parametrize('fusion', FUSIONS)
def test_they_give_the_values_of_float64_in_inference_for_one_image_as_well(fusion):
    for shape in ((2, 64, 33, 31), (1, 8, 1, 1), (1, 16, 40, 23), (3, 48, 7, 7)):
        x, y = tensor(shape), tensor(shape, 1)
        block, exact = hybridized(filled(fusion(shape[1]))), filled(fusion(shape[1]))
        exact.cast('float64')
        assert error(block(x, y), exact(x.astype('float64'), y.astype('float64'))) <= 1e-5, shape


@built
def test_frozen_statistics_stay_and_are_used():
    kwargs = {'norm_kwargs': {'use_global_stats': True}}
    x, y, c = (tensor((6, 16, 5, 4), i) for i in range(3))
    actual, expected = (
        results(block, x, y, c, dtype)
        for block, dtype in ((hybridized(filled(AFF(16, **kwargs))), 'float32'), (filled(AFF(16, **kwargs)), 'float64'))
    )
    agree(actual, expected)
    before = filled(AFF(16))
    for name, p in parameters(before).items():
        if 'running' in name:
            assert np.array_equal(p.data().asnumpy(), expected[name].astype('float32'))


@built
@pytest.mark.parametrize('fusion', [AFF, IAFF, MSSE])
def test_gradients_of_inference_are_those_of_float64(fusion):
    actual = []
    for make, dtype in ((hybridized, 'float32'), (lambda block: block, 'float64')):
        block, (x, y, c) = make(filled(fusion(16))), (tensor((6, 16, 5, 4), i).astype(dtype) for i in range(3))
        block.cast(dtype)
        x.attach_grad()
        with autograd.record(train_mode=False):
            loss = (block(x, y) * c).sum()
        loss.backward(train_mode=False)
        actual.append(
            {'x': x.grad, **{name: p.grad() for name, p in parameters(block).items() if p.grad_req != 'null'}}
        )
    largest = max(abs(grad.asnumpy()).max() for grad in actual[1].values())
    for name, grad in actual[1].items():
        assert abs(actual[0][name].asnumpy() - grad.asnumpy()).max() <= 1e-4 * largest, name


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
        gradients = {
            'x': x.grad,
            'y': y.grad,
            **{
                name: p.grad()
                for name, p in parameters(block).items()
                if p.grad_req != 'null' and not name.endswith('bias')
            },
        }
        if not turn:
            once = {name: grad.copy() for name, grad in gradients.items()}
    for name, grad in gradients.items():
        assert error(grad, 2 * once[name]) <= 1e-3, name


@built
def test_nan_stays_nan():
    block, x, y = filled(AFF(16)), tensor((6, 16, 5, 4)), tensor((6, 16, 5, 4), 1)
    weight = parameters(block)['local_att.3.weight']
    weight.set_data(mx.nd.concat(weight.data()[:1] * np.nan, weight.data()[1:], dim=0))
    expected, actual = block(x, y), hybridized(block)(x, y)
    assert np.isnan(expected.asnumpy()[:, 0]).all()
    assert np.array_equal(np.isnan(actual.asnumpy()), np.isnan(expected.asnumpy()))


@built
@pytest.mark.parametrize('fusion', FUSIONS)
def test_in_inference_an_image_does_not_touch_the_others(fusion):
    x, y = tensor((3, 16, 5, 4)), tensor((3, 16, 5, 4), 1)
    block = hybridized(filled(fusion(16)))
    expected = block(x, y)
    for bad in (1e6, np.inf, np.nan):
        x[1, 3] = y[1, 5] = bad
        actual = block(x, y)
        assert error(actual[::2], expected[::2]) <= 1e-6
    assert np.isnan(actual[1].asnumpy()).any()


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
    with kernels.compiled():
        assert error(second(x), expected) <= 1e-5
    assert len(calls) == 1
    with kernels.compiled(False):
        assert error(hybridized(filled(AFF(16)))(x, 2 * x), expected) <= 1e-5
    assert len(calls) == 1


class OtherNorm(nn.BatchNorm):
    """Whose calls may mean anything."""


@built
@pytest.mark.parametrize(
    'make',
    [
        partial(AFF, norm_layer=OtherNorm),
        partial(AFF, scales=('local', 'local')),
        GlobalAFF,
        LocalAFF,
        HalfAFF,
        ConcatAFF,
    ],
)
def test_a_block_that_they_do_not_compute_does_without(make, calls):
    block, x, y = filled(make(16)), tensor((6, 16, 5, 4)), tensor((6, 16, 5, 4), 1)
    expected = block(x, y)
    assert error(hybridized(block)(x, y), expected) <= 1e-5 and not calls


@built
def test_a_block_of_many_squeezed_channels_does_without(calls):
    for hidden, traced in ((kernels.MAX_HIDDEN_CHANNELS, 1), (kernels.MAX_HIDDEN_CHANNELS + 1, 1)):
        block, x = filled(AFF(hidden, reduction=1)), tensor((2, hidden, 3, 3))
        expected = block(x, 2 * x)
        assert error(hybridized(block)(x, 2 * x), expected) <= 1e-5 and len(calls) == traced


@built
def test_a_block_of_float64_does_without(calls):
    block, x = filled(AFF(16)), tensor((6, 16, 5, 4)).astype('float64')
    block.cast('float64')
    expected = block(x, 2 * x)
    assert error(hybridized(block)(x, 2 * x), expected) <= 1e-12 and not calls


def gate_inputs(shape=(2, 4, 3, 3), hidden=3):
    n, c, h, w = shape
    sides = (shape, shape, (n, hidden, h, w), *2 * [(1, hidden, 1, 1)], (c, hidden, 1, 1), (n, c, 1, 1))
    return [tensor(side, i) for i, side in enumerate(sides)]


@built
@pytest.mark.parametrize(
    'scale, difference',
    [
        *((scale, True) for scale in (1, 2, 0.5, np.float32(1.5), '1e-3')),
        *((2, difference) for difference in (1, '1', 'True', False, 0, np.True_)),
    ],
)
def test_the_gate_is_its_formula_however_its_settings_are_written(scale, difference):
    x, y, h, s, t, w, g = arrays = gate_inputs()
    hidden = mx.nd.relu(mx.nd.broadcast_add(mx.nd.broadcast_mul(h, s), t))
    m = sigmoid(mx.nd, mx.nd.broadcast_add(mx.nd.Convolution(hidden, w, kernel=(1, 1), num_filter=4, no_bias=True), g))
    expected = float(scale) * (m * (x - y if difference in (True, 1, '1', 'True') else x) + y)
    assert error(mx.nd.gluon_aff_gate(*arrays, scale=scale, difference=difference), expected) <= 1e-6


@built
@pytest.mark.parametrize(
    'settings, complaint',
    [
        ({'difference': True}, 'needs the attribute scale'),
        ({'scale': 1}, 'needs the attribute difference'),
        ({'scale': '1,5', 'difference': True}, 'finite number'),
        ({'scale': 'nan', 'difference': True}, 'finite number'),
        ({'scale': '', 'difference': True}, 'finite number'),
        ({'scale': 1e39, 'difference': True}, 'finite number'),
        ({'scale': 1, 'difference': 2}, 'True or False'),
        ({'scale': 1, 'difference': 'yes'}, 'True or False'),
        ({'scale': 1, 'difference': True, 'scales': 2}, 'unknown attribute, scales'),
    ],
)
def test_invalid_settings_are_refused(settings, complaint):
    with pytest.raises(mx.MXNetError, match=complaint):
        mx.nd.gluon_aff_gate(*gate_inputs(), **settings).wait_to_read()
    with pytest.raises(mx.MXNetError, match=complaint):
        mx.sym.gluon_aff_gate(*map(mx.sym.var, 'xyhstwg'), **settings)


@built
@pytest.mark.parametrize(
    'shapes, dtype, complaint',
    [
        ([(2, 8, 3, 3), (2, 4, 1, 1), (2,)], 'float32', 'shape'),
        ([(2, 4, 3, 3), (2, 4, 1, 1), (3,)], 'float32', 'shape'),
        ([(2, 4), (2, 4, 1, 1), (2,)], 'float32', 'four axes'),
        ([(2, 4, 3, 3), (2, 4), (2,)], 'float32', 'four axes'),
        ([(2, 4, 3, 3, 3), (2, 4, 1, 1), (2,)], 'float32', 'four axes'),
        ([(2, 4, 3, 3), (2, 4, 1, 1), (2,)], 'float64', 'float32'),
        ([(2, 4, 3, 3), (2, 4, 1, 1), (2,)], 'float16', 'float32'),
    ],
)
def test_arrays_that_do_not_fit_are_refused(shapes, dtype, complaint):
    with pytest.raises(mx.MXNetError, match=complaint):
        mx.nd.gluon_aff_squeeze(*(tensor(shape).astype(dtype) for shape in shapes))[0].wait_to_read()
    assert mx.nd.gluon_aff_squeeze(tensor((2, 4, 3, 3)), tensor((2, 4, 1, 1)), tensor((2,)))[0].shape == (2, 2, 3, 3)


def test_without_the_library_a_block_does_the_same(monkeypatch, tmp_path, caplog):
    x, y = tensor((6, 16, 5, 4)), tensor((6, 16, 5, 4), 1)
    expected = filled(AFF(16))(x, y)
    broken = tmp_path / 'broken.so'
    broken.write_text('no library')
    kernels.available()
    for name in kernels.OPERATORS:
        monkeypatch.delattr(mx.sym, name, raising=False)  # as before they were loaded
    try:
        for library, warnings in ((tmp_path / 'none.so', 0), (broken, 1)):
            monkeypatch.setattr(kernels, 'LIBRARY', library)
            kernels.available.cache_clear()
            with caplog.at_level(logging.WARNING, 'gluon_aff'):
                assert not kernels.available()
            assert len(caplog.records) == warnings and all(
                str(library) in record.getMessage() for record in caplog.records
            )
            assert error(hybridized(filled(AFF(16)))(x, y), expected) <= 1e-5
    finally:
        monkeypatch.undo()
        kernels.available.cache_clear()


def in_a_process(program, *arguments):
    """Run a program of its own, for it may break MXNet in its process."""
    done = subprocess.run([sys.executable, '-c', program, *arguments], capture_output=True, text=True, timeout=300)
    print(done.stdout, done.stderr)  # for the report, if what it printed is not what was expected
    assert done.returncode == 0
    return done.stdout


LOADED = """
import sys
import mxnet as mx
from mxnet.contrib import amp

def functions():
    return {(name, key): value for name, module in list(sys.modules.items())
            if name.startswith(('mxnet.ndarray', 'mxnet.symbol', 'mxnet.contrib.ndarray', 'mxnet.contrib.symbol'))
            for key, value in list(vars(module).items())}

if sys.argv[1] == 'before':
    amp.init('bfloat16')
mine = lambda *args, **kwargs: 'mine'
mx.nd.Activation = mx.sym.Activation = mx.nd.op.relu = mx.sym.contrib.BilinearResize2D = mine
before, names = functions(), {module: list(module.__all__) for module in (mx.nd, mx.sym, mx.nd.op, mx.sym.op)}
from gluon_aff import AFF
from gluon_aff.layers import kernels
after = functions()
assert not [key for key in before if after.get(key) is not before[key]]
assert {key for _, key in after.keys() - before.keys()} <= set(kernels.OPERATORS)
assert all(module.__all__ == listed for module, listed in names.items())
assert mx.nd.relu is not mine and mx.nd.Activation(1) == mx.sym.Activation(1) == mx.nd.op.relu(1) == 'mine'
if not kernels.available():
    print('not built')
    sys.exit()
for name in kernels.OPERATORS:
    assert callable(getattr(mx.nd, name)) and getattr(mx.sym, name) is getattr(mx.sym.op, name)
mx.nd.Activation, mx.sym.Activation = mx.nd.op.Activation, mx.sym.op.Activation
if sys.argv[1] == 'after':
    amp.init('bfloat16')
net = mx.gluon.nn.HybridSequential()
net.add(mx.gluon.nn.Conv2D(8, 1, in_channels=8))
net.initialize()
block = AFF(8)
block.initialize()
x = mx.nd.random.uniform(shape=(4, 8, 5, 5))
casts = []
original, kernels.modulate = kernels.modulate, lambda *args: casts.append(1) or original(*args)
for network in (net, block):
    network.hybridize()
assert str(net(x).dtype) == 'bfloat16' or net(x).dtype.itemsize == 2
assert block(x, x).astype('float32').shape == x.shape and casts == [1]
print('kept')
"""


@pytest.mark.parametrize('when', ['before', 'after'])
def test_loading_them_leaves_what_others_have_put_into_mxnets_namespaces(when):
    assert in_a_process(LOADED, when).strip() == ('kept' if kernels.available() else 'not built')


@built
def test_the_random_numbers_of_a_network_are_the_same_with_and_without_them():
    def run(enabled):
        net = filled(get_model('cifar_iaff_resnet8', width=1, final_drop=0.5, classes=7))
        mx.random.seed(3)
        with kernels.compiled(enabled), autograd.record():
            first, second = (hybridized(net)(tensor((6, 3, 32, 32), 4)).copy() for _ in range(2))
        return first, second, mx.nd.random.uniform(shape=(9,)), np.random.rand()

    first, second = run(None), run(False)
    assert error(first[0], first[1].asnumpy()) > 0.1, 'the dropout draws anew'
    for one, other in zip(first[:2], second[:2]):
        assert error(one, other) <= 1e-4
    assert np.array_equal(first[2].asnumpy(), second[2].asnumpy())


@built
@pytest.mark.parametrize('value', [np.nan, np.inf, -1, 0, 1e-12, 1e12])
def test_in_training_the_running_statistics_do_not_matter_whatever_they_are(value):
    x, y, c = (tensor((6, 16, 5, 4), i) for i in range(3))
    outputs = []
    for enabled in (None, False):
        block = filled(AFF(16))
        for name, p in parameters(block).items():
            if name.endswith('running_var'):
                p.set_data(mx.nd.full(p.shape, value))
        with kernels.compiled(enabled):
            outputs.append(results(hybridized(block), x, y, c))
    agree({'z': outputs[0]['z'], 'dx': outputs[0]['dx']}, {'z': outputs[1]['z'], 'dx': outputs[1]['dx']})


@built
@pytest.mark.parametrize('fusion, shape, tolerance', [(IAFF, (128, 64, 32, 32), 8e-6), (AFF, (4, 16, 480, 480), 2e-5)])
def test_they_are_as_exact_on_large_batches_and_maps(fusion, shape, tolerance):
    x, y = tensor(shape), tensor(shape, 1)
    block, exact = hybridized(filled(fusion(shape[1]))), filled(fusion(shape[1]))
    exact.cast('float64')
    with autograd.train_mode():
        assert error(block(x, y), exact(x.astype('float64'), y.astype('float64'))) <= tolerance


THREADS = """
import random, sys, threading
import mxnet as mx
import numpy as np
from mxnet import autograd
from gluon_aff.inspect.complexity import complexity
from model_zoo import get_model

def use(net, x, how):
    if how == 'trace':
        complexity(net, x.shape)
    elif how == 'symbol':
        net(mx.sym.var('data')).list_arguments()
    elif how == 'train':
        with autograd.record(train_mode=False):
            net(x).sum()
    return net(x).asnumpy()

random = random.Random(int(sys.argv[1]))
x = mx.nd.random.uniform(shape=(2, 3, 16, 16))
for turn in range(int(sys.argv[2])):
    sys.setswitchinterval(random.choice([1e-6, 1e-5, 1e-4]))
    nets = [get_model(random.choice(['cifar_iaff_resnet8', 'cifar_add_resnet8', 'fpn_aff_resnet8']), width=1, classes=3)
            for _ in range(random.randint(1, 3))]
    for net in nets:
        net.initialize(mx.init.Xavier())
    expected = [net(x).asnumpy() for net in nets]
    for net in nets:
        net.hybridize()
    jobs = [(random.randrange(len(nets)), random.choice(['call', 'call', 'train', 'trace', 'symbol']), random.random())
            for _ in range(random.randint(2, 6))]
    start, problems = threading.Barrier(len(jobs)), []

    def work(number, how, delay):
        try:
            start.wait()
            threading.Event().wait(delay * 1e-3)
            for _ in range(2):
                found = use(nets[number], x, how)
                assert abs(found - expected[number]).max() <= 1e-4 * abs(expected[number]).max(), how
        except BaseException as error:
            problems.append(repr(error))

    threads = [threading.Thread(target=work, args=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems, (turn, jobs, problems)
net = get_model('cifar_aff_resnet8', width=1, classes=3)
net.initialize()
net.hybridize()
assert np.isfinite(net(x).asnumpy()).all(), 'afterwards, in the main thread'
print('done')
"""


@pytest.mark.parametrize('seed', [0, 1])
def test_threads_may_call_networks_for_the_first_time_at_once(seed):
    assert in_a_process(THREADS, str(seed), '8').strip() == 'done'
