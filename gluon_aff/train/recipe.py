"""What the training scripts share: from a config to the devices, the network's parameters, the loss and the run."""

from __future__ import annotations

import os
import shlex
import sys
from typing import Any, Callable, Sequence
from zlib import crc32

import mxnet as mx
import numpy as np
from gluoncv.utils.block import freeze_bn
from mxnet.gluon import HybridBlock

from .._deprecated import deprecated_names
from .._mxnet import structural_parameters
from ..data.autoaugment import AutoAugment
from ..data.rand_augment import RandAugment
from ..program import command_line
from ..spec import ModelSpec
from ..text import printable
from .config import ClassificationConfig, TrainConfig
from .loop import fit
from .mixed_precision import check_bfloat16
from .run import RunFolder
from .soft_labels import balanced_weights
from .task import Classification
from .workers import Workers, get_workers

__all__ = [
    'augmentation',
    'batch_size',
    'classification_task',
    'freeze_stages',
    'initialize',
    'open_run',
    'start',
    'train_network',
    'tune_backbone',
]


def start(config: TrainConfig) -> tuple[Workers, list[mx.Context]]:
    """The workers and this one's devices that a config asks for; MXNet's random generators are seeded.

    Raises
    ------
    ValueError
        If a GPU is asked for and missing, float16 on a CPU, or bfloat16 on a GPU or a CPU without it.
    """
    workers = get_workers(config.kvstore)
    gpus = mx.context.num_gpus()
    if config.num_gpus > gpus:
        raise ValueError(
            f'--num-gpus {config.num_gpus}, but MXNet finds {gpus}; use fewer, or install the extra of your CUDA '
            'version (README, Install).'
        )
    if config.dtype == 'float16' and not config.num_gpus:
        raise ValueError('--dtype float16 needs --num-gpus: MXNet has no float16 convolution on a CPU.')
    if config.dtype == 'bfloat16':
        check_bfloat16([mx.gpu()] if config.num_gpus else [mx.cpu()])
    mx.random.seed(config.seed)
    if config.num_gpus and workers.local_rank is not None:
        return workers, [mx.gpu(workers.local_rank)]
    return workers, [mx.gpu(i) for i in range(config.num_gpus)] or [mx.cpu()]


