"""Folding and export: what leaves the project computes what the network does."""

import hashlib
import json
import os
import re
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import mxnet as mx
import numpy as np
import pytest
from gluoncv.nn import GroupNorm as GluonCVGroupNorm
from hypothesis import given
from hypothesis import strategies as st
from mxnet import gluon
from mxnet.contrib.quantization import quantize_net
from mxnet.gluon import HybridBlock, nn
from mxnet.gluon.contrib.nn import SyncBatchNorm
from PIL import Image
from programs import TOP
from reference import error, filled, loaded, refused, tensor, tiered

from gluon_aff import FUSIONS
from gluon_aff.data.preprocessing import normalise
from gluon_aff.deploy import (
    Predictor,
    compare_onnx,
    export,
    export_onnx,
    export_symbol,
    fold_batchnorm,
    graph,
    is_export,
    quantize_onnx,
    read_export,
    sensitive_nodes,
    write_onnx,
    write_symbol,
)
from gluon_aff.deploy.graph import Graph
from gluon_aff.layers.comparators import AAConv
from gluon_aff.spec import ModelSpec
from model_zoo import get_model, list_models
from model_zoo.__main__ import main
from model_zoo.loading import LoadedModel, load_model, open_predictor

onnx = pytest.importorskip('onnx', reason="needs the extra 'onnx'")
onnxruntime = pytest.importorskip('onnxruntime', reason="needs the extra 'onnx'")

SHIPPED = 'fashion_mnist_aff_resnet8'
OPENCV_5 = hasattr(cv2.dnn, 'ENGINE_NEW')
FIXED = ('aa_', 'ge_')  # their parameters are for maps of one size
# The others of SHALLOWEST are in the slow tier.
KINDS = (
    'iaff_resnet50',
    'aff_resnext50_32x4d',
    'se_resnet50',
    'lip_resnet101',
    'sk_resnet50',
    'cifar_aff_resnext38_32x4d',
    *list_models('*_resnet8'),
)
# For each kind of network its shallowest; test_every_network exports all depths.
SHALLOWEST = list({re.sub('(resnet|resnext)[0-9]+', '', name): name for name in reversed(list_models())}.values())
FASHION = Path(os.environ.get('FASHION_MNIST_DIR', '/usr/share/datasets/fashion-mnist'))


def build(name):
    """A network with parameters, and a size that it takes."""
    fixed = name.startswith(FIXED)
    # AFF doubles its sum: with larger weights a hundred layers of it make a change of 1e-6 in the input one of 1.
    gain = 0.25 if 'aff' in name and 'iaff' not in name else 1
    net = filled(get_model(name, **({'input_size': 64} if fixed else {})), gain, np.random.default_rng)
    return net, (64, 64) if fixed else (32, 32)


def run(path, data):
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    return session.run(None, {'data': data.asnumpy() if isinstance(data, mx.nd.NDArray) else data})[0]


def operators(net):
    return [node['op'] for node in json.loads(Graph(net).symbol().tojson())['nodes']]


def fashion(count):
    """(images (N, 32, 32, 3), labels) out of the test images that the tests bring."""
    held = np.load(TOP / 'tests' / 'data' / 'fashion_mnist_test.npz')
    images = [np.asarray(Image.fromarray(image).resize((32, 32), Image.BILINEAR)) for image in held['images'][:count]]
    return np.stack(images)[..., None].repeat(3, -1), held['labels'][:count]


@pytest.fixture(scope='module')
def shipped():
    return load_model(SHIPPED)


@pytest.fixture(scope='module')
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp('pictures')
    for number, image in enumerate(fashion(40)[0]):
        Image.fromarray(image).save(folder / f'{number:02}.png')
    return folder


@pytest.fixture(scope='module')
def exported(shipped, pictures, tmp_path_factory):
    folder = tmp_path_factory.mktemp('export') / 'exported'
    export(shipped, str(folder), ('symbol', 'onnx', 'int8'), str(pictures))
    return folder


@pytest.mark.parametrize('name', sorted(FUSIONS))
def test_folded_fusions_compute_the_same_and_broadcast(name):
    class Pair(gluon.HybridBlock):
        def __init__(self):
            super().__init__()
            with self.name_scope():
                self.other, self.fuse = nn.Conv2D(16, 1, in_channels=16), FUSIONS[name](16)

        def hybrid_forward(self, F, x):
            return self.fuse(x, self.other(x))

    net = filled(Pair())
    folded = fold_batchnorm(net)
    for shape in ((2, 16, 7, 5), (1, 16, 1, 1)):
        assert error(folded(tensor(shape)), net(tensor(shape))) <= 1e-5
    assert not {'batch_dot', 'ones_like', 'BlockGrad', 'reshape_like', 'BatchNorm'} & set(operators(folded))


@given(
    kernel=st.sampled_from([1, 2, 3]),
    pad=st.integers(0, 1),
    groups=st.sampled_from([1, 2]),
    bias=st.booleans(),
    scale=st.booleans(),
    center=st.booleans(),
    epsilon=st.sampled_from([1e-5, 1e-3, 1e-1]),
    front=st.booleans(),
)
def test_folding_holds_for_every_convolution(kernel, pad, groups, bias, scale, center, epsilon, front):
    net = nn.HybridSequential()
    conv = nn.Conv2D(4, kernel, 1, pad, groups=groups, use_bias=bias, in_channels=4)
    norm = nn.BatchNorm(epsilon=epsilon, scale=scale, center=center, in_channels=4)
    net.add(*([norm, conv] if front else [conv, norm]))
    filled(net)
    folded = fold_batchnorm(net)
    x = tensor((2, 4, 5, 6))
    assert error(folded(x), net(x)) <= 1e-5
    assert ('BatchNorm' in operators(folded)) == (front and pad > 0)


def test_what_another_layer_uses_is_not_folded():
    class Twice(gluon.HybridBlock):
        def __init__(self, shared):
            super().__init__()
            self.shared = shared
            with self.name_scope():
                self.conv = nn.Conv2D(4, 3, padding=1, in_channels=4)
                self.norms = nn.HybridSequential()
                self.norms.add(nn.BatchNorm(in_channels=4), nn.BatchNorm(in_channels=4))

        def hybrid_forward(self, F, x):
            first = self.conv(x)
            second = self.conv(first) if self.shared else first
            return F.concat(self.norms[0](first), self.norms[1](second), dim=1)

    for shared in (True, False):
        net, x = filled(Twice(shared)), tensor((1, 4, 5, 5))
        folded = fold_batchnorm(net)
        assert error(folded(x), net(x)) <= 1e-5 and operators(folded).count('BatchNorm') == 2


