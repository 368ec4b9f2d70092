"""Our networks as PyTorch modules, by name."""

from __future__ import annotations

from typing import Any

from torch import nn

from gluon_aff.errors import unknown

from ...hosts import cifar_resnet, cifar_resnext, fpn, inception, unet
from ...networks import TABLE
from ...weights import catalog
from .cifar_modules import CifarResNet, CifarResNeXt, InceptionResNet
from .segmentation_modules import FPN, UNet
from .timm_registry import TIMM_HOSTS, register_with_timm
from .torch_state import read_torch_state

__all__ = ['create_model']

MODULES: dict[type, type[nn.Module]] = {
    cifar_resnet.CifarResNet: CifarResNet,
    cifar_resnext.CifarResNeXt: CifarResNeXt,
    inception.InceptionResNet: InceptionResNet,
    fpn.FPN: FPN,
    unet.UNet: UNet,
}
# The network, the class of its host, its layers and options.
ROWS = {
    name: (group.builder, layers, options)
    for group in TABLE
    for name, layers, options, *_ in group.rows
    if group.builder in MODULES or group.builder in TIMM_HOSTS
}


def create_model(name: str, pretrained: bool | str = False, *, root: str | None = None, **options: Any) -> nn.Module:
    """Build the PyTorch module of one of our networks.

    Parameters
    ----------
    name : str
        Of a registered ResNet, ResNeXt, Inception-ResNet, FPN or U-Net.
    pretrained : bool or str, default False
        True loads the released parameters, a tag another of the network's files, a path your own file: Gluon's or a
        PyTorch state dict. If its head has another size than `classes`, the head stays fresh.
    root : str, default '~/.mxnet/models' (or $MXNET_HOME/models)
        Folder in which released parameters are kept.
    **options
        classes; for an ImageNet network, which ``timm.create_model`` builds, timm's; else those of the module: width,
        fusion, reduction, start_stage, in_channels, final_drop.

    Returns
    -------
    torch.nn.Module
        Input (N, 3, H, W); output (N, classes), for segmentation (N, classes, H, W). Feature maps with timm's
        features_only.

    Raises
    ------
    ValueError
        For a name without a module, or a parameter file that does not fit.
    FileNotFoundError
        If the parameter file does not exist.
    DownloadError
        If the download fails.
    ImportError
        If an ImageNet network is asked for and timm is not installed.
    """
    if name not in ROWS:
        raise unknown('PyTorch network', name, ROWS)
    builder, layers, row = ROWS[name]
    path = catalog.find(name, pretrained, root)[0] if pretrained else None
    state = read_torch_state(path) if path else {}
    try:
        return (_timm_model if builder in TIMM_HOSTS else _plain_module)(name, state, options)
    except RuntimeError as error:  # of load_state_dict, in many lines
        if not path:
            raise
        raise ValueError(
            f'{path} holds the parameters of another network: {" ".join(str(error).split())[:300]}.'
        ) from None


def _timm_model(name, state, options):
    register_with_timm()
    import timm

    options = {'num_classes' if option == 'classes' else option: value for option, value in options.items()}
    if not state:
        return timm.create_model(name, **options)
    overlay = {'state_dict': state, 'num_classes': len(state.get('fc.weight', ()))}
    return timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, **options)


def _plain_module(name, state, options):
    builder, layers, row = ROWS[name]
    module = MODULES[builder]
    outputs = len(state.get(f'{module.head_name}.weight', ()))
    if outputs:
        options = {'classes': outputs, **options}
    net = module(layers, **{**row, **options})
    if state:
        own = net.state_dict()
        other_head = outputs != options.get('classes', outputs)
        fresh = [key for key in own if other_head and key.startswith(f'{module.head_name}.')]
        net.load_state_dict({**state, **{key: own[key] for key in fresh}})
    return net
