"""Rows of pictures with captions on pages, for PNG and PDF."""

from __future__ import annotations

import os
import re
import textwrap
from dataclasses import replace
from functools import lru_cache
from typing import Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.patches import Rectangle

from gluon_aff.files import atomic
from gluon_aff.style import COLOURS, STYLE, styled

from .heatmaps import Row

__all__ = ['FORMATS', 'pages', 'save', 'wrap']

FORMATS = ('.png', '.pdf')
DPI = 150
BANNER = '#a33c00'  # on which white letters have a contrast of 6.6

# In inches; sizes of letters in points.
SIDE, GAP, MARGIN = 1.5, 0.12, 0.1
TITLE_WIDTH = 0.42  # of the column of the rows' titles, which stand upright: two lines
BAR, SCALE_WIDTH = 0.1, 0.85  # the bar of a row's colour scale, and with its numbers and two lines of meaning
SMALL, LINE = 8, 0.145  # captions, and the distance of their lines
COLUMNS, ROWS = 8, 16  # the most on a page; a block of rows is never divided
CAPTION_LINES = 3  # of a name; its score or class stands below


class _Wrapper(textwrap.TextWrapper):
    """Also breaks paths and networks' names, after a separator."""

    wordsep_re = re.compile(r'(\s+|[^\s_/.-]*[_/.-]+)')


def wrap(text: str, width: float, *, size: float = SMALL, lines: int | None = None) -> list[str]:
    """Break a text into lines at most `width` inches wide, set in `size` points.

    Its own line breaks stay. A paragraph of more than `lines` lines is cut, and ends in three dots.
    """
    return [line for paragraph in text.split('\n') for line in _wrap(paragraph, width, size, lines)]


def _wrap(text, width, size, lines):
    """The lines of a paragraph, broken after as many characters as all of them have room for."""
    for characters in range(len(text), 0, -1):
        limit = lines if characters > 3 else None  # less has no room for the dots
        wrapped = _Wrapper(characters, max_lines=limit, placeholder='...').wrap(text)
        if all(_width(line, size) <= width for line in wrapped):
            break
    return wrapped or ['']


@lru_cache(maxsize=None)
def _width(text, size):
    """The width of a line, in inches."""
    font = get_font(findfont(STYLE['font.family']))
    font.set_size(size, 72)
    font.set_text(text)
    return font.get_width_height()[0] / 64 / 72