def test_folding_leaves_the_network_as_it_was_and_drops_its_dropout():
    net, x = filled(get_model('cifar_aff_resnet8', final_drop=0.5)), tensor((2, 3, 16, 16))
    expected = net(x).copy()
    before = {k: v.data().asnumpy() for k, v in net._collect_params_with_prefix().items()}
    folded = fold_batchnorm(net)
    assert 'Dropout' not in operators(folded) and error(folded(x), expected) <= 1e-5 and error(net(x), expected) == 0
    for name, param in net._collect_params_with_prefix().items():
        np.testing.assert_array_equal(param.data().asnumpy(), before[name])


def test_what_cannot_be_traced_is_refused():
    with refused('has parameters without values'):
        fold_batchnorm(get_model('cifar_aff_resnet8'))
    with refused('A HybridBlock can be traced, not a int'):
        fold_batchnorm(3)
    with refused('does not take a single input'):
        fold_batchnorm(filled(FUSIONS['aff'](8)))


def test_the_symbol_is_what_mxnets_tools_and_the_network_itself_load(tmp_path):
    net, x = filled(get_model('cifar_aff_resnet8')), tensor((2, 3, 32, 32))
    export_symbol(net, str(tmp_path / 'net'))
    imported = gluon.SymbolBlock.imports(str(tmp_path / 'net-symbol.json'), ['data'], str(tmp_path / 'net-0000.params'))
    assert error(imported(x), net(x)) <= 1e-6
    symbol, arguments, states = mx.model.load_checkpoint(str(tmp_path / 'net'), 0)
    module = symbol.bind(mx.cpu(), {**arguments, 'data': x}, aux_states=states)
    assert error(module.forward()[0], net(x)) <= 1e-6
    again = get_model('cifar_aff_resnet8', pretrained=str(tmp_path / 'net-0000.params'))
    assert error(again(x), net(x)) <= 1e-6


def test_a_symbol_with_preprocessing_takes_photographs(tmp_path):
    net = filled(get_model('cifar_aff_resnet8'))
    pixels = np.random.RandomState(0).randint(0, 256, (2, 32, 40, 3)).astype(np.uint8)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
    export_symbol(fold_batchnorm(net), str(tmp_path / 'net'), preprocess=(mean, std))
    imported = gluon.SymbolBlock.imports(str(tmp_path / 'net-symbol.json'), ['data'], str(tmp_path / 'net-0000.params'))
    assert error(imported(mx.nd.array(pixels, dtype='uint8')), net(mx.nd.array(normalise(pixels, mean, std)))) <= 1e-5


@pytest.mark.parametrize('name', tiered(SHALLOWEST, KINDS))
def test_exported_networks_compute_the_same_in_mxnet_and_onnx_runtime(name, tmp_path):
    net, (height, width) = build(name)
    export_onnx(net, tmp_path / 'net.onnx', (3, height, width))
    export_symbol(net, tmp_path / 'net')
    imported = gluon.SymbolBlock.imports(str(tmp_path / 'net-symbol.json'), ['data'], str(tmp_path / 'net-0000.params'))
    shapes = [(1, 3, height, width), (3, 3, height, width)] + ([] if name.startswith(FIXED) else [(2, 3, 33, 47)])
    errors = []
    for shape in shapes:
        x = tensor(shape)
        expected = net(x)
        errors.append(error(run(tmp_path / 'net.onnx', x), expected))
        assert error(imported(x), expected) <= 1e-5
    print(f'\n{name} {max(errors):.1e}')
    assert max(errors) <= 1e-4


def test_an_onnx_file_is_clean(tmp_path):
    net = filled(get_model('cifar_iaff_resnet8'))
    export_onnx(net, tmp_path / 'net.onnx', (3, 32, 32), metadata={'class_names': ['a', 'b'], 'name': 'n'})
    model = onnx.load(str(tmp_path / 'net.onnx'))
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [('', 13)] and model.ir_version == 8
    assert [entry.name for entry in model.graph.input] == ['data']
    assert {entry.name for entry in model.graph.initializer} <= {i for node in model.graph.node for i in node.input}
    dimensions = [
        [side.dim_param or side.dim_value for side in entry.type.tensor_type.shape.dim]
        for entry in (*model.graph.input, *model.graph.output)
    ]
    assert dimensions == [['N', 3, 'H', 'W'], ['N', 100]]
    assert {entry.key: entry.value for entry in model.metadata_props} == {'class_names': '["a", "b"]', 'name': 'n'}
    used = {node.op_type for node in model.graph.node}
    assert not used & {'MatMul', 'Expand', 'Shape', 'Reshape', 'Identity'}
    names = [node.name for node in model.graph.node]
    assert all(names) and len(set(names)) == len(names)


def test_the_same_parameters_give_the_same_bytes(tmp_path):
    def written(folder):
        net = filled(get_model('fpn_aff_resnet8'))  # the second has other prefixes, as Gluon counts them
        export_onnx(net, tmp_path / folder / 'net.onnx', (3, 32, 32), metadata={'b': 1, 'a': 2})
        export_symbol(net, tmp_path / folder / 'net')
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (tmp_path / folder).iterdir()}

    first, second = written('one'), written('two')
    assert len(first) == 3 and first == second


def test_a_fixed_size_is_written_on_request_and_where_the_network_is_bound_to_it(tmp_path):
    def sides(path):
        return [
            side.dim_param or side.dim_value for side in onnx.load(str(path)).graph.input[0].type.tensor_type.shape.dim
        ]

    export_onnx(filled(get_model('cifar_aff_resnet8')), tmp_path / 'a.onnx', (3, 32, 40), dynamic=False)
    assert sides(tmp_path / 'a.onnx') == ['N', 3, 32, 40]
    bound = filled(AAConv(20, 8, 8, size=8, heads=2, in_channels=3))
    export_onnx(bound, tmp_path / 'b.onnx', (3, 8, 8))
    assert sides(tmp_path / 'b.onnx') == ['N', 3, 8, 8]
    assert error(run(tmp_path / 'b.onnx', tensor((3, 3, 8, 8))), bound(tensor((3, 3, 8, 8)))) <= 1e-5
    with refused('does not take images of 3 x 16 x 16'):
        export_onnx(bound, tmp_path / 'c.onnx', (3, 16, 16))
    assert not (tmp_path / 'c.onnx').exists()


def one_layer(layer):
    """A network of one function (F, x) -> y, to test its translation."""

    class One(gluon.HybridBlock):
        def hybrid_forward(self, F, x):
            return layer(F, x)

    return One()


def halved(F, x):
    return F.Pooling(
        x, kernel=(2, 2), stride=(2, 2), pool_type='avg', pooling_convention='full', count_include_pad=False
    )


