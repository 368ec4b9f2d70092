"""The flags of the training scripts, and the values they take."""
from __future__ import annotations

import argparse
import math
import os
import re

from .arguments import launched, starting
from .schedule import SCHEDULES
from .workers import KVSTORES

__all__ = ['ScriptParser', 'add_classification_flags', 'add_flags', 'number', 'whole']

LARGEST = 2 ** 31 - 1       # MXNet's int
FLOAT32 = 3e38


class ScriptParser(argparse.ArgumentParser):
    """A parser whose errors are ValueErrors of one sentence; `given` lists the flags that were given a value.

    Parameters
    ----------
    doc : str
        Of the script; its first line is the description.
    file : str
        The script's path.
    """

    def __init__(self, doc, file):
        super().__init__(prog=os.path.basename(file), description=doc.splitlines()[0], allow_abbrev=False,
                         formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        self.register('action', None, _Given)
        self.set_defaults(given=())
        self.file = file

    def error(self, message):
        """Raise the ValueError; argparse would print the usage and end the program."""
        message = re.sub(r'^argument (\S+): (?=must )', r'\1 ', message)
        message = re.sub(r'^argument (\S+):', r'\1:', message)
        raise ValueError(f'{message}; {self.prog} --help lists the flags.')

    def parse(self, argv):
        """The flags' values, with `command`, which is the command line to run the script again."""
        args = self.parse_args(argv)
        args.command = launched(['python', os.path.relpath(self.file), *starting(argv)])
        return args


class _Given(argparse.Action):
    """Stores a value as argparse does by default, and its name in `given`."""

    def __call__(self, parser, namespace, values, option_string=None):
        setattr(namespace, self.dest, values)
        namespace.given = (*namespace.given, self.dest)


def whole(least, note=''):
    """An argparse type: a whole number.

    Parameters
    ----------
    least : int
        The smallest one that is taken.
    note : str, default ''
        Of what it is, for the error.
    """
    def parse(text):
        try:
            value = int(text)
        except ValueError:
            value = None
        if value is None or not least <= value <= LARGEST:
            kind = 'a whole number, ' if value is None else ''
            upper = f' and at most {LARGEST}' if value is not None and value > LARGEST else ''
            raise argparse.ArgumentTypeError(f'must be {kind}{least} or more{upper}{note}, got {text}')
        return value
    return parse


def number(low, high=math.inf, ends='[]'):
    """An argparse type: a finite number of an interval.

    Parameters
    ----------
    low, high : float, default of high infinity
    ends : str, default '[]'
        Of the interval: '(' leaves `low` out, ')' leaves `high` out.
    """
    def parse(text):
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        inside = (low < value if ends[0] == '(' else low <= value) and (value < high if ends[1] == ')' else
                                                                        value <= high)
        if not inside or not abs(value) < FLOAT32:
            lower = f'above {low:g}' if ends[0] == '(' else f'{low:g} or more'
            upper = '' if high == math.inf else f' and {"below" if ends[1] == ")" else "at most"} {high:g}'
            raise argparse.ArgumentTypeError(f'must be a finite number, {lower}{upper}, got {text}')
        return value
    return parse


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
    parser : argparse.ArgumentParser
    **defaults
        Of these flags, where a recipe has its own.
    """
    add = parser.add_argument_group('optimization').add_argument
    add('--num-epochs', type=whole(1), default=15)
    add('--batch-size', type=whole(2, ' for each device'), default=32,
        help='for each device; where it is not given and there are fewer images, the batches are smaller')
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
    add('--init', choices=['xavier', 'kaiming'], default='xavier', help='of the weights that are not loaded')
    add('--seed', type=whole(0), default=0)
    add = parser.add_argument_group('devices').add_argument
    add('--num-gpus', type=whole(0), default=0)
    add('--dtype', choices=['float32', 'float16'], default='float32',
        help='float16 needs a GPU; its forward pass has never been run, for want of one')
    add('--mode', choices=['hybrid', 'imperative'], default='hybrid')
    add('--kvstore', choices=KVSTORES, default='device', help='dist_* and horovod for several processes')
    add('--patience', type=number(0, ends='(]'), default=600, metavar='SECONDS',
        help='that a worker waits for the others')
    add = parser.add_argument_group('run').add_argument
    add('--save-dir', default='runs/latest', help="the run's folder")
    add('--resume', nargs='?', const='auto', metavar='CHECKPOINT',
        help='go on from the latest checkpoint in --save-dir, or from this one')
    add('--overwrite', action='store_true', help='replace a run that is in --save-dir: all its files are removed')
    add('--keep', type=whole(1), default=3, metavar='N', help='how many checkpoints are kept')
    add('--tensorboard', action='store_true', help="write TensorBoard's scalars, too")
    parser.set_defaults(**defaults)


def add_classification_flags(parser, mixup_alpha, auto_aug):
    """Give a parser the flags of classification networks: the network, its initial parameters, the loss.

    Parameters
    ----------
    parser : argparse.ArgumentParser
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
    add('--pretrained', '--use-pretrained', metavar='WEIGHTS', nargs='?', const=True, default=False,
        help='start from the released parameters, or from this tag or file; the head is fresh where the classes are '
             'others')
    add('--backbone-lr', type=number(0), default=1.0, metavar='FACTOR',
        help="of all but the head's learning rate; 0 leaves the backbone as it is")
    add('--last-gamma', action='store_true', help="start each block's last gamma at zero")
    add('--drop-rate', type=number(0, 1, '[)'), default=0.0, help='dropout in front of the classifier')
    add('--label-smoothing', action='store_true', help='by 0.1')
    add('--auto_aug', '--auto-aug', action='store_true', help=auto_aug)
    add('--mixup', action='store_true')
    add('--mixup-alpha', type=number(0, 1000, '(]'), default=mixup_alpha)
    add('--mixup-off-epoch', type=whole(0), default=0, help='how many of the last epochs are not mixed')
    add('--teacher', metavar='MODEL', help='a network of the zoo to distil')
    add('--teacher-weights', metavar='WEIGHTS', default=True, help='its tag or file')
    add('--temperature', type=number(0, ends='(]'), default=20.0, help='of the distillation')
    add('--hard-weight', type=number(0, 1), default=0.5, help="of the labels' share in the distillation")
