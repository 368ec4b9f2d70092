"""The page's content: the networks' cards, published figures, ablations, curves and the pointing game."""

from __future__ import annotations

import csv
import re
import statistics
from pathlib import Path

from ...registry import IMAGENET, STOP_SIGN, list_models, model_info
from ...reported_results import HOSTS
from ...weights.catalog import checkpoints

__all__ = ['ablation', 'curves', 'models', 'pointing_game']

PACKAGE = Path(__file__).resolve().parents[2]
CHECKOUT = PACKAGE.parent

# Columns of the files in docs/ that are read here, and their types.
ABLATION = {
    'dataset': str,
    'train_images': int,
    'test_images': int,
    'epochs': int,
    'host': str,
    'fusion': str,
    'b': int,
    'reduction': str,
    'seed': int,
    'parameters': int,
    'accuracy': float,
}
SEGMENTATION = {'network': str, 'conditions': str, 'mIoU': float}
POINTING = {
    'network': str,
    'seed': int,
    'layer': str,
    'from': int,
    'to': int,
    'accuracy': float,
    'pointing': float,
    'area': float,
}

TRAINING = {
    IMAGENET.name: 'python train_imagenet.py --data-dir photos --val-fraction 0.1 --model {name}{start} --lr 0.01',
    STOP_SIGN.name: 'python train_stopsign.py --data-dir ~/.mxnet/datasets/coco --model {name}',
}
SMALL = 'python train_cifar.py --dataset digits --model {name}{start}'


def in_checkout():
    """Whether this is a checkout, and not an installed package, beside which docs/ would be anybody's."""
    setup = CHECKOUT / 'setup.py'
    return setup.is_file() and "name='gluon_aff'" in setup.read_text(encoding='utf-8', errors='replace')


def _rows(name, columns):
    """Rows of a file in docs/ of the source; none if it is empty or missing, as in an installed package.

    Raises a ValueError that names the file where a value is missing or of another type.
    """
    path = CHECKOUT / 'docs' / name
    if not (in_checkout() and path.is_file()):
        return []
    rows = []
    try:
        with open(path, encoding='utf-8', newline='') as file:
            for row in csv.DictReader(file):
                rows.append({column: kind(row[column] or '') for column, kind in columns.items()})
    except (KeyError, ValueError, csv.Error) as error:
        raise ValueError(
            f'{path}, row {len(rows) + 1}: {error!r} where the page needs the columns '
            f'{", ".join(columns)}; write it anew, or remove it.'
        ) from None
    return rows


def models():
    """A dict of plain values for each registered network, ready for JSON.

    Returns
    -------
    list of dict
        name, family, task, dataset, fusion, input, parameters, multiply_adds, source, results, checkpoints, code.

    Raises
    ------
    ValueError
        If a file in docs/ is not what its benchmark writes.
    """
    own = {}
    for name, result in _own_runs():
        own.setdefault(name, []).append(result)
    return [_model(model_info(name), own.get(name, [])) for name in list_models()]


def _model(card, own):
    files = checkpoints(card.name)
    return {
        'name': card.name,
        'family': card.family,
        'task': card.task,
        'dataset': card.dataset,
        'fusion': card.fusion or 'add',
        'input': 'x'.join(map(str, card.input_size)),
        'parameters': card.parameters,
        'multiply_adds': card.multiply_adds,
        'source': card.source,
        'results': _published(card) + _shipped(files) + own,
        'checkpoints': [_checkpoint(each) for each in files],
        'code': _code(card, files),
    }


def _published(card):
    """A network's published figures, as results; error is None unless it is a top-1 error."""
    return [
        {
            'metric': each.metric,
            'percent': each.percent,
            'error': each.error,
            'dataset': each.data,
            'options': each.options,
            'own': False,
            'source': each.source,
        }
        for each in (card.published.figures if card.published else ())
    ]


def _accuracy(percent, dataset, options, source):
    return {
        'metric': 'accuracy',
        'percent': percent,
        'error': round(100 - percent, 2),
        'dataset': dataset,
        'options': options,
        'own': True,
        'source': source,
    }


def _shipped(files):
    return [
        _accuracy(100 * each.figures['accuracy'], each.dataset, '', each.figures_source)
        for each in files
        if each.url is None
    ]


