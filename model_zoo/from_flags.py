"""What the training scripts need of the zoo: the network that their flags ask for, and a teacher."""

from __future__ import annotations

import re
import sys
from typing import Any, Sequence

import mxnet as mx
from mxnet.gluon import HybridBlock

from gluon_aff._mxnet import structural_parameters
from gluon_aff.train import ClassificationConfig, TrainConfig, freeze_stages, initialize, tune_backbone

from .registry import ModelCard, get_model, model_info

__all__ = ['build_network', 'check_task', 'open_teacher', 'start_network']

# Of a network, by the flags' names.
OPTIONS = {
    'width': 'width',
    'fusion': 'fusion',
    'reduction': 'reduction',
    'start_layer': 'start_stage',
    'last_gamma': 'last_gamma',
    'drop_rate': 'final_drop',
}
TASKS = {
    'classification': ('classifies whole images', 'such as aff_resnet50 or cifar_aff_resnet8'),
    'segmentation': ('segments images', 'fpn_* or unet_*'),
}


def check_task(name: str, task: str, flag: str = '--model') -> ModelCard:
    """The card of a network, which must be of the task that a script trains.

    Parameters
    ----------
    name : str
    task : {'classification', 'segmentation'}
    flag : str, default '--model'
        That named it, for the error.

    Raises
    ------
    ValueError
        If there is no such network, or its task is another.
    """
    card = model_info(name)
    if card.spec.task != task:
        raise ValueError(
            f'{flag} {name} {TASKS[card.spec.task][0]}; give a {task} network, {TASKS[task][1]}, '
            'of python -m model_zoo list.'
        )
    return card


def build_network(config: TrainConfig, classes: int, **options: Any) -> tuple[HybridBlock, dict]:
    """The network that a script's flags ask for, and its options.

    Parameters
    ----------
    config : TrainConfig
        With the fields `model` and `fusion`, and some of `OPTIONS`.
    classes : int
    **options
        Of :func:`model_zoo.get_model`, such as pretrained.

    Raises
    ------
    ValueError, FileNotFoundError, DownloadError
        As :func:`model_zoo.get_model` does, or for a flag that has no effect on the network's fusion.
    """
    asked = {option: getattr(config, name, None) for name, option in OPTIONS.items()}
    asked = {'classes': classes, **{name: value for name, value in asked.items() if value not in (None, False, 0)}}
    if asked.get('width', 0.5) % 1 == 0:
        asked['width'] = int(asked['width'])
    fusion = config.fusion or model_info(config.model).fusion
    if 'start_stage' in asked and fusion == 'add':
        raise ValueError(
            f'{config.typed.get("start_layer", "--start-layer")} is of no use with fusion by addition; leave it out, '
            'or name another --fusion or --model.'
        )
    net = get_model(config.model, **options, **asked)
    if 'reduction' in asked and _shapes(net) == _shapes(
        get_model(config.model, **{**asked, 'reduction': 1 if config.reduction > 1 else 2})
    ):
        raise ValueError(
            f'{config.typed.get("reduction", "--reduction")} is of no use with the fusion {fusion}; leave it out, or '
            'name another --fusion or --model.'
        )
    return net, asked


def _shapes(net):
    return [parameter.shape for parameter in structural_parameters(net).values()]


def start_network(
    config: ClassificationConfig, class_names: Sequence[str], *, ctx: Sequence[mx.Context]
) -> tuple[HybridBlock, dict]:
    """The classifier of `class_names` that a script's `config` asks for, ready to be trained on `ctx`, and its options.

    Raises
    ------
    ValueError, FileNotFoundError, DownloadError
        As :func:`build_network` does, or if --num-layer names another depth than the model, or --freeze a stage that it
        lacks.
    """
    depth = re.search(r'res(?:net|next)(\d+)', config.model)
    if config.num_layer and (not depth or int(depth[1]) != config.num_layer):
        raise ValueError(
            f'--num-layer {config.num_layer} is not the depth of --model {config.model}; '
            'leave --num-layer out, or name another model.'
        )
    net, options = build_network(config, len(class_names), pretrained=config.pretrained, ctx=ctx)
    if not config.pretrained:
        initialize(net, config.init, ctx, seed=config.seed if config.init_by_name else None)
    elif net.class_names != class_names:
        net.reset_classifier(len(class_names))
    if config.backbone_lr != 1:
        tune_backbone(net, getattr(net, net.head_name), config.backbone_lr)
    if config.freeze is not None:
        print(freeze_stages(net, config.freeze), file=sys.stderr)
    return net, options


def open_teacher(config: ClassificationConfig, classes: int, *, ctx: Sequence[mx.Context]) -> HybridBlock | None:
    """The --teacher of a `config`, a network of `classes` outputs, on `ctx`; None without one.

    Raises
    ------
    ValueError
        If it has other classes than the data, or does not classify.
    FileNotFoundError, DownloadError
        As :func:`model_zoo.get_model` does.
    """
    if not config.teacher:
        return None
    check_task(config.teacher, 'classification', '--teacher')
    teacher = get_model(config.teacher, pretrained=config.teacher_weights or True, ctx=ctx)
    if teacher.classes != classes:
        raise ValueError(
            f'--teacher {config.teacher} has {teacher.classes} classes and the data {classes}; '
            'give --teacher-weights of one that was trained on the same.'
        )
    teacher.hybridize(static_alloc=True, static_shape=True)
    return teacher
