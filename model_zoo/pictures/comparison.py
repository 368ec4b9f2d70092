"""The AFF authors' comparison on ImageNet, as a table and a picture: published results beside what is counted here."""

from __future__ import annotations

import csv
import math
import statistics
import sys
import time
from dataclasses import dataclass
from typing import Sequence, TextIO

import mxnet as mx
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from tqdm import tqdm

from gluon_aff._deprecated import renamed
from gluon_aff.inspect.complexity import complexity
from gluon_aff.style import COLOURS, STYLE

from ..datasets import IMAGENET
from ..registry import get_model
from ..reported_results import REPORTED, Reported
from .label_layout import label_boxes

__all__ = ['Row', 'TABLE', 'compare', 'figure', 'write_csv', 'write_markdown']

TABLE = (
    'resnet101',
    'eca_resnet101',
    'aa_resnet101',
    'se_resnet101',
    'ge_theta_plus_resnet101',
    'lip_resnet101',
    'sk_resnet50',
    'aff_resnet50',
    'iaff_resnet50',
    'iaff_resnext50_32x4d',
    'se_resnet50+aff',
    'sk_resnet50+iaff',
)
RUNS = 5


@dataclass
class Row:
    """A network of the comparison.

    Attributes
    ----------
    name : str
    reported : Reported or None
    parameters, without_classifier : int
        Trainable ones.
    multiply_adds : int
        For one image of 224x224.
    images_per_second : float or None
        Of inference, where it was measured.
    """

    name: str
    reported: Reported | None
    parameters: int
    without_classifier: int
    multiply_adds: int
    images_per_second: float | None = None

    published = renamed('reported')


def compare(names: Sequence[str] = TABLE, *, batch: int | None = None, ctx: mx.Context | None = None) -> list[Row]:
    """Count the parameters and multiply-adds of networks, and measure their speed if a batch size is given.

    Parameters
    ----------
    names : sequence of str, default TABLE
        Registered names, each with another fusion in place of its own as in 'se_resnet50+aff', if any.
    batch : int, optional
    ctx : mxnet.Context, default mxnet.cpu()
        Where the speed is measured.

    Raises
    ------
    ValueError
        For an unknown network or fusion.
    """
    rows, nets = [], []
    for name in names:
        network, hybrid, fusion = name.partition('+')
        net = get_model(network, fusion=fusion) if hybrid else get_model(network)
        parameters, multiply_adds = complexity(net, (1, *IMAGENET.input_size))
        head = getattr(net, net.head_name).collect_params().values()
        rows.append(
            Row(
                name,
                None if hybrid else REPORTED.get(network.lower()),
                parameters,
                parameters - sum(math.prod(parameter.shape) for parameter in head),
                multiply_adds,
            )
        )
        nets.append(net)
    if batch:
        for row, seconds in zip(rows, _seconds(nets, (batch, *IMAGENET.input_size), ctx or mx.cpu())):
            row.images_per_second = batch / seconds
    return rows


def _seconds(nets, shape, ctx):
    """Median time of each forward pass; they take turns, so that a busy machine slows all alike."""
    data = mx.nd.random.uniform(shape=shape, ctx=ctx)
    for net in nets:
        net.initialize(mx.init.Xavier(), ctx=ctx)
        net.hybridize()
        net(data).wait_to_read()
    times = [[] for _ in nets]
    for _ in tqdm(range(RUNS), unit='run', file=sys.stderr, leave=False, disable=None):
        for net, seconds in zip(nets, times):
            start = time.perf_counter()
            net(data).wait_to_read()
            seconds.append(time.perf_counter() - start)
    return [statistics.median(seconds) for seconds in times]


