"""What the training scripts share: their flags, and the way from the flags to a run."""
from __future__ import annotations

import os
import shlex
import sys

import mxnet as mx
from gluoncv.utils.block import freeze_bn

from ..text import any_character, printable
from .checkpoint import checkpoints
from .loop import fit, no_weight_decay
from .schedule import SCHEDULES, learning_rate
from .stop import Stopped
from .workers import KVSTORES

__all__ = ['add_flags', 'devices', 'initialize', 'run_arguments', 'run_script', 'train', 'tune_backbone']

# What a run may be resumed with another value of: its results do not depend on it.
FREE = ('save_dir', 'resume', 'overwrite', 'keep', 'tensorboard', 'num_workers', 'patience', 'data_dir', 'command')


def _epochs(text):
    return [int(epoch) for epoch in text.split(',')]


def add_flags(parser, **defaults):
    """Give a parser the flags of optimization, devices and the run's folder, named as in GluonCV's scripts.

    Parameters
    ----------
    parser : argparse.ArgumentParser
    **defaults
        Of these flags, where a recipe has its own.
    """
    add = parser.add_argument_group('optimization').add_argument
    add('--num-epochs', type=int, default=15)
    add('--batch-size', type=int, default=32, help='for each device')
    add('--accumulate', type=int, default=1, metavar='BATCHES', help='how many make up an update')
    add('--optimizer', choices=['nesterov', 'adagrad'], default='nesterov')
    add('--lr', type=float, default=0.1)
    add('--scale-lr', action='store_true', help='multiply --lr and --warmup-lr by the number of workers')
    add('--lr-mode', choices=SCHEDULES, default='cosine')
    add('--lr-decay', type=float, default=0.1, help='factor of --lr-mode step')
    add('--lr-decay-epoch', type=_epochs, default='300,350', help='epochs where --lr-mode step decays')
    add('--lr-decay-period', type=int, default=0, help='decay every so many epochs instead')
    add('--warmup-lr', type=float, default=0.0)
    add('--warmup-epochs', type=int, default=1)
    add('--momentum', type=float, default=0.9, help='of nesterov')
    add('--wd', type=float, default=1e-4)
    add('--no-wd', action='store_true', help='no weight decay on biases, beta and gamma')
    add('--init', choices=['xavier', 'kaiming'], default='xavier', help='of the weights that are not loaded')
    add('--seed', type=int, default=0)
    add = parser.add_argument_group('devices').add_argument
    add('--num-gpus', type=int, default=0)
    add('--dtype', choices=['float32', 'float16'], default='float32', help='float16 needs a GPU')
    add('--mode', choices=['hybrid', 'imperative'], default='hybrid')
    add('--kvstore', choices=KVSTORES, default='device', help='dist_* and horovod for several processes')
    add('--patience', type=float, default=600, metavar='SECONDS', help='that a worker waits for the others')
    add = parser.add_argument_group('run').add_argument
    add('--save-dir', default='runs/latest', help="the run's folder")
    add('--resume', nargs='?', const='auto', metavar='CHECKPOINT',
        help='go on from the latest checkpoint in --save-dir, or from this one')
    add('--overwrite', action='store_true', help='replace a run that is in --save-dir')
    add('--keep', type=int, default=3, metavar='N', help='how many checkpoints are kept')
    add('--tensorboard', action='store_true', help="write TensorBoard's scalars, too")
    parser.set_defaults(**defaults)


def devices(args, workers):
    """The contexts that the flags ask for.

    Parameters
    ----------
    args : argparse.Namespace
    workers : Workers

    Raises
    ------
    ValueError
        If a GPU is asked for and missing, or float16 is, on a CPU; if a device gets a batch of one image.
    """
    if args.batch_size < 2:
        raise ValueError(f'--batch-size must be 2 or more for each device, got {args.batch_size}: the global context '
                         'normalises one value for each image, and gives a constant for a batch of one.')
    found = mx.context.num_gpus()
    if args.num_gpus > found:
        raise ValueError(f'--num-gpus {args.num_gpus}, but MXNet sees {found}; give less, or install the extra of your '
                         'CUDA version (README, Install).')
    if args.dtype == 'float16' and not args.num_gpus:
        raise ValueError('--dtype float16 needs --num-gpus: MXNet has no float16 convolution on a CPU.')
    if args.num_gpus and workers.local_rank is not None:
        return [mx.gpu(workers.local_rank)]
    return [mx.gpu(i) for i in range(args.num_gpus)] or [mx.cpu()]


