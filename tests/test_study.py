"""The study: its statistics against scipy's, its cells in pairs, and its page against its CSV."""

import math
import os
import shutil
import statistics
from pathlib import Path

import numpy as np
import pytest
from reference import trainable

from benchmarks import ablation, paired, study, study_report
from gluon_aff._mxnet import structural_parameters
from gluon_aff.files import locked
from gluon_aff.train import parse
from model_zoo.from_flags import start_network

DOCS = Path(__file__).parents[1] / 'docs'
DIFFERENCES = ([0.3, 0.1, 0.4, -0.1, 0.5], [1.0, -2.0], [0.2] * 3 + [0.3], [3.0, 4.0, 5.5, 1.0, 2.0, 2.5])


@pytest.mark.parametrize('differences', DIFFERENCES)
def test_intervals_and_p_values_are_those_of_scipy(differences):
    stats = pytest.importorskip('scipy.stats')
    test = stats.ttest_1samp(differences, 0)
    assert paired.p_value(differences) == pytest.approx(test.pvalue, rel=1e-9)
    expected = stats.t.interval(0.95, len(differences) - 1, np.mean(differences), stats.sem(differences))
    assert paired.interval(differences)[1:] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize('effect, n, level', [(0.5, 5, 0.05), (2.0, 5, 0.0025), (0.0, 3, 0.05), (1.0, 20, 0.05)])
def test_power_is_that_of_the_noncentral_t(effect, n, level):
    stats = pytest.importorskip('scipy.stats')
    critical = stats.t.ppf(1 - level / 2, n - 1)
    expected = stats.nct.sf(critical, n - 1, effect * math.sqrt(n)) + stats.nct.cdf(
        -critical, n - 1, effect * math.sqrt(n)
    )
    assert paired.power(effect, 1.0, n, level) == pytest.approx(expected, abs=1e-6)
    assert paired.power(paired.detectable(0.3, 5), 0.3, 5) == pytest.approx(0.8, abs=1e-6)


def test_differences_that_are_all_equal_leave_nothing_to_detect():
    """Shares of a few images often are."""
    assert paired.detectable(0.0, 3) == paired.power(0.0, 0.0, 3) == 0
    assert paired.power(0.1, 0.0, 3) == 1
    assert [paired.p_value([value] * 3) for value in (0.0, 0.1)] == [1, 0]


def test_holm_rejects_what_the_stepwise_procedure_rejects():
    """Holm, 1979: from the smallest p on, reject while p < level / number of those left."""
    random = np.random.RandomState(0)
    for _ in range(50):
        p_values = (random.rand(7) ** 4).tolist()
        adjusted = paired.holm(p_values)
        for level in (0.01, 0.05, 0.2):
            rejected = set()
            for left, index in zip(range(7, 0, -1), np.argsort(p_values)):
                if p_values[index] > level / left:
                    break
                rejected.add(index)
            assert rejected == {index for index, value in enumerate(adjusted) if value <= level}
    assert paired.holm([0.04, 0.01, 0.5]) == pytest.approx([0.08, 0.03, 0.5])


def test_any_prefix_of_the_cells_is_whole_seeds_of_one_host_after_the_other():
    cells = study.cells()
    assert len(cells) == len(set(cells)) == 2 * 5 * (8 + 8 + 4)
    groups = [(cell.recipe, cell.host, cell.b, cell.seed) for cell in cells]
    assert [group for group, after in zip(groups, [*groups[1:], None]) if group != after] == list(dict.fromkeys(groups))
    assert groups[:40] == [('basic', 'resnet', 1, seed) for seed in range(5) for _ in range(8)]


def network(fusion, budget='equal', host='resnet', seed=0):
    cell = study.Cell('basic', host, 1, seed, fusion, budget)
    config = parse(ablation.HOSTS[host].script.Config, study.flags(cell))
    return start_network(config, [str(label) for label in range(10)], ctx=[study.mx.cpu()])[0]


