"""The learning curves of a run, as a picture."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from ..files import atomic
from ..style import COLOURS, styled

__all__ = ['plot_curves']

NOT_DRAWN = ('epoch', 'lr', 'time', 'waiting', 'images_per_second')
# Metrics that are shares of the images or pixels, in words.
SHARES = {
    'accuracy': 'accuracy',
    'top5_accuracy': 'top-5 accuracy',
    'miou': 'mean IoU',
    'pixel_accuracy': 'pixel accuracy',
}


@styled()
def plot_curves(history: list[dict], path: str, *, title: str = '', main_metric: str | None = None) -> None:
    """Draw the losses, the scores and the learning rate of a run over its epochs.

    Parameters
    ----------
    history : list of dict
        A record for each epoch: 'epoch', 'lr' and metrics; those named '...loss' or '...rmse' share a panel, and times
        are left out.
    path : str
        Of the PNG, written whole or not at all.
    title : str, default ''
        What was trained on what.
    main_metric : str, optional
        The metric whose first maximum is marked as the best epoch.
    """
    figure = Figure(figsize=(12, 4.8), layout='constrained')
    FigureCanvasAgg(figure)
    loss_axes, score_axes, rate_axes = panels = figure.subplots(1, 3)
    epochs = [record['epoch'] for record in history]
    metrics = [name for name in history[0] if name not in NOT_DRAWN]
    losses = [name for name in metrics if name.endswith(('loss', 'rmse'))]
    scores = [name for name in metrics if name not in losses]
    headings = 'Loss', 'Accuracy' if all(name.endswith('accuracy') for name in scores) else 'Scores', 'Learning rate'
    for axes, heading, names in zip(panels, headings, (losses, scores, ['lr'])):
        held_out_colours = iter(COLOURS[1:])
        for name in names:
            color = COLOURS[0] if name == 'lr' or _is_training(name) else next(held_out_colours)
            style = {'color': color, 'linestyle': ':' if name.endswith('rmse') else '-'}
            values = [record[name] for record in history]
            axes.plot(epochs, values, label=_in_words(name), marker='o' if len(epochs) < 30 else None, **style)
        axes.set_title(heading, pad=20)
        axes.set_xlabel('epoch')
        axes.set_xlim(epochs[0] - 0.5, epochs[-1] + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if names != ['lr']:
            axes.legend(loc='upper center', bbox_to_anchor=(0.5, -0.13))
    if scores and all(_measure(name) in SHARES for name in scores):
        score_axes.yaxis.set_major_formatter(PercentFormatter(1))
    _scale_rates(rate_axes, [record['lr'] for record in history])
    lines = [title if len(title) <= 120 else f'{title[:117]}...'] if title else []
    if main_metric:
        best = max(history, key=lambda record: record[main_metric])
        value = f'{best[main_metric]:.2%}' if _measure(main_metric) in SHARES else f'{best[main_metric]:.4g}'
        lines.append(f'best epoch {best["epoch"]}: {value} {_in_words(main_metric)}')
        for axes in panels:
            _mark_epoch(axes, best['epoch'])
        axes = loss_axes if main_metric in losses else score_axes
        axes.plot(best['epoch'], best[main_metric], 'o', markersize=10, markerfacecolor='none', color='#222222')
    figure.suptitle('\n'.join(lines))
    with atomic(path) as partial:
        figure.savefig(partial, format='png', dpi=100)


def _measure(name):
    """The quantity in a metric's name, such as 'accuracy' in 'train_accuracy'."""
    return name[name.startswith(('train_', 'val_')) and name.index('_') + 1 :]


def _is_training(name):
    return name == 'loss' or name.startswith('train_')


def _in_words(name):
    """A metric's name in words, such as 'accuracy on held-out images' for 'accuracy'."""
    measure = _measure(name)
    words = SHARES.get(measure) or ('RMSE' if measure == 'rmse' else measure.replace('_', ' '))
    return f'{words} on {"training" if _is_training(name) else "held-out"} images'


def _scale_rates(axes, rates):
    """Plain decimals, from 0 on; on a logarithmic axis where the rates differ by orders of magnitude."""
    low, high = min(rates), max(rates)
    if low > 0 and high >= 30 * low:
        axes.set_yscale('log')
        axes.set_ylim(10 ** math.floor(math.log10(low) - 0.05), 10 ** math.ceil(math.log10(high) + 0.05))
    else:
        axes.set_ylim(0, 1.1 * high or 1)
    axes.yaxis.set_major_formatter(lambda rate, _: np.format_float_positional(float(f'{rate:.4g}'), trim='-'))


def _mark_epoch(axes, epoch):
    """A dashed line at the best epoch, and a label above it that stays within the panel."""
    axes.axvline(epoch, color='#888888', linestyle='--', linewidth=1, zorder=1)
    left, right = axes.get_xlim()
    share = (epoch - left) / (right - left)
    side = 'left' if share < 0.2 else 'right' if share > 0.8 else 'center'
    axes.text(
        epoch, 1.01, f'best: epoch {epoch}', transform=axes.get_xaxis_transform(), ha=side, va='bottom', color='#555'
    )