@styled()
def pages(rows: Sequence[Row], *, note: str = '', banner: str = '') -> list[Figure]:
    """Lay out rows of panels on pages of at most eight columns; further images follow below, in rows of their own.

    Parameters
    ----------
    rows : sequence of Row
        All with the same number of panels.
    note, banner : str
        Text below each page, and in a coloured bar above it.
    """
    number = len(rows[0].panels)
    columns = min(COLUMNS, number)
    blocks = [
        [replace(row, panels=row.panels[start : start + columns]) for row in rows]
        for start in range(0, number, columns)
    ]
    per_page = max(1, ROWS // len(rows))
    return [_page(blocks[start : start + per_page], columns, note, banner) for start in range(0, len(blocks), per_page)]


def _page(blocks, columns, note, banner):
    scale_width = SCALE_WIDTH if any(row.scale for row in blocks[0]) else 0
    width = max(4.5, 2 * MARGIN + TITLE_WIDTH + columns * (SIDE + GAP) + scale_width)
    above, below = (wrap(text, width - 2 * MARGIN - 0.2) if text else [] for text in (banner, note))
    captions = [
        [[wrap(panel.caption, SIDE - 0.05, lines=CAPTION_LINES) for panel in row.panels] for row in block]
        for block in blocks
    ]
    heights = [[SIDE + 0.08 + LINE * max(map(len, row)) + GAP for row in block] for block in captions]
    bar = len(above) * LINE + 0.26 if above else 0
    height = 2 * MARGIN + bar + sum(map(sum, heights)) + GAP * len(blocks) + LINE * len(below)

    sheet = _Sheet(width, height)
    if above:
        sheet.banner(above, bar - 0.1)
    y = MARGIN + bar
    for block, block_captions, row_heights in zip(blocks, captions, heights):
        for row, row_captions, row_height in zip(block, block_captions, row_heights):
            sheet.row(y, row, row_captions)
            y += row_height
        y += GAP
    sheet.write(MARGIN, y, below, color='#555555')
    return sheet.figure


class _Sheet:
    """A figure with coordinates in inches from its upper left corner."""

    def __init__(self, width, height):
        self.width, self.height = width, height
        self.figure = Figure(figsize=(width, height), facecolor='white')
        FigureCanvasAgg(self.figure)

    def box(self, x, y, width, height):
        """(left, bottom, width, height) as fractions of the figure."""
        return x / self.width, 1 - (y + height) / self.height, width / self.width, height / self.height

    def write(self, x, y, lines, **options):
        """Write lines below each other, from the upper left corner (x, y)."""
        options = {'fontsize': SMALL, 'va': 'top', 'ha': 'left', **options}
        for number, line in enumerate(lines):
            self.figure.text(x / self.width, 1 - (y + number * LINE) / self.height, line, **options)

    def banner(self, lines, height):
        left, bottom, width, height = self.box(MARGIN, MARGIN, self.width - 2 * MARGIN, height)
        bar = Rectangle((left, bottom), width, height, transform=self.figure.transFigure, facecolor=BANNER)
        self.figure.add_artist(bar)
        self.write(MARGIN + 0.1, MARGIN + 0.08, lines, color='white')

    def upright(self, x, y, text):
        """Write a text that reads upwards, in at most two lines, beside the row whose upper edge is at y."""
        for number, line in enumerate(wrap(text, SIDE, lines=2)):
            middle = {'rotation': 90, 'ha': 'center', 'va': 'center', 'color': '#333333'}
            self.write(x + number * LINE, y + SIDE / 2, [line], **middle)

    def row(self, y, row, captions):
        self.upright(MARGIN + 0.09, y, row.title)
        x = MARGIN + TITLE_WIDTH
        for panel, caption in zip(row.panels, captions):
            axes = self.figure.add_axes(self.box(x, y, SIDE, SIDE))
            axes.imshow(panel.picture, interpolation='nearest')
            axes.set_axis_off()
            color = COLOURS[1] if panel.starred else '#222222'
            self.write(x + SIDE / 2, y + SIDE + 0.05, caption, ha='center', color=color)
            if panel.starred:
                patch = {'facecolor': 'white', 'edgecolor': 'none', 'pad': 1}
                corner = {'transform': axes.transAxes, 'ha': 'right', 'va': 'top'}
                axes.text(0.97, 0.97, '★', fontsize=13, color=color, bbox=patch, **corner)
            x += SIDE + GAP
        if row.scale:
            self.scale(x, y, row.scale)

    def scale(self, x, y, scale):
        """A bar of the colours, its ends and middle labelled, beside the row whose upper edge is at y."""
        ends = scale.low, (scale.low + scale.high) / 2, scale.high
        bar = self.figure.colorbar(
            ScalarMappable(Normalize(*ends[::2]), scale.colormap),
            cax=self.figure.add_axes(self.box(x, y, BAR, SIDE)),
            ticks=ends,
            format='%g',
        )
        bar.outline.set_visible(False)
        bar.ax.tick_params(length=2, labelsize=SMALL - 1)
        for label, side in zip(bar.ax.get_yticklabels(), ('bottom', 'center', 'top')):
            label.set_verticalalignment(side)
        self.upright(x + BAR + 0.42, y, scale.meaning)


def save(figures: Sequence[Figure], path: str) -> list[str]:
    """Write pages as one PDF, or as PNGs, of which the second is NAME-2.png; returns the files.

    Raises
    ------
    ValueError
        If `path` does not end in .png or .pdf.
    """
    stem, suffix = os.path.splitext(path)
    if suffix.lower() not in FORMATS:
        raise ValueError(f'The figure is a .png or a .pdf file, got {path!r}.')
    if suffix.lower() == '.pdf':
        with atomic(path) as partial, PdfPages(partial) as pdf:
            for figure in figures:
                pdf.savefig(figure, dpi=DPI)
        return [path]
    files = [path, *(f'{stem}-{number}{suffix}' for number in range(2, len(figures) + 1))]
    for file, figure in zip(files, figures):
        with atomic(file) as partial:
            figure.savefig(partial, format='png', dpi=DPI)
    return files
