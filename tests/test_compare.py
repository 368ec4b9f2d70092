"""The table of the comparison: its figures, its forms, its picture, and how the speed is measured."""

import csv
import io
import itertools
import json
import math

import mxnet as mx
import pytest
from matplotlib.text import Annotation, Text
from mxnet.gluon import nn
from PIL import Image
from programs import TOP
from reference import refused

from gluon_aff import FUSIONS
from model_zoo import Reported, get_model, list_models, list_weights, model_info
from model_zoo.cli import main
from model_zoo.pictures import comparison as compare
from model_zoo.pictures.comparison import TABLE, Row, figure, write_csv, write_markdown
from model_zoo.reported_results import LOG, LOGS, REPORTED, Result

# Top-1 error and parameters in millions, from the slides.
SLIDES = {
    'resnet101': (23.2, 42.5),
    'eca_resnet101': (21.4, 42.5),
    'aa_resnet101': (21.3, 45.4),
    'se_resnet101': (20.9, 49.4),
    'ge_theta_plus_resnet101': (20.7, 58.4),
    'lip_resnet101': (20.7, 42.9),
    'iaff_resnet50': (20.2, 35.1),
    'iaff_resnext50_32x4d': (19.8, 34.7),
}


@pytest.fixture(scope='module')
def rows():
    return compare.compare()


def test_the_table_has_the_slides_networks_with_their_published_figures_and_hybrids_without(rows):
    assert [row.name for row in rows] == list(TABLE)
    stated = {row.name: (row.reported.top1_error, row.reported.parameters) for row in rows if row.reported}
    assert {name: stated[name] for name in SLIDES} == SLIDES
    assert stated.keys() - SLIDES.keys() == {'add_resnet50', 'aff_resnet50', 'sk_resnet50'}
    assert [row.name for row in rows if not row.reported] == ['se_resnet50+aff', 'sk_resnet50+iaff']


def test_every_published_figure_names_its_source_and_its_network_can_be_built():
    for name, stated in REPORTED.items():
        assert stated.results or stated.parameters
        assert bool(stated.counted) == bool(stated.parameters_source) == (stated.parameters is not None)
        assert all(figure.source and 0 < figure.percent < 100 for figure in stated.results)
        if name in list_models():
            assert model_info(name).reported is stated
            continue
        # Of the paper's tables: a host by its name, with another fusion.
        fusion = next(known for known in sorted(FUSIONS, key=len, reverse=True) if known in name)
        get_model(name.replace(fusion, 'aff'), fusion=fusion)


# From the paper's tables 3, 4 and 6, in per cent, and from the authors' logs.
STATED = {
    'aff_resnext50_32x4d': ['top-1 error 20.28 % on ImageNet-1k', 'top-5 error 5.29 % on ImageNet-1k'],
    'iaff_resnet50': ['top-1 error 20.2 % on ImageNet-1k', '20.22', '5.46'],
    'aff_resnet50': ['20.28', '5.27', '21.6'],
    'cifar_aff_resnet32': ['accuracy 83.57 % on CIFAR-100, fine labels', '90.78 % on CIFAR-100, coarse labels'],
    'cifar_aff_resnext38_32x4d': ['91.23 % on CIFAR-100, coarse'],
    'cifar_aff_resnext47_32x4d': ['85.38', '91.84'],
    'cifar_add_resnet8': ['accuracy 74 % on CIFAR-100, coarse labels (width=1)'],
    'cifar_concat_resnet26': ['79.8 %'],
    'cifar_aff_resnet8': ['76.3 % on CIFAR-100, coarse labels (width=1, reduction=2)', '76.4'],
    'cifar_iaff_inception_resnet26': ['81.4 %'],
    'fpn_concat_resnet26': ['mIoU 93.9 % on StopSign'],
    'fpn_iaff_resnet8': ['mIoU 92.7 % on StopSign'],
    'fpn_aff_resnet20': ['93.9 % on StopSign (reduction=2)'],
}