def _own_runs():
    """(name, result) of our own runs other than the shipped files': the ablation's and segmentation's."""
    for (host, fusion, b), cell in _cells(_rows('ablation.csv', ABLATION)).items():
        first = cell['first']
        options = 'width=1' + (f', reduction={first["reduction"]}' if first['reduction'] else '')
        yield (
            HOSTS[host].name.format(fusion=fusion, depth=6 * b + 2),
            _accuracy(
                round(cell['mean'], 2),
                f'{first["dataset"]}, {first["train_images"]:,} training images',
                options,
                f'ours: mean of {cell["runs"]} seeds after {first["epochs"]} epochs, docs/ablation.csv',
            ),
        )
    for row in _rows('segmentation.csv', SEGMENTATION):
        yield (
            row['network'],
            {
                'metric': 'mIoU',
                'percent': round(100 * row['mIoU'], 1),
                'error': None,
                'dataset': 'drawn stop signs',
                'options': '',
                'own': True,
                'source': f'ours: {row["conditions"]}, docs/segmentation.csv',
            },
        )


def _checkpoint(each):
    return {
        'tag': each.tag,
        'dataset': each.dataset,
        'labels': each.labels,
        'shipped': each.url is None,
        'file': each.file,
        'digest_kind': {'git_blob': 'git object id'}.get(each.digest_kind, each.digest_kind),
        'digest': each.digest,
        'license': each.license,
        'recipe': each.recipe,
        'source': each.source,
    }


def _code(card, files):
    """Titles and lines: how to get, fine-tune, look at and export a network."""
    name, get = card.name, f"net = get_model('{card.name}'"
    lines = ['from model_zoo import get_model', '']
    if files:
        lines += [f'{get}, pretrained=True)', f'{get}, pretrained=True, classes=37)      # with a fresh head']
    else:
        lines += [f'{get})', 'net.initialize()      # no parameters are released']
    # Of its three scripts train_stopsign.py starts from no parameters.
    start = (' --pretrained' if card.dataset == IMAGENET.name else ' --use-pretrained') if files else ''
    verb = 'Fine-tune' if files else 'Train'
    found = {'Get': '\n'.join(lines), verb: TRAINING.get(card.dataset, SMALL).format(name=name, start=start)}
    if any(each.url for each in files):
        found['Download'] = f'gluon-aff download {name}'
    found['Look'] = f'gluon-aff gradcam IMAGE... --models {name} -o figure.png'
    found['Export'] = f'gluon-aff export {name} -o exported'
    return found


def _cells(rows):
    """The ablation's runs by (host, fusion, b): mean, spread (standard deviation), runs, parameters, first row."""
    cells = {}
    for row in rows:
        if row['host'] not in HOSTS:
            raise ValueError(f'docs/ablation.csv has the host {row["host"]!r}; known are {", ".join(HOSTS)}.')
        cells.setdefault((row['host'], row['fusion'], row['b']), []).append(row)
    found = {}
    for key, runs in cells.items():
        values = [100 * row['accuracy'] for row in runs]
        found[key] = {
            'mean': statistics.mean(values),
            'runs': len(runs),
            'parameters': runs[0]['parameters'],
            'spread': statistics.stdev(values) if len(values) > 1 else 0,
            'first': runs[0],
        }
    return found


def ablation():
    """The runs of docs/ablation.csv, or None if it is missing or empty.

    Returns
    -------
    dict or None
        conditions, and cells {(host, fusion, b): {mean, spread, runs, parameters, ...}} in per cent.

    Raises
    ------
    ValueError
        If the file is not what benchmarks/ablation.py writes.
    """
    rows = _rows('ablation.csv', ABLATION)
    if not rows:
        return None
    first = rows[0]
    conditions = (
        f'{first["dataset"]}, {first["train_images"]:,} training images, '
        f'{first["test_images"]:,} held-out images, {first["epochs"]} epochs, '
        f'{len({row["seed"] for row in rows})} seeds; accuracy after the last epoch'
    )
    return {'conditions': conditions, 'cells': _cells(rows)}


def curves():
    """Held-out accuracy by epoch of the shipped networks, from their logs: {name: [per cent, ...]}."""
    found = {}
    for path in sorted((PACKAGE / 'weights' / 'released').glob('*.txt')):
        values = re.findall(r'^\[Epoch \d+\].* val=([\d.]+)', path.read_text(encoding='utf-8'), re.MULTILINE)
        if values:
            found[path.stem] = [100 * float(value) for value in values]
    return found


def pointing_game():
    """Rows of docs/pointing_game.csv, or none if it is missing.

    Raises
    ------
    ValueError
        If the file is not what benchmarks/pointing_game.py writes.
    """
    return _rows('pointing_game.csv', POINTING)
