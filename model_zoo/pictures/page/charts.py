"""Charts in plain SVG. Colours are classes of the page's style sheet, so that they suit light and dark."""

from __future__ import annotations

import math
from html import escape

__all__ = ['bars', 'lines', 'scatter']

WIDTH, HEIGHT = 390, 340
LEFT, RIGHT, TOP, BOTTOM = 48, 14, 14, 44
LETTER = 6.1  # width of a letter of the labels, 11 px, on the safe side


def ticks(low, high, wanted=5):
    """About `wanted` round numbers from low to high."""
    step = (high - low or 1) / wanted
    size = 10 ** math.floor(math.log10(step))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= step)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(step * number, 10) for number in range(first, last + 1)]


def scaled(values, share=0.08):
    """(low, high) around the values, with some room."""
    low, high = min(values), max(values)
    room = share * (high - low) or share * abs(high) or 1
    return low - room, high + room


class Plane:
    """Axes with a grid; `x` and `y` are in the units of the data."""

    def __init__(self, x_range, y_range, x_label, y_label):
        self.x_range, self.y_range = x_range, y_range
        bottom, middle = HEIGHT - BOTTOM, (LEFT + WIDTH - RIGHT) / 2
        self.parts = []
        for value in ticks(*y_range):
            y = self.y(value)
            self.parts += [
                f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>',
                f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>',
            ]
        for value in ticks(*x_range):
            x = self.x(value)
            self.parts += [
                f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}"/>',
                f'<text x="{x:.1f}" y="{bottom + 15}" text-anchor="middle">{value:g}</text>',
            ]
        self.parts += [
            f'<text class="label" x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_label)}</text>',
            f'<text class="label" transform="translate(12 {(TOP + bottom) / 2}) rotate(-90)" '
            f'text-anchor="middle">{escape(y_label)}</text>',
        ]

    def x(self, value):
        low, high = self.x_range
        return LEFT + (WIDTH - LEFT - RIGHT) * (value - low) / (high - low)

    def y(self, value):
        low, high = self.y_range
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)

    def svg(self, title):
        return (
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="group" aria-label="{escape(title)}">{"".join(self.parts)}</svg>'
        )


def scatter(points, x_label, y_label, title):
    """Points that link to a network's section, named where there is room; the page shows the rest on hover and focus.

    Parameters
    ----------
    points : list of (name, x, y, series, tip)
    x_label, y_label, title : str

    Returns
    -------
    str
    """
    plane = Plane(
        scaled([x for _, x, *_ in points], 0.12), scaled([y for _, _, y, *_ in points], 0.12), x_label, y_label
    )
    places = [(plane.x(x), plane.y(y)) for _, x, y, *_ in points]
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in places]
    for (x, y), (name, _, _, series, tip) in zip(places, points):
        box = next((box for box in _around(x, y, LETTER * len(name)) if _free(box, taken)), None)
        if box:
            taken.append(box)
            near = min(max(x, box[0]), box[2]), min(max(y, box[1]), box[3])
            if math.dist(near, (x, y)) > 18:
                plane.parts.append(
                    f'<line class="lead" x1="{x:.1f}" y1="{y:.1f}" x2="{near[0]:.1f}" y2="{near[1]:.1f}"/>'
                )
            plane.parts.append(f'<text class="name" x="{box[0]:.1f}" y="{box[3] - 3:.1f}">{escape(name)}</text>')
        plane.parts.append(
            f'<a class="point s-{series}" href="#model-{name}" data-tip="{escape(tip)}" '
            f'aria-label="{escape(tip)}"><circle class="reach" cx="{x:.1f}" cy="{y:.1f}" r="9"/>'
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5"/></a>'
        )
    return plane.svg(title)