@pytest.mark.parametrize(
    'layer',
    [
        lambda F, x: F.contrib.BilinearResize2D(halved(F, x), x, mode='like', align_corners=False),
        lambda F, x: F.contrib.BilinearResize2D(x, halved(F, x), mode='like', align_corners=False),
        lambda F, x: F.broadcast_to(F.mean(x, axis=(2, 3), keepdims=True), shape=(0, 0, 3, 4)),
        lambda F, x: F.contrib.AdaptiveAvgPooling2D(x, output_size=1),
        lambda F, x: F.Convolution(
            F.reshape(x, shape=(0, 0, -1)), F.ones((4, 4, 3)), kernel=(3,), num_filter=4, no_bias=True
        ),
        lambda F, x: halved(F, x),
    ],
    ids=['larger', 'smaller', 'broadcast_to', 'adaptive', 'one-dimensional', 'rounded up'],
)
@pytest.mark.parametrize('size', [(8, 6), (7, 5)])
def test_translations_that_mx2onnx_lacks_or_gets_wrong(layer, size, tmp_path):
    net, x = one_layer(layer), tensor((2, 4, *size))
    net.initialize()
    export_onnx(net, tmp_path / 'net.onnx', (4, *size))
    assert error(run(tmp_path / 'net.onnx', x), net(x)) <= 1e-5


def test_an_operator_without_translation_is_named(tmp_path):
    net = one_layer(lambda F, x: F.erfinv(x))
    with refused('cannot be written as ONNX: .*erfinv'):
        export_onnx(net, tmp_path / 'net.onnx', (3, 8, 8))
    assert not list(tmp_path.iterdir())


def test_a_missing_or_unfit_onnx_is_named(tmp_path, monkeypatch):
    net = filled(get_model('cifar_add_resnet8'))
    monkeypatch.setattr(onnx, '__version__', '1.13.1')
    with refused('onnx 1.14 and newer, and 1.13.1 is installed', ImportError):
        export_onnx(net, tmp_path / 'net.onnx', (3, 32, 32))
    monkeypatch.setitem(sys.modules, 'onnx', None)
    with refused("need the package onnx.*pip install 'gluon_aff.onnx.'", ImportError):
        export_onnx(net, tmp_path / 'net.onnx', (3, 32, 32))
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    with refused('needs the package onnxruntime', ImportError):
        compare_onnx(__file__, __file__, [np.zeros((1, 3, 8, 8), np.float32)])
    assert not list(tmp_path.iterdir())


def test_an_export_that_onnx_runtime_computes_otherwise_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr('gluon_aff.deploy.onnx_writer.TOLERANCE', -1)
    with refused('away from the network'):
        export_onnx(filled(get_model('cifar_add_resnet8')), tmp_path / 'net.onnx', (3, 32, 32))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    'name',
    tiered(
        [name for name in SHALLOWEST if not name.startswith('aa_')],
        [
            'cifar_add_resnet8',
            'cifar_iaff_resnet8',
            'cifar_aff_resnext38_32x4d',
            'cifar_concat_inception_resnet8',
            'cifar_aff_inception_resnet8',
            'fpn_iaff_resnet8',
            'unet_concat_resnet8',
            'unet_aff_resnet8',
            'aff_resnet50',
        ],
    ),
)
def test_opencv_computes_the_same(name, tmp_path):
    net, size = build(name)
    size = size if name.startswith(FIXED) else (33, 47)
    export_onnx(net, tmp_path / 'net.onnx', (3, *size), dynamic=False)
    loaded = cv2.dnn.readNetFromONNX(str(tmp_path / 'net.onnx'))
    for batch in (1, 3):
        x = tensor((batch, 3, *size))
        loaded.setInput(x.asnumpy())
        difference = error(loaded.forward(), net(x))
        print(f'\n{name} {difference:.1e}')
        assert difference <= 1e-4


def test_int8_of_the_shipped_network_keeps_what_it_says(exported):
    images, labels = fashion(500)
    description = read_export(exported)
    batches = [
        (normalise(images[i : i + 100], description['mean'], description['std']), labels[i : i + 100])
        for i in range(0, 500, 100)
    ]
    first, second = (exported / description['files'][kind]['file'] for kind in ('onnx', 'int8'))
    report = compare_onnx(first, second, batches)
    assert report['images'] == 500 and report['top1_agreement'] >= 0.98
    assert abs(report['accuracy'] - report['other_accuracy']) <= 0.015 and report['accuracy'] > 0.85
    assert 0 < report['mean_absolute_difference'] < 0.1 * report['mean_absolute_logit']
    assert 'QuantizeLinear' in {node.op_type for node in onnx.load(str(second)).graph.node}
    same = compare_onnx(first, first, [batch for batch, _ in batches[:1]])
    assert same['mean_absolute_difference'] == 0 and same['top1_agreement'] == 1 and 'accuracy' not in same


@pytest.mark.skipif(not FASHION.is_dir(), reason=f'Fashion-MNIST is not at {FASHION}')
def test_int8_on_all_test_images_of_fashion_mnist(shipped, tmp_path):
    from gluon_aff.data.cifar import Batches
    from gluon_aff.data.image_sets import fashion_mnist

    data = fashion_mnist(str(FASHION))
    export_onnx(shipped.net, tmp_path / 'net.onnx', shipped.spec.input_size)
    calibration = Batches(data.train[0][:500], data.train[1][:500], 100, data.mean, data.std).epoch()
    quantize_onnx(tmp_path / 'net.onnx', calibration, tmp_path / 'int8.onnx')
    report = compare_onnx(
        tmp_path / 'net.onnx', tmp_path / 'int8.onnx', Batches(*data.test, 500, data.mean, data.std).epoch()
    )
    print(report)
    assert report['images'] == 10000 and report['top1_agreement'] >= 0.99
    assert abs(report['accuracy'] - report['other_accuracy']) <= 0.005


def test_sensitive_nodes_are_measured_and_can_stay_in_float32(exported, tmp_path):
    path = exported / f'{SHIPPED}.onnx'
    batches = [normalise(fashion(8)[0], (0.2856,) * 3, (0.3385,) * 3)]
    differences = sensitive_nodes(path, batches)
    values = [value for _, value in differences]
    assert len(differences) == len({name for name, _ in differences}) > 50
    assert values == sorted(values, reverse=True) and values[0] > 0
    kinds = {name.rsplit('_', 1)[0] for name, _ in differences}
    assert {'broadcast_add', 'broadcast_mul', 'activation'} <= kinds  # activation: the sigmoids of the gates
    kept = next(name for name, _ in differences if name.startswith('features'))
    quantize_onnx(path, batches, tmp_path / 'int8.onnx', exclude=[kept])
    graph = onnx.load(str(tmp_path / 'int8.onnx')).graph
    constants = {tensor.name for tensor in graph.initializer}
    weights = {node.name: node.input[1] in constants for node in graph.node if node.op_type == 'Conv'}
    assert weights[kept] and not any(weights[name] for name, _ in differences if name in weights and name != kept)
    with refused('has no node nothing'):
        quantize_onnx(path, batches, tmp_path / 'other.onnx', exclude=['nothing'])
    assert not (tmp_path / 'other.onnx').exists()


