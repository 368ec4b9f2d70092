"""What goes wrong in training: wrong values, full disks, damaged checkpoints, two runs in one folder, other data."""

import copy
import json
import os
import re
import shlex
import shutil
import signal
import time
import tracemalloc
import zipfile

import mxnet as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from programs import SHORT_RUN, TOP, start
from reference import refused
from test_resume import same, small, step, trained

import train_cifar
import train_imagenet
import train_stopsign
from gluon_aff.data.cifar import Batches
from gluon_aff.data.class_folders import image_folders
from gluon_aff.data.fingerprint import identity
from gluon_aff.data.imagenet import Images
from gluon_aff.data.record_file import RecordFile
from gluon_aff.program import python
from gluon_aff.train import (
    Classification,
    Progress,
    RunFolder,
    Segmentation,
    Stopped,
    TrainConfig,
    Workers,
    check_arguments,
    checkpoints,
    evaluate,
    fit,
    parse,
    read_checkpoint,
    run_arguments,
    run_script,
)
from gluon_aff.train.checkpoint import SUMS, restore_optimizer, restore_parameters, write_checkpoint
from gluon_aff.train.launch import _own_flags
from gluon_aff.train.script import launched, resuming, starting

SCRIPTS = {
    'cifar': (train_cifar, []),
    'imagenet': (train_imagenet, []),
    'stopsign': (train_stopsign, ['--data-dir', 'coco']),
}
FEW = ['--width', '1', '--train-images', '64', '--test-images', '30', '--batch-size', '32', '--num-epochs', '2']


# Values

COMMON = [
    ('--lr', '-1', 'above 0'),
    ('--lr', '0', 'above 0'),
    ('--lr', 'nan', 'finite'),
    ('--lr', '1e39', 'finite'),
    ('--lr', 'inf', 'finite'),
    ('--lr', 'fast', 'finite'),
    ('--momentum', '2', 'below 1'),
    ('--momentum', '-0.1', '0 or more'),
    ('--wd', '-1', '0 or more'),
    ('--warmup-lr', '-1', '0 or more'),
    ('--warmup-epochs', '-1', '0 or more'),
    ('--num-epochs', '0', '1 or more'),
    ('--num-gpus', '-1', '0 or more'),
    ('--batch-size', '1', '2 or more for each device'),
    ('--batch-size', '2.5', 'a whole number'),
    ('--keep', '0', '1 or more'),
    ('--keep', '-1', '1 or more'),
    ('--accumulate', '0', '1 or more'),
    ('--lr-decay', '0', 'above 0'),
    ('--lr-decay', '2', 'at most 1'),
    ('--lr-decay-epoch', '3,x', 'epochs'),
    ('--lr-decay-epoch', '0', 'epochs'),
    ('--lr-decay-period', '-1', '0 or more'),
    ('--seed', '-1', '0 or more'),
    ('--seed', '9999999999', 'at most'),
    ('--worker-timeout', '0', 'above 0'),
    ('--patience', '0', 'above 0'),
    ('--drop-rate', '1', 'below 1'),
    ('--reduction', '0', '1 or more'),
]
CLASSIFY = [
    ('--mixup-alpha', '-1', 'above 0'),
    ('--mixup-alpha', '0', 'above 0'),
    ('--mixup-off-epoch', '-1', '0 or'),
    ('--temperature', '0', 'above 0'),
    ('--hard-weight', '1.5', 'at most 1'),
    ('--ema', '1', 'below 1'),
    ('--clip-gradient', '0', 'above 0'),
    ('--early-stopping', '-1', '0 or more'),
    ('--freeze', '-1', '0 or more'),
    ('--rand-augment', '31', 'at most 30'),
    ('--random-erasing', '1.5', 'at most 1'),
    ('--cutmix', '-1', '0 or more'),
    ('--backbone-lr', '-1', '0 or more'),
    ('--start-layer', '0', '1 or more'),
]
OWN = [
    ('cifar', '--train-images', '0', '1 or more'),
    ('cifar', '--test-images', '-3', '1 or more'),
    ('cifar', '--width', '0', '1 or more'),
    ('imagenet', '--val-fraction', '1', 'below 1'),
    ('imagenet', '--crop-ratio', '0', 'above 0'),
    ('imagenet', '--num-data-workers', '0', '1 or more'),
    ('imagenet', '--input-size', '-32', '1 or more'),
    ('stopsign', '--base-size', '0', '1 or more'),
    ('stopsign', '--input-size', '0', '1 or more'),
    ('stopsign', '--width', '-1', '1 or more'),
]


@pytest.mark.parametrize('script, flag, value, says', [*(('cifar', *row) for row in COMMON + CLASSIFY), *OWN])
def test_a_value_out_of_range_is_refused_under_the_flag_as_it_was_typed(script, flag, value, says):
    module, needed = SCRIPTS[script]
    with refused(f'{flag}[^ ]* must be .*{says}.*, got {value}'):
        module.main([*needed, flag, value])


