"""The paper's ablations: one training run for each host, fusion, number of blocks b and seed.

    python -m benchmarks.ablation --dataset fashion_mnist --data-dir DIR --width 1 --num-epochs 4 --fusions add aff iaff

Flags that are not listed here are train_cifar.py's and hold for all runs. Each run has its own folder in --save-dir:
the same command skips those that are done and goes on with one that was cut. --save-dir also gets ablation.csv, a row
for each run, and ablation.png; the tables, beside the published results, go to standard output at the end.
"""

import argparse
import csv
import itertools
import json
import statistics
import sys
from pathlib import Path

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import train_cifar
from gluon_aff import FUSIONS, complexity
from gluon_aff.files import atomic
from gluon_aff.style import FUSION_COLOURS, STYLE
from gluon_aff.train import (
    Stopped,
    check_arguments,
    checkpoints,
    get_workers,
    parse,
    read_checkpoint,
    run_arguments,
    run_script,
    whole,
)
from model_zoo import get_model
from model_zoo.reported_results import HOSTS as PUBLISHED_HOSTS
from model_zoo.reported_results import PAPER, REDUCTIONS, TABLES

HOSTS = {'inception': 'cifar_aff_inception_resnet', 'resnet': 'cifar_aff_resnet'}
# The paper's, and for the other fusions the whole number that comes nearest to AFF's parameters at 2: those with two
# MS-CAMs have twice its reduction, concat_aff has one more convolution; sk, which would need 1.5, has one context less.
EQUAL_REDUCTION = {**REDUCTIONS, 'highway': 2, 'half_aff': 2, 'sk': 2, 'iaff': 4, 'recursive_aff': 4, 'concat_aff': 16}


def parse_args(argv):
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        allow_abbrev=False,
        usage=(
            '%(prog)s [-h] [--hosts HOST ...] [--fusions FUSION ...] [--blocks B ...] [--seeds SEED ...] '
            '[--equal-parameters] [--save-dir FOLDER] [flags of train_cifar.py]'
        ),
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument('--hosts', nargs='+', choices=HOSTS, default=list(HOSTS))
    parser.add_argument(
        '--fusions',
        nargs='+',
        choices=FUSIONS,
        metavar='FUSION',
        default=['add', 'concat', 'global_aff', 'local_aff', 'aff', 'iaff'],
        help='of the fusion table',
    )
    parser.add_argument('--blocks', nargs='+', type=int, choices=range(1, 5), default=[1], help='b, of each stage')
    parser.add_argument('--seeds', nargs='+', type=whole(0), default=[0, 1, 2])
    parser.add_argument(
        '--equal-parameters',
        action='store_true',
        help="reductions that make the numbers of parameters equal, to 2 % of the network's (sk: 4 %), as in the paper",
    )
    parser.add_argument('--save-dir', type=Path, default=Path('runs/ablation'))
    args, shared = parser.parse_known_args(argv)
    for flag in shared:
        if flag.split('=')[0] in ('--model', '--fusion', '--seed'):
            raise ValueError(f'{flag} is what the runs differ in; give --hosts, --blocks, --fusions and --seeds.')
    return args, shared


def reduction_flags(fusion):
    """Flags of train_cifar.py that give a fusion the equal budget; none for fusions without a reduction."""
    return ['--reduction', str(EQUAL_REDUCTION[fusion])] if fusion in EQUAL_REDUCTION else []


def cell(folder, flags):
    """The progress of the run in `folder` with these flags of train_cifar.py, trained as far as it is not done.

    Raises
    ------
    ValueError
        If the folder has a run with other flags.
    Stopped
        On a signal.
    """
    flags = [*flags, '--save-dir', str(folder), '--resume']
    config = parse(train_cifar.Config, flags)
    paths = checkpoints(folder)
    progress = read_checkpoint(paths[0])[1] if paths else None
    if progress and progress.epoch > config.num_epochs:
        # The checkpoint also names the data set, which is not read for a finished run.
        current = run_arguments(config, get_workers(config.kvstore))
        saved = {**train_cifar.Config().arguments(), **progress.arguments}
        check_arguments({name: saved.get(name) for name in current}, current, paths[0])
        print(f'{folder} is done.')
        return progress
    train_cifar.main(flags)
    return read_checkpoint(checkpoints(folder)[0])[1]


def result(folder, progress, host, fusion, blocks, seed):
    """The row of a run: the accuracy is that of its last epoch, so the held-out images have chosen nothing."""
    model = json.loads((folder / 'model.json').read_text(encoding='utf-8'))
    net = get_model(model['model'], **model['options'])
    return {
        'dataset': model['dataset'],
        'classes': len(model['class_names']),
        'train_images': model['train_images'],
        'test_images': model['test_images'],
        'epochs': progress.arguments['num_epochs'],
        'host': host,
        'fusion': fusion,
        'b': blocks,
        'reduction': model['options'].get('reduction', ''),
        'seed': seed,
        'parameters': complexity(net, (1, *model['input_size'])).parameters,
        'accuracy': progress.history[-1]['accuracy'],
        'seconds': round(sum(record['time'] for record in progress.history), 1),
    }


