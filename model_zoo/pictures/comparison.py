"""Networks side by side, as a table and a picture: published results beside what is counted and measured here."""

from __future__ import annotations

import csv
import math
import os
import statistics
import sys
import time
from dataclasses import dataclass, replace
from typing import Sequence, TextIO

import mxnet as mx
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from tqdm import tqdm

from gluon_aff._deprecated import renamed
from gluon_aff.inspect.complexity import complexity
from gluon_aff.style import COLOURS, styled

from ..datasets import IMAGENET
from ..registry import get_model, model_info
from ..reported_results import REPORTED, Reported
from ..summary import Summary, summaries
from ..weights import list_weights
from .label_layout import label_boxes

__all__ = [
    'Row',
    'TABLE',
    'check_plot',
    'compare',
    'figure',
    'left_out',
    'measure',
    'sort_rows',
    'write_csv',
    'write_markdown',
]

TABLE = (
    'resnet101',
    'eca_resnet101',
    'aa_resnet101',
    'se_resnet101',
    'ge_theta_plus_resnet101',
    'lip_resnet101',
    'sk_resnet50',
    'add_resnet50',
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
        For one image of the network's input size.
    images_per_second : float or None
        Of inference, where it was measured.
    summary : Summary or None
        Of the network with its default options and weights; None with another fusion.
    data : str
        The data set of the error.
    """

    name: str
    reported: Reported | None
    parameters: int
    without_classifier: int
    multiply_adds: int
    images_per_second: float | None = None
    summary: Summary | None = None
    data: str = IMAGENET.name

    published = renamed('reported')

    @property
    def error(self) -> float | None:
        """The published top-1 error in per cent, or None."""
        if self.reported and self.reported.top1_error is not None:
            return self.reported.top1_error
        known = self.summary and self.summary.task == 'classification' and self.summary.accuracy is not None
        return round(100 - self.summary.accuracy, 4) if known else None

    @property
    def source(self) -> str:
        """Who reports the error and the parameters; '' if nobody does."""
        return (self.reported.source if self.reported else '') or (self.summary.source if self.summary else '')


def _build(name):
    network, hybrid, fusion = name.partition('+')
    return get_model(network, fusion=fusion) if hybrid else get_model(network)


def _input_size(name):
    return model_info(name.partition('+')[0]).spec.input_size


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
    rows = []
    for name in names:
        net = _build(name)
        parameters, multiply_adds = complexity(net, (1, *_input_size(name)))
        head = getattr(net, net.head_name).collect_params().values()
        registered, summary = '+' not in name, summaries([name.partition('+')[0]])[0]
        if any(weights.metrics_source == summary.source and weights.preprocessing for weights in list_weights()):
            # Their recipes, with more epochs and augmentation, do not compare with the papers'.
            summary = replace(summary, accuracy=None, top5=None, source='')
        rows.append(
            Row(
                name,
                REPORTED.get(name.lower()) if registered else None,
                parameters,
                parameters - sum(math.prod(parameter.shape) for parameter in head),
                multiply_adds,
                summary=summary if registered else None,
                data=summary.data,
            )
        )
    if batch:
        measure(rows, batch, ctx=ctx)
    return rows


def measure(rows: Sequence[Row], batch: int, *, ctx: mx.Context | None = None) -> None:
    """Set the images a second of `rows`: inference on batches of images of each network's own input size.

    Parameters
    ----------
    rows : sequence of Row
    batch : int
        Images in a batch.
    ctx : mxnet.Context, default mxnet.cpu()
    """
    shapes = [(batch, *_input_size(row.name)) for row in rows]
    for row, seconds in zip(rows, _seconds([_build(row.name) for row in rows], shapes, ctx or mx.cpu())):
        row.images_per_second = batch / seconds


def _seconds(nets, shapes, ctx):
    """Median time of a forward pass of each; they take turns, so that a busy machine slows all alike."""
    batches = [mx.nd.random.uniform(shape=shape, ctx=ctx) for shape in shapes]
    for net, data in zip(nets, batches):
        net.initialize(mx.init.Xavier(), ctx=ctx)
        net.hybridize()
        net(data).wait_to_read()
    times = [[] for _ in nets]
    for _ in tqdm(range(RUNS), unit='run', file=sys.stderr, leave=False, disable=None):
        for net, data, seconds in zip(nets, batches, times):
            start = time.perf_counter()
            net(data).wait_to_read()
            seconds.append(time.perf_counter() - start)
    return [statistics.median(seconds) for seconds in times]


def sort_rows(rows: Sequence[Row]) -> list[Row]:
    """The rows of each data set together, in the order of its first row; the least error first, unknown ones last."""
    order = list(dict.fromkeys(row.data for row in rows))
    return sorted(rows, key=lambda row: (order.index(row.data), row.error is None, row.error or 0))


def write_markdown(rows: Sequence[Row], out: TextIO, *, how: str = '') -> None:
    """Write a Markdown table for each data set to `out`, with the sources below; `how` says how speed was measured."""
    head = (
        'network | published top-1 error, % | published parameters, M | parameters, M | without classifier, M | '
        'multiply-adds, G | images/s | weights | file, MB | licence'
    )
    for data in dict.fromkeys(row.data for row in rows):
        print(f'On {data}:\n\n| {head} |\n| --- |{" ---: |" * 6} --- | ---: | --- |', file=out)
        for row in rows:
            if row.data == data:
                print(f'| {" | ".join(_markdown_cells(row))} |', file=out)
        print(file=out)
    print(
        'Published results are not ours, and from recipes that differ. The other columns are counted here: trainable '
        f"parameters, multiply-adds of one image of the network's input size{', images/s of ' + how if how else ''}.\n",
        file=out,
    )
    for row in rows:
        if row.source:
            counted = f'; parameters {row.reported.counted}' if row.reported and row.reported.parameters else ''
            print(f'- {row.name}: {row.source}{counted}{_other_results(row)}', file=out)


def _other_results(row):
    """The published errors of a row, with their sources, that its table does not show."""
    results = row.reported.results if row.reported else ()
    others = [r for r in results if r.error not in (None, row.error) and r.data == row.data and not r.options]
    return ''.join(f'; also {round(r.error, 2):g} %, {r.source}' for r in others)


def _markdown_cells(row):
    stated, summary = row.reported or Reported(), row.summary
    reported = ['' if value is None else f'{round(value, 2):g}' for value in (row.error, stated.parameters)]
    measured = [row.parameters / 1e6, row.without_classifier / 1e6, row.multiply_adds / 1e9, row.images_per_second]
    counted = ['' if value is None else f'{value:.2f}' for value in measured]
    weights = [summary.weights, _megabytes(summary), summary.license.split(':')[0]] if summary else [''] * 3
    return [row.name, *reported, *counted, *weights]


def _megabytes(summary):
    return f'{summary.file_size / 1e6:.1f}' if summary.file_size else ''


def write_csv(rows: Sequence[Row], out: TextIO) -> None:
    """Write the `rows` as CSV to `out`, with all digits; unknown values are empty."""
    writer = csv.writer(out)
    writer.writerow(
        'network published_top1_error_percent published_parameters_millions published_counted published_source '
        'parameters parameters_without_classifier multiply_adds images_per_second data weights file_size '
        'license'.split()
    )
    for row in rows:
        stated, summary = row.reported or Reported(), row.summary
        reported = (row.error, stated.parameters, stated.counted, row.source)
        counted = (row.parameters, row.without_classifier, row.multiply_adds, row.images_per_second, row.data)
        released = (summary.weights, summary.file_size, summary.license) if summary else (None,) * 3
        writer.writerow((row.name, *reported, *counted, *released))


def left_out(rows: Sequence[Row]) -> dict[str, str]:
    """Names of the `rows` that :func:`figure` does not draw, each with the reason."""
    drawn = next((row.data for row in rows if row.error is not None), None)
    return {
        row.name: 'no published error' if row.error is None else f'its error is on {row.data}, not {drawn}'
        for row in rows
        if row.error is None or row.data != drawn
    }


def check_plot(path: str, rows: Sequence[Row]) -> None:
    """Raise a ValueError where the figure of the `rows` could not be drawn or written to `path`."""
    suffix = os.path.splitext(path)[1][1:].lower()
    if suffix not in ('png', 'pdf', 'svg'):
        raise ValueError(f'The plot {path!r} must be a file that ends in .png, .pdf or .svg.')
    folder = os.path.dirname(path) or '.'
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK) or os.path.isdir(path):
        raise ValueError(f'The plot {path!r} cannot be written; its folder {folder!r} must exist and be writable.')
    _drawn(rows)


def _drawn(rows):
    """The rows that the figure shows."""
    absent = left_out(rows)
    rows = [row for row in rows if row.name not in absent]
    if not rows:
        raise ValueError('None of these networks has a published error to draw.')
    return rows


def figure(rows: Sequence[Row]) -> Figure:
    """Published error against parameters and against multiply-adds, both counted here.

    Shows the `rows` with an error on the data set of the first one; :func:`left_out` names the others.

    Raises
    ------
    ValueError
        If no row has a published error.
    """
    rows = _drawn(rows)
    errors = [row.error for row in rows]
    with styled():
        picture = Figure(figsize=(12, 5))
        canvas = FigureCanvasAgg(picture)
        for axes, label, costs in zip(
            picture.subplots(1, 2),
            ('parameters (M), with the classifier', 'multiply-adds of one image (G)'),
            ([row.parameters / 1e6 for row in rows], [row.multiply_adds / 1e9 for row in rows]),
        ):
            axes.scatter(costs, errors, color=COLOURS[0], zorder=3)
            axes.set(xlabel=label, ylabel=f'published top-1 error on {rows[0].data} (%)')
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