@pytest.mark.parametrize(
    'argv, says',
    [
        (['--learning-rate', '1'], 'unrecognized arguments: --learning-rate 1'),
        (['--lr'], '--lr: expected one argument'),
        (['--class-weights', 'even'], "--class-weights: invalid choice: 'even'"),
        (['--lr-mode', 'cosin'], "--lr-mode: invalid choice: 'cosin'"),
    ],
)
def test_an_unknown_flag_is_one_sentence_too(argv, says):
    with refused(says):
        train_cifar.main(argv)


def test_every_numeric_flag_has_a_range():
    """A flag that is added later falls under this, too."""
    for module, needed in SCRIPTS.values():
        for name, value in vars(parse(module.Config, needed)).items():
            if type(value) in (int, float) and name != 'command':
                flag = {'num_workers': '-j'}.get(name, f'--{name.replace("_", "-")}')
                with refused(' must be '):
                    parse(module.Config, [*needed, flag, '-7'])
                with refused(' must be '):
                    parse(module.Config, [*needed, flag, 'nan'])


@pytest.mark.parametrize(
    'module, flags, says',
    [
        (train_cifar, ['--model', 'fpn_aff_resnet8'], '--model fpn_aff_resnet8 segments images; give a class'),
        (train_imagenet, ['--model', 'unet_aff_resnet8'], '--model unet_aff_resnet8 segments images'),
        (train_cifar, [*FEW, '--teacher', 'fpn_aff_resnet8'], '--teacher fpn_aff_resnet8 segments images'),
        (
            train_cifar,
            [*FEW, '--teacher', 'fashion_mnist_aff_resnet8', '--teacher-weights', 'gone.params'],
            'gone.params',
        ),
        (train_cifar, [*FEW, '--accumulate', '3'], '--accumulate must be at most 2, the batches of an epoch, got 3'),
        (train_cifar, [*FEW, '--start-layer', '9'], '--start-layer must be 1 to 3'),
        (train_cifar, [*FEW, '--start-layer', '2', '--fusion', 'add'], '--start-layer is of no use with fusion by'),
        (
            train_cifar,
            [*FEW, '--model', 'cifar_add_resnet8', '--r', '8'],
            '--r is of no use with the fusion add; leave it',
        ),
        (
            train_cifar,
            [*FEW, '--reduction', '8', '--fusion', 'concat'],
            '--reduction is of no use with the fusion concat',
        ),
        (
            train_cifar,
            [*FEW, '--model', 'cifar_aff_resnext38_32x4d', '--start-layer', '9'],
            '--start-layer must be 1 to 3',
        ),
        (train_imagenet, ['--data-dir', 'x', '--width', '2'], 'unrecognized arguments: --width 2'),
        (train_cifar, [*FEW, '--last-gamma'], "option '--last-gamma'"),
        (train_cifar, [*FEW, '--num-layer', '50'], '--num-layer 50 is not the depth of --model cifar_aff_resnet8'),
        (
            train_cifar,
            [*FEW, '--mixup', '--mixup-off-epoch', '2'],
            '--mixup-off-epoch must be below --num-epochs 2, got 2; or leave --mixup out',
        ),
        (
            train_cifar,
            [*FEW, '--mixup', '--cutmix', '1', '--mixup-off-epoch', '3'],
            'below --num-epochs 2, got 3; or leave --mixup and --cutmix out',
        ),
        (train_cifar, [*FEW, '--freeze', '4'], '--freeze must be 0 to 3, as the network has a stem .0. and 3 stages, '),
        (train_cifar, [*FEW, '--batch-size', '65'], '--batch-size must be 2 to 64, as there are 64 training images'),
        (train_cifar, ['--train-images', '1'], 'number of training images must be 2 or more'),
        (train_imagenet, ['--data-dir', '{empty}'], 'or set --val-fraction, such as'),
    ],
)
def test_flags_that_do_not_fit_together_are_refused_before_a_run_begins(tmp_path, module, flags, says):
    with refused(says, (ValueError, FileNotFoundError)):
        module.main([*(flag.format(empty=tmp_path) for flag in flags), '--save-dir', str(tmp_path / 'run')])
    assert not (tmp_path / 'run').exists()


