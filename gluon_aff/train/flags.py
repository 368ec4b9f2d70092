"""The flags of the training scripts, and the values they take."""

from __future__ import annotations

import argparse
import math
import os
import re
from functools import partial

from .arguments import launched, starting
from .schedule import SCHEDULES
from .workers import KVSTORES

__all__ = ['ScriptParser', 'add_classification_flags', 'add_flags', 'number', 'whole']

LARGEST = {int: 2**31 - 1, float: 3e38}  # MXNet's int and float32


class ScriptParser(argparse.ArgumentParser):
    """A parser whose errors are ValueErrors of one sentence.

    Its namespaces have `given`, a dict from the names of the arguments that were typed with a value to their spelling.

    Parameters
    ----------
    doc : str
        Of the script; its first line is the description.
    file : str
        The script's path.

    Attributes
    ----------
    idle : list of (str, str, callable)
        Flags that other flags make useless: the arguments' names between spaces, when that is ('without --mixup'), and
        a function of the namespace that says whether it is so.
    """

    def __init__(self, doc, file):
        super().__init__(
            prog=os.path.basename(file),
            description=doc.splitlines()[0],
            allow_abbrev=False,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        self.register('action', None, _Given)
        self.set_defaults(given={})
        self.file, self.idle = file, []

    def error(self, message):
        """Raise the ValueError; argparse would print the usage and end the program."""
        message = re.sub(r'^argument (\S+): (?=must )', r'\1 ', message)
        message = re.sub(r'^argument (\S+):', r'\1:', message)
        raise ValueError(f'{message}; {self.prog} --help lists the flags.')

    def parse(self, argv):
        """The flags' values, with `command`, which is the command line to run the script again.

        Raises
        ------
        ValueError
            For an unknown flag, a value out of its range, or a flag that another one makes useless.
        """
        args = self.parse_args(argv)
        for names, when, useless in self.idle:
            for name in names.split():
                switched_on = getattr(args, name) is True and f'--{name.replace("_", "-")}'
                flag = args.given.get(name, switched_on)
                if flag and useless(args):
                    self.error(f'{flag} is of no use {when}')
        args.command = launched(['python', os.path.relpath(self.file), *starting(argv)])
        return args


class _Given(argparse.Action):
    """Stores a value as argparse does by default, and the flag in `given`."""

    def __call__(self, parser, namespace, values, option_string=None):
        setattr(namespace, self.dest, values)
        namespace.given = {**namespace.given, self.dest: option_string}


def number(low, high=math.inf, ends='[]', kind=float, note=''):
    """An argparse type: a finite number of an interval.

    Parameters
    ----------
    low, high : float, default of high infinity
    ends : str, default '[]'
        Of the interval: '(' leaves `low` out, ')' leaves `high` out.
    kind : {float, int}, default float
    note : str, default ''
        Of what it is, for the error.
    """

    def parse(text):
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if (
            (low < value if ends[0] == '(' else low <= value)
            and (value < high if ends[1] == ')' else value <= high)
            and value <= LARGEST[kind]
        ):
            return value
        lower = f'above {low:g}' if ends[0] == '(' else f'{low:g} or more'
        limit = LARGEST[kind] if value > LARGEST[kind] else high
        upper = '' if limit == math.inf else f' and {"below" if ends[1] == ")" else "at most"} {limit:.10g}'
        noun = 'a finite number, ' if kind is float else 'a whole number, ' if math.isnan(value) else ''
        raise argparse.ArgumentTypeError(f'must be {noun}{lower}{upper}{note}, got {text}')

    return parse


whole = partial(number, kind=int)


def _epochs(text):
    try:
        epochs = [int(epoch) for epoch in text.split(',')]
    except ValueError:
        epochs = [0]
    if min(epochs) < 1:
        raise argparse.ArgumentTypeError(f'must be numbers of epochs, 1 or more, between commas, got {text}')
    return epochs


def add_flags(parser, **defaults):
    """Give a parser the flags of optimization, devices and the run's folder, named as in GluonCV's scripts.

    Parameters
    ----------
    parser : ScriptParser
    **defaults
        Of these flags, where a recipe has its own.
    """
    add = parser.add_argument_group('optimization').add_argument
    add('--num-epochs', type=whole(1), default=15)
    add(
        '--batch-size',
        type=whole(2, note=' for each device'),
        default=32,
        help='for each device; where it is not given and there are fewer images, the batches are smaller',
    )
    add('--accumulate', type=whole(1), default=1, metavar='BATCHES', help='how many make up an update')
    add('--optimizer', choices=['nesterov', 'adagrad'], default='nesterov')
    add('--lr', type=number(0, ends='(]'), default=0.1)
    add('--scale-lr', action='store_true', help='multiply --lr and --warmup-lr by the number of workers')
    add('--lr-mode', choices=SCHEDULES, default='cosine')
    add('--lr-decay', type=number(0, 1, '(]'), default=0.1, help='factor of --lr-mode step')
    add('--lr-decay-epoch', type=_epochs, default='300,350', help='epochs where --lr-mode step decays')
    add('--lr-decay-period', type=whole(0), default=0, help='decay every so many epochs instead; 0: do not')
    add('--warmup-lr', type=number(0), default=0.0)
    add('--warmup-epochs', type=whole(0), default=1, help='shortened where the run has no more epochs')
    add('--momentum', type=number(0, 1, '[)'), default=0.9, help='of nesterov')
    add('--wd', type=number(0), default=1e-4)
    add('--no-wd', action='store_true', help='no weight decay on biases, beta and gamma')
    add('--init', choices=['xavier', 'kaiming'], default='xavier', help='of the weights')
    add('--seed', type=whole(0), default=0)
    add = parser.add_argument_group('devices').add_argument
    add('--num-gpus', type=whole(0), default=0)
    add(
        '--dtype',
        choices=['float32', 'float16'],
        default='float32',
        help='float16 needs a GPU; its forward pass has never been run, for want of one',
    )
    add('--mode', choices=['hybrid', 'imperative'], default='hybrid')
    add('--kvstore', choices=KVSTORES, default='device', help='dist_* and horovod for several processes')
    add(
        '--patience',
        type=number(0, ends='(]'),
        default=600,
        metavar='SECONDS',
        help='that a worker waits for the others',
    )
    add = parser.add_argument_group('run').add_argument
    add('--save-dir', default='runs/latest', help="the run's folder")
    add(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from the latest checkpoint in --save-dir, or from this one',
    )
    add('--overwrite', action='store_true', help='replace a run that is in --save-dir: all its files are removed')
    add('--keep', type=whole(1), default=3, metavar='N', help='how many checkpoints are kept')
    add('--tensorboard', action='store_true', help="write TensorBoard's scalars, too")
    parser.set_defaults(**defaults)
    parser.idle += [
        ('momentum', 'without --optimizer nesterov', lambda args: args.optimizer != 'nesterov'),
        ('lr_decay lr_decay_epoch lr_decay_period', 'without --lr-mode step', lambda args: args.lr_mode != 'step'),
        ('lr_decay_epoch', 'with --lr-decay-period', lambda args: args.lr_decay_period),
        ('warmup_lr', 'without --warmup-epochs', lambda args: not args.warmup_epochs),
        ('no_wd', 'with --wd 0', lambda args: not args.wd),
        (
            'scale_lr patience',
            'without several workers, --kvstore dist_* or horovod',
            lambda args: args.kvstore in ('device', 'local'),
        ),
        (
            'num_gpus',
            'above 1 with --kvstore horovod, where each worker has one GPU',
            lambda args: args.kvstore == 'horovod' and args.num_gpus > 1,
        ),
        ('overwrite', 'with --resume', lambda args: args.resume),
    ]


def add_classification_flags(parser, mixup_alpha, auto_aug):
    """Give a parser the flags of classification networks: the network, its initial parameters, the loss.

    Parameters
    ----------
    parser : ScriptParser
    mixup_alpha : float
        Default of --mixup-alpha.
    auto_aug : str
        Help of --auto-aug.
    """
    add = parser.add_argument
    add('--fusion', help="a fusion other than the model's, such as ms_se")
    add('--reduction', '--r', type=whole(1), help="of the fusion's contexts, default the model's")
    add('--num-layer', type=whole(1), metavar='DEPTH', help="the authors' flag: must be the depth in the model's name")
    add('--start-layer', type=whole(1), metavar='STAGE', help='where fusion by attention begins')
    add(
        '--pretrained',
        '--use-pretrained',
        metavar='WEIGHTS',
        nargs='?',
        const=True,
        default=False,
        help='start from the released parameters, or from this tag or file; the head is fresh where the classes are '
        'others',
    )
    add(
        '--backbone-lr',
        type=number(0),
        default=1.0,
        metavar='FACTOR',
        help="of all but the head's learning rate; 0 leaves the backbone as it is",
    )
    add('--last-gamma', action='store_true', help="start each block's last gamma at zero")
    add('--drop-rate', type=number(0, 1, '[)'), default=0.0, help='dropout in front of the classifier')
    add('--label-smoothing', action='store_true', help='by 0.1')
    add('--auto_aug', '--auto-aug', action='store_true', help=auto_aug)
    add('--mixup', action='store_true')
    add('--mixup-alpha', type=number(0, 1000, '(]'), default=mixup_alpha)
    add('--mixup-off-epoch', type=whole(0), default=0, help='how many of the last epochs are not mixed')
    add('--teacher', metavar='MODEL', help='a network of the zoo to distil')
    add('--teacher-weights', metavar='WEIGHTS', help='its tag or file, default the released ones')
    add('--temperature', type=number(0, ends='(]'), default=20.0, help='of the distillation')
    add('--hard-weight', type=number(0, 1), default=0.5, help="of the labels' share in the distillation")
    parser.idle += [
        ('backbone_lr', 'without --pretrained', lambda args: not args.pretrained),
        ('init last_gamma', 'with --pretrained, which has the values', lambda args: args.pretrained),
        ('mixup_alpha mixup_off_epoch', 'without --mixup', lambda args: not args.mixup),
        ('teacher_weights temperature hard_weight', 'without --teacher', lambda args: not args.teacher),
    ]
