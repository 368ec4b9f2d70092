"""What the training scripts share: the way from their flags to a run."""

from __future__ import annotations

import os
import re
import signal
import sys

import mxnet as mx
from gluoncv.utils.block import freeze_bn

from ..data.fingerprint import identity
from ..errors import in_words
from ..text import any_character, printable
from .arguments import launched, resuming, run_arguments
from .checkpoint import checkpoints
from .loop import fit, no_weight_decay
from .schedule import learning_rate
from .stop import Stopped
from .task import Classification

__all__ = ['batch_size', 'classification_task', 'devices', 'initialize', 'run_script', 'train', 'tune_backbone']


def devices(args, workers):
    """The contexts that the flags ask for.

    Parameters
    ----------
    args : argparse.Namespace
    workers : Workers

    Raises
    ------
    ValueError
        If a GPU is asked for and missing, or float16 is, on a CPU.
    """
    found = mx.context.num_gpus()
    if args.num_gpus > found:
        raise ValueError(
            f'--num-gpus {args.num_gpus}, but MXNet finds {found}; use fewer, or install the extra of '
            'your CUDA version (README, Install).'
        )
    if args.dtype == 'float16' and not args.num_gpus:
        raise ValueError('--dtype float16 needs --num-gpus: MXNet has no float16 convolution on a CPU.')
    if args.num_gpus and workers.local_rank is not None:
        return [mx.gpu(workers.local_rank)]
    return [mx.gpu(i) for i in range(args.num_gpus)] or [mx.cpu()]


