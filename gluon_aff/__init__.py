"""Attentional Feature Fusion for Gluon: fusion blocks and a library around them. Named networks are in `model_zoo`."""

from . import _deprecated
from ._environment import check_environment

check_environment()
_deprecated.install()

from .layers.context import MSCAM, ChannelContext
from .inspect.complexity import Complexity, complexity
from .layers.fusion import (
    AFF,
    FUSIONS,
    IAFF,
    MSGAU,
    MSSA,
    MSSE,
    SK,
    Add,
    Concat,
    ConcatAFF,
    Fusion,
    GlobalAFF,
    HalfAFF,
    Highway,
    LocalAFF,
    RecursiveAFF,
    get_fusion,
)
from .layers.multi_input import AlignedFusion, MultiInputAFF

__version__ = '0.2.0'
__all__ = [
    'AFF',
    'Add',
    'AlignedFusion',
    'ChannelContext',
    'Complexity',
    'Concat',
    'ConcatAFF',
    'FUSIONS',
    'Fusion',
    'GlobalAFF',
    'HalfAFF',
    'Highway',
    'IAFF',
    'LocalAFF',
    'MSCAM',
    'MSGAU',
    'MSSA',
    'MSSE',
    'MultiInputAFF',
    'RecursiveAFF',
    'SK',
    'complexity',
    'get_fusion',
]
