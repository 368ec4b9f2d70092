"""The study's report: from its CSV to the picture, the sentences and the tables of docs/evidence.md and study.md."""

from __future__ import annotations

import statistics
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks import paired, study
from benchmarks.ablation import published_column
from gluon_aff.files import atomic
from gluon_aff.style import COLOURS, styled
from model_zoo.reported_results import TABLES

BEGIN, END = (f'<!-- python -m benchmarks.study --report: {mark} -->' for mark in ('begin', 'end'))
SCALE, STRATEGY = (table.rows for table in TABLES[:2])
NAMES = {
    'add': 'addition',
    'concat': 'concatenation',
    'sk': 'SK',
    'global_aff': 'global + global',
    'local_aff': 'local + local',
    'aff': 'AFF',
    'iaff': 'iAFF',
}
EQUAL = {'equal': 'parameters', 'plain': 'width'}  # of addition
BETTER, WORSE = 'holds', 'does not hold, it is worse'


def title(host: str, b: int) -> str:
    """The name of a host on the page."""
    return f'{published_column(host).title.replace("-20-b", "")}, b = {b}'


class Claim(NamedTuple):
    """Of the paper: that one fusion is better than another; `table` has its figures for it."""

    better: str
    worse: str
    budget: str  # of `worse`
    table: dict

    @property
    def other(self) -> str:
        """What the better one is compared with."""
        return NAMES[self.worse] + ('' if self.worse != 'add' else f' of equal {EQUAL[self.budget]}')

    @property
    def difference(self) -> str:
        """The two fusions, one minus the other."""
        return f'{NAMES[self.better]} - {self.other}'

    def published(self, host: str, b: int) -> float | None:
        """The paper's difference in points."""
        values = [
            self.table[fusion][1].get(host, ())[b - 1 : b] if fusion in self.table else ()
            for fusion in (self.better, self.worse)
        ]
        return values[0][0] - values[1][0] if all(values) else None


CLAIMS = (
    Claim('aff', 'add', 'equal', STRATEGY),
    Claim('aff', 'add', 'plain', {}),
    Claim('aff', 'concat', 'equal', STRATEGY),
    Claim('aff', 'sk', 'equal', STRATEGY),
    Claim('aff', 'global_aff', 'equal', SCALE),
    Claim('aff', 'local_aff', 'equal', SCALE),
    Claim('iaff', 'aff', 'equal', STRATEGY),
    Claim('iaff', 'add', 'equal', STRATEGY),
)


class Comparison(NamedTuple):
    """A claim in one recipe and host: the differences in points, one for each seed that both fusions have run with."""

    claim: Claim
    recipe: str
    host: str
    b: int
    differences: list

    @property
    def title(self) -> str:
        return title(self.host, self.b)

    @property
    def whole(self) -> bool:
        """Whether all seeds are there."""
        return len(self.differences) == len(study.SEEDS)


def comparisons(rows: list[dict], recipe: str) -> list[Comparison]:
    """All comparisons that the study plans for a recipe, host by host, run or not."""
    accuracy = {study.key(row): 100 * row['accuracy'] for row in rows}
    planned = []
    for host, b, fusions in study.GRID:
        for claim in CLAIMS:
            if {claim.better, claim.worse} <= {*fusions}:
                pairs = [
                    [
                        accuracy.get(study.Cell(recipe, host, b, seed, fusion, budget))
                        for fusion, budget in ((claim.better, 'equal'), (claim.worse, claim.budget))
                    ]
                    for seed in study.SEEDS
                ]
                planned.append(Comparison(claim, recipe, host, b, [a - z for a, z in pairs if None not in (a, z)]))
    return planned


def corrected(planned: list[Comparison]) -> list[float]:
    """Holm's p-values over all planned comparisons; 1 for those that are not whole."""
    return paired.holm([paired.p_value(one.differences) if one.whole else 1.0 for one in planned])


def judge(rows: list[dict]) -> list[tuple[Comparison, float]]:
    """All comparisons that the study plans, recipe by recipe, with their corrected p-values."""
    judged: list = []
    for recipe in study.RECIPES:
        planned = comparisons(rows, recipe)
        judged += zip(planned, corrected(planned))
    return judged


def markdown(head: list[str], rows: list[list[str]]) -> list[str]:
    """A table in Markdown."""
    return [f'| {" | ".join(cells)} |' for cells in (head, ['---'] * len(head), *rows)]