USELESS = [
    ('cifar', '--momentum 0.9 --optimizer adagrad', '--momentum', 'without --optimizer nesterov'),
    ('stopsign', '--momentum 0.5', '--momentum', 'without --optimizer nesterov'),
    ('cifar', '--lr-decay 0.1', '--lr-decay', 'without --lr-mode step'),
    ('imagenet', '--lr-decay-epoch 3 --lr-mode poly', '--lr-decay-epoch', 'without --lr-mode step'),
    ('cifar', '--lr-decay-period 3', '--lr-decay-period', 'without --lr-mode step'),
    ('cifar', '--lr-mode step --lr-decay-period 3 --lr-decay-epoch 3', '--lr-decay-epoch', 'with --lr-decay-period'),
    ('stopsign', '--warmup-lr 0.1', '--warmup-lr', 'without --warmup-epochs'),
    ('cifar', '--no-wd --wd 0', '--no-wd', 'with --wd 0'),
    ('cifar', '--scale-lr', '--scale-lr', 'without several workers'),
    ('imagenet', '--patience 9 --kvstore local', '--patience', 'without several workers'),
    ('imagenet', '--worker-timeout 9', '--worker-timeout', 'without several workers'),
    ('imagenet', '--num-gpus 4 --kvstore horovod', '--num-gpus', 'above 1 with --kvstore horovod'),
    ('stopsign', '--resume --overwrite', '--overwrite', 'with --resume'),
    ('cifar', '--backbone-lr 0.1', '--backbone-lr', 'without --pretrained'),
    ('cifar', '--use-pretrained --init kaiming', '--init', 'with --pretrained'),
    ('imagenet', '--pretrained fine --last-gamma', '--last-gamma', 'with --pretrained'),
    ('cifar', '--mixup-alpha 1', '--mixup-alpha', 'without --mixup'),
    ('imagenet', '--mixup-off-epoch 0', '--mixup-off-epoch', 'without --mixup or --cutmix'),
    ('cifar', '--mixup-alpha 1 --cutmix 1', '--mixup-alpha', 'without --mixup'),
    ('imagenet', '--auto-aug --rand-augment', '--auto-aug', 'with --rand-augment'),
    ('cifar', '--rand-augment 0 --auto_aug', '--auto_aug', 'with --rand-augment'),
    ('cifar', '--pretrained --backbone-lr 0 --freeze 1', '--freeze', 'with --backbone-lr 0'),
    ('cifar', '--optimizer adamw --momentum 0.5', '--momentum', 'without --optimizer nesterov'),
    ('cifar', '--teacher-weights x.params', '--teacher-weights', 'without --teacher'),
    ('cifar', '--temperature 20', '--temperature', 'without --teacher'),
    ('imagenet', '--hard-weight 0.5', '--hard-weight', 'without --teacher'),
    ('cifar', '--labels fine', '--labels', 'without --dataset cifar100'),
    ('cifar', '--data-dir x', '--data-dir', 'with --dataset digits'),
    ('imagenet', '--data-dir x --rec-train a.rec', '--rec-train', 'without --use-rec'),
    ('imagenet', '--data-dir x --rec-val-idx a.idx', '--rec-val-idx', 'without --use-rec'),
    ('imagenet', '--use-rec --data-dir x', '--data-dir', 'with --use-rec'),
    ('imagenet', '--use-rec --val-fraction 0.1', '--val-fraction', 'with --use-rec'),
]


@pytest.mark.parametrize('script, flags, flag, when', USELESS)
def test_a_flag_that_another_one_makes_useless_is_refused(script, flags, flag, when):
    module, needed = SCRIPTS[script]
    with refused(f'^{flag} is of no use {re.escape(when)}[^.]*; {module.__name__}.py --help shows the usage.$'):
        module.main([*needed, *flags.split()])


@pytest.mark.parametrize(
    'flags, status, says',
    [
        ('--lr-mode cosin', 2, 'invalid choice'),
        ('--mixup-alpha 1', 2, 'without --mixup'),
        ('--save-dir {file}', 2, 'cannot be saved'),
        ('--batch-size 8 --lr 1e30 --warmup-epochs 0', 1, 'no longer finite'),
    ],
)
def test_the_exit_status_tells_wrong_arguments_from_a_failed_run(tmp_path, monkeypatch, capsys, flags, status, says):
    (tmp_path / 'file').touch()
    flags = flags.format(file=tmp_path / 'file').split()
    monkeypatch.setattr('sys.argv', ['train_cifar.py', *FEW, '--save-dir', str(tmp_path / 'run'), *flags])
    with pytest.raises(SystemExit) as ended:
        run_script('train_cifar.py', train_cifar.main)
    line = capsys.readouterr().err.splitlines()[-1]
    assert ended.value.code == status and line.startswith('train_cifar.py: ') and says in line


@pytest.mark.parametrize(
    'error, status, says',
    [
        (KeyboardInterrupt(), 130, 'Stopped at once'),
        (MemoryError(), 1, 'a smaller --batch-size'),
        (mx.MXNetError('Size of tensor you are trying to allocate is larger than 2^31'), 1, 'a smaller --batch'),
        (
            mx.MXNetError('Check failed: e == cudaSuccess: cudaMalloc retry failed: out of memory'),
            1,
            'a smaller --batch',
        ),
    ],
)
def test_ctrl_c_before_the_run_and_a_lack_of_memory_are_one_sentence(monkeypatch, capsys, error, status, says):
    def main(argv):
        raise error

    monkeypatch.setattr('sys.argv', ['train.py'])
    with pytest.raises(SystemExit) as ended:
        run_script('train.py', main)
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == status and says in line


