"""Every public name is documented: what goes in and out, what is raised, where it is from."""

import importlib
import inspect

import pytest
from mxnet.gluon import Block

PACKAGES = [
    'gluon_aff',
    'gluon_aff.layers.aligned',
    'gluon_aff.layers.context',
    'gluon_aff.layers.comparators.aaconv',
    'gluon_aff.layers.comparators.lip',
    'gluon_aff.layers.comparators.recalibration',
    'gluon_aff.layers.comparators.skconv',
    'gluon_aff.inspect.complexity',
    'gluon_aff.data.augmentation',
    'gluon_aff.data.autoaugment',
    'gluon_aff.data.cifar',
    'gluon_aff.data.cifar_archive',
    'gluon_aff.data.cifar_pickle',
    'gluon_aff.data.coco',
    'gluon_aff.data.class_folders',
    'gluon_aff.data.fingerprint',
    'gluon_aff.data.image_sets',
    'gluon_aff.data.imagenet',
    'gluon_aff.data.images',
    'gluon_aff.data.loader',
    'gluon_aff.data.orientation',
    'gluon_aff.data.preprocessing',
    'gluon_aff.data.record_writer',
    'gluon_aff.data.record_file',
    'gluon_aff.data.masks',
    'gluon_aff.data.walk',
    'gluon_aff.deploy',
    'gluon_aff.deploy.backends',
    'gluon_aff.deploy.export_folder',
    'gluon_aff.deploy.graph',
    'gluon_aff.deploy.onnx_files',
    'gluon_aff.deploy.onnx_writer',
    'gluon_aff.deploy.open_symbol',
    'gluon_aff.verified_download',
    'gluon_aff.files',
    'gluon_aff.layers.fusion',
    'gluon_aff.inspect.grad_cam',
    'gluon_aff.layers.multi_input',
    'gluon_aff.params_file',
    'gluon_aff.validation',
    'gluon_aff.spec',
    'gluon_aff.train',
    'gluon_aff.train.npz_file',
    'gluon_aff.train.checkpoint',
    'gluon_aff.train.config',
    'gluon_aff.train.curves',
    'gluon_aff.train.loop',
    'gluon_aff.train.optimizer',
    'gluon_aff.train.recipe',
    'gluon_aff.train.resume',
    'gluon_aff.train.run',
    'gluon_aff.train.script',
    'gluon_aff.train.stop',
    'gluon_aff.train.workers',
    'model_zoo',
    'model_zoo.hosts.cifar_resnet',
    'model_zoo.hosts.cifar_resnext',
    'model_zoo.hosts.attention_resnet',
    'model_zoo.pictures.comparison',
    'model_zoo.pictures.figure',
    'model_zoo.hosts.fpn',
    'model_zoo.pictures.heatmaps',
    'model_zoo.hosts.inception',
    'model_zoo.plugins.gluoncv',
    'model_zoo.reported_results',
    'model_zoo.registry',
    'model_zoo.pictures.page',
    'model_zoo.hosts.resnet',
    'model_zoo.hosts.resnext',
    'model_zoo.hosts.segmentation_network',
    'model_zoo.loading',
    'model_zoo.from_flags',
    'model_zoo.hosts.unet',
    'model_zoo.weights.catalog',
    'model_zoo.weights.parameters',
]
PUBLIC = {
    f'{package}.{name}': getattr(importlib.import_module(package), name)
    for package in PACKAGES
    for name in importlib.import_module(package).__all__
}
CALLABLE = [name for name, value in PUBLIC.items() if callable(value)]
BLOCKS = [name for name in CALLABLE if inspect.isclass(PUBLIC[name]) and issubclass(PUBLIC[name], Block)]


@pytest.mark.parametrize('name', CALLABLE)
def test_public_names_have_docstrings(name):
    doc = PUBLIC[name].__doc__
    assert doc and len(doc.strip()) > 30


@pytest.mark.parametrize('name', BLOCKS)
def test_blocks_say_their_shapes_and_errors(name):
    doc = PUBLIC[name].__doc__ + inspect.getmodule(PUBLIC[name]).__doc__
    assert '(N, ' in doc or '(N,' in doc
    assert 'Raises' in doc or 'raise' in doc


@pytest.mark.parametrize('name', BLOCKS)
def test_modules_of_blocks_name_their_source(name):
    module = inspect.getmodule(PUBLIC[name])
    assert 'Reference' in module.__doc__ or 'common' in module.__doc__


@pytest.mark.parametrize('name', [name for name in CALLABLE if inspect.isfunction(PUBLIC[name])])
def test_functions_document_every_parameter(name):
    function = PUBLIC[name]
    for parameter in inspect.signature(function).parameters:
        assert parameter in function.__doc__, f'{name} does not document {parameter}'
