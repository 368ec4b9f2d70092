"""The AFF authors' comparison on ImageNet, as a table and a picture: published figures beside what is counted here."""

from __future__ import annotations

import csv
import math
import statistics
import sys
import time
from dataclasses import dataclass

import mxnet as mx
from tqdm import tqdm

from gluon_aff.inspect.complexity import complexity
from gluon_aff.style import COLOURS, STYLE

from ..registry import IMAGENET, get_model
from ..reported_results import PUBLISHED, Published

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
    published : Published or None
    parameters, without_classifier : int
        Trainable ones.
    multiply_adds : int
        For one image of 224x224.
    images_per_second : float or None
        Of inference, where it was measured.
    """

    name: str
    published: Published | None
    parameters: int
    without_classifier: int
    multiply_adds: int
    images_per_second: float | None = None


def compare(names=TABLE, batch=None, ctx=None):
    """Count networks, and measure them.

    Parameters
    ----------
    names : sequence of str, default TABLE
        Registered names, each with the fusion that replaces its own as in 'se_resnet50+aff', if any.
    batch : int, optional
        Images in a batch, for the speed; it is not measured by default.
    ctx : mxnet.Context, default mxnet.cpu()
        Where it is measured.

    Returns
    -------
    list of Row

    Raises
    ------
    ValueError
        For an unknown network or fusion.
    """
    rows, nets = [], []
    for name in names:
        network, hybrid, fusion = name.partition('+')
        net = get_model(network, **({'fusion': fusion} if hybrid else {}))
        parameters, multiply_adds = complexity(net, (1, *IMAGENET.input_size))
        head = getattr(net, net.head_name).collect_params().values()
        rows.append(
            Row(
                name,
                None if hybrid else PUBLISHED.get(network.lower()),
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
    """Median time of a forward pass of each; they take turns, so that what slows the machine slows them alike."""
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


def _millions(number):
    return f'{number / 1e6:.2f}'


def write_markdown(rows, out, how=''):
    """Write the table, and below it whose the published figures are.

    Parameters
    ----------
    rows : list of Row
    out : text file
    how : str
        How the speed was measured.
    """
    cells = [
        (
            'network',
            'published top-1 error, %',
            'published parameters, M',
            'parameters, M',
            'without classifier, M',
            'multiply-adds, G',
            'images/s',
        )
    ]
    cells.append(('---', *['---:'] * 6))
    for row in rows:
        stated = row.published or Published()
        cells.append(
            (
                row.name,
                *(
                    '' if figure is None else f'{round(figure, 2):g}'
                    for figure in (stated.top1_error, stated.parameters)
                ),
                _millions(row.parameters),
                _millions(row.without_classifier),
                f'{row.multiply_adds / 1e9:.2f}',
                '' if row.images_per_second is None else f'{row.images_per_second:.2f}',
            )
        )
    for line in cells:
        print('|', ' | '.join(line), '|', file=out)
    print(
        '\nPublished figures are not ours, and from recipes that differ. The other columns are counted here: '
        f'trainable parameters, multiply-adds of one 224x224 image{", images/s of " + how if how else ""}.\n',
        file=out,
    )
    for row in rows:
        if row.published and row.published.source:
            counted = f'; parameters {row.published.counted}' if row.published.parameters else ''
            print(f'- {row.name}: {row.published.source}{counted}', file=out)


def write_csv(rows, out):
    """Write the rows with all their digits; unknown values are empty.

    Parameters
    ----------
    rows : list of Row
    out : text file
    """
    writer = csv.writer(out)
    writer.writerow(
        (
            'network',
            'published_top1_error_percent',
            'published_parameters_millions',
            'published_counted',
            'published_source',
            'parameters',
            'parameters_without_classifier',
            'multiply_adds',
            'images_per_second',
        )
    )
    for row in rows:
        stated = row.published or Published()
        writer.writerow(
            (
                row.name,
                stated.top1_error,
                stated.parameters,
                stated.counted,
                stated.source,
                row.parameters,
                row.without_classifier,
                row.multiply_adds,
                row.images_per_second,
            )
        )


def figure(rows):
    """Published error against parameters and against multiply-adds, both counted here, for the rows with an error.

    Parameters
    ----------
    rows : list of Row

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If no row has a published error.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [row for row in rows if row.published and row.published.top1_error is not None]
    if not rows:
        raise ValueError('None of these networks has a published error to draw.')
    with rc_context(STYLE):
        picture = Figure(figsize=(12, 5))
        canvas = FigureCanvasAgg(picture)
        errors = [row.published.top1_error for row in rows]
        plots = []
        for axes, label, costs in zip(
            picture.subplots(1, 2),
            ('parameters (M), with the classifier', 'multiply-adds at 224x224 (G)'),
            ([row.parameters / 1e6 for row in rows], [row.multiply_adds / 1e9 for row in rows]),
        ):
            axes.scatter(costs, errors, color=COLOURS[0], zorder=3)
            axes.set(xlabel=label, ylabel='published top-1 error on ImageNet (%)')
            axes.margins(0.2)
            plots.append((axes, list(zip(costs, errors))))
        picture.tight_layout()
        canvas.draw()
        for axes, points in plots:
            _label(axes, points, [row.name for row in rows], canvas.get_renderer())
    return picture


def _label(axes, points, names, renderer):
    """Write each name as near its point as leaves the points and the names before it free, with a line between."""
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

    taken = [Bbox.from_extents(x - 5, y - 5, x + 5, y + 5) for x, y in axes.transData.transform(points)]
    for point, name in zip(points, names):
        text = axes.annotate(
            name,
            point,
            (0, 0),
            textcoords='offset points',
            fontsize=8,
            va='center',
            arrowprops={'arrowstyle': '-', 'lw': 0.5, 'color': 'gray', 'shrinkA': 0, 'shrinkB': 3},
        )
        for radius, angle in ((radius, turn * math.pi / 8) for radius in range(8, 200, 6) for turn in range(16)):
            right = math.cos(angle)
            text.set_position((radius * right, radius * math.sin(angle)))
            text.set_horizontalalignment('left' if right > 0.1 else 'right' if right < -0.1 else 'center')
            text.update_positions(renderer)
            box = Text.get_window_extent(text, renderer)  # without the line
            if axes.bbox.containsx(box.x0) and axes.bbox.containsx(box.x1) and not any(map(box.overlaps, taken)):
                break
        taken.append(box)