@pytest.mark.parametrize(
    'values, says',
    [
        ({'ctx': [mx.cpu(0), mx.cpu(1)]}, 'is not initialised on cpu.0., cpu.1.; call net.initialize'),
        ({'ctx': 'cpu'}, 'is not initialised on c, p, u'),
        ({'ctx': mx.gpu(0)}, 'is not initialised on gpu'),
        ({'run': 'folder'}, "run must be a RunFolder, got 'folder'"),
        ({'task': None}, 'task must be a Task, such as Classification.10., got None'),
        ({'train': [1, 2]}, 'train must be a loader, .*, got .1, 2.'),
        ({'test': [1, 2]}, 'test must be a loader, .*, got .1, 2.'),
        ({'config': {}}, 'config must be a TrainConfig, got {}'),
        ({'save_seconds': None}, 'save_seconds must be seconds'),
        ({'accumulate': 3}, '--accumulate must be at most 2, the batches of an epoch, got 3'),
        ({'resume': 'nowhere.npz'}, 'no checkpoint nowhere.npz'),
    ],
)
def test_wrong_values_of_fit_are_refused_before_a_run_begins(tmp_path, values, says):
    net, _ = small()
    data = Batches(np.zeros((4, 32, 32, 3), np.uint8), np.arange(4), 2, (0,) * 3, (1,) * 3)
    settings = {name: values.pop(name) for name in ('accumulate', 'resume') if name in values}
    arguments = {
        'train': data,
        'test': data,
        'config': TrainConfig(num_epochs=1, lr_mode='constant', **settings),
        'run': RunFolder(tmp_path / 'run', {}),
        'task': Classification(10),
        **values,
    }
    with refused(says, (ValueError, FileNotFoundError)):
        fit(net, **arguments)
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
    'values, says',
    [
        ({'optimizer': 'nestrov'}, "optimizer must be one of nesterov, adagrad, adamw, got 'nestrov'"),
        ({'optimizer': mx.optimizer.SGD()}, 'optimizer must be one of nesterov, adagrad, adamw, got <'),
        ({'dtype': 'float64'}, 'dtype must be one of'),
        ({'seed': 2**32}, 'seed must be 0 or more and at most'),
        ({'num_epochs': '2'}, "num_epochs must be a whole number, 1 or more, got '2'"),
        ({'worker_timeout': 0}, 'worker_timeout must be a finite number, above 0, got 0'),
        ({'lr': True}, 'lr must be a finite number'),
        ({'lr_decay_epoch': 3}, 'lr_decay_epoch must be numbers of epochs'),
    ],
)
def test_a_config_in_python_has_the_ranges_of_the_flags(values, says):
    with refused(says):
        TrainConfig(**values)


def test_every_field_of_a_config_is_a_flag_and_a_subclass_may_set_another_default():
    settings = parse(train_stopsign.Config, ['--data-dir', 'coco', '--patience', '9', '--kvstore', 'dist_sync'])
    assert settings.lr == 0.01 and settings.worker_timeout == 9 and settings.typed['worker_timeout'] == '--patience'
    assert settings.arguments() == train_stopsign.Config(save_dir='elsewhere', kvstore='dist_sync').arguments()
    assert TrainConfig() == parse(TrainConfig, []) and TrainConfig().lr == 0.1


def test_labels_that_are_no_classes_are_refused():
    for label in ([0, 5], [-1, 0]):
        with refused('Labels must be 0 to 4, as the network has 5 classes, got'):
            Classification(5).encode(np.array(label))
    masks = np.array([[[-1, 0], [1, 2]]])
    assert Segmentation(3).encode(masks) is masks
    for wrong in (masks + 1, masks - 1):
        with refused('Labels must be 0 to 2'):
            Segmentation(3).encode(wrong)


def test_few_images_and_one_epoch_shorten_what_was_not_asked_for_and_say_so(tmp_path, capsys):
    best = train_cifar.main(
        [*'--width 1 --train-images 20 --test-images 10 --num-epochs 1 --save-dir'.split(), str(tmp_path / 'run')]
    )
    err = capsys.readouterr().err
    assert 'There are 20 training images, so --batch-size is 10 instead of 32.' in err
    assert '--warmup-epochs is 0 instead of 1, as --num-epochs is 1 and an epoch has 2 updates.' in err
    assert best['epoch'] == 1 and read_checkpoint(checkpoints(str(tmp_path / 'run'))[0])[1].updates == 2


def test_a_loss_that_explodes_at_once_says_that_nothing_was_saved(tmp_path):
    with pytest.raises(FloatingPointError, match='epoch 1; nothing was saved yet. Try a lower --lr') as caught:
        train_cifar.main(
            [*FEW, '--batch-size', '8', '--lr', '1e30', '--warmup-epochs', '0', '--save-dir', str(tmp_path / 'run')]
        )
    assert '\n' not in str(caught.value) and not checkpoints(str(tmp_path / 'run'))


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """The flags of a short run that has ended, with a schedule that can be prolonged."""
    flags = [*FEW, '--lr-mode', 'step', '--save-dir', str(tmp_path_factory.mktemp('faults') / 'run')]
    train_cifar.main(flags)
    return flags


def copied(run, tmp_path):
    shutil.copytree(run[-1], tmp_path / 'run')
    return [*run[:-1], str(tmp_path / 'run')]


def test_the_authors_flags_are_taken(run, tmp_path):
    args = parse(train_imagenet.Config, ['--num-layer', '50', '--r', '16', '--model', 'iaff_resnet50'])
    assert (args.num_layer, args.reduction) == (50, 16)
    assert (
        parse(train_cifar.Config, ['--r', '2']).reduction
        == parse(train_stopsign.Config, ['--data-dir', 'x', '--r', '2']).reduction
        == 2
    )


