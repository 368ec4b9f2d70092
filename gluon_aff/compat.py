"""MXNet 1.9 and GluonCV 0.10 on Python 3.12 and newer, and on NumPy 1.24 and newer.

Both import names that Python and NumPy have since removed (``distutils``, ``numpy.bool``). :func:`enable` supplies them
to mxnet, gluoncv, gluoncv2 and autocfg alone; NumPy stays as it is for everyone else. The installation of this project
calls it whenever Python starts; set ``GLUON_AFF_COMPAT=0`` to disable that.

This file works on its own: copied beside a script, ``import compat; compat.enable()`` lets that script
``import mxnet``.
"""

from __future__ import annotations

import os
import sys

__all__ = ['enable']

PACKAGES = frozenset(('mxnet', 'gluoncv', 'gluoncv2', 'autocfg'))
SWITCH = 'GLUON_AFF_COMPAT'

# Removed NumPy names and their replacements; those of the first table are looked up on request.
NUMPY_ALIASES = {
    'Inf': 'inf',
    'PINF': 'inf',
    'NAN': 'nan',
    'NaN': 'nan',
    'alltrue': 'all',
    'sometrue': 'any',
    'product': 'prod',
    'round_': 'round',
    'trapz': 'trapezoid',
}
BUILTINS = {'bool': bool, 'float': float, 'int': int, 'long': int}
# NumPy 1.20 to 1.23 have these functions only to raise an error.
FINANCIAL = frozenset(('mirr', 'npv', 'pmt', 'ppmt', 'pv', 'rate'))

# Replacements in the source of modules; `_compat` is this module there.
DISTUTILS = tuple(
    (f'from distutils.version import {name}', f'{name} = _compat.version_numbers')
    for name in ('LooseVersion', 'StrictVersion')
)
ONNX = (
    ('from onnx import mapping', 'mapping = _compat.OnnxMapping()'),
    (
        'from onnx import helper, mapping, shape_inference',
        'from onnx import helper, shape_inference; mapping = _compat.OnnxMapping()',
    ),
    (
        'from onnx.mapping import TENSOR_TYPE_TO_NP_TYPE',
        'TENSOR_TYPE_TO_NP_TYPE = _compat.OnnxMapping().TENSOR_TYPE_TO_NP_TYPE',
    ),
    ('onnx.mapping.', '_compat.OnnxMapping().'),
)
PYTORCH = (('    _require_pytorch_version(', '    _compat.refuse_new_pytorch()\n    _require_pytorch_version('),)
EDITS = {
    'gluoncv': PYTORCH,
    'mxnet.numpy_dispatch_protocol': DISTUTILS,
    'mxnet.numpy_op_fallback': DISTUTILS,
    'gluoncv.check': DISTUTILS,
    'gluoncv.utils.version': DISTUTILS,
    'autocfg.dataclasses': DISTUTILS,
    'mxnet.recordio': (('.tostring()', '.tobytes()'),),
    # Operators receive their settings as strings.
    'mxnet._ctypes.ndarray': (('str(s)', '_compat.text(s)'), ('str(val)', '_compat.text(val)')),
    'mxnet._ctypes.symbol': (('str(s)', '_compat.text(s)'), ('str(v)', '_compat.text(v)')),
    'mxnet.symbol.symbol': (
        ('str(value)', '_compat.text(value)'),
        ('str(shape)', '_compat.text(shape)'),
        ('= str(v)', '= _compat.text(v)'),
        ('(str(val))', '(_compat.text(val))'),
    ),
    'mxnet.kvstore.base': (('str(v)', '_compat.text(v)'),),
    'mxnet.io.io': (('str(val)', '_compat.text(val)'),),
    'mxnet.ndarray.sparse': (('spsp.csr.csr_matrix', 'spsp.csr_matrix'),),
    'mxnet.onnx.mx2onnx._export_model': ONNX,
    'mxnet.onnx.mx2onnx._export_onnx': ONNX,
    'mxnet.onnx.mx2onnx._op_translations._op_translations_opset12': ONNX,
    'mxnet.onnx.mx2onnx._op_translations._op_translations_opset13': ONNX,
    'mxnet.contrib.onnx.onnx2mx._op_translations': ONNX,
}


