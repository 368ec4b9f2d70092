"""Charts in SVG. Colours are classes of the page's style sheet, so that they suit light and dark."""

from __future__ import annotations

import math
from html import escape
from typing import Iterable, NamedTuple, Sequence

from matplotlib.ticker import MaxNLocator

from gluon_aff.style import FUSION_COLOURS

from ..label_layout import label_boxes, nearest

__all__ = ['Bar', 'Line', 'Point', 'bars', 'legend', 'lines', 'scatter', 'series_of']

WIDTH, HEIGHT = 390, 340
LEFT, RIGHT, TOP, BOTTOM = 48, 14, 14, 44
LETTER = 6.1  # width of a letter of the labels, 11 px, on the safe side


class Point(NamedTuple):
    """A network in a scatter plot; `series` names the colour, `tip` is shown on hover and focus."""

    name: str
    x: float
    y: float
    series: str
    tip: str


class Bar(NamedTuple):
    """A bar with a whisker of a standard deviation to each side."""

    label: str
    value: float
    deviation: float
    series: str
    tip: str


class Line(NamedTuple):
    """A line over 1, 2, ..."""

    label: str
    values: Sequence[float]
    series: str


def series_of(fusion: str) -> str:
    """The style sheet's name for a fusion's colour."""
    return fusion.replace('_', '-') if fusion in FUSION_COLOURS else 'other'


def legend(series: Iterable[str]) -> str:
    """The colours of a chart, each with its name."""
    keys = ' '.join(f'<span class="key s-{name}">{name}</span>' for name in dict.fromkeys(series))
    return f'<p class="legend">{keys}</p>'


def ticks(low: float, high: float) -> list[float]:
    """About five round numbers from low to high."""
    values = MaxNLocator(5, steps=(1, 2, 5, 10)).tick_values(low, high)
    return [value for value in values.tolist() if low <= value <= high]


def padded(values: Sequence[float], share: float = 0.08) -> tuple[float, float]:
    """(low, high) around the values, with some room."""
    low, high = min(values), max(values)
    room = share * (high - low) or share * abs(high) or 1
    return low - room, high + room


