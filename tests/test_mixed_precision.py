"""Training in bfloat16: near float64, on float32 parameters, resumable, and refused where it does not work."""

from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd
from mxnet.gluon import nn
from programs import TOP, finish, start
from reference import error, filled, parameters, refused, tensor
from test_networks import SMALL, sized

import train_cifar
from benchmarks import dtypes
from gluon_aff import AFF, FUSIONS, MSCAM, MultiInputAFF
from gluon_aff.layers import kernels
from gluon_aff.train.checkpoint import checkpoints, read_checkpoint
from gluon_aff.train.mixed_precision import bfloat16_network, check_bfloat16
from model_zoo import get_model

BFLOAT16 = np.dtype([('bfloat16', np.uint16)])


def has_bfloat16():
    try:
        check_bfloat16([mx.cpu()])
    except ValueError:
        return False
    return True


with_bfloat16 = pytest.mark.skipif(not has_bfloat16(), reason='the processor has neither AVX512-BF16 nor AMX')
built = pytest.mark.skipif(not kernels.available(), reason='the operators were not built')


def rounded(array):
    """A float32 array, its values rounded to the nearest bfloat16."""
    bits = array.asnumpy().view(np.uint32)
    return mx.nd.array(((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32))


# Near float64


def results(run, net, x, c):
    """Of a training step: the output, the gradients of images and parameters, and the statistics, by name."""
    x.attach_grad()
    with autograd.record():
        z = run(x)
        loss = (z * c.astype(x.dtype)).sum()
    loss.backward()
    mx.nd.waitall()
    values = {'z': z, 'dx': x.grad}
    for name, p in parameters(net).items():
        if 'running' in name:
            values[name] = p.data()
        elif p.grad_req != 'null' and not name.endswith('bias'):  # a bias in front of a norm has no gradient
            values[name] = p.grad()
    return {name: value.asnumpy().astype('float64') for name, value in values.items()}


def distance(actual, expected):
    return np.linalg.norm(actual - expected) / np.linalg.norm(expected)


def check_errors(make, x, exact='float64'):
    """A step in bfloat16 is nearly as near to float64 as the rounding of its images and parameters alone allows.

    A gradient follows the signs in the ReLUs, so that its errors are far larger than bfloat16's 0.004. The yardstick is
    a step in float64 from images and parameters that are rounded to bfloat16.
    """
    net, fine, coarse = (filled(make()) for _ in range(3))
    c = tensor(net(x).shape, 7)
    for p in parameters(coarse).values():
        p.set_data(rounded(p.data()))
    for block in (fine, coarse):
        block.cast(exact)
        for p in parameters(block).values():
            p.cast(exact)
    expected = results(fine, fine, x.astype(exact), c)
    yardstick = results(coarse, coarse, rounded(x).astype(exact), c)
    actual = results(bfloat16_network(net), net, x, c)
    assert {p.data().dtype for p in parameters(net).values()} == {np.float32}
    errors = {name: distance(yardstick[name], value) for name, value in expected.items()}
    typical = np.median(list(errors.values()))
    for name, value in expected.items():
        if np.linalg.norm(value) > 1e-8:  # no gradient goes to a beta in front of a norm
            times = 5 if name in ('z', 'dx') else 16  # a single sign in a ReLU matters in a vector of 8
            assert distance(actual[name], value) <= times * max(errors[name], typical), name
    assert distance(actual['z'], expected['z']) > 1e-5, 'it was not computed in bfloat16'


class Between(nn.HybridBlock):
    """A block between convolutions, so that its maps are bfloat16."""

    def __init__(self, block, inputs):
        super().__init__()
        with self.name_scope():
            self.branches = nn.HybridSequential()
            for _ in range(inputs):
                branch = nn.HybridSequential()
                branch.add(nn.Conv2D(32, 3, padding=1, use_bias=False, in_channels=3))
                branch.add(nn.BatchNorm(in_channels=32), nn.Activation('relu'))
                self.branches.add(branch)
            self.block = block
            self.head = nn.Conv2D(16, 1, use_bias=False, in_channels=32)

    def hybrid_forward(self, F, x):
        return self.head(self.block(*(branch(x) for branch in self.branches._children.values())))


BLOCKS = {
    **{name: (fusion, 2) for name, fusion in FUSIONS.items()},
    'MSCAM': (MSCAM, 1),
    'MultiInputAFF': (lambda channels: MultiInputAFF(channels, 3), 3),
}


@with_bfloat16
@pytest.mark.parametrize('name', BLOCKS)
def test_a_block_is_near_float64(name):
    make, inputs = BLOCKS[name]
    check_errors(lambda: Between(make(32), inputs), tensor((8, 3, 9, 7)))


@with_bfloat16
@pytest.mark.parametrize('name, side', [('cifar_iaff_resnet8', 9), ('fpn_add_resnet8', 8), ('unet_aff_resnet8', 8)])
def test_a_small_network_is_near_float64(name, side):
    check_errors(lambda: get_model(name, width=1, classes=5), tensor((4, 3, side, side)))


@pytest.mark.slow
@with_bfloat16
@pytest.mark.parametrize('fusion', ['add', 'iaff'])
@pytest.mark.parametrize('host', SMALL)
def test_a_network_of_every_architecture_is_near_float64(host, fusion):
    # MXNet's InstanceNorm, which LIP has, takes float32 only.
    check_errors(
        lambda: sized(host, 64, fusion=fusion), tensor((4, 3, 64, 64)), exact='float32' if 'LIP' in host else 'float64'
    )


@with_bfloat16
@pytest.mark.parametrize('name', ['cifar_resnet20_v2', 'mobilenetv2_0.25'])
def test_a_network_of_gluoncv_is_near_float64(name):
    from gluoncv.model_zoo import get_model as theirs

    def make():
        net = theirs(name, classes=5)
        net.initialize()
        net(tensor((1, 3, 16, 16)))  # takes its widths
        return net

    check_errors(make, tensor((4, 3, 16, 16)))


# The compiled operators


@built
@pytest.mark.parametrize('shape', [(2, 16, 8, 8), (3, 5, 3, 7)])
def test_the_operators_compute_in_float32_on_maps_of_bfloat16(shape):
    n, channels, height, width = shape
    x, y, dz = (rounded(tensor(shape, seed)) for seed in range(3))
    sides = (n, 3, height, width), (1, 3, 1, 1), (1, 3, 1, 1), (channels, 3, 1, 1), (n, channels, 1, 1)
    rest = [tensor(side, seed) for seed, side in enumerate(sides, 3)]
    weight, bias = tensor((3, channels, 1, 1), 9), tensor((3,), 10)
    both = []
    for low in (False, True):
        maps = [mx.nd.amp_cast(array, dtype=BFLOAT16) if low else array for array in (x, y)]
        for array in (*maps, *rest, weight, bias):
            array.attach_grad()
        with autograd.record():
            z = mx.nd.gluon_aff_gate(*maps, *rest, scale=2, difference=True)
            copies = mx.nd.gluon_aff_copies(maps[0], number=3)
            outputs = [z, *copies, *mx.nd.gluon_aff_squeeze(maps[0], weight, bias)]
            outputs = [mx.nd.amp_cast(output, dtype='float32') for output in outputs]
            loss = (outputs[0] * dz).sum() + sum(output.sum() for output in outputs[1:])
        loss.backward()
        grads = [mx.nd.amp_cast(array.grad, dtype='float32') for array in (*maps, *rest, weight, bias)]
        both.append([*outputs, *grads])
    for number, (exact, low) in enumerate(zip(*both)):
        assert error(low, exact) <= (0.01 if low.shape == shape else 1e-5), number
    assert np.array_equal(both[1][0].asnumpy(), rounded(both[0][0]).asnumpy()), 'rounded once, to the nearest'
    assert all(np.array_equal(copy.asnumpy(), x.asnumpy()) for copy in both[1][1:4])


@built
def test_nan_and_infinity_stay_what_they_are_in_bfloat16():
    values = mx.nd.array([[[[np.nan, np.inf, -np.inf, 1 + 2**-9, 3.0e38, -0.0, 1e-30, 2.5]]]])
    x = mx.nd.amp_cast(values, dtype=BFLOAT16)
    x.attach_grad()
    with autograd.record():
        loss = (mx.nd.amp_cast(mx.nd.gluon_aff_copies(x, number=2)[0], dtype='float32') * values).sum()
    loss.backward()
    expected = rounded(values[:, :, :, 1:]).asnumpy()
    grad = mx.nd.amp_cast(x.grad, dtype='float32').asnumpy()
    assert np.isnan(grad[0, 0, 0, 0]) and np.array_equal(grad[:, :, :, 1:], expected)
    for number in (1, 10, 'x'):
        with pytest.raises(mx.MXNetError, match='2 to 9'):
            mx.nd.gluon_aff_copies(x, number=number).wait_to_read()


# Runs

RUN = (
    '--dataset digits --model cifar_aff_resnet8 --width 1 --train-images 128 --test-images 50 '
    '--lr-mode constant --warmup-epochs 0'
)


def run(folder, *flags):
    return train_cifar.main([*RUN.split(), '--save-dir', str(folder), *flags])


@with_bfloat16
def test_a_run_in_bfloat16_is_resumed_bit_for_bit_and_learns_as_in_float32(tmp_path):
    low = '--dtype', 'bfloat16'
    whole = run(tmp_path / 'whole', '--num-epochs', '2', *low)
    run(tmp_path / 'halved', '--num-epochs', '1', *low)
    assert run(tmp_path / 'halved', '--num-epochs', '2', *low, '--resume')['loss'] == whole['loss']
    (one, _), (other, _) = (read_checkpoint(checkpoints(str(tmp_path / name))[0]) for name in ('whole', 'halved'))
    assert {value.dtype for name, value in one.items() if 'weight' in name} == {np.dtype('float32')}
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)
    assert run(tmp_path / 'float32', '--num-epochs', '2')['loss'] == pytest.approx(whole['loss'], rel=0.05)
    with refused("--dtype was 'bfloat16' and is 'float32'"):
        run(tmp_path / 'whole', '--num-epochs', '2', '--resume')