def batch_size(config: TrainConfig, images: int, *, devices: int, workers: Workers) -> int:
    """The images of one worker's training batch.

    If --batch-size was not given and exceeds the number of images, an epoch has two batches, and a line says so.

    Parameters
    ----------
    config : TrainConfig
    images : int
        To train on, of all workers.
    devices : int
        Of each worker.
    workers : Workers

    Raises
    ------
    ValueError
        If there are fewer images for each device than --batch-size, or fewer than two.
    """
    size, total = config.batch_size, devices * workers.size
    most = images // total
    if most < 2:
        raise ValueError(
            f'The number of training images must be {2 * total} or more, two for each device, got {images}; add images.'
        )
    if size > most:
        if 'batch_size' in config.typed:
            share = f' for each of {total} devices' if total > 1 else ''
            raise ValueError(
                f'--batch-size must be 2 to {most}{share}, as there are {images} training images, got {size}.'
            )
        size = max(2, most // 2)
        print(
            f'There are {images} training images, so --batch-size is {size} instead of {config.batch_size}.',
            file=sys.stderr,
        )
    return size * devices


def augmentation(config: ClassificationConfig, policy: str) -> dict[str, Any]:
    """The arguments of a training loader that a config asks for, with AutoAugment's `policy` for the data."""
    augment: Callable | None = AutoAugment(policy) if config.auto_aug else None
    if config.rand_augment is not None:
        augment = RandAugment(strength=config.rand_augment)
    return {'augment': augment, 'erasing': config.random_erasing, 'balanced': config.balanced_sampler}


def classification_task(
    config: ClassificationConfig, classes: int, labels: np.ndarray, *, teacher: HybridBlock | None = None
) -> Classification:
    """The task of a `config` for a number of `classes`, with a `teacher` to distil or without.

    The `labels` of the training images, (N,) int, are for --class-weights.

    Raises
    ------
    ValueError
        If mixup or CutMix would be off in all epochs.
    """
    mixup_epochs = config.num_epochs - config.mixup_off_epoch
    mixing = [flag for flag, value in (('--mixup', config.mixup), ('--cutmix', config.cutmix)) if value]
    if mixing and mixup_epochs < 1:
        raise ValueError(
            f'--mixup-off-epoch must be below --num-epochs {config.num_epochs}, got {config.mixup_off_epoch}; '
            f'or leave {" and ".join(mixing)} out.'
        )
    return Classification(
        classes,
        0.1 * config.label_smoothing,
        mixup_alpha=config.mixup_alpha * config.mixup,
        cutmix_alpha=config.cutmix,
        class_weights=balanced_weights(labels, classes) if config.class_weights else None,
        mixup_epochs=mixup_epochs,
        teacher=teacher,
        temperature=config.temperature,
        hard_weight=config.hard_weight,
    )


def initialize(net: HybridBlock, kind: str, ctx: Sequence[mx.Context], *, seed: int | None = None) -> None:
    """Initialise the parameters of a network.

    Parameters
    ----------
    net : HybridBlock
    kind : {'xavier', 'kaiming'}
        Of the weights; 'kaiming' is He et al., ICCV 2015, with the fan-in and the gain for ReLU.
    ctx : list of mxnet.Context
    seed : int, optional
        Draw each weight from the seed and its name instead of from MXNet's generator: networks that differ in some
        layers have the others alike, and a wider network's filters extend those of a narrower one, up to their scale.
    """
    net.initialize({'xavier': mx.init.Xavier(), 'kaiming': mx.init.MSRAPrelu('in', 0)}[kind], ctx=ctx)
    if seed is not None:
        for name, parameter in structural_parameters(net).items():
            if parameter.init is None and name.endswith('weight'):
                parameter.set_data(mx.nd.array(_draw(kind, parameter.shape, [seed, crc32(name.encode())])))


def _draw(kind, shape, key):
    """A weight of `shape`; a generator for each filter, so that it does not depend on their number."""
    fan_in = np.prod(shape[1:])
    randoms = (np.random.RandomState([*key, number]) for number in range(shape[0]))
    if kind == 'kaiming':
        return np.sqrt(2 / fan_in) * np.stack([random.standard_normal(shape[1:]) for random in randoms])
    fan_out = fan_in * shape[0] / shape[1]
    return np.sqrt(6 / (fan_in + fan_out)) * np.stack([random.uniform(-1, 1, shape[1:]) for random in randoms])


def tune_backbone(net: HybridBlock, head: HybridBlock, lr_mult: float) -> None:
    """Train all but the head at a share of the learning rate; at 0 the backbone stays as it is, statistics included.

    Parameters
    ----------
    net : HybridBlock
    head : HybridBlock
        The part of it that learns at the full rate.
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


def freeze_stages(net: HybridBlock, last: int) -> str:
    """Leave the stem and the stages up to `last` as they are, running statistics included, and say what that is.

    Parameters
    ----------
    net : HybridBlock
        With `stages()`, as the networks of the zoo have it.
    last : int
        0 freezes the stem alone.

    Raises
    ------
    ValueError
        If the network has no such stage.
    """
    stages = net.stages()
    if last >= len(stages):
        raise ValueError(
            f'--freeze must be 0 to {len(stages) - 1}, as the network has a stem (0) and {len(stages) - 1} stages, '
            f'got {last}.'
        )
    frozen = {}
    for layer in (layer for stage in stages[: last + 1] for layer in stage):
        freeze_bn(layer)
        frozen.update(layer.collect_params())
    for parameter in frozen.values():
        parameter.grad_req = 'null'
    count, total = (
        sum(int(np.prod(p.shape)) for p in parameters.values()) for parameters in (frozen, net.collect_params())
    )
    stages_text = {0: '', 1: ' and stage 1'}.get(last, f' and stages 1 to {last}')
    return f'Frozen: the stem{stages_text} of {len(stages) - 1}, {count:,} of {total:,} parameters.'


def open_run(config: TrainConfig, spec: ModelSpec, *, skipped: Sequence[str] = (), **description: Any) -> RunFolder:
    """The folder --save-dir of a run that trains what a spec describes.

    Parameters
    ----------
    config : TrainConfig
    spec : ModelSpec
    skipped : sequence of str
        Sentences on what was left out of the data.
    **description
        What model.json holds besides: the network's options, the data set, ...
    """
    description = {**spec.to_json(), 'model': spec.name, **description, 'command': config.command}
    return RunFolder(config.save_dir, description, keep=config.keep, tensorboard=config.tensorboard, skipped=skipped)


def train_network(
    net: HybridBlock,
    train: Any,
    test: Any,
    config: TrainConfig,
    run: RunFolder,
    *,
    print_predict: bool = True,
    **options: Any,
) -> dict:
    """Train a script's network as :func:`fit` does; then print where it is and how to run the script again.

    Parameters
    ----------
    net, train, test, config, run, **options
        See :func:`fit`; with --mode hybrid the network is hybridized.
    print_predict : bool, default True
        Print the command that predicts with the run's network, too.

    Returns
    -------
    dict
        The record of the best epoch.
    """
    if config.mode == 'hybrid':
        net.hybridize(static_alloc=True, static_shape=True)
    run.summary = _summary(net, train, test, config, run, options['ctx'], options['workers'])
    best = fit(net, train, test, config, run, **options)
    if options['workers'].rank == 0:
        metric = options['task'].main_metric
        predict = f'To predict: {_predict_command(run, test)}\n' if print_predict else ''
        print(
            f'Best {metric} {best[metric]:.4f}, in epoch {best["epoch"]} of {config.num_epochs}; '
            f'{printable(run.path)} holds its parameters (best.params, model.json), the log and the curves.\n'
            f'{predict}To run it again in its place: {printable(config.command)} --overwrite'
        )
    return best


def _summary(net, train, test, config, run, ctx, workers):
    """Five lines: the network, its weights, the data, the devices, the folder."""
    description, pretrained = run.description, getattr(config, 'pretrained', False)
    options = ', '.join(f'{name} {value}' for name, value in description['options'].items())
    learned = [parameter.shape for parameter in net.collect_params().values() if parameter.grad_req != 'null']
    released = 'the released ones' if pretrained is True else pretrained
    weights = released or f'random ({config.init})'
    devices = f'{", ".join(map(str, ctx))} in {config.dtype}'
    return [
        f'Network: {description["model"]}, {sum(map(np.prod, learned)):,} parameters to train; {options}',
        f'Weights: {"of the checkpoint to resume from" if config.resume else weights}',
        f'Data: {description["dataset"]}, {train.total:,} images to train on in batches of {train.batch_size}, '
        f'{test.total:,} held out',
        f'Device: {devices}{f", {workers.size} workers" if workers.size > 1 else ""}',
        f'Folder: {os.path.abspath(run.path)}',
    ]


def _predict_command(run, test):
    """The command that predicts a held-out image, where these are files, with the run's network."""
    paths = getattr(getattr(test, 'source', None), 'paths', None)
    overlays = ['-o', run.file('predicted')] if run.description['task'] == 'segmentation' else []
    words = ['predict', run.path, *paths[:1], *overlays] if paths else ['predict', run.path]
    return printable(shlex.join(command_line(words)) + ('' if paths else ' IMAGE'))


__getattr__ = deprecated_names(__name__)
