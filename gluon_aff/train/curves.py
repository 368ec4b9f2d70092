"""A run's curves as a picture."""

from __future__ import annotations

from matplotlib import cycler, rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..files import atomic
from ..style import COLOURS, STYLE

__all__ = ['plot_curves']


@rc_context({**STYLE, 'axes.prop_cycle': cycler(color=COLOURS)})
def plot_curves(history: list[dict], path: str) -> None:
    """Draw the losses, the scores and the learning rate of a run over its epochs.

    Parameters
    ----------
    history : list of dict
        One record for each epoch: 'epoch', 'lr' and metrics; those named '...loss' share a panel, and 'time', 'waiting'
        and 'images_per_second' are left out.
    path : str
        Of the PNG, written whole or not at all.
    """
    figure = Figure(figsize=(12, 3.6), layout='constrained')
    FigureCanvasAgg(figure)
    names = [name for name in history[0] if name not in ('epoch', 'time', 'images_per_second', 'waiting')]
    panels = {
        'loss': [name for name in names if name.endswith('loss')],
        'score': [name for name in names if not name.endswith('loss') and name != 'lr'],
        'learning rate': ['lr'],
    }
    epochs = [record['epoch'] for record in history]
    for axes, (title, lines) in zip(figure.subplots(1, len(panels)), panels.items()):
        for name in lines:
            axes.plot(
                epochs, [record[name] for record in history], label=name, marker='.' if len(epochs) < 30 else None
            )
        axes.set(title=title, xlabel='epoch')
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if len(lines) > 1:
            axes.legend()
    with atomic(path) as partial:
        figure.savefig(partial, format='png', dpi=100)
