"""Every registered network, and every option of every host on a small representative of it."""

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import mxnet as mx
import numpy as np
import pytest
from gluoncv.model_zoo import resnet18_v1b
from hypothesis import given, settings
from hypothesis import strategies as st
from mxnet import autograd
from mxnet.gluon import nn
from reference import error, filled, in_every_form, parameters, refused, tensor, trainable

from gluon_aff import AFF, FUSIONS, Add, Fusion
from model_zoo import get_model, list_models, model_info
from model_zoo.hosts.attention_resnet import AAResNet, ECAResNet, GEResNet, LIPResNet, SEResNet, SKResNet
from model_zoo.hosts.cifar_resnet import CifarResNet
from model_zoo.hosts.cifar_resnext import CifarResNeXt
from model_zoo.hosts.fpn import FPN
from model_zoo.hosts.inception import InceptionResNet
from model_zoo.hosts.resnet import ResNet
from model_zoo.hosts.resnext import ResNeXt
from model_zoo.hosts.unet import UNet

SCALES = [('local', 'global'), ('local', 'local'), ('global', 'global')]

# Random networks must neither blow up nor forget their input on the way: blocks of AFF double, of iAFF halve.
GAIN = {'add': 1, 'concat': 1, 'aff': 0.7, 'iaff': 1.86}

BASIC = 'ResNet of basic blocks'  # of the family ResNet

SMALL = {
    'ResNet': partial(ResNet, (1, 1, 1, 1), classes=5),
    BASIC: partial(ResNet, (1, 1, 1, 1), classes=5, bottleneck=False),
    'ResNeXt': partial(ResNeXt, (1, 1, 1, 1), classes=5),
    'SE-ResNet': partial(SEResNet, (1, 1, 1, 1), classes=5),
    'ECA-Net': partial(ECAResNet, (1, 1, 1, 1), classes=5),
    'GE-ResNet': partial(GEResNet, (1, 1, 1, 1), classes=5, input_size=32),
    'AA-ResNet': partial(AAResNet, (1, 1, 1, 1), classes=5, input_size=32),
    'LIP-ResNet': partial(LIPResNet, (1, 1, 1, 1), classes=5),
    'SKNet': partial(SKResNet, (1, 1, 1, 1), classes=5),
    'CIFAR ResNet': partial(CifarResNet, (1, 1, 1), classes=5),
    'CIFAR ResNeXt': partial(CifarResNeXt, (1, 1, 1), classes=5),
    'Inception-ResNet': partial(InceptionResNet, (1, 1, 1), classes=5),
    'FPN': partial(FPN, (1, 1, 1), classes=5),
    'U-Net': partial(UNet, (1, 1, 1), classes=5),
}
COMPARATORS = ['SE-ResNet', 'ECA-Net', 'GE-ResNet', 'AA-ResNet', 'LIP-ResNet', 'SKNet']
IMAGENET = ['ResNet', BASIC, 'ResNeXt', *COMPARATORS]
ONE_SIZE = ['GE-ResNet', 'AA-ResNet']  # their parameters depend on the size of the images
CIFAR = ['CIFAR ResNet', 'CIFAR ResNeXt', 'Inception-ResNet']
SEGMENTATION = ['FPN', 'U-Net']
PRE_ACTIVATION = ['CIFAR ResNet', 'Inception-ResNet', *SEGMENTATION]

# Channels of the stages, the stem first, and the factors that their maps are smaller by.
STAGES = {
    'ResNet': ((64, 256, 512, 1024, 2048), (4, 4, 8, 16, 32)),
    BASIC: ((64, 64, 128, 256, 512), (4, 4, 8, 16, 32)),
    'ResNeXt': ((128, 256, 512, 1024, 2048), (4, 4, 8, 16, 32)),
    **dict.fromkeys(COMPARATORS, ((64, 256, 512, 1024, 2048), (4, 4, 8, 16, 32))),
    'CIFAR ResNet': ((64, 64, 128, 256), (1, 1, 2, 4)),
    'CIFAR ResNeXt': ((64, 256, 512, 1024), (1, 1, 2, 4)),
    'Inception-ResNet': ((64, 64, 128, 256), (1, 1, 2, 4)),
    'FPN': ((16, 16, 32, 64), (1, 1, 2, 4)),
    'U-Net': ((16, 16, 32, 64), (1, 1, 2, 4)),
}