def test_int8_refuses_what_it_cannot_take(exported, tmp_path):
    path, out = exported / f'{SHIPPED}.onnx', tmp_path / 'int8.onnx'
    with refused('There is no ONNX file', FileNotFoundError):
        quantize_onnx(tmp_path / 'none.onnx', [], out)
    with refused('There are no images'):
        quantize_onnx(path, [], out)
    with refused('There is no folder .* of images', FileNotFoundError):
        quantize_onnx(path, str(tmp_path / 'none'), out)
    with refused('is quantized already'):
        quantize_onnx(exported / f'{SHIPPED}-int8.onnx', [], out)
    (tmp_path / 'text.onnx').write_bytes(b'no model at all')
    with refused('is not an ONNX file, or is damaged'):
        quantize_onnx(tmp_path / 'text.onnx', [], out)
    assert not out.exists()


def test_every_backend_says_the_same(exported, shipped, pictures):
    direct = Predictor(shipped)
    expected = direct.predict(str(pictures), top_k=3, batch_size=16)
    assert len(expected) == 40 and all(len(predictions) == 3 for predictions in expected)
    for backend in ('mxnet', 'onnxruntime', 'opencv', 'int8'):
        predictor = Predictor(str(exported), backend)
        predictions = predictor.predict(sorted(pictures.iterdir()), top_k=3, batch_size=7)
        if backend == 'int8':
            assert sum(a[0][0] == b[0][0] for a, b in zip(predictions, expected)) >= 38
        else:
            for ours, theirs in zip(predictions, expected):
                assert ours[0] == (theirs[0][0], pytest.approx(theirs[0][1], abs=1e-4))
    array = np.asarray(Image.open(pictures / '00.png').convert('RGB'))
    assert direct.predict(array)[0][:1] == [(expected[0][0][0], pytest.approx(expected[0][0][1], abs=1e-5))]


def test_an_export_with_preprocessing_takes_uint8_images(shipped, pictures, tmp_path):
    export(shipped, str(tmp_path / 'out'), ('symbol', 'onnx', 'int8'), str(pictures), preprocess=True)
    expected = Predictor(shipped).predict(str(pictures), top_k=1)
    for backend in ('mxnet', 'onnxruntime', 'int8'):
        predictor = Predictor(str(tmp_path / 'out'), backend)
        assert sum(a[0][0] == b[0][0] for a, b in zip(predictor.predict(str(pictures), 1), expected)) >= 38
        with refused(r'takes arrays \(N, H, W, 3\) of uint8'):
            predictor.logits(np.zeros((1, 3, 32, 32), np.float32))
    with refused('takes no uint8 images'):
        Predictor(str(tmp_path / 'out'), 'opencv')


def test_segmentation_is_exported_too(tmp_path, pictures):
    net = filled(get_model('fpn_aff_resnet8'))
    model = loaded('fpn_aff_resnet8', net, ('no', 'yes'), (3, 48, 32), (0.5,) * 3, (0.2,) * 3)
    for fixed in (False, True):
        folder = str(tmp_path / str(fixed))
        export(model, folder, ('symbol', 'onnx'), dynamic=not fixed)
        image = np.random.RandomState(1).randint(0, 256, (48, 32, 3) if fixed else (37, 50, 3)).astype(np.uint8)
        expected = model.segment(image)
        for backend in ('mxnet', 'onnxruntime', 'opencv')[: 3 if fixed or OPENCV_5 else 2]:
            assert (Predictor(folder, backend).segment(image) == expected).mean() > 0.999
    if not OPENCV_5:
        with refused('cannot resize maps .*--fixed-size'):
            Predictor(str(tmp_path / 'False'), 'opencv')
    with refused('is a segmentation network'):
        Predictor(model).predict(str(pictures))


def test_a_network_that_opencv_cannot_run_is_refused(tmp_path):
    net = filled(AAConv(20, 8, 8, size=8, heads=2, in_channels=3))
    names = tuple(map(str, range(20)))
    spec = ModelSpec('net', 'classification', names, (3, 8, 8), 1, (0,) * 3, (1,) * 3, 1)
    export(LoadedModel(spec, net), str(tmp_path / 'out'), ('onnx',))
    # OpenCV 5 knows all its operators, and says what is wrong with the output, which has not been pooled.
    knows = int(cv2.__version__.partition('.')[0]) >= 5
    with refused('should give .1, 20. floats' if knows else 'does not know an operator of net'):
        Predictor(str(tmp_path / 'out'), 'opencv').logits(np.zeros((1, 3, 8, 8), np.float32))
    with refused('takes arrays .N, 3, 8, 8. of float32'):
        Predictor(str(tmp_path / 'out')).logits(np.zeros((1, 3, 16, 16), np.float32))


@pytest.mark.parametrize(
    'batch',
    [
        np.zeros((1, 3, 32, 32)),
        np.zeros((1, 4, 32, 32), np.float32),
        np.zeros((3, 32, 32), np.float32),
        np.zeros((0, 3, 32, 32), np.float32),
        np.zeros((1, 3, 2, 32), np.float32),
        [1, 2],
    ],
)
def test_a_wrong_batch_is_refused(exported, batch):
    with refused(r'takes arrays \(N, 3, H, W\) of float32, H and W at least 3, got'):
        Predictor(str(exported)).logits(batch)


@pytest.mark.parametrize('image', [np.zeros((32, 32, 3)), np.zeros((32, 32), np.uint8), 3])
def test_a_wrong_image_is_refused(exported, image):
    with refused(r'An image is a path or an RGB array \(H, W, 3\) of uint8, got'):
        Predictor(str(exported)).predict([image])