def enable() -> None:
    """Make mxnet, gluoncv, gluoncv2 and autocfg importable if Python or NumPy is too new for them.

    Call it before the first import of one of them; further calls do nothing. It imports nothing itself, and changes
    nothing on Python 3.8 to 3.11 with NumPy below 1.24.
    """
    if not any(type(finder).__name__ == _Finder.__name__ for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def enable_at_start() -> None:
    """Call :func:`enable` unless GLUON_AFF_COMPAT=0 is set; the installed .pth file calls this."""
    if not switched_off():
        enable()


def switched_off() -> bool:
    """Whether GLUON_AFF_COMPAT=0 is set."""
    return os.environ.get(SWITCH) == '0'


class _Finder:
    """Prepares NumPy at the first import of one of PACKAGES, and edits the modules of EDITS."""

    def __init__(self):
        self.needed = None

    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] not in PACKAGES:
            return None
        if self.needed is None:
            self.needed = _prepare()
        edits = EDITS.get(name)
        # What onnx lacks, and which PyTorch there is, does not depend on Python and NumPy.
        if edits is None or not self.needed and edits not in (ONNX, PYTORCH):
            return None
        return _edited(name, path, target)


def _prepare():
    """Supply NumPy's removed names; returns whether these versions need any edits."""
    try:
        import numpy
    except ImportError:
        return False  # MXNet reports it
    version = tuple(int(part) for part in numpy.__version__.split('.')[:2])
    if version >= (1, 24):
        _answer_for_packages(numpy)
    return version >= (1, 24) or sys.version_info >= (3, 12)


def _answer_for_packages(numpy):
    original = numpy.__getattr__

    def __getattr__(name):  # noqa: N807
        if sys._getframe(1).f_globals.get('__name__', '').partition('.')[0] in PACKAGES:
            value = _dropped(numpy, name)
            if value is not None:
                return value
        return original(name)

    numpy.__getattr__ = __getattr__


def _dropped(numpy, name):
    """The value of a removed attribute of NumPy, or None."""
    if name in BUILTINS:
        return BUILTINS[name]
    if name in NUMPY_ALIASES:
        return getattr(numpy, NUMPY_ALIASES[name])
    if name in FINANCIAL:

        def removed(*args, **kwargs):
            raise RuntimeError(f'NumPy has removed {name}; numpy_financial has it.')

        return removed
    return {
        'NINF': -numpy.inf,
        'PZERO': 0.0,
        'NZERO': -0.0,
        'compat': _NumpyCompat,
        'in1d': lambda ar1, ar2, **options: numpy.isin(ar1, ar2, **options).ravel(),
        'msort': lambda a: numpy.sort(a, axis=0),
    }.get(name)


class _NumpyCompat:
    """The part of numpy.compat that MXNet uses."""

    basestring = str


def _edited(name, path, target):
    """The spec of a module whose source is edited before it is compiled, past its cached bytecode."""
    from importlib.machinery import PathFinder, SourceFileLoader

    class Loader(SourceFileLoader):
        def get_code(self, fullname):
            source = self.get_source(fullname)
            for old, new in EDITS[fullname]:
                source = source.replace(old, new)
            return self.source_to_code(source.encode(), self.path)

        def exec_module(self, module):
            module._compat = sys.modules[__name__]
            super().exec_module(module)

    spec = PathFinder.find_spec(name, path, target)
    if spec is not None and type(spec.loader) is SourceFileLoader:
        spec.loader = Loader(spec.loader.name, spec.loader.path)
    return spec


def refuse_new_pytorch():
    """Raise ImportError where PyTorch is 2 or newer.

    GluonCV has a half for PyTorch 1, and cannot be imported at all beside a newer one. After an ImportError it does
    without.
    """
    from importlib import metadata

    try:
        version = metadata.version('torch')
    except metadata.PackageNotFoundError:
        return
    if int(version.partition('.')[0]) >= 2:
        raise ImportError(f'GluonCV works with PyTorch 1, and {version} is installed.')


def text(value):
    """str(value) with NumPy's scalars in tuples and lists as Python's: (2, 3), not (np.int64(2), 3)."""
    result = str(value)
    if 'np.' in result and isinstance(value, (tuple, list)):
        result = str(_plain(value))
    return result


def _plain(value):
    import numpy

    if isinstance(value, (tuple, list)):
        return (list if isinstance(value, list) else tuple)(map(_plain, value))
    return value.item() if isinstance(value, numpy.generic) else value


def version_numbers(version):
    """The numbers of a version, which compare as the classes of distutils.version did."""
    import re

    return [int(number) for number in re.findall(r'\d+', str(version))]


class OnnxMapping:
    """The two tables of onnx.mapping, which onnx 1.19 removed."""

    @property
    def NP_TYPE_TO_TENSOR_TYPE(self):  # noqa: N802
        return _NumpyTypes()

    @property
    def TENSOR_TYPE_TO_NP_TYPE(self):  # noqa: N802
        from onnx import helper

        return {number: helper.tensor_dtype_to_np_dtype(number) for number in helper.get_all_tensor_dtypes()}


class _NumpyTypes:
    def __getitem__(self, dtype):
        import numpy
        from onnx import helper

        return helper.np_dtype_to_tensor_dtype(numpy.dtype(dtype))
