"""The folder that a training run writes; every file in it is whole or absent."""

from __future__ import annotations

import json
import os
import shutil
import sys
from contextlib import contextmanager
from functools import partial
from typing import Sequence

from mxnet.gluon import HybridBlock, Trainer

from .._mxnet import mean_value, structural_parameters
from ..files import atomic, remove_abandoned
from ..params_file import write_parameters
from ..text import printable
from .checkpoint import Progress, checkpoints, write_checkpoint
from .curves import plot_curves
from .ema import WeightAverage

try:
    import fcntl
except ModuleNotFoundError:  # on Windows
    fcntl = None

__all__ = ['RunFolder']

LOCK = '.run.lock'
RESULTS = ('best.params', 'model.json', 'log.jsonl', 'curves.png')
REPORTS = ('log.txt', 'run.yaml', 'skipped.txt')
FOLDERS = ('tensorboard', 'overlays')  # the latter is train_stopsign.py's


class RunFolder:
    """A run's folder.

    ``best.params`` and ``model.json`` (enough to build and use the network), ``checkpoint-<updates>.npz``, ``log.txt``,
    ``log.jsonl`` (a record for each epoch), ``run.yaml`` (the flags, for --config), ``curves.png`` and, on request,
    ``tensorboard/``. While a run writes to it, it holds a lock on ``.run.lock``, which the system frees however the
    process ends.

    Parameters
    ----------
    path : str
    description : dict
        What `model.json` holds besides the epoch and the metrics: model, options, class_names, input_size, mean, std,
        crop_ratio, ...
    keep : int, default 3
        How many checkpoints are kept.
    tensorboard : bool, default False
        Write the metrics as TensorBoard's scalars as well.
    skipped : sequence of str, default ()
        Sentences on what was left out of the data, for skipped.txt.

    Attributes
    ----------
    summary : sequence of str
        Lines on what the run is about to do, which :meth:`begin` prints.

    Raises
    ------
    ImportError
        If tensorboard is asked for and tensorboardX is missing.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        description: dict,
        *,
        keep: int = 3,
        tensorboard: bool = False,
        skipped: Sequence[str] = (),
    ):
        self.path, self.description, self.keep = str(path), dict(description), keep
        self.skipped, self._lock, self._begun = list(skipped), None, True
        self.summary: Sequence[str] = ()
        self._board, self._make_board = None, lambda: None
        if tensorboard:
            try:
                from tensorboardX import SummaryWriter
            except ImportError:
                raise ImportError(
                    "--tensorboard needs tensorboardX; run: pip install 'gluon_aff[tensorboard]'"
                ) from None
            self._make_board = partial(SummaryWriter, self.file('tensorboard'))

    def claim(self) -> None:
        """Make the folder, and keep other runs out of it until :meth:`close`, or the end of the process.

        Raises
        ------
        ValueError
            If another run is writing to it, or it cannot be made or written to.
        """
        if self._lock is not None:
            return
        with self._writing():
            os.makedirs(self.path, exist_ok=True)
            self._begun = os.path.exists(self.file(LOCK))
            descriptor = os.open(self.file(LOCK), os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if fcntl:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise ValueError(
                f'Another run is writing to {self.path}; wait for its end, or give another --save-dir.'
            ) from None
        except OSError:
            pass  # no locks on this file system
        self._lock = descriptor

    def prepare(self, resume: str | None = None, overwrite: bool = False) -> None:
        """Claim the folder for a run, if it may write there.

        Parameters
        ----------
        resume : str, optional
            A checkpoint to go on from, or 'auto' for the latest one in the folder.
        overwrite : bool, default False
            Whether a run in the folder may be replaced.

        Raises
        ------
        ValueError
            If another run is in the way, or has left no checkpoint to go on from.
        """
        self.claim()
        if not self.holds_run() or overwrite and not resume:
            return
        if not resume:
            raise ValueError(
                f'{self.path} holds a run; give --resume to go on with it, --overwrite to replace it, '
                'or another --save-dir.'
            )
        if resume == 'auto' and not checkpoints(self.path):
            raise ValueError(
                f'{self.path} holds a run without a checkpoint to resume from; give --overwrite in '
                'place of --resume, or another --save-dir.'
            )

    def holds_run(self) -> bool:
        """Whether the folder holds more than a run leaves that ends before its first checkpoint."""
        names = RESULTS if self._begun else (*RESULTS, *REPORTS)  # a log.txt that no run began is somebody's
        return bool(checkpoints(self.path)) or any(os.path.lexists(self.file(name)) for name in names)

    def holds_best(self) -> bool:
        """Whether the folder has the parameters of a run's best epoch, and their description."""
        return all(os.path.isfile(self.file(name)) for name in ('best.params', 'model.json'))

    def begin(self, fresh: bool, *, settings: str = '') -> None:
        """Make the folder, and remove the partial files of a killed run; if `fresh`, all files of another run.

        The `settings`, YAML, go to run.yaml.

        Raises
        ------
        ValueError
            If another run is writing to the folder, or it cannot be made or written to.
        """
        self.claim()
        for line in self.summary:
            print(printable(line), flush=True)
        with self._writing():
            remove_abandoned(self.path)
            if fresh:
                self._clear()
            self._open_log().close()
            with atomic(self.file('run.yaml')) as path, open(path, 'w', encoding='utf-8') as file:
                file.write(settings)
            if self.skipped:
                with atomic(self.file('skipped.txt')) as path, open(
                    path, 'w', encoding='utf-8', errors='backslashreplace'
                ) as file:
                    print(f'Left out: {len(self.skipped)}', *map(printable, self.skipped), sep='\n', file=file)
                print(
                    printable(f'Left out: {len(self.skipped)}; {self.file("skipped.txt")} names them.'), file=sys.stderr
                )
            elif os.path.exists(self.file('skipped.txt')):
                os.remove(self.file('skipped.txt'))
        self._board = self._make_board()

    def _clear(self):
        for path in [*checkpoints(self.path), *map(self.file, (*RESULTS, *REPORTS))]:
            if os.path.lexists(path):
                os.remove(path)
        for folder in map(self.file, FOLDERS):
            if os.path.isdir(folder) and not os.path.islink(folder):
                shutil.rmtree(folder)

    @contextmanager
    def _writing(self):
        """Errors of the file system as one sentence."""
        try:
            yield
        except OSError as error:
            raise ValueError(
                f'The run cannot be saved in {self.path} ({error.strerror or error}); make room there, or '
                'give another --save-dir.'
            ) from None

    def file(self, name: str) -> str:
        """The path of a file in the folder."""
        return os.path.join(self.path, name)

    def log(self, line: str) -> None:
        """Print a line and append it to log.txt."""
        line = printable(line)
        print(line, flush=True)
        with self._writing(), self._open_log() as file:
            print(line, file=file)

    def _open_log(self):
        return open(self.file('log.txt'), 'a', encoding='utf-8')

    def close(self) -> None:
        """Release the lock, and close tensorboardX, which writes its last scalars only then."""
        if self._board:
            self._board.close()
        if self._lock is not None:
            os.close(self._lock)
        self._board = self._lock = None

    def save_epoch(self, history: list[dict], main_metric: str | None = None) -> None:
        """Write the log and the curves of the epochs so far, of which each has a record.

        Parameters
        ----------
        history : list of dict
        main_metric : str, optional
            The metric whose maximum the curves mark as the best epoch.
        """
        with self._writing():
            with atomic(self.file('log.jsonl')) as path, open(path, 'w', encoding='utf-8') as file:
                file.writelines(json.dumps(record) + '\n' for record in history)
            model, dataset = (self.description.get(key) or '' for key in ('model', 'dataset'))
            title = ' on '.join(filter(None, (model, os.path.basename(dataset.rstrip(os.sep)))))
            plot_curves(history, self.file('curves.png'), title=title, main_metric=main_metric)
            if self._board:
                for name, value in history[-1].items():
                    if name != 'epoch':
                        self._board.add_scalar(name, value, history[-1]['epoch'])
                self._board.flush()

    def save_best(self, net: HybridBlock, record: dict) -> None:
        """Write the parameters of the best epoch so far, then model.json."""
        with self._writing():
            write_parameters(
                self.file('best.params'),
                {name: mean_value(parameter) for name, parameter in structural_parameters(net).items()},
            )
            with atomic(self.file('model.json')) as path, open(path, 'w', encoding='utf-8') as file:
                json.dump({**self.description, 'parameters': 'best.params', **record}, file, indent=1)

    def save_checkpoint(
        self, net: HybridBlock, trainer: Trainer, progress: Progress, *, average: WeightAverage | None = None
    ) -> None:
        """Write a checkpoint, and remove the oldest ones beyond `keep`.

        Raises
        ------
        FloatingPointError
            If a parameter is no longer finite.
        """
        with self._writing():
            path = self.file(f'checkpoint-{progress.updates:08d}.npz')
            write_checkpoint(path, net, trainer, progress, average=average)
            for path in checkpoints(self.path)[self.keep :]:
                os.remove(path)
