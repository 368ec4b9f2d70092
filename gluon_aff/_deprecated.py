"""Names of version 0.1 that have changed: each still works, with a DeprecationWarning, until version 0.3."""

from __future__ import annotations

import functools
import sys
import warnings
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Callable, TypeVar

__all__ = ['MODULES', 'NAMES', 'deprecated_names', 'install', 'renamed', 'renamed_arguments']

T = TypeVar('T')

# Old modules, and where their content is now.
MODULES = {
    'gluon_aff.aligned': 'gluon_aff.layers.multi_input',
    'gluon_aff.attention': 'gluon_aff.layers.context',
    'gluon_aff.comparators': 'gluon_aff.layers.comparators',
    'gluon_aff.comparators.aaconv': 'gluon_aff.layers.comparators.aaconv',
    'gluon_aff.comparators.lip': 'gluon_aff.layers.comparators.lip',
    'gluon_aff.comparators.recalibration': 'gluon_aff.layers.comparators.recalibration',
    'gluon_aff.comparators.skconv': 'gluon_aff.layers.comparators.skconv',
    'gluon_aff.compiled': 'gluon_aff.layers.kernels',
    'gluon_aff.complexity': 'gluon_aff.inspect.complexity',
    'gluon_aff.data.cifar_files': 'gluon_aff.data.cifar_archive',
    'gluon_aff.data.folders': 'gluon_aff.data.class_folders',
    'gluon_aff.data.identity': 'gluon_aff.data.fingerprint',
    'gluon_aff.data.labels': 'gluon_aff.data.class_names',
    'gluon_aff.data.packing': 'gluon_aff.data.record_writer',
    'gluon_aff.data.plain_pickle': 'gluon_aff.data.cifar_pickle',
    'gluon_aff.data.records': 'gluon_aff.data.record_file',
    'gluon_aff.data.segmentation': 'gluon_aff.data.masks',
    'gluon_aff.deploy.engines': 'gluon_aff.deploy.portability',
    'gluon_aff.deploy.external_data': 'gluon_aff.deploy.onnx_files',
    'gluon_aff.deploy.folder': 'gluon_aff.deploy.export_folder',
    'gluon_aff.deploy.folding': 'gluon_aff.deploy.graph',
    'gluon_aff.deploy.onnx_file': 'gluon_aff.deploy.onnx_writer',
    'gluon_aff.deploy.symbol': 'gluon_aff.deploy.symbol_writer',
    'gluon_aff.download': 'gluon_aff.verified_download',
    'gluon_aff.fusion': 'gluon_aff.layers.fusion',
    'gluon_aff.gradcam': 'gluon_aff.inspect.grad_cam',
    'gluon_aff.multi_input': 'gluon_aff.layers.multi_input',
    'gluon_aff.norm': 'gluon_aff.layers.norm',
    'gluon_aff.received': 'gluon_aff.validation',
    'gluon_aff.train.archive': 'gluon_aff.train.npz_file',
    'gluon_aff.train.arguments': 'gluon_aff.train.resume',
    'gluon_aff.train.flags': 'gluon_aff.train.config',
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
    'model_zoo.report.charts': 'model_zoo.pictures.page.charts',
    'model_zoo.report.facts': 'model_zoo.pictures.page.facts',
    'model_zoo.report.sections': 'model_zoo.pictures.page',
    'model_zoo.resnet': 'model_zoo.hosts.resnet',
    'model_zoo.resnext': 'model_zoo.hosts.resnext',
    'model_zoo.segmentation': 'model_zoo.hosts.segmentation_network',
    'model_zoo.trained': 'model_zoo.loading',
    'model_zoo.training': 'model_zoo.from_flags',
    'model_zoo.unet': 'model_zoo.hosts.unet',
}

