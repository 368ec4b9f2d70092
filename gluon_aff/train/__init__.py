"""Training: schedules, what is learnt, the loop, checkpoints, workers, and the flags of the scripts."""
from .checkpoint import Progress, checkpoints, read_checkpoint
from .loop import check_arguments, evaluate, fit, no_weight_decay
from .recipe import add_flags, devices, initialize, run_arguments, run_script, train, tune_backbone
from .run import RunFolder
from .schedule import SCHEDULES, learning_rate
from .stop import Stopped
from .targets import mixup, smooth
from .task import Classification, Segmentation
from .workers import KVSTORES, Workers, get_workers

__all__ = ['Classification', 'KVSTORES', 'Progress', 'RunFolder', 'SCHEDULES', 'Segmentation', 'Stopped', 'Workers',
           'add_flags', 'check_arguments', 'checkpoints', 'devices', 'evaluate', 'fit', 'get_workers', 'initialize',
           'learning_rate', 'mixup', 'no_weight_decay', 'read_checkpoint', 'run_arguments', 'run_script', 'smooth',
           'train', 'tune_backbone']