def write_markdown(rows: Sequence[Row], out: TextIO, *, how: str = '') -> None:
    """Write the `rows` as a Markdown table to `out`, with the sources below; `how` says how the speed was measured."""
    lines = [
        'network | published top-1 error, % | published parameters, M | parameters, M | without classifier, M | '
        'multiply-adds, G | images/s',
        '--- | ---: | ---: | ---: | ---: | ---: | ---:',
    ]
    for row in rows:
        stated = row.reported or Reported()
        reported = ['' if value is None else f'{round(value, 2):g}' for value in (stated.top1_error, stated.parameters)]
        measured = [row.parameters / 1e6, row.without_classifier / 1e6, row.multiply_adds / 1e9, row.images_per_second]
        counted = ['' if value is None else f'{value:.2f}' for value in measured]
        lines.append(' | '.join([row.name, *reported, *counted]))
    for line in lines:
        print(f'| {line} |', file=out)
    print(
        '\nPublished results are not ours, and from recipes that differ. The other columns are counted here: '
        f'trainable parameters, multiply-adds of one 224x224 image{", images/s of " + how if how else ""}.\n',
        file=out,
    )
    for row in rows:
        if row.reported and row.reported.source:
            counted = f'; parameters {row.reported.counted}' if row.reported.parameters else ''
            print(f'- {row.name}: {row.reported.source}{counted}', file=out)


def write_csv(rows: Sequence[Row], out: TextIO) -> None:
    """Write the `rows` as CSV to `out`, with all digits; unknown values are empty."""
    writer = csv.writer(out)
    writer.writerow(
        'network published_top1_error_percent published_parameters_millions published_counted published_source '
        'parameters parameters_without_classifier multiply_adds images_per_second'.split()
    )
    for row in rows:
        stated = row.reported or Reported()
        reported = (stated.top1_error, stated.parameters, stated.counted, stated.source)
        counted = (row.parameters, row.without_classifier, row.multiply_adds, row.images_per_second)
        writer.writerow((row.name, *reported, *counted))


def figure(rows: Sequence[Row]) -> Figure:
    """Published error against parameters and against multiply-adds, both counted here, for the `rows` with an error.

    Raises
    ------
    ValueError
        If no row has a published error.
    """
    rows = [row for row in rows if row.reported and row.reported.top1_error is not None]
    if not rows:
        raise ValueError('None of these networks has a published error to draw.')
    errors = [row.reported.top1_error for row in rows]
    with rc_context(STYLE):
        picture = Figure(figsize=(12, 5))
        canvas = FigureCanvasAgg(picture)
        for axes, label, costs in zip(
            picture.subplots(1, 2),
            ('parameters (M), with the classifier', 'multiply-adds at 224x224 (G)'),
            ([row.parameters / 1e6 for row in rows], [row.multiply_adds / 1e9 for row in rows]),
        ):
            axes.scatter(costs, errors, color=COLOURS[0], zorder=3)
            axes.set(xlabel=label, ylabel='published top-1 error on ImageNet (%)')
            axes.margins(0.2)
        picture.tight_layout()
        canvas.draw()
        for axes in picture.axes:
            _label(axes, [row.name for row in rows], canvas.get_renderer())
    return picture


def _label(axes, names, renderer):
    """Write the names beside the points of a scatter plot, each with a line to its point."""
    points = axes.collections[0].get_offsets()
    texts = [
        axes.annotate(
            name,
            point,
            (0, 0),
            textcoords='offset pixels',
            fontsize=8,
            va='center',
            arrowprops={'arrowstyle': '-', 'lw': 0.5, 'color': 'gray', 'shrinkA': 0, 'shrinkB': 3},
        )
        for name, point in zip(names, points)
    ]
    pixels = [tuple(point) for point in axes.transData.transform(points)]
    extents = [Text.get_window_extent(text, renderer) for text in texts]  # without the line
    sizes = [(extent.width + 2, extent.height + 4) for extent in extents]  # with some room around
    boxes = label_boxes(pixels, sizes, axes.bbox.extents, radii=range(11, 280, 8))
    for text, box, (x, y) in zip(texts, boxes, pixels):
        if box is None:
            text.remove()
            continue
        x0, y0, x1, y1 = box
        align, edge = ('left', x0) if x0 > x else ('right', x1) if x1 < x else ('center', (x0 + x1) / 2)
        text.set(position=(edge - x, (y0 + y1) / 2 - y), horizontalalignment=align)
