"""Mistakes on the command line: one sentence on standard error, the right exit status, never a traceback."""

import argparse
import gc
import io
import json
import os
import re
import resource
import signal
import subprocess
import sys

import mxnet as mx
import numpy as np
import pytest
from PIL import Image
from programs import TOP, finish, start

import gluon_aff
import train_cifar
import train_imagenet
import train_stopsign
from gluon_aff.deploy import export
from gluon_aff.program import progress_bar
from gluon_aff.train import run_script
from gluon_aff.train.script import make_parser
from model_zoo import get_model, model_info
from model_zoo.cli import main
from model_zoo.loading import load_model

PROGRAM = 'import gluon_aff_start; raise SystemExit(gluon_aff_start.main())'  # gluon-aff
SCRIPTS = {'cifar': train_cifar, 'imagenet': train_imagenet, 'stopsign': train_stopsign}


@pytest.fixture(scope='module')
def top(tmp_path_factory):
    """A folder of what the mistakes are made with; the name of it has a space."""
    top = tmp_path_factory.mktemp('all mistakes')
    random = np.random.RandomState(0)
    for name in ('pictures/a.png', 'pictures/b.png', 'classes/x/a.png', 'classes/x/b.png'):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.randint(0, 256, (32, 32, 3), np.uint8)).save(top / name)
    for name in ('classes2/x/a.png', 'classes2/x/b.png', 'classes2/y/a.png', 'classes2/y/b.png', 'large.png'):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.randint(0, 256, (90, 90, 3), np.uint8)).save(top / name)
    (top / 'empty').mkdir()
    (top / 'text').write_text('not a picture')
    (top / 'broken.png').write_text('not a picture')
    (top / 'broken.npz').write_text('not a checkpoint')
    mx.random.seed(0)
    options = {'classes': 3, 'width': 1}
    net = get_model('cifar_aff_resnet8', **options)
    net.initialize(mx.init.Xavier())
    spec = model_info('cifar_aff_resnet8').spec
    description = {
        **spec.to_json(),
        'model': spec.name,
        'options': options,
        'class_names': ['cat', 'dog', 'owl'],
        'dataset': 'animals',
        'parameters': 'best.params',
        'epoch': 7,
        'accuracy': 0.75,
    }
    for name in ('run', 'torn', 'lost', 'cut'):
        (top / name).mkdir()
        (top / name / 'model.json').write_text(json.dumps(description)[: 99 if name == 'torn' else None])
    net.save_parameters(str(top / 'run' / 'best.params'))
    (top / 'cut' / 'best.params').write_bytes((top / 'run' / 'best.params').read_bytes()[:-99])
    (top / 'run' / 'log.jsonl').write_text('{"epoch": 8}\n{"epoch": 9}\n')
    export(load_model(str(top / 'run')), str(top / 'exported'), ['symbol'])
    pyramid = get_model('fpn_add_resnet8')
    pyramid.initialize(mx.init.Xavier())
    pyramid.save_parameters(str(top / 'fpn.params'))
    return top


