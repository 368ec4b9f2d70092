"""The command line, run as a user runs it."""

import argparse
import csv
import io
import json
import os
import subprocess
import sys
import time
from collections import Counter
from importlib import import_module
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from mxnet import gluon
from PIL import Image

from gluon_aff.data.images import read_image
from gluon_aff.data.masks import overlay
from gluon_aff.data.preprocessing import evaluation_array
from model_zoo import cli, get_model, list_models, model_info
from model_zoo.cli import main
from model_zoo.loading import load_model

OPTIONS = {'classes': 3, 'width': 1}


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """A run's folder, the same parameters alone, and a folder of pictures, one of which is broken."""
    top = tmp_path_factory.mktemp('cli')
    mx.random.seed(0)
    net = get_model('cifar_aff_resnet8', **OPTIONS)
    net.initialize(mx.init.Xavier())
    card = model_info('cifar_aff_resnet8')
    (top / 'run').mkdir()
    net.save_parameters(str(top / 'run' / 'best.params'))
    (top / 'run' / 'model.json').write_text(
        json.dumps(
            {
                'model': 'cifar_aff_resnet8',
                'options': OPTIONS,
                'class_names': ['cat', 'dog', 'owl'],
                'parameters': 'best.params',
                'input_size': card.spec.input_size,
                'mean': card.spec.mean,
                'std': card.spec.std,
                'crop_ratio': 1.0,
            }
        )
    )
    wide = get_model('cifar_add_resnet8', classes=7)
    wide.initialize(mx.init.Xavier())
    wide.save_parameters(str(top / 'seven.params'))

    (top / 'pictures').mkdir()
    random = np.random.RandomState(0)
    for name, size in (('a.png', (32, 32)), ('b.jpg', (50, 41)), ('d.png', (7, 90))):
        Image.fromarray(random.randint(0, 256, (*size, 3)).astype(np.uint8)).save(top / 'pictures' / name)
    (top / 'pictures' / 'c.png').write_text('not a picture')
    return top


def run(capsys, *args):
    """Exit status, standard output and standard error of a command."""
    status = main([str(arg) for arg in args])
    out, err = capsys.readouterr()
    return status, out, err


def refused(capsys, *args):
    """The one line on standard error of a command that is refused."""
    status, out, err = run(capsys, *args)
    assert status == 2 and out == '' and err.count('\n') == 1
    return err


def test_list_is_a_table_of_the_models_that_fit(capsys):
    status, out, _ = run(capsys, 'list', 'cifar_*_resnet8')
    head, *rows = [line.split() for line in out.splitlines()]
    assert status == 0 and [row[0] for row in rows] == list_models('cifar_*_resnet8')
    assert '1.34' in out and '3x32x32' in out and head[0] == 'name'


def test_list_builds_no_network(capsys):
    start = time.process_time()
    run(capsys, 'list')
    assert time.process_time() - start < 1


def test_list_without_a_fit_says_so(capsys):
    assert 'No network fits' in refused(capsys, 'list', 'nothing*')


def test_info_gives_the_card(capsys):
    _, out, _ = run(capsys, 'info', 'IAFF_ResNet50')
    for fact in ('35,170,120', '3x224x224', 'iaff', 'ImageNet', 'tench', 'resnet50_v1d'):
        assert fact in out


@pytest.fixture(scope='module')
def pyramid(tmp_path_factory):
    """The parameters of a segmentation network."""
    net = get_model('fpn_add_resnet8')
    net.initialize(mx.init.Xavier())
    path = tmp_path_factory.mktemp('fpn') / 'fpn.params'
    net.save_parameters(str(path))
    return path


def test_predict_with_a_segmentation_network_writes_overlays(files, pyramid, capsys, tmp_path):
    status, out, err = run(
        capsys, 'predict', 'fpn_add_resnet8', files / 'pictures', '--weights', pyramid, '-o', tmp_path
    )
    written = [str(tmp_path / f'{name}-overlay.png') for name in 'abd']
    assert status == 1 and out.split() == written and 'c.png is not an image' in err
    model = load_model('fpn_add_resnet8', str(pyramid))
    for name, path in zip(('a.png', 'b.jpg', 'd.png'), written):
        image = read_image(files / 'pictures' / name)
        np.testing.assert_array_equal(np.asarray(Image.open(path)), overlay(image, model.segment(image)))
        assert model.segment(image).shape == image.size[::-1]