every_host = pytest.mark.parametrize('host', SMALL)
with_stem = pytest.mark.parametrize('host', IMAGENET)
# The comparators have ResNet's constructor, and U-Net has FPN's.
CLASSIFIERS = ['ResNet', 'ResNeXt', *CIFAR]
every_constructor = pytest.mark.parametrize('host', [*CLASSIFIERS, 'FPN'])
every_classifier = pytest.mark.parametrize('host', CLASSIFIERS)
# One network each of the three base classes' layouts of a head, for what the common base class does.
every_head = pytest.mark.parametrize('host', ['ResNet', 'CIFAR ResNet', 'U-Net'])


def shallowest():
    """The registered network of least depth for each family, fusion and dataset; the others repeat its blocks."""
    models = {}
    for name in sorted(list_models(), key=lambda name: model_info(name).parameters):
        card = model_info(name)
        if not is_basic(name) or card.family == 'ResNet':
            models.setdefault((card.family, is_basic(name), card.fusion, card.dataset), name)
    return sorted(models.values())


def is_basic(name):
    return '_resnet18' in f'_{name}' or '_resnet34' in f'_{name}'


def size_of(name):
    return 64 if model_info(name).spec.input_size[1] > 100 else 32


def shape_of(classes, x, segments):
    """Of the outputs for images x."""
    return (len(x), classes, *(x.shape[2:] if segments else ()))


def sized(host, size, **options):
    """A small representative for images of this size."""
    return SMALL[host](**options, **({'input_size': size} if host in ONE_SIZE else {}))


def blocks(net, kind):
    actual = []
    net.apply(lambda block: actual.append(block) if isinstance(block, kind) else None)
    return actual


def initialised(net, init=None):
    net.initialize(init or mx.init.Xavier())
    return net


def gradients(net, x):
    """Make the gradients of a training step, and return its logits."""
    with autograd.record():
        logits = net(x)
        loss = (logits * tensor(logits.shape, 1)).sum()
    loss.backward()
    return logits


def test_every_family_has_a_small_representative_here():
    assert {model_info(name).family for name in list_models()} | {BASIC} == SMALL.keys() == STAGES.keys()


# Registered networks; the slow tier runs all of them (test_every_network.py)


