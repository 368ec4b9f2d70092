"""The ablations: cells that are trained once, their results as they were, and the tables beside the published ones."""

import csv
import json
import os
import re
import signal
from dataclasses import replace

import pytest
from PIL import Image
from reference import trainable

import train_cifar
from benchmarks import ablation
from gluon_aff import FUSIONS, complexity
from gluon_aff.train import RunFolder, parse
from model_zoo import get_model
from model_zoo.from_flags import build_network
from model_zoo.reported_results import TABLES

SMALL = ['--dataset', 'digits', '--width', '1', '--train-images', '64', '--test-images', '40', '--num-epochs', '2']
GRID = [*SMALL, '--hosts', 'resnet', '--fusions', 'add', 'aff', 'iaff', '--seeds', '0', '--equal-parameters']


def results(rows):
    """The rows without what a clock says."""
    return [{name: value for name, value in row.items() if name != 'seconds'} for row in rows]


@pytest.fixture(scope='module')
def grid(tmp_path_factory):
    folder = tmp_path_factory.mktemp('grid')
    return folder, ablation.main([*GRID, '--save-dir', str(folder)])


@pytest.fixture
def trainings(monkeypatch):
    """The folders of the cells that are trained from here on."""
    begun, main = [], train_cifar.main

    def counted(argv):
        begun.append(os.path.basename(parse(train_cifar.Config, argv).save_dir))
        return main(argv)

    monkeypatch.setattr(train_cifar, 'main', counted)
    return begun


def test_each_row_of_the_csv_says_what_the_run_was_and_the_accuracy_of_its_last_epoch(grid):
    folder, rows = grid
    with open(folder / 'ablation.csv', newline='') as file:
        read = list(csv.DictReader(file))
    assert read == [{name: str(value) for name, value in row.items()} for row in rows]
    assert [(row['fusion'], row['reduction']) for row in read] == [('add', ''), ('aff', '2'), ('iaff', '4')]
    for row in rows:
        run = folder / f'resnet-{row["fusion"]}-b1-seed0'
        *_, last = (json.loads(line) for line in (run / 'log.jsonl').read_text().splitlines())
        assert (last['epoch'], last['accuracy']) == (2, row['accuracy'])
        options = {'reduction': int(row['reduction'])} if row['reduction'] else {}
        net = get_model(f'cifar_{row["fusion"]}_resnet8', width=1, classes=10, **options)
        assert row['parameters'] == complexity(net, (1, 3, 32, 32)).parameters
        assert [
            row[name] for name in ('dataset', 'classes', 'train_images', 'test_images', 'epochs', 'host', 'b', 'seed')
        ] == ['digits', 10, 64, 40, 2, 'resnet', 1, 0]


def test_the_plot_is_a_picture(grid):
    with Image.open(grid[0] / 'ablation.png') as picture:
        picture.load()
        assert picture.format == 'PNG'


def test_finished_cells_are_skipped_and_new_ones_trained(grid, trainings):
    folder, rows = grid
    more = ['--fusions', 'add', 'concat', 'iaff']
    again = ablation.main([*GRID, *more, '--save-dir', str(folder)])
    assert trainings == ['resnet-concat-b1-seed0']
    assert [again[0], again[2]] == [rows[0], rows[2]] and again[1]['fusion'] == 'concat'


def test_a_finished_cell_of_another_setting_is_refused(grid, trainings):
    with pytest.raises(ValueError, match='other arguments .*lr was 0.1 and is 0.05'):
        ablation.main([*GRID, '--lr', '0.05', '--save-dir', str(grid[0])])
    assert not trainings


def test_a_grid_that_is_stopped_goes_on_within_the_cell_and_ends_with_the_same_results(
    grid, tmp_path, trainings, monkeypatch, capsys
):
    save_epoch = RunFolder.save_epoch

    def stop(run, *arguments):
        save_epoch(run, *arguments)
        if 'aff' in os.path.basename(run.path):
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(RunFolder, 'save_epoch', stop)
        with pytest.raises(SystemExit) as stopped:
            ablation.main([*GRID, '--save-dir', str(tmp_path)])
    assert stopped.value.code == 128 + signal.SIGTERM and 'same command' in capsys.readouterr().err
    assert len((tmp_path / 'resnet-aff-b1-seed0' / 'log.jsonl').read_text().splitlines()) == 1
    with open(tmp_path / 'ablation.csv', newline='') as file:
        assert [row['fusion'] for row in csv.DictReader(file)] == ['add'], 'what is done so far'
    assert results(ablation.main([*GRID, '--save-dir', str(tmp_path)])) == results(grid[1])
    assert trainings == [f'resnet-{name}-b1-seed0' for name in ('add', 'aff', 'aff', 'iaff')]