class Chart:
    """An SVG with a scale for each axis, (low, high) in data units and (start, end) in pixels; y_range may be None."""

    def __init__(self, x_range, y_range=None, *, left=LEFT, right=RIGHT, height=HEIGHT):
        self.x_range, self.y_range, self.left, self.right, self.height = x_range, y_range, left, right, height
        self.elements = []

    def x(self, value):
        low, high = self.x_range
        return self.left + (WIDTH - self.left - self.right) * (value - low) / (high - low)

    def y(self, value):
        low, high = self.y_range
        return TOP + (self.height - TOP - BOTTOM) * (high - value) / (high - low)

    def line(self, kind, x1, y1, x2, y2):
        self.elements.append(f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')

    def text(self, text, x, y, anchor='start', kind=''):
        kind = f' class="{kind}"' if kind else ''
        self.elements.append(f'<text{kind} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>')

    def axes(self, x_label, y_label=''):
        bottom, right = self.height - BOTTOM, WIDTH - self.right
        for value in ticks(*self.y_range) if self.y_range else ():
            self.line('grid', self.left, self.y(value), right, self.y(value))
            self.text(f'{value:g}', self.left - 6, self.y(value) + 4, 'end')
        for value in ticks(*self.x_range):
            self.line('grid', self.x(value), TOP, self.x(value), bottom)
            self.text(f'{value:g}', self.x(value), bottom + 15, 'middle')
        self.text(x_label, (self.left + right) / 2, self.height - 8, 'middle', 'label')
        if y_label:
            self.elements.append(
                f'<text class="label" transform="translate(12 {(TOP + bottom) / 2}) rotate(-90)" '
                f'text-anchor="middle">{escape(y_label)}</text>'
            )

    def svg(self, title):
        elements = ''.join(self.elements)
        return f'<svg viewBox="0 0 {WIDTH} {self.height}" role="group" aria-label="{escape(title)}">{elements}</svg>'


def scatter(points: Sequence[Point], x_label: str, y_label: str, title: str) -> str:
    """Points that link to a network's section, named where there is room; the page shows the rest on hover and focus.

    Returns
    -------
    str
        An SVG element.
    """
    chart = Chart(padded([point.x for point in points], 0.12), padded([point.y for point in points], 0.12))
    chart.axes(x_label, y_label)
    centres = [(chart.x(point.x), chart.y(point.y)) for point in points]
    boxes = label_boxes(
        centres,
        [(LETTER * len(point.name), 14) for point in points],
        (LEFT, TOP, WIDTH - 2, HEIGHT - BOTTOM),
        radii=(9, 16, 26, 38),
    )
    for point, (x, y), box in zip(points, centres, boxes):
        if box:
            edge = nearest(box, (x, y))
            if math.dist(edge, (x, y)) > 18:
                chart.line('lead', x, y, *edge)
            chart.text(point.name, box[0], box[3] - 3, kind='name')
        tip = escape(point.tip)
        chart.elements.append(
            f'<a class="point s-{point.series}" href="#model-{point.name}" data-tip="{tip}" aria-label="{tip}">'
            f'{_dot(x, y, 5)}</a>'
        )
    return chart.svg(title)


def bars(rows: Sequence[Bar], unit: str, title: str) -> str:
    """Horizontal bars. They start at a round number that the axis names, as from 0 their differences would not show.

    Returns
    -------
    str
        An SVG element.
    """
    thickness, step = 18, 27
    low, high = padded([bar.value + sign * bar.deviation for bar in rows for sign in (-1, 1)], 0.15)
    first, second, *_ = ticks(low, high)
    low = max(0, first - (second - first))
    chart = Chart((low, high), left=112, right=62, height=TOP + len(rows) * step + BOTTOM)
    chart.axes(unit)
    for number, bar in enumerate(rows):
        top = TOP + number * step + (step - thickness) / 2
        middle, tip = top + thickness / 2, escape(bar.tip)
        start, end = (chart.x(bar.value + sign * bar.deviation) for sign in (-1, 1))
        chart.text(bar.label, chart.left - 8, middle + 4, 'end', 'name')
        chart.elements.append(
            f'<g class="bar s-{bar.series}" tabindex="0" data-tip="{tip}" role="img" aria-label="{tip}">'
            f'<rect x="{chart.left}" y="{top}" width="{chart.x(bar.value) - chart.left:.1f}" height="{thickness}"/>'
            f'<path class="whisker" d="M{start:.1f} {middle - 5}v10M{start:.1f} {middle}H{end:.1f}'
            f'M{end:.1f} {middle - 5}v10"/></g>'
        )
        chart.text(f'{bar.value:.1f}', end + 6, middle + 4)
    return chart.svg(title)


def lines(series: Sequence[Line], x_label: str, y_label: str, title: str) -> str:
    """Lines with a point at each value.

    Returns
    -------
    str
        An SVG element.
    """
    longest = max(len(line.values) for line in series)
    chart = Chart((0.5, longest + 0.5), padded([value for line in series for value in line.values]))
    chart.axes(x_label, y_label)
    for line in series:
        centres = [(chart.x(number), chart.y(value)) for number, value in enumerate(line.values, start=1)]
        path = 'L'.join(f'{x:.1f} {y:.1f}' for x, y in centres)
        chart.elements.append(f'<path class="line s-{line.series}" d="M{path}"/>')
        for number, ((x, y), value) in enumerate(zip(centres, line.values), start=1):
            tip = escape(f'{line.label}, {x_label} {number}: {value:.2f}')
            chart.elements.append(
                f'<g class="point s-{line.series}" data-tip="{tip}" role="img" aria-label="{tip}">{_dot(x, y, 4)}</g>'
            )
    return chart.svg(title)


def _dot(x, y, radius):
    """A dot, in an invisible larger one that the pointer meets."""
    centre = f'cx="{x:.1f}" cy="{y:.1f}"'
    return f'<circle class="reach" {centre} r="9"/><circle {centre} r="{radius}"/>'
