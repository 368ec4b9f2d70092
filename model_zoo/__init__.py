"""Networks by name, around Attentional Feature Fusion: ``get_model('iaff_resnet50')``."""

import sys

if sys.argv[:1] == ['-m'] and 'model_zoo' in getattr(sys, 'orig_argv', ()):  # python -m model_zoo
    from gluon_aff_start import end_on_interrupt

    end_on_interrupt()

import gluon_aff  # noqa: F401  (refuses an environment that MXNet cannot run in)
from gluon_aff._deprecated import deprecated_names

from .datasets import CIFAR100, FASHION_MNIST, IMAGENET, STOP_SIGN
from .evaluate_by_name import evaluate
from .hosts.features import Embedder, FeatureMaps
from .hosts.fpn import FeaturePyramid
from .hosts.network import Network
from .loading import LoadedModel, load_model, predict
from .plugins.gluoncv import feature_layers, register_with_gluoncv, segmentation_model, unregister_from_gluoncv
from .registry import (
    ModelCard,
    get_model,
    get_model_list,
    list_models,
    model_info,
    pretrained_model_list,
    purge,
    register_model,
)
from .reported_results import Reported
from .transforms import Transform, get_transform
from .weights import ReleasedWeights, get_model_file, list_weights, load_parameters, save_parameters

__all__ = [
    'CIFAR100',
    'FASHION_MNIST',
    'Embedder',
    'FeatureMaps',
    'FeaturePyramid',
    'IMAGENET',
    'LoadedModel',
    'ModelCard',
    'Network',
    'ReleasedWeights',
    'Reported',
    'STOP_SIGN',
    'Transform',
    'evaluate',
    'feature_layers',
    'get_model',
    'get_model_file',
    'get_model_list',
    'get_transform',
    'list_models',
    'list_weights',
    'load_model',
    'load_parameters',
    'model_info',
    'predict',
    'pretrained_model_list',
    'purge',
    'register_model',
    'register_with_gluoncv',
    'save_parameters',
    'segmentation_model',
    'unregister_from_gluoncv',
]

__getattr__ = deprecated_names(__name__)
