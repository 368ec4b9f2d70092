"""The folder that a training run writes; every file in it is whole or absent."""

from __future__ import annotations

import json
import os
import shutil
import sys
from contextlib import contextmanager
from functools import partial

from ..files import atomic, remove_abandoned
from ..params_file import write_parameters
from ..text import printable
from .checkpoint import checkpoints, write_checkpoint
from .curves import plot_curves

try:
    import fcntl
except ModuleNotFoundError:  # on Windows
    fcntl = None

__all__ = ['RunFolder']

LOCK = '.run.lock'
RESULTS = ('best.params', 'model.json', 'log.jsonl', 'curves.png')
REPORTS = ('log.txt', 'skipped.txt')
FOLDERS = ('tensorboard', 'overlays')  # the latter is train_stopsign.py's


class RunFolder:
    """A run's folder.

    ``best.params`` and ``model.json`` (enough to build and use the network), ``checkpoint-<updates>.npz``, ``log.txt``,
    ``log.jsonl`` (a record for each epoch), ``curves.png`` and, on request, ``tensorboard/``. While a run writes to it,
    it holds a lock on ``.run.lock``, which the system frees however the process ends.

    Parameters
    ----------
    path : str
    description : dict
        What `model.json` holds besides the epoch and the figures: model, options, class_names, input_size, mean, std,
        crop_ratio, ...
    keep : int, default 3
        How many checkpoints are kept.
    tensorboard : bool, default False
        Write the figures as TensorBoard's scalars as well.
    skipped : sequence of str, default ()
        Sentences on what was left out of the data, for skipped.txt.

    Raises
    ------
    ImportError
        If tensorboard is asked for and tensorboardX is missing.
    """

    def __init__(self, path, description, keep=3, tensorboard=False, skipped=()):
        self.path, self.description, self.keep = str(path), dict(description), keep
        self.skipped, self._lock, self._begun = list(skipped), None, True
        self._board, self._make_board = None, lambda: None
        if tensorboard:
            try:
                from tensorboardX import SummaryWriter
            except ImportError:
                raise ImportError(
                    "--tensorboard needs tensorboardX; run: pip install 'gluon_aff[tensorboard]'"
                ) from None
            self._make_board = partial(SummaryWriter, self.file('tensorboard'))

    def claim(self):
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

    def holds_run(self):
        """Whether there is more than what a run leaves that ends before its first checkpoint.

        Returns
        -------
        bool
        """
        names = RESULTS if self._begun else (*RESULTS, *REPORTS)  # a log.txt that no run began is somebody's
        return bool(checkpoints(self.path)) or any(os.path.lexists(self.file(name)) for name in names)

    def holds_best(self):
        """Whether the best epoch of a run is in the folder, its parameters and what they are."""
        return all(os.path.isfile(self.file(name)) for name in ('best.params', 'model.json'))

    def begin(self, fresh):
        """Make the folder, and remove the partial files of a killed run.

        Parameters
        ----------
        fresh : bool
            Remove all files of another run.

        Raises
        ------
        ValueError
            If another run is writing to the folder, or it cannot be made or written to.
        """
        self.claim()
        with self._writing():
            remove_abandoned(self.path)
            if fresh:
                self._clear()
            self._open_log().close()
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

    def file(self, name):
        """The path of a file in the folder."""
        return os.path.join(self.path, name)

    def log(self, line):
        """Print a line and append it to log.txt."""
        line = printable(line)
        print(line, flush=True)
        with self._writing(), self._open_log() as file:
            print(line, file=file)

    def _open_log(self):
        return open(self.file('log.txt'), 'a', encoding='utf-8')

    def close(self):
        """Release the lock, and close tensorboardX, which writes its last figures only then."""
        if self._board:
            self._board.close()
        if self._lock is not None:
            os.close(self._lock)
        self._board = self._lock = None

    def save_epoch(self, history):
        """Write the log and the curves of the epochs so far: records of figures, each with 'epoch'."""
        with self._writing():
            with atomic(self.file('log.jsonl')) as path, open(path, 'w', encoding='utf-8') as file:
                file.writelines(json.dumps(record) + '\n' for record in history)
            plot_curves(history, self.file('curves.png'))
            if self._board:
                for name, value in history[-1].items():
                    if name != 'epoch':
                        self._board.add_scalar(name, value, history[-1]['epoch'])
                self._board.flush()

    def save_best(self, net, record):
        """Write the parameters of the best epoch so far, then model.json."""
        with self._writing():
            write_parameters(
                self.file('best.params'),
                {name: parameter._reduce() for name, parameter in net._collect_params_with_prefix().items()},
            )
            with atomic(self.file('model.json')) as path, open(path, 'w', encoding='utf-8') as file:
                json.dump({**self.description, 'parameters': 'best.params', **record}, file, indent=1)

    def save_checkpoint(self, net, trainer, progress):
        """Write a checkpoint, and remove the oldest ones beyond `keep`.

        Raises
        ------
        FloatingPointError
            If a parameter is no longer finite.
        """
        with self._writing():
            write_checkpoint(self.file(f'checkpoint-{progress.updates:08d}.npz'), net, trainer, progress)
            for path in checkpoints(self.path)[self.keep :]:
                os.remove(path)