def test_an_image_too_small_for_a_network_is_named_and_passed_over(pyramid, capsys, tmp_path):
    for side in (2, 3):
        Image.new('RGB', (9, side)).save(tmp_path / f'{side}.png')
    status, out, err = run(capsys, 'predict', 'fpn_add_resnet8', tmp_path, '--weights', pyramid, '-o', tmp_path / 'o')
    assert status == 1 and out.split() == [str(tmp_path / 'o' / '3-overlay.png')]
    assert '2.png is 9 x 2, smaller than the 3 pixels that fpn_add_resnet8 needs.' in err


def test_predict_needs_a_folder_for_overlays_and_only_for_them(files, pyramid, capsys, tmp_path):
    picture = files / 'pictures' / 'a.png'
    assert 'give -o' in refused(capsys, 'predict', 'fpn_add_resnet8', picture, '--weights', pyramid)
    assert '-o is for segmentation' in refused(capsys, 'predict', files / 'run', picture, '-o', tmp_path)
    with pytest.raises(ValueError, match='classifies whole images'):
        load_model(str(files / 'run')).segment(read_image(picture))
    _, out, _ = run(capsys, 'info', 'fpn_add_resnet8')
    assert 'segmentation' in out and 'stop sign' in out


def test_images_of_one_name_have_an_overlay_each(files, pyramid, capsys, tmp_path):
    for folder, name in (('x', 'p.png'), ('y', 'p.png'), ('y', 'P.jpg'), ('z', 'q.png')):
        (tmp_path / folder).mkdir(exist_ok=True)
        Image.new('RGB', (len(list(tmp_path.rglob('*.*'))) + 4, 6)).save(tmp_path / folder / name)
    (tmp_path / 'o').mkdir()
    (tmp_path / 'o' / '.left-overlay.png.0.part').touch()
    status, out, _ = run(capsys, 'predict', 'fpn_add_resnet8', tmp_path, '--weights', pyramid, '-o', tmp_path / 'o')
    assert len(list((tmp_path / 'o').iterdir())) == 4, 'what a killed process left is gone'
    names = ['x-p.png', 'P.jpg', 'y-p.png', 'q']
    assert status == 0 and out.split() == [str(tmp_path / 'o' / f'{name}-overlay.png') for name in names]
    assert [Image.open(path).width for path in out.split()] == [4, 6, 5, 7]


HOSTILE = {
    'a\nb.png': r'a\nb.png',
    '\x1b[31m.png': r'\x1b[31m.png',
    '\u202egnp.png': r'\u202egnp.png',
    'c\udcff.png': r'c\udcff.png',
    '\u540d.png': '\u540d.png',
}


@pytest.mark.parametrize('encoding', ['utf-8', 'ascii'])
def test_names_of_files_and_classes_are_printed_escaped_whatever_the_encoding(files, tmp_path, encoding):
    model = json.loads((files / 'run' / 'model.json').read_text())
    class_names = ['cat\x07\u2028', 'do\ng', '\x9b2J\u732b']
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run' / 'best.params').write_bytes((files / 'run' / 'best.params').read_bytes())
    (tmp_path / 'run' / 'model.json').write_text(json.dumps({**model, 'class_names': class_names}))
    for name in HOSTILE:
        (tmp_path / name).write_bytes((files / 'pictures' / 'a.png').read_bytes())
    (tmp_path / 'bad\n\x1b[2J.png').write_text('not a picture')
    program = (
        'from model_zoo.cli import main\nfor form in "table", "csv":\n'
        '    main(["predict", "run", ".", "--format", form])'
    )
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', program],
        cwd=tmp_path,
        capture_output=True,
        env={**os.environ, 'PYTHONPATH': str(Path(__file__).parents[1]), 'PYTHONIOENCODING': encoding},
    )
    out, err = done.stdout.decode(encoding), done.stderr.decode(encoding)
    assert done.returncode == 0 and 'Traceback' not in err and 'bad\\n\\x1b[2J.png is not an image' in err
    table, text = out[: out.index('image,rank')], out[out.index('image,rank') :]

    def shown(name):
        return name.encode(encoding, 'backslashreplace').decode(encoding)

    rows = list(csv.DictReader(io.StringIO(text)))
    assert {row['image'] for row in rows} == {f'./{shown(name)}' for name in HOSTILE.values()}
    assert {row['label'] for row in rows} == {r'cat\x07\u2028', r'do\ng', shown('\\x9b2J\u732b')}
    assert len(rows) == 15 and len(table.splitlines()) == 15
    assert all(line.isprintable() for line in (out + err).splitlines())


