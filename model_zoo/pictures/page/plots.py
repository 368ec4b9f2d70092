"""The page's charts: errors against size, the ablation's accuracies, and training curves."""

from __future__ import annotations

from html import escape
from typing import Sequence

from ...registry import model_info
from ...reported_results import HOSTS, TABLES
from .charts import Bar, Line, Point, bars, legend, lines, scatter, series_of
from .facts import Model

__all__ = ['ablation_bars', 'curves_section', 'scatter_plots']

COSTS = (
    ('parameters', 1e6, 'M', 'parameters (millions)'),
    ('multiply_adds', 1e9, 'G', 'multiply-adds for one image (billions)'),
)


def scatter_plots(models: Sequence[Model]) -> str:
    """Error against parameters and against multiply-adds: two charts for each data set with a top-1 error.

    Results of networks with other options than the registered ones' are left out: their costs are others.
    """
    errors = {}  # by data set: the first of each network
    for model in models:
        for result in (*model.reported, *model.own):
            if result.error is not None and not result.options:
                errors.setdefault(result.data, {}).setdefault(model.card.name, (model, result))
    datasets = sorted(errors, key=lambda name: (not name.startswith('ImageNet'), name))
    return '\n'.join(_scatter_pair(dataset, list(errors[dataset].values())) for dataset in datasets)


def _scatter_pair(dataset, errors):
    charts = []
    for attribute, unit, symbol, label in COSTS:
        points = []
        for model, result in errors:
            name, cost = model.card.name, getattr(model.card, attribute) / unit
            tip = f'{name}: error {result.error:.2f} %, {cost:.2f} {label.split(" (")[0]} ({symbol})'
            points.append(Point(name, cost, result.error, series_of(model.fusion), tip))
        charts.append(scatter(points, label, 'top-1 error (%)', f'{dataset}: error against {label}'))
    series = [series_of(model.fusion) for model, _ in errors]
    whose = 'ours' if all(result in model.own for model, result in errors) else 'published, not ours'
    return (
        f'<figure class="charts"><figcaption><b>{escape(dataset)}</b> ({whose})</figcaption>'
        f'{legend(series)}<div class="pair">{"".join(charts)}</div></figure>'
    )


def ablation_bars(cells: dict) -> str:
    """A chart for each host and number of blocks that was run.

    Parameters
    ----------
    cells : dict
        From :func:`model_zoo.pictures.page.facts.ablation`.
    """
    titles = {fusion: title for table in TABLES for fusion, (title, _) in table.rows.items()}
    charts = []
    for host, b in sorted({(host, b) for host, _, b in cells}, key=lambda key: (list(HOSTS).index(key[0]), key[1])):
        rows = []
        for fusion, label in titles.items():
            cell = cells.get((host, fusion, b))
            if cell:
                tip = (
                    f'{label}: {cell["mean"]:.2f} ± {cell["deviation"]:.2f} %, {cell["runs"]} runs, '
                    f'{cell["parameters"]:,} parameters'
                )
                rows.append(Bar(label, cell['mean'], cell['deviation'], series_of(fusion), tip))
        title = f'{HOSTS[host].title}, b = {b}'
        chart = bars(rows, 'accuracy (%), ours', title)
        charts.append(f'<figure><figcaption><b>{escape(title)}</b></figcaption>{chart}</figure>')
    return f'<div class="pair">{"".join(charts)}</div>'


def curves_section(curves: dict[str, list[float]]) -> str:
    """Accuracy of the shipped networks over their epochs.

    Parameters
    ----------
    curves : dict
        From :func:`model_zoo.pictures.page.facts.curves`.
    """
    if not curves:
        return '<p>The logs of the shipped networks are missing.</p>'
    series = [Line(name, values, series_of(model_info(name).fusion)) for name, values in curves.items()]
    return (
        '<figure class="narrow"><figcaption>Accuracy on the images that chose the epoch, one run each: 5,000 of '
        'Fashion-MNIST’s training images, or, where a run has 12 epochs, its test images</figcaption>'
        f'{legend(line.series for line in series)}'
        f'{lines(series, "epoch", "accuracy (%)", "accuracy by epoch of the shipped networks")}</figure>'
    )
