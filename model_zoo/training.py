"""What the training scripts need of the zoo: the network that their flags ask for, and a teacher."""
from __future__ import annotations

import re

from gluon_aff.train import initialize, tune_backbone

from .registry import get_model, model_info

__all__ = ['check_task', 'open_teacher', 'start_network']

FAMILIES = {'classification': 'such as aff_resnet50 or cifar_aff_resnet8', 'segmentation': 'fpn_* or unet_*'}


def check_task(name, task, flag='--model'):
    """The card of a network, which must be of the task that a script trains.

    Parameters
    ----------
    name : str
    task : {'classification', 'segmentation'}
    flag : str, default '--model'
        That named it, for the error.

    Returns
    -------
    ModelCard

    Raises
    ------
    ValueError
        If there is no such network, or it does something else.
    """
    card = model_info(name)
    if card.task != task:
        does = {'classification': 'classifies whole images', 'segmentation': 'segments images'}
        raise ValueError(f'{flag} {name} {does[card.task]}; give a {task} network, {FAMILIES[task]}, of python -m '
                         'model_zoo list.')
    return card


def start_network(args, labels, ctx, **options):
    """The network that :func:`gluon_aff.train.add_classification_flags` asks for, ready to be trained.

    Parameters
    ----------
    args : argparse.Namespace
    labels : sequence of str
        Name of each class.
    ctx : list of mxnet.Context
    **options
        More of the network's; those that are None are left to it.

    Returns
    -------
    HybridBlock, dict
        And its options.

    Raises
    ------
    ValueError, FileNotFoundError, DownloadError
        As :func:`model_zoo.get_model` does, or if --num-layer names another depth than the model.
    """
    depth = re.search(r'res(?:net|next)(\d+)', args.model)
    if args.num_layer and (not depth or int(depth[1]) != args.num_layer):
        raise ValueError(f'--num-layer {args.num_layer} is not the depth of --model {args.model}; '
                         'leave --num-layer out, or name another model.')
    options = {'fusion': args.fusion, 'reduction': args.reduction, 'start_stage': args.start_layer,
               'last_gamma': args.last_gamma or None, **options}
    options = {'classes': len(labels), **{name: value for name, value in options.items() if value is not None}}
    net = get_model(args.model, pretrained=args.pretrained, ctx=ctx, **options)
    if not args.pretrained:
        initialize(net, args.init, ctx)
    elif net.labels != labels:
        net.reset_classifier(len(labels))
    if args.backbone_lr != 1:
        tune_backbone(net, getattr(net, net.head_name), args.backbone_lr)
    return net, options


def open_teacher(args, labels, ctx):
    """The network that --teacher names, or None.

    Parameters
    ----------
    args : argparse.Namespace
    labels : sequence of str
        Name of each class.
    ctx : list of mxnet.Context

    Returns
    -------
    HybridBlock or None

    Raises
    ------
    ValueError
        If it has other classes than the data, or does not classify, or its weights are given alone.
    FileNotFoundError, DownloadError
        As :func:`model_zoo.get_model` does.
    """
    if not args.teacher:
        if args.teacher_weights is not True:
            raise ValueError('--teacher-weights needs --teacher, the network that they are of.')
        return None
    check_task(args.teacher, 'classification', '--teacher')
    teacher = get_model(args.teacher, pretrained=args.teacher_weights, ctx=ctx)
    if teacher.classes != len(labels):
        raise ValueError(f'--teacher {args.teacher} has {teacher.classes} classes and the data {len(labels)}; '
                         'give --teacher-weights of one that was trained on the same.')
    teacher.hybridize(static_alloc=True, static_shape=True)
    return teacher
