"""OpenVINO: its package, imported without its telemetry, and ONNX files compiled by it."""

from __future__ import annotations

import sys
from contextlib import contextmanager

from ..instruction_sets import check_instruction_sets

__all__ = ['check_int8', 'compile_onnx', 'import_openvino']

OLDEST = (2024, 4)
INSTALL = "run: pip install 'gluon_aff[openvino]'"
TELEMETRY = 'openvino_telemetry'
EXACT = {'avx512_vnni', 'avx_vnni', 'amx_int8'}  # what adds products of uint8 and int8 in 32 bits


def import_openvino():
    """The openvino package.

    Raises
    ------
    ImportError
        If it is missing, or older than 2024.4.
    """
    try:
        with _without_telemetry():
            import openvino

            version = openvino.__version__
    except (ImportError, AttributeError) as error:
        raise ImportError(f'This needs the package openvino, which cannot be imported ({error}); {INSTALL}') from None
    if tuple(map(int, version.split('.')[:2])) < OLDEST:
        raise ImportError(f'OpenVINO 2024.4 or newer is needed, and {version.split("-")[0]} is installed; {INSTALL}')
    return openvino


@contextmanager
def _without_telemetry():
    """Let openvino be imported as if its telemetry were not installed.

    The import would write two files to the home directory and report itself to Google Analytics.
    """
    if TELEMETRY in sys.modules:
        yield
        return
    sys.modules[TELEMETRY] = None
    try:
        yield
    finally:
        sys.modules.pop(TELEMETRY, None)


def check_int8() -> None:
    """Raise a ValueError where OpenVINO would add an INT8 file's products in 16 bits, which saturate.

    On Linux x86 only; elsewhere it is taken to be exact, as processors of ARM are.
    """
    check_instruction_sets(
        'OpenVINO', EXACT, 'INT8 in OpenVINO is wrong without VNNI or AMX', 'use the backend openvino'
    )


def compile_onnx(content: bytes, *, threads: int | None = None, bfloat16: bool = False):
    """An openvino.CompiledModel for the CPU, of an ONNX file's bytes.

    Parameters
    ----------
    content : bytes
    threads : int, optional
        Default: all cores.
    bfloat16 : bool, default False
        Compute in bfloat16 what the file has in float32. Left to itself, OpenVINO does so wherever the processor can.

    Raises
    ------
    ImportError
        If openvino is missing or too old.
    ValueError
        If the processor has no instructions for bfloat16, or a variable keeps OpenVINO from them.
    RuntimeError
        By OpenVINO, if it cannot read or compile the file.
    """
    core = import_openvino().Core()
    if bfloat16:
        problem, remedy = 'bfloat16 in OpenVINO needs AVX512-BF16 or AMX', 'use the backend openvino or openvino-int8'
        if 'BF16' not in core.get_property('CPU', 'OPTIMIZATION_CAPABILITIES'):
            raise ValueError(f'{problem}, which this processor lacks; {remedy}.')
        check_instruction_sets('OpenVINO', {'avx512_bf16', 'amx_bf16'}, problem, remedy)
    options = {'PERFORMANCE_HINT': 'LATENCY', 'INFERENCE_PRECISION_HINT': 'bf16' if bfloat16 else 'f32'}
    if threads:
        options['INFERENCE_NUM_THREADS'] = threads
    return core.compile_model(core.read_model(content), 'CPU', options)