def test_small_images_have_a_teacher_a_last_gamma_and_a_backbone_rate(run, tmp_path):
    """The backbone at 0 stays as it began, while a teacher is learnt from."""
    weights = os.path.join(run[-1], 'best.params')
    flags = [
        *FEW,
        *'--num-epochs 1 --backbone-lr 0 --pretrained'.split(),
        weights,
        *'--teacher cifar_aff_resnet8 --teacher-weights'.split(),
        weights,
        '--save-dir',
        str(tmp_path / 'run'),
    ]
    with refused('another network'):  # its width is 1, and the teacher's is not
        train_cifar.main(flags)
    flags[flags.index('cifar_aff_resnet8')] = 'fashion_mnist_aff_resnet8'
    train_cifar.main(flags)
    arrays, progress = read_checkpoint(checkpoints(str(tmp_path / 'run'))[0])
    assert progress.arguments['teacher'] == 'fashion_mnist_aff_resnet8'
    assert sorted(name for name in arrays if name.startswith('optimizer/')) == [
        'optimizer/output.bias/0',
        'optimizer/output.weight/0',
    ]
    before = read_checkpoint(checkpoints(run[-1])[0])[0]
    assert progress.epoch == 2 and all(
        (arrays[name] == mx.nd.load(weights)[name[11:]].asnumpy()).all()
        for name in before
        if name.startswith('parameters/stage')
    )
    best = parse(train_cifar.Config, ['--last-gamma', '--model', 'cifar_aff_resnext38_32x4d'])
    assert best.last_gamma


# Folders


def test_a_second_run_in_a_folder_is_refused_from_the_first_moment(tmp_path):
    """Before the first checkpoint; and a killed run keeps nobody out."""
    first = start(SHORT_RUN, tmp_path, '--slow', 0.5, '--epochs', 9)
    until = time.monotonic() + 60
    while not (tmp_path / 'log.txt').exists() and time.monotonic() < until:
        time.sleep(0.05)
    for more in ([], ['--resume'], ['--overwrite']):
        with refused(f'Another run is writing to {tmp_path}; wait for its end'):
            train_cifar.main([*FEW, '--save-dir', str(tmp_path), *more])
    assert not checkpoints(str(tmp_path)) and first.poll() is None
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    train_cifar.main([*FEW, '--num-epochs', '1', '--save-dir', str(tmp_path)])
    assert [line.split(']')[0] for line in (tmp_path / 'log.txt').read_text().splitlines()] == ['[Epoch 1']


def test_overwriting_leaves_nothing_of_the_old_run_once_the_new_begins(run, tmp_path):
    copied(run, tmp_path)
    folder = tmp_path / 'run'
    for name in ('tensorboard', 'overlays'):
        (folder / name).mkdir()
        (folder / name / 'old').touch()
    (folder / 'skipped.txt').write_text('old')
    (folder / 'notes.md').write_text('mine')
    RunFolder(folder, {}).begin(fresh=True)
    assert sorted(os.listdir(folder)) == ['.run.lock', 'log.txt', 'notes.md', 'run.yaml']
    assert not (folder / 'log.txt').read_text()


def test_a_log_or_a_network_that_no_run_of_ours_wrote_is_not_overwritten(run, tmp_path):
    (tmp_path / 'log.txt').write_text("somebody's")
    with refused('holds a run'):
        train_cifar.main([*FEW, '--save-dir', str(tmp_path)])
    assert (tmp_path / 'log.txt').read_text() == "somebody's"
    flags = copied(run, tmp_path)
    for path in checkpoints(flags[-1]):
        os.remove(path)
    with refused('holds a run without a checkpoint to resume from'):
        train_cifar.main([*flags, '--resume'])
    assert (tmp_path / 'run' / 'best.params').exists()


@pytest.mark.parametrize('file', ['best.params', 'checkpoint-00000004.npz'])
def test_a_full_disk_ends_the_run_in_a_sentence_and_keeps_every_file_whole(run, tmp_path, file):
    """A limit on the size of files stands for the disk."""
    resource = pytest.importorskip('resource')
    flags = copied(run, tmp_path)
    before = (tmp_path / 'run' / 'best.params').read_bytes()
    room = os.path.getsize(os.path.join(flags[-1], file)) - 100
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        with refused('The run cannot be saved in .*; make room there'):
            train_cifar.main([*flags, '--overwrite'])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not [name for name in os.listdir(flags[-1]) if name.endswith('.part')]
    for path in checkpoints(flags[-1]):
        read_checkpoint(path)
    assert file == 'best.params' or len((tmp_path / 'run' / 'best.params').read_bytes()) == len(before)


# Checkpoints


@pytest.fixture(scope='module')
def checkpoint(run):
    return checkpoints(run[-1])[0]


def rewritten(checkpoint, path, change, save=np.savez):
    """A checkpoint of which `change` has changed the arrays."""
    with np.load(checkpoint) as file:
        arrays = dict(file)
    change(arrays)
    save(path, **arrays)
    return str(path)


def progress_of(checkpoint, path, **fields):
    def change(arrays):
        progress = {**json.loads(arrays['progress'].tobytes()), **fields}
        arrays['progress'] = np.frombuffer(json.dumps(progress).encode(), np.uint8)

    return rewritten(checkpoint, path, change)


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 10**10),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=3), st.text(max_size=3)),
)


