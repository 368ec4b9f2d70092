"""Print the card of a network."""

from __future__ import annotations

import argparse

from ..registry import model_info
from ..weights.catalog import checkpoints
from ._common import add_root, print_table, size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('name', metavar='NAME', help="a network's name")
    add_root(parser)


def run(args: argparse.Namespace) -> int:
    card = model_info(args.name)
    print_table(
        [
            ('name', card.name),
            ('family', card.family),
            ('task', card.task),
            ('fusion', card.fusion),
            ('params', f'{card.parameters:,} trainable'),
            ('multiply-adds', f'{card.multiply_adds:,} for one image'),
            ('input', f'{size(card.input_size)}, RGB in 0..1 less mean, by std; centre crop of {card.crop_ratio:g}'),
            ('mean', ', '.join(f'{value:.4f}' for value in card.mean)),
            ('std', ', '.join(f'{value:.4f}' for value in card.std)),
            ('data set', card.dataset),
            ('classes', f'{card.classes}: {", ".join(card.labels[:4])}, ...'),
            ('source', card.source),
            *_published_rows(card.published),
            ('weights', ', '.join(card.weights) or 'none released'),
        ]
    )
    for record in checkpoints(card.name):
        metrics = ', '.join(f'{name.replace("_", " ")} {value:.4f}' for name, value in record.figures.items())
        print()
        print_table(
            [
                ('weights', record.tag),
                ('data set', f'{record.dataset}, labels {record.labels}, {record.outputs} outputs'),
                ('figures', f'{metrics} ({record.figures_source})'),
                ('recipe', record.recipe),
                ('from', record.source),
                ('licence', record.license),
                ('type', record.dtype),
                (record.digest_kind, record.digest),
                ('file', f'{record.path(args.root)}: {record.state(args.root)}'),
            ]
        )
    return 0


def _published_rows(published):
    """Rows (title, text) of a network's published results, the title on the first."""
    lines = [f'{result}; {result.source}' for result in published.figures] if published else []
    if published and published.parameters:
        lines.append(f'{published.parameters:g} M parameters ({published.counted}); {published.parameters_source}')
    return [('published' if number == 0 else '', line) for number, line in enumerate(lines or ['nothing'])]
