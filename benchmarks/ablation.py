"""The paper's ablations: one training run for each host, fusion, number of blocks b and seed.

    python -m benchmarks.ablation --dataset fashion_mnist --data-dir DIR --width 1 --num-epochs 4 --fusions add aff iaff
    python -m benchmarks.ablation --hosts fpn --data-dir COCO --blocks 1 2 3 4 --fusions global_aff local_aff aff
    python -m benchmarks.ablation --hosts imagenet --data-dir DIR --fusions global_aff local_aff aff --num-gpus 8

Flags that are not listed here hold for all runs; they are those of the script that trains the hosts: train_cifar.py for
inception and resnet, train_stopsign.py for fpn, train_imagenet.py for imagenet. Each run has its own folder in
--save-dir: the same command skips those that are done and goes on with one that was cut. --save-dir also gets
ablation.csv, a row for each run, and ablation.png; the tables, beside the published results, go to standard output at
the end.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import train_cifar
import train_imagenet
import train_stopsign
from gluon_aff import FUSIONS, complexity
from gluon_aff.files import atomic
from gluon_aff.style import FUSION_COLOURS, styled
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
from gluon_aff.train.checkpoint import restore_parameters
from model_zoo import get_model
from model_zoo.loading import load_model
from model_zoo.reported_results import HOSTS as PUBLISHED_HOSTS
from model_zoo.reported_results import PAPER, REDUCTIONS, TABLES


@dataclass(frozen=True)
class Host:
    """A network in which the fusions are compared.

    Attributes
    ----------
    script : module
        That trains it.
    model : str
        Its name with AFF and, where it has b blocks a stage, {depth} = 6b + 2.
    published : str
        Its column of the paper's tables.
    metric : str
        Of the records of its runs.
    width : int
        By default.
    contexts : int
        By how much its contexts are narrower than the other hosts': in the paper AFF has a reduction of 2 times this.
    """

    script: ModuleType
    model: str
    published: str
    metric: str = 'accuracy'
    width: int = 4
    contexts: int = 1


HOSTS = {
    'inception': Host(train_cifar, 'cifar_aff_inception_resnet{depth}', 'inception'),
    'resnet': Host(train_cifar, 'cifar_aff_resnet{depth}', 'resnet'),
    'fpn': Host(train_stopsign, 'fpn_aff_resnet{depth}', 'fpn', 'miou', width=1),
    'imagenet': Host(train_imagenet, 'aff_resnet50', 'resnet50', contexts=8),
}
# The paper's, and for the other fusions the whole number that comes nearest to AFF's parameters at 2: those with two
# MS-CAMs have twice its reduction, concat_aff has one more convolution; sk, which would need 1.5, has one context less.
EQUAL_REDUCTION = {**REDUCTIONS, 'highway': 2, 'half_aff': 2, 'sk': 2, 'iaff': 4, 'recursive_aff': 4, 'concat_aff': 16}
STEPS = 64  # --widen tries widths in steps of this part of --width


def parse_args(argv):
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        allow_abbrev=False,
        usage=(
            '%(prog)s [-h] [--hosts HOST ...] [--fusions FUSION ...] [--blocks B ...] [--seeds SEED ...] '
            "[--equal-parameters] [--widen] [--save-dir FOLDER] [flags of the hosts' script]"
        ),
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        '--hosts', nargs='+', choices=HOSTS, default=['inception', 'resnet'], help='of one training script'
    )
    parser.add_argument(
        '--fusions',
        nargs='+',
        choices=FUSIONS,
        metavar='FUSION',
        default=['add', 'concat', 'global_aff', 'local_aff', 'aff', 'iaff'],
        help='of the fusion table',
    )
    parser.add_argument(
        '--blocks', nargs='+', type=int, choices=range(1, 5), default=[1], help='b, of each stage; imagenet has no b'
    )
    parser.add_argument('--seeds', nargs='+', type=whole(0), default=[0, 1, 2])
    parser.add_argument(
        '--equal-parameters',
        action='store_true',
        help="reductions that make the networks' numbers of parameters equal, to 2 %% (sk: 4 %%), as in the paper",
    )
    parser.add_argument(
        '--widen', action='store_true', help="widen add and concat to AFF's number of parameters, as in the paper"
    )
    parser.add_argument('--save-dir', type=Path, default=Path('runs/ablation'))
    args, shared = parser.parse_known_args(argv)
    check_args(args, shared)
    return args, shared


def check_args(args, shared):
    """Raise a ValueError for flags that do not fit the hosts, or that the cells set themselves."""
    for flag in shared:
        if flag.split('=')[0] in ('--model', '--fusion', '--seed'):
            raise ValueError(f'{flag} is what the runs differ in; give --hosts, --blocks, --fusions and --seeds.')
    scripts = {HOSTS[host].script.__name__ for host in args.hosts}
    if len(scripts) > 1:
        raise ValueError(
            f'--hosts {" ".join(args.hosts)} are trained by {" and ".join(sorted(scripts))}, which take other flags; '
            'give those of one script at a time.'
        )
    if 'imagenet' in args.hosts and (args.blocks != [1] or args.widen):
        raise ValueError('--hosts imagenet is ResNet-50 at one width; leave --blocks and --widen out.')


def model_name(host, blocks):
    """The network of a host with b blocks a stage."""
    return HOSTS[host].model.format(depth=6 * blocks + 2)


def reduction_flags(host, fusion):
    """Flags that give a fusion the equal budget; none for fusions without a reduction."""
    if fusion not in EQUAL_REDUCTION:
        return []
    if HOSTS[host].contexts > 1 and fusion == 'concat_aff':
        raise ValueError(
            f"concat_aff's own 1x1 convolution exceeds the budget in {host}; leave it or --equal-parameters out."
        )
    return ['--reduction', str(EQUAL_REDUCTION[fusion] * HOSTS[host].contexts)]


def count_parameters(model, **options):
    """The number of trainable parameters of a network with ten classes."""
    parameters = get_model(model, classes=10, **options).collect_params().values()
    return sum(int(np.prod(parameter.shape)) for parameter in parameters if parameter.grad_req != 'null')


def equal_width(host, blocks, fusion, width):
    """The width at which `fusion`, add or concat, has the number of parameters that is nearest to AFF's at `width`."""
    model = model_name(host, blocks)
    budget = count_parameters(model, width=width, reduction=EQUAL_REDUCTION['aff'])
    low, high = (
        (step, count_parameters(model, width=width * (1 + step / STEPS), fusion=fusion)) for step in (0, STEPS)
    )
    while high[0] - low[0] > 1:
        step = (low[0] + high[0]) // 2
        count = count_parameters(model, width=width * (1 + step / STEPS), fusion=fusion)
        low, high = ((step, count), high) if count <= budget else (low, (step, count))
    return width * (1 + min(low, high, key=lambda pair: abs(pair[1] - budget))[0] / STEPS)


