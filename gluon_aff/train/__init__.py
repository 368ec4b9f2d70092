"""Training: schedules, files written whole, and the loop."""
from .loop import evaluate, fit
from .run import RunFolder
from .schedule import warmup_cosine

__all__ = ['RunFolder', 'evaluate', 'fit', 'warmup_cosine']