def copied(exported, tmp_path):
    folder = tmp_path / 'copy'
    folder.mkdir()
    for file in exported.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def test_a_folder_that_is_not_what_was_exported_is_refused(exported, tmp_path):
    folder = copied(exported, tmp_path)
    path = folder / f'{SHIPPED}.onnx'
    path.write_bytes(path.read_bytes()[:-1] + b'x')
    with refused('SHA-256 is not the one in model.json'):
        Predictor(str(folder), 'onnxruntime')
    path.unlink()
    with refused(f'lacks {SHIPPED}.onnx', FileNotFoundError):
        Predictor(str(folder), 'onnxruntime')
    with refused('Unknown backend .tensorrt'):
        Predictor(str(folder), 'tensorrt')
    description = json.loads((folder / 'model.json').read_text())
    del description['mean']
    (folder / 'model.json').write_text(json.dumps(description))
    with refused('model.json is damaged .*mean'):
        Predictor(str(folder), 'mxnet')
    for other in (tmp_path, Path(__file__)):
        with refused('is not an exported folder'):
            Predictor(str(other))
    with refused('There is no folder', FileNotFoundError):
        Predictor(str(tmp_path / 'none'))
    with refused('MXNet computes a network that is not exported'):
        Predictor(load_model(SHIPPED), 'int8')


def test_a_failed_export_leaves_nothing_and_spares_what_is_not_ours(shipped, tmp_path, monkeypatch):
    def fails(*args, **kwargs):
        raise ValueError('no')

    target = tmp_path / 'new' / 'folder'
    with pytest.raises(ValueError, match='INT8 needs images'):
        export(shipped, str(target), ('int8',))
    with refused('Unknown format .tflite'):
        export(shipped, str(target), ('tflite',))
    with monkeypatch.context() as patched:
        patched.setattr('gluon_aff.deploy.export_folder.write_onnx', fails)
        with pytest.raises(ValueError, match='no'):
            export(shipped, str(target), ('symbol', 'onnx'))
        assert not list((tmp_path / 'new').iterdir())
        export(shipped, str(target), ('symbol',))
        before = sorted(path.name for path in target.iterdir())
        with pytest.raises(ValueError, match='no'):
            export(shipped, str(target), ('symbol', 'onnx'))
        assert sorted(path.name for path in target.iterdir()) == before
    export(shipped, str(target), ('onnx',))
    # The other formats stay, as they are of the same network.
    assert sorted(read_export(target, ('symbol', 'params', 'onnx'))['files']) == ['onnx', 'params', 'symbol']
    changed = replace(shipped, net=filled(get_model(SHIPPED)))
    export(changed, str(target), ('onnx',))
    assert sorted(path.name for path in target.iterdir()) == [f'{SHIPPED}.onnx', 'model.json']
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'letter.txt').write_text('dear')
    with refused(r'letter.txt/new cannot be written \(.*\); make room on its disk, or name another folder', OSError):
        export(shipped, str(tmp_path / 'mine' / 'letter.txt' / 'new'), ('symbol',))
    with refused('has 2 class names, and its network gives '):
        export(
            replace(shipped, spec=replace(shipped.spec, class_names=('a', 'b'))), str(tmp_path / 'other'), ('symbol',)
        )
    for taken in (tmp_path / 'mine', tmp_path / 'mine' / 'letter.txt'):
        with refused('exists and is not an exported folder'):
            export(shipped, str(taken), ('symbol',))
    assert [path.name for path in (tmp_path / 'mine').iterdir()] == ['letter.txt']


def test_an_export_takes_its_place_at_once_or_the_earlier_one_stays(shipped, tmp_path, monkeypatch):
    target = tmp_path / 'out'
    export(shipped, str(target), ('symbol',))
    before = {path.name: path.read_bytes() for path in target.iterdir()}
    rename = os.rename

    def stopped(old, new):
        if old.endswith('new') and not target.exists():
            raise KeyboardInterrupt
        rename(old, new)

    other = replace(shipped, spec=replace(shipped.spec, mean=(0.1,) * 3))
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(os, 'rename', stopped)
        export(other, str(target), ('symbol',))
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before
    (tmp_path / 'link').symlink_to('out')
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda folder: export(other, str(tmp_path / folder), ('symbol',)), ['out', 'link', 'out'] * 8))
    assert read_export(target, ('symbol', 'params'))['mean'] == [0.1] * 3 and (tmp_path / 'link').is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ['link', 'out']


def test_an_export_changes_nothing_of_the_network(pictures, tmp_path):
    net, x = get_model('cifar_aff_resnet8', classes=10), tensor((1, 3, 32, 32))
    net.initialize()
    net.hybridize(static_alloc=True)
    net(x)
    net.collect_params('.*gamma').setattr('grad_req', 'add')

    def state():
        mx.nd.waitall()  # a forward pass may be bringing weights into oneDNN's layout
        values = {name: param.data().asnumpy().tobytes() for name, param in net._collect_params_with_prefix().items()}
        attributes = {
            name: (param.grad_req, np.dtype(param.dtype), param.lr_mult, param.list_ctx())
            for name, param in net._collect_params_with_prefix().items()
        }
        blocks = {
            block.name: (block._active, dict(block._flags), id(block._cached_graph), id(block._cached_op))
            for block in (net, *net._children.values())
        }
        return {
            'values': values,
            'attributes': attributes,
            'blocks': blocks,
            'environment': dict(os.environ),
            'rest': {'classes': net.classes, 'numpy': mx.util.is_np_array()},
        }

    before = state()
    model = loaded('cifar_aff_resnet8', net, [str(i) for i in range(10)], (3, 32, 32), (0.5,) * 3, (0.2,) * 3)
    export(model, str(tmp_path / 'out'), ('symbol', 'onnx', 'int8'), str(pictures), preprocess=True)
    after = state()
    assert not [(kind, name) for kind in before for name in before[kind] if before[kind][name] != after[kind].get(name)]


@pytest.mark.parametrize('name', ['cifar_add_resnet8', 'cifar_aff_resnet8'])
def test_an_export_traces_the_network_once(name, pictures, tmp_path, monkeypatch):
    traced, original = [], graph.trace
    monkeypatch.setattr(graph, 'trace', lambda net, names: traced.append(net) or original(net, names))
    net, forward = filled(get_model(name, classes=2)), HybridBlock.forward
    calls = []
    monkeypatch.setattr(HybridBlock, 'forward', lambda block, *x: calls.append(block) or forward(block, *x))
    model = loaded(name, net, ('a', 'b'), (3, 32, 32), (0.5,) * 3, (0.2,) * 3)
    export(model, str(tmp_path / 'out'), ('symbol', 'onnx', 'int8'), str(pictures), preprocess=True)
    assert traced == [net] and calls.count(net) == 1


