"""The instruction sets of the processor, and those that oneDNN, with which MXNet and OpenVINO compute, may use."""

from __future__ import annotations

import os
import re
from pathlib import Path

__all__ = ['check_instruction_sets', 'cpu_flags']

CPUINFO = Path('/proc/cpuinfo')

# The variables that limit oneDNN; the first that is set holds. MXNet's takes no lower case.
VARIABLES = {'MXNet': ('DNNL_MAX_CPU_ISA',), 'OpenVINO': ('ONEDNN_MAX_CPU_ISA', 'DNNL_MAX_CPU_ISA')}
# What their values leave of these instruction sets, in Linux's names. Any other value leaves all.
LIMITED = {'avx_vnni', 'avx512bw', 'avx512_vnni', 'avx512_bf16', 'amx_bf16', 'amx_int8'}
LEFT = {
    **dict.fromkeys(('SSE41', 'AVX', 'AVX2', 'AVX512_MIC', 'AVX512_MIC_4OPS'), set()),
    **dict.fromkeys(('AVX2_VNNI', 'AVX2_VNNI_2'), {'avx_vnni'}),
    'AVX512_CORE': {'avx512bw'},
    'AVX512_CORE_VNNI': {'avx512bw', 'avx512_vnni'},
    'AVX512_CORE_BF16': {'avx512bw', 'avx512_vnni', 'avx512_bf16'},
    'AVX512_CORE_FP16': {'avx512bw', 'avx512_vnni', 'avx512_bf16'},
}


def cpu_flags() -> set[str]:
    """The instruction sets of an x86 processor, as Linux names them; none elsewhere."""
    text = CPUINFO.read_text(encoding='utf-8') if CPUINFO.exists() else ''
    return set(' '.join(re.findall(r'^flags\s*:(.*)', text, re.MULTILINE)).split())


def check_instruction_sets(engine: str, sets: set[str], problem: str, remedy: str) -> None:
    """Raise a ValueError if an engine can use none of these instruction sets.

    Parameters
    ----------
    engine : {'MXNet', 'OpenVINO'}
    sets : set of str
        In Linux's names. Where the processor does not tell, as outside Linux or on ARM, it is taken to have them.
    problem : str
        How the sentence begins, up to what is missing: 'bfloat16 in MXNet needs AVX512'.
    remedy : str
        How it ends, such as 'use the backend mxnet'.
    """
    flags = cpu_flags()
    if flags and not flags & sets:
        raise ValueError(f'{problem}, which this processor lacks; {remedy}.')
    variable, value = next(((name, os.environ[name]) for name in VARIABLES[engine] if name in os.environ), ('', ''))
    left = LEFT.get(value if engine == 'MXNet' else value.upper(), LIMITED)
    if flags and not flags & sets - (LIMITED - left):
        raise ValueError(f'{problem}, which {variable}={value} excludes; unset that variable, or {remedy}.')
