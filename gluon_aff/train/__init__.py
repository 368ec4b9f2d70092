"""Training: schedules, what is learnt, the loop, checkpoints, workers, and the flags of the scripts."""
from .._environment import check_gluoncv

check_gluoncv()

from .checkpoint import Progress, checkpoints, read_checkpoint  # noqa: E402
from .loop import check_arguments, evaluate, fit, no_weight_decay  # noqa: E402
from .recipe import add_flags, devices, initialize, run_arguments, run_script, train, tune_backbone  # noqa: E402
from .run import RunFolder  # noqa: E402
from .schedule import SCHEDULES, learning_rate  # noqa: E402
from .stop import Stopped  # noqa: E402
from .targets import mixup, smooth  # noqa: E402
from .task import Classification, Segmentation  # noqa: E402
from .workers import KVSTORES, Workers, get_workers  # noqa: E402

__all__ = ['Classification', 'KVSTORES', 'Progress', 'RunFolder', 'SCHEDULES', 'Segmentation', 'Stopped', 'Workers',
           'add_flags', 'check_arguments', 'checkpoints', 'devices', 'evaluate', 'fit', 'get_workers', 'initialize',
           'learning_rate', 'mixup', 'no_weight_decay', 'read_checkpoint', 'run_arguments', 'run_script', 'smooth',
           'train', 'tune_backbone']
