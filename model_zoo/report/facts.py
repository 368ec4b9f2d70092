"""What the page says: the networks' cards, what is stated of them, ablations, curves and the pointing game."""
from __future__ import annotations

import csv
import json
import re
import statistics
from collections import defaultdict
from pathlib import Path

from ..published import PUBLISHED
from ..registry import IMAGENET, STOP_SIGN, list_models, model_info
from ..weights import checkpoints

__all__ = ['ablation', 'curves', 'models', 'pointing_game']

PACKAGE = Path(__file__).resolve().parent.parent
CHECKOUT = PACKAGE.parent

TRAINING = {
    IMAGENET.name: 'python train_imagenet.py --data-dir photos --val-fraction 0.1 --model {name}{start} --lr 0.01',
    STOP_SIGN.name: 'python train_stopsign.py --data-dir ~/.mxnet/datasets/coco --model {name}'}
SMALL = 'python train_cifar.py --dataset digits --model {name}{start}'


def in_checkout(*names):
    """Paths of files of a checkout, or None where the package is installed: docs/ beside it would be anybody's."""
    setup, paths = CHECKOUT / 'setup.py', [CHECKOUT / name for name in names]
    ours = setup.is_file() and "name='gluon_aff'" in setup.read_text(encoding='utf-8', errors='replace')
    return paths if ours and all(path.is_file() for path in paths) else None


def models():
    """A dict of plain values for each registered network, ready for JSON.

    Returns
    -------
    list of dict
        name, family, task, dataset, fusion, input, parameters, multiply_adds, source, results, checkpoints, code.
    """
    return [_model(model_info(name)) for name in list_models()]


def _model(card):
    files = checkpoints(card.name)
    return {'name': card.name, 'family': card.family, 'task': card.task, 'dataset': card.dataset,
            'fusion': card.fusion or 'add', 'input': 'x'.join(map(str, card.input_size)),
            'parameters': card.parameters, 'multiply_adds': card.multiply_adds, 'source': card.source,
            'results': _results(card.name, files), 'checkpoints': [_checkpoint(each) for each in files],
            'code': _code(card, files)}


def _results(name, files):
    """What is stated of a network: top-1 error in per cent, on what, by whom."""
    found = []
    for each in files:
        error = each.figures.get('top1_error', 1 - each.figures.get('accuracy', 0))
        coarse = ', coarse labels' * (each.labels == 'cifar100_coarse')
        found.append({'error': round(100 * error, 2), 'dataset': each.dataset + coarse,
                      'own': each.figures_source.startswith('ours'), 'source': each.figures_source})
    said = PUBLISHED.get(name)
    # A released log may be stated in both places.
    if said and said.top1_error is not None and said.top1_error not in [each['error'] for each in found]:
        found.append({'error': said.top1_error, 'dataset': IMAGENET.name, 'own': False, 'source': said.source})
    return found


def _checkpoint(each):
    return {'tag': each.tag, 'dataset': each.dataset, 'labels': each.labels, 'shipped': each.url is None,
            'file': each.file, 'digest_kind': {'git_blob': 'git object id'}.get(each.digest_kind, each.digest_kind),
            'digest': each.digest, 'license': each.license, 'recipe': each.recipe, 'source': each.source}


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


def ablation():
    """The runs of docs/ablation.csv and the paper's tables beside them, or None where they are not at hand.

    Returns
    -------
    dict or None
        conditions, hosts {host: {fusion: (mean, deviation, runs, parameters)}} in per cent, and published, the
        contents of benchmarks/ablation.json.
    """
    paths = in_checkout('docs/ablation.csv', 'benchmarks/ablation.json')
    if not paths:
        return None
    runs, tables = paths
    with open(runs, encoding='utf-8', newline='') as file:
        rows = list(csv.DictReader(file))
    published = json.loads(tables.read_text(encoding='utf-8'))
    accuracies, parameters = defaultdict(list), {}
    for row in rows:
        place = row['host'], row['b'], row['fusion']
        accuracies[place].append(100 * float(row['accuracy']))
        parameters[place] = int(row['parameters'])
    hosts = {}
    for (host, b, fusion), values in accuracies.items():
        title = f'{published["hosts"][host]}, b = {b}'
        spread = statistics.stdev(values) if len(values) > 1 else 0
        hosts.setdefault((host, int(b), title), {})[fusion] = (statistics.mean(values), spread, len(values),
                                                               parameters[host, b, fusion])
    first = rows[0]
    conditions = (f'{first["dataset"]}, {int(first["train_images"]):,} training images, '
                  f'{int(first["test_images"]):,} held-out images, {first["epochs"]} epochs, '
                  f'{len({row["seed"] for row in rows})} seeds; accuracy after the last epoch')
    return {'conditions': conditions, 'hosts': hosts, 'published': published}


def curves():
    """Held-out accuracy by epoch of the shipped networks, from their logs: {name: [per cent, ...]}."""
    found = {}
    for path in sorted((PACKAGE / 'checkpoints').glob('*.txt')):
        values = re.findall(r'^\[Epoch \d+\].* val=([\d.]+)', path.read_text(encoding='utf-8'), re.MULTILINE)
        found[path.stem] = [100 * float(value) for value in values]
    return found


def pointing_game():
    """Rows of docs/pointing_game.csv, or none where it is not at hand."""
    paths = in_checkout('docs/pointing_game.csv')
    if not paths:
        return []
    with open(paths[0], encoding='utf-8', newline='') as file:
        return list(csv.DictReader(file))
