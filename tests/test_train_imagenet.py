"""train_imagenet.py on folders of photographs and on RecordIO files."""

import json
import os
import re
import shutil

import mxnet as mx
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

import train_imagenet
from gluon_aff.data.record_writer import write_records
from gluon_aff.train import checkpoints, read_checkpoint
from model_zoo import get_model
from model_zoo.cli import main as command_line

SMALL = '--input-size 32 --batch-size 4 --num-epochs 2 --lr 0.01 -j 2 --model add_resnet50'.split()
MIXED = ['--last-gamma', '--no-wd', '--label-smoothing', '--mixup', '--mixup-off-epoch', '1', '--init', 'kaiming']
CLASSES = 'blume', 'tempel'


def photographs(folder, count, seed=0):
    """Pieces of scikit-learn's two photographs, of a class each."""
    random = np.random.RandomState(seed)
    for name, picture in zip(reversed(CLASSES), load_sample_images().images):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            top, left = random.randint(0, 300), random.randint(0, 500)
            Image.fromarray(picture[top : top + 90, left : left + 110]).save(folder / name / f'{number}.jpg')


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    folder = tmp_path_factory.mktemp('photos')
    photographs(folder / 'train', 9)
    photographs(folder / 'val', 3, 1)
    return folder


@pytest.fixture(scope='module')
def run(tree, tmp_path_factory):
    """The folder of a run on a tree of which some files are damaged, and what it printed."""
    folder = tmp_path_factory.mktemp('run')
    damaged = tree / 'train' / CLASSES[0] / 'cut.jpg'
    damaged.write_bytes((tree / 'train' / CLASSES[0] / '0.jpg').read_bytes()[:700])
    train_imagenet.main([*SMALL, *MIXED, '--data-dir', str(tree), '--save-dir', str(folder)])
    return folder, damaged


def test_a_folder_of_photographs_gives_a_network_that_names_its_classes(run, tree, capsys):
    folder, _ = run
    model_json = json.loads((folder / 'model.json').read_text())
    assert model_json['class_names'] == list(CLASSES) and model_json['input_size'] == [3, 32, 32]
    assert model_json['options'] == {'classes': 2, 'last_gamma': True}
    assert command_line(['predict', str(folder), str(tree / 'val' / CLASSES[0] / '1.jpg'), '--format', 'jsonl']) == 0
    answer = json.loads(capsys.readouterr().out)
    assert {prediction['label'] for prediction in answer['predictions']} == set(CLASSES)


def test_a_damaged_file_is_named_and_left_out(run):
    folder, damaged = run
    report = (folder / 'skipped.txt').read_text().splitlines()
    assert report[0] == 'Left out: 1' and str(damaged) in report[1]


def test_metrics_of_a_mixed_run_are_the_authors(run):
    folder, _ = run
    records = [json.loads(line) for line in (folder / 'log.jsonl').read_text().splitlines()]
    assert [record['epoch'] for record in records] == [1, 2]
    assert 'train_rmse' in records[0] and 'train_accuracy' not in records[0]
    assert re.match(r'\[Epoch 1\] train_rmse=0\.\d{4} val=', (folder / 'log.txt').read_text())


def test_a_run_resumes_on_moved_photographs_and_not_on_others(run, tree, tmp_path, capsys):
    shutil.copytree(run[0], tmp_path / 'run')
    moved = shutil.copytree(tree, tmp_path / 'moved')
    flags = [*SMALL, *MIXED, '--data-dir', str(moved), '--save-dir', str(tmp_path / 'run'), '--resume']
    train_imagenet.main(flags)
    assert 'Best accuracy' in capsys.readouterr().out
    (moved / 'val' / CLASSES[1] / '2.jpg').rename(moved / 'val' / CLASSES[1] / '9.jpg')
    with pytest.raises(ValueError, match='another data set .the list of its images has changed.'):
        train_imagenet.main(flags)
    for part in ('train', 'val'):
        (moved / part / CLASSES[0]).rename(moved / part / 'apfel')
    with pytest.raises(ValueError, match="another data set .its class 0 was 'blume' and is 'apfel'."):
        train_imagenet.main(flags)
    assert json.loads((tmp_path / 'run' / 'model.json').read_text())['class_names'] == list(CLASSES)


