"""Networks in bfloat16 and INT8 in MXNet: by MXNet's own tools, unmodified, and by the exports."""

import gzip
from pathlib import Path

import mxnet as mx
import numpy as np
import onnx
import pytest
from mxnet.contrib import amp, quantization
from PIL import Image
from reference import error, filled, parameters, refused, tensor, tiered

from gluon_aff import FUSIONS
from gluon_aff.deploy import Graph, Predictor, export, int8
from gluon_aff.deploy.calibration import PercentileCollector, make_collector
from gluon_aff.deploy.int8_choice import choose_int8
from gluon_aff.deploy.quantized_symbol import calibrate, outputs, quantize_symbol
from gluon_aff.layers.comparators import AAConv
from model_zoo import get_model, list_models, load_model, model_info
from model_zoo.cli import main
from model_zoo.hosts.resnet import ResNet

SHIPPED = (
    'fashion_mnist_add_resnet8',
    'fashion_mnist_add_resnet8_w108',
    'fashion_mnist_aff_resnet8',
    'fashion_mnist_iaff_resnet8',
)
QUICK = ['cifar_concat_inception_resnet8', 'fpn_concat_resnet8', 'fashion_mnist_aff_resnet8']
DATA = Path('/usr/share/datasets/fashion-mnist')
needs_data = pytest.mark.skipif(not DATA.exists(), reason=f'needs {DATA}')


def build(name):
    """A network with calm gates, and images of its sort, small ones."""
    options = {'input_size': 64} if name.startswith(('aa_', 'ge_')) else {}
    net = filled(get_model(name, **options), {'aff': 0.25}.get(model_info(name).fusion, 1), np.random.default_rng)
    for key, parameter in parameters(net).items():
        if '_att' in key and key.endswith('weight'):
            parameter.set_data(0.1 * parameter.data())
    return net, tensor((4, 3, 64, 64) if model_info(name).spec.input_size[1] > 100 else (4, 3, 32, 32))


def in_bfloat16(net, x, **options):
    net.hybridize()
    net(x)
    return amp.convert_hybrid_block(net, target_dtype='bfloat16', ctx=mx.cpu(), **options)


def in_int8(net, x, **options):
    options = {'calib_mode': 'naive', **options}
    return quantization.quantize_net_v2(net, calib_data=mx.io.NDArrayIter(x, batch_size=2), **options)


def test_mxnets_mixed_precision_takes_attention_augmented_convolutions():
    net = mx.gluon.nn.HybridSequential()
    net.add(mx.gluon.nn.Conv2D(16, 3, padding=1, in_channels=3), AAConv(32, 16, 8, (8, 8), heads=2, in_channels=16))
    x = tensor((2, 3, 8, 8))
    expected = filled(net)(x)
    assert 0 < error(in_bfloat16(net, x)(x), expected) <= 0.02


@pytest.mark.parametrize('fusion', tiered(FUSIONS, quick=['aff', 'ms_gau']))
def test_mxnets_tools_take_every_fusion_after_norms(fusion):
    net = ResNet((1, 1, 1, 1), classes=3, fusion=fusion, reduction=4, start_stage=3, stem_width=4)
    x = tensor((2, 3, 32, 32))
    expected = filled(net)(x)
    assert 0 < error(in_bfloat16(net, x, cast_optional_params=True)(x), expected) <= 0.05
    assert 0 < error(in_int8(net, x)(x), expected) <= 0.3


@pytest.mark.parametrize('name', tiered(list_models(), quick=QUICK))
def test_mxnets_mixed_precision_takes_every_network(name):
    net, x = build(name)
    assert 0 < error(in_bfloat16(net, x)(x), net(x)) <= 0.05


@pytest.mark.parametrize('name', tiered(list_models(), quick=QUICK))
def test_mxnets_quantization_takes_every_network(name):
    net, x = build(name)
    # Noise through a deep network of random parameters; what trained ones keep is tested below.
    quantized, expected = in_int8(net, x), net(x)
    assert 'quantized_' in quantized(mx.sym.var('data')).tojson() and 0 < error(quantized(x), expected) <= 0.8