@pytest.mark.parametrize('host', ['resnet', 'inception'])
def test_all_fusions_of_a_seed_start_alike(host):
    """Every array that two networks share, and the common part of a wider network's filters, up to the fan-in."""
    plain = structural_parameters(network('add', 'plain', host))
    weights = [name for name in plain if name.endswith('weight')]
    for fusion in ('concat', 'iaff'):
        other = structural_parameters(network(fusion, host=host))
        assert set(plain) < set(other)
        assert all(np.array_equal(plain[name].data().asnumpy(), other[name].data().asnumpy()) for name in plain)
    wide = structural_parameters(network('add', 'equal', host))
    for name in weights:
        narrow, part = plain[name].data().asnumpy(), wide[name].data().asnumpy()
        part = part[: narrow.shape[0], : narrow.shape[1]] * math.sqrt(wide[name].shape[1] / narrow.shape[1])
        assert np.allclose(part, narrow, rtol=1e-5), name
    others = structural_parameters(network('add', 'plain', host, seed=1))
    assert all(abs(plain[name].data() - others[name].data()).max().asscalar() > 0 for name in weights)
    assert trainable(network('add', host=host)) == pytest.approx(trainable(network('aff', host=host)), rel=0.012)


SMALL = ['--dataset', 'digits', '--train-images', '64', '--test-images', '40', '--num-epochs', '2']


@pytest.fixture
def small(tmp_path, monkeypatch):
    """The study of two cells, and a function that runs it."""
    monkeypatch.setattr(study, 'GRID', (('resnet', 1, ('aff',)),))
    monkeypatch.setattr(study, 'SEEDS', range(2))
    monkeypatch.setattr(study, 'RECIPES', {'basic': []})
    csv = tmp_path / 'study.csv'
    return csv, lambda *flags: study.main([*SMALL, '--csv', str(csv), '--save-dir', str(tmp_path / 'runs'), *flags])


def test_cells_are_shared_recorded_and_repeated_to_the_last_bit(small, capsys, tmp_path, monkeypatch):
    csv, run = small
    stop = tmp_path / 'stop'
    stop.touch()
    run('--stop-file', str(stop))
    assert not csv.exists() and 'stopped before basic-resnet-b1-seed0-aff-equal' in capsys.readouterr().err
    with locked(os.path.join(tmp_path, 'runs', f'{study.cells()[0]}.lock')) as mine:
        run()
        assert mine and [row['seed'] for row in study.read(csv)] == [1], 'another process has the first'
    run()
    rows = study.read(csv)
    assert [row['seed'] for row in rows] == [1, 0] and [row['updates'] for row in rows] == [4, 4]
    assert [(row['width'], row['reduction'], row['parameters']) for row in rows] == [('1', '2', 89610)] * 2
    text = csv.read_text()
    with pytest.raises(SystemExit) as ended:
        run('--again', '1')
    assert not ended.value.code and 'equal to the last bit' in capsys.readouterr().out and csv.read_text() == text
    csv.write_text(text.replace(rows[0]['digest'], '0' * 16))
    monkeypatch.setattr(study, 'train', lambda *_: rows[0])
    with pytest.raises(SystemExit) as ended:
        run('--again', '1')
    assert ended.value.code and f'digest was {"0" * 16} and is {rows[0]["digest"]}' in capsys.readouterr().out
    csv.write_text(text)
    with pytest.raises(ValueError, match='has runs with epochs 2, and this one has 1'):
        study.append({**rows[0], 'epochs': 1}, csv)


def test_the_pages_are_made_from_the_csv(tmp_path):
    """Every figure of the tables and sentences; the picture's content is that of the tables."""
    pages = 'evidence.md', 'study.md'
    for page in pages:
        shutil.copy(DOCS / page, tmp_path)
    study.main(['--report', '--docs', str(tmp_path)])
    for page in pages:
        assert (tmp_path / page).read_text() == (DOCS / page).read_text()
    assert (tmp_path / 'study.png').read_bytes()[:4] == b'\x89PNG'


def test_the_readme_states_the_studys_figures():
    judged = study_report.judge(study.read(DOCS / 'study.csv'))

    def of_equal_parameters(fusion):
        return [
            (one, statistics.mean(one.differences), study_report.verdict(one, p))
            for one, p in judged
            if (one.claim.better, one.claim.worse, one.claim.budget) == (fusion, 'add', 'equal')
        ]

    open_, means = 'cannot be told', [mean for _, mean, _ in of_equal_parameters('iaff')]
    assert {told for *_, told in of_equal_parameters('iaff')} == {open_}
    behind = [-mean for _, mean, told in of_equal_parameters('aff') if told == study_report.WORSE]
    resnet = [mean for one, mean, told in of_equal_parameters('aff') if (one.host, told) == ('resnet', open_)]
    inception = [mean for one, mean, told in of_equal_parameters('aff') if (one.host, told) == ('inception', open_)]
    assert (len(behind), len(resnet), len(inception)) == (3, 1, 2)
    text = ' '.join((DOCS.parent / 'README.md').read_text(encoding='utf-8').split())
    assert f'iAFF cannot be told from addition ({min(means):+.1f} to {max(means):+.1f} points)' in text
    assert f'AFF is {min(behind):.1f} to {max(behind):.1f} points behind addition in three of four ResNet' in text
    told = ', '.join(f'{mean:+.1f}' for mean in sorted(inception))
    assert f'the fourth ({resnet[0]:+.1f}) and Inception ({told}) cannot be told' in text
    answer = ' '.join((DOCS / 'evidence.md').read_text(encoding='utf-8').split())
    assert f'AFF is {min(behind):.0f} to {max(behind):.0f} points behind addition in three of four' in answer


