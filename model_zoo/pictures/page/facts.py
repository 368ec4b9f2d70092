"""The page's content: the networks' cards, results, ablations, training curves and the pointing game."""

from __future__ import annotations

import csv
import re
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Sequence

from ...datasets import IMAGENET, STOP_SIGN
from ...registry import ModelCard, list_models, model_info
from ...reported_results import HOSTS, Result
from ...summary import summaries
from ...weights import ReleasedWeights, list_weights

__all__ = ['Model', 'ablation', 'curves', 'models', 'pointing_game']

CHECKOUT = Path(__file__).resolve().parents[3]

# Columns of the files in docs/ that are read here, and their types.
STUDY = {
    'recipe': str,
    'host': str,
    'b': int,
    'seed': int,
    'fusion': str,
    'budget': str,
    'width': float,
    'reduction': str,
    'parameters': int,
    'train_images': int,
    'test_images': int,
    'updates': int,
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


@dataclass(frozen=True)
class Model:
    """A network on the page: its card, reported results and our own, weights, code by title, images a second."""

    card: ModelCard
    reported: Sequence[Result]
    own: Sequence[Result]
    weights: Sequence[ReleasedWeights]
    code: dict[str, str]
    images_per_second: float | None = None

    @property
    def fusion(self) -> str:
        """Its fusion; networks without a choice add."""
        return self.card.fusion or 'add'


def in_checkout() -> bool:
    """Whether this is a checkout; beside an installed package, docs/ would be another project's."""
    files = [CHECKOUT / name for name in ('pyproject.toml', 'setup.py')]
    texts = [file.read_text(encoding='utf-8', errors='replace') for file in files if file.is_file()]
    return any(re.search('name ?= ?["\']gluon_aff["\']', text) for text in texts)


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


def models() -> list[Model]:
    """All registered networks.

    Raises
    ------
    ValueError
        If a file in docs/ is not what its benchmark writes.
    """
    own = {}
    for name, result in _own_results():
        own.setdefault(name, []).append(result)
    return [_model(model_info(name), own.get(name, [])) for name in list_models()]


def _model(card, own):
    weights = list_weights(card.name)
    shipped = [
        Result('accuracy', 100 * file.metrics['accuracy'], file.dataset, file.metrics_source)
        for file in weights
        if file.url is None
    ]
    reported = card.reported.results if card.reported else ()
    speed = summaries([card.name])[0].images_per_second
    return Model(card, reported, shipped + own, weights, _code(card, weights), speed)


def _own_results():
    """(name, result) of our own runs other than the shipped files': the study's and segmentation's."""
    for (host, fusion, b), cell in _cells(_study()).items():
        first = cell['first']
        data = f'Fashion-MNIST, {first["train_images"]:,} training images'
        source = f'ours: mean of {cell["runs"]} seeds after {first["updates"]:,} updates, docs/study.csv'
        options = f'width={first["width"]:.3g}' + (f', reduction={first["reduction"]}' if first['reduction'] else '')
        name = HOSTS[host].name.format(fusion=fusion, depth=6 * b + 2)
        yield name, Result('accuracy', round(cell['mean'], 2), data, source, options)
    networks = {}
    for row in _rows('segmentation.csv', SEGMENTATION):
        networks.setdefault(row['network'], []).append(row)
    for name, rows in networks.items():
        runs = f'mean of {len(rows)} seeds, ' if len(rows) > 1 else ''
        source = f'ours: {runs}{rows[0]["conditions"]}, docs/segmentation.csv'
        value = statistics.mean(row['mIoU'] for row in rows)
        yield name, Result('mIoU', round(100 * value, 1), 'drawn stop signs', source)


def _code(card, files):
    """By title, the code or command to get a network, fine-tune it, explain its predictions and export it."""
    name, get = card.name, f"net = get_model('{card.name}'"
    lines = ['from model_zoo import get_model', '']
    if files:
        lines += [f'{get}, pretrained=True)', f'{get}, pretrained=True, classes=37)      # with a fresh head']
    else:
        lines += [f'{get})', 'net.initialize()      # no parameters are released']
    # Of the three scripts train_stopsign.py alone starts from no parameters.
    start = (' --pretrained' if card.dataset == IMAGENET.name else ' --use-pretrained') if files else ''
    train = TRAINING.get(card.dataset, SMALL).format(name=name, start=start)
    download = {'Download': f'gluon-aff download {name}'} if any(file.url for file in files) else {}
    return {
        'Get': '\n'.join(lines),
        'Fine-tune' if files else 'Train': train,
        **download,
        'Grad-CAM': f'gluon-aff gradcam IMAGE... --models {name} -o figure.png',
        'Export': f'gluon-aff export {name} -o exported',
    }


def _study():
    """The study's runs with the basic recipe and equal parameters, as in the paper's tables."""
    return [row for row in _rows('study.csv', STUDY) if (row['recipe'], row['budget']) == ('basic', 'equal')]


def _cells(rows):
    """The study's runs by (host, fusion, b): mean, standard deviation, number of runs, parameters, first row."""
    groups = {}
    for row in rows:
        if row['host'] not in HOSTS:
            raise ValueError(f'docs/study.csv has the host {row["host"]!r}; known are {", ".join(HOSTS)}.')
        groups.setdefault((row['host'], row['fusion'], row['b']), []).append(row)
    cells = {}
    for key, runs in groups.items():
        accuracies = [100 * row['accuracy'] for row in runs]
        cells[key] = {
            'mean': statistics.mean(accuracies),
            'deviation': statistics.stdev(accuracies) if len(runs) > 1 else 0,
            'runs': len(runs),
            'parameters': runs[0]['parameters'],
            'first': runs[0],
        }
    return cells


def ablation() -> dict | None:
    """The runs of docs/study.csv with the basic recipe and equal parameters, or None without any.

    Returns
    -------
    dict or None
        conditions, and cells {(host, fusion, b): {mean, deviation, runs, parameters, ...}} in per cent.

    Raises
    ------
    ValueError
        If the file is not what benchmarks/study.py writes.
    """
    rows = _study()
    if not rows:
        return None
    first = rows[0]
    conditions = (
        f'Fashion-MNIST, {first["train_images"]:,} training images, {first["test_images"]:,} test images, '
        f'{first["updates"]:,} updates, {len({row["seed"] for row in rows})} seeds; accuracy after the last epoch'
    )
    return {'conditions': conditions, 'cells': _cells(rows)}


def curves() -> dict[str, list[float]]:
    """Accuracy by epoch, in per cent, of each network's shipped default on the images that chose the epoch: its log."""
    defaults = {record.model: record for record in reversed(list_weights()) if record.url is None}
    values = {}
    for name, record in sorted(defaults.items()):
        log = Path(record.path()).with_suffix('.txt')
        text = log.read_text(encoding='utf-8') if log.is_file() else ''
        accuracies = re.findall(r'^\[Epoch \d+\].* val=([\d.]+)', text, re.MULTILINE)
        if accuracies:
            values[name] = [100 * float(value) for value in accuracies]
    return values


def pointing_game() -> list[dict]:
    """Rows of docs/pointing_game.csv, or none if it is missing.

    Raises
    ------
    ValueError
        If the file is not what benchmarks/pointing_game.py writes.
    """
    return _rows('pointing_game.csv', POINTING)
