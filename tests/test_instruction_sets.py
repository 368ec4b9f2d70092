"""Processors without AVX512, VNNI or bfloat16, simulated by oneDNN's variables: right, or refused in a sentence."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from programs import TOP
from reference import error, refused, tensor

from gluon_aff.deploy import Predictor, export
from gluon_aff.deploy.onnx_files import session
from gluon_aff.instruction_sets import check_instruction_sets
from model_zoo import load_model

NAME = 'fashion_mnist_aff_resnet8'
FLOATS, INT8 = ('mxnet', 'onnxruntime', 'openvino'), ('mxnet-int8', 'int8', 'openvino-int8')
# A process of its own, because oneDNN reads the variable once. It exports and computes, and gives logits or errors.
PROGRAM = """
import json, sys
import mxnet as mx, numpy as np
from mxnet.contrib import quantization
from gluon_aff.deploy import Predictor, export
from model_zoo import load_model

folder, backends, computed = sys.argv[1], sys.argv[2].split(','), {}
images = [np.load(f'{folder}/{name}.npy') for name in ('calibration', 'x')]
model = load_model('fashion_mnist_aff_resnet8')
export(model, f'{folder}/out', ('symbol', 'symbol-bf16', 'symbol-int8', 'onnx', 'int8'), images[:1], ranges='naive')
print('exported', file=sys.stderr, flush=True)
for backend in backends:
    try:
        computed[backend] = Predictor(f'{folder}/out', backend).logits(images[1]).tolist()
    except ValueError as error:
        computed[backend] = str(error)
net = quantization.quantize_net(
    model.net, calib_data=mx.io.NDArrayIter(images[0], batch_size=8), calib_mode='naive', ctx=mx.cpu()
)
computed['quantize_net'] = net(mx.nd.array(images[1])).asnumpy().tolist()
print(json.dumps(computed))
"""


@pytest.mark.parametrize(
    'variable, value, flags, sets, refusal',
    [
        (None, None, 'avx2 avx512bw', {'avx512_vnni', 'avx_vnni'}, 'which this processor lacks; do else'),
        (None, None, 'avx2 avx_vnni', {'avx512_vnni', 'avx_vnni'}, None),
        (None, None, '', {'avx512_vnni'}, None),  # it does not tell
        ('DNNL_MAX_CPU_ISA', 'AVX2', 'avx512_vnni', {'avx512_vnni'}, 'DNNL_MAX_CPU_ISA=AVX2 excludes; unset that'),
        ('DNNL_MAX_CPU_ISA', 'AVX512_CORE', 'avx512_vnni', {'avx512_vnni', 'amx_int8'}, 'CORE excludes'),
        ('DNNL_MAX_CPU_ISA', 'AVX512_CORE_VNNI', 'avx512_vnni', {'avx512_vnni'}, None),
        ('DNNL_MAX_CPU_ISA', 'AVX2_VNNI', 'avx512_vnni', {'avx512_vnni', 'avx_vnni'}, 'VNNI excludes'),
        ('DNNL_MAX_CPU_ISA', 'AVX2_VNNI', 'avx512_vnni avx_vnni', {'avx512_vnni', 'avx_vnni'}, None),
        ('DNNL_MAX_CPU_ISA', 'DEFAULT', 'avx512_vnni', {'avx512_vnni'}, None),
        ('DNNL_MAX_CPU_ISA', 'AVX2', '', {'avx512_vnni'}, None),
    ],
)
def test_a_sentence_says_what_lacks_the_instructions(variable, value, flags, sets, refusal, monkeypatch):
    for name in ('DNNL_MAX_CPU_ISA', 'ONEDNN_MAX_CPU_ISA'):
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr('gluon_aff.instruction_sets.cpu_flags', lambda: set(flags.split()))
    for engine in ('MXNet', 'OpenVINO'):
        if refusal:
            with refused(refusal):
                check_instruction_sets(engine, sets, 'This needs it', 'do else')
        else:
            check_instruction_sets(engine, sets, 'This needs it', 'do else')


def test_openvino_has_a_variable_more_and_takes_lower_case(monkeypatch):
    monkeypatch.setattr('gluon_aff.instruction_sets.cpu_flags', lambda: {'avx512bw'})
    monkeypatch.setenv('DNNL_MAX_CPU_ISA', 'avx2')
    check_instruction_sets('MXNet', {'avx512bw'}, 'This needs it', 'do else')
    with refused('which DNNL_MAX_CPU_ISA=avx2 excludes'):
        check_instruction_sets('OpenVINO', {'avx512bw'}, 'This needs it', 'do else')
    monkeypatch.setenv('ONEDNN_MAX_CPU_ISA', 'ALL')
    check_instruction_sets('OpenVINO', {'avx512bw'}, 'This needs it', 'do else')


def installed(*backends):
    try:
        from gluon_aff.deploy.openvino_engine import import_openvino

        import_openvino()
        return backends
    except ImportError:
        return tuple(backend for backend in backends if not backend.startswith('openvino'))


@pytest.mark.parametrize('limit', ['AVX2', 'AVX512_CORE'])
def test_under_a_limit_of_onednn_everything_is_right_or_refused(limit, tmp_path):
    pytest.importorskip('onnxruntime', reason="needs the extra 'onnx'")
    calibration, x = (tensor((number, 3, 32, 32), number).asnumpy() for number in (16, 8))
    np.save(tmp_path / 'calibration.npy', calibration)
    np.save(tmp_path / 'x.npy', x)
    backends = installed(*FLOATS, *INT8, 'mxnet-bf16', 'openvino-bf16')
    out = subprocess.run(
        [sys.executable, '-c', PROGRAM, str(tmp_path), ','.join(backends)],
        env={**os.environ, 'DNNL_MAX_CPU_ISA': limit, 'PYTHONPATH': str(TOP)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert out.returncode == 0, out.stderr
    assert 'src/executor' not in out.stderr.partition('exported')[0]  # MXNet's log
    computed = json.loads(out.stdout.splitlines()[-1])
    expected = Predictor(load_model(NAME)).logits(x)
    for name, largest in [
        *((backend, 1e-5) for backend in FLOATS if backend in backends),
        ('mxnet-int8', 0.1),
        ('int8', 0.1),
        ('quantize_net', 0.1),
        *([('mxnet-bf16', 0.02)] if limit == 'AVX512_CORE' and not isinstance(computed['mxnet-bf16'], str) else []),
    ]:
        assert error(np.array(computed[name]), expected) <= largest, name
    refusals = ['mxnet-bf16'] * (limit == 'AVX2') + ['openvino-int8', 'openvino-bf16'] * ('openvino' in backends)
    for name in refusals:
        assert isinstance(computed[name], str) and ('excludes' in computed[name] or 'lacks' in computed[name]), name


def test_onnx_runtime_is_told_to_add_int8s_products_exactly(tmp_path):
    """It does so only where the processor lacks VNNI, and MLAS has no variable that limits it."""
    pytest.importorskip('onnxruntime', reason="needs the extra 'onnx'")
    export(load_model(NAME), tmp_path / 'out', ('onnx',))
    options = session(str(tmp_path / 'out' / f'{NAME}.onnx')).get_session_options()
    assert options.get_session_config_entry('session.x64quantprecision') == '1'