def test_the_writers_change_neither_the_graph_nor_the_network(tmp_path):
    net = filled(get_model('fpn_aff_resnet8'))
    traced = Graph(net)
    before = traced.digest()
    # To run the network would set the gammas that it does not use to 1.
    export_onnx(net, tmp_path / 'direct.onnx', (3, 32, 32))
    write_onnx(traced, tmp_path / 'net.onnx', input_size=(3, 32, 32))
    write_symbol(traced, tmp_path / 'net')
    assert traced.digest() == before == Graph(net).digest()
    write_onnx(traced.fold(), tmp_path / 'folded.onnx', input_size=(3, 32, 32))
    assert len({(tmp_path / f'{name}.onnx').read_bytes() for name in ('direct', 'net', 'folded')}) == 1


def test_the_commands_export_and_predict(pictures, tmp_path, capsys):
    folder, picture = tmp_path / 'out', str(pictures / '00.png')
    assert (
        main(['export', SHIPPED, '-o', str(folder), '--format', 'symbol,onnx,int8', '--calibrate', str(pictures)]) == 0
    )
    out, err = capsys.readouterr()
    assert sorted(map(os.path.basename, out.split())) == sorted(path.name for path in folder.iterdir())
    assert 'the same class as float32' in err and is_export(folder)
    assert main(['predict', SHIPPED, picture]) == 0
    expected = capsys.readouterr().out
    for options in ([], ['--backend', 'mxnet'], ['--backend', 'opencv']):
        assert main(['predict', str(folder), picture, *options]) == 0
        assert capsys.readouterr().out == expected
    for command, says in (
        (['predict', str(folder), picture, '--weights', 'x'], 'leave the weights out'),
        (['export', str(folder), '-o', str(tmp_path / 'b')], 'is an exported folder'),
        (['export', SHIPPED, '-o', str(tmp_path / 'c'), '--format', 'int8'], 'calibrate'),
        (['export', SHIPPED, '-o', str(pictures)], 'exists and is not an exported folder'),
    ):
        assert main(command) == 2
        err = capsys.readouterr().err
        assert says in err and err.count('\n') == 1


def test_the_weights_stay_out_of_an_exported_folder(exported):
    with refused('leave the weights out'):
        open_predictor(str(exported), weights='x.params')


def script():
    """The stand-alone script in docs/deployment.md."""
    text = (Path(__file__).parents[1] / 'docs' / 'deployment.md').read_text(encoding='utf-8')
    code = text.split('```python\n# predict.py', 1)[1].split('```', 1)[0]
    assert len(code.strip().splitlines()) <= 50
    return '# predict.py' + code


BLOCK = textwrap.dedent("""
    import sys
    for name in ('mxnet', 'gluoncv', 'gluon_aff', 'model_zoo', 'onnx', {blocked}):
        sys.modules[name] = None
""")


@pytest.fixture(scope='module')
def photographs(tmp_path_factory):
    """Upright JPEG, JPEG with each EXIF orientation, 16-bit grey, with alpha, long; none of them square."""
    folder = tmp_path_factory.mktemp('photographs')
    image = Image.fromarray(fashion(3)[0][2]).resize((97, 70), Image.BICUBIC)
    exif = Image.Exif()
    for orientation in (1, 3, 6, 7):
        exif[0x0112] = orientation
        image.save(folder / f'{orientation}.jpg', quality=95, exif=exif)
    grey = np.asarray(Image.fromarray(fashion(4)[0][3]).convert('L').resize((61, 83), Image.BICUBIC)).astype(np.uint16)
    cv2.imwrite(str(folder / 'grey.png'), grey * 256 + np.arange(61, dtype=np.uint16) * 4)
    alpha = Image.fromarray(fashion(5)[0][4])
    alpha.putalpha(Image.linear_gradient('L').resize((32, 32)))
    alpha.save(folder / 'alpha.png')
    image.resize((300, 9)).save(folder / 'long.png')
    return folder


@pytest.fixture(scope='module')
def cropping(shipped, tmp_path_factory):
    """An exported folder of a network that sees the middle of an image."""
    folder = tmp_path_factory.mktemp('cropping') / 'exported'
    export(replace(shipped, spec=replace(shipped.spec, crop_ratio=0.8)), str(folder), ('onnx',))
    return folder


def agrees(python, folder, photographs, cwd, capsys):
    """The script in `cwd` says of the photographs what the command says, to 1e-3."""
    paths = sorted(map(str, photographs.iterdir()))
    process = subprocess.run(
        [str(python), 'predict.py', str(folder), *paths],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, 'PYTHONPATH': ''},
    )
    assert process.returncode == 0, process.stderr
    assert main(['predict', str(folder), *paths, '--top-k', '1', '--format', 'jsonl']) == 0
    rows = [json.loads(line)['predictions'][0] for line in capsys.readouterr().out.splitlines()]
    lines = [line.split(None, 1) for line in process.stdout.splitlines()]
    assert [label for _, label in lines] == [row['label'] for row in rows] and len(rows) == len(paths)
    errors = [abs(float(percent.rstrip('%')) / 100 - row['probability']) for (percent, _), row in zip(lines, rows)]
    print(f'\n{max(errors):.1e}')
    assert max(errors) <= 1e-3


@pytest.mark.parametrize('missing', [('cv2',), ('onnxruntime',), ('onnxruntime', 'PIL')], ids='-'.join)
def test_the_script_runs_without_mxnet_and_this_project(cropping, photographs, tmp_path, capsys, missing):
    (tmp_path / 'predict.py').write_text(BLOCK.format(blocked=', '.join(map(repr, missing))) + script())
    agrees(sys.executable, cropping, photographs, tmp_path, capsys)


def test_the_script_says_what_it_needs(exported, tmp_path):
    (tmp_path / 'predict.py').write_text(script())
    folder = copied(exported, tmp_path)
    description = json.loads((folder / 'model.json').read_text())
    for change in (
        lambda: description.update(task='segmentation'),
        lambda: description.update(task='classification', layout='NHWC'),
        lambda: description.update(layout='NCHW', input_size=[1, 32, 32]),
        lambda: description.update(input_size=[3, 32, 32]) or (folder / f'{SHIPPED}.onnx').unlink(),
        lambda: description['files'].pop('onnx'),
    ):
        change()
        (folder / 'model.json').write_text(json.dumps(description))
        process = subprocess.run(
            [sys.executable, 'predict.py', str(folder)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, 'PYTHONPATH': ''},
        )
        assert process.returncode == 1 and process.stderr.count('\n') == 1
        assert 'needs a classification network of RGB in ONNX: gluon-aff export' in process.stderr


