"""gluon-aff train and finetune, and files of options."""

import json
import os
import re
import shlex

import numpy as np
import pytest
import yaml
from PIL import Image
from reference import refused

import train_cifar
import train_imagenet
import train_stopsign
from gluon_aff.data.class_folders import image_folders
from gluon_aff.data.image_sets import digits
from gluon_aff.program import command_line
from gluon_aff.train import parse
from gluon_aff.train.settings_file import settings_text
from gluon_aff.verified_download import DownloadError
from model_zoo import cli, weights
from model_zoo.cli import finetune

FEW = '--width 1 --train-images 64 --test-images 30 --num-epochs 1'.split()


def ended(argv, capsys):
    """The exit status of a command, and what it wrote."""
    with pytest.raises(SystemExit) as exit_:
        cli.main(argv)
    out, err = capsys.readouterr()
    return exit_.value.code, out, err.replace('\r', '')


def photographs(folder, **counts):
    """A folder for each class, of grey or coloured noise."""
    random = np.random.RandomState(0)
    for number, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = random.randint(0, 256, (40, 44, 3)) if number else np.full((40, 44, 3), random.randint(256))
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f'{i}.png')
    return folder


# Files of options


@pytest.mark.parametrize(
    'config, argv',
    [
        (train_cifar.Config, [*FEW, '--auto_aug', '--lr-mode', 'step', '--lr-decay-epoch', '3,5', '--rand-augment']),
        (train_imagenet.Config, '--data-dir x --pretrained tag --r 8 -j 3 --input-size 96 --cutmix 0.5'.split()),
        (train_imagenet.Config, '--data-dir x --use-pretrained'.split()),
        (train_stopsign.Config, '--data-dir coco --train-images a --category 7'.split()),
    ],
)
def test_a_config_goes_through_its_file_unchanged(config, argv, tmp_path):
    argv = [word for word in argv if word != '--auto_aug'] if '--rand-augment' in argv else argv
    first = parse(config, argv)
    path = tmp_path / 'run.yaml'
    path.write_text(settings_text(first))
    again = parse(config, ['--config', str(path)])
    assert again.arguments() == first.arguments() and again == first
    assert again.typed == {} and again.command.endswith(f'--config {path}')
    values = yaml.safe_load(path.read_text())
    assert json.loads(json.dumps(values)) == values and not {'resume', 'overwrite', 'config'} & set(values)
    assert parse(config, ['--config', str(path), '--lr', '0.5']).lr == 0.5  # flags win
    assert parse(config, [f'--config={path}']) == first


def test_keys_are_the_flags_in_any_spelling_and_numbers_may_have_exponents(tmp_path):
    path = tmp_path / 'c.yaml'
    path.write_text(
        'wd: 1e-5\nnum_epochs: 3\nuse-pretrained: true\nnum_data_workers: 7\nlr-decay-epoch: 4\nmodel: null'
    )
    config = parse(train_imagenet.Config, ['--config', str(path)])
    assert (config.wd, config.num_epochs, config.pretrained, config.num_workers) == (1e-5, 3, True, 7)
    assert config.lr_decay_epoch == (4,) and config.model == 'iaff_resnet50'


@pytest.mark.parametrize(
    'text, says',
    [
        ('epochs: 3', "--config .*c.yaml has the key 'epochs', which is not a flag of this script"),
        ('config: other.yaml', "has the key 'config', which"),
        ('num-epochs: 0', 'c.yaml: num-epochs must be 1 or more, got 0'),
        ('num-epochs: many', "num-epochs must be a whole number, 1 or more, got 'many'"),
        ('num-epochs: 2.5', 'num-epochs must be 1 or more, got 2.5'),
        ('lr: .nan', 'lr must be a finite number, above 0, got nan'),
        ('lr: true', 'lr must be a finite number, above 0, got True'),
        ('lr-decay-epoch: [3, x]', 'lr-decay-epoch must be a list of numbers of epochs, 1 or more, got'),
        ('lr-mode: cosin', "lr-mode must be one of cosine, step, poly, constant, got 'cosin'"),
        ('mixup: 1', 'mixup must be true or false, got 1'),
        ('save-dir: 3', 'save-dir must be text, got 3'),
        ('save-dir: true', 'save-dir must be text, got True'),
        ('- lr', 'must have a line such as'),
        ('', 'must have a line such as'),
        ('lr: [', 'c.yaml, line 1 is not YAML'),
        ('lr: !!python/object/apply:os.system [ls]', 'line 1 is not YAML'),
        (b'\xff\xfe\xff', 'is not YAML'),
        (None, 'c.yaml cannot be read .No such file or directory.'),
    ],
)
def test_what_is_wrong_in_a_file_is_one_sentence(text, says, tmp_path):
    path = tmp_path / 'c.yaml'
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with refused(says):
        train_cifar.main(['--config', str(path)])