def _around(x, y, width):
    """Boxes for a label beside, above and below a point."""
    for reach in (9, 16, 26, 38):
        for left, middle in (
            (x + reach, y),
            (x - reach - width, y),
            (x - width / 2, y - reach - 5),
            (x - width / 2, y + reach + 5),
            (x + reach / 2, y - reach),
            (x + reach / 2, y + reach),
            (x - reach / 2 - width, y - reach),
            (x - reach / 2 - width, y + reach),
        ):
            yield left, middle - 7, left + width, middle + 7


def _free(box, taken):
    left, top, right, bottom = box
    return (
        left > LEFT
        and right < WIDTH - 2
        and top > TOP
        and bottom < HEIGHT - BOTTOM
        and not any(left < x1 and right > x0 and top < y1 and bottom > y0 for x0, y0, x1, y1 in taken)
    )


def bars(rows, unit, title):
    """Horizontal bars with whiskers of a standard deviation to each side.

    Parameters
    ----------
    rows : list of (label, value, deviation, series, tip)
    unit, title : str

    Returns
    -------
    str
    """
    left, tall, gap = 112, 18, 9
    low, high = scaled([value + sign * spread for _, value, spread, *_ in rows for sign in (-1, 1)], 0.15)
    # Bars start at a round number that the axis names, not at 0, which would hide the differences.
    low = max(0, ticks(low, high)[0] - (ticks(low, high)[1] - ticks(low, high)[0]))
    height = TOP + len(rows) * (tall + gap) + 40

    def place(value):
        return left + (WIDTH - left - 62) * (value - low) / (high - low)

    parts = []
    for value in ticks(low, high):
        x = place(value)
        parts += [
            f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{height - 40}"/>',
            f'<text x="{x:.1f}" y="{height - 25}" text-anchor="middle">{value:g}</text>',
        ]
    for number, (label, value, spread, series, tip) in enumerate(rows):
        y = TOP + gap / 2 + number * (tall + gap)
        middle = y + tall / 2
        start, end = place(value - spread), place(value + spread)
        parts += [
            f'<text class="name" x="{left - 8}" y="{middle + 4:.1f}" text-anchor="end">{escape(label)}</text>',
            f'<g class="bar s-{series}" tabindex="0" data-tip="{escape(tip)}" role="img" '
            f'aria-label="{escape(tip)}"><rect x="{left}" y="{y}" width="{place(value) - left:.1f}" '
            f'height="{tall}"/><path class="whisker" d="M{start:.1f} {middle - 5}v10M{start:.1f} {middle}'
            f'H{end:.1f}M{end:.1f} {middle - 5}v10"/></g>',
            f'<text x="{end + 6:.1f}" y="{middle + 4:.1f}">{value:.1f}</text>',
        ]
    parts.append(
        f'<text class="label" x="{(left + WIDTH - 62) / 2}" y="{height - 7}" text-anchor="middle">{escape(unit)}</text>'
    )
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="group" aria-label="{escape(title)}">{"".join(parts)}</svg>'


def lines(series, x_label, y_label, title):
    """Lines over 1, 2, ..., with a point at each value.

    Parameters
    ----------
    series : list of (label, values, series)
    x_label, y_label, title : str

    Returns
    -------
    str
    """
    plane = Plane(
        (0.5, max(len(values) for _, values, _ in series) + 0.5),
        scaled([value for _, values, _ in series for value in values]),
        x_label,
        y_label,
    )
    for label, values, kind in series:
        places = [(plane.x(number), plane.y(value)) for number, value in enumerate(values, start=1)]
        path = 'L'.join(f'{x:.1f} {y:.1f}' for x, y in places)
        plane.parts.append(f'<path class="line s-{kind}" d="M{path}"/>')
        for number, ((x, y), value) in enumerate(zip(places, values), start=1):
            tip = escape(f'{label}, {x_label} {number}: {value:.2f}')
            plane.parts.append(
                f'<g class="point s-{kind}" data-tip="{tip}" role="img" aria-label="{tip}">'
                f'<circle class="reach" cx="{x:.1f}" cy="{y:.1f}" r="9"/>'
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"/></g>'
            )
    return plane.svg(title)