def test_an_unknown_name_suggests_the_nearest(capsys):
    assert 'iaff_resnet50' in refused(capsys, 'info', 'iaff_resnet5')


def predictions(files, path):
    """The probabilities of a picture, computed without the command line."""
    net = get_model('cifar_aff_resnet8', pretrained=str(files / 'run' / 'best.params'), **OPTIONS)
    card = model_info('cifar_aff_resnet8')
    data = evaluation_array(read_image(path), card.spec.input_size, card.spec.mean, card.spec.std, 1.0)
    return mx.nd.softmax(net(mx.nd.array(data[None])))[0].asnumpy()


def test_predict_reports_the_unreadable_picture_and_goes_on(capsys, files):
    status, out, err = run(capsys, 'predict', files / 'run', files / 'pictures', '--format', 'jsonl', '--top-k', 2)
    rows = [json.loads(line) for line in out.splitlines()]
    assert status == 1 and 'c.png is not an image' in err and '1 of 4' in err
    assert [row['image'][-5:] for row in rows] == ['a.png', 'b.jpg', 'd.png']
    for row in rows:
        expected = predictions(files, row['image'])
        names = [['cat', 'dog', 'owl'][i] for i in expected.argsort()[::-1]]
        assert [prediction['label'] for prediction in row['predictions']] == names[:2]
        probabilities = [prediction['probability'] for prediction in row['predictions']]
        assert probabilities == pytest.approx(sorted(expected)[::-1][:2], abs=2e-6)


def test_predict_reports_a_missing_file_and_goes_on(capsys, files):
    status, out, err = run(capsys, 'predict', files / 'run', files / 'no.png', files / 'pictures' / 'a.png')
    assert status == 1 and 'There is no file' in err and 'a.png' in out


def test_predict_writes_csv_that_reads_back(capsys, files):
    status, out, _ = run(capsys, 'predict', files / 'run', files / 'pictures' / 'a.png', '--format', 'csv')
    rows = list(csv.DictReader(io.StringIO(out)))
    assert status == 0 and [row['rank'] for row in rows] == ['1', '2', '3']
    assert sum(float(row['probability']) for row in rows) == pytest.approx(1, abs=1e-5)


def test_predict_takes_a_parameter_file_and_what_stands_beside_it(capsys, files):
    by_folder = run(capsys, 'predict', files / 'run', files / 'pictures' / 'a.png')
    by_file = run(
        capsys, 'predict', 'cifar_aff_resnet8', files / 'pictures' / 'a.png', '--weights', files / 'run' / 'best.params'
    )
    assert by_folder == by_file and 'owl' in by_file[1]


def test_predict_takes_the_number_of_classes_from_a_file_alone(capsys, files):
    status, out, _ = run(
        capsys,
        'predict',
        'cifar_add_resnet8',
        files / 'pictures' / 'a.png',
        '--weights',
        files / 'seven.params',
        '--top-k',
        99,
    )
    assert status == 0 and len(out.splitlines()) == 7 and 'class 6' in out


def test_predict_refuses_parameters_of_another_network(capsys, files):
    message = refused(
        capsys, 'predict', 'cifar_iaff_resnet8', files / 'pictures' / 'a.png', '--weights', files / 'seven.params'
    )
    assert 'another network' in message and 'att' in message


@pytest.mark.parametrize(
    'content, says', [(None, 'no model.json'), ('{', 'cannot be read'), ('{}', 'lacks model'), ('[]', 'lacks model')]
)
def test_predict_refuses_a_folder_that_is_no_run(capsys, files, tmp_path, content, says):
    if content is not None:
        (tmp_path / 'model.json').write_text(content)
    assert says in refused(capsys, 'predict', tmp_path, files / 'pictures')


