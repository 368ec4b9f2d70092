"""Does attention fuse better? Seven fusions on Fashion-MNIST, five seeds each; docs/evidence.md has the results.

    python -m benchmarks.study --data-dir DIR              # train the cells that docs/study.csv lacks
    python -m benchmarks.study --report                    # make the figure and tables of docs/evidence.md and study.md
    python -m benchmarks.study --data-dir DIR --again 3    # train its third cell anew, and compare each parameter

A cell is one training run. Of the same seed, all fusions see the same images in the same order with the same changes,
and start from the same values of the layers that they share, so that their differences are paired. A cell that ends is
added to the CSV. Several processes may work on one CSV; a cell that was cut goes on where it stopped. Flags that are
not listed here are train_cifar.py's and replace the study's; give another --csv with them.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import subprocess
import sys
import tempfile
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple, Sequence

import mxnet as mx

from benchmarks import ablation
from benchmarks.timing import processor
from gluon_aff import __version__
from gluon_aff.files import locked
from gluon_aff.layers import kernels
from gluon_aff.train import Stopped, checkpoints, read_checkpoint, run_script, whole

DOCS = Path(__file__).parents[1] / 'docs'
# 2,000 updates. The learning rate is the authors' 0.2 for batches of 128, scaled to 32; so is their schedule, a warm-up
# and a cosine, and no decay of beta, gamma and biases.
RECIPE = (
    '--dataset fashion_mnist --train-images 12800 --width 1 --batch-size 32 --num-epochs 5 --lr 0.05 --init kaiming '
    '--init-by-name --no-wd --label-smoothing --keep 1'
).split()
RECIPES = {'basic': [], 'augmented': ['--auto-aug', '--mixup', '--mixup-off-epoch', '1']}
SEEDS = range(5)
ALL = ('add', 'concat', 'sk', 'global_aff', 'local_aff', 'aff', 'iaff')
GRID = (('resnet', 1, ALL), ('inception', 1, ALL), ('resnet', 2, ('add', 'aff', 'iaff')))
COLUMNS = (
    'recipe host b seed fusion budget width reduction parameters train_images test_images epochs updates accuracy loss '
    'seconds cpu_seconds version operators processor digest'
).split()
NUMBERS = {
    **dict.fromkeys(('b', 'seed', 'parameters', 'train_images', 'test_images', 'epochs', 'updates'), int),
    **dict.fromkeys(('accuracy', 'loss', 'seconds', 'cpu_seconds'), float),
}


class Cell(NamedTuple):
    """What a run is: `budget` is 'equal', or 'plain' for addition at the others' width, with fewer parameters."""

    recipe: str
    host: str
    b: int
    seed: int
    fusion: str
    budget: str

    def __str__(self):
        return f'{self.recipe}-{self.host}-b{self.b}-seed{self.seed}-{self.fusion}-{self.budget}'


def cells() -> list[Cell]:
    """All cells in the order of their training: any first few are all fusions of some seeds."""
    return [
        Cell(recipe, host, b, seed, fusion, budget)
        for recipe in RECIPES
        for host, b, fusions in GRID
        for seed in SEEDS
        for fusion in fusions
        for budget in (('equal', 'plain') if fusion == 'add' else ('equal',))
    ]


def version() -> str:
    """The versions of this project, with the commit where it is a checkout, and of MXNet."""
    command = ['git', '-C', str(DOCS), 'describe', '--always', '--dirty', '--exclude=*']
    commit = ''
    with suppress(OSError):
        commit = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.decode().strip()
    return f'{__version__}{f" {commit}" if commit else ""}, mxnet {mx.__version__}'


def read(path: Path) -> list[dict]:
    """The rows of a CSV of the study; none if it is missing.

    Raises
    ------
    ValueError
        If it is not such a CSV.
    """
    if not path.is_file():
        return []
    with open(path, encoding='utf-8', newline='') as file:
        reader = csv.DictReader(file)
        if reader.fieldnames != COLUMNS:
            raise ValueError(f'{path} is not a CSV of this study: it has the columns {reader.fieldnames}.')
        return [{name: NUMBERS.get(name, str)(value) for name, value in row.items()} for row in reader]


def key(row: dict) -> Cell:
    """The cell of a row."""
    return Cell(**{name: row[name] for name in Cell._fields})


def append(row: dict, path: Path) -> None:
    """Add a row to a CSV that other processes may be adding to.

    Raises
    ------
    ValueError
        If the CSV has runs of other numbers of images or updates.
    """
    while True:
        with locked(f'{path}.lock') as mine:
            if mine:
                rows = read(path)
                for name in ('train_images', 'test_images', 'epochs', 'updates'):
                    if rows and rows[0][name] != row[name]:
                        raise ValueError(
                            f'{path} has runs with {name} {rows[0][name]}, and this one has {row[name]}; name another '
                            '--csv and --save-dir.'
                        )
                ablation.write_csv([*rows, row], path)
                return
        time.sleep(0.1)