COMMANDS = """
 | the following arguments are required: COMMAND
pedict run pictures | invalid choice: 'pedict' .* did you mean predict?
predict | the following arguments are required: NAME, IMAGE
predict run pictures --topk 3 | unrecognized arguments: --topk 3, did you mean --top-k?
predict run pictures --top-k | --top-k: expected one argument
predict run pictures --top-k 0 | --top-k must be a whole number, 1 or more, got 0
predict run pictures --top-k many | --top-k must be a whole number, 1 or more, got many
predict run pictures --format cvs | --format: invalid choice: 'cvs' .* did you mean csv?
predict run pictures --batch-size -1 | --batch-size must be a whole number
predict run pictures --gpu 99 | --gpu 99 is not there: MXNet finds
predict run pictures --gpu first | --gpu: invalid int value: 'first'
predict run pictures --gpu 0 --backend opencv | --gpu is for MXNet
predict run pictures --backend opencv | export it for opencv
predict run pictures --backend tensorrt | --backend: invalid choice
predict run pictures -o out | -o is for segmentation networks
predict run nothing.png | There is no file nothing.png
predict run no/*.png | No file fits no/\\*.png
predict run empty | a folder without one
predict run broken.png | broken.png is not an image
predict run - | Standard input is not an image
predict iaff_resnet5 pictures | Unknown model 'iaff_resnet5'; did you mean
predict runs/1 pictures | There is no folder runs/1
predict empty pictures | empty is not a training run's folder
predict torn pictures | torn/model.json cannot be read as JSON
predict lost pictures | There is no file lost/best.params|no parameter file|lost
predict cut pictures | cut/best.params
predict exported pictures --weights run/best.params | leave the weights out
predict exported pictures --backend onnxruntime | exported holds no onnx file
predict fashion_mnist_aff_resnet8 pictures --weights typo | 'typo' is neither a parameter file nor a tag
predict iaff_resnet152 pictures --weights typo | There is no parameter file 'typo'
predict iaff_resnet152 pictures | No parameters are released for iaff_resnet152
predict cifar_aff_resnet8 pictures --weights no.params | There is no parameter file no.params
predict cifar_aff_resnet8 pictures --weights broken.png | broken.png
predict cifar_iaff_resnet8 pictures --weights run/best.params | another network
predict fpn_add_resnet8 pictures --weights fpn.params | give -o
predict fpn_add_resnet8 pictures --weights fpn.params -o out --top-k 3 | --top-k is for classification
predict fpn_add_resnet8 pictures --weights fpn.params -o text | text
export run | -o/--output
export run -o text | text exists and is not an exported folder
export run -o pictures | pictures exists and is not an exported folder
export run -o text/out | cannot be written|cannot be read or written
export run -o out --format onxn | Unknown format 'onxn'; did you mean onnx
export run -o out --calibrate pictures | --calibrate is for INT8
export run -o out --format int8 | INT8 needs images
export run -o out --format int8 --calibrate empty | holds no image
export run -o out --float-nodes 1.5 | --float-nodes must be a whole number, 0 or more, or auto
export exported -o out | is an exported folder
gradcam broken.png --models run -o a.png | broken.png is not an image
gradcam pictures --models run -o a.txt | -o names a .*file, got 'a.txt'
gradcam pictures -o a.png | --models
gradcam pictures --models rnu -o a.png | Unknown model 'rnu'
gradcam pictures --models run -o a.png --label cat dog owl | --label takes one class for all images, or 2
gradcam pictures --models run -o a.png --label cow | cow
gradcam pictures --models run -o text/a.png --label cat | text
gradcam pictures --models run -o a.png --method gradcam | did you mean grad_cam
info iaff-resnet5 | Unknown model 'iaff-resnet5'; did you mean
info empty | empty is not a training run's folder
info torn | torn/model.json cannot be read as JSON
list nothing* | No network fits
compare --no-speed --batch 2 | --batch is for the speed
compare aff_resnet5 --no-speed | Unknown model
compare --gpu 99 | --gpu 99 is not there
download nothing* | No network with released parameters fits
verify nothing.params | nothing.params
verify broken.png | broken.png
verify run/best.params --model aff_resnet5 | Unknown model
records nothing -o out | nothing
records classes -o out | classes needs train/ and val/ .*, or set --val-fraction
records classes -o out --val-fraction 0.5 | one class folder
records classes -o out --quality 200 | --quality must be a whole number, 1 to 100
records classes -o out --val-fraction 2 | --val-fraction must be a number between 0 and 1
report -o text | text
embed run nothing.png -o a.npz | There is no file nothing.png
embed run pictures -o text/a.npz | text
evaluate run nothing | nothing
evaluate run classes2 --backend mxnt | mxnt
convert run -o a.txt | -o a.txt must end in one of
train cfar | script: invalid choice: 'cfar' .* did you mean cifar
train cifar --modle x | unrecognized arguments: --modle
train imagenet | Give --data-dir
finetune nothing | nothing
finetune empty | empty
completion csh | shell: invalid choice: 'csh' .* did you mean tcsh
"""
TRAINING = """
cifar --lr fast | --lr must be a finite number, .* got fast
cifar --lr -1 | --lr must be
cifar --modle cifar_aff_resnet8 | unrecognized arguments: --modle cifar_aff_resnet8, did you mean --mode or --model[?]
cifar --model cifar_aff_resnet9 | Unknown model 'cifar_aff_resnet9'; did you mean
cifar --model fpn_aff_resnet20 | --model fpn_aff_resnet20 segments images
cifar --dataset minst | --dataset: invalid choice: 'minst'
cifar --dataset fashion_mnist --data-dir nothing | nothing
cifar --dataset cifar10 --data-dir text | text
cifar --num-gpus 99 | --num-gpus 99, but MXNet finds
cifar --dtype float16 | --dtype float16 needs --num-gpus
cifar --kvstore dist_sync | --kvstore dist_sync is for processes that a launcher starts
cifar --kvstore horovod | Horovod
cifar --save-dir text | The run cannot be saved in text
cifar --save-dir text/run | The run cannot be saved in text/run
cifar --save-dir run | run holds a run; give --resume
cifar --resume nothing.npz | nothing.npz
cifar --resume broken.npz | broken.npz
cifar --lr-decay 0.5 | --lr-decay is of no use without --lr-mode step
cifar --resume --overwrite | --overwrite is of no use with --resume
cifar --batch-size 1 | --batch-size must be 2 or more
cifar --batch-size 99999 | --batch-size must be 2 to
cifar --pretrained typo | typo
cifar --fusion afff | afff
cifar --teacher cifar_aff_resnet9 | Unknown model
cifar --num-epochs 3,5 | --num-epochs must be a whole number
cifar --mixup --mixup-off-epoch 99 | --mixup-off-epoch must be below
imagenet | Give --data-dir
imagenet --data-dir nothing | nothing
imagenet --data-dir empty | There is no folder empty/train; empty needs train/ and val/
imagenet --data-dir classes --val-fraction 0.5 | one class folder
imagenet --use-rec | --use-rec needs --rec-train and --rec-val
imagenet --use-rec --rec-train no.rec --rec-val no.rec | no.rec
imagenet --data-dir classes --crop-ratio 2 | --crop-ratio must be
stopsign | --data-dir
stopsign --data-dir nothing | nothing
stopsign --data-dir empty --model aff_resnet50 | --model aff_resnet50 classifies whole images
"""