def batch_size(args, images, ctx, workers):
    """The images of one process's training batch.

    If --batch-size was not given and exceeds the number of images, an epoch has two batches, and a line says so.

    Parameters
    ----------
    args : argparse.Namespace
    images : int
        To train on, for all processes.
    ctx : list of mxnet.Context
    workers : Workers

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If there are fewer images for each device than --batch-size, or fewer than two.
    """
    size, devices = args.batch_size, len(ctx) * workers.size
    most = images // devices
    if most < 2:
        raise ValueError(
            f'The number of training images must be {2 * devices} or more, two for each device, got '
            f'{images}; add images.'
        )
    if size > most:
        if 'batch_size' in args.given:
            each = f' for each of {devices} devices' if devices > 1 else ''
            raise ValueError(
                f'--batch-size must be 2 to {most}{each}, as there are {images} training images, got {size}.'
            )
        size = max(2, most // 2)
        print(
            f'There are {images} training images, so --batch-size is {size} instead of {args.batch_size}.',
            file=sys.stderr,
        )
    return size * len(ctx)


def classification_task(args, net, teacher=None):
    """The task that the flags of :func:`add_classification_flags` ask for.

    Parameters
    ----------
    args : argparse.Namespace
    net : HybridBlock
    teacher : HybridBlock, optional

    Returns
    -------
    Classification

    Raises
    ------
    ValueError
        If mixup would be off in all epochs.
    """
    mixed = args.num_epochs - args.mixup_off_epoch
    if args.mixup and mixed < 1:
        raise ValueError(
            f'--mixup-off-epoch must be below --num-epochs {args.num_epochs}, got {args.mixup_off_epoch}; '
            'or leave --mixup out.'
        )
    return Classification(
        net.classes,
        0.1 * args.label_smoothing,
        args.mixup_alpha * args.mixup,
        mixed,
        teacher,
        args.temperature,
        args.hard_weight,
    )


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
    schedule = _schedule(args, len(train_data), workers)
    if args.no_wd:
        no_weight_decay(net)
    if args.mode == 'hybrid':
        net.hybridize(static_alloc=True, static_shape=True)
    options = {'wd': args.wd, **({'momentum': args.momentum} if args.optimizer == 'nesterov' else {})}
    arguments = run_arguments(args, workers, identity(run.description['class_names'], train_data, test_data))
    try:
        best = fit(
            net,
            train_data,
            test_data,
            run,
            task,
            args.num_epochs,
            schedule,
            ctx,
            args.optimizer,
            options,
            args.accumulate,
            args.dtype,
            workers,
            args.seed,
            _checkpoint(args, run, workers),
            arguments,
            args.patience,
        )
    finally:
        run.close()
    if workers.rank == 0:
        print(
            f'Best {task.headline} {best[task.headline]:.4f}, in epoch {best["epoch"]} of {args.num_epochs}; '
            f'{printable(run.path)} holds its parameters (best.params, model.json), the log and the curves.\n'
            f'To run it again in its place: {printable(args.command)} --overwrite'
        )
    return best


def _checkpoint(args, run, workers):
    """The checkpoint to resume from, or None; the first worker keeps other runs out of the folder from here on."""
    if workers.rank == 0:
        run.claim()
        if run.holds_run() and not args.resume and not args.overwrite:
            raise ValueError(
                f'{args.save_dir} holds a run; give --resume to go on with it, --overwrite to replace it, '
                'or another --save-dir.'
            )
    if args.resume != 'auto':
        return args.resume
    found = checkpoints(args.save_dir)
    if not found and workers.rank == 0 and run.holds_run():
        raise ValueError(
            f'{args.save_dir} holds a run without a checkpoint to resume from; give --overwrite in '
            'place of --resume, or another --save-dir.'
        )
    return found[0] if found else None


def _schedule(args, batches, workers):
    """The learning rates that the flags ask for, where an epoch has so many batches."""
    updates, scale = batches // args.accumulate, workers.size if args.scale_lr else 1
    if not updates:
        raise ValueError(
            f'--accumulate must be at most {batches}, the batches of an epoch, got {args.accumulate}; '
            'accumulate fewer, or take smaller batches.'
        )
    warmup = min(args.warmup_epochs, args.num_epochs - 1)
    if warmup * updates < 2:
        warmup = 0
    if warmup < args.warmup_epochs and workers.rank == 0:
        print(
            f'--warmup-epochs is {warmup} instead of {args.warmup_epochs}, as --num-epochs is {args.num_epochs} and '
            f'an epoch has {updates} updates.',
            file=sys.stderr,
        )
    decays = args.lr_decay_epoch
    if args.lr_decay_period:
        decays = range(args.lr_decay_period, args.num_epochs, args.lr_decay_period)
    return learning_rate(
        args.lr_mode, args.lr * scale, args.num_epochs, updates, warmup, args.warmup_lr * scale, decays, args.lr_decay
    )


def run_script(name, main):
    """Run a script's `main(argv)`; errors that a user can mend are one sentence on standard error.

    The exit status is 2 where the arguments or files are wrong, as of `gluon-aff`; 1 where the run fails, because its
    loss is no longer finite or the memory does not suffice; 128 + its number after a signal.

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
        command = launched(['python', sys.argv[0], *resuming(sys.argv[1:])])
        print(f'{name}: {printable(stopped)}\nTo go on: {printable(command)}', file=sys.stderr)
        status = 128 + stopped.number
    except KeyboardInterrupt:
        print(f'{name}: Stopped at once; what was saved is whole.', file=sys.stderr)
        status = 128 + signal.SIGINT
    except (ValueError, OSError, ImportError) as error:
        print(f'{name}: {printable(in_words(error))}', file=sys.stderr)
        status = 2
    except FloatingPointError as error:
        print(f'{name}: {printable(error)}', file=sys.stderr)
        status = 1
    except (MemoryError, mx.MXNetError) as error:
        if not isinstance(error, MemoryError) and not re.search('out of memory|to allocate', str(error)):
            raise
        print(f'{name}: There is not enough memory; give a smaller --batch-size or network.', file=sys.stderr)
        status = 1
    sys.stderr.flush()
    sys.stdout.flush()
    if status and {'DMLC_ROLE', 'HOROVOD_RANK'} & set(os.environ):
        os._exit(status)  # MXNet would wait at the end for the other workers, who may be waiting for this one
    sys.exit(status)
