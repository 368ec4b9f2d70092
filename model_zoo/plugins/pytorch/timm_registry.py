"""Our ImageNet networks in timm, by name, with their released weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Callable

from ...hosts.resnet import ResNet, WideResNet
from ...hosts.resnext import ResNeXt
from ...networks import TABLE
from ...registry import model_info
from ...weights import list_weights
from .fusion_modules import FUSIONS
from .torch_state import read_torch_state

__all__ = ['register_with_timm']

# The classes of our networks that timm's ResNet builds, and where their defaults differ from ResNet's.
TIMM_HOSTS: dict[type, dict[str, Any]] = {
    ResNet: {},
    WideResNet: {'bottleneck_width': 128},
    ResNeXt: {'stem_width': 64, 'cardinality': 32, 'bottleneck_width': 4},
}
OWN_OPTIONS = ('fusion', 'reduction', 'start_stage')  # that timm's ResNet lacks
default_cfgs: dict[str, Any] = {}  # where timm looks for the configurations of what this module registers


def register_with_timm() -> list[str]:
    """Make our ResNets and ResNeXts for ImageNet known to timm under their names.

    Then ``timm.create_model('iaff_resnet50')`` builds timm's own ResNet with a fusion, `attention`, in each block, and
    takes timm's keywords, and `fusion`, `reduction` and `start_stage` as :class:`model_zoo.hosts.resnet.ResNet` does.
    ``pretrained=True`` and the tags of :func:`model_zoo.list_weights` load released weights, downloaded and verified as
    :func:`model_zoo.get_model` does. Names that timm has keep their meaning, and another call adds nothing.

    Returns
    -------
    list of str
        The names that it added.

    Raises
    ------
    ImportError
        If timm is not installed.
    """
    try:
        from timm.models import is_model, register_model, register_notrace_module
    except ImportError as error:
        raise ImportError(f"timm is missing ({error}); install it by pip install 'gluon_aff[timm]'.") from None
    for fusion in FUSIONS.values():  # which look at shapes, and so are leaves to torch.fx
        register_notrace_module(fusion)
    added = []
    for group in TABLE:
        for name, layers, options, *_ in group.rows:
            if group.builder in TIMM_HOSTS and not is_model(name):
                _describe(name, options.get('deep_stem', True))
                entry = _entry(name, (layers, {**TIMM_HOSTS[group.builder], **options}))
                globals()[name] = register_model(entry)  # where timm expects it
                added.append(name)
    return added


def _entry(name: str, row: tuple) -> Callable:
    """What timm calls to build the network of a row, its layers and options."""

    def entry(pretrained=False, pretrained_cfg=None, pretrained_cfg_overlay=None, **options):
        from timm.models import ResNet, build_model_with_cfg, resolve_pretrained_cfg

        from .timm_resnet import timm_arguments

        layers, ours = row
        ours = {**ours, **{key: options.pop(key) for key in OWN_OPTIONS if key in options}}
        cfg = resolve_pretrained_cfg(name, pretrained_cfg, pretrained_cfg_overlay)
        if pretrained and cfg.url and not (cfg.state_dict or cfg.file):
            for record in list_weights(name):
                if _address(record) == cfg.url:
                    state = read_torch_state(record.get(options.get('cache_dir')))
                    pretrained_cfg_overlay = {**(pretrained_cfg_overlay or {}), 'state_dict': state}
        model = build_model_with_cfg(
            ResNet,
            name,
            pretrained,
            pretrained_cfg=pretrained_cfg,
            pretrained_cfg_overlay=pretrained_cfg_overlay,
            **{**timm_arguments(layers, **ours), **options},
        )
        model.pretrained_cfg.pop('state_dict', None)  # the copy of the weights
        return model

    entry.__name__ = entry.__qualname__ = name
    entry.__doc__ = f'{name}: {model_info(name).source}.'
    return entry


def _describe(name, deep_stem):
    """Enter a network's configuration, one for each of its released weights, in default_cfgs."""
    from timm.models import generate_default_cfgs

    card, cfgs = model_info(name).spec, {}
    for record in list_weights(name) or (None,):
        spec = replace(card, **record.spec_changes()) if record else card
        cfg = {
            'num_classes': len(spec.class_names),
            'input_size': spec.input_size,
            'pool_size': tuple(-(-side // 32) for side in spec.input_size[1:]),
            'crop_pct': spec.crop_ratio,
            'interpolation': spec.interpolation,
            'mean': spec.mean,
            'std': spec.std,
            'first_conv': 'conv1.0' if deep_stem else 'conv1',
            'classifier': 'fc',
            'paper_ids': 'arXiv:2009.14082',
        }
        if record:
            cfg.update(url=_address(record), license=record.license, origin_url=record.source)
            if record.preprocessing:
                cfg['crop_pct'] = record.preprocessing['crop']
        cfgs[f'{name}.{record.tag}' if record else name] = cfg
    default_cfgs.update(generate_default_cfgs(cfgs))


def _address(record):
    return record.url or record.mirror
