"""Training: schedules, what is learnt, the loop, checkpoints, workers, and the flags of the scripts."""

from .._environment import check_gluoncv

check_gluoncv()

from .arguments import check_arguments, naming_flags, run_arguments  # noqa: E402
from .checkpoint import Progress, checkpoints, read_checkpoint  # noqa: E402
from .flags import ScriptParser, add_classification_flags, add_flags, number, whole  # noqa: E402
from .loop import evaluate, fit, no_weight_decay  # noqa: E402
from .recipe import batch_size, classification_task, devices, initialize, run_script, train, tune_backbone  # noqa: E402
from .run import RunFolder  # noqa: E402
from .schedule import SCHEDULES, learning_rate  # noqa: E402
from .soft_labels import mixup, smooth  # noqa: E402
from .stop import Stopped  # noqa: E402
from .task import Classification, Segmentation  # noqa: E402
from .workers import KVSTORES, Workers, get_workers  # noqa: E402

__all__ = [
    'Classification',
    'KVSTORES',
    'Progress',
    'RunFolder',
    'SCHEDULES',
    'ScriptParser',
    'Segmentation',
    'Stopped',
    'Workers',
    'add_classification_flags',
    'add_flags',
    'batch_size',
    'check_arguments',
    'checkpoints',
    'classification_task',
    'devices',
    'evaluate',
    'fit',
    'get_workers',
    'initialize',
    'learning_rate',
    'mixup',
    'naming_flags',
    'no_weight_decay',
    'number',
    'read_checkpoint',
    'run_arguments',
    'run_script',
    'smooth',
    'train',
    'tune_backbone',
    'whole',
]
