"""The choice of INT8's ranges, and of the nodes that stay in float32, by measurement."""

from __future__ import annotations

from typing import Any, Callable, Sequence

from .calibration import PercentileCollector

__all__ = ['AUTO', 'choose_int8']

AUTO = 'auto'
AGREEMENT = 0.99  # the share of images that keep float32's class with which 'auto' is content


def choose_int8(
    calibrate: Callable[[str], PercentileCollector],
    quantize: Callable[[PercentileCollector, Sequence[str]], Any],
    compare: Callable[[Any], dict],
    sensitive: Callable[[PercentileCollector], list[tuple[str, float]]],
    *,
    ranges: str | None,
    float_nodes: int | str,
) -> tuple[Any, dict]:
    """A network in INT8, and its comparison with float32.

    Parameters
    ----------
    calibrate : callable
        From 'percentile', 'naive' or 'entropy' to the ranges.
    quantize : callable
        From the ranges and the names of the nodes that stay in float32 to the network in INT8.
    compare : callable
        From that to what :func:`gluon_aff.deploy.compare_onnx` reports.
    sensitive : callable
        From the ranges to (name, change of the output) of each node, the largest first.
    ranges : str or None
        None for 'percentile' or 'naive', whichever changes the output less.
    float_nodes : int or 'auto'
        How many nodes stay in float32. 'auto' tries 0, 1, 2, 4, ..., up to half of them, until 99 % of the images keep
        their class, and else takes the one that changes the output least.
    """

    def attempt(kind, names=()):
        quantized = quantize(collectors[kind], names)
        return quantized, {**compare(quantized), 'ranges': kind, 'float_nodes': list(names)}

    def change(attempted):
        return attempted[1]['mean_absolute_difference']

    collectors = {ranges or 'percentile': calibrate(ranges or 'percentile')}
    if not ranges:
        collectors['naive'] = collectors['percentile'].with_percentile(100)
    best = min(map(attempt, collectors), key=change)
    if not float_nodes or (float_nodes == AUTO and best[1]['top1_agreement'] >= AGREEMENT):
        return best
    kind = best[1]['ranges']
    names = [name for name, _ in sensitive(collectors[kind])]
    if float_nodes != AUTO:
        return attempt(kind, names[: int(float_nodes)])
    count = 1
    # One node alone may change nothing, as its maps are quantized by its neighbours.
    while best[1]['top1_agreement'] < AGREEMENT and count <= len(names) / 2:
        best, count = min(best, attempt(kind, names[:count]), key=change), 2 * count
    return best
