"""What the training scripts need of the zoo: the network that their flags ask for, and a teacher."""

from __future__ import annotations

import re

from gluon_aff.train import initialize, tune_backbone

from .registry import get_model, model_info

__all__ = ['build_network', 'check_task', 'open_teacher', 'start_network']

OPTIONS = {
    'width': 'width',
    'fusion': 'fusion',
    'reduction': 'reduction',
    'start_layer': 'start_stage',
    'last_gamma': 'last_gamma',
    'drop_rate': 'final_drop',
}  # of a network, by the flags' names

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
    if card.spec.task != task:
        does = {'classification': 'classifies whole images', 'segmentation': 'segments images'}
        raise ValueError(
            f'{flag} {name} {does[card.spec.task]}; give a {task} network, {FAMILIES[task]}, '
            'of python -m model_zoo list.'
        )
    return card


def build_network(args, classes, **options):
    """The network that a script's flags ask for.

    Parameters
    ----------
    args : argparse.Namespace
    classes : int
    **options
        Of :func:`model_zoo.get_model`, such as pretrained.

    Returns
    -------
    HybridBlock, dict
        And its own options.

    Raises
    ------
    ValueError, FileNotFoundError, DownloadError
        As :func:`model_zoo.get_model` does, or for a flag that the network's fusion has no use for.
    """
    asked = {option: getattr(args, flag, None) for flag, option in OPTIONS.items()}
    asked = {'classes': classes, **{name: value for name, value in asked.items() if value not in (None, False, 0)}}
    fusion = args.fusion or model_info(args.model).fusion
    if 'start_stage' in asked and fusion == 'add':
        raise ValueError(
            f'{args.given["start_layer"]} is of no use with fusion by addition; leave it out, or name '
            'another --fusion or --model.'
        )
    net = get_model(args.model, **options, **asked)
    if 'reduction' in asked and _shapes(net) == _shapes(
        get_model(args.model, **{**asked, 'reduction': 1 if args.reduction > 1 else 2})
    ):
        raise ValueError(
            f'{args.given["reduction"]} is of no use with the fusion {fusion}; leave it out, or name '
            'another --fusion or --model.'
        )
    return net, asked


def _shapes(net):
    return [parameter.shape for parameter in net._collect_params_with_prefix().values()]


def start_network(args, class_names, ctx):
    """The network that :func:`gluon_aff.train.add_classification_flags` asks for, ready to be trained.

    Parameters
    ----------
    args : argparse.Namespace
    class_names : sequence of str
        Name of each class.
    ctx : list of mxnet.Context

    Returns
    -------
    HybridBlock, dict
        And its options.

    Raises
    ------
    ValueError, FileNotFoundError, DownloadError
        As :func:`build_network` does, or if --num-layer names another depth than the model.
    """
    depth = re.search(r'res(?:net|next)(\d+)', args.model)
    if args.num_layer and (not depth or int(depth[1]) != args.num_layer):
        raise ValueError(
            f'--num-layer {args.num_layer} is not the depth of --model {args.model}; '
            'leave --num-layer out, or name another model.'
        )
    net, options = build_network(args, len(class_names), pretrained=args.pretrained, ctx=ctx)
    if not args.pretrained:
        initialize(net, args.init, ctx)
    elif net.class_names != class_names:
        net.reset_classifier(len(class_names))
    if args.backbone_lr != 1:
        tune_backbone(net, getattr(net, net.head_name), args.backbone_lr)
    return net, options


def open_teacher(args, class_names, ctx):
    """The network that --teacher names, or None.

    Parameters
    ----------
    args : argparse.Namespace
    class_names : sequence of str
        Name of each class.
    ctx : list of mxnet.Context

    Returns
    -------
    HybridBlock or None

    Raises
    ------
    ValueError
        If it has other classes than the data, or does not classify.
    FileNotFoundError, DownloadError
        As :func:`model_zoo.get_model` does.
    """
    if not args.teacher:
        return None
    check_task(args.teacher, 'classification', '--teacher')
    teacher = get_model(args.teacher, pretrained=args.teacher_weights or True, ctx=ctx)
    if teacher.classes != len(class_names):
        raise ValueError(
            f'--teacher {args.teacher} has {teacher.classes} classes and the data {len(class_names)}; '
            'give --teacher-weights of one that was trained on the same.'
        )
    teacher.hybridize(static_alloc=True, static_shape=True)
    return teacher