def test_predict_without_parameters_says_what_to_do(capsys, files):
    message = refused(capsys, 'predict', 'iaff_resnet152', files / 'pictures' / 'a.png')
    assert 'No parameters are released for iaff_resnet152' in message and 'path of a parameter file' in message


def test_export_is_what_symbolblock_imports(capsys, files, tmp_path):
    status, out, err = run(capsys, 'export', files / 'run', '-o', tmp_path / 'new' / 'folder')
    symbol, params, described = out.split()
    assert status == 0 and err == '' and described.endswith('model.json')
    assert sorted(out.split()) == sorted(map(str, (tmp_path / 'new' / 'folder').iterdir()))
    net = gluon.SymbolBlock.imports(symbol, ['data'], params)
    card = model_info('cifar_aff_resnet8')
    picture = files / 'pictures' / 'b.jpg'
    data = evaluation_array(read_image(picture), card.spec.input_size, card.spec.mean, card.spec.std, 1.0)
    np.testing.assert_allclose(
        mx.nd.softmax(net(mx.nd.array(data[None])))[0].asnumpy(), predictions(files, picture), rtol=1e-5
    )


def test_export_of_random_parameters_says_so(capsys, tmp_path):
    status, out, err = run(capsys, 'export', 'cifar_add_resnet8', '-o', tmp_path)
    assert status == 0 and 'random' in err and len(out.split()) == 3


@pytest.mark.parametrize(
    'args, says',
    [
        (['predict', 'x', 'y', '--top-k', '0'], '--top-k must be a whole number, 1 or more, got 0'),
        (['predict', 'x', 'y', '--gpu', '-1'], '--gpu -1 is not there'),
        (['predict', 'x', 'y', '--format', 'xml'], "--format: invalid choice: 'xml'"),
        (['gradcam', 'x', '--models', 'y', '-o', 'z.png', '--gpu', '-1'], '--gpu -1 is not there'),
        (['records', 'x', '-o', 'y', '--val-fraction', '2'], '--val-fraction must be a number between 0 and 1, got 2'),
        (['records', 'x', '-o', 'y', '--val-fraction', 'nan'], '--val-fraction must be'),
        (['records', 'x', '-o', 'y', '--quality', '200'], '--quality must be a whole number, 1 to 100, got 200'),
        (['records', 'x', '-o', 'y', '--resize', '-1'], '--resize must be a whole number, 0 or more, got -1'),
        (['export', 'x', '-o', 'y', '--float-nodes', '1.5'], '--float-nodes must be'),
        (['export', 'x'], '-o/--output'),
        (['nothing'], 'nothing'),
        ([], 'COMMAND'),
    ],
)
def test_wrong_arguments_exit_with_2_and_one_sentence(args, says, capsys):
    message = refused(capsys, *args)
    assert says in message and ('usage' in message or 'MXNet finds' in message)


def test_a_command_is_a_module_with_help_flags_and_a_run(capsys):
    names = [path.stem for path in Path(cli.__file__).parent.glob('[!_]*.py')]
    with pytest.raises(SystemExit) as ended:
        main(['--help'])
    out = capsys.readouterr().out
    assert ended.value.code == 0 and len(names) == 17 and all(f'\n    {name}' in out for name in names)
    for name in names:
        parser = argparse.ArgumentParser()
        import_module(f'model_zoo.cli.{name}').add_arguments(parser)
        assert all(action.help for action in parser._actions), name
        for action in parser._actions:
            has_default = action.option_strings and action.nargs != 0 and not action.required
            assert not has_default or 'default: ' in action.help, (name, action.option_strings)


def test_no_two_modules_have_one_name():
    top = Path(__file__).parents[1]
    patterns = (
        '*.py',
        *(f'{folder}/**/*.py' for folder in ('gluon_aff', 'model_zoo', 'benchmarks', 'examples', 'tests')),
    )
    names = Counter(path.name for pattern in patterns for path in top.glob(pattern))
    assert [name for name, number in names.items() if number > 1] == ['__init__.py']


def test_the_module_runs_and_a_closed_pipe_is_no_error():
    command = subprocess.Popen(
        [sys.executable, '-m', 'model_zoo', 'list', 'cifar_add*'], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    command.stdout.close()
    message = command.stderr.read()
    command.stderr.close()
    assert command.wait() == 0 and message == b''