@pytest.mark.network
@pytest.mark.skipif(
    not os.environ.get('GLUON_AFF_FRESH_ENVIRONMENT'),
    reason='installs packages; GLUON_AFF_FRESH_ENVIRONMENT=1 asks for it',
)
@pytest.mark.parametrize(
    'packages',
    [
        ['onnxruntime==1.19.2', 'Pillow', 'numpy<1.24'],
        ['onnxruntime', 'Pillow'],
        ['opencv-python==4.11.0.86', 'numpy<1.24'],
        ['opencv-python'],
    ],
    ids=' '.join,
)
def test_the_script_runs_in_a_fresh_environment(cropping, photographs, tmp_path, capsys, packages):
    subprocess.run([sys.executable, '-m', 'venv', str(tmp_path / 'venv')], check=True, timeout=120)
    python = tmp_path / 'venv' / 'bin' / 'python'
    subprocess.run([str(python), '-m', 'pip', 'install', '-q', *packages], check=True, timeout=400)
    assert subprocess.run([str(python), '-c', 'import mxnet'], stderr=subprocess.DEVNULL, timeout=60).returncode
    (tmp_path / 'predict.py').write_text(script())
    agrees(python, cropping, photographs, tmp_path, capsys)


# The others of SHALLOWEST are in the slow tier.
HOSTS = (
    'iaff_resnet50',
    'aff_resnext50_32x4d',
    'cifar_add_resnet8',
    'cifar_aff_resnext38_32x4d',
    'cifar_concat_inception_resnet8',
    'fpn_aff_resnet8',
    'unet_aff_resnet8',
)


@pytest.mark.parametrize('folded', [False, True])
@pytest.mark.parametrize('name', tiered(SHALLOWEST, quick=HOSTS))
def test_mxnets_subgraph_backend_computes_the_same(name, folded, tmp_path):
    net, size = build(name)
    x = tensor((2, 3, *size))
    expected = net(x)
    export_symbol(fold_batchnorm(net) if folded else net, tmp_path / 'net')
    symbol, arguments, states = mx.model.load_checkpoint(str(tmp_path / 'net'), 0)
    for training in (False, True):
        module = mx.mod.Module(symbol, label_names=None)
        module.bind([('data', x.shape)], for_training=training)
        module.set_params(arguments, states)
        mx.nd.waitall()
        assert error(module.predict(mx.io.NDArrayIter(x, batch_size=2)), expected) <= 1e-5
    imported = gluon.SymbolBlock.imports(str(tmp_path / 'net-symbol.json'), ['data'], str(tmp_path / 'net-0000.params'))
    assert error(imported(x), expected) <= 1e-5
    imported.optimize_for(x, backend='MKLDNN')
    assert error(imported(x), expected) <= 1e-5
    net.hybridize(backend='MKLDNN')
    assert error(net(x), expected) <= 1e-5


@pytest.mark.parametrize(
    'name, options',
    [
        ('cifar_add_resnet8', {}),
        ('cifar_concat_inception_resnet8', {}),
        ('unet_add_resnet8', {}),
        ('cifar_iaff_resnet8', {'quantize_mode': 'smart'}),
    ],
)
def test_mxnets_own_int8_keeps_what_a_network_says(name, options):
    net, x = filled(get_model(name)), tensor((4, 3, 32, 32))
    expected = net(x)
    quantized = quantize_net(net, calib_data=mx.io.NDArrayIter(x, batch_size=2), calib_mode='naive', **options)
    assert 'quantized_' in quantized(mx.sym.var('data')).tojson() and 0 < error(quantized(x), expected) <= 0.1


def test_module_learns_the_shapes_that_the_input_does_not_tell(tmp_path):
    net, x = filled(AAConv(20, 8, 8, size=8, heads=2, in_channels=3)), tensor((2, 3, 8, 8))
    export_symbol(net, tmp_path / 'net')
    symbol, arguments, states = mx.model.load_checkpoint(str(tmp_path / 'net'), 0)
    module = mx.mod.Module(symbol, label_names=None)
    module.bind([('data', x.shape)])
    module.set_params(arguments, states)
    assert error(module.predict(mx.io.NDArrayIter(x, batch_size=2)), net(x)) <= 1e-5


@pytest.mark.parametrize('order', ['local first', 'global first'])
def test_no_sum_in_a_file_broadcasts_one_map_over_another(order, tmp_path):
    # OpenCV 5 takes such an Add behind a convolution for a residual connection, and fails.
    class Both(gluon.HybridBlock):
        def __init__(self):
            super().__init__()
            with self.name_scope():
                self.local, self.pooled = nn.Conv2D(4, 1, in_channels=4), nn.Conv2D(4, 1, in_channels=4)

        def hybrid_forward(self, F, x):
            maps = [self.local(x), self.pooled(F.contrib.AdaptiveAvgPooling2D(x, output_size=1))]
            return F.broadcast_add(*(maps if order == 'local first' else maps[::-1]))

    net, x = filled(Both()), tensor((2, 4, 6, 6))
    export_onnx(net, tmp_path / 'net.onnx', (4, 6, 6))
    used = [node.op_type for node in onnx.load(str(tmp_path / 'net.onnx')).graph.node]
    assert 'Add' not in used and used.count('Sub') == used.count('Neg') == 1
    assert error(run(tmp_path / 'net.onnx', x), net(x)) <= 1e-6


def test_files_are_in_forms_that_the_engines_share(exported, tmp_path):
    from onnx.reference import ReferenceEvaluator

    net, x = filled(get_model('cifar_iaff_resnet8')), tensor((1, 3, 32, 32))
    export_onnx(net, tmp_path / 'net.onnx', (3, 32, 32))
    model = onnx.load(str(tmp_path / 'net.onnx'))
    # OpenCV reads no Gemm of a dynamic size, and ncnn no Split without sizes.
    assert not {'Gemm', 'Split', 'Sum'} & {node.op_type for node in model.graph.node}
    assert error(ReferenceEvaluator(model).run(None, {'data': x.asnumpy()})[0], net(x)) <= 1e-5
    loaded = cv2.dnn.readNetFromONNX(str(tmp_path / 'net.onnx'))
    loaded.setInput(x.asnumpy())
    assert error(loaded.forward(), net(x)) <= 1e-5
    graph = onnx.load(str(exported / f'{SHIPPED}-int8.onnx')).graph
    makers = {name: node.op_type for node in graph.node for name in node.output}
    assert {makers[node.input[0]] for node in graph.node if node.op_type == 'Sigmoid'} == {'Identity'}


def test_a_split_is_written_as_slices(tmp_path):
    net, x = filled(FUSIONS['sk'](16)), tensor((2, 16, 5, 5))

    class Twice(gluon.HybridBlock):
        def __init__(self):
            super().__init__()
            self.fuse = net

        def hybrid_forward(self, F, x):
            return self.fuse(x, 2 * x)

    export_onnx(Twice(), tmp_path / 'net.onnx', (16, 5, 5))
    assert 'Split' not in {node.op_type for node in onnx.load(str(tmp_path / 'net.onnx')).graph.node}
    assert error(run(tmp_path / 'net.onnx', x), net(x, 2 * x)) <= 1e-5


