"""Attentional Feature Fusion for Gluon: the fusion blocks and what serves them. Named networks are in `model_zoo`."""
from ._environment import check_environment

check_environment()

from .aligned import AlignedFusion  # noqa: E402
from .attention import MSCAM, ChannelContext  # noqa: E402
from .complexity import Complexity, complexity  # noqa: E402
from .fusion import (AFF, FUSIONS, IAFF, MSGAU, MSSA, MSSE, SK, Add, Concat, ConcatAFF, Fusion, GlobalAFF,  # noqa: E402
                     HalfAFF, Highway, LocalAFF, RecursiveAFF, get_fusion)
from .multi_input import MultiInputAFF  # noqa: E402

__version__ = '0.1.0'
__all__ = ['AFF', 'Add', 'AlignedFusion', 'ChannelContext', 'Complexity', 'Concat', 'ConcatAFF', 'FUSIONS', 'Fusion',
           'GlobalAFF', 'HalfAFF', 'Highway', 'IAFF', 'LocalAFF', 'MSCAM', 'MSGAU', 'MSSA', 'MSSE', 'MultiInputAFF',
           'RecursiveAFF', 'SK', 'complexity', 'get_fusion']