def cases(text):
    rows = [line.split(' | ', 1) for line in text.split('\n')[1:-1]]
    return [pytest.param(*row, id=row[0] or 'nothing') for row in rows]


def check(err, says, start=''):
    (line,) = err.splitlines()
    assert line.startswith(start) and re.search(says, line), err


@pytest.mark.parametrize('command, says', cases(COMMANDS))
def test_a_command(command, says, top, capsys, monkeypatch):
    monkeypatch.chdir(top)
    monkeypatch.setattr('sys.stdin', open(os.devnull))
    before = sorted(path for path in top.rglob('*'))
    try:
        status = main(command.split())
    except SystemExit as ended:  # of train and finetune
        status = ended.code
    out, err = capsys.readouterr()
    assert status == 2 and out == ''
    check(err, says, 'gluon-aff')
    assert sorted(path for path in top.rglob('*')) == before, 'nothing is left'


@pytest.mark.parametrize('command, says', cases(TRAINING))
def test_a_script(command, says, top, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(top)
    name, *flags = command.split()
    few = '--train-images 20 --test-images 20'.split() if name == 'cifar' else []
    save_dir = [] if '--save-dir' in flags else ['--save-dir', str(tmp_path / 'new')]
    monkeypatch.setattr('sys.argv', [f'train_{name}.py', *few, *flags, *save_dir])
    with pytest.raises(SystemExit) as ended:
        run_script(f'train_{name}.py', SCRIPTS[name].main)
    out, err = capsys.readouterr()
    assert ended.value.code == 2 and out == '' and not (tmp_path / 'new').exists()
    check(err.splitlines()[-1], says, f'train_{name}.py: ')
    assert 'Traceback' not in err and all(line.startswith(('--', 'There are 20')) for line in err.splitlines()[:-1])


@pytest.fixture
def small_disk(monkeypatch):
    """No file may be larger than some bytes; writing on is an error, as on a full disk."""
    ignored = []
    monkeypatch.setattr('sys.unraisablehook', lambda error: ignored.append(error.exc_value))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    gc.collect()
    assert not ignored, 'Python prints a traceback for each of these'


@pytest.mark.parametrize(
    'command',
    [
        'export run -o {out}',
        'export run -o {out} --format onnx',
        'gradcam pictures --models run -o {out}/a.png',
        'gradcam pictures --models run -o {out}/a.pdf',
        'records classes2 -o {out} --val-fraction 0.5',
        'report -o {out}',
        'embed run pictures -o {out}/a.npz',
        'predict fpn_add_resnet8 large.png --weights fpn.params -o {out}',
    ],
)
def test_a_full_disk(command, top, tmp_path, capsys, monkeypatch, small_disk):
    if 'onnx' in command:
        pytest.importorskip('onnx')
    monkeypatch.chdir(top)
    status = main(command.format(out=tmp_path / 'out').split())
    out, err = capsys.readouterr()
    assert status == 2 and not [path for path in tmp_path.rglob('*') if path.is_file()]
    check(err, 'File too large|could not be written whole', 'gluon-aff: ')


def test_a_full_disk_ends_a_run_with_one_sentence(top, tmp_path, capsys, monkeypatch, small_disk):
    flags = '--train-images 20 --test-images 20 --width 1 --num-epochs 1'.split()
    monkeypatch.setattr('sys.argv', ['train_cifar.py', *flags, '--save-dir', str(tmp_path / 'run')])
    with pytest.raises(SystemExit) as ended:
        run_script('train_cifar.py', train_cifar.main)
    out, err = capsys.readouterr()
    assert ended.value.code == 2 and len(out.splitlines()) == 5
    check(err.splitlines()[-1], 'The run cannot be saved in .*File too large', 'train_cifar.py: ')


def test_a_full_standard_output_is_one_sentence():
    with open('/dev/full', 'w') as full:
        program = start('-c', PROGRAM, 'list', stdout=full, PYTHONUNBUFFERED='')
        status, _, err = finish(program)
    assert status == 2
    check(err, 'Standard output cannot be written to: No space left on device')


@pytest.mark.parametrize(
    'program, name',
    [
        (['-c', PROGRAM], '-c'),
        pytest.param(
            ['-m', 'model_zoo', 'list'],
            'gluon-aff',
            marks=pytest.mark.skipif(sys.version_info < (3, 10), reason='sys.orig_argv is of Python 3.10'),
        ),
        *(([TOP / f'train_{name}.py'], f'train_{name}.py') for name in SCRIPTS),
    ],
)
def test_ctrl_c_while_mxnet_is_imported(program, name, tmp_path):
    (tmp_path / 'mxnet').mkdir()
    (tmp_path / 'mxnet' / '__init__.py').write_text('import time\nprint("now", flush=True)\ntime.sleep(60)')
    process = start(*program, PYTHONPATH=f'{tmp_path}{os.pathsep}{TOP}')
    assert process.stdout.readline() == 'now\n'
    process.send_signal(signal.SIGINT)
    assert finish(process) == (130, '', f'{name}: Stopped.\n')


def test_ctrl_c_in_a_command_is_one_sentence_whatever_a_compiled_module_makes_of_it(capsys, monkeypatch):
    def imports(args):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as error:
            raise ImportError('initialization failed') from error

    def own(*_):
        raise AssertionError

    for run in (lambda args: signal.raise_signal(signal.SIGINT), imports):
        monkeypatch.setattr('model_zoo.cli.list.run', run)
        before = signal.signal(signal.SIGINT, own)
        try:
            assert main(['list']) == 130
            assert signal.getsignal(signal.SIGINT) is own, 'from here to its end the program stops by its own handler'
        finally:
            signal.signal(signal.SIGINT, before)
        check(capsys.readouterr().err, 'Stopped at once', 'gluon-aff: ')


class Terminal(io.StringIO):
    """What a terminal shows of what is written to it."""

    def isatty(self):
        return True

    def lines(self):
        lines = []
        for line in self.getvalue().split('\n'):
            shown = ''
            for part in line.split('\r'):
                shown = part + shown[len(part) :]
            lines.append(shown.rstrip())
        return lines


def test_a_log_line_of_mxnet_does_not_tear_the_bar(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr('sys.stderr', terminal)
    line = '[22:01:44] ../src/operator/nn/mkldnn/mkldnn_pooling.cc:58: MKLDNN Pooling: training with prop_kind is x'
    with progress_bar(total=9, desc='epoch 1/2', mininterval=0) as bar:
        for _ in range(3):
            bar.update()
            terminal.write(f'{line}\n')  # past tqdm, as C++ does
            bar.set_postfix(loss='1.234')
        *logged, shown = terminal.lines()
    assert logged == [line] * 3 and '3/9' in shown and 'loss=1.234' in shown
    assert terminal.lines() == [line] * 3 + ['']


def test_help_and_version(capsys):
    for flag in ('--version', '--help'):
        with pytest.raises(SystemExit) as ended:
            main([flag])
        assert ended.value.code == 0 and gluon_aff.__version__ in capsys.readouterr().out or flag == '--help'


@pytest.mark.parametrize('script', SCRIPTS.values(), ids=SCRIPTS)
def test_the_help_of_a_script_states_every_default(script):
    for action in make_parser(script.Config)._actions:
        if action.nargs != 0 and not action.required and action.help != argparse.SUPPRESS:
            assert 'default' in action.help, action.option_strings


def test_an_image_on_standard_input_wildcards_and_folders(top, capsys, monkeypatch):
    monkeypatch.chdir(top)
    monkeypatch.setattr('sys.stdin', open('pictures/b.png'))
    command = ['predict', 'run', '-', 'pict*/[a].png', 'classes', 'pictures', 'nothing*', '--format', 'jsonl']
    assert main(command) == 1
    out, err = capsys.readouterr()
    rows = [json.loads(line) for line in out.splitlines()]
    names = ['-', 'pictures/a.png', 'classes/x/a.png', 'classes/x/b.png', 'pictures/a.png', 'pictures/b.png']
    assert [row['image'] for row in rows] == names and 'No file fits nothing*' in err
    assert rows[0]['predictions'] == rows[-1]['predictions'] != rows[1]['predictions']
    for row in rows:
        for prediction in row['predictions']:
            assert ['cat', 'dog', 'owl'][prediction['index']] == prediction['label']


def test_csv_has_the_index_of_each_class(top, capsys, monkeypatch):
    monkeypatch.chdir(top)
    assert main('predict run pictures/a.png --format csv'.split()) == 0
    head, *rows = [line.split(',') for line in capsys.readouterr().out.splitlines()]
    assert head == ['image', 'rank', 'label', 'probability', 'index']
    assert {(row[2], row[4]) for row in rows} == {('cat', '0'), ('dog', '1'), ('owl', '2')}


def test_info_describes_a_run_and_an_export(top, capsys, monkeypatch):
    monkeypatch.chdir(top)
    assert main(['info', 'run']) == 0
    out = capsys.readouterr().out
    for fact in ('cifar_aff_resnet8', 'classes=3, width=1', '7 of 9', 'accuracy 0.7500', '3: cat, dog, owl', 'animals'):
        assert fact in out, fact
    assert main(['info', 'exported']) == 0
    out = capsys.readouterr().out
    for fact in ('cifar_aff_resnet8-symbol.json', 'MB', 'float32 (N, 3, H, W)', '3: cat, dog, owl', 'mxnet'):
        assert fact in out, fact


def test_hyphens_count_as_underscores(capsys):
    assert model_info('IAFF-ResNet50') == model_info('iaff_resnet50')
    assert main(['info', 'iaff-resnet50']) == 0 and 'iaff_resnet50' in capsys.readouterr().out


def test_completion_is_a_script_that_bash_reads(capsys):
    pytest.importorskip('shtab')
    assert main(['completion', 'bash']) == 0
    script = capsys.readouterr().out
    ask = 'COMP_WORDS=(gluon-aff predict iaff_resnet1); COMP_CWORD=2; _shtab_gluon_aff; echo ${COMPREPLY[@]}'
    done = subprocess.run(['bash', '-c', f'{script}\n{ask}'], capture_output=True, text=True)
    assert done.stdout.split() == ['iaff_resnet18', 'iaff_resnet18_v1b', 'iaff_resnet101', 'iaff_resnet152'], (
        done.stderr
    )


def test_the_lines_at_the_end_of_a_run_work_when_pasted(top, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "one's $HOME"
    random = np.random.RandomState(0)
    for name in ('cat/a b', 'cat/c', 'cat/d', 'dog/a', 'dog/b', 'dog/c'):
        path = folder / f'{name}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.randint(0, 256, (40, 40, 3), np.uint8)).save(path)
    flags = ['--data-dir', str(folder), '--val-fraction', '0.3', '--model', 'cifar_add_resnet8', '--input-size', '32']
    monkeypatch.setattr('sys.argv', ['train_imagenet.py', *flags, '--num-epochs', '1', '--save-dir', 'a "run"'])
    with pytest.raises(SystemExit) as ended:
        run_script('train_imagenet.py', train_imagenet.main)
    out = capsys.readouterr().out
    assert ended.value.code == 0
    titles = [line.partition(':')[0] for line in out.splitlines()]
    assert titles[:5] == ['Network', 'Weights', 'Data', 'Device', 'Folder']
    lines = dict(line.split(': ', 1) for line in out.splitlines() if line.startswith('To '))
    environment = {**os.environ, 'PYTHONPATH': str(TOP)}
    for line, says in ((lines['To predict'], '%  cat'), (lines['To run it again in its place'], 'Best accuracy')):
        done = subprocess.run(line, shell=True, env=environment, capture_output=True, text=True)
        assert done.returncode == 0 and says in done.stdout, done.stderr