# For each module as it is called now: old names, and what they are called now (there, or as module:name elsewhere).
NAMES: dict[str, dict[str, str]] = {
    'gluon_aff.data.cifar': {
        'digits': 'gluon_aff.data.image_sets:digits',
        'fashion_mnist': 'gluon_aff.data.image_sets:fashion_mnist',
        'fewer': 'gluon_aff.data.image_sets:subset',
        'resize': 'gluon_aff.data.image_sets:resize',
    },
    'gluon_aff.data.cifar_pickle': {'load_plain': 'load_batch'},
    'gluon_aff.data.class_folders': {'usable_images': 'readable_images'},
    'gluon_aff.data.images': {
        'evaluation_array': 'gluon_aff.data.preprocessing:evaluation_array',
        'evaluation_crop': 'gluon_aff.data.preprocessing:evaluation_crop',
        'normalise': 'gluon_aff.data.preprocessing:normalise',
        'short_side': 'gluon_aff.data.preprocessing:short_side',
    },
    'gluon_aff.deploy.onnx_files': {'check_no_external_data': 'check_onnx'},
    'gluon_aff.deploy.onnx_writer': {'import_onnxruntime': 'gluon_aff.deploy.onnx_files:import_onnxruntime'},
    'gluon_aff.layers.kernels': {
        'Compilable': 'CompiledBlock',
        'WIDEST': 'MAX_HIDDEN_CHANNELS',
        'gate': 'modulate',
        'line': 'affine_form',
        'usable': 'supports',
    },
    'gluon_aff.train.recipe': {'run_script': 'gluon_aff.train.script:run_script'},
    'gluon_aff.train.resume': {
        'launched': 'gluon_aff.train.script:launched',
        'resuming': 'gluon_aff.train.script:resuming',
        'starting': 'gluon_aff.train.script:starting',
    },
    'model_zoo': {
        'Checkpoint': 'ReleasedWeights',
        'Dataset': 'gluon_aff._deprecated:dataset',
        'Published': 'Reported',
        'checkpoints': 'list_weights',
    },
    'model_zoo.hosts.resnet': {'Place': 'BlockConfig'},
    'model_zoo.loading': {
        'Trained': 'LoadedModel',
        'open_or_random': 'load_or_initialize',
        'open_trained': 'load_model',
    },
    'model_zoo.pictures.heatmaps': {'check_labels': 'check_class_names', 'look': 'network_rows'},
    'model_zoo.registry': {
        'CIFAR100': 'model_zoo.datasets:CIFAR100',
        'Dataset': 'gluon_aff._deprecated:dataset',
        'FASHION_MNIST': 'model_zoo.datasets:FASHION_MNIST',
        'IMAGENET': 'model_zoo.datasets:IMAGENET',
        'STOP_SIGN': 'model_zoo.datasets:STOP_SIGN',
    },
    'model_zoo.reported_results': {
        'Figure': 'Result',
        'PUBLISHED': 'REPORTED',
        'Published': 'Reported',
        'table_figures': 'table_results',
    },
    'model_zoo.weights': {'Checkpoint': 'ReleasedWeights', 'checkpoints': 'list_weights'},
}


def deprecated_names(module):
    """A module's ``__getattr__``, which finds its old names.

    Parameters
    ----------
    module : str
    """

    def __getattr__(name):
        new = NAMES.get(module, {}).get(name)
        if new is None:
            raise AttributeError(f'module {module!r} has no attribute {name!r}')
        warnings.warn(f'{module}.{name} is now called {new}.', DeprecationWarning, stacklevel=2)
        return _get(module, new)

    return __getattr__


def _get(module, name):
    """A name of a module, or one elsewhere as module:name."""
    elsewhere, _, name = name.rpartition(':')
    return getattr(import_module(elsewhere or module), name)


def renamed(new):
    """A property by which the attribute `new`, such as 'spec.mean', has an old name."""
    *path, last = new.split('.')

    def owner_of(instance):
        for name in path:
            instance = getattr(instance, name)
        return instance

    class Renamed:
        def __set_name__(self, owner, name):
            self.text = f'{owner.__name__}.{name} is now called {new}.'

        def __get__(self, instance, owner):
            if instance is None:
                return self
            warnings.warn(self.text, DeprecationWarning, stacklevel=2)
            return getattr(owner_of(instance), last)

        def __set__(self, instance, value):
            warnings.warn(self.text, DeprecationWarning, stacklevel=2)
            setattr(owner_of(instance), last, value)

    return Renamed()


def renamed_arguments(**names: str) -> Callable[[T], T]:
    """A decorator by which keyword arguments of a function, or of a class, have old names: old='new'."""

    def decorate(target: Any) -> Any:
        function: Any = getattr(target, '__init__') if isinstance(target, type) else target  # noqa: B009

        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            for old in names.keys() & kwargs.keys():
                warnings.warn(
                    f'{target.__name__}({old}=) is now called {names[old]}.', DeprecationWarning, stacklevel=2
                )
                kwargs[names[old]] = kwargs.pop(old)
            return function(*args, **kwargs)

        if function is target:
            return wrapper
        target.__init__ = wrapper
        return target

    return decorate


@renamed_arguments(labels='class_names')
def dataset(name, input_size, mean, std, crop_ratio, class_names, task='classification'):
    """The ModelSpec that stands for what was a model_zoo.Dataset of these arguments."""
    from .spec import ModelSpec

    return ModelSpec(name, task, class_names(), input_size, 1, mean, std, crop_ratio)


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
            return _get(new, NAMES.get(new, {}).get(name, name))

        package, _, name = module.__name__.rpartition('.')
        function = vars(sys.modules[package]).get(name)
        if callable(function):  # gluon_aff.complexity is a function, which the import of the module hides
            module.__class__ = type('CallableModule', (ModuleType,), {'__call__': staticmethod(function)})
        module.__getattr__, module.__doc__ = __getattr__, current.__doc__
        module.__all__ = getattr(current, '__all__', [name for name in vars(current) if name[0] != '_'])


def install():
    """Let the old modules be imported."""
    if _Finder not in sys.meta_path:
        # In front: a folder that holds but __pycache__ would be found as a namespace package.
        sys.meta_path.insert(0, _Finder)
