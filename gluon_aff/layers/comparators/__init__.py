"""Attention blocks of the networks that AFF is compared with."""

from .aaconv import AAConv
from .lip import LIP, SharedLIP, importance_pool
from .recalibration import ECA, SE, GatherExcite
from .skconv import SKConv

__all__ = ['AAConv', 'ECA', 'GatherExcite', 'LIP', 'SE', 'SKConv', 'SharedLIP', 'importance_pool']