def values(net):
    return {name: parameter.data().asnumpy() for name, parameter in net._collect_params_with_prefix().items()}


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    mx.random.seed(0)
    net = get_model('add_resnet50', classes=5)
    net.initialize(mx.init.Xavier())
    path = tmp_path_factory.mktemp('weights') / 'five.params'
    net.save_parameters(str(path))
    return path, values(net)


def test_fine_tuning_with_a_frozen_backbone_replaces_the_head_and_changes_nothing_else(tree, weights, tmp_path):
    path, before = weights
    train_imagenet.main(
        [
            *SMALL,
            '--data-dir',
            str(tree / 'train'),
            *'--val-fraction 0.3 --pretrained'.split(),
            str(path),
            *'--backbone-lr 0 --save-dir'.split(),
            str(tmp_path / 'run'),
        ]
    )
    net = get_model('add_resnet50', pretrained=str(tmp_path / 'run' / 'best.params'))
    assert net.classes == 2
    for name, value in values(net).items():
        assert name.startswith('fc') or np.array_equal(value, before[name]), name


def test_a_teacher_of_other_classes_is_refused_and_a_fitting_one_is_learnt_from(tree, run, weights, tmp_path):
    flags = [*SMALL, '--data-dir', str(tree), '--save-dir', str(tmp_path / 'run'), '--teacher', 'add_resnet50']
    with pytest.raises(ValueError, match='has 5 classes and the data 2'):
        train_imagenet.main([*flags, '--teacher-weights', str(weights[0])])
    best = train_imagenet.main([*flags, '--teacher-weights', str(run[0] / 'best.params'), '--temperature', '4'])
    arguments = read_checkpoint(checkpoints(str(tmp_path / 'run'))[0])[1].arguments
    assert arguments['teacher'] == 'add_resnet50' and arguments['temperature'] == 4 and best['epoch'] in (1, 2)


def test_records_train_as_folders_do(tree, tmp_path):
    write_records(str(tree), str(tmp_path / 'rec'), resize=64, workers=2)
    flags = [
        *SMALL,
        *'--use-rec --rec-train'.split(),
        str(tmp_path / 'rec' / 'train.rec'),
        '--rec-val',
        str(tmp_path / 'rec' / 'val.rec'),
        '--save-dir',
        str(tmp_path / 'run'),
        '--auto_aug',
    ]
    train_imagenet.main(flags)
    assert json.loads((tmp_path / 'run' / 'model.json').read_text())['class_names'] == list(CLASSES)


def test_autoaugment_works_on_folders(tree, tmp_path):
    train_imagenet.main([*SMALL, '--data-dir', str(tree), '--save-dir', str(tmp_path / 'run'), '--auto_aug'])


@pytest.mark.parametrize(
    'flags, says',
    [
        ([], 'Give --data-dir'),
        (['--use-rec', '--rec-train', 'a.rec'], 'needs --rec-train and --rec-val'),
        (['--use-rec', '--rec-train', 'a.rec', '--rec-val', 'b.rec'], 'no file a.rec'),
        (['--data-dir', 'nowhere'], 'nowhere'),
        (['--data-dir', '{tree}', '--batch-size', '1'], '--batch-size must be 2 or more'),
        (['--data-dir', '{tree}', '--batch-size', '64'], '--batch-size must be 2 to 18'),
        (['--data-dir', '{tree}', '--model', 'iaf_resnet50'], 'did you mean iaff_resnet50'),
        (['--data-dir', '{tree}', '--num-gpus', '99'], 'MXNet finds'),
        (['--data-dir', '{tree}', '--dtype', 'float16'], 'float16 needs --num-gpus'),
        (['--data-dir', '{tree}', '--input-size', '8'], 'at least 17'),
    ],
)
def test_wrong_arguments_are_one_sentence_and_leave_no_run(flags, says, tree, tmp_path):
    flags = [flag.format(tree=tree) for flag in flags]
    with pytest.raises((ValueError, FileNotFoundError), match=says) as caught:
        train_imagenet.main([*SMALL, '--save-dir', str(tmp_path / 'run'), *flags])
    assert '\n' not in str(caught.value)
    assert not os.path.exists(tmp_path / 'run' / 'best.params')