def cell_flags(host, fusion, blocks, seed, *, equal_parameters=False, widen=False, shared=()):
    """The flags of a cell for its host's script: the `shared` ones, and what makes it this cell."""
    flags = [*shared, '--model', model_name(host, blocks), '--fusion', fusion, '--seed', str(seed)]
    if equal_parameters:
        flags += reduction_flags(host, fusion)
    if widen and fusion in ('add', 'concat'):
        width = parse(HOSTS[host].script.Config, flags).width or HOSTS[host].width
        flags += ['--width', str(equal_width(host, blocks, fusion, width))]
    return flags


def cell(host, folder, flags):
    """The progress of a host's run in `folder` with these flags, trained as far as it is not done.

    Raises
    ------
    ValueError
        If the folder has a run with other flags.
    Stopped
        On a signal.
    """
    script, flags = HOSTS[host].script, [*flags, '--save-dir', str(folder), '--resume']
    config = parse(script.Config, flags)
    paths = checkpoints(folder)
    progress = read_checkpoint(paths[0])[1] if paths else None
    if progress and progress.epoch > config.num_epochs:
        # The checkpoint also names the data set, which is not read for a finished run.
        current = run_arguments(config, get_workers(config.kvstore))
        saved = {**script.Config().arguments(), **progress.arguments}
        check_arguments({name: saved.get(name) for name in current}, current, paths[0])
        print(f'{folder} is done.')
        return progress
    script.main(flags)
    return read_checkpoint(checkpoints(folder)[0])[1]


def last_epoch(folder):
    """The model of a run with the parameters of its last epoch, which the held-out images did not choose."""
    model, path = load_model(str(folder)), checkpoints(folder)[0]
    arrays, _ = read_checkpoint(path)
    restore_parameters(model.net, arrays, path)
    arrays.close()
    return model


