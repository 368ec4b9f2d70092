"""A page on the whole zoo: one HTML file with everything in it, which loads nothing."""

from __future__ import annotations

import os
import re
from pathlib import Path

import gluon_aff
from gluon_aff.files import atomic
from gluon_aff.style import FUSION_COLOURS

from . import facts, sections

__all__ = ['page', 'write_report']

HERE = Path(__file__).resolve().parent


def page():
    """The page as HTML.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If a file that it shows cannot be read; says which.
    """
    models = facts.models()
    released = sum(len(model['checkpoints']) for model in models)
    colours = ''.join(
        f'.s-{sections.series_of(fusion)}{{--colour:{colour}}}' for fusion, colour in FUSION_COLOURS.items()
    )
    parts = {
        'style': colours + _own_text('style.css'),
        'script': _own_text('page.js'),
        'data': sections.as_json(models),
        'version': gluon_aff.__version__,
        'number': str(len(models)),
        'released': str(released),
        'fusions': sections.options(sorted({model['fusion'] for model in models})),
        'datasets': sections.options(sorted({model['dataset'] for model in models})),
        'rows': sections.model_table(models),
        'scatter': sections.scatter_plots(models),
        'ablation': sections.ablation_section(facts.ablation()),
        'curves': sections.curves_section(facts.curves()),
        'gallery': sections.gallery(),
        'pointing': sections.pointing_table(facts.pointing_game()),
        'details': '\n'.join(map(sections.details, models)),
        'licence': _own_text('fashion_mnist.txt'),
    }
    return re.sub(r'\{\{(\w+)\}\}', lambda found: parts[found.group(1)], _own_text('page.html'))


def _own_text(name):
    """A text file of this package."""
    try:
        return (HERE / name).read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f'The page is made of {HERE / name}, which cannot be read ({error}); install the package again.'
        ) from None


def write_report(folder):
    """Write the page as index.html into a folder, which is made if missing.

    Parameters
    ----------
    folder : str

    Returns
    -------
    str
        The file.

    Raises
    ------
    ValueError
        If a file that the page shows cannot be read, or the folder cannot be written to.
    """
    path, text = os.path.join(folder, 'index.html'), page()
    try:
        with atomic(path) as partial, open(partial, 'w', encoding='utf-8') as file:
            file.write(text)
    except OSError as error:
        raise ValueError(f'The page cannot be written to {path}: {error.strerror}.') from None
    return path
