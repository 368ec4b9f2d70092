"""Which network to take: the baselines' figures, the summaries, and the listing made of them."""

import ast
import importlib.util
import json
import re
from itertools import groupby

import pytest
from programs import TOP

from model_zoo import get_model, list_models, list_weights, model_info
from model_zoo.baselines import BASELINES, SOURCES
from model_zoo.cli import main
from model_zoo.reported_results import LOGS
from model_zoo.summary import SORT_KEYS, sort_summaries, summaries


def test_baselines_of_our_architectures_have_their_counts_and_stand_among_their_results():
    for baseline in BASELINES:
        assert baseline.library in SOURCES and 50 < baseline.top1 < baseline.top5 < 100
        if baseline.network:
            card = model_info(baseline.network)
            assert baseline.image_size == 224 and baseline.parameters == card.parameters
            assert baseline.multiply_adds == pytest.approx(card.multiply_adds, rel=2e-4)
            errors = {r.metric: r.percent for r in card.reported.results if r.source == baseline.source}
            assert errors == {
                'top-1 error': round(100 - baseline.top1, 4),
                'top-5 error': round(100 - baseline.top5, 4),
            }
    assert {'resnet50', 'resnet101', 'add_resnet50'} <= {baseline.network for baseline in BASELINES}


def test_gluoncv_knows_the_weights_of_its_baselines():
    model_store = pytest.importorskip('gluoncv.model_zoo.model_store')
    rows = [(baseline.name, baseline.weights) for baseline in BASELINES if baseline.library == 'GluonCV']
    known = {name: model_store.short_hash(name) for name in {name for name, _ in rows}}
    assert len(rows) == 16 and {name for name, weights in rows if known[name] == weights} == known.keys()


def test_figures_of_torchvision_are_those_of_its_weights():
    spec = importlib.util.find_spec('torchvision')
    if not spec:
        pytest.skip('torchvision is not installed')
    path = f'{spec.submodule_search_locations[0]}/models/resnet.py'
    with open(path, encoding='utf-8') as file:
        classes = {node.name: node for node in ast.parse(file.read()).body if isinstance(node, ast.ClassDef)}
    for baseline in BASELINES:
        if baseline.library == 'torchvision':
            values = {
                node.targets[0].id: node.value for node in classes[baseline.name].body if hasattr(node, 'targets')
            }
            text = ast.unparse(values[baseline.weights])
            numbers = [re.search(f"'{key}': ([\\d.]+)", text)[1] for key in ('acc@1', 'acc@5', '_ops', 'num_params')]
            stated = baseline.top1, baseline.top5, baseline.multiply_adds / 1e9, baseline.parameters
            assert tuple(map(float, numbers)) == stated
            assert baseline.file_size == pytest.approx(
                2**20 * float(re.search("'_file_size': ([\\d.]+)", text)[1]), 1e-4
            )


def test_every_file_of_the_authors_and_ours_has_a_summary_with_its_result():
    rows = {(row.name, row.weights): row for row in summaries(list_models(pretrained=True))}
    authors = {(record.model, record.tag) for record in list_weights() if not record.preprocessing}
    others = rows.keys() - authors
    assert authors < rows.keys() and {name for name, _ in others} == {
        record.model for record in list_weights() if record.preprocessing
    }
    # A network without reported results has the default of other libraries' files.
    row = rows['se_resnet50', 'ra2_in1k']
    assert (row.accuracy, row.top5, row.license, row.data) == (80.26, 95.068, 'Apache-2.0', 'ImageNet-1k')
    assert ('resnet50', 'GluonCV') in others
    for (name, tag), logged in LOGS.items():
        accuracy = logged.get('accuracy', 1 - logged.get('top1_error', 0))
        assert rows[name, tag].accuracy == pytest.approx(100 * accuracy)
    row = rows['aff_resnet50', 'imagenet']
    assert (row.data, row.top5, row.file_size) == ('ImageNet-1k', 94.7326, 2 * 30_373_192)
    assert row.license.startswith('none stated') and 'log' in row.source
    assert rows['fashion_mnist_aff_resnet8', 'fashion_mnist'].accuracy == 92.24


def test_a_plain_network_has_the_first_result_whose_weights_can_be_had():
    (row,) = summaries(['resnet101'])
    assert (row.accuracy, row.top5, row.weights) == (79.2, 94.61, 'GluonCV') and 'resnet101_v1b' in row.source
    (row,) = summaries(['cifar_aff_resnet8'])  # published for other options only
    assert row.accuracy is None and row.source == '' and row.data == 'CIFAR-100, fine labels'
    with pytest.raises(ValueError, match='did you mean'):
        summaries(['resnet5o'])


@pytest.mark.parametrize('key', SORT_KEYS)
def test_data_sets_stay_apart_in_every_order_and_the_best_come_first(key):
    rows = sort_summaries(reversed(summaries(baselines=True)), key)
    groups = [(data, list(group)) for data, group in groupby(rows, lambda row: row.data)]
    assert [data for data, _ in groups][:4] == [
        'ImageNet-1k',
        'CIFAR-100, fine labels',
        'CIFAR-100, coarse labels',
        'Fashion-MNIST',
    ]
    assert len(groups) == len({row.data for row in rows})
    attribute, descending = SORT_KEYS[key]
    for _, group in groups:
        values = [getattr(row, attribute or 'name') for row in group]
        known = [value for value in values if value is not None]
        assert values[: len(known)] == known
        if attribute:
            assert known == sorted(known, reverse=descending)
    if not attribute:
        names = [row.name for row in rows if row.name.startswith('cifar_iaff_resnet')]
        assert names == list_models('cifar_iaff_resnet*')


