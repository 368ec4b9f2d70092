"""Released weights: which there are, their download and their loading."""

from gluon_aff._deprecated import deprecated_names

from .catalog import ReleasedWeights, default_root, get_model_file, list_weights
from .parameters import load_parameters, save_parameters

__all__ = ['ReleasedWeights', 'default_root', 'get_model_file', 'list_weights', 'load_parameters', 'save_parameters']

__getattr__ = deprecated_names(__name__)
