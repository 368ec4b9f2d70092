"""OpenVINO beside the other engines: every network in float32, bfloat16 and INT8, and what it is kept from doing."""

import os
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import mxnet as mx
import numpy as np
import pytest
from programs import TOP
from reference import error, filled, loaded, refused, tensor, tiered
from test_every_network import FIXED, build

from gluon_aff import instruction_sets
from gluon_aff.data.cifar import Batches
from gluon_aff.data.image_sets import fashion_mnist
from gluon_aff.deploy import Predictor, export, export_onnx, openvino_engine, quantize_onnx
from gluon_aff.deploy.onnx_files import session
from gluon_aff.layers import kernels
from gluon_aff.layers.comparators import ECA, AAConv
from model_zoo import evaluate, get_model, list_models
from model_zoo.loading import load_model

onnx = pytest.importorskip('onnx', reason="needs the extra 'onnx'")
pytest.importorskip('onnxruntime', reason="needs the extra 'onnx'")
try:
    openvino = openvino_engine.import_openvino()
except ImportError:
    pytest.skip("needs the extra 'openvino'", allow_module_level=True)

SHIPPED = (
    'fashion_mnist_add_resnet8',
    'fashion_mnist_add_resnet8_w108',
    'fashion_mnist_aff_resnet8',
    'fashion_mnist_iaff_resnet8',
)
FPN = 'fpn_aff_resnet8'
FASHION = Path(os.environ.get('FASHION_MNIST_DIR', '/usr/share/datasets/fashion-mnist'))
BACKENDS = ('openvino', 'openvino-bf16', 'openvino-int8')
BF16 = 'BF16' in openvino.Core().get_property('CPU', 'OPTIMIZATION_CAPABILITIES')


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
    """Exports of a shipped network in every form: of floats, and of images with the preprocessing in the file."""
    folders = [str(tmp_path_factory.mktemp('export') / name) for name in ('floats', 'pixels')]
    for folder in folders:
        images = fashion(64)
        model, preprocess = load_model(SHIPPED[2]), folder == folders[1]
        batch = images if preprocess else model.spec.feed(images)
        export(model, folder, ('symbol', 'onnx', 'int8'), [batch], preprocess=preprocess)
    return folders


def fashion(count):
    images = np.load(TOP / 'tests' / 'data' / 'fashion_mnist_test.npz')['images'][:count]
    return np.pad(images, ((0, 0), (2, 2), (2, 2)))[..., None].repeat(3, -1)


def usable(backend):
    """The backend; the test is skipped where the processor cannot compute it."""
    if backend == 'openvino-bf16' and not BF16:
        pytest.skip('this processor has no instructions for bfloat16')
    return backend


def outputs(content, batches, **options):
    request = openvino_engine.compile_onnx(content, **options).create_infer_request()
    return [request.infer([batch])[0].copy() for batch in batches]


@pytest.mark.parametrize('name', tiered(list_models(), ['cifar_iaff_resnet8', 'fpn_aff_resnet8']))
def test_every_network_computes_the_same_in_openvino(name):
    side, is_fixed = 32 if name.startswith(('cifar', 'fpn', 'unet', 'fashion')) else 64, name.startswith(FIXED)
    net = build(name, **({'input_size': side} if is_fixed else {}))
    shapes = [(1, 3, side, side)] + ([(2, 3, side, side)] if is_fixed else [(3, 3, side + 1, side + 15)])
    batches = [tensor(shape).asnumpy() for shape in shapes]
    expected = [net(mx.nd.array(batch)) for batch in batches]
    with TemporaryDirectory() as folder:
        path = Path(folder) / 'net.onnx'
        export_onnx(net, path, (3, side, side), dynamic=not is_fixed)
        quantize_onnx(path, batches, path.with_suffix('.int8'))
        floats, integers = path.read_bytes(), path.with_suffix('.int8').read_bytes()
        ours = [session(integers).run(None, {'data': batch})[0] for batch in batches]

    def worst(actual):
        return max(error(y, wanted) for y, wanted in zip(actual, expected))

    float32, int8, runtime = worst(outputs(floats, batches)), worst(outputs(integers, batches)), worst(ours)
    bfloat16 = worst(outputs(floats, batches, bfloat16=True)) if BF16 else float('nan')
    print(f'\n| {name} | {float32:.1e} | {bfloat16:.3f} | {int8:.3f} | {runtime:.3f} |')
    assert float32 <= 1e-4 and not bfloat16 > 0.1
    assert int8 <= 2 * runtime + 0.05


