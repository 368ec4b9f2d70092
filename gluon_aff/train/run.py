"""The folder that a training run writes; every file in it is whole or absent."""
from __future__ import annotations

import json
import os
import sys
from functools import partial

from ..files import atomic
from ..text import printable
from .checkpoint import checkpoints, write_checkpoint
from .curves import plot_curves

__all__ = ['RunFolder']


class RunFolder:
    """A run's folder.

    ``best.params`` and ``model.json`` (enough to build and use the network), ``checkpoint-<updates>.npz``, ``log.txt``,
    ``log.jsonl`` (a record for each epoch), ``curves.png`` and, on request, ``tensorboard/``.

    Parameters
    ----------
    path : str
    description : dict
        What `model.json` says beside the epoch and the figures: model, options, labels, input_size, mean, std,
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
        self.skipped = list(skipped)
        self._board, self._make_board = None, lambda: None
        if tensorboard:
            try:
                from tensorboardX import SummaryWriter
            except ImportError:
                raise ImportError('--tensorboard needs tensorboardX; run: '
                                  "pip install 'gluon_aff[tensorboard]'") from None
            self._make_board = partial(SummaryWriter, self.file('tensorboard'))

    def begin(self, fresh):
        """Make the folder, and remove what a run that was killed while it wrote has left.

        Parameters
        ----------
        fresh : bool
            Remove another run's checkpoints, too.

        Raises
        ------
        ValueError
            If the folder cannot be made or written to.
        """
        try:
            os.makedirs(self.path, exist_ok=True)
            self._open_log().close()
            for name in os.listdir(self.path):
                if name.startswith('.') and name.endswith('.part'):
                    os.remove(self.file(name))
            for path in checkpoints(self.path) if fresh else ():
                os.remove(path)
            if self.skipped:
                with atomic(self.file('skipped.txt')) as path, open(path, 'w', encoding='utf-8',
                                                                    errors='backslashreplace') as file:
                    print(f'Left out: {len(self.skipped)}', *map(printable, self.skipped), sep='\n',
                          file=file)
                print(f'Left out: {len(self.skipped)}; {self.file("skipped.txt")} names them.', file=sys.stderr)
        except OSError as error:
            raise ValueError(f'The run cannot be saved in {self.path}: {error.strerror}.') from None
        self._board = self._make_board()

    def file(self, name):
        """The path of a file in the folder."""
        return os.path.join(self.path, name)

    def log(self, line):
        """Print a line and append it to log.txt."""
        line = printable(line)
        print(line, flush=True)
        with self._open_log() as file:
            print(line, file=file)

    def _open_log(self):
        return open(self.file('log.txt'), 'a', encoding='utf-8')

    def close(self):
        """Let go of what is open; tensorboardX writes its last figures only then."""
        if self._board:
            self._board.close()

    def save_epoch(self, history):
        """Write what the epochs so far gave: records of figures, each with 'epoch'."""
        with atomic(self.file('log.jsonl')) as path, open(path, 'w', encoding='utf-8') as file:
            file.writelines(json.dumps(record) + '\n' for record in history)
        plot_curves(history, self.file('curves.png'))
        if self._board:
            for name, value in history[-1].items():
                if name != 'epoch':
                    self._board.add_scalar(name, value, history[-1]['epoch'])
            self._board.flush()

    def save_best(self, net, record):
        """Write the parameters of the best epoch so far, then what they are."""
        with atomic(self.file('best.params')) as path:
            net.save_parameters(path)
        with atomic(self.file('model.json')) as path, open(path, 'w', encoding='utf-8') as file:
            json.dump({**self.description, 'parameters': 'best.params', **record}, file, indent=1)

    def save_checkpoint(self, net, trainer, progress):
        """Write a checkpoint, and remove the oldest ones beyond `keep`.

        Raises
        ------
        FloatingPointError
            If a parameter is no longer finite.
        """
        write_checkpoint(self.file(f'checkpoint-{progress.updates:08d}.npz'), net, trainer, progress)
        for path in checkpoints(self.path)[self.keep:]:
            os.remove(path)