@pytest.mark.parametrize('ranges', ['naive', pytest.param('entropy', marks=pytest.mark.slow)])
def test_mxnets_quantization_of_symbols(ranges, tmp_path):
    net, x = build('fashion_mnist_aff_resnet8')
    net.hybridize()
    expected = net(x)
    net.export(str(tmp_path / 'net'))
    symbol, arguments, states = quantization.quantize_model_mkldnn(
        *mx.model.load_checkpoint(str(tmp_path / 'net'), 0),
        label_names=None,
        calib_data=mx.io.NDArrayIter(x, batch_size=2),
        calib_mode=ranges,
    )
    module = mx.mod.Module(symbol, label_names=None)
    module.bind([('data', x.shape)], for_training=False)
    module.set_params(arguments, states)
    assert 0 < error(module.predict(mx.io.NDArrayIter(x, batch_size=4)), expected) <= 0.1


def test_percentiles_leave_out_the_rarest_values():
    net, x = build('fashion_mnist_aff_resnet8')
    collector = PercentileCollector(99.9)
    quantized = in_int8(net, x, calib_mode='customize', LayerOutputCollector=collector)
    assert 0 < error(quantized(x), net(x)) <= 0.1
    nan = np.full(8, np.nan, 'f')
    values = {
        'spike': np.r_[np.linspace(-1, 1, 9999), 50].astype('f'),
        'flat': np.ones(8, 'f'),
        'unwritten': nan,
        'partly': np.r_[nan, 1, np.inf].astype('f'),
    }
    for name, array in values.items():
        collector.add(name, array)
    low, high = collector.min_max_dict['spike']
    assert low == pytest.approx(-1, abs=0.02) and high == pytest.approx(1, abs=0.02)
    assert collector.min_max_dict['flat'] == collector.min_max_dict['partly'] == (1, 1)
    assert 'unwritten' not in collector.min_max_dict
    with refused('percentile'):
        PercentileCollector(40)


def test_entropy_cuts_where_mxnet_does():
    collector, random = make_collector('entropy'), np.random.RandomState(0)
    maps = {
        'signed': random.standard_t(3, 100_000),
        'positive': np.abs(random.laplace(size=100_000)),
        'flat': np.ones(9),
    }
    for name, values in maps.items():
        collector.add(name, values.astype('f'))
    ranges = collector.min_max_dict
    for name in ('signed', 'positive'):
        limit = np.abs(maps[name]).max()
        counts, edges = np.histogram(maps[name], 8001, (-limit, limit))
        threshold, _ = mx.nd.contrib.calibrate_entropy(
            mx.nd.array(counts), mx.nd.array(edges), num_quantized_bins=255 if name == 'signed' else 511
        )
        assert ranges[name][1] == pytest.approx(float(threshold.asscalar()), rel=0.1)
    assert ranges['signed'][0] == -ranges['signed'][1] and 0 <= ranges['positive'][0] < 0.001
    assert ranges['flat'] == pytest.approx((1, 1), rel=0.001)
    with refused('Unknown ranges'):
        make_collector('widest')


def test_int8_keeps_as_many_nodes_in_float32_as_it_takes():
    loss = {'naive': 3.0, 'percentile': 2.0}

    class Ranges(str):
        def with_percentile(self, percentile):
            assert (self, percentile) == ('percentile', 100)
            return Ranges('naive')

    def choose(agreements, changes=(2.0, 1.0, 0.5, 0.4), **options):
        counts = [0, 1, 2, 4]
        return choose_int8(
            Ranges,
            lambda ranges, names: (ranges, len(names)),
            lambda form: {
                'top1_agreement': agreements[counts.index(form[1])],
                'mean_absolute_difference': changes[counts.index(form[1])] + loss[form[0]],
            },
            lambda ranges: [(name, 0.0) for name in 'abcde'],
            **{'ranges': None, 'float_nodes': 'auto', **options},
        )

    quantized, report = choose([0.9, 0.95, 0.99, 1])
    assert quantized == ('percentile', 2) and (report['ranges'], report['float_nodes']) == ('percentile', ['a', 'b'])
    assert choose([0.99, 1, 1, 1], ranges='naive')[0] == ('naive', 0)
    assert choose([0.9, 0.9, 0.9, 0.9])[0] == ('percentile', 2)  # not four of five
    assert choose([0.9, 0.9, 0.99, 1], changes=[2.0, 2.0, 1.0, 0.4])[0] == ('percentile', 2)
    assert choose([0.9, 0.9, 0.9, 0.9], changes=[2.0, 1.0, 1.0, 0.4])[0] == ('percentile', 1)
    assert choose([1, 1, 1, 1], float_nodes=4)[0] == ('percentile', 4)


