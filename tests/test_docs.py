"""Every public name is documented: what goes in and out, what is raised, where it is from."""
import importlib
import inspect

import pytest
from mxnet.gluon import Block

PACKAGES = ['gluon_aff', 'gluon_aff.aligned', 'gluon_aff.attention', 'gluon_aff.comparators.aaconv',
            'gluon_aff.comparators.lip', 'gluon_aff.comparators.recalibration', 'gluon_aff.comparators.skconv',
            'gluon_aff.complexity', 'gluon_aff.data.augmentation', 'gluon_aff.data.autoaugment',
            'gluon_aff.data.cifar', 'gluon_aff.data.cifar_files', 'gluon_aff.data.coco', 'gluon_aff.data.folders',
            'gluon_aff.data.identity', 'gluon_aff.data.imagenet', 'gluon_aff.data.images',
            'gluon_aff.data.orientation', 'gluon_aff.data.packing',
            'gluon_aff.data.plain_pickle', 'gluon_aff.data.records', 'gluon_aff.data.segmentation',
            'gluon_aff.data.walk', 'gluon_aff.deploy',
            'gluon_aff.deploy.backends', 'gluon_aff.deploy.external_data', 'gluon_aff.deploy.folder',
            'gluon_aff.deploy.graph', 'gluon_aff.deploy.onnx_file', 'gluon_aff.deploy.open_symbol',
            'gluon_aff.download', 'gluon_aff.files', 'gluon_aff.fusion', 'gluon_aff.gradcam', 'gluon_aff.multi_input',
            'gluon_aff.params_file', 'gluon_aff.received', 'gluon_aff.spec', 'gluon_aff.train',
            'gluon_aff.train.archive', 'gluon_aff.train.arguments', 'gluon_aff.train.checkpoint',
            'gluon_aff.train.curves', 'gluon_aff.train.flags', 'gluon_aff.train.loop',
            'gluon_aff.train.optimizer', 'gluon_aff.train.recipe', 'gluon_aff.train.run', 'gluon_aff.train.stop',
            'gluon_aff.train.workers', 'model_zoo', 'model_zoo.cifar_resnet', 'model_zoo.cifar_resnext',
            'model_zoo.comparators', 'model_zoo.compare', 'model_zoo.figure', 'model_zoo.fpn', 'model_zoo.gradcam',
            'model_zoo.inception', 'model_zoo.interop', 'model_zoo.published',
            'model_zoo.registry', 'model_zoo.report', 'model_zoo.resnet', 'model_zoo.resnext',
            'model_zoo.segmentation', 'model_zoo.trained', 'model_zoo.training', 'model_zoo.unet', 'model_zoo.weights']
PUBLIC = {f'{package}.{name}': getattr(importlib.import_module(package), name)
          for package in PACKAGES for name in importlib.import_module(package).__all__}
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