def test_a_run_writes_the_file_that_repeats_it(tmp_path, capsys):
    flags = [*FEW, '--seed', '3', '--save-dir', str(tmp_path / 'a')]
    train_cifar.main(flags)
    train_cifar.main(['--config', str(tmp_path / 'a' / 'run.yaml'), '--save-dir', str(tmp_path / 'b')])
    assert (tmp_path / 'a' / 'best.params').read_bytes() == (tmp_path / 'b' / 'best.params').read_bytes()
    first, second = (yaml.safe_load((tmp_path / name / 'run.yaml').read_text()) for name in 'ab')
    assert {**first, 'save-dir': None} == {**second, 'save-dir': None}


# gluon-aff train


def test_train_runs_the_script_and_says_how_to_run_it_again(tmp_path, capsys):
    argv = ['train', 'cifar', *FEW, '--save-dir', str(tmp_path / 'run')]
    status, out, _ = ended(argv, capsys)
    assert status == 0 and f'To run it again in its place: {shlex.join(command_line(argv))} --overwrite' in out
    status, out, err = ended(argv, capsys)
    assert status == 2
    assert re.match(r'gluon-aff train cifar: .* holds a run; give --resume ', err.splitlines()[-1])


@pytest.mark.parametrize('script', ['cifar', 'imagenet', 'stopsign'])
def test_train_has_the_help_and_the_errors_of_the_scripts(script, capsys):
    status, out, _ = ended(['train', script, '--help'], capsys)
    assert status == 0 and f' train {script} [-h] ' in ' '.join(out.split()) and '--config FILE' in out
    status, _, err = ended(['train', script, '--data-dir', 'x', '--learning-rate', '1'], capsys)
    assert status == 2
    assert err.startswith(f'gluon-aff train {script}: unrecognized arguments: --learning-rate 1')
    assert err.endswith(f' train {script} --help shows the usage.\n') and err.count('\n') == 1


def test_a_script_that_does_not_exist_is_refused(capsys):
    assert cli.main(['train', 'mnist']) == 2
    assert "invalid choice: 'mnist'" in capsys.readouterr().err


# gluon-aff finetune


def choices(folder, *flags):
    return finetune._choose(
        parse(train_imagenet.Config, list(flags), settings={'data_dir': str(folder), 'model': None})
    )


def test_finetune_trains_evaluates_and_says_what_to_type_next(tmp_path, monkeypatch, capsys):
    reads, read_data = [], train_imagenet.read_data
    monkeypatch.setattr(train_imagenet, 'read_data', lambda config: reads.append(config) or read_data(config))
    monkeypatch.chdir(tmp_path)
    photographs(tmp_path / 'my photos', plain=12, noise=5)
    status, out, err = ended(['finetune', 'my photos', '--num-epochs', '2', '--width', '1'], capsys)
    assert status == 2 and 'gluon-aff finetune: unrecognized arguments: --width 1' in err
    status, out, err = ended(['finetune', 'my photos', '--num-epochs', '2', '--lr', '0.03'], capsys)
    assert status == 0, err
    assert '--val-fraction 0.2: of each class is held out, as there are 17 images\n' in out
    assert '--model fashion_mnist_aff_resnet8: as the images are small, 40 pixels' in out
    assert '--class-weights balanced: as the classes have 5 to 12 images' in out
    assert '--num-epochs' not in out.split('[Epoch 1]')[0] and '--lr ' not in out.split('[Epoch 1]')[0]
    again = shlex.join(command_line(['finetune', 'my photos', '--num-epochs', '2', '--lr', '0.03', '--overwrite']))
    assert f'To run it again in its place: {again}' in out
    assert len(reads) == 1 and out.count('To predict: ') == 1
    predict = shlex.split(out.splitlines()[-1])
    assert predict[:2] == ['To', 'predict:'] and predict[-3:-1] == ['predict', 'runs/my photos']
    assert os.path.isfile(predict[-1])
    report = json.loads((tmp_path / 'runs' / 'my photos' / 'evaluation' / 'report.json').read_text())
    best = json.loads((tmp_path / 'runs' / 'my photos' / 'model.json').read_text())
    held_out = image_folders(tmp_path / 'my photos', 0.2).val
    assert report['images'] == len(held_out) == 3
    assert report['top1'] == best['accuracy'] and f'{report["top1"]:.1%} are classified correctly' in out
    assert ('The most certain mistakes: ' in out) == (report['top1'] < 1)