@pytest.mark.slow
@pytest.mark.skipif(not FASHION.is_dir(), reason=f'Fashion-MNIST is not at {FASHION}')
@pytest.mark.parametrize('name', SHIPPED)
def test_the_shipped_networks_keep_their_classes_on_all_test_images(name, tmp_path):
    data, model = fashion_mnist(str(FASHION)), load_model(name)
    calibration = Batches(data.train[0][:500], data.train[1][:500], 100, data.mean, data.std).epoch()
    export(model, str(tmp_path / 'out'), ('onnx', 'int8'), calibration)
    compute = partial(evaluate, str(tmp_path / 'out'), 'fashion_mnist', data_dir=str(FASHION), batch_size=250)
    expected = compute(backend='onnxruntime')
    for backend in ('int8', *BACKENDS):
        if backend != 'openvino-bf16' or BF16:
            evaluation = compute(backend=backend)
            same = np.mean(evaluation.report.predicted == expected.report.predicted)
            gain = evaluation.summary()['top1'] - expected.summary()['top1']
            print(f'\n{name} {backend}: {same:.2%} the same class, accuracy {100 * gain:+.2f} points')
            assert len(evaluation.report.predicted) == 10000 and same >= 0.99 and abs(gain) <= 0.003


@pytest.mark.parametrize('backend', BACKENDS)
def test_a_shipped_network_says_the_same_of_any_size_whether_it_takes_floats_or_images(exported, backend):
    images = fashion(200)
    for folder in exported:
        predictor, expected = Predictor(folder, usable(backend)), Predictor(folder, 'onnxruntime')
        exact = [expected.logits(expected.feed(images)), predictor.logits(predictor.feed(images))]
        assert (exact[0].argmax(1) == exact[1].argmax(1)).mean() >= 0.97
        if backend == 'openvino':
            for shape in ((1, 32, 32), (2, 4, 4), (3, 40, 33), (1, 64, 48), (2, 32, 32)):
                batch = expected.feed(np.random.RandomState(0).randint(0, 256, (*shape, 3)).astype(np.uint8))
                assert error(predictor.logits(batch), expected.logits(batch)) <= 1e-5
        with refused('takes arrays'):
            predictor.logits(np.zeros((1, 1, 1, 1), np.float32))


@pytest.mark.parametrize('dynamic', [True, False])
def test_segmentation_networks_take_images_of_any_size(dynamic, tmp_path):
    net = filled(get_model(FPN))
    model = loaded(FPN, net, ('no', 'yes'), (3, 48, 32), (0.5,) * 3, (0.2,) * 3)
    images = [np.random.RandomState(h).randint(0, 256, (h, w, 3)).astype(np.uint8) for h, w in ((48, 32), (37, 50))]
    calibration = [model.spec.feed(images[0][None])]
    export(model, str(tmp_path / 'out'), ('symbol', 'onnx', 'int8'), calibration, dynamic=dynamic)
    expected = [Predictor(str(tmp_path / 'out'), 'mxnet').segment(image) for image in images]
    for backend, share in zip(BACKENDS[: 3 if BF16 else 1], (0.999, 0.98, 0.9)):
        predictor = Predictor(str(tmp_path / 'out'), backend, threads=1)
        for image, mask in zip(images, expected):
            segmented = predictor.segment(image)
            assert segmented.shape == image.shape[:2] and (segmented == mask).mean() > share


def layers_in_int8(last, folder):
    """The error of a convolution and this block in INT8, and the nodes of the file."""
    net = mx.gluon.nn.HybridSequential()
    net.add(mx.gluon.nn.Conv2D(16, 3, padding=1, in_channels=3), last)
    x = tensor((2, 3, 8, 8))
    expected = filled(net)(x)
    export_onnx(net, folder / 'net.onnx', (3, 8, 8), dynamic=False)
    content = Path(quantize_onnx(folder / 'net.onnx', [x.asnumpy()])).read_bytes()
    return error(outputs(content, [x.asnumpy()])[0], expected), onnx.load_from_string(content).graph.node