def write_csv(rows, path):
    """Write the rows of runs, whole or not at all."""
    with atomic(path) as partial, open(partial, 'w', encoding='utf-8', newline='') as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def summary(rows):
    """{(host, b, fusion): (parameters, accuracies in per cent, one for each seed)}"""
    cells = {}
    for row in rows:
        _, accuracies = cells.setdefault((row['host'], row['b'], row['fusion']), (row['parameters'], []))
        accuracies.append(100 * row['accuracy'])
    return cells


def mean_and_deviation(accuracies):
    """The mean, and the standard deviation where there are several."""
    deviation = f' ± {statistics.stdev(accuracies):.2f}' if len(accuracies) > 1 else ''
    return f'{statistics.mean(accuracies):.2f}{deviation}'


def tables(rows):
    """Tables 3, 4 and 6 of the paper in Markdown, as far as at least two of their rows were run."""
    ours, first = summary(rows), rows[0]
    seeds = sorted({row['seed'] for row in rows})
    lines = [
        f'Ours: {first["dataset"]}, {first["classes"]} classes, {first["train_images"]:,} training images, '
        f'{first["test_images"]:,} held-out images, epochs: {first["epochs"]}, seeds: {", ".join(map(str, seeds))}; '
        'accuracy in per cent after the last epoch, mean ± standard deviation over the seeds.',
        f'Published: {PUBLISHED_HOSTS["resnet"].data}, {PUBLISHED_HOSTS["resnet"].conditions} ({PAPER}).',
    ]
    hosts = sorted({(host, b) for host, b, _ in ours})
    for table in TABLES:
        if sum(any((host, b, fusion) in ours for host, b in hosts) for fusion in table.rows) < 2:
            continue
        heads = [
            f'{PUBLISHED_HOSTS[host].title}, b={b}: {head}'
            for host, b in hosts
            for head in ('ours', 'parameters', 'published')
        ]
        lines += [
            '',
            f'**{table.title}**',
            '',
            f'| {" | ".join(["fusion", *heads])} |',
            '|' + '---|' * (len(heads) + 1),
        ]
        for fusion, (label, columns) in table.rows.items():
            line = [label]
            for host, b in hosts:
                parameters, accuracies = ours.get((host, b, fusion), (None, None))
                published = columns.get(host, ())[b - 1 : b]
                line += [mean_and_deviation(accuracies), f'{parameters:,}'] if accuracies else ['-', '-']
                line += [f'{published[0]:.1f}' if published else '-']
            lines.append(f'| {" | ".join(line)} |')
    return '\n'.join(lines)


@rc_context(STYLE)
def plot(rows, path):
    """Draw accuracy against parameters, a panel for each host, a line over b for each fusion, bars for deviations."""
    ours = summary(rows)
    hosts = sorted({host for host, _, _ in ours})
    figure = Figure(figsize=(5.5 * len(hosts), 4), layout='constrained')
    FigureCanvasAgg(figure)
    for axes, host in zip(figure.subplots(1, len(hosts), squeeze=False)[0], hosts):
        for fusion in dict.fromkeys(row['fusion'] for row in rows):
            points = [ours[cell] for cell in sorted(ours) if cell[0] == host and cell[2] == fusion]
            axes.errorbar(
                [parameters / 1000 for parameters, _ in points],
                [statistics.mean(accuracies) for _, accuracies in points],
                [statistics.stdev(accuracies) if len(accuracies) > 1 else 0 for _, accuracies in points],
                marker='o',
                capsize=3,
                label=fusion,
                color=FUSION_COLOURS[fusion],
            )
        axes.set(title=PUBLISHED_HOSTS[host].title, xlabel='parameters (thousands)', ylabel='accuracy (%)')
        axes.legend()
    with atomic(path) as partial:
        figure.savefig(partial, format='png', dpi=100)


def main(argv):
    args, shared = parse_args(argv)
    rows = []
    # Seeds outermost, so that a grid that is cut has compared all fusions alike.
    for seed, blocks, host, fusion in itertools.product(args.seeds, args.blocks, args.hosts, args.fusions):
        folder = args.save_dir / f'{host}-{fusion}-b{blocks}-seed{seed}'
        flags = [*shared, '--model', f'{HOSTS[host]}{6 * blocks + 2}', '--fusion', fusion, '--seed', str(seed)]
        if args.equal_parameters:
            flags += reduction_flags(fusion)
        try:
            progress = cell(folder, flags)
        except Stopped as stopped:
            print(f'{stopped} Give the same command again to go on.', file=sys.stderr)
            sys.exit(128 + stopped.number)
        rows.append(result(folder, progress, host, fusion, blocks, seed))
        write_csv(rows, args.save_dir / 'ablation.csv')
    plot(rows, args.save_dir / 'ablation.png')
    print(tables(rows))
    return rows


if __name__ == '__main__':
    run_script('benchmarks/ablation.py', main)