def verdict(one: Comparison, p: float) -> str:
    """Whether a claim holds in a host, in words."""
    if not one.whole:
        return 'open'
    if p > paired.LEVEL:
        return 'cannot be told'
    return BETTER if statistics.mean(one.differences) > 0 else WORSE


def less_than_published(one: Comparison) -> bool | None:
    """Whether the interval of all pairs ends below the paper's difference; None without one of the two."""
    published = one.claim.published(one.host, one.b)
    return None if published is None or not one.whole else paired.interval(one.differences)[2] < published


def difference_rows(planned: list[Comparison]) -> list[list[str]]:
    """A row for each comparison of which there are at least two pairs."""
    rows, level = [], paired.LEVEL / len(planned)
    for one, p in zip(planned, corrected(planned)):
        if len(one.differences) < 2:
            continue
        published, design = one.claim.published(one.host, one.b), ['-', '-', '-']
        if one.whole:
            deviation, n = statistics.stdev(one.differences), len(study.SEEDS)
            chance = '-' if published is None else f'{paired.power(published, deviation, n, level):.0%}'
            design = [f'{p:.3f}', f'{paired.detectable(deviation, n, level):.2f}', chance]
        rows.append(
            [
                one.title,
                one.claim.difference,
                str(len(one.differences)),
                '{:+.2f} ({:+.2f} to {:+.2f})'.format(*paired.interval(one.differences)),
                '-' if published is None else f'{published:+.1f}',
                *design,
            ]
        )
    return rows


def mean_rows(rows: list[dict]) -> list[list[str]]:
    """A row for each network that was trained: its parameters; of each recipe the accuracy and loss over the seeds."""
    groups: dict = {}
    for row in rows:
        groups.setdefault((row['host'], row['b'], row['fusion'], row['budget']), []).append(row)
    lines = []
    for host, b, fusions in study.GRID:
        for fusion in fusions:
            for budget in ('equal', 'plain'):
                group = groups.get((host, b, fusion, budget))
                if group:
                    wide = f', width {float(group[0]["width"]):.3g}' if float(group[0]['width']) != 1 else ''
                    lines.append([title(host, b), NAMES[fusion] + wide, f'{group[0]["parameters"]:,}'])
                    for recipe in study.RECIPES:
                        lines[-1] += mean_cells([row for row in group if row['recipe'] == recipe])
    return lines


def mean_cells(group: list[dict]) -> list[str]:
    """The mean accuracy in per cent with its standard deviation, and the mean loss, of the seeds of one network."""
    if not group:
        return ['-', '-']
    accuracies = [100 * row['accuracy'] for row in group]
    spread = f' ± {statistics.stdev(accuracies):.2f}' if len(group) > 1 else ''
    seeds = '' if len(group) == len(study.SEEDS) else f' ({len(group)} of {len(study.SEEDS)} seeds)'
    return [f'{statistics.mean(accuracies):.2f}{spread}{seeds}', f'{statistics.mean(row["loss"] for row in group):.3f}']


def sentences(judged: list[tuple[Comparison, float]]) -> list[str]:
    """For each claim of the paper in how many comparisons it holds, does not, or cannot be told."""
    lines = []
    for claim in CLAIMS:
        ours = [(one, p) for one, p in judged if one.claim == claim and one.differences]
        verdicts = Counter(verdict(one, p) for one, p in ours)
        told = '; '.join(f'{words} ({number} of {len(ours)})' for words, number in verdicts.items())
        less = [value for value in (less_than_published(one) for one, _ in ours) if value is not None]
        published = f' Less than published in {sum(less)} of {len(less)}.' if less else ''
        lines.append(f'- {NAMES[claim.better]} is better than {claim.other}: {told or "not run yet"}.{published}')
    return lines


def overview(judged: list[tuple[Comparison, float]]) -> list[str]:
    """A table with a row for each claim: its difference in each host and recipe, in bold where it is decided."""
    cells = {}
    for one, p in judged:
        if len(one.differences) > 1:
            mean, low, _ = paired.interval(one.differences)
            bold = '**' if verdict(one, p) in (BETTER, WORSE) else ''
            cells[one.claim.difference, one.host, one.b, one.recipe] = f'{bold}{mean:+.2f} ± {mean - low:.2f}{bold}'
    places = [(host, b, recipe) for host, b, _ in study.GRID for recipe in study.RECIPES]
    head = ['points', *(f'{title(host, b)}, {recipe}' for host, b, recipe in places)]
    rows = [[claim.difference, *(cells.get((claim.difference, *place), '-') for place in places)] for claim in CLAIMS]
    return markdown(head, rows)


