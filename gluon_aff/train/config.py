"""What a training run is told: dataclasses whose fields are the flags of the scripts: their range, default and help."""

from __future__ import annotations

import argparse
import math
import numbers
from dataclasses import Field, dataclass, field
from functools import partial
from typing import Any, Sequence

from ..validation import shown
from .optimizer import OPTIMIZERS
from .schedule import SCHEDULES
from .workers import KVSTORES

__all__ = ['ClassificationConfig', 'TrainConfig', 'flag', 'number', 'whole']

LARGEST = {int: 2**31 - 1, float: 3e38}  # MXNet's int and float32


class number:  # noqa: N801 - read as a type: flag(0.1, number(0, 1))
    """The numbers of an interval; called with a text it is an argparse type.

    Parameters
    ----------
    low, high : float, default of high infinity
    ends : str, default '[]'
        '(' excludes `low`, ')' excludes `high`.
    kind : {float, int}, default float
    note : str, default ''
        Added to the error.
    """

    def __init__(self, low: float, high: float = math.inf, *, ends: str = '[]', kind: type = float, note: str = ''):
        self.low, self.high, self.ends, self.kind, self.note = low, high, ends, kind, note

    def __call__(self, text: str) -> float:
        try:
            value = self.kind(text)
        except ValueError:
            value = math.nan
        if not self.holds(value):
            raise argparse.ArgumentTypeError(f'must be {self.describe(value)}, got {text}')
        return value

    def holds(self, value: Any) -> bool:
        """Whether a value is one of these numbers."""
        abstract = numbers.Integral if self.kind is int else numbers.Real
        return (
            isinstance(value, abstract)
            and not isinstance(value, bool)
            and (self.low < value if self.ends[0] == '(' else self.low <= value)
            and (value < self.high if self.ends[1] == ')' else value <= self.high)
            and value <= LARGEST[self.kind]
        )

    def describe(self, value: Any) -> str:
        """The interval in words; `value`, which is outside, says which of its limits matter."""
        is_number = isinstance(value, numbers.Real) and not math.isnan(value)
        high = LARGEST[self.kind] if is_number and value > LARGEST[self.kind] else self.high
        lower = f'above {self.low:g}' if self.ends[0] == '(' else f'{self.low:g} or more'
        upper = '' if high == math.inf else f' and {"below" if self.ends[1] == ")" else "at most"} {high:.10g}'
        noun = 'a finite number, ' if self.kind is float else '' if is_number else 'a whole number, '
        return f'{noun}{lower}{upper}{self.note}'


whole = partial(number, kind=int)


class epochs:  # noqa: N801
    """Numbers of epochs, 1 or more; called with a text it is an argparse type."""

    def __call__(self, text: str) -> tuple:
        try:
            value = tuple(int(epoch) for epoch in text.split(','))
        except ValueError:
            value = ()
        if not self.holds(value):
            raise argparse.ArgumentTypeError(f'must be {self.describe(value)} between commas, got {text}')
        return value

    def holds(self, value: Any) -> bool:
        return isinstance(value, (tuple, list)) and len(value) > 0 and all(map(whole(1).holds, value))

    def describe(self, value: Any) -> str:
        return 'numbers of epochs, 1 or more'


def flag(
    default: Any = None,
    accepts: number | epochs | Sequence[str] | None = None,
    help: str | None = '',
    *,
    names: Sequence[str] = (),
    hidden: Sequence[str] = (),
    group: str = '',
    affects_results: bool = True,
    **options: Any,
) -> Any:
    """A dataclass field that is a flag of a script.

    Parameters
    ----------
    default : object
        With False, and no `const` among the options, the flag takes no value.
    accepts : number, or sequence of str, default any text
        The range, or the choices.
    help : str
        None hides the flag.
    names, hidden : sequence of str
        Spellings on the command line, by default the field's name; and further ones that --help does not list.
    group : str
        Title in --help above this flag and those that follow.
    affects_results : bool, default True
        Whether a resumed run must have the same value.
    **options
        Of argparse's add_argument, such as metavar.
    """
    options['nargs'] = '?' if 'const' in options else 0 if default is False else None
    if accepts is not None:
        options['choices' if isinstance(accepts, Sequence) else 'type'] = accepts
    return field(
        default=default,
        metadata={
            'accepts': accepts,
            'help': help,
            'names': names,
            'hidden': hidden,
            'group': group,
            'affects_results': affects_results,
            'options': options,
        },
    )


def flags(cls: type) -> dict[str, Field]:
    """The fields of a config's class that are flags, by name; those of the class itself come first.

    A subclass may give a flag another default in the plain way of dataclasses: ``lr: float = 0.01``.
    """
    declared: dict[str, Field] = {}
    for owner in cls.__mro__:
        for name in vars(owner).get('__annotations__', ()):
            field = getattr(owner, '__dataclass_fields__', {})[name]
            if field.metadata:
                declared.setdefault(name, field)
    return declared


