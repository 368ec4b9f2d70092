"""The recipes of docs/gluoncv.md, and GluonCV's own scripts where GLUONCV_SCRIPTS names their folder."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from programs import TOP, finish, start

from model_zoo import unregister_from_gluoncv
from model_zoo.cli import main

RECIPES = re.findall('(?s)```python\n(.*?)```', (TOP / 'docs' / 'gluoncv.md').read_text(encoding='utf-8'))
RESULTS = [
    lambda it: it['net'].classes == 37,
    lambda it: it['accuracy'].get()[1] >= 0.75 and Path('classifier-symbol.json').exists(),
    lambda it: 0 < it['mean_iou'] <= it['pixel_accuracy'] <= 1,
    lambda it: it['boxes'].shape == (2, 100, 4) and len(it['classes']) == 2,
]


@pytest.mark.filterwarnings('ignore:.*already initialized:UserWarning')
@pytest.mark.parametrize(
    'recipe, holds', list(zip(RECIPES, RESULTS)), ids=['register', 'classify', 'segment', 'detect']
)
def test_recipe_of_the_guide(recipe, holds, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    it = {}
    try:
        exec(recipe, it)
        assert holds(it)
    finally:
        unregister_from_gluoncv()


def test_the_guide_has_a_recipe_for_each_result():
    assert len(RECIPES) == len(RESULTS)


SCRIPTS = os.environ.get('GLUONCV_SCRIPTS')
# The same calls as in GluonCV's scripts, in a few lines.
CALLS = """
import argparse
import mxnet as mx
from gluoncv.model_zoo import get_model
parser = argparse.ArgumentParser()
parser.add_argument('--model')
opt = parser.parse_args()
net = get_model(opt.model, ctx=[mx.cpu()], pretrained=False, classes=1000)
net.cast('float32')
net.initialize(mx.init.MSRAPrelu(), ctx=[mx.cpu()])
for k, v in net.collect_params('.*beta|.*gamma|.*bias').items():
    v.wd_mult = 0.0
net.hybridize(static_alloc=True, static_shape=True)
assert net(mx.nd.zeros((2, 3, 32, 32))).shape == (2, 1000)
net = get_model(opt.model, pretrained=True)
print(__name__, net.classes[net(mx.nd.zeros((1, 3, 32, 32)))[0].argmax(axis=0).astype('int').asscalar()])
"""


def with_gluoncv(script, *arguments):
    program = start(TOP / 'examples' / 'with_gluoncv.py', script, *arguments)
    status, out, err = finish(program, 600)
    assert status == 0, err
    return out + err


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """A tree of images with train, val and test, and its records."""
    folder, random = tmp_path_factory.mktemp('data'), np.random.RandomState(0)
    for split, images in (('train', 4), ('val', 2), ('test', 2)):
        for number in range(3):
            (folder / 'tree' / split / f'class{number}').mkdir(parents=True)
            for image in range(images):
                Image.fromarray(random.randint(0, 255, (60, 72, 3)).astype('uint8')).save(
                    folder / 'tree' / split / f'class{number}' / f'{image}.jpg'
                )
    assert main(['records', str(folder / 'tree'), '-o', str(folder / 'rec'), '--resize', '40']) == 0
    return folder


def test_a_script_runs_with_our_networks_by_registering_first(tmp_path):
    (tmp_path / 'script.py').write_text(CALLS)
    assert '__main__ ' in with_gluoncv(tmp_path / 'script.py', '--model', 'fashion_mnist_aff_resnet8')


needs_scripts = pytest.mark.skipif(not SCRIPTS, reason="GLUONCV_SCRIPTS does not name the folder of GluonCV's scripts")


@needs_scripts
@pytest.mark.parametrize('model', ['aff_resnet50', 'iaff_resnext50_32x4d'])
def test_gluoncvs_train_imagenet(model, data, tmp_path):
    output = with_gluoncv(
        f'{SCRIPTS}/classification/imagenet/train_imagenet.py',
        '--use-rec',
        '--rec-train',
        data / 'rec/train.rec',
        '--rec-train-idx',
        data / 'rec/train.idx',
        '--rec-val',
        data / 'rec/val.rec',
        '--rec-val-idx',
        data / 'rec/val.idx',
        '--model',
        model,
        '--num-epochs',
        2,
        '--batch-size',
        4,
        '--input-size',
        32,
        '-j',
        1,
        '--mode',
        'hybrid',
        '--label-smoothing',
        '--mixup',
        '--no-wd',
        '--last-gamma',
        '--save-dir',
        tmp_path / 'out',
        '--logging-file',
        tmp_path / 'log',
    )
    assert '[Epoch 1] validation:' in output
    parameters = tmp_path / f'out/imagenet-{model}-1.params'
    output = with_gluoncv(
        f'{SCRIPTS}/classification/imagenet/demo_imagenet.py',
        '--model',
        model,
        '--saved-params',
        parameters,
        '--input-pic',
        data / 'tree/val/class0/0.jpg',
    )
    assert output.count('with probability') == 5


@needs_scripts
def test_gluoncvs_finetune_minc_and_demo_imagenet(data, tmp_path):
    model = 'fashion_mnist_aff_resnet8'
    output = with_gluoncv(
        f'{SCRIPTS}/classification/finetune/finetune_minc.py',
        '--model',
        model,
        '--data',
        data / 'tree',
        '-j',
        0,
        '-b',
        4,
        '--epochs',
        1,
    )
    assert '[Finished] Test-acc' in output
    output = with_gluoncv(
        f'{SCRIPTS}/classification/imagenet/demo_imagenet.py',
        '--model',
        model,
        '--input-pic',
        data / 'tree/val/class0/0.jpg',
    )
    assert output.count('with probability') == 5 and '[Trouser]' in output
