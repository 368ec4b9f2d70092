"""Our networks and fusion blocks in PyTorch: on timm's ResNet for ImageNet, the others as plain modules.

It needs PyTorch; nothing else of this project imports it.
"""

from .fusion_modules import (
    AFF,
    FUSIONS,
    IAFF,
    MSCAM,
    MSGAU,
    MSSA,
    MSSE,
    SK,
    Add,
    AlignedFusion,
    Concat,
    ConcatAFF,
    Fusion,
    GlobalAFF,
    HalfAFF,
    Highway,
    LocalAFF,
    MultiInputAFF,
    RecursiveAFF,
    get_fusion,
)
from .timm_registry import register_with_timm
from .torch_models import create_model
from .torch_state import read_torch_state

__all__ = [
    'AFF',
    'Add',
    'AlignedFusion',
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
    'create_model',
    'get_fusion',
    'read_torch_state',
    'register_with_timm',
]