@dataclass(frozen=True)
class TrainConfig:
    """The settings of a run, under the names of GluonCV's scripts.

    The loaders, the network, its devices and the folder are made beforehand, by :mod:`gluon_aff.train.recipe` in the
    scripts; so `batch_size`, `init`, `mode`, `num_gpus`, `kvstore`, `save_dir`, `keep` and `tensorboard` mean nothing
    to :func:`fit`.

    Attributes
    ----------
    typed : dict of str to str
        The flags that were typed, by field, as they were spelled.
    command : str
        The command line that starts the run again.

    Raises
    ------
    ValueError
        If a value is out of its range.
    """

    num_epochs: int = flag(15, whole(1), group='optimization')
    batch_size: int = flag(
        32,
        whole(2, note=' for each device'),
        'for each device; where it is not given and there are fewer images, the batches are smaller',
    )
    accumulate: int = flag(1, whole(1), 'batches that make up an update', metavar='BATCHES')
    optimizer: str = flag('nesterov', tuple(OPTIMIZERS))
    lr: float = flag(0.1, number(0, ends='(]'))
    scale_lr: bool = flag(False, help='multiply --lr and --warmup-lr by the number of workers')
    lr_mode: str = flag('cosine', SCHEDULES)
    lr_decay: float = flag(0.1, number(0, 1, ends='(]'), 'factor of --lr-mode step')
    lr_decay_epoch: Sequence[int] = flag((300, 350), epochs(), 'epochs where --lr-mode step decays')
    lr_decay_period: int = flag(0, whole(0), None)  # GluonCV's: decay every N epochs instead
    warmup_lr: float = flag(0.0, number(0))
    warmup_epochs: int = flag(1, whole(0), 'shortened where the run has no more epochs')
    momentum: float = flag(0.9, number(0, 1, ends='[)'), 'of nesterov')
    wd: float = flag(1e-4, number(0), 'weight decay')
    no_wd: bool = flag(False, help='no weight decay on biases, beta and gamma')
    clip_gradient: float | None = flag(
        None,
        number(0, ends='(]'),
        'largest norm of all gradients together; larger ones are scaled down',
        metavar='NORM',
    )
    ema: float = flag(
        0.0,
        number(0, 1, ends='[)'),
        'evaluate and keep an average of the weights, of this decay, such as 0.999',
        metavar='DECAY',
    )
    early_stopping: int = flag(0, whole(0), 'stop after this many epochs without a better one', metavar='EPOCHS')
    init: str = flag('xavier', ('xavier', 'kaiming'), 'of the weights')
    init_by_name: bool = flag(
        False, help='draw each weight from the seed and its name, so that networks that share layers start alike'
    )
    seed: int = flag(0, whole(0))

    num_gpus: int = flag(0, whole(0), group='devices')
    dtype: str = flag(
        'float32',
        ('float32', 'bfloat16', 'float16'),
        'bfloat16 needs a processor with AVX512-BF16 or AMX; float16 a GPU, and its forward pass has never been run, '
        'for want of one',
    )
    mode: str = flag('hybrid', ('hybrid', 'imperative'))
    kvstore: str = flag('device', KVSTORES, 'dist_* and horovod for several processes')
    worker_timeout: float = flag(
        600,
        number(0, ends='(]'),
        'for which a worker waits for the others',
        metavar='SECONDS',
        hidden=('--patience',),
        affects_results=False,
    )

    save_dir: str = flag('runs/latest', None, "the run's folder", group='run', affects_results=False)
    resume: str | None = flag(
        None,
        None,
        'go on from the latest checkpoint in --save-dir, or from this one',
        const='auto',
        metavar='CHECKPOINT',
        affects_results=False,
    )
    overwrite: bool = flag(
        False, help='replace the run in --save-dir: all its files are removed', affects_results=False
    )
    keep: int = flag(3, whole(1), 'how many checkpoints are kept', metavar='N', affects_results=False)
    tensorboard: bool = flag(False, help="write TensorBoard's scalars, too", affects_results=False)

    typed: dict = field(default_factory=dict, compare=False, repr=False)
    command: str = field(default='', compare=False, repr=False)

    # Fields, when their flag has no effect, and whether a config is such.
    USELESS = (
        ('momentum', 'without --optimizer nesterov', lambda config: config.optimizer != 'nesterov'),
        ('lr_decay lr_decay_epoch lr_decay_period', 'without --lr-mode step', lambda config: config.lr_mode != 'step'),
        ('lr_decay_epoch', 'with --lr-decay-period', lambda config: config.lr_decay_period),
        ('warmup_lr', 'without --warmup-epochs', lambda config: not config.warmup_epochs),
        ('no_wd', 'with --wd 0', lambda config: not config.wd),
        (
            'scale_lr worker_timeout',
            'without several workers, --kvstore dist_* or horovod',
            lambda config: config.kvstore in ('device', 'local'),
        ),
        (
            'num_gpus',
            'above 1 with --kvstore horovod, where each worker has one GPU',
            lambda config: config.kvstore == 'horovod' and config.num_gpus > 1,
        ),
        ('overwrite', 'with --resume', lambda config: config.resume),
        (
            'mode',
            'with --dtype bfloat16, which needs a hybrid network',
            lambda config: config.dtype == 'bfloat16' and config.mode == 'imperative',
        ),
    )

    def __post_init__(self) -> None:
        for name, declared in flags(type(self)).items():
            value, accepts = getattr(self, name), declared.metadata['accepts']
            if value is None or accepts is None:
                continue
            if isinstance(accepts, Sequence):
                if value not in accepts:
                    raise ValueError(f'{name} must be one of {", ".join(accepts)}, got {shown(value)}.')
            elif not accepts.holds(value):
                raise ValueError(f'{name} must be {accepts.describe(value)}, got {shown(value)}.')

    def useless_flag(self) -> tuple[str, str] | None:
        """The first typed flag without effect, and the reason; None if all have an effect."""
        for cls in type(self).__mro__:
            for names, when, is_useless in vars(cls).get('USELESS', ()):
                for name in names.split():
                    if name in self.typed and is_useless(self):
                        return self.typed[name], when
        return None

    @property
    def storage_dtype(self) -> str:
        """The type of the network's input and parameters; with bfloat16 that is float32."""
        return 'float16' if self.dtype == 'float16' else 'float32'

    def arguments(self) -> dict[str, Any]:
        """The values that the results depend on, and a resumed run must share, as JSON has them."""
        names = [name for name, declared in flags(type(self)).items() if declared.metadata['affects_results']]
        values = {name: getattr(self, name) for name in names}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