def study_of(differences):
    """Rows of a CSV in which AFF in ResNet at b = 1 is ahead of addition by these differences."""
    blank = {**dict.fromkeys(study.COLUMNS, 1), 'recipe': 'basic', 'host': 'resnet', 'budget': 'equal', 'processor': ''}
    gains = {'add': [0.0] * len(differences), 'aff': differences}
    return [
        {**blank, 'seed': seed, 'fusion': fusion, 'accuracy': 0.8 + 0.01 * seed + gain / 100}
        for fusion in gains
        for seed, gain in enumerate(gains[fusion])
    ]


@pytest.mark.parametrize(
    'differences, expected',
    [
        ([2.2, 2.3, 2.4, 2.35, 2.25], 'holds | 0 of 1'),
        ([0.9, 1.0, 1.1, 1.05, 0.95], 'holds | 1 of 1'),
        ([-0.9, -1.0, -1.1, -1.05, -0.95], 'does not hold, it is worse | 1 of 1'),
        ([-5.0, 8.0, 3.0, -1.0, 4.0], 'cannot be told | 0 of 1'),
        ([-0.1, 0.2, 0.1, -0.1, 0.0], 'cannot be told | 1 of 1'),
        ([2.2, 2.3, 2.4, 2.35], 'open |'),
    ],
)
def test_a_claim_holds_where_the_corrected_test_of_all_pairs_says_so(differences, expected):
    """The paper's AFF is 2.3 points ahead of addition; 20 comparisons are planned, and 1 has run."""
    rows = study_of(differences)
    expected, less = expected.split(' |')
    planned = study_report.comparisons(rows, 'basic')
    first, p = planned[0], study_report.corrected(planned)[0]
    assert len(planned) == 20 and first.claim.published('resnet', 1) == pytest.approx(2.3)
    assert first.differences == pytest.approx(differences) and study_report.verdict(first, p) == expected
    assert p == (1 if expected == 'open' else pytest.approx(min(1, 20 * paired.p_value(differences))))
    text = study_report.summary(rows)
    told = f'{expected} (1 of 1)' + (less and f'. Less than published in{less}')
    assert f'- AFF is better than addition of equal parameters: {told}.' in text
    assert f'To run: {40 - len(rows)} of 40 cells of resnet, b = 1, basic recipe' in text
    mean, low, high = paired.interval(differences)
    bold = '**' if 'hold' in expected else ''
    cell = f'{bold}{mean:+.2f} ± {mean - low:.2f}{bold}'
    assert f'| AFF - addition of equal parameters | {cell} | - | - | - | - | - |' in text
    text = study_report.tables(rows)
    accuracy = statistics.mean([80 + seed + gain for seed, gain in enumerate(differences)])
    assert f'| ResNet, b = 1 | AFF | 1 | {accuracy:.2f} ± ' in text
    cells = f'{len(differences)} | {mean:+.2f} ({low:+.2f} to {high:+.2f}) | +2.3 |'
    assert f'| ResNet, b = 1 | AFF - addition of equal parameters | {cells}' in text


def test_a_claim_is_counted_over_hosts_and_recipes():
    ahead, behind = (study_of([sign * gain for gain in (2.2, 2.3, 2.4, 2.35, 2.25)]) for sign in (1, -1))
    rows = [{**row, 'host': 'inception', 'recipe': 'augmented'} for row in ahead] + behind
    told = 'does not hold, it is worse (1 of 2); holds (1 of 2). Less than published in 2 of 2.'
    assert f'- AFF is better than addition of equal parameters: {told}' in study_report.summary(rows)


def test_a_seed_that_one_fusion_lacks_makes_no_pair():
    rows = [row for row in study_of([1.0, 1.2, 1.1, 1.0, 1.3]) if (row['fusion'], row['seed']) != ('add', 2)]
    assert study_report.comparisons(rows, 'basic')[0].differences == pytest.approx([1.0, 1.2, 1.0, 1.3])