@settings(max_examples=12)
@given(name=st.sampled_from(sorted(Progress.__dataclass_fields__)), value=VALUES)
def test_progress_of_any_other_type_or_range_is_one_sentence(checkpoint, run, tmp_path_factory, name, value):
    path = tmp_path_factory.mktemp('progress') / 'c.npz'
    progress_of(checkpoint, path, **{name: value})
    if read_checkpoint(checkpoint)[1].__dict__[name] == value and type(value) is not bool:
        return
    with refused('c.npz .*'):
        train_cifar.main([*run, '--resume', str(path)])


@pytest.mark.parametrize(
    'fields, says',
    [
        ({'batch': -1}, 'its batch is -1'),
        ({'batch': 1}, 'do not fit together'),
        ({'updates': 3}, 'do not fit together'),
        ({'epoch': 9}, 'history is not of 8'),
        ({'sums': dict.fromkeys(SUMS, 1)}, 'do not fit together'),
        ({'history': [{'epoch': 1}, {'epoch': 2}], 'best': {'epoch': 1}}, 'do not fit together'),
        ({'extra': 1}, 'other fields'),
        ({'sums': dict.fromkeys(SUMS, 10**400)}, 'says that'),
        ({'arguments': {'accumulate': 'x' * 9999}}, r"--accumulate was 'x{20,40}[.]+x{20,40}' and is 1"),
    ],
)
def test_progress_that_contradicts_the_run_is_one_sentence(checkpoint, run, tmp_path, fields, says):
    path = progress_of(checkpoint, tmp_path / 'c.npz', **fields)
    with refused(f'c.npz .*{says}'):
        train_cifar.main([*run, '--resume', path])


def test_a_flag_that_is_newer_than_the_checkpoint_had_its_default(checkpoint, run, tmp_path):
    flags = copied(run, tmp_path)
    arguments = read_checkpoint(checkpoint)[1].arguments
    del arguments['accumulate']
    path = progress_of(checkpoint, tmp_path / 'c.npz', arguments=arguments)
    train_cifar.main([*flags, '--resume', path])
    with refused('--accumulate was 1 and is 2'):
        train_cifar.main([*flags, '--resume', path, '--accumulate', '2'])


def test_states_that_are_missing_or_another_networks_are_one_sentence(checkpoint, run, tmp_path):
    for change, says in (
        (lambda arrays: arrays.pop('optimizer/output.weight/0'), 'lacks the optimizer state of output.weight'),
        (lambda arrays: arrays.update({'optimizer/output.weight/1': np.zeros(3)}), 'an unknown optimizer state'),
        (lambda arrays: arrays.update({'optimizer/output.bias/0': np.zeros(3)}), 'optimizer state of output.bias'),
        (lambda arrays: arrays.pop('parameters/output.bias'), 'another network: output.bias differs'),
        (lambda arrays: arrays.pop('progress'), 'not a checkpoint'),
    ):
        with refused(says):
            train_cifar.main([*run, '--resume', rewritten(checkpoint, tmp_path / 'c.npz', change)])


def test_a_checkpoint_takes_no_more_memory_than_its_file_has(checkpoint, run, tmp_path):
    """A compressed gigabyte, a header that says 20 GB, arrays that overlap, 100,000 fields of JSON in a row."""
    bomb = rewritten(
        checkpoint,
        tmp_path / 'bomb.npz',
        lambda arrays: arrays.update({'parameters/output.weight': np.zeros(1 << 26, np.float32)}),
        np.savez_compressed,
    )
    content = bytearray(open(checkpoint, 'rb').read())
    at, wide = content.index(b"'shape': (10, 64), }"), b"'shape': (80000000, 64), }"
    content[at : at + len(wide)] = wide
    (tmp_path / 'header.npz').write_bytes(content)
    with zipfile.ZipFile(tmp_path / 'overlap.npz', 'w') as file:
        file.writestr('progress.npy', b'\0' * 100_000)
        for number in range(50):
            file.filelist.append(copy.copy(file.filelist[0]))
            file.filelist[-1].filename = f'{number}.npy'
    deep = rewritten(
        checkpoint,
        tmp_path / 'deep.npz',
        lambda arrays: arrays.update({'progress': np.frombuffer(b'[' * 100_000, np.uint8)}),
    )
    tracemalloc.start()
    try:
        for path in (bomb, tmp_path / 'header.npz', tmp_path / 'overlap.npz', deep):
            with refused('not a checkpoint, or is damaged'):
                train_cifar.main([*run, '--resume', str(path)])
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
    finally:
        tracemalloc.stop()
    os.mkfifo(tmp_path / 'fifo.npz')
    with refused('There is no checkpoint', FileNotFoundError):
        read_checkpoint(str(tmp_path / 'fifo.npz'))