def initialize(net, kind, ctx):
    """Initialise a network's weights: 'xavier', or 'kaiming' (He et al., ICCV 2015; fan-in, gain for ReLU).

    Parameters
    ----------
    net : HybridBlock
    kind : {'xavier', 'kaiming'}
    ctx : list of mxnet.Context
    """
    net.initialize({'xavier': mx.init.Xavier(), 'kaiming': mx.init.MSRAPrelu('in', 0)}[kind], ctx=ctx)


def tune_backbone(net, head, lr_mult):
    """Train all but the head at a share of the learning rate; at 0 the backbone stays as it is, statistics included.

    Parameters
    ----------
    net : HybridBlock
    head : HybridBlock
        The part of it that learns as usual.
    lr_mult : float
    """
    own = set(head.collect_params())
    for name, parameter in net.collect_params().items():
        if name not in own:
            if lr_mult:
                parameter.lr_mult = lr_mult
            else:
                parameter.grad_req = 'null'
    if not lr_mult:
        freeze_bn(net)


def run_arguments(args, workers):
    """What a run's results depend on, by name, as its checkpoints say it.

    Parameters
    ----------
    args : argparse.Namespace
    workers : Workers
    """
    return {**{name: value for name, value in vars(args).items() if name not in FREE}, 'workers': workers.size}


def train(args, net, task, train_data, test_data, run, ctx, workers):
    """Train a network as the flags of :func:`add_flags` say.

    Parameters
    ----------
    args : argparse.Namespace
        With the script's own flags, which a resumed run must share.
    net : HybridBlock
    task : Classification or the like
    train_data, test_data : loader
    run : RunFolder
        In `args.save_dir`.
    ctx : list of mxnet.Context
    workers : Workers

    Returns
    -------
    dict
        The record of the best epoch.

    Raises
    ------
    ValueError
        If another run is in the way.
    FileNotFoundError, FloatingPointError, Stopped
        See :func:`fit`, as for other ValueErrors.
    """
    found = checkpoints(args.save_dir)
    if found and not args.resume and not args.overwrite:
        raise ValueError(f'{args.save_dir} holds a run; give --resume to go on with it, --overwrite to replace it, or '
                         'another --save-dir.')
    resume = next(iter(found), None) if args.resume == 'auto' else args.resume
    scale = workers.size if args.scale_lr else 1
    decays = args.lr_decay_epoch
    if args.lr_decay_period:
        decays = range(args.lr_decay_period, args.num_epochs, args.lr_decay_period)
    schedule = learning_rate(args.lr_mode, args.lr * scale, args.num_epochs, len(train_data) // args.accumulate,
                             args.warmup_epochs, args.warmup_lr * scale, decays, args.lr_decay)
    if args.no_wd:
        no_weight_decay(net)
    if args.mode == 'hybrid':
        net.hybridize(static_alloc=True, static_shape=True)
    options = {'wd': args.wd, **({'momentum': args.momentum} if args.optimizer == 'nesterov' else {})}
    best = fit(net, train_data, test_data, run, task, args.num_epochs, schedule, ctx, args.optimizer, options,
               args.accumulate, args.dtype, workers, args.seed, resume, run_arguments(args, workers), args.patience)
    if workers.rank == 0:
        print(f'Best {task.headline} {best[task.headline]:.4f}, in epoch {best["epoch"]} of {args.num_epochs}; '
              f'{run.path} holds its parameters (best.params, model.json), the log and the curves.\n'
              f'To run it again: {args.command}')
    return best


def run_script(name, main):
    """Run a script's `main(argv)`; errors that a user can mend are one sentence on standard error.

    The exit status is 1 after an error and 128 + its number after a signal.

    Parameters
    ----------
    name : str
        Of the script.
    main : callable
        Takes the list of arguments.
    """
    status = 0
    try:
        with any_character(sys.stdout):
            main(sys.argv[1:])
    except Stopped as stopped:
        print(f'{name}: {stopped}\nTo go on: {shlex.join(["python", *_resuming(sys.argv)])}', file=sys.stderr)
        status = 128 + stopped.number
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        print(f'{name}: {printable(error)}', file=sys.stderr)
        status = 1
    sys.stderr.flush()
    sys.stdout.flush()
    if status and {'DMLC_ROLE', 'HOROVOD_RANK'} & set(os.environ):
        os._exit(status)        # MXNet would wait at the end for the other workers, who may be waiting for this one
    sys.exit(status)


def _resuming(argv):
    """A command line that goes on with the latest checkpoint."""
    kept = []
    for flag in argv:
        if kept and kept[-1] == '--resume' and not flag.startswith('-'):
            kept.pop()
        elif flag != '--overwrite':
            kept.append(flag)
    return [flag for flag in kept if flag != '--resume'] + ['--resume']
