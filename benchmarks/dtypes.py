"""Whether bfloat16 trains as float32 does: the same run in both, for several seeds.

    python -m benchmarks.dtypes --dataset fashion_mnist --data-dir DIR --width 1 --num-epochs 3
    python -m benchmarks.dtypes --dataset digits --model fashion_mnist_aff_resnet8 --use-pretrained

Flags that are not listed here are train_cifar.py's and hold for all runs. Each run has its own folder in --save-dir:
the same command skips those that are done and goes on with one that was cut. The table that goes to standard output has
the accuracy after the last epoch, so that the held-out images have chosen nothing.
"""

import argparse
import statistics
import sys
from pathlib import Path

from gluon_aff.train import Stopped, run_script, whole

from .ablation import cell, mean_and_deviation

DTYPES = ('float32', 'bfloat16')


def table(accuracies, seconds):
    """A row for each type from {dtype: per cent by seed} and the seconds of its epochs, and the paired differences."""
    lines = ['| type | accuracy, % | by seed | seconds |', '|---|---|---|---|']
    for dtype, values in accuracies.items():
        by_seed = ', '.join(f'{value:.2f}' for value in values)
        lines.append(f'| {dtype} | {mean_and_deviation(values)} | {by_seed} | {statistics.mean(seconds[dtype]):.1f} |')
    differences = [low - full for full, low in zip(*accuracies.values())]
    return '\n'.join([*lines, '', f'bfloat16 less float32, seed by seed: {mean_and_deviation(differences)} points'])


def main(argv):
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        allow_abbrev=False,
        usage='%(prog)s [-h] [--seeds SEED ...] [--save-dir FOLDER] [flags of train_cifar.py]',
    )
    parser.add_argument('--seeds', nargs='+', type=whole(0), default=[0, 1, 2])
    parser.add_argument('--save-dir', type=Path, default=Path('runs/dtypes'))
    args, shared = parser.parse_known_args(argv)
    accuracies, seconds = ({dtype: [] for dtype in DTYPES} for _ in range(2))
    for seed in args.seeds:
        for dtype in DTYPES:
            folder = args.save_dir / f'{dtype}-seed{seed}'
            try:
                history = cell('resnet', folder, [*shared, '--dtype', dtype, '--seed', str(seed)]).history
            except Stopped as stopped:
                print(f'{stopped} Give the same command again to go on.', file=sys.stderr)
                sys.exit(128 + stopped.number)
            accuracies[dtype].append(100 * history[-1]['accuracy'])
            seconds[dtype].append(sum(record['time'] for record in history))
    print(table(accuracies, seconds))
    return accuracies


if __name__ == '__main__':
    run_script('benchmarks/dtypes.py', main)
