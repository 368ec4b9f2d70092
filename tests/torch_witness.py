"""PyTorch, timm and torchvision as witnesses, where they are installed."""

import re
import sys
from functools import lru_cache
from importlib.util import find_spec

import pytest

_library = []


def torch():
    """The module, or a skip."""
    return pytest.importorskip('torch', reason='PyTorch, a witness, is not installed')


def timm():
    """The module, or a skip."""
    torch()
    if not find_spec('timm') or not find_spec('torchvision'):
        pytest.skip('timm, a witness, is not installed', allow_module_level=True)
    _import_torchvision()
    import timm as module

    return module


@lru_cache(maxsize=None)
def _import_torchvision():
    """Import it even if it was built for another PyTorch and so lacks operators, which no test needs."""
    for _ in range(20):
        try:
            import torchvision  # noqa: F401

            return
        except RuntimeError as error:
            missing = re.search(r'torchvision::(\w+) does not exist', str(error))
            if not missing:
                raise
            _library[:] = _library or [torch().library.Library('torchvision', 'DEF')]
            _library[0].define(f'{missing[1]}(Tensor a) -> Tensor')
            for name in [name for name in sys.modules if name.startswith('torchvision')]:
                del sys.modules[name]