def test_restoring_holds_one_array_at_a_time(tmp_path):
    net, trainer = small(width=8, momentum=0.9)
    step(net, trainer)
    path = str(tmp_path / 'c.npz')
    write_checkpoint(path, net, trainer, Progress(updates=1))
    other, fresh = small(width=8, momentum=0.9, begin_num_update=1)
    largest = max(np.prod(p.shape) * 4 for p in net.collect_params().values())
    tracemalloc.start()
    try:
        arrays, _ = read_checkpoint(path)
        restore_parameters(other, arrays, path)
        restore_optimizer(other, fresh, arrays)
        assert tracemalloc.get_traced_memory()[1] < 4 * largest + (4 << 20) < os.path.getsize(path)
    finally:
        tracemalloc.stop()


# Data sets


def photographs(folder, names=('a', 'b'), count=6):
    for number, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = np.random.RandomState([number, i]).randint(0, 256, (40, 40, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f'{i}.png')


def loaders(folder):
    folders = image_folders(str(folder))
    return folders.train.class_names, *(
        Images(files, 32, 2, (0,) * 3, (1,) * 3) for files in (folders.train, folders.val)
    )


def test_a_data_set_is_known_by_its_classes_and_images_wherever_it_lies(tmp_path):
    photographs(tmp_path / 'one' / 'train')
    photographs(tmp_path / 'one' / 'val', count=2)
    original = identity(*loaders(tmp_path / 'one'))
    shutil.copytree(tmp_path / 'one', tmp_path / 'elsewhere' / 'two')
    assert identity(*loaders(tmp_path / 'elsewhere' / 'two')) == original
    os.chdir(tmp_path)
    try:
        assert identity(*loaders('one')) == original
    finally:
        os.chdir(TOP)
    (tmp_path / 'one' / 'train' / 'a' / '0.png').rename(tmp_path / 'one' / 'train' / 'a' / 'zero.png')
    renamed = identity(*loaders(tmp_path / 'one'))
    assert renamed['classes'] == original['classes'] and renamed['images'] != original['images']
    (tmp_path / 'elsewhere' / 'two' / 'val' / 'a' / '1.png').rename(
        tmp_path / 'elsewhere' / 'two' / 'val' / 'b' / '2.png'
    )
    assert identity(*loaders(tmp_path / 'elsewhere' / 'two'))['images'] != original['images']


def test_records_are_known_by_their_images_wherever_they_lie(tmp_path):
    def written(name, count, seed=0):
        file = mx.recordio.MXRecordIO(str(tmp_path / name), 'w')
        for number in range(count):
            pixels = np.random.RandomState([seed, number]).randint(0, 256, (40, 40, 3)).astype(np.uint8)
            file.write(mx.recordio.pack_img((0, number % 2, number, 0), pixels))
        file.close()
        return Images(RecordFile(str(tmp_path / name)), 32, 2, (0,) * 3, (1,) * 3)

    digests = [
        identity(['a', 'b'], written(*arguments))['images']
        for arguments in (('train.rec', 6), ('moved.rec', 6), ('fewer.rec', 5), ('others.rec', 6, 1))
    ]
    assert digests[0] == digests[1] and len(set(digests)) == 3


DATA = {'classes': ['a', 'b'], 'images': '00'}


@pytest.mark.parametrize(
    'data, says',
    [
        ({'images': '11'}, 'the list of its images has changed'),
        ({'classes': ['b', 'a']}, "its class 0 was 'a' and is 'b'"),
        ({'classes': ['a']}, 'the number of its classes was 2 and is 1'),
    ],
)
def test_resuming_on_another_data_set_is_refused_and_on_one_that_moved_is_not(data, says):
    def arguments(flags, data):
        return run_arguments(parse(train_imagenet.Config, flags), Workers(), data)

    saved = arguments(['--use-rec', '--rec-train', 'a.rec', '--rec-val', 'b.rec', '--save-dir', 'x'], DATA)
    moved = ['--use-rec', '--rec-train', 'c.rec', '--rec-val', 'd.rec', '--rec-val-idx', 'd.idx']
    check_arguments(saved, arguments(moved, DATA), 'c.npz')
    with refused(f'c.npz is from a run on another data set .{says}.; name the same one'):
        check_arguments(saved, arguments(moved, {**DATA, **data}), 'c.npz')


def test_a_run_is_not_resumed_on_other_images(run, tmp_path):
    flags = copied(run, tmp_path)
    with refused('--train-images was 64 and is 60|another data set'):
        train_cifar.main([*flags, '--resume', '--train-images', '60'])


@pytest.mark.parametrize('method', ['save_epoch', 'save_best', 'save_checkpoint'])
def test_what_ends_at_any_write_of_the_first_epoch_goes_on(run, tmp_path, monkeypatch, method):
    """As if killed: the error is none that a run handles."""
    flags, write = [*run[:-1], str(tmp_path / 'run')], getattr(RunFolder, method)

    def killed(self, *arguments, **options):
        if method != 'save_checkpoint' or arguments[-1].epoch > 1:
            raise SystemExit
        write(self, *arguments, **options)

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(RunFolder, method, killed)
        train_cifar.main(flags)
    train_cifar.main([*flags, '--resume'])
    same(trained(flags[-1]), trained(run[-1]))


def test_a_signal_during_the_evaluation_ends_after_it(run, tmp_path, monkeypatch):
    def signalled(*arguments, **options):
        os.kill(os.getpid(), signal.SIGTERM)
        return evaluate(*arguments, **options)

    flags = [*run[:-1], str(tmp_path / 'run')]
    with monkeypatch.context() as patch, pytest.raises(Stopped, match='Stopped after 2 updates'):
        patch.setattr('gluon_aff.train.loop.evaluate', signalled)
        train_cifar.main(flags)
    train_cifar.main([*flags, '--resume'])
    same(trained(flags[-1]), trained(run[-1]))


def test_a_checkpoint_goes_on_where_the_best_epoch_is(run, checkpoint, tmp_path):
    flags = [*run[:-1], str(tmp_path / 'run'), '--resume', checkpoint]
    with refused(f'{checkpoint} is of a run whose best epoch, [12], is not in {tmp_path / "run"}; give the --save-dir'):
        train_cifar.main(flags)
    (tmp_path / 'run').mkdir(exist_ok=True)
    for name in ('best.params', 'model.json'):
        shutil.copy(os.path.join(run[-1], name), tmp_path / 'run')
    train_cifar.main(flags)


# Longer runs


def test_a_run_is_prolonged_if_its_schedule_does_not_end_with_it(run, tmp_path):
    flags = copied(run, tmp_path)
    train_cifar.main([*flags, '--num-epochs', '3', '--resume'])
    train_cifar.main([*run[:-1], str(tmp_path / 'whole'), '--num-epochs', '3'])
    prolonged, whole = trained(flags[-1]), trained(tmp_path / 'whole')
    for _, progress in (prolonged, whole):
        progress.arguments.pop('num_epochs')
    same(prolonged, whole)
    with refused('has trained 3 epochs, more than the 2 asked for'):
        train_cifar.main([*flags, '--resume'])


@pytest.mark.parametrize(
    'arguments, says',
    [
        ({'lr_mode': 'cosine'}, '--lr-mode cosine ends with the last epoch'),
        ({'lr_mode': 'poly'}, '--lr-mode poly ends'),
        ({'lr_mode': 'step', 'lr_decay_epoch': [2]}, 'decays at epoch 2'),
        ({'lr_mode': 'step', 'lr_decay_period': 1}, 'decays at epoch 2'),
        ({'lr_mode': 'constant', 'warmup_epochs': 2}, 'warm-up was shortened'),
        ({'lr_mode': 'constant', 'mixup': True, 'mixup_off_epoch': 1}, 'counts from the last epoch'),
    ],
)
def test_a_run_that_cannot_be_prolonged_is_refused_with_what_to_do(arguments, says):
    saved = {'num_epochs': 2, **arguments}
    with refused(f'with --num-epochs 2, which cannot become 6, as .*{says}.*start another run'):
        check_arguments(saved, {**saved, 'num_epochs': 6}, 'c.npz')


# Commands


def test_the_command_at_the_end_of_a_resumed_run_runs_it_again(run, tmp_path, capsys):
    flags = copied(run, tmp_path)
    train_cifar.main([*flags, '--resume'])
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith(f'To run it again in its place: {python()} train_cifar.py ') and '--resume' not in line
    argv = shlex.split(line.partition('train_cifar.py ')[2])
    train_cifar.main(argv)
    same(trained(flags[-1]), trained(run[-1]))
    command = json.loads((tmp_path / 'run' / 'model.json').read_text())['command']
    assert line.endswith(f': {command} --overwrite')


@pytest.mark.parametrize(
    'argv',
    [
        ['--resume', 'x.npz', '--lr', '1', '--overwrite'],
        ['--lr', '1', '--resume'],
        ['--resume=x.npz', '--lr', '1'],
        ['--lr', '1', '--overwrite'],
        ['--resume', '--lr', '1'],
    ],
)
def test_resume_and_overwrite_are_left_out_of_a_command(argv):
    assert starting(argv) == ['--lr', '1'] and resuming(argv) == ['--lr', '1', '--resume']


def test_a_command_has_the_launcher_of_several_workers(monkeypatch):
    for name in ('DMLC_ROLE', 'GLUON_AFF_LAUNCHER', 'HOROVOD_SIZE'):
        monkeypatch.delenv(name, raising=False)
    assert launched(['python', 'a b.py']) == "python 'a b.py'"
    own = ['-n', '2', '--num-servers=1', '--launcher', 'local', '--p3']
    assert _own_flags([*own, 'python', 'x.py', '-n', '3']) == own
    monkeypatch.setenv('HOROVOD_SIZE', '4')
    assert launched(['python', 'x.py']) == 'horovodrun -np 4 python x.py'
    monkeypatch.setenv('DMLC_ROLE', 'worker')
    monkeypatch.setenv('DMLC_NUM_WORKER', '3')
    monkeypatch.setenv('DMLC_NUM_SERVER', '2')
    assert launched(['python', 'x.py']) == (
        'python -m gluon_aff.train.launch -n 3 -s 2 --launcher ssh -H hosts python x.py'
    )
    monkeypatch.setenv('GLUON_AFF_LAUNCHER', 'python -m gluon_aff.train.launch -n 3 --launcher local')
    assert launched(['python', 'x.py']) == 'python -m gluon_aff.train.launch -n 3 --launcher local python x.py'
