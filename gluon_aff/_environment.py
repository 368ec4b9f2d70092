"""Clear errors for a Python, NumPy, MXNet or GluonCV that is missing or out of range."""

from __future__ import annotations

import re
import sys
from importlib import metadata
from typing import Sequence

from . import compat

# As in setup.py.
GLUONCV = '>=0.10.5,<0.11'


def check_environment(python: Sequence[int] = sys.version_info, numpy_version: str | None = None) -> None:
    """Raise an ImportError if Python, NumPy or MXNet is missing or out of range."""
    if tuple(python[:2]) < (3, 8):
        raise ImportError(
            f'gluon_aff needs Python 3.8 or newer, and this is Python {python[0]}.{python[1]}; '
            'make a virtual environment with a newer one.'
        )
    if numpy_version is None:
        try:
            from numpy import __version__ as numpy_version
        except ModuleNotFoundError:
            raise _not_installed(python) from None
    installed = tuple(int(part) for part in str(numpy_version).split('.')[:2])
    if not (1, 23) <= installed < (3, 0):
        raise ImportError(
            f'gluon_aff needs NumPy 1.23 to 2.x, and {".".join(map(str, installed))} is installed; '
            "run: pip install 'numpy>=1.23,<3'"
        )
    compat.enable_at_start()
    try:
        import mxnet  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name == 'mxnet':
            raise _not_installed(python) from None
        if compat.switched_off():
            raise _switched_off(python, numpy_version) from None
        raise
    except AttributeError:
        if compat.switched_off():
            raise _switched_off(python, numpy_version) from None
        raise
    except OSError as error:
        raise ImportError(
            f'MXNet is installed, but a system library that it needs is not: {error}; on Debian install the '
            'packages libgomp1 and libquadmath0 for its CPU build.'
        ) from None


def install_line(python: Sequence[int] = sys.version_info, package: str = 'gluon_aff') -> str:
    """Shell command that installs this project, or its checkout '.', with MXNet's CPU build."""
    line = f"pip install '{package}[cpu]'"
    # On Python 3.13 pip finds no NumPy that MXNet's metadata allows.
    return line if tuple(python[:2]) < (3, 13) else f'{line} && pip install --no-deps mxnet==1.9.1'


def _not_installed(python):
    try:
        metadata.version('gluon_aff')
        package = 'gluon_aff'
    except metadata.PackageNotFoundError:
        package = '.'
    return ImportError(
        f'gluon_aff needs MXNet 1.9; run: {install_line(python, package)} (or with one of the extras '
        'cu101, cu102, cu110, cu112, cu115, cu117 and their mxnet-cuNNN for a GPU).'
    )


def _switched_off(python, numpy_version):
    return ImportError(
        f'MXNet cannot be imported on Python {python[0]}.{python[1]} with NumPy '
        f'{".".join(map(str, numpy_version))} while {compat.SWITCH}=0 is set; unset it.'
    )


def check_gluoncv() -> None:
    """Raise an ImportError if GluonCV is missing or out of range."""
    try:
        # Not gluoncv.__version__, which says 0.11.0 in the release 0.10.5.post0.
        version = metadata.version('gluoncv')
        if not (0, 10, 5) <= tuple(map(int, re.findall(r'\d+', version)[:3])) < (0, 11):
            raise ImportError(
                f"This works with GluonCV {GLUONCV}, and {version} is installed; run: pip install 'gluoncv{GLUONCV}'"
            )
        import gluoncv  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != 'gluoncv':
            raise
        raise ImportError(f"This needs GluonCV, which is not installed; run: pip install 'gluoncv{GLUONCV}'") from None
