"""Describe a network and its released weights, or the folder of a training run or an export."""

from __future__ import annotations

import argparse
import os

from ..registry import model_info
from ..summary import speed_conditions, summaries
from ..weights import list_weights
from ._common import add_root, print_table, size
from ._folder import print_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('name', metavar='NAME', help="a network's name, or the folder of a run or an export")
    add_root(parser)


def run(args: argparse.Namespace) -> int:
    if os.path.isdir(args.name):
        print_folder(args.name)
        return 0
    card = model_info(args.name)
    spec, speed = card.spec, summaries([card.name])[0].images_per_second
    print_table(
        [
            ('name', card.name),
            ('family', card.family),
            ('task', spec.task),
            ('fusion', card.fusion),
            ('params', f'{card.parameters:,} trainable'),
            ('multiply-adds', f'{card.multiply_adds:,} for one image'),
            ('images/s', f'{speed:.1f}: {speed_conditions()}' if speed else 'not measured'),
            (
                'input',
                f'{size(spec.input_size)}, RGB in 0..1, normalised by mean and std; centre crop {spec.crop_ratio:g}',
            ),
            ('mean', ', '.join(f'{value:.4f}' for value in spec.mean)),
            ('std', ', '.join(f'{value:.4f}' for value in spec.std)),
            ('data set', card.dataset),
            ('classes', f'{card.classes}: {", ".join(spec.class_names[:4])}, ...'),
            ('source', card.source),
            *_reported_rows(card.reported),
            ('weights', ', '.join(card.weights) or 'none released'),
        ]
    )
    for record in list_weights(card.name):
        metrics = ', '.join(f'{name.replace("_", " ")} {value:.4f}' for name, value in record.metrics.items())
        print()
        print_table(
            [
                ('weights', ', '.join([record.tag, *record.aliases])),
                ('data set', f'{record.dataset}, classes {record.classes}, {record.outputs} outputs'),
                ('metrics', f'{metrics} ({record.metrics_source})'),
                *_preprocessing_rows(record.preprocessing),
                ('recipe', record.recipe),
                ('from', record.source),
                ('licence', record.license),
                ('type', record.dtype),
                ('size', _size(record, card.parameters)),
                (record.digest_kind, record.digest or 'unknown'),
                *([('mirror', record.mirror)] if record.mirror else []),
                ('file', f'{record.path(args.root)}: {record.state(args.root)}'),
            ]
        )
    return 0


def _size(record, parameters):
    """The size of a released file; of files that were never downloaded here, computed from its parameters."""
    return f'{record.file_size(parameters) / 1e6:.1f} MB{"" if record.size else ", computed from its parameters"}'


def _preprocessing_rows(preprocessing):
    """A row with the preprocessing of released weights, where it is not the card's."""
    if not preprocessing:
        return []
    text = '{size}x{size}, centre crop {crop:g}, {interpolation}, mean {mean}, std {std}'
    return [('input', text.format(**preprocessing))]


def _reported_rows(reported):
    """Rows (title, text) of a network's reported results, the title on the first."""
    lines = [f'{result}; {result.source}' for result in reported.results] if reported else []
    if reported and reported.parameters:
        lines.append(f'{reported.parameters:g} M parameters ({reported.counted}); {reported.parameters_source}')
    return [('published' if number == 0 else '', line) for number, line in enumerate(lines or ['nothing'])]
