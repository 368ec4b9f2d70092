"""The slow tier: every registered network at the sizes of photographs, in MXNet's forms and in ONNX Runtime."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from reference import error, filled, in_every_form, parameters, tensor, tiered

from gluon_aff.deploy import export_onnx
from model_zoo import get_model, list_models, model_info

onnxruntime = pytest.importorskip('onnxruntime', reason="needs the extra 'onnx'")

SIZES = ((224, 224), (225, 301), (256, 256), (320, 320))
SMALL_SIZES = ((32, 32), (33, 47), (64, 64), (96, 80))  # of the networks for 32x32 images
FIXED = ('aa_', 'ge_')  # their parameters are for maps of one size
CASES = [f'{name}-{height}x{width}' for name in list_models(['aa_*', 'ge_*']) for height, width in SIZES]
CASES += list_models(exclude=['aa_*', 'ge_*'])


def build(name, **options):
    """A network that neither blows up nor forgets its input on the way, whatever its depth."""
    fusion = model_info(name).fusion
    net = filled(get_model(name, **options), {'aff': 0.25}.get(fusion, 1), np.random.default_rng)
    # Gates that are nearly steps would make of a rounding error in the first stage another output.
    for key, parameter in parameters(net).items():
        if '_att' in key and key.endswith('weight'):
            parameter.set_data(0.1 * parameter.data())
    return net


@pytest.mark.parametrize('case', tiered(CASES, quick=['cifar_add_resnet8', 'fpn_concat_resnet8', 'unet_add_resnet8']))
def test_network_is_one_function_in_every_form_and_in_onnx_runtime_at_every_size(case):
    name, _, size = case.partition('-')
    if size:
        sizes = [tuple(map(int, size.split('x')))]
        net = build(name, input_size=sizes[0])
    else:
        sizes, net = SIZES if model_info(name).spec.input_size[1] > 100 else SMALL_SIZES, build(name)
    images = [tensor((1, 3, *size)) for size in sizes]
    with TemporaryDirectory() as folder:
        path = Path(folder) / 'net.onnx'
        export_onnx(net, path, (3, *sizes[0]), dynamic=not size)
        session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
        actual = [session.run(None, {'data': x.asnumpy()})[0] for x in images]
        outputs = in_every_form(net, Path(folder), *((x,) for x in images))
    for y, expected in zip(actual, outputs['eager']):
        assert np.isfinite(y).all() and error(y, expected) <= 1e-4
    for form, computed in outputs.items():
        for y, expected in zip(computed, outputs['eager']):
            assert error(y, expected) <= 1e-5, form
