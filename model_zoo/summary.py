"""What is known of the networks in one row each: accuracy, size, speed, weights and their licence."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Iterable, Sequence

from .baselines import BASELINES
from .datasets import CIFAR100, STOP_SIGN
from .registry import list_models, model_info
from .reported_results import FINE, HOSTS, LOG, METRICS, TAGS, Result
from .weights import ReleasedWeights, list_weights

__all__ = ['SORT_KEYS', 'Summary', 'sort_summaries', 'speed_conditions', 'summaries']

# What results call the data that a default head is for, where their name is another one.
DATA = {CIFAR100.name: FINE, STOP_SIGN.name: HOSTS['fpn'].data}
_LIBRARIES = {baseline.source: baseline for baseline in BASELINES}


@dataclass(frozen=True)
class Summary:
    """A network with one known result, or with none; a network with results on two data sets has two.

    Attributes
    ----------
    name : str
        A registered name, or a baseline's, such as "timm's resnet50 (a1_in1k) at 288x288".
    task : str
        'classification' or 'segmentation'.
    data : str
        The data set of the result, or the one that the default head is for.
    accuracy, top5 : float or None
        In per cent; the accuracy is top-1, or a segmentation network's mIoU.
    source : str
        Who reports the accuracy; '' if it is unknown.
    input_size : tuple of int
        Channels, height, width.
    parameters : int
    multiply_adds : int or None
        For one image of the input size.
    images_per_second : float or None
        As :func:`speed_conditions` says.
    weights : str
        What the accuracy is of: the tag of released weights, or the library that has them; '' if nobody has.
    file_size : int or None
        Bytes of their file; computed from the number of parameters where the file was never downloaded here.
    license : str
        Of the weights.
    """

    name: str
    task: str
    data: str
    accuracy: float | None
    top5: float | None
    source: str
    input_size: tuple[int, ...]
    parameters: int
    multiply_adds: int | None
    images_per_second: float | None
    weights: str
    file_size: int | None
    license: str


@lru_cache(maxsize=None)
def _speeds():
    """Content of speeds.json, which benchmarks/speeds.py writes."""
    return json.loads(Path(__file__).with_name('speeds.json').read_text(encoding='utf-8'))


def speed_conditions() -> str:
    """How the images a second of the summaries were measured: command, machine, batch."""
    return _speeds()['how']


def summaries(names: Sequence[str] | None = None, *, baselines: bool = False) -> list[Summary]:
    """Summaries of registered networks.

    Parameters
    ----------
    names : sequence of str, default all registered names
    baselines : bool, default False
        Add the published results of other libraries' residual networks.

    Returns
    -------
    list of Summary
        Sorted by data set, then by name.

    Raises
    ------
    ValueError
        For an unknown name.
    """
    rows = [row for name in (list_models() if names is None else names) for row in _of_network(model_info(name))]
    if baselines:
        listed = {row.source for row in rows}
        rows += [_of_baseline(baseline) for baseline in BASELINES if baseline.source not in listed]
    return sort_summaries(rows)


def _of_network(card):
    """A summary for each of the authors' and our files; without any, one for its first result with default options.

    Without a result, too, one for the default of other libraries' files.
    """
    released = list_weights(card.name)
    results = [result for result in card.reported.results if not result.options] if card.reported else []
    released = [weights for weights in released if not weights.preprocessing] or ([] if results else released[:1])
    if released:
        return [_summary(card, *_of_weights(card, weights), weights) for weights in released]
    # First a library's: its weights can be had.
    results.sort(key=lambda result: result.source not in _LIBRARIES)
    first = next((result for result in results if result.metric != 'top-5 error'), None)
    top5 = next((r for r in results if first and r.metric == 'top-5 error' and r.source == first.source), None)
    return [_summary(card, first, top5)]


def _of_weights(card, weights):
    """The results (top-1, top-5) of released weights; None for what is unknown."""
    data = TAGS.get(weights.tag) or TAGS.get(weights.classes, weights.dataset)
    results = card.reported.results if card.reported else ()
    logged = {result.metric: result for result in results if result.source == LOG and result.data == data}
    if 'accuracy' in weights.metrics and not logged:
        logged['accuracy'] = Result('accuracy', 100 * weights.metrics['accuracy'], data, weights.metrics_source)
    if 'top1_error' in weights.metrics and not logged:
        logged = {
            METRICS[name]: Result(METRICS[name], round(100 * value, 4), data, weights.metrics_source)
            for name, value in weights.metrics.items()
        }
    return logged.get('accuracy') or logged.get('top-1 error'), logged.get('top-5 error')


def _summary(card, result: Result | None, top5: Result | None, weights: ReleasedWeights | None = None) -> Summary:
    accuracy, library = None, _LIBRARIES.get(result.source) if result else None
    if result:
        accuracy = result.percent if result.error is None else round(100 - result.error, 4)
    return Summary(
        name=card.name,
        task=card.spec.task,
        data=result.data if result else DATA.get(card.dataset, card.dataset),
        accuracy=accuracy,
        top5=round(100 - top5.percent, 4) if top5 else None,
        source=result.source if result else '',
        input_size=card.spec.input_size,
        parameters=card.parameters,
        multiply_adds=card.multiply_adds,
        images_per_second=_speeds()['images_per_second'].get(card.name),
        weights=weights.tag if weights else library.library if library else '',
        file_size=weights.file_size(card.parameters) if weights else None,
        license=weights.license if weights else library.license if library else '',
    )


def _of_baseline(baseline):
    return Summary(
        name=baseline.source,
        task='classification',
        data=TAGS['imagenet'],
        accuracy=baseline.top1,
        top5=baseline.top5,
        source=baseline.source,
        input_size=(3, baseline.image_size, baseline.image_size),
        parameters=baseline.parameters,
        multiply_adds=baseline.multiply_adds,
        images_per_second=None,
        weights=baseline.library,
        file_size=baseline.file_size,
        license=baseline.license,
    )


def _natural(name):
    return [(not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r'(\d+)', name)]


def _data_key(data):
    """ImageNet, CIFAR, Fashion-MNIST, then the others; of CIFAR-100 the fine labels first."""
    first = [number for number, start in enumerate(('ImageNet', 'CIFAR', 'Fashion')) if data.startswith(start)]
    return (first or [9])[0], data != FINE, data


# What a listing can be sorted by: the key, and whether the largest come first.
SORT_KEYS = {
    'name': (None, False),
    'accuracy': ('accuracy', True),
    'parameters': ('parameters', False),
    'multiply-adds': ('multiply_adds', False),
    'speed': ('images_per_second', True),
}


def sort_summaries(rows: Iterable[Summary], key: str = 'name') -> list[Summary]:
    """Sort within each data set, as results on different ones do not compare.

    Parameters
    ----------
    rows : iterable of Summary
    key : str, default 'name'
        One of `SORT_KEYS`. The best come first: the most accurate, smallest or fastest; unknown values come last.
    """
    attribute, descending = SORT_KEYS[key]

    def order(row):
        value = getattr(row, attribute) if attribute else 0
        known = value is not None
        return (_data_key(row.data), not known, (-value if descending else value) if known else 0, _natural(row.name))

    return sorted(rows, key=order)