def digest(checkpoint: str) -> str:
    """A hash of all parameters in a checkpoint, to the last bit."""
    arrays, _ = read_checkpoint(checkpoint)
    with closing(arrays):
        total = hashlib.sha256()
        for name in sorted(name for name in arrays if name.startswith('parameters/')):
            total.update(name.encode() + arrays[name].tobytes())
    return total.hexdigest()[:16]


def flags(cell: Cell, shared: Sequence[str] = ()) -> list[str]:
    """The flags of a cell for train_cifar.py; the `shared` ones replace the recipe's."""
    return ablation.cell_flags(
        cell.host,
        cell.fusion,
        cell.b,
        cell.seed,
        equal_parameters=True,
        widen=cell.budget == 'equal',
        shared=[*RECIPE, *RECIPES[cell.recipe], *shared],
    )


def train(cell: Cell, folder: Path, shared: Sequence[str]) -> dict:
    """Train a cell in `folder`, or go on with it; its row."""
    started = time.process_time()
    progress = ablation.cell(cell.host, folder, flags(cell, shared))
    row = {
        **ablation.result(folder, progress, cell.host, cell.fusion, cell.b, cell.seed),
        **cell._asdict(),
        'loss': progress.history[-1]['val_loss'],
        'cpu_seconds': round(time.process_time() - started, 1),
        'version': version(),
        'operators': 'compiled' if kernels.available() else 'MXNet',
        'processor': processor(),
        'digest': digest(checkpoints(folder)[0]),
    }
    return {name: row[name] for name in COLUMNS}


def run(args: argparse.Namespace, shared: list[str]) -> None:
    """Train the cells that the CSV lacks, as far as no other process does and --stop-file is absent."""
    args.save_dir.mkdir(parents=True, exist_ok=True)
    busy = 0
    for cell in cells():
        if args.stop_file and args.stop_file.exists():
            print(f'{args.stop_file} is there; stopped before {cell}.', file=sys.stderr)
            return
        with locked(str(args.save_dir / f'{cell}.lock')) as mine:
            if cell in map(key, read(args.csv)):
                continue
            if not mine:
                busy += 1
                continue
            append(train(cell, args.save_dir / str(cell), shared), args.csv)
    print(f'{len(read(args.csv))} of {len(cells())} cells are done; other processes train {busy}.')


def repeat(args: argparse.Namespace, shared: list[str]) -> bool:
    """Train the cell of a row of the CSV anew; whether each parameter is the same to the last bit."""
    rows = read(args.csv)
    if args.again > len(rows):
        raise ValueError(f'--again must be 1 to {len(rows)}, the rows of {args.csv}, got {args.again}.')
    row = rows[args.again - 1]
    with tempfile.TemporaryDirectory() as folder:
        again = train(key(row), Path(folder) / 'run', shared)
    names = ('accuracy', 'loss', 'digest', 'version', 'operators', 'processor')
    different = [f'{name} was {row[name]} and is {again[name]}' for name in names if row[name] != again[name]]
    print(f'{key(row)}: {"; ".join(different) or "equal to the last bit"}.')
    return row['digest'] == again['digest']


def main(argv):
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        allow_abbrev=False,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        usage='%(prog)s [-h] [--csv FILE] [--save-dir DIR] [--stop-file FILE] [--report | --again ROW] '
        '[flags of train_cifar.py]',
    )
    parser.add_argument('--csv', type=Path, default=DOCS / 'study.csv', help='a row for each cell that is done')
    parser.add_argument('--save-dir', type=Path, default=Path('runs/study'), help="folder of the cells' runs")
    parser.add_argument('--stop-file', type=Path, help='train no further cell once this file is there')
    parser.add_argument('--docs', type=Path, default=DOCS, help='folder of evidence.md, study.md and the picture')
    actions = parser.add_mutually_exclusive_group()
    actions.add_argument('--report', action='store_true', help='make the picture and the tables of the two pages')
    actions.add_argument('--again', type=whole(1), metavar='ROW', help='train the cell of this row anew, and compare')
    args, shared = parser.parse_known_args(argv)
    try:
        if args.report:
            from benchmarks.study_report import write_report

            write_report(read(args.csv), args.docs)
        elif args.again:
            sys.exit(not repeat(args, shared))
        else:
            run(args, shared)
    except Stopped as stopped:
        ablation.exit_stopped(stopped)


if __name__ == '__main__':
    run_script('benchmarks/study.py', main)
