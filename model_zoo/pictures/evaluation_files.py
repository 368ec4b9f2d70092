"""The files of an evaluation: its figures, the confusion matrix as CSV and picture, and a sheet of the mistakes."""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from gluon_aff.data.preprocessing import evaluation_crop
from gluon_aff.files import replace_folder, temporary_folder
from gluon_aff.inspect.evaluation_report import ClassificationReport
from gluon_aff.inspect.model_evaluation import LISTED, Evaluation
from gluon_aff.style import styled
from gluon_aff.text import distinct_names, printable

from .figure import pages, save, wrap
from .heatmaps import Panel, Row, enlarged

__all__ = ['check_replaceable', 'confusion_figure', 'mistakes_figure', 'write_evaluation']

REPORT, CONFUSION, PICTURE, MISTAKES = 'report.json', 'confusion.csv', 'confusion.png', 'mistakes.png'
NAMED = 40  # the most classes whose names and numbers are drawn
NAME_WIDTH = 1.6  # inches


def check_replaceable(folder: str) -> None:
    """Raise a ValueError for a folder that holds anything but an earlier evaluation, or that cannot be made."""
    parent = os.path.dirname(os.path.abspath(folder))
    while not os.path.lexists(parent):
        parent = os.path.dirname(parent)
    if not os.path.isdir(parent) or not os.access(parent, os.W_OK):
        raise ValueError(f'{folder} cannot be made, as {parent} is not a folder to write to; name another folder.')
    if not os.path.lexists(folder):
        return
    if not os.path.isdir(folder):
        raise ValueError(f'{folder} is a file; name a folder for the evaluation.')
    names = {entry.name for entry in os.scandir(folder) if not entry.name.startswith('.evaluation-')}
    foreign = sorted(names - {REPORT, CONFUSION, PICTURE, MISTAKES}) or (sorted(names) if REPORT not in names else [])
    if foreign:
        raise ValueError(
            f'{folder} holds {printable(foreign[0])}, which is not of an evaluation; name another folder, or remove it.'
        )


def write_evaluation(evaluation: Evaluation, folder: str, images: Any) -> list[str]:
    """Write report.json and, of a classifier, confusion.csv, confusion.png and mistakes.png, if there are mistakes.

    Parameters
    ----------
    evaluation : Evaluation
    folder : str
        Made if missing; that of an earlier evaluation is replaced, whole or not at all.
    images : LabelledImages or CocoSegmentation
        What was evaluated on.

    Returns
    -------
    list of str
        Paths of the files.

    Raises
    ------
    ValueError
        See :func:`check_replaceable`.
    OSError
        If the folder cannot be written.
    """
    check_replaceable(folder)
    target = os.path.realpath(folder)
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with temporary_folder(os.path.dirname(target), '.evaluation-') as top:
            new = os.path.join(top, 'new')
            os.mkdir(new)
            _write(evaluation, new, images)
            names = sorted(os.listdir(new))
            replace_folder(new, target)
    except OSError as error:
        raise OSError(
            f'{folder} cannot be written ({error.strerror or error}); make room on its disk, or name another folder.'
        ) from None
    return [os.path.join(folder, name) for name in names]


def _write(evaluation, folder, images):
    with open(os.path.join(folder, REPORT), 'w', encoding='utf-8') as file:
        json.dump(evaluation.summary(), file, indent=1)
    if not isinstance(evaluation.report, ClassificationReport):
        return
    with open(os.path.join(folder, CONFUSION), 'w', encoding='utf-8', newline='') as file:
        evaluation.report.write_confusion(file)
    confusion_figure(evaluation.report).savefig(os.path.join(folder, PICTURE), dpi=150)
    sheet = mistakes_figure(evaluation, images)
    if sheet:
        save([sheet], os.path.join(folder, MISTAKES))


@styled({'axes.grid': False})
def confusion_figure(report: ClassificationReport) -> Figure:
    """Draw a confusion matrix: which share of each class's images is taken for which class.

    Parameters
    ----------
    report : ClassificationReport
        Up to 40 classes have their names and counts in the picture; those that neither have images nor are predicted
        are left out.
    """
    used = np.flatnonzero(report.confusion.sum(0) + report.confusion.sum(1))
    is_named = len(used) <= NAMED
    if not is_named:
        used = np.arange(len(report.class_names))  # so that the axes have the classes' numbers
    counts = report.confusion[np.ix_(used, used)]
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    names = [' '.join(wrap(printable(report.class_names[index]), NAME_WIDTH, lines=1)) for index in used]
    side = 2.6 + 0.36 * len(used) if is_named else 8
    figure = Figure(figsize=(max(4.2, side) + 0.6, max(3.6, side)), layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    # Rare mistakes would be white on a linear scale.
    image = axes.imshow(shares, cmap='Blues', norm=PowerNorm(0.5, 0, 1), interpolation='nearest' if is_named else None)
    axes.set(title='What the images of each class are taken for', xlabel='predicted', ylabel='class of the image')
    if is_named:
        axes.set_xticks(range(len(used)), names, rotation=90)
        axes.set_yticks(range(len(used)), names)
        for (row, column), count in np.ndenumerate(counts):
            if count:
                colour = 'white' if shares[row, column] > 0.45 else '#222222'
                axes.text(column, row, str(count), ha='center', va='center', fontsize=7, color=colour)
    colours = figure.colorbar(image, shrink=0.7, ticks=[0, 0.01, 0.1, 0.25, 0.5, 1])
    colours.set_label("share of the class's images")
    colours.ax.set_yticklabels(['0', '1 %', '10 %', '25 %', '50 %', '100 %'])
    return figure


def mistakes_figure(evaluation: Evaluation, images: Any) -> Figure | None:
    """Draw the most certain mistakes, with the image's name, its class, and the predicted class with its probability.

    Parameters
    ----------
    evaluation : Evaluation
        Of a classifier.
    images : LabelledImages
        What was evaluated on.

    Returns
    -------
    Figure or None
        None without mistakes.
    """
    report, places = evaluation.report, {name: index for index, name in enumerate(images.names)}
    worst = report.mistakes(LISTED)
    panels = []
    for mistake, name in zip(worst, distinct_names(mistake.image for mistake in worst)):
        image = images.read(places[mistake.image])
        crop = evaluation_crop(image, (3, min(image.size), min(image.size)), 1.0)
        label, predicted = (printable(report.class_names[index]) for index in (mistake.label, mistake.predicted))
        caption = f'{printable(name)}\n{label}\ntaken for {predicted}, {mistake.confidence:.0%}'
        panels.append(Panel(enlarged(crop), caption))
    mistakes = int(report.confusion.sum() - np.trace(report.confusion))
    note = f'The {len(panels)} most certain of {mistakes} mistakes by {evaluation.model}.'
    return pages([Row('mistakes', panels)], note=note)[0] if panels else None