@pytest.mark.parametrize('name', STATED)
def test_info_prints_what_is_published(name, capsys):
    assert main(['info', name]) == 0
    out = capsys.readouterr().out.split('\nweights ')[0].splitlines()
    start = next(number for number, line in enumerate(out) if line.startswith('published'))
    lines = [line for line in out[start:] if '%' in line]
    assert len(lines) == len(STATED[name]), lines
    for stated in STATED[name]:
        assert any(stated in line and '; ' in line for line in lines), stated


def test_info_of_a_network_without_published_figures(capsys):
    assert 'published      nothing' in [main(['info', 'unet_aff_resnet8']), capsys.readouterr().out][1]


def test_published_figures_stand_in_one_place():
    catalogue = json.loads((TOP / 'model_zoo' / 'weights' / 'catalog.json').read_text(encoding='utf-8'))['weights']
    assert [row['model'] for row in catalogue if 'metrics' in row] == [
        'fashion_mnist_add_resnet8',
        'fashion_mnist_add_resnet8',
        'fashion_mnist_add_resnet8_w108',
        'fashion_mnist_aff_resnet8',
        'fashion_mnist_iaff_resnet8',
    ]
    authors = [record for record in list_weights() if record.url and not record.preprocessing]
    for record in authors:
        assert record.metrics is LOGS[record.model, record.tag]
    assert len(LOGS) == len(authors)


def test_readme_lists_the_figures_of_every_released_file():
    titles = {
        'ImageNet-1k': 'ImageNet',
        'CIFAR-100, fine labels': 'CIFAR-100, *fine*',
        'CIFAR-100, coarse labels': 'CIFAR-100, *coarse*',
    }
    rows = []
    for name, published in REPORTED.items():
        for data in dict.fromkeys(f.data for f in published.results):
            figures = [f for f in published.results if f.data == data and f.source == LOG]
            if figures:
                stated = ', '.join(f'{f.metric.replace("top-5 error", "top-5")} {f.percent:.2f} %' for f in figures)
                rows.append(f'| `{name}` | {titles[data]} | {stated} |')
    page = (TOP / 'docs' / 'weights.md').read_text(encoding='utf-8')
    section = page.split('## Published results')[1].split('## Our files')[0].splitlines()
    assert sorted(line for line in section if line.startswith('| `')) == sorted(rows) and len(rows) == 9


def test_counts_are_those_of_the_cards_and_of_the_classifier(rows):
    for row in rows:
        if '+' not in row.name:
            card = model_info(row.name)
            assert (row.parameters, row.multiply_adds) == (card.parameters, card.multiply_adds)
        assert row.parameters - row.without_classifier == 2048 * 1000 + 1000
        assert row.images_per_second is None