@pytest.mark.parametrize('kind', ['symbol-int8', pytest.param('int8', marks=pytest.mark.slow)])
def test_exports_find_the_nodes_that_stay_in_float32(kind, tmp_path, monkeypatch):
    # These parameters keep the class of noise in INT8.
    model, x = load_model(SHIPPED[0], 'fashion_mnist'), [tensor((8, 3, 32, 32))]
    plain = export(model, tmp_path, [kind], x, ranges='naive', float_nodes='auto')[kind]
    assert plain['top1_agreement'] == 1 and plain['float_nodes'] == []
    monkeypatch.setattr('gluon_aff.deploy.int8_choice.AGREEMENT', 1.1)  # never reached
    report = export(model, tmp_path, [kind], x, ranges='naive', float_nodes='auto')[kind]
    assert report['mean_absolute_difference'] < plain['mean_absolute_difference'] and report['float_nodes']


def test_an_onnxruntime_that_takes_no_ranges_is_refused(monkeypatch):
    monkeypatch.setattr('onnxruntime.__version__', '1.16.3')
    with refused('INT8 needs onnxruntime 1.17 or newer, and 1.16.3 is installed', ImportError):
        int8.quantize(None, [], make_collector('naive'))


@pytest.mark.parametrize('ranges', ['percentile', pytest.param('entropy', marks=pytest.mark.slow)])
def test_ranges_of_onnx_are_those_asked_for(ranges, tmp_path):
    x = tensor((4, 3, 32, 32))
    x[0, 0, 0, 0] = 30
    ends = {}
    for kind in ('naive', ranges):
        report = export(load_model(SHIPPED[0]), tmp_path, ['int8'], [x], ranges=kind)['int8']
        assert report['ranges'] == kind and report['mean_absolute_difference'] < 0.3 * report['mean_absolute_logit']
        graph = onnx.load(str(tmp_path / f'{SHIPPED[0]}-int8.onnx')).graph
        scales = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
        ends[kind] = 255 * float(scales['features.0_scale'])
    norm = load_model(SHIPPED[0]).net.features[0](x)
    assert ends['naive'] == pytest.approx(float((norm.max() - norm.min()).asscalar()), rel=1e-4)
    assert ends[ranges] < 0.7 * ends['naive']


def test_convolutions_in_groups_which_mxnet_computes_wrongly_in_int8_stay_in_float32():
    net = mx.gluon.nn.HybridSequential()
    for before, channels, groups in ((3, 32, 1), (32, 64, 4), (64, 64, 64)):
        net.add(mx.gluon.nn.Conv2D(channels, 3, groups=groups, in_channels=before))
    x = tensor((4, 3, 16, 16))
    expected = filled(net)(x)
    graph = Graph(net)
    symbol, values = quantize_symbol(graph, calibrate(graph, [(x.asnumpy(), None)], 'naive'))
    assert error(outputs(symbol, values, [(x.asnumpy(), None)]), expected) <= 0.05
    names = symbol.get_internals().list_outputs()
    assert sum('quantized_sg_mkldnn_conv' in name and name.endswith('output') for name in names) == 2


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp('low') / 'fashion_mnist_aff_resnet8_int8'
    model = load_model('fashion_mnist_aff_resnet8')
    export(model, folder, ('symbol', 'symbol-bf16', 'symbol-int8'), [tensor((8, 3, 32, 32))], ranges='naive')
    return folder