@pytest.mark.parametrize('flag', ['--model', '--fusion=aff', '--seed'])
def test_a_flag_that_the_grid_sets_itself_is_refused(flag):
    with pytest.raises(ValueError, match=f'{flag} is what the runs differ in'):
        ablation.main([*SMALL, flag, 'x'])


def row(fusion, accuracy, seed=0, host='resnet', b=1):
    return {
        'dataset': 'cifar100 coarse',
        'classes': 20,
        'train_images': 50000,
        'test_images': 10000,
        'epochs': 3,
        'host': host,
        'fusion': fusion,
        'b': b,
        'reduction': 2,
        'seed': seed,
        'parameters': 1234 * b,
        'accuracy': accuracy,
        'seconds': 1.0,
    }


def test_tables_have_mean_spread_and_parameters_beside_the_published_figure():
    text = ablation.tables([row('aff', 0.5), row('aff', 0.52, 1), row('global_aff', 0.4), row('aff', 0.6, b=4)])
    ours, published, *lines = text.splitlines()
    assert all(
        part in ours
        for part in (
            'cifar100 coarse, 20 classes',
            '50,000 training images',
            '10,000 held-out',
            'epochs: 3',
            'seeds: 0, 1',
        )
    )
    assert 'Published: CIFAR-100, coarse labels, 50,000 training images, 400 epochs' in published
    assert [line for line in lines if line.startswith('**')] == ['**Table 3, context scale**'], (
        'the others have a single row of these'
    )
    assert lines[3].count('published') == lines[3].count('ours') == 2
    assert lines[5:] == [
        '| global + global | 40.00 | 1,234 | 75.4 | - | - | 82.1 |',
        '| local + local | - | - | 75.4 | - | - | 81.4 |',
        '| global + local (AFF) | 51.00 ± 1.41 | 1,234 | 76.3 | 60.00 | 4,936 | 82.6 |',
    ]


def test_a_figure_that_was_not_published_is_left_out():
    text = ablation.tables([row('sk', 0.5, host='inception'), row('iaff', 0.5, host='inception')])
    assert '| SK | 50.00 | 1,234 | - |' in text and '| iAFF | 50.00 | 1,234 | 77.4 |' in text
    assert '| iAFF | 50.00 | 4,936 | - |' in ablation.tables([row('add', 0.5, b=4), row('iaff', 0.5, b=4)])


def test_segmentation_has_its_own_metric_and_source():
    rows = [
        {**row(fusion, 0, host='fpn', b=b), 'miou': 0.6 + b / 100} for fusion in ('aff', 'local_aff') for b in (1, 4)
    ]
    ours, published, *lines = ablation.tables(rows).splitlines()
    assert 'mIoU in per cent' in ours and published.startswith('Published: StopSign, COCO images with a stop sign, 300')
    assert lines[3].startswith('| fusion | ResNet-20-b + FPN, b=1: ours |')
    assert '| local + local | 61.00 | 1,234 | 89.5 | 64.00 | 4,936 | 92.4 |' in lines


def test_published_tables_agree_where_they_say_the_same():
    """Table 3's global + local is table 4's AFF; table 6 is another run of AFF, and iAFF as in table 4."""
    scale, strategy, mix = (table.rows for table in TABLES)
    for host in ('inception', 'resnet', 'fpn'):
        assert scale['aff'][1][host] == strategy['aff'][1][host]
    assert mix['iaff'][1]['resnet'] == strategy['iaff'][1]['resnet']


SMALL_HOSTS = ('inception', 'resnet', 'fpn')


@pytest.mark.parametrize('host', SMALL_HOSTS)
@pytest.mark.parametrize('width, blocks', [(1, 1), (4, 2)])
def test_equal_parameters_are_equal_for_every_fusion(host, width, blocks):
    """The budget is AFF's at reduction 2, which adds about C^2 twice to each block; it is counted array by array."""
    shared = ['--width', str(width), *(['--data-dir', 'x'] if host == 'fpn' else [])]

    def count(fusion):
        flags = ablation.cell_flags(host, fusion, blocks, 0, equal_parameters=True, widen=True, shared=shared)
        config = parse(ablation.HOSTS[host].script.Config, flags)
        return trainable(build_network(config, 10)[0])

    counts = {fusion: count(fusion) for fusion in FUSIONS}
    off = {fusion: abs(number / counts['aff'] - 1) for fusion, number in counts.items()}
    # A fusion of FPN is a small part of the network, and its width moves the whole.
    assert off.pop('sk') <= 0.04 and max(off.values()) <= 0.02, off
    assert {fusion for fusion, share in off.items() if not share} >= {
        'aff',
        'ms_gau',
        'ms_se',
        'ms_sa',
        'highway',
        'global_aff',
        'local_aff',
        'half_aff',
    }