@with_bfloat16
def test_the_network_stays_as_it_was():
    net, x = filled(AFF(32)), tensor((4, 32, 5, 4))
    net.hybridize()
    expected = net(x, x)
    around = Between(net, 2)
    for child in (around.branches, around.head):
        child.initialize()
    bfloat16_network(around)(tensor((4, 3, 5, 4)))
    assert np.array_equal(net(x, x).asnumpy(), expected.asnumpy())
    assert 'bfloat16' not in net(mx.sym.var('x'), mx.sym.var('y')).tojson()


@with_bfloat16
def test_the_comparison_of_types_trains_each_run_once(tmp_path, capsys):
    command = '--dataset digits --width 1 --train-images 64 --test-images 40 --num-epochs 1 --seeds 0'
    command = [*command.split(), '--save-dir', str(tmp_path)]
    accuracies = dtypes.main(command)
    assert list(accuracies) == ['float32', 'bfloat16'] and all(len(values) == 1 for values in accuracies.values())
    assert '| bfloat16 |' in capsys.readouterr().out
    assert dtypes.main(command) == accuracies and capsys.readouterr().out.count('is done') == 2


# Refused


def set_flags(monkeypatch, flags):
    for module in ('gluon_aff.train.mixed_precision', 'gluon_aff.instruction_sets'):
        monkeypatch.setattr(f'{module}.cpu_flags', lambda: set(flags.split()))