# The command


def listed(capsys, *args):
    assert main(['list', *args]) == 0
    return capsys.readouterr().out


def test_list_takes_a_part_of_a_name_and_tells_sources_and_licences(capsys):
    table, notes = listed(capsys, 'resnet50').split('\n\n')
    rows = {line.split()[0]: line for line in table.splitlines()[1:]}
    assert list(rows) == list_models('*resnet50*')
    assert re.search(r'79\.72 % \[\d\]  94\.73 %  30\.37 M  4\.56 G .*60\.7 MB +none stated', rows['aff_resnet50'])
    number = re.search(r'79\.15 % \[(\d)\]', rows['add_resnet50'])[1]
    assert f"[{number}] GluonCV's resnet50_v1d (117a384e)" in notes
    assert 'images/s: benchmarks/speeds.py' in notes


def test_list_as_json_filtered_and_sorted(capsys):
    rows = json.loads(listed(capsys, '--pretrained', '--json', '--sort', 'parameters'))
    assert {row['name'] for row in rows} == set(list_models(pretrained=True))
    rows = [row for row in rows if row['license'].startswith('none stated')]
    assert [row['name'] for row in rows][:2] == ['aff_resnext50_32x4d', 'aff_resnet50'] and len(rows) == 9
    assert rows[0]['accuracy'] == 79.7234
    rows = json.loads(listed(capsys, '--task', 'segmentation', '--json'))
    assert {row['name'] for row in rows} == set(list_models(['fpn_*', 'unet_*']))


def test_list_with_baselines_shows_plain_networks_among_ours(capsys):
    lines = listed(capsys, 'iaff_resnet50', '--baselines', '--sort', 'accuracy').splitlines()
    order = [
        next(i for i, line in enumerate(lines) if line.startswith(name))
        for name in ("torchvision's ResNet50_Weights (IMAGENET1K_V2)", 'iaff_resnet50', "GluonCV's resnet50_v1d (117")
    ]
    assert order == sorted(order)
    assert any('commit 0173a139a2c66db3a41ebfe1d8ac4fb02483642e' in line for line in lines)


@pytest.mark.parametrize(
    'args, says',
    [
        (['nothing'], "No network fits 'nothing'"),
        (['fpn', '--pretrained'], 'with --pretrained'),
        (['iaff_resnet50', '--task', 'segmentation'], 'with --task segmentation'),
        (['--sort', 'size'], '--sort'),
    ],
)
def test_list_refuses_with_one_sentence(args, says, capsys):
    assert main(['list', *args]) == 2
    stated = capsys.readouterr().err
    assert says in stated and stated.count('\n') == 1


# The README


def test_the_readmes_table_is_of_the_summaries():
    text = (TOP / 'README.md').read_text(encoding='utf-8')
    section = text.split('## Which network to take')[1].split('\n## ')[0]
    rows = [[cell.strip() for cell in line.strip('|').split('|')] for line in section.splitlines() if line[:3] == '| `']
    known = {(row.name, row.data): row for row in reversed(summaries(list_models()))}  # of several, the default
    data = {'ImageNet': 'ImageNet-1k', 'CIFAR-100': 'CIFAR-100, fine labels', 'Fashion-MNIST': 'Fashion-MNIST'}
    for name, dataset, accuracy, top5, parameters, multiply_adds, speed, size, _, licence in rows:
        row = known[name.strip('`'), data[dataset]]
        assert accuracy.startswith(f'{row.accuracy:.2f} %')
        assert top5 == ('-' if row.top5 is None else f'{row.top5:.2f} %')
        assert (parameters, multiply_adds) == (f'{row.parameters / 1e6:.2f} M', f'{row.multiply_adds / 1e9:.2f} G')
        assert speed == ('-' if row.images_per_second is None else f'{row.images_per_second:.1f}')
        assert size == ('-' if row.file_size is None else f'{row.file_size / 1e6:.1f} MB')
        assert licence == (row.license.split(':')[0] or '-')
    names = [name for name, *_ in rows]
    released = {f'`{record.model}`' for record in list_weights() if not record.preprocessing}
    released -= {'`cifar_aff_resnext38_32x4d`'}
    assert set(names) >= {'`resnet50`', '`add_resnet50`', '`resnet101`', *released}
    for _, group in groupby(rows, lambda row: row[1]):
        accuracies = [float(row[2].split()[0]) for row in group]
        assert accuracies == sorted(accuracies, reverse=True)


def test_a_network_registered_by_others_has_a_summary(monkeypatch):
    from model_zoo import IMAGENET, register_model, registry

    monkeypatch.setattr(registry, '_registry', dict(registry._registry))
    register_model('own_net', family='own', dataset=IMAGENET, source='this test')(
        lambda **options: get_model('cifar_aff_resnet8', **options)
    )
    (row,) = summaries(['own_net'])
    assert (row.accuracy, row.images_per_second, row.weights, row.file_size) == (None, None, '', None)
