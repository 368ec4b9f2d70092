"""The page's guide to choosing a network: the released ones by data set, and plain networks of other libraries."""

from __future__ import annotations

from html import escape
from typing import Sequence

from ...baselines import SOURCES
from ...datasets import IMAGENET
from ...registry import list_models
from ...summary import Summary, sort_summaries, speed_conditions, summaries
from ...weights import list_weights
from .tables import table

__all__ = ['guide_section']

HEAD = (
    ('network', ''),
    ('top-1, %', 'number'),
    ('top-5, %', 'number'),
    ('params, M', 'number'),
    ('multiply-adds, G', 'number'),
    ('images/s', 'number'),
    ('file, MB', 'number'),
    ('weights', ''),
    ('licence', ''),
)


def guide_section() -> str:
    """What to take for each data set, and the tables of our and the authors' weights and other libraries' networks."""
    names = {weights.model: None for weights in list_weights() if not weights.preprocessing}
    released = [row for row in summaries(list(names)) if row.accuracy is not None]
    by_data = {}
    for row in sort_summaries(released, 'accuracy'):
        by_data.setdefault(row.data, []).append(row)
    everything = sort_summaries(summaries(baselines=True), 'accuracy')
    on_imagenet = [row for row in everything if row.data == IMAGENET.name and row.accuracy is not None]
    sources = '; '.join(f'{library}, {source}' for library, source in SOURCES.items())
    return '\n'.join(
        [
            f'<ul>{"".join(f"<li>{_advice(data, rows)}</li>" for data, rows in by_data.items())}'
            '<li><b>Segmentation</b>: an <code>fpn_</code> network, with <code>iaff</code> for the highest published '
            'mIoU; no weights are released, so it must be trained.</li>'
            '<li><b>Your own photographs</b>: fine-tune one of the ImageNet networks.</li></ul>',
            *(_summary_table(f'Released weights, {data}', rows) for data, rows in by_data.items()),
            f'<p>Images/s: {escape(speed_conditions())}.</p>',
            '<details><summary>Beside plain residual networks on ImageNet</summary>'
            '<p>All published, from recipes that differ, at 224x224 unless another size is named. Our plain '
            "networks are GluonCV's and read its parameter files. "
            f'Sources: {escape(sources)}.</p>',
            _summary_table('Published results on ImageNet', on_imagenet),
            '</details>',
        ]
    )


def _advice(data: str, rows: Sequence[Summary]) -> str:
    """What to take on a data set: the most accurate, and the fastest (or smallest) if that is another one."""
    best, timed = rows[0], all(row.images_per_second for row in rows)
    text = f'<b>{escape(data)}</b>: {_link(best.name)} ({best.accuracy:.2f} %)'
    if len(rows) == 1:
        return f'{text}.'
    other = (
        max(rows, key=lambda row: row.images_per_second or 0) if timed else min(rows, key=lambda row: row.parameters)
    )
    title = 'fastest' if timed else 'smallest'
    if other is best:
        return f'{text} is both the most accurate and the {title}.'
    return f'{text} is the most accurate; {_link(other.name)} ({other.accuracy:.2f} %) is the {title}.'


def _link(name):
    return f'<a href="#model-{name}">{name}</a>'


def _summary_table(title, rows):
    registered = set(list_models())
    head = ''.join(f'<th scope="col"{f" class={kind}" if kind else ""}>{text}</th>' for text, kind in HEAD)
    lines = []
    for row in rows:
        name = _link(row.name) if row.name in registered else escape(row.name)
        source = '' if row.source == row.name else f'<br><small>{escape(row.source)}</small>'
        numbers = (
            (row.accuracy, 1, 2),
            (row.top5, 1, 2),
            (row.parameters, 1e6, 2),
            (row.multiply_adds, 1e9, 2),
            (row.images_per_second, 1, 1),
            (row.file_size, 1e6, 1),
        )
        cells = ''.join(
            f'<td class="number">{"-" if value is None else f"{value / unit:.{digits}f}"}</td>'
            for value, unit, digits in numbers
        )
        weights = f'<td>{escape(row.weights or "-")}</td><td>{escape(row.license.split(":")[0] or "-")}</td>'
        lines.append(f'<tr><th scope="row">{name}{source}</th>{cells}{weights}</tr>')
    return table(title, f'<tr>{head}</tr>', lines, kind=' class="guide"')