def test_a_hybrid_adds_its_fusions_to_the_plain_network(rows):
    (hybrid,) = (row for row in rows if row.name == 'se_resnet50+aff')
    contexts = sum(
        blocks * 2 * (2 * c * c // 16 + c // 16 + c + 2 * c // 16 + 2 * c) for blocks, c in ((6, 1024), (3, 2048))
    )
    assert hybrid.parameters - model_info('se_resnet50').parameters == contexts


def test_unknown_networks_and_fusions_are_refused():
    with refused('did you mean .*resnet50'):
        compare.compare(['resnet5o'])
    for name in ('resnet50+afff', 'resnet50+'):
        with refused('Unknown fusion'):
            compare.compare([name])


# How it is written


def written(write, rows, **options):
    out = io.StringIO()
    write(rows, out, **options)
    return out.getvalue()


def test_csv_reads_back_with_all_digits(rows):
    read = list(csv.DictReader(io.StringIO(written(write_csv, rows), newline='')))
    assert [row['network'] for row in read] == list(TABLE)
    for row, line in zip(rows, read):
        assert [int(line[key]) for key in ('parameters', 'parameters_without_classifier', 'multiply_adds')] == [
            row.parameters,
            row.without_classifier,
            row.multiply_adds,
        ]
        error = row.error
        assert error == (row.reported and row.reported.top1_error)
        assert line['published_top1_error_percent'] == ('' if error is None else str(error))
        assert line['images_per_second'] == ''


def test_markdown_is_one_table_that_labels_what_is_published_and_says_how_it_was_counted(rows):
    lines = written(write_markdown, rows).splitlines()
    table = [[cell.strip() for cell in line.strip('|').split('|')] for line in lines if line.startswith('|')]
    assert len(table) == len(rows) + 2 and {len(row) for row in table} == {10}
    assert [title.startswith('published') for title in table[0]] == [False, True, True, *[False] * 7]
    assert table[0][7:] == ['weights', 'file, MB', 'licence']
    cells = {row[0]: row[1:] for row in table[2:]}
    assert cells['ge_theta_plus_resnet101'] == ['20.7', '58.4', '58.32', '56.27', '7.82', '', '', '', '']
    assert cells['iaff_resnet50'][-3:] == ['imagenet', '70.3', 'none stated']
    assert cells['se_resnet50+aff'][:2] == ['', '']
    notes = {line[2:].split(':')[0]: line for line in lines if line.startswith('- ')}
    assert notes.keys() == {row.name for row in rows if row.reported}
    assert '2^20' in notes['resnet101'] and 'rounded up' in notes['se_resnet101'] and 'log' in notes['aff_resnet50']
    assert "also 20.8 %, GluonCV's resnet101_v1b" in notes['resnet101']


def test_markdown_says_how_the_speed_was_measured():
    row = Row('resnet50', None, 25_557_032, 23_508_032, 4_089_184_256, 12.3456)
    stated = written(write_markdown, [row], how='inference at batch 8')
    assert '| 12.35 | ' in stated and 'images/s of inference at batch 8' in stated


# The speed


class Counted(nn.HybridBlock):
    """Takes its time from a list, and writes down that it was called."""

    def __init__(self, name, calls, clock, durations):
        super().__init__()
        self.called, self.calls, self.clock, self.durations = name, calls, clock, iter(durations)

    def hybridize(self, active=True, **kwargs):
        pass

    def forward(self, x):
        self.calls.append((self.called, x.shape))
        self.clock[0] += next(self.durations)
        return x


def test_networks_take_turns_and_the_median_counts_without_the_first_pass(monkeypatch):
    clock, calls = [0.0], []
    monkeypatch.setattr(compare.time, 'perf_counter', lambda: clock[0])
    nets = [Counted('a', calls, clock, [100, 1, 9, 2, 3, 2]), Counted('b', calls, clock, [100, 4, 4, 5, 90, 6])]
    assert compare._seconds(nets, [(2, 3, 4, 4), (2, 3, 8, 8)], mx.cpu()) == [2, 5]
    assert calls == [('a', (2, 3, 4, 4)), ('b', (2, 3, 8, 8))] * 6


def test_speed_is_images_by_seconds(monkeypatch):
    shapes = []
    monkeypatch.setattr(compare, '_seconds', lambda nets, sizes, ctx: shapes.extend(sizes) or [0.5 for _ in nets])
    assert [row.images_per_second for row in compare.compare(['resnet50', 'cifar_aff_resnet8'], batch=4)] == [8, 8]
    assert shapes == [(4, 3, 224, 224), (4, 3, 32, 32)]


def test_each_network_is_counted_at_its_own_size_and_each_data_set_has_its_table():
    names = ['fashion_mnist_aff_resnet8', 'resnet50', 'sk_resnet50', 'cifar_aff_resnet32', 'aff_resnet50']
    rows = compare.sort_rows(compare.compare(names))
    assert [row.name for row in rows] == [
        'fashion_mnist_aff_resnet8',
        'aff_resnet50',
        'resnet50',
        'sk_resnet50',
        'cifar_aff_resnet32',
    ]
    for row in rows:
        assert row.multiply_adds == model_info(row.name).multiply_adds
    text = written(write_markdown, rows)
    assert [line[3:-1] for line in text.splitlines() if line.startswith('On ')] == [
        'Fashion-MNIST',
        'ImageNet-1k',
        'CIFAR-100, fine labels',
    ]
    assert compare.left_out(rows[1:]) == {
        'sk_resnet50': 'no published error',
        'cifar_aff_resnet32': 'its error is on CIFAR-100, fine labels, not ImageNet-1k',
    }


# The picture


def check_labels(picture, names):
    picture.canvas.draw()
    for axes in picture.axes:
        assert 'published' in axes.get_ylabel()
        labels = [child for child in axes.get_children() if isinstance(child, Annotation)]
        assert [label.get_text() for label in labels] == names
        renderer = picture.canvas.get_renderer()
        boxes = [Text.get_window_extent(label, renderer) for label in labels]
        assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
        for box in boxes:
            assert picture.bbox.x0 <= box.x0 and box.x1 <= picture.bbox.x1
            assert picture.bbox.y0 <= box.y0 and box.y1 <= picture.bbox.y1
        points = axes.transData.transform(axes.collections[0].get_offsets())
        assert not any(box.contains(*point) for box in boxes for point in points)
        for label, point in zip(labels, points):
            x, y = label.get_position()
            assert math.hypot(x, y) < 80 and tuple(axes.transData.transform(label.xy)) == pytest.approx(tuple(point))


def test_picture_has_a_readable_label_at_every_point_with_a_published_error(rows):
    shown = [row for row in rows if row.reported and row.reported.top1_error]
    assert [row.name for row in rows if row not in shown] == list(compare.left_out(rows))
    picture = figure(rows)
    check_labels(picture, [row.name for row in shown])
    points = [[tuple(point) for point in axes.collections[0].get_offsets()] for axes in picture.axes]
    errors = [row.reported.top1_error for row in shown]
    assert points[0] == [pytest.approx((row.parameters / 1e6, e)) for row, e in zip(shown, errors)]
    assert points[1] == [pytest.approx((row.multiply_adds / 1e9, e)) for row, e in zip(shown, errors)]


def test_labels_of_points_in_one_place_do_not_overlap():
    rows = [
        Row(
            f'network_number_{i}',
            Reported((Result('top-1 error', 20 + i % 2 / 100, 'ImageNet', 'this test'),)),
            10**6,
            1,
            10**9,
        )
        for i in range(8)
    ]
    check_labels(figure(rows), [row.name for row in rows])


def test_a_picture_of_nothing_is_refused(rows):
    with refused('published error'):
        figure([row for row in rows if not row.reported])


# The command


def test_compare_command_writes_the_table_and_the_picture(capsys, tmp_path):
    path = tmp_path / 'picture.png'
    assert main(['compare', 'resnet101', 'SE_ResNet50+aff', '--no-speed', '--format', 'csv', '--plot', str(path)]) == 0
    out, err = capsys.readouterr()
    assert err == f'gluon-aff: {path} leaves out SE_ResNet50+aff: no published error.\n'
    assert [row['network'] for row in csv.DictReader(io.StringIO(out))] == ['resnet101', 'SE_ResNet50+aff']
    with Image.open(path) as image:
        assert image.format == 'PNG' and image.size == (1800, 750)


def test_compare_command_measures_by_default(capsys):
    assert main(['compare', 'resnet50']) == 0
    out = capsys.readouterr().out
    row = [line for line in out.splitlines() if line.startswith('| resnet50')][0]
    assert float(row.split('|')[7]) > 0 and 'batch 1 on cpu(0), median of 5 runs' in out


@pytest.mark.parametrize(
    'args, says',
    [
        (['resnet5o'], 'did you mean'),
        (['resnet50+afff'], 'Unknown fusion'),
        (['resnet101', '--plot', 'no/such/folder/a.png'], 'no/such/folder'),
        (['resnet101', '--plot', 'a.gif'], 'gif'),
        (['resnet101', '--plot', 'a'], '.png'),
        (['se_resnet50', '--plot', 'a.png'], 'published error'),
    ],
)
def test_compare_command_refuses_with_one_sentence_before_it_measures(args, says, capsys, monkeypatch):
    monkeypatch.setattr(compare, 'measure', lambda *args, **kwargs: pytest.fail('measured'))
    assert main(['compare', *args]) == 2
    stated = capsys.readouterr().err
    assert says in stated and stated.count('\n') == 1
