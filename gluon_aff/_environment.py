"""Refuses an environment that MXNet 1.x cannot run in, before MXNet does so less clearly; and a missing GluonCV."""
from __future__ import annotations

import re
import sys
from importlib import metadata

# As in setup.py.
GLUONCV = '>=0.10.5,<0.11'


def check_environment(python=sys.version_info, numpy_version=None):
    """Raise one clear ImportError where Python, numpy or MXNet is missing or out of range."""
    if not (3, 8) <= tuple(python[:2]) < (3, 12):
        raise ImportError(f'gluon_aff needs Python 3.8 to 3.11, and this is Python {python[0]}.{python[1]}; '
                          'make a virtual environment with one of those.')
    if numpy_version is None:
        import numpy
        numpy_version = numpy.__version__
    if tuple(int(part) for part in numpy_version.split('.')[:2]) >= (1, 24):
        raise ImportError(f'MXNet 1.x needs numpy below 1.24, and numpy {numpy_version} is installed; '
                          "run: pip install 'numpy<1.24'")
    try:
        import mxnet  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != 'mxnet':
            raise
        raise ImportError("gluon_aff needs MXNet 1.9; run: pip install 'gluon_aff[cpu]', or one of the "
                          'extras cu101, cu102, cu110, cu112, cu115, cu117 for a GPU.') from None
    except OSError as error:
        raise ImportError(f'MXNet is installed, but a system library that it needs is not: {error}; on Debian the '
                          'packages libgomp1 and libquadmath0 have those of its CPU build.') from None


def check_gluoncv():
    """Raise one clear ImportError where GluonCV is missing or out of range."""
    try:
        # Not gluoncv.__version__, which says 0.11.0 in the release 0.10.5.post0.
        version = metadata.version('gluoncv')
        if not (0, 10, 5) <= tuple(map(int, re.findall(r'\d+', version)[:3])) < (0, 11):
            raise ImportError(f'This works with GluonCV {GLUONCV}, and {version} is installed; '
                              f"run: pip install 'gluoncv{GLUONCV}'")
        import gluoncv  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != 'gluoncv':
            raise
        raise ImportError(f"This needs GluonCV, which is not installed; run: pip install 'gluoncv{GLUONCV}'") from None