@dataclass(frozen=True)
class ClassificationConfig(TrainConfig):
    """The settings of a run that trains a classifier."""

    fusion: str | None = flag(None, None, "a fusion other than the model's, such as ms_se", group='network and loss')
    reduction: int | None = flag(
        None, whole(1), "of the fusion's contexts, default the model's", names=('--reduction', '--r')
    )
    num_layer: int | None = flag(
        None, whole(1), "the authors' flag: must be the depth in the model's name", metavar='DEPTH'
    )
    start_layer: int | None = flag(None, whole(1), 'where fusion by attention begins', metavar='STAGE')
    pretrained: str | bool = flag(
        False,
        None,
        'start from the released parameters, or from this tag or file; the head is fresh where the classes are others',
        names=('--pretrained', '--use-pretrained'),
        const=True,
        metavar='WEIGHTS',
    )
    backbone_lr: float = flag(
        1.0, number(0), "of all but the head's learning rate; 0 leaves the backbone as it is", metavar='FACTOR'
    )
    freeze: int | None = flag(
        None, whole(0), 'leave the stem (0) and the stages up to this one as they are', metavar='STAGE'
    )
    last_gamma: bool = flag(False, help="start each block's last gamma at zero")
    drop_rate: float = flag(0.0, number(0, 1, ends='[)'), 'dropout in front of the classifier')
    label_smoothing: bool = flag(False, help='by 0.1')
    auto_aug: bool = flag(False, help='AutoAugment, by the policy of the data', names=('--auto_aug', '--auto-aug'))
    rand_augment: int | None = flag(
        None, whole(0, 30), 'RandAugment of this strength, default 9', const=9, metavar='STRENGTH'
    )
    random_erasing: float = flag(
        0.0, number(0, 1), 'the share of images that get a rectangle of noise', metavar='PROBABILITY'
    )
    mixup: bool = flag(False, help='mix each batch with itself reversed')
    mixup_alpha: float = flag(1.0, number(0, 1000, ends='(]'), 'the shares follow Beta(ALPHA, ALPHA)', metavar='ALPHA')
    cutmix: float = flag(
        0.0,
        number(0, 1000),
        'paste rectangles of other images, the shares follow Beta(ALPHA, ALPHA); with --mixup in half of the batches',
        metavar='ALPHA',
    )
    mixup_off_epoch: int = flag(0, whole(0), 'how many of the last epochs are without mixup and CutMix')
    class_weights: str | None = flag(
        None, ('balanced',), "balanced: weight each image's loss by the inverse of its class's frequency"
    )
    balanced_sampler: bool = flag(False, help='draw the images of an epoch with replacement, each class alike')
    teacher: str | None = flag(None, None, 'a network of the zoo to distil', metavar='MODEL')
    teacher_weights: str | None = flag(None, None, 'its tag or file, default the released ones', metavar='WEIGHTS')
    temperature: float = flag(20.0, number(0, ends='(]'), 'of the distillation')
    hard_weight: float = flag(0.5, number(0, 1), "of the labels' share in the distillation")

    USELESS = (
        ('backbone_lr', 'without --pretrained', lambda config: not config.pretrained),
        ('init init_by_name last_gamma', 'with --pretrained, which has the values', lambda config: config.pretrained),
        ('auto_aug', 'with --rand-augment', lambda config: config.rand_augment is not None),
        ('freeze', 'with --backbone-lr 0', lambda config: not config.backbone_lr),
        ('mixup_alpha', 'without --mixup', lambda config: not config.mixup),
        ('mixup_off_epoch', 'without --mixup or --cutmix', lambda config: not (config.mixup or config.cutmix)),
        ('teacher_weights temperature hard_weight', 'without --teacher', lambda config: not config.teacher),
    )
