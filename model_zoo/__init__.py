"""Networks by name, around Attentional Feature Fusion: ``get_model('iaff_resnet50')``."""

import gluon_aff  # noqa: F401  (refuses an environment that MXNet cannot run in)

from .hosts import attention_resnet, cifar_resnet, cifar_resnext, inception, resnet, resnext, unet  # noqa: F401
from .hosts.fpn import FeaturePyramid
from .hosts.network import Network
from .plugins.gluoncv import feature_layers, register_with_gluoncv, segmentation_model, unregister_from_gluoncv
from .registry import (
    CIFAR100,
    FASHION_MNIST,
    IMAGENET,
    STOP_SIGN,
    Dataset,
    ModelCard,
    get_model,
    get_model_list,
    list_models,
    model_info,
    pretrained_model_list,
    purge,
    register_model,
)
from .reported_results import Published
from .weights.catalog import Checkpoint, checkpoints, get_model_file, load_parameters

__all__ = [
    'CIFAR100',
    'Checkpoint',
    'Dataset',
    'FASHION_MNIST',
    'FeaturePyramid',
    'IMAGENET',
    'ModelCard',
    'Network',
    'Published',
    'STOP_SIGN',
    'checkpoints',
    'feature_layers',
    'get_model',
    'get_model_file',
    'get_model_list',
    'list_models',
    'load_parameters',
    'model_info',
    'pretrained_model_list',
    'purge',
    'register_model',
    'register_with_gluoncv',
    'segmentation_model',
    'unregister_from_gluoncv',
]