def result(folder, progress, host, fusion, blocks, seed):
    """The row of a run: the metric is that of its last epoch, so the held-out images have chosen nothing."""
    model = json.loads((folder / 'model.json').read_text(encoding='utf-8'))
    net, metric = get_model(model['model'], **model['options']), HOSTS[host].metric
    return {
        'dataset': model['dataset'],
        'classes': len(model['class_names']),
        'train_images': model['train_images'],
        'test_images': model['test_images'],
        'epochs': progress.arguments['num_epochs'],
        'updates': progress.updates,
        'host': host,
        'fusion': fusion,
        'b': blocks,
        'width': model['options'].get('width', ''),
        'reduction': model['options'].get('reduction', ''),
        'seed': seed,
        'parameters': complexity(net, (1, *model['input_size'])).parameters,
        metric: progress.history[-1][metric],
        'seconds': round(sum(record['time'] for record in progress.history), 1),
    }


def write_csv(rows, path):
    """Write the rows of runs, whole or not at all."""
    with atomic(path) as partial, open(partial, 'w', encoding='utf-8', newline='') as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def summary(rows):
    """{(host, b, fusion): (parameters, accuracies or mIoUs in per cent, one for each seed)}"""
    cells = {}
    for row in rows:
        _, values = cells.setdefault((row['host'], row['b'], row['fusion']), (row['parameters'], []))
        values.append(100 * row[HOSTS[row['host']].metric])
    return cells


def mean_and_deviation(accuracies):
    """The mean, and the standard deviation where there are several."""
    deviation = f' ± {statistics.stdev(accuracies):.2f}' if len(accuracies) > 1 else ''
    return f'{statistics.mean(accuracies):.2f}{deviation}'


def published_column(host):
    """The paper's column of a host."""
    return PUBLISHED_HOSTS[HOSTS[host].published]


def tables(rows):
    """Tables 3, 4 and 6 of the paper in Markdown, as far as at least two of their rows were run."""
    ours, first = summary(rows), rows[0]
    seeds = sorted({row['seed'] for row in rows})
    hosts = sorted({(host, b) for host, b, _ in ours})
    columns = [published_column(host) for host, _ in hosts]
    sources = dict.fromkeys(f'{column.data}, {column.conditions}' for column in columns)
    lines = [
        f'Ours: {first["dataset"]}, {first["classes"]} classes, {first["train_images"]:,} training images, '
        f'{first["test_images"]:,} held-out images, epochs: {first["epochs"]}, seeds: {", ".join(map(str, seeds))}; '
        f'{columns[0].metric} in per cent after the last epoch, mean ± standard deviation over the seeds.',
        f'Published: {"; ".join(sources)} ({PAPER}).',
    ]
    for table in TABLES:
        if sum(any((host, b, fusion) in ours for host, b in hosts) for fusion in table.rows) < 2:
            continue
        heads = [
            f'{published_column(host).title}{f", b={b}" if host != "imagenet" else ""}: {head}'
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
                published = columns.get(HOSTS[host].published, ())[b - 1 : b]
                line += [mean_and_deviation(accuracies), f'{parameters:,}'] if accuracies else ['-', '-']
                line += [f'{published[0]:.1f}' if published else '-']
            lines.append(f'| {" | ".join(line)} |')
    return '\n'.join(lines)


@styled()
def plot(rows, path):
    """Draw accuracy or mIoU against parameters: a panel for each host, a line for each fusion, bars for deviations."""
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
        column = published_column(host)
        axes.set(title=column.title, xlabel='parameters (thousands)', ylabel=f'{column.metric} (%)')
        axes.legend()
    with atomic(path) as partial:
        figure.savefig(partial, format='png', dpi=100)


def exit_stopped(stopped):
    """End the process as a signal does, and say how to go on."""
    print(f'{stopped} Give the same command again to go on.', file=sys.stderr)
    sys.exit(128 + stopped.number)


def main(argv):
    args, shared = parse_args(argv)
    rows = []
    # Seeds outermost, so that a grid that is cut has compared all fusions alike.
    for seed, blocks, host, fusion in itertools.product(args.seeds, args.blocks, args.hosts, args.fusions):
        folder = args.save_dir / f'{host}-{fusion}-b{blocks}-seed{seed}'
        flags = cell_flags(
            host, fusion, blocks, seed, equal_parameters=args.equal_parameters, widen=args.widen, shared=shared
        )
        try:
            progress = cell(host, folder, flags)
        except Stopped as stopped:
            exit_stopped(stopped)
        rows.append(result(folder, progress, host, fusion, blocks, seed))
        write_csv(rows, args.save_dir / 'ablation.csv')
    plot(rows, args.save_dir / 'ablation.png')
    print(tables(rows))
    return rows


if __name__ == '__main__':
    run_script('benchmarks/ablation.py', main)