@pytest.fixture(scope='module', params=shallowest())
def model(request):
    """A registered network's name, its file of parameters, inputs of two sizes, and its outputs in every form."""
    name, card, size = request.param, model_info(request.param), size_of(request.param)
    options = {'input_size': size} if card.family in ONE_SIZE else {}
    # Where only few fusions are and the shortcuts are added, nothing doubles or halves.
    gain = 1 if card.family in ('Inception-ResNet', *SEGMENTATION) else GAIN[card.fusion]
    net = filled(get_model(name, **options), gain, np.random.default_rng)
    # Gates that are nearly steps would make of a rounding error in a deep network's first stage another output.
    for key, parameter in parameters(net).items():
        if '_att' in key and key.endswith('weight'):
            parameter.set_data(0.1 * parameter.data())
    inputs = [tensor((1, 3, size, size)), tensor((2, 3, *((size, size) if options else (size - 15, size // 2 + 1))))]
    with TemporaryDirectory() as folder:
        path = str(Path(folder) / 'net.params')
        net.save_parameters(path)
        # Each graph is made on the first size, and must serve the other one as well.
        yield name, options, path, inputs, in_every_form(net, Path(folder), *((x,) for x in inputs))


def test_network_is_one_function_eager_hybridized_and_exported(model):
    name, _, _, inputs, outputs = model
    card = model_info(name)
    assert [y.shape for y in outputs['eager']] == [
        shape_of(card.classes, x, card.spec.task == 'segmentation') for x in inputs
    ]
    first, second = outputs['eager'][1]
    assert 5e-4 < error(first, second) < np.inf, 'the outputs must depend on the image for this test to tell'
    for form, actual in outputs.items():
        for y, expected in zip(actual, outputs['eager']):
            assert error(y, expected) <= 1e-5, form


def test_saved_network_loads_into_one_of_unknown_input_channels_whose_parameters_a_training_step_changes(model):
    name, options, path, inputs, outputs = model
    net = get_model(name, in_channels=0, **options)
    net.load_parameters(path)
    assert [error(net(x), y) for x, y in zip(inputs, outputs['eager'])] == [0, 0]

    before = {key: p.data().asnumpy() for key, p in parameters(net).items()}
    # Steps by the gradient's sign alone are as large for small gradients.
    trainer = mx.gluon.Trainer(net.collect_params(), 'signum', {'learning_rate': 0.01, 'momentum': 0, 'wd': 0})
    side = options.get('input_size', size_of(name) // 2)
    gradients(net, tensor((6, 3, side, side)))
    trainer.step(1)
    for key, parameter in parameters(net).items():
        # A bias in front of a norm is subtracted again, so its gradient is rounding only.
        if parameter.grad_req != 'null' and not ('_att' in key and key.endswith('bias')):
            after = parameter.data().asnumpy()
            assert np.isfinite(after).all() and (after != before[key]).any(), key


@pytest.mark.parametrize('name', shallowest())
def test_float16_network_has_float16_outputs_and_float32_norms(name):
    net = get_model(name)
    net.cast('float16')
    y = net(mx.sym.var('data'))
    arguments, outputs, statistics = y.infer_type(data='float16')
    assert outputs == [np.float16] and set(statistics) == {np.float32}
    for key, kind in zip(y.list_arguments(), arguments):
        assert kind == (np.float32 if key.endswith(('gamma', 'beta')) else np.float16), key


# Every host: parameters


@pytest.mark.parametrize(
    'host, init, in_channels',
    [
        *((host, mx.init.Xavier(), 0) for host in SMALL),
        *((host, mx.init.Uniform(), 1) for host in CLASSIFIERS),
        *((host, mx.init.MSRAPrelu(), 4) for host in SEGMENTATION),
    ],
)
def test_initialised_network_takes_images_of_any_number_of_channels(host, init, in_channels):
    net = initialised(SMALL[host](in_channels=in_channels), init)
    net.hybridize()
    y = net(tensor((2, in_channels or 2, 32, 32)))
    assert y.shape == shape_of(5, y, host in SEGMENTATION) and np.isfinite(y.asnumpy()).all()


@every_host
def test_running_statistics_follow_the_images_in_training(host):
    net = initialised(SMALL[host]())
    gradients(net, tensor((4, 3, 32, 32)) + 5)
    statistics = [key for key in parameters(net) if key.endswith('running_mean')]
    still = [key for key in statistics if not parameters(net)[key].data().abs().sum().asscalar()]
    # MXNet moves them in the backward pass, which does not reach a norm without gamma and beta on the images.
    assert still == (['features.0.running_mean'] if host in PRE_ACTIVATION else [])


@every_host
def test_float16_parameters_save_and_load(host, tmp_path):
    net, path = filled(SMALL[host](fusion='iaff')), str(tmp_path / 'net.params')
    net.cast('float16')
    net.save_parameters(path)
    other = SMALL[host](fusion='iaff')
    other.cast('float16')
    other.load_parameters(path)
    for (key, p), q in zip(parameters(net).items(), parameters(other).values()):
        assert p.data().dtype == q.data().dtype and error(q.data(), p.data()) == 0, key


@pytest.mark.gpu
@pytest.mark.skipif(mx.context.num_gpus() == 0, reason='MXNet convolves in float16 on GPUs only')
@every_host
def test_float16_forward(host):
    net, x = filled(sized(host, 64, fusion='iaff')), tensor((2, 3, 64, 64)).as_in_context(mx.gpu())
    net.collect_params().reset_ctx(mx.gpu())
    expected = net(x)
    net.cast('float16')
    y = net(x.astype('float16'))
    assert y.dtype == np.float16 and error(y, expected) <= 2e-2


# Every host: the head


def check_fresh_head(net, classes, x):
    head = getattr(net, net.head_name)
    assert net.classes == classes and head.weight.shape[0] == classes
    assert net(x).shape[:2] == (len(x), classes)


@every_constructor
def test_reset_classifier_replaces_the_head_of_an_initialised_network_and_nothing_else(host):
    net, x = initialised(SMALL[host]()), tensor((2, 3, 32, 32))
    net.hybridize()
    assert net(x).shape[:2] == (2, 5)
    before = {key: p.data() for key, p in parameters(net).items() if not key.startswith(net.head_name)}
    net.reset_classifier(7)
    check_fresh_head(net, 7, x)
    assert all(parameters(net)[key].data() is data for key, data in before.items())
    assert len(parameters(net)) == len(before) + 2
    net.reset_classifier(1)
    check_fresh_head(net, 1, x)


@every_head
def test_reset_classifier_of_an_uninitialised_network_leaves_it_so(host):
    net = SMALL[host]()
    net.reset_classifier(7)
    with pytest.raises(RuntimeError, match='has not been initialized'):
        net(tensor((1, 3, 32, 32)))
    check_fresh_head(initialised(net), 7, tensor((1, 3, 32, 32)))


@every_head
def test_reset_classifier_keeps_devices_and_type(host):
    net, devices = SMALL[host](in_channels=0), [mx.cpu(0), mx.cpu(1)]
    net.initialize(ctx=devices)
    net.cast('float16')
    net.reset_classifier(7)
    for parameter in getattr(net, net.head_name).collect_params().values():
        assert parameter.list_ctx() == devices and parameter.data(devices[1]).dtype == np.float16


@every_constructor
def test_a_number_of_classes_that_is_none_is_refused(host):
    net = SMALL[host]()
    for classes in (0, -1, True, 'a', None, 2.0):
        with refused('classes must be a positive whole number'):
            SMALL[host](classes=classes)
        with refused('classes must be a positive whole number'):
            net.reset_classifier(classes)
    assert net.classes == 5


@every_constructor
def test_final_drop_drops_features_in_training_only(host):
    # With the running statistics in training, too, dropout is all that differs there.
    net, x, seen = filled(SMALL[host](final_drop=0.5, use_global_stats=True)), tensor((2, 3, 32, 32)), []
    assert error(net(x), filled(SMALL[host](use_global_stats=True))(x)) == 0
    getattr(net, net.head_name).register_forward_pre_hook(lambda block, inputs: seen.append(inputs[0].asnumpy()))
    net(x)
    with autograd.train_mode():
        net(x)
    inference, training = seen
    dropped = training[inference > 0] == 0
    assert 0.3 < dropped.mean() < 0.7
    np.testing.assert_allclose(training[training > 0], 2 * inference[training > 0], rtol=1e-4, atol=1e-4)


# Every host: the stages


@every_host
def test_stage_outputs_are_the_maps_by_number_the_stem_first(host):
    net, x = filled(sized(host, (64, 96))), tensor((2, 3, 64, 96))
    channels, factors = STAGES[host]
    maps = net.stage_outputs(x)
    assert [m.shape for m in maps] == [(2, c, 64 // f, 96 // f) for c, f in zip(channels, factors)]
    chosen = net.stage_outputs(x, [2, 0, 2])
    assert [error(m, maps[i]) for m, i in zip(chosen, (2, 0, 2))] == [0, 0, 0]
    assert net.stage_outputs(x, []) == []


@every_classifier
def test_the_head_is_on_the_last_stage(host):
    net, x = filled(SMALL[host]()), tensor((2, 3, 32, 32))
    pooled = []
    getattr(net, net.head_name).register_forward_pre_hook(lambda block, inputs: pooled.append(inputs[0]))
    net(x)
    last = net.stage_outputs(x)[-1]
    if host in PRE_ACTIVATION:  # a pre-activation network has one norm and ReLU more behind its stages
        last = mx.nd.relu(net.features[-4](last))
    assert error(last.mean((2, 3)), pooled[0]) <= 1e-5


@every_constructor
def test_stage_outputs_of_a_hybridized_network_and_of_a_symbol(host):
    net, x = filled(SMALL[host]()), tensor((1, 3, 32, 32))
    expected = net.stage_outputs(x, [1, 2])
    net.hybridize()
    net(x)
    assert all(error(actual, e) <= 1e-5 for actual, e in zip(net.stage_outputs(x, [1, 2]), expected))
    symbols = mx.sym.Group(net.stage_outputs(mx.sym.var('data'), [1, 2]))
    assert symbols.infer_shape(data=x.shape)[1] == [e.shape for e in expected]


@every_head
def test_a_stage_that_is_none_is_refused(host):
    net = initialised(SMALL[host]())
    for stage in (-1, 9, 'last', None, 1.5):
        with refused(f'has stages 0 to {len(STAGES[host][0]) - 1}, not {stage!r}'):
            net.stage_outputs(tensor((1, 3, 32, 32)), [0, stage])


@pytest.fixture(scope='module', params=[host for host in IMAGENET if host not in ONE_SIZE])
def imagenet_network(request):
    return filled(SMALL[request.param]())


@settings(max_examples=15)
@given(height=st.integers(17, 97), width=st.integers(17, 97))
def test_imagenet_network_takes_every_size_and_halves_it_rounding_up(imagenet_network, height, width):
    x = tensor((1, 3, height, width))
    assert [m.shape[2:] for m in imagenet_network.stage_outputs(x)] == [
        (-(-height // factor), -(-width // factor)) for factor in (4, 4, 8, 16, 32)
    ]
    y = imagenet_network(x)
    assert y.shape == (1, 5) and np.isfinite(y.asnumpy()).all()


@settings(max_examples=15)
@given(host=st.sampled_from(CIFAR + SEGMENTATION), height=st.integers(3, 40), width=st.integers(3, 40))
def test_network_for_small_images_takes_every_size_and_halves_it_rounding_up(host, height, width):
    net, x = filled(SMALL[host](width=1)), tensor((1, 3, height, width))
    assert [m.shape[2:] for m in net.stage_outputs(x)] == [
        (-(-height // factor), -(-width // factor)) for factor in (1, 1, 2, 4)
    ]
    y = net(x)
    assert y.shape == shape_of(5, x, host in SEGMENTATION) and np.isfinite(y.asnumpy()).all()


# Every host: the images


@pytest.mark.parametrize(
    'host, hybridize',
    [('ResNet', True), ('GE-ResNet', False), ('ResNeXt', False), ('CIFAR ResNet', False), ('U-Net', True)],
)
def test_what_is_no_image_for_the_network_is_refused(host, hybridize):
    net = initialised(SMALL[host]())
    if hybridize:
        net.hybridize()
    for x in (
        tensor((3, 32, 32)),
        tensor((1, 1, 32, 32)),
        tensor((1, 3, 32, 32)).astype('uint8'),
        tensor((1, 3, 32, 32)).astype('float16'),
        tensor((1, 3, net.min_size - 1, 32)),
        tensor((1, 32, 32, 3)),
    ):
        with refused('takes images'):
            net(x)
    size = net.input_size or (net.min_size, net.min_size)
    assert net(tensor((1, 3, *size))).shape[:2] == (1, 5)


@every_head
def test_channels_other_than_those_of_the_first_images_are_refused(host):
    net = initialised(SMALL[host](in_channels=0))
    net(tensor((1, 1, 32, 32)))
    with refused('takes images'):
        net(tensor((1, 3, 32, 32)))


# Every host: the options


def fusion_types(net):
    """The class of each fusion, Add for those derived from it."""
    return [Add if isinstance(block, Add) else type(block) for block in blocks(net, Fusion)]


@pytest.mark.parametrize(
    'host, fusion',
    [(host, 'iaff') for host in SMALL]
    + [(host, fusion) for host in ('CIFAR ResNet', 'FPN') for fusion in FUSIONS if fusion != 'iaff'],
)
def test_host_takes_every_fusion(host, fusion):
    net = initialised(SMALL[host](fusion=fusion, reduction=8, **({} if host in SEGMENTATION else {'start_stage': 2})))
    assert net(tensor((1, 3, 32, 32))).shape[:2] == (1, 5)
    stages, actual = len(STAGES[host][0]) - 1, fusion_types(net)
    assert actual.count(FUSIONS[fusion]) == (len(actual) if fusion == 'add' else stages - 1)
    assert set(actual) <= {Add, AFF if fusion == 'recursive_aff' else Add, FUSIONS[fusion]}


@every_classifier
def test_attention_fuses_from_start_stage_on(host):
    stages = len(STAGES[host][0]) - 1
    for start in range(1, stages + 1):
        actual = fusion_types(SMALL[host](fusion='iaff', start_stage=start))
        if host == 'Inception-ResNet':  # behind the fusion of its branches, each block has an added shortcut
            assert actual[1::2] == [Add] * stages
            actual = actual[::2]
        assert actual == [Add] * (start - 1) + [FUSIONS['iaff']] * (stages - start + 1)
    start = 3 if host in IMAGENET else 1
    assert parameters(SMALL[host]()).keys() == parameters(SMALL[host](start_stage=start)).keys(), 'the default'


@every_classifier
def test_reduction_sets_the_squeezed_channels(host):
    channels = STAGES[host][0][-1]
    for reduction in (1, 4, 16):
        squeezed = channels // reduction
        context = 2 * channels * squeezed + squeezed + channels + 2 * squeezed + 2 * channels
        last = {'fusion': 'aff', 'start_stage': len(STAGES[host][0]) - 1, 'reduction': reduction}
        assert trainable(SMALL[host](**last)) == trainable(SMALL[host](fusion='add')) + 2 * context


@pytest.mark.parametrize('host', CIFAR + SEGMENTATION)
def test_width_multiplies_the_channels_of_every_stage(host):
    default = 1 if host in SEGMENTATION else 4
    for width in (1, 8):
        maps = initialised(SMALL[host](width=width)).stage_outputs(tensor((1, 3, 8, 8)))
        assert [m.shape[1] for m in maps] == [c * width // default for c in STAGES[host][0]]


@pytest.mark.parametrize('host', ['ResNet', 'ResNeXt'])
def test_stem_is_three_convolutions_of_the_stem_width_or_one_of_seven_by_seven(host):
    stem = [p.shape for key, p in parameters(SMALL[host](stem_width=24)).items() if p.shape[2:] == (3, 3)][:3]
    assert stem == [(24, 3, 3, 3), (24, 24, 3, 3), (48, 24, 3, 3)]
    net = initialised(sized(host, 33, deep_stem=False))
    assert [p.shape for p in parameters(net).values() if p.shape[2:] == (7, 7)] == [(64, 3, 7, 7)]
    assert net(tensor((1, 3, 33, 33))).shape == (1, 5)


@with_stem
def test_dilated_network_keeps_the_resolution_of_stage_2_with_the_same_parameters(host):
    net, undilated = (filled(sized(host, (65, 96), dilated=dilated)) for dilated in (True, False))
    shapes = [{k: p.shape for k, p in parameters(network).items()} for network in (net, undilated)]
    assert shapes[0] == shapes[1] or host in ONE_SIZE
    x = tensor((1, 3, 65, 96))
    assert [m.shape[2:] for m in net.stage_outputs(x)] == [(17, 24), (17, 24), (9, 12), (9, 12), (9, 12)]
    assert error(net(x), undilated(x)) > 0


@pytest.mark.parametrize('dilated', [False, True])
def test_basic_blocks_compute_what_gluoncvs_do(dilated):
    theirs = resnet18_v1b(classes=5, dilated=dilated)
    theirs.initialize(mx.init.Xavier())
    ours, x = get_model('resnet18', classes=5, dilated=dilated), tensor((2, 3, 65, 96))
    expected = theirs(x)
    assert {name: p.shape for name, p in parameters(ours).items()} == {
        name: p.shape for name, p in parameters(theirs).items()
    }
    for name, parameter in parameters(ours).items():
        parameter.initialize(mx.init.Constant(parameters(theirs)[name].data()))
    assert error(ours(x), expected) == 0


@pytest.mark.parametrize('host', ['ResNet', BASIC, 'ResNeXt', 'LIP-ResNet', 'AA-ResNet'])
def test_a_stem_for_small_inputs_keeps_the_resolution(host):
    net, x = filled(sized(host, (9, 14), small_input=True)), tensor((1, 3, 9, 14))
    assert net.min_size == 5
    assert [m.shape[2:] for m in net.stage_outputs(x)] == [(9, 14), (9, 14), (5, 7), (3, 4), (2, 2)]
    net.hybridize()
    assert net(x).shape == (1, 5)
    large = {name: p.shape for name, p in parameters(sized(host, 32)).items()}
    small = {name: p.shape for name, p in parameters(sized(host, 8, small_input=True)).items()}
    lip = {name for name in large if name.startswith('maxpool')}  # in place of the max-pool
    assert host in ONE_SIZE or small == {name: shape for name, shape in large.items() if name not in lip}


@pytest.mark.parametrize('name', ['resnet18', 'resnext50_32x4d'])
def test_without_a_deep_stem_it_is_a_convolution_of_three_by_three(name):
    net = get_model(name, small_input=True, features_only=True)
    stem = next(p.shape for p in parameters(net).values() if len(p.shape) == 4)
    assert stem == (64, 3, 3, 3) and net.feature_info.reduction() == [1, 1, 2, 4, 8]


def test_lip_networks_have_no_basic_blocks():
    with refused('bottlenecks only'):
        get_model('lip_resnet101', bottleneck=False)


@with_stem
def test_without_avg_down_the_shortcut_convolution_is_strided(host):
    net, pooled = (initialised(sized(host, (33, 47), avg_down=avg_down)) for avg_down in (False, True))
    assert not blocks(net, nn.AvgPool2D)
    x = tensor((1, 3, 33, 47))
    assert [m.shape for m in net.stage_outputs(x)] == [m.shape for m in pooled.stage_outputs(x)]


@pytest.mark.parametrize('host', ['ResNet', BASIC, 'ResNeXt', 'CIFAR ResNeXt'])
def test_last_gamma_starts_the_last_norm_of_every_block_at_zero(host):
    def zeros(net):
        net = initialised(net)
        return [key for key, p in parameters(net).items() if key.endswith('gamma') and not p.data().asnumpy().any()]

    assert zeros(SMALL[host]()) == []
    actual = zeros(SMALL[host](last_gamma=True))
    assert len(actual) == len(STAGES[host][0]) - 1
    assert all(key.endswith(('bn2.gamma' if host == BASIC else 'bn3.gamma', 'body.7.gamma')) for key in actual)


@pytest.mark.parametrize(
    'name, option',
    [
        (name, option)
        for name in (
            'aff_resnet50',
            'aff_resnext50_32x4d',
            'cifar_aff_resnext38_32x4d',
            'cifar_aff_resnet8',
            'fpn_aff_resnet8',
        )
        for option in ('last_gamma', 'avg_down', 'deep_stem', 'small_input', 'use_global_stats')
        if not (
            name.startswith('cifar')
            and option in ('avg_down', 'deep_stem', 'small_input')
            or name.endswith('8')
            and option != 'use_global_stats'
        )
    ],
)
def test_a_switch_that_is_neither_true_nor_false_is_refused(name, option):
    for value in ('x', None, 2, 'False'):
        with refused(f'{option} must be True or False, got {value!r}'):
            get_model(name, **{option: value})


@every_host
def test_norm_kwargs_reach_every_norm_and_stay_as_they_are(host):
    kwargs = {'epsilon': 1e-3, 'momentum': 0.7}
    net = SMALL[host](norm_kwargs=kwargs, use_global_stats=True, fusion='iaff')
    norms = blocks(net, nn.BatchNorm)
    assert len(norms) == sum(key.endswith('running_mean') for key in parameters(net))
    for norm in norms:
        assert norm._kwargs['eps'] == 1e-3 and norm._kwargs['momentum'] == 0.7 and norm._kwargs['use_global_stats']
    assert kwargs == {'epsilon': 1e-3, 'momentum': 0.7}


@every_host
def test_with_use_global_stats_training_normalises_as_inference_does(host):
    net, x = filled(SMALL[host](use_global_stats=True)), tensor((2, 3, 32, 32))
    with autograd.train_mode():
        training = net(x)
    assert error(training, net(x)) <= 1e-5


# Every host: one fusion for another


def outside(net):
    """Shapes of the parameters that belong to no fusion."""
    inside = {id(p) for block in blocks(net, Fusion) for p in block.collect_params().values()}
    return {name: p.shape for name, p in parameters(net).items() if id(p) not in inside}


@every_host
def test_trading_the_fusion_changes_nothing_else(host):
    added = SMALL[host](fusion='add')
    expected = {name: p.shape for name, p in parameters(added).items()}
    for fusion in FUSIONS:
        assert outside(SMALL[host](fusion=fusion)) == expected, fusion


@every_constructor
@settings(max_examples=5)
@given(data=st.data())
def test_context_scales_have_equal_parameter_counts(host, data):
    options = {'reduction': data.draw(st.sampled_from([1, 2, 4, 16]))}
    if host not in IMAGENET:
        options['width'] = data.draw(st.integers(1, 3))
    kind, layers = SMALL[host].func, (data.draw(st.integers(1, 2)),) * (len(STAGES[host][0]) - 1)
    assert len({trainable(kind(layers, fusion=partial(AFF, scales=scales), **options)) for scales in SCALES}) == 1


# What is refused

REFUSED = [
    ({'final_drop': 1}, 'final_drop must be a ratio'),
    ({'final_drop': -0.1}, 'final_drop must be a ratio'),
    ({'final_drop': 'a'}, 'final_drop must be a ratio'),
    ({'final_drop': None}, 'final_drop must be a ratio'),
    ({'reduction': 0}, 'reduction must be'),
    ({'reduction': 'a'}, 'reduction must be'),
    ({'reduction': 3}, 'reduction 3'),
    ({'reduction': 4096}, 'reduction 4096'),
    ({'in_channels': -1}, 'in_channels must be'),
    ({'in_channels': 'a'}, 'in_channels must be'),
    ({'in_channels': 1.5}, 'in_channels must be'),
    ({'fusion': 'afff'}, 'did you mean aff'),
    ({'fusion': None}, 'Unknown fusion None'),
]


@every_constructor
def test_options_out_of_their_range_are_refused(host):
    for options, message in REFUSED:
        with refused(message):
            SMALL[host](**options)


@every_classifier
def test_a_start_stage_that_is_none_is_refused(host):
    for start_stage in (0, 5, 'a', True):
        with refused('start_stage must be 1 to'):
            SMALL[host](start_stage=start_stage)


@pytest.mark.parametrize(
    'host, options',
    [
        ('ResNet', ['stem_width']),
        ('ResNeXt', ['stem_width', 'cardinality', 'bottleneck_width']),
        ('CIFAR ResNeXt', ['width', 'cardinality', 'bottleneck_width']),
    ],
)
def test_an_option_that_is_no_positive_whole_number_is_refused(host, options):
    for option in options:
        for value in (0, -4, 'a', 1.5, True):
            with refused(f'{option} must be a positive whole number'):
                SMALL[host](**{option: value})


@pytest.mark.parametrize('host', ['CIFAR ResNet', 'Inception-ResNet', 'FPN'])
def test_a_width_may_be_a_fraction_above_1(host):
    for value in (0, -4, 'a', 0.5, np.nan, np.inf, True):
        with refused('width must be a number, 1 or more'):
            SMALL[host](width=value)
    shapes = [
        [parameter.shape for parameter in SMALL[host](**options).collect_params().values()]
        for options in ({'width': 2}, {'width': 2.0}, {'width': 1.045, 'fusion': 'add'})
    ]
    assert shapes[0] == shapes[1]
    # 16.72, 33.44 and 66.88 channels, rounded.
    assert {17, 33, 67} <= {shape[0] for shape in shapes[2]} and 16 not in {shape[0] for shape in shapes[2]}


@every_constructor
def test_layers_that_are_no_numbers_of_blocks_are_refused(host):
    kind = SMALL[host].func
    for layers in ((1, 1, 0, 1), (1, 'a', 1, 1), (1, -1, 1, 1)):
        with refused('number of blocks'):
            kind(layers)
    if host in IMAGENET:
        with refused('layers must be 4 numbers of blocks'):
            kind((1, 1, 1))


@pytest.mark.parametrize(
    'name',
    [
        'aff_resnet50',
        'aa_resnet101',
        'iaff_resnext50_32x4d',
        'cifar_aff_resnet8',
        'cifar_add_resnext38_32x4d',
        'cifar_concat_inception_resnet8',
        'fpn_aff_resnet8',
        'unet_aff_resnet8',
    ],
)
def test_unknown_option_is_refused_with_the_nearest_ones(name):
    with refused('did you mean reduction'):
        get_model(name, reductoin=4)
    with refused('option'):
        get_model(name, layers=(1, 1, 1, 1))