def test_exporting_leaves_mxnets_exporter_and_onnx_as_they_are(tmp_path):
    import mxnet.onnx
    from mxnet.onnx.mx2onnx._export_onnx import MXNetGraph

    before = {version: dict(table) for version, table in MXNetGraph.registry_.items()}
    opsets = dict(onnx.checker.DEFAULT_CONTEXT.opset_imports)
    nets = [one_layer(lambda F, x: F.contrib.BilinearResize2D(x, height=8, width=8)) for _ in range(8)]
    net = nets[0]  # mx2onnx's own translation
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: export_onnx(nets[i], tmp_path / f'{i}.onnx', (3, 4, 4)), range(8)))
    assert MXNetGraph.registry_ == before and dict(onnx.checker.DEFAULT_CONTEXT.opset_imports) == opsets
    x = tensor((1, 3, 4, 4))
    for i in range(8):
        assert error(run(tmp_path / f'{i}.onnx', x), net(x)) <= 1e-5
    mxnet.onnx.export_model(net(mx.sym.var('data')), {}, [(1, 3, 4, 4)], np.float32, str(tmp_path / 'theirs.onnx'))
    assert error(run(tmp_path / 'theirs.onnx', x), net(x)) <= 1e-5


@pytest.mark.parametrize(
    'norm_layer, options', [(SyncBatchNorm, {'num_devices': 1}), (nn.GroupNorm, {'num_groups': 32})]
)
@pytest.mark.parametrize('name', ['cifar_aff_resnet8', 'fpn_iaff_resnet8', 'cifar_concat_inception_resnet8'])
def test_other_norms_run_and_are_exported(norm_layer, options, name, tmp_path):
    net, x = get_model(name, norm_layer=norm_layer, norm_kwargs=options), tensor((2, 3, 32, 32))
    net.initialize()
    expected = net(x)
    assert np.isfinite(expected.asnumpy()).all()
    assert error(fold_batchnorm(net)(x), expected) <= 1e-5
    export_onnx(net, tmp_path / 'net.onnx', (3, 32, 32))  # compares


def test_a_norm_that_cannot_be_traced_runs_and_is_refused(tmp_path):
    net = get_model('cifar_aff_resnet8', norm_layer=GluonCVGroupNorm, norm_kwargs={'ngroups': 8})
    net.initialize()
    assert np.isfinite(net(tensor((2, 3, 32, 32))).asnumpy()).all()
    with refused('runs on arrays only and cannot be exported'):
        export_onnx(net, tmp_path / 'net.onnx', (3, 32, 32))


@pytest.mark.parametrize('dtype', ['float16', 'float64'])
def test_networks_of_other_types_are_refused(dtype, tmp_path):
    net = filled(get_model('cifar_add_resnet8'))
    net.cast(dtype)
    with refused(f'is in {dtype}, and exports are in float32'):
        export_onnx(net, tmp_path / 'net.onnx', (3, 32, 32))
    assert not list(tmp_path.iterdir())


def test_calibration_arrays_are_checked(exported, tmp_path):
    path = exported / f'{SHIPPED}.onnx'
    double = np.random.RandomState(0).uniform(-1, 1, (4, 3, 32, 32))
    assert quantize_onnx(copied(exported, tmp_path) / path.name, [double]) == str(
        tmp_path / 'copy' / f'{SHIPPED}-int8.onnx'
    )
    for wrong in (double.transpose(0, 2, 3, 1), double[0], (255 * double).astype(np.uint8)):
        with refused(r'takes batches \(N, 3, H, W\) of float32, got'):
            quantize_onnx(path, [wrong], tmp_path / 'x.onnx')


def test_a_one_channel_network_says_how_it_is_asked(tmp_path):
    net = filled(get_model('cifar_add_resnet8', in_channels=1, width=1))
    names = [str(i) for i in range(100)]
    model = loaded('cifar_add_resnet8', net, names, (1, 32, 32), (0.3, 0.3, 0.3), (0.2, 0.2, 0.2))
    description = export(model, str(tmp_path / 'out'), ('onnx',))
    assert description['mean'] == [0.3] and description['std'] == [0.2] and description['shape'] == ['N', 1, 'H', 'W']
    description = export(replace(model, spec=replace(model.spec, mean=(0.1, 0.2, 0.3))), str(tmp_path / 'b'), ('onnx',))
    assert description['mean'] == [0.1]
    for mean in ((), (0.1, 0.2), (0.1, 'x', 0.3), 0.1):
        with refused('mean must be numbers from -1000 to 1000, one for each of the 3 channels, got'):
            export(
                replace(model, spec=replace(model.spec, mean=mean, input_size=(3, 32, 32))),
                str(tmp_path / 'c'),
                ('onnx',),
            )


def test_options_without_effect_are_refused(shipped, pictures, tmp_path, capsys):
    for options, says in (
        (['--format', 'onnx', '--calibrate', str(pictures)], '--calibrate is for INT8'),
        (['--float-nodes', 'auto'], '--float-nodes is for INT8'),
        (['--format', 'symbol,onnx', '--ranges', 'naive'], '--ranges is for INT8'),
        (['--format', 'int8', '--calibrate', str(pictures), '--float-nodes', '-1'], '--float-nodes'),
    ):
        assert main(['export', SHIPPED, '-o', str(tmp_path / 'out'), *options]) == 2
        assert says in capsys.readouterr().err
    with refused('Calibration is for INT8'):
        export(shipped, str(tmp_path / 'out'), ('onnx',), str(pictures))
    assert not (tmp_path / 'out').exists()


FULL = textwrap.dedent("""
    import resource, sys
    from model_zoo.__main__ import main
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
    sys.exit(main(['export', 'fashion_mnist_aff_resnet8', '-o', 'out', '--format', sys.argv[2]]))
""")


@pytest.mark.parametrize('kind, name', [('symbol', f'{SHIPPED}-0000.params'), ('onnx', f'{SHIPPED}.onnx')])
def test_a_full_disk_leaves_no_export(exported, kind, name, tmp_path):
    room = (exported / name).stat().st_size - 100
    done = subprocess.run(
        [sys.executable, '-c', FULL, str(room), kind],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, 'PYTHONPATH': str(TOP)},
    )
    assert done.returncode == 2 and 'could not be written whole' in done.stderr, done.stderr
    assert not list(tmp_path.iterdir())
