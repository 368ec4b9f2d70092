"""Attentional Feature Fusion for Gluon: the fusion blocks and what serves them. Named networks are in `model_zoo`."""
from ._environment import check_environment

check_environment()

from .attention import MSCAM, ChannelContext  # noqa: E402
from .complexity import Complexity, complexity  # noqa: E402
from .fusion import (AFF, FUSIONS, IAFF, MSGAU, MSSA, MSSE, SK, Add, Concat, Fusion, Highway,  # noqa: E402
                     get_fusion)

__version__ = '0.1.0'
__all__ = ['AFF', 'Add', 'ChannelContext', 'Complexity', 'Concat', 'FUSIONS', 'Fusion', 'Highway', 'IAFF', 'MSCAM',
           'MSGAU', 'MSSA', 'MSSE', 'SK', 'complexity', 'get_fusion']