def test_the_choices_follow_from_the_images(tmp_path, monkeypatch):
    small = photographs(tmp_path / 'small', a=3, b=4)
    assert {name: value for name, (value, _) in choices(small).items()} == {
        'val_fraction': 0.2,
        'model': 'fashion_mnist_aff_resnet8',
        'input_size': 32,
        'batch_size': 8,
        'num_epochs': 30,
        'lr': 0.02,
        'backbone_lr': 1.0,
    }
    assert 'model' not in choices(small, '--model', 'aff_resnet50')
    assert choices(small, '--model', 'aff_resnet50')['backbone_lr'][0] == 0
    split = tmp_path / 'split'
    photographs(split / 'train', a=7, b=2)
    photographs(split / 'val', a=1)
    assert 'val_fraction' not in choices(split) and choices(split)['class_weights'][0] == 'balanced'
    many = {'a': ['x.png'] * 3000, 'b': ['x.png'] * 2500}
    monkeypatch.setattr('gluon_aff.data.class_folders.class_tree', lambda root, skipped: many)
    chosen = {name: value for name, (value, _) in choices(small, '--model', 'aff_resnet50').items()}
    assert chosen == {
        'val_fraction': 0.1,
        'input_size': 224,
        'batch_size': 32,
        'num_epochs': 8,
        'lr': 0.01,
        'backbone_lr': 0.1,
    }


def test_photographs_get_imagenets_network_if_its_weights_can_be_had(tmp_path, monkeypatch):
    (tmp_path / 'a').mkdir()
    Image.new('RGB', (300, 200)).save(tmp_path / 'a' / 'x.jpg')

    def refuse(name):
        raise DownloadError('no network')

    monkeypatch.setattr(weights, 'get_model_file', lambda name: name)
    assert finetune._choose_network(str(tmp_path))[0] == 'aff_resnet50'
    monkeypatch.setattr(weights, 'get_model_file', refuse)
    name, reason = finetune._choose_network(str(tmp_path))
    assert name == 'fashion_mnist_aff_resnet8' and 'aff_resnet50' in reason and 'out of reach' in reason


@pytest.mark.parametrize(
    'make, says',
    [
        (lambda folder: None, 'There is no folder '),
        (lambda folder: photographs(folder, a=3), 'two'),
        (lambda folder: photographs(folder, a=1, b=1), 'none can be held out'),
    ],
)
def test_finetune_refuses_what_it_cannot_train_on_in_one_sentence(make, says, tmp_path, capsys):
    make(tmp_path / 'photos')
    status, _, err = ended(['finetune', str(tmp_path / 'photos'), '--save-dir', str(tmp_path / 'run')], capsys)
    assert status == 2 and err.startswith('gluon-aff finetune: ') and err.count('\n') == 1 and says in err


def test_held_out_training_images_take_the_place_of_the_test_images(tmp_path, monkeypatch):
    loaders = []
    monkeypatch.setattr(train_cifar, 'train_network', lambda net, *two, **_: loaders.extend(two[:2]))
    train_cifar.main(['--width', '1', '--val-images', '100', '--save-dir', str(tmp_path / 'run')])
    train, test = ([image.tobytes() for image in loader.images] for loader in loaders)
    assert len(test) == 100 and sorted(train + test) == sorted(image.tobytes() for image in digits().train[0])
