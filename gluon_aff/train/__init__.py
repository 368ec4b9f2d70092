"""Training: schedules, files written whole, and the loop."""
from .loop import evaluate, fit
from .run import RunFolder
from .schedule import SCHEDULES, learning_rate
from .targets import mixup, smooth

__all__ = ['RunFolder', 'SCHEDULES', 'evaluate', 'fit', 'learning_rate', 'mixup', 'smooth']
