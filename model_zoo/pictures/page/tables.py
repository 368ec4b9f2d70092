"""The page's tables of the paper's ablations, ours beside them, and of the pointing game."""

from __future__ import annotations

from html import escape
from typing import Sequence

import numpy as np

from ...reported_results import HOSTS, PAPER, TABLES
from .plots import ablation_bars

__all__ = ['ablation_section', 'pointing_table', 'table']


def ablation_section(ours: dict | None) -> str:
    """The ablation's bars for each host and number of blocks, and the paper's whole tables, ours beside theirs.

    Parameters
    ----------
    ours : dict or None
        From :func:`model_zoo.pictures.page.facts.ablation`.
    """
    conditions = '; '.join(dict.fromkeys(f'{host.title} on {host.data}, {host.conditions}' for host in HOSTS.values()))
    elements = [f'<p>Published, not ours: {escape(conditions)} ({escape(PAPER)}).</p>']
    if ours:
        elements += [
            f'<p>Ours, each below the published value: {escape(ours["conditions"])}, mean and standard '
            'deviation. The two are of different data and lengths; neither confirms the other.</p>',
            ablation_bars(ours['cells']),
        ]
    else:
        elements.append(
            '<p>Our runs are in docs/study.csv of the source, which an installed package does not hold; '
            'build this page in a checkout that has it to see them.</p>'
        )
    return '\n'.join([*elements, *(_paper_table(paper, ours['cells'] if ours else {}) for paper in TABLES)])


def _paper_table(paper, cells):
    """One of the paper's tables: a column for each host and number of blocks b, a row for each fusion."""
    columns = [
        (host, b)
        for host in paper.hosts
        for b in range(1, 1 + max(len(values.get(host, ())) for _, values in paper.rows.values()))
    ]
    groups = ''.join(
        f'<th scope="colgroup" colspan="{sum(name == host for name, _ in columns)}">'
        f'{escape(HOSTS[host].title)}, {HOSTS[host].metric}</th>'
        for host in paper.hosts
    )
    heads = ''.join(
        f'<th scope="col" class="number">{f"b = {b}" if host != "resnet50" else ""}</th>' for host, b in columns
    )
    rows = []
    for fusion, (label, values) in paper.rows.items():
        row = ''.join(_paper_cell(values.get(host, ())[b - 1 : b], cells.get((host, fusion, b))) for host, b in columns)
        rows.append(f'<tr><th scope="row">{escape(label)}</th>{row}</tr>')
    return table(
        f'{paper.title}, in per cent',
        f'<tr><th scope="col" rowspan="2">fusion</th>{groups}</tr><tr>{heads}</tr>',
        rows,
        kind=' class="paper"',
    )


def _paper_cell(published, own):
    value = f'{published[0]:.1f}' if published else '-'
    ours = f'<br><small>ours {own["mean"]:.2f} ± {own["deviation"]:.2f}</small>' if own else ''
    return f'<td class="number">{value}{ours}</td>'


def table(title: str, head: str, rows: Sequence[str], *, kind: str = '', note: str = '') -> str:
    """A table with its title above, in a frame that scrolls; `kind` are attributes, `note` is HTML above the table."""
    title = escape(title)
    return (
        f'<h3>{title}</h3>{note}<div class="scroll" tabindex="0" role="region" aria-label="{title}">'
        f'<table{kind}><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table></div>'
    )


def pointing_table(rows: list[dict]) -> str:
    """The pointing game's accuracy by network, layer and size of object, mean over the seeds.

    Parameters
    ----------
    rows : list of dict
        From :func:`model_zoo.pictures.page.facts.pointing_game`.
    """
    if not rows:
        return ''
    sizes = list(dict.fromkeys((row['from'], row['to']) for row in rows))
    networks = list(dict.fromkeys((row['network'], row['layer']) for row in rows))

    def mean(key, network, layer, low):
        chosen = [row for row in rows if (row['network'], row['layer'], row['from']) == (network, layer, low)]
        return 100 * np.mean([row[key] for row in chosen])

    lines = []
    for network, layer in networks:
        cells = ''.join(
            f'<td class="number">{mean("pointing", network, layer, low):.1f} '
            f'<small>({mean("accuracy", network, layer, low):.0f})</small></td>'
            for low, _ in sizes
        )
        lines.append(f'<tr><th scope="row">{escape(network)}, {escape(layer)}</th>{cells}</tr>')
    chance = ''.join(f'<td class="number">{mean("area", *networks[0], low):.1f}</td>' for low, _ in sizes)
    lines.append(f'<tr><th scope="row">any pixel, by chance</th>{chance}</tr>')
    heads = ''.join(f'<th scope="col" class="number">{low} to {high} px</th>' for low, high in sizes)
    seeds = len({row['seed'] for row in rows})
    note = (
        '<p>How often the maximum of the true class’s map lies on the object, in per cent, on synthetic 32x32 images '
        f'where its position is known, mean of {seeds} seeds; in brackets the share of images that the network '
        'classifies correctly. docs/gradcam.md has the command and a discussion.</p>'
    )
    return table('The pointing game', f'<tr><th scope="col">network, layer</th>{heads}</tr>', lines, note=note)