def summary(rows: list[dict]) -> str:
    """What docs/evidence.md has of the CSV: what was run, a sentence and a row of differences for each claim."""
    hours = sum(row['cpu_seconds'] for row in rows) / 3600
    lines = [
        f'**{len(rows)} of {len(study.cells())} cells are done**, in {hours:.1f} hours of one core'
        + (f', on {", ".join(sorted({row["processor"] for row in rows}))}.' if rows else '.')
    ]
    left = []
    for recipe in study.RECIPES:
        for host, b, fusions in study.GRID:
            number = sum((row['recipe'], row['host'], row['b']) == (recipe, host, b) for row in rows)
            total = len(study.SEEDS) * (len(fusions) + 1)
            if number < total:
                left.append(f'- To run: {total - number} of {total} cells of {host}, b = {b}, {recipe} recipe.')
    if left:
        lines += ['', *left]
    judged = judge(rows)
    return '\n'.join([*lines, '', *sentences(judged), '', *overview(judged)])


def tables(rows: list[dict]) -> str:
    """What docs/study.md has of the CSV: all means and differences."""
    head = ['host', 'fusion', 'parameters', *(cell for recipe in study.RECIPES for cell in (f'{recipe}, %', 'loss'))]
    lines = ['## Accuracies', '', *markdown(head, mean_rows(rows))]
    head = 'host|difference|pairs|points (95 % interval)|published|p, Holm|detectable|power'.split('|')
    for recipe in study.RECIPES:
        differences = difference_rows(comparisons(rows, recipe))
        if differences:
            lines += ['', f'## Differences, {recipe} recipe', '', *markdown(head, differences)]
    return '\n'.join(lines)


@styled()
def plot(rows: list[dict], path: Path) -> None:
    """Draw the differences: a panel for each host and recipe, an interval for each claim, a dot for each pair."""
    panels: dict = {}
    for recipe in study.RECIPES:
        for one in comparisons(rows, recipe):
            if one.differences:
                panels.setdefault((one.title, recipe), []).append(one)
    columns = max(1, min(3, len(panels)))
    lines = -(-len(panels) // columns) or 1
    figure = Figure(figsize=(1.6 + 3.4 * columns, 0.9 + 2.6 * lines), layout='constrained')
    FigureCanvasAgg(figure)
    grid = figure.subplots(lines, columns, squeeze=False, sharey=True, sharex=True).ravel()
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    for index, (axes, ((title, recipe), shown)) in enumerate(zip(grid, panels.items())):
        axes.set_title(f'{title}, {recipe}')
        axes.axvline(0, color='#888888', linewidth=1)
        for one in shown:
            y = CLAIMS.index(one.claim)
            axes.plot(one.differences, [y + 0.25] * len(one.differences), '.', color=COLOURS[4], zorder=2)
            if len(one.differences) > 1:
                mean, low, high = paired.interval(one.differences)
                axes.errorbar([mean], [y], xerr=[[mean - low], [high - mean]], fmt='o', capsize=3, color=COLOURS[0])
            published = one.claim.published(one.host, one.b)
            if published is not None:
                axes.plot([published], [y], 'D', markerfacecolor='none', color=COLOURS[1])
        if index + columns >= len(panels):  # nothing below
            axes.set_xlabel('difference in accuracy, points')
            axes.tick_params(labelbottom=True)
        axes.set_yticks(range(len(CLAIMS)), [claim.difference for claim in CLAIMS])
        axes.set_ylim(len(CLAIMS) - 0.5, -0.5)
    with atomic(path) as partial:
        figure.savefig(partial, format='png', dpi=100)


def write_report(rows: list[dict], docs: Path) -> None:
    """Write study.png, and what stands between the marks of evidence.md and study.md, in the folder `docs`.

    Raises
    ------
    ValueError
        If a page lacks the marks.
    """
    written = {docs / 'evidence.md': summary(rows), docs / 'study.md': tables(rows)}
    pages = {}
    for page, content in written.items():
        before, begin, rest = page.read_text(encoding='utf-8').partition(BEGIN)
        _, end, after = rest.partition(END)
        if not (begin and end):
            raise ValueError(f'{page} lacks the lines {BEGIN} and {END}, between which the tables go; put them back.')
        pages[page] = f'{before}{BEGIN}\n\n{content}\n\n{END}{after}'
    plot(rows, docs / 'study.png')
    for page, text in pages.items():
        with atomic(page) as partial:
            Path(partial).write_text(text, encoding='utf-8')
