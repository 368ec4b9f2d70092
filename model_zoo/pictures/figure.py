"""Rows of pictures with captions on pages, for PNG and PDF."""

from __future__ import annotations

import os
from functools import lru_cache

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.patches import Rectangle

from gluon_aff.files import atomic
from gluon_aff.style import COLOURS, STYLE

__all__ = ['FORMATS', 'pages', 'save', 'wrap']

FORMATS = ('.png', '.pdf')
DPI = 150
BANNER = '#a33c00'  # on which white letters have a contrast of 6.6

# In inches; sizes of letters in points.
SIDE, GAP, MARGIN = 1.5, 0.12, 0.1
TITLE_WIDTH = 0.42  # of the column of the rows' titles, which stand upright: two lines
SMALL, LINE = 8, 0.145  # captions, and the distance of their lines
COLUMNS, ROWS = 8, 16  # the most on a page; a block of rows is never divided
CAPTION_LINES = 4


def wrap(text, width, size=SMALL, lines=None):
    """Break a text into lines that are no wider than `width`, between words where that can be.

    Parameters
    ----------
    text : str
        Its own line breaks stay.
    width : float
        In inches.
    size : float
        In points.
    lines : int, optional
        What is more is left out, and three dots say so.

    Returns
    -------
    list of str
    """

    def fits(part):
        return _width(part, size) <= width

    found = []
    for paragraph in text.split('\n'):
        line = ''
        for word in paragraph.split():
            if fits(f'{line} {word}'.strip()):
                line = f'{line} {word}'.strip()
                continue
            if line:
                found.append(line)
            while not fits(word) and len(word) > 1:
                cut = next(n for n in range(len(word) - 1, 0, -1) if n == 1 or fits(word[:n]))
                # A path or a network's name is broken behind its last separator that fits, if any.
                cut = max(map(word[:cut].rfind, '_-/.')) + 1 or cut
                found.append(word[:cut])
                word = word[cut:]
            line = word
        found.append(line)
    if lines and len(found) > lines:
        found = found[:lines]
        while found[-1] and not fits(found[-1] + '...'):
            found[-1] = found[-1][:-1]
        found[-1] += '...'
    return found


@lru_cache(maxsize=None)
def _width(text, size):
    """Of a line, in inches."""
    font = get_font(findfont(STYLE['font.family']))
    font.set_size(size, 72)
    font.set_text(text)
    return font.get_width_height()[0] / 64 / 72


@rc_context(STYLE)
def pages(rows, note='', banner=''):
    """Lay rows of panels out on pages, at most eight columns wide; more images go on below, the rows repeated.

    Parameters
    ----------
    rows : list of Row
        All with as many panels; see :mod:`model_zoo.pictures.heatmaps`.
    note, banner : str
        What stands below each page, and in a coloured bar above it.

    Returns
    -------
    list of matplotlib.figure.Figure
    """
    number = len(rows[0].panels)
    columns = min(COLUMNS, number)
    blocks = [[(row.title, row.panels[start : start + columns]) for row in rows] for start in range(0, number, columns)]
    per_page = max(1, ROWS // len(rows))
    return [_page(blocks[start : start + per_page], columns, note, banner) for start in range(0, len(blocks), per_page)]


def _page(blocks, columns, note, banner):
    width = max(4.5, 2 * MARGIN + TITLE_WIDTH + columns * (SIDE + GAP))
    inner = width - 2 * MARGIN
    above, below = (wrap(text, inner - 0.2) if text else [] for text in (banner, note))
    captions = [
        [[wrap(panel.caption, SIDE - 0.05, lines=CAPTION_LINES) for panel in panels] for _, panels in block]
        for block in blocks
    ]
    heights = [[SIDE + 0.08 + LINE * max(map(len, row)) + GAP for row in block] for block in captions]
    bar = len(above) * LINE + 0.16 if above else 0
    height = 2 * MARGIN + bar + (0.1 if bar else 0) + sum(map(sum, heights)) + GAP * len(blocks) + LINE * len(below)

    figure = Figure(figsize=(width, height), facecolor='white')
    FigureCanvasAgg(figure)

    def write(x, y, lines, **options):
        for number, line in enumerate(lines):
            figure.text(
                x / width,
                1 - (y + number * LINE) / height,
                line,
                **{'fontsize': SMALL, 'va': 'top', 'ha': 'left', **options},
            )

    y = MARGIN
    if above:
        figure.add_artist(
            Rectangle(
                (MARGIN / width, 1 - (y + bar) / height),
                inner / width,
                bar / height,
                transform=figure.transFigure,
                facecolor=BANNER,
            )
        )
        write(MARGIN + 0.1, y + 0.08, above, color='white')
        y += bar + 0.1
    for block, texts, tall in zip(blocks, captions, heights):
        for (title, panels), lines, row_height in zip(block, texts, tall):
            for number, part in enumerate(wrap(title, SIDE, lines=2)):
                figure.text(
                    (MARGIN + 0.09 + number * LINE) / width,
                    1 - (y + SIDE / 2) / height,
                    part,
                    rotation=90,
                    ha='center',
                    va='center',
                    fontsize=SMALL,
                    weight='normal',
                    color='#333333',
                )
            for column, (panel, words) in enumerate(zip(panels, lines)):
                x = MARGIN + TITLE_WIDTH + column * (SIDE + GAP)
                axes = figure.add_axes([x / width, 1 - (y + SIDE) / height, SIDE / width, SIDE / height])
                axes.imshow(panel.picture, interpolation='nearest')
                axes.set_axis_off()
                write(
                    x + SIDE / 2, y + SIDE + 0.05, words, ha='center', color=COLOURS[1] if panel.starred else '#222222'
                )
                if panel.starred:
                    axes.text(
                        0.97,
                        0.97,
                        '★',
                        transform=axes.transAxes,
                        ha='right',
                        va='top',
                        fontsize=13,
                        color=COLOURS[1],
                        bbox={'facecolor': 'white', 'edgecolor': 'none', 'pad': 1},
                    )
            y += row_height
        y += GAP
    write(MARGIN, y, below, color='#555555')
    return figure


def save(figures, path):
    """Write pages: into one PDF, or PNGs, of which the second is NAME-2.png; whole or not at all.

    Parameters
    ----------
    figures : list of matplotlib.figure.Figure
    path : str
        Its ending says which.

    Returns
    -------
    list of str
        The files.

    Raises
    ------
    ValueError
        For another ending.
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