def test_no_other_reduction_of_the_three_would_be_nearer():
    def off(fusion, reduction):
        return abs(trainable(get_model('cifar_aff_resnet8', width=1, fusion=fusion, reduction=reduction)) - 95_460)

    for fusion in ('sk', 'highway', 'concat_aff', 'iaff', 'recursive_aff'):
        assert min((1, 2, 4, 8, 16), key=lambda reduction: off(fusion, reduction)) == ablation.EQUAL_REDUCTION[fusion]


PUBLISHED_CELLS = sorted(
    {
        (host, fusion, b)
        for table in TABLES
        for fusion, (_, columns) in table.rows.items()
        for host in ablation.HOSTS
        for b in range(1, 1 + len(columns.get(ablation.HOSTS[host].published, ())))
    }
)


def test_every_published_figure_has_a_cell_of_the_command():
    """From the table of the paper to the network: 14 fusions and scales, b = 1 to 4, the four hosts."""
    assert len(PUBLISHED_CELLS) == 9 * 4 * 3 - 1 + 3 * 3 + 3, (
        'tables 3 and 4 lack iAFF at b = 4 of ResNet; table 6; ImageNet'
    )
    for host, fusion, b in PUBLISHED_CELLS:
        data = ['--data-dir', 'x'] if host in ('fpn', 'imagenet') else []
        argv = ['--hosts', host, '--fusions', fusion, '--blocks', str(b), '--equal-parameters', *data]
        args, shared = ablation.parse_args(argv)
        flags = ablation.cell_flags(host, fusion, b, 0, equal_parameters=args.equal_parameters, shared=shared)
        config = parse(ablation.HOSTS[host].script.Config, flags)
        column = ablation.published_column(host)
        assert (config.model, config.fusion) == (column.name.format(fusion='aff', depth=6 * b + 2), fusion)
        if b == 1:
            build_network(config, 10)


def test_the_host_on_imagenet_reads_class_folders(tmp_path, monkeypatch, capsys):
    """With a small network in place of ResNet-50."""
    for path in ('train/a/0', 'train/a/1', 'train/b/0', 'train/b/1', 'val/a/0', 'val/b/0'):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        Image.linear_gradient('L').resize((40, 36)).save(tmp_path / f'{path}.png')
    small = replace(ablation.HOSTS['imagenet'], model='cifar_aff_resnet8')
    monkeypatch.setitem(ablation.HOSTS, 'imagenet', small)
    flags = '--input-size 32 --batch-size 2 --num-epochs 1 -j 1 --seeds 0 --fusions global_aff aff --equal-parameters'
    argv = ['--hosts', 'imagenet', '--data-dir', str(tmp_path), '--save-dir', str(tmp_path / 'runs'), *flags.split()]
    rows = ablation.main(argv)
    assert [(row['fusion'], row['reduction'], row['train_images'], row['test_images']) for row in rows] == [
        ('global_aff', 16, 4, 2),
        ('aff', 16, 4, 2),
    ]
    printed = capsys.readouterr().out
    assert '| fusion | ResNet-50: ours | ResNet-50: parameters | ResNet-50: published |' in printed
    assert 'Published: ImageNet-1k, 160 epochs' in printed
    assert re.search(r'\| global \+ global \| [\d.]+ \| [\d,]+ \| 77.7 \|', printed)


@pytest.mark.parametrize(
    'flags, message',
    [
        (['--hosts', 'fpn', 'resnet'], 'train_cifar and train_stopsign'),
        (['--hosts', 'imagenet', '--blocks', '2'], 'leave --blocks and --widen out'),
        (['--hosts', 'imagenet', '--fusions', 'concat_aff', '--equal-parameters'], 'concat_aff.* exceeds the budget'),
    ],
)
def test_hosts_that_do_not_fit_are_refused(flags, message):
    with pytest.raises(ValueError, match=message):
        ablation.main([*flags, '--data-dir', 'x'])
