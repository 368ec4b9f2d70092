"""Training: settings (TrainConfig), tasks (Task) and the loop (fit)."""

from .._environment import check_gluoncv

check_gluoncv()

from .checkpoint import Progress, checkpoints, read_checkpoint  # noqa: E402
from .config import ClassificationConfig, TrainConfig, flag, number, whole  # noqa: E402
from .evaluation import evaluate  # noqa: E402
from .loop import fit  # noqa: E402
from .optimizer import no_weight_decay  # noqa: E402
from .recipe import (  # noqa: E402
    augmentation,
    batch_size,
    classification_task,
    freeze_stages,
    initialize,
    open_run,
    start,
    train_network,
    tune_backbone,
)
from .resume import check_arguments, run_arguments  # noqa: E402
from .run import RunFolder  # noqa: E402
from .schedule import SCHEDULES, learning_rate  # noqa: E402
from .script import parse, run_script, script  # noqa: E402
from .soft_labels import mixup, smooth  # noqa: E402
from .stop import Stopped  # noqa: E402
from .task import Classification, Segmentation, Task  # noqa: E402
from .workers import KVSTORES, Workers, get_workers  # noqa: E402

__all__ = [
    'Classification',
    'ClassificationConfig',
    'KVSTORES',
    'Progress',
    'RunFolder',
    'SCHEDULES',
    'Segmentation',
    'Stopped',
    'Task',
    'TrainConfig',
    'Workers',
    'augmentation',
    'batch_size',
    'check_arguments',
    'checkpoints',
    'classification_task',
    'evaluate',
    'fit',
    'flag',
    'freeze_stages',
    'get_workers',
    'initialize',
    'learning_rate',
    'mixup',
    'no_weight_decay',
    'number',
    'open_run',
    'parse',
    'read_checkpoint',
    'run_arguments',
    'run_script',
    'script',
    'smooth',
    'start',
    'train_network',
    'tune_backbone',
    'whole',
]