def test_a_convolution_with_computed_weights_stays_in_float32(tmp_path):
    """OpenVINO 2026.4 has no INT8 kernel for ECA's."""
    largest, nodes = layers_in_int8(ECA(16), tmp_path)
    makers = {name: node.op_type for node in nodes for name in node.output}
    assert [makers[node.input[1]] for node in nodes if node.op_type == 'Conv'] == ['DequantizeLinear', 'Unsqueeze']
    assert 0 < largest <= 0.05


def test_the_numbers_of_relative_positions_are_not_rounded(tmp_path):
    largest, _ = layers_in_int8(AAConv(32, 16, 16, (8, 8), in_channels=16), tmp_path)
    assert 0 < largest <= 0.1


def test_several_threads_call_one_network(exported):
    predictor = Predictor(exported[0], 'openvino')
    batches = [tensor((1 + number % 2, 3, 16, 16), number).asnumpy() for number in range(16)]
    expected, computed = [predictor.logits(batch) for batch in batches], {}

    def ask(first):
        for number in range(first, 64, 4):
            computed[number] = predictor.logits(batches[number % 16])

    threads = [threading.Thread(target=ask, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(computed) == 64 and max(error(computed[n], expected[n % 16]) for n in computed) <= 1e-6


def test_float32_is_float32_and_threads_are_as_many_as_asked(exported):
    content = Path(exported[0], f'{SHIPPED[2]}.onnx').read_bytes()
    compiled = openvino_engine.compile_onnx(content, threads=1)
    assert compiled.get_property('INFERENCE_PRECISION_HINT') == openvino.Type.f32
    assert compiled.get_property('INFERENCE_NUM_THREADS') == 1
    with refused('computes on the CPU only'):
        Predictor(exported[0], 'openvino-int8', ctx=mx.gpu(0))


def test_what_is_missing_is_said_in_a_sentence(exported, monkeypatch, tmp_path):
    kernels.available()  # which is told once in a process
    cpuinfo = tmp_path / 'cpuinfo'
    monkeypatch.setattr(instruction_sets, 'CPUINFO', cpuinfo)
    for flags in ('fpu avx2 avx_vnni', 'fpu avx512_vnni avx512f'):
        cpuinfo.write_text(f'processor\t: 0\nflags\t\t: {flags}\n')
        openvino_engine.check_int8()
    cpuinfo.write_text('processor\t: 0\nflags\t\t: fpu avx2 avx512f\nbugs\t\t: none\n')
    with refused('INT8 in OpenVINO is wrong without VNNI or AMX, which this processor lacks'):
        Predictor(exported[0], 'openvino-int8')
    cpuinfo.write_text('Features\t: asimd\n')
    openvino_engine.check_int8()
    monkeypatch.setattr(
        openvino, 'Core', lambda: SimpleNamespace(get_property=lambda *_: ['FP32', 'INT8'], read_model=None)
    )
    with refused('needs AVX512-BF16 or AMX, which this processor lacks'):
        Predictor(exported[0], 'openvino-bf16')
    monkeypatch.setattr(openvino, '__version__', '2023.3.0-13775')
    with refused('OpenVINO 2024.4 or newer is needed, and 2023.3.0 is installed', ImportError):
        Predictor(exported[0], 'openvino')
    monkeypatch.setitem(sys.modules, 'openvino', None)
    with refused("needs the package openvino.*run: pip install 'gluon_aff.openvino.'", ImportError):
        Predictor(exported[0], 'openvino-int8')


def test_nothing_is_reported_and_nothing_written_to_the_home_directory(exported, tmp_path):
    program = f"""
import sys
from gluon_aff.deploy import Predictor
Predictor({exported[0]!r}, 'openvino', threads=1)
assert 'openvino' in sys.modules and not [name for name in sys.modules if name.startswith('openvino_telemetry')]
"""
    environment = {**os.environ, 'HOME': str(tmp_path), 'CI': 'false', 'PYTHONPATH': str(TOP)}
    subprocess.run([sys.executable, '-c', program], env=environment, check=True, timeout=120)
    assert not (tmp_path / 'intel').exists()
