"""Names of version 0.1 that have changed: each still works, with a DeprecationWarning, until version 0.3."""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from importlib.machinery import ModuleSpec

__all__ = ['MODULES', 'NAMES', 'deprecated_names', 'install', 'renamed']

# Old modules, and where their content is now.
MODULES = {
    'gluon_aff.aligned': 'gluon_aff.layers.aligned',
    'gluon_aff.attention': 'gluon_aff.layers.context',
    'gluon_aff.comparators': 'gluon_aff.layers.comparators',
    'gluon_aff.comparators.aaconv': 'gluon_aff.layers.comparators.aaconv',
    'gluon_aff.comparators.lip': 'gluon_aff.layers.comparators.lip',
    'gluon_aff.comparators.recalibration': 'gluon_aff.layers.comparators.recalibration',
    'gluon_aff.comparators.skconv': 'gluon_aff.layers.comparators.skconv',
    'gluon_aff.compiled': 'gluon_aff.layers.kernels',
    'gluon_aff.data.cifar_files': 'gluon_aff.data.cifar_archive',
    'gluon_aff.data.folders': 'gluon_aff.data.class_folders',
    'gluon_aff.data.labels': 'gluon_aff.data.class_names',
    'gluon_aff.data.packing': 'gluon_aff.data.record_writer',
    'gluon_aff.data.segmentation': 'gluon_aff.data.masks',
    'gluon_aff.deploy.folder': 'gluon_aff.deploy.export_folder',
    'gluon_aff.deploy.onnx_file': 'gluon_aff.deploy.onnx_writer',
    'gluon_aff.deploy.symbol': 'gluon_aff.deploy.symbol_writer',
    'gluon_aff.fusion': 'gluon_aff.layers.fusion',
    'gluon_aff.gradcam': 'gluon_aff.inspect.grad_cam',
    'gluon_aff.multi_input': 'gluon_aff.layers.multi_input',
    'gluon_aff.train.targets': 'gluon_aff.train.soft_labels',
    'model_zoo.cifar_resnet': 'model_zoo.hosts.cifar_resnet',
    'model_zoo.cifar_resnext': 'model_zoo.hosts.cifar_resnext',
    'model_zoo.comparators': 'model_zoo.hosts.attention_resnet',
    'model_zoo.compare': 'model_zoo.pictures.comparison',
    'model_zoo.figure': 'model_zoo.pictures.figure',
    'model_zoo.fpn': 'model_zoo.hosts.fpn',
    'model_zoo.gradcam': 'model_zoo.pictures.heatmaps',
    'model_zoo.inception': 'model_zoo.hosts.inception',
    'model_zoo.interop': 'model_zoo.plugins.gluoncv',
    'model_zoo.network': 'model_zoo.hosts.network',
    'model_zoo.published': 'model_zoo.reported_results',
    'model_zoo.report': 'model_zoo.pictures.page',
    'model_zoo.resnet': 'model_zoo.hosts.resnet',
    'model_zoo.resnext': 'model_zoo.hosts.resnext',
    'model_zoo.segmentation': 'model_zoo.hosts.segmentation_network',
    'model_zoo.trained': 'model_zoo.loading',
    'model_zoo.unet': 'model_zoo.hosts.unet',
}

# For each module as it is called now: old names, and what they are called now.
NAMES: dict = {}


def deprecated_names(module):
    """A module's ``__getattr__`` that answers for its old names.

    Parameters
    ----------
    module : str
    """

    def __getattr__(name):
        new = NAMES.get(module, {}).get(name)
        if new is None:
            raise AttributeError(f'module {module!r} has no attribute {name!r}')
        warnings.warn(f'{module}.{name} is now called {new}.', DeprecationWarning, stacklevel=2)
        return getattr(import_module(module), new)

    return __getattr__


def renamed(new):
    """A property of the old name of the attribute `new`, to read and to set."""

    class Renamed:
        def __set_name__(self, owner, name):
            self.text = f'{owner.__name__}.{name} is now called {new}.'

        def __get__(self, instance, owner):
            if instance is None:
                return self
            warnings.warn(self.text, DeprecationWarning, stacklevel=2)
            return getattr(instance, new)

        def __set__(self, instance, value):
            warnings.warn(self.text, DeprecationWarning, stacklevel=2)
            setattr(instance, new, value)

    return Renamed()


class _Finder:
    """Finds the old modules."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        return ModuleSpec(name, _Finder, is_package=True) if name in MODULES else None

    @staticmethod
    def create_module(spec):
        return None

    @staticmethod
    def exec_module(module):
        new = MODULES[module.__name__]
        warnings.warn(f'{module.__name__} is now {new}.', DeprecationWarning, stacklevel=2)
        current = import_module(new)

        def __getattr__(name):
            return getattr(current, NAMES.get(new, {}).get(name, name))

        module.__getattr__, module.__all__, module.__doc__ = __getattr__, current.__all__, current.__doc__


def install():
    """Let the old modules be imported."""
    if _Finder not in sys.meta_path:
        # In front: a folder that holds but __pycache__ would be found as a namespace package.
        sys.meta_path.insert(0, _Finder)
