"""The style of all figures: colours that colour-blind readers can tell apart, and settings of matplotlib."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import Any, Iterator

__all__ = ['COLOURS', 'FUSION_COLOURS', 'STYLE', 'styled']

# Okabe and Ito, "Color Universal Design", 2008, without yellow, which is faint on white.
COLOURS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#56b4e9', '#e69f00', '#666666')
# The common ones are of the same source, the others of the muted scheme in Tol, "Colour Schemes", 2021.
FUSION_COLOURS = {
    'add': '#666666',
    'concat': '#56b4e9',
    'aff': '#d55e00',
    'iaff': '#0072b2',
    'ms_gau': '#117733',
    'ms_se': '#44aa99',
    'ms_sa': '#332288',
    'sk': '#e69f00',
    'highway': '#aa4499',
    'global_aff': '#cc79a7',
    'local_aff': '#009e73',
    'half_aff': '#999933',
    'concat_aff': '#882255',
    'recursive_aff': '#ddcc77',
}

STYLE = {
    'font.family': 'DejaVu Sans',
    'font.size': 9,
    'axes.titlesize': 10,
    'axes.titleweight': 'bold',
    'axes.edgecolor': '#888888',
    'axes.labelcolor': '#333333',
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.grid': True,
    'axes.axisbelow': True,
    'grid.color': '#e2e2e2',
    'xtick.color': '#555555',
    'ytick.color': '#555555',
    'lines.linewidth': 1.6,
    'lines.markersize': 4,
    'legend.frameon': False,
    'text.parse_math': False,
}

_drawing = threading.RLock()


@contextmanager
def styled(settings: dict[str, Any] | None = None) -> Iterator[None]:
    """Draw in this style within the block, or in a function that it decorates; one thread at a time.

    matplotlib's settings are the whole process's: of threads that overlap, the last would restore another's.

    Parameters
    ----------
    settings : dict, optional
        More of matplotlib's settings.
    """
    from matplotlib import rc_context

    with _drawing, rc_context({**STYLE, **(settings or {})}):
        yield
