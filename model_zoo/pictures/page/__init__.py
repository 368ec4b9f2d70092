"""A page on the whole zoo: one HTML file with everything in it, which loads nothing."""

from __future__ import annotations

import json
import os
from html import escape
from pathlib import Path
from string import Template
from typing import Iterable

import gluon_aff
from gluon_aff.files import atomic
from gluon_aff.style import FUSION_COLOURS

from . import facts
from .charts import series_of
from .gallery import gallery_section
from .guide import guide_section
from .network_sections import details, table_row
from .plots import curves_section, scatter_plots
from .tables import ablation_section, pointing_table

__all__ = ['page', 'write_report']

HERE = Path(__file__).resolve().parent


def page() -> str:
    """The page as HTML.

    Raises
    ------
    ValueError
        If a file that it shows cannot be read; names the file.
    """
    style, script, template, licence = map(_read, ('style.css', 'page.js', 'page.html', 'fashion_mnist.txt'))
    models = facts.models()
    colours = ''.join(f'.s-{series_of(fusion)}{{--colour:{colour}}}' for fusion, colour in FUSION_COLOURS.items())
    data = [
        {
            'name': model.card.name,
            'task': model.card.spec.task,
            'fusion': model.fusion,
            'dataset': model.card.dataset,
            'weights': len(model.weights),
        }
        for model in models
    ]
    return Template(template).substitute(
        style=colours + style,
        script=script,
        # Such that it may stand in a script element.
        data=json.dumps(data, ensure_ascii=False, separators=(',', ':')).replace('</', '<\\/'),
        version=gluon_aff.__version__,
        number=len(models),
        released=sum(len(model.weights) for model in models),
        guide=guide_section(),
        tasks=_options(model.card.spec.task for model in models),
        fusions=_options(model.fusion for model in models),
        datasets=_options(model.card.dataset for model in models),
        rows='\n'.join(map(table_row, models)),
        scatter=scatter_plots(models),
        ablation=ablation_section(facts.ablation()),
        curves=curves_section(facts.curves()),
        gallery=gallery_section(),
        pointing=pointing_table(facts.pointing_game()),
        details='\n'.join(map(details, models)),
        licence=licence,
    )


def _read(name):
    """A text file of this package."""
    try:
        return (HERE / name).read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f'The page is made of {HERE / name}, which cannot be read ({error}); install the package again.'
        ) from None


def _options(values: Iterable[str]):
    return ''.join(f'<option>{escape(value)}</option>' for value in sorted(set(values)))


def write_report(folder: str) -> str:
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