@pytest.mark.parametrize('form, limit', [('bf16', 0.02), ('int8', 0.1)])
def test_exports_in_fewer_bits_are_read_by_plain_mxnet(exported, form, limit):
    x = tensor((8, 3, 32, 32))
    expected = Predictor(exported, backend='mxnet').logits(x.asnumpy())
    assert 0 < error(Predictor(exported, backend=f'mxnet-{form}').logits(x.asnumpy()), expected) <= limit
    path = f'{exported}/fashion_mnist_aff_resnet8-{form}'
    imported = mx.gluon.SymbolBlock.imports(f'{path}-symbol.json', ['data'], f'{path}-0000.params')
    assert 0 < error(imported(x), expected) <= limit
    symbol, arguments, states = mx.model.load_checkpoint(path, 0)
    module = mx.mod.Module(symbol, label_names=None)
    module.bind([('data', x.shape)], for_training=False)
    module.set_params(arguments, states)
    assert 0 < error(module.predict(mx.io.NDArrayIter(x, batch_size=8)), expected) <= limit


def test_get_model_finds_the_int8_form(exported, tmp_path):
    x, name = tensor((2, 3, 32, 32)), 'fashion_mnist_aff_resnet8_int8'
    expected = Predictor(exported, backend='mxnet-int8').logits(x.asnumpy())
    for root in (exported, exported.parent):
        assert error(get_model(name, root=str(root))(x), expected) == 0
    with refused('make it by: gluon-aff export', FileNotFoundError):
        get_model(name, root=str(tmp_path))
    with refused('read as it was exported'):
        get_model(name, root=str(exported), classes=3)


def test_sensitive_operators_stay_in_float32(tmp_path, capsys):
    folder, pictures = tmp_path / 'out', tmp_path / 'pictures'
    pictures.mkdir()
    for number in range(2):
        noise = np.random.RandomState(number).randint(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(noise).save(pictures / f'{number}.png')
    flags = ['--format', 'symbol-int8', '--calibrate', str(pictures), '--float-nodes', '1', '--ranges', 'naive']
    assert main(['export', 'fashion_mnist_add_resnet8', '-o', str(folder), *flags]) == 0
    assert 'INT8 predicts the same class' in capsys.readouterr().err
    symbol = mx.sym.load(f'{folder}/fashion_mnist_add_resnet8-int8-symbol.json')
    quantized = [name for name in symbol.get_internals().list_outputs() if 'quantized_sg_mkldnn_conv' in name]
    assert quantized and any(name.startswith('sg_mkldnn_') for name in symbol.get_internals().list_outputs())
    with refused('Unknown ranges'):
        export(load_model(SHIPPED[0]), tmp_path / 'other', ['symbol-int8'], [tensor((2, 3, 32, 32))], ranges='x')


def images(kind, start, count, spec):
    """Normalised images of Fashion-MNIST, and their labels."""
    pixels, labels = (
        np.frombuffer(gzip.decompress((DATA / f'{kind}-{what}-ubyte.gz').read_bytes()), np.uint8)[skipped:]
        for what, skipped in (('images-idx3', 16), ('labels-idx1', 8))
    )
    crops = pixels.reshape(-1, 28, 28)[start : start + count]
    crops = [spec.prepare(Image.fromarray(image).convert('RGB')) for image in crops]
    return spec.feed(np.stack(crops)), labels[start : start + count]


@needs_data
@pytest.mark.parametrize('count', tiered([300, 10_000], quick=[300]))
@pytest.mark.parametrize('name', SHIPPED)
def test_fashion_mnist_in_int8_and_bfloat16_keeps_its_classes(name, count, tmp_path):
    model = load_model(name)
    export(model, tmp_path / 'out', ('symbol', 'symbol-bf16', 'symbol-int8'), [images('train', 0, 200, model.spec)[0]])
    x, labels = images('t10k', 0, count, model.spec)
    predicted = {
        backend: Predictor(tmp_path / 'out', backend=backend).logits(x).argmax(1)
        for backend in ('mxnet', 'mxnet-bf16', 'mxnet-int8')
    }
    for classes in predicted.values():
        assert (classes == predicted['mxnet']).mean() >= 0.99
        if count == 10_000:
            assert abs((classes == labels).mean() - (predicted['mxnet'] == labels).mean()) <= 0.003