@pytest.mark.parametrize(
    'flags, isa, reason',
    [
        ('avx2 fma avx512f avx512_vnni', None, 'without AVX512-BF16 or AMX, which this processor lacks'),
        ('avx512_bf16', 'AVX512_CORE', 'which DNNL_MAX_CPU_ISA=AVX512_CORE excludes'),
        ('amx_bf16', 'AVX2', 'which DNNL_MAX_CPU_ISA=AVX2 excludes'),
        ('', None, 'which this processor does not tell'),
    ],
)
def test_a_processor_without_bfloat16_is_told_so(flags, isa, reason, monkeypatch, tmp_path):
    set_flags(monkeypatch, flags)
    if isa:
        monkeypatch.setenv('DNNL_MAX_CPU_ISA', isa)
    with refused(reason):
        run(tmp_path / 'run', '--num-epochs', '1', '--dtype', 'bfloat16')
    assert not (tmp_path / 'run').exists()


# oneDNN in MXNet takes no lower case, and ignores what it does not know.
@pytest.mark.parametrize('isa', [None, 'AVX512_CORE_BF16', 'ALL', 'AVX512_CORE_AMX', 'avx2'])
def test_a_processor_with_bfloat16_may_be_limited_to_it(isa, monkeypatch):
    set_flags(monkeypatch, 'avx512_bf16')
    monkeypatch.delenv('DNNL_MAX_CPU_ISA', raising=False)
    if isa:
        monkeypatch.setenv('DNNL_MAX_CPU_ISA', isa)
    check_bfloat16([mx.cpu()])


def test_other_devices_and_blocks_are_refused(tmp_path):
    with refused('trains on a CPU only'):
        check_bfloat16([mx.gpu()])
    with refused('needs a HybridBlock, got a Sequential'):
        bfloat16_network(nn.Sequential())
    with refused('--mode is of no use with --dtype bfloat16'):
        run(tmp_path, '--dtype', 'bfloat16', '--mode', 'imperative')


def test_without_avx512_float32_trains_and_bfloat16_is_one_sentence(tmp_path):
    """In oneDNN's own terms, in a process of its own."""
    script, common = (
        str(TOP / 'train_cifar.py'),
        [*RUN.split(), '--num-epochs', '1', '--save-dir', str(tmp_path / 'run')],
    )
    status, _, err = finish(start(script, *common, '--dtype', 'bfloat16', DNNL_MAX_CPU_ISA='AVX2'))
    assert status == 2 and len(err.strip().splitlines()) == 1 and 'which DNNL_MAX_CPU_ISA=AVX2 excludes' in err, err
    status, out, err = finish(start(script, *common, DNNL_MAX_CPU_ISA='AVX2'))
    assert status == 0 and 'Best accuracy' in out and Path(tmp_path, 'run', 'best.params').exists(), err
