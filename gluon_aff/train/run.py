"""The folder that a training run writes; every file in it is whole or absent."""
from __future__ import annotations

import json
import os
import tempfile
from contextlib import contextmanager

__all__ = ['RunFolder', 'atomic']


@contextmanager
def atomic(path):
    """A name to write to instead of `path`, which takes its place when the block ends without an error."""
    folder, name = os.path.split(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    descriptor, partial = tempfile.mkstemp(prefix=f'.{name}.', suffix='.part', dir=folder)
    os.close(descriptor)
    try:
        yield partial
        os.chmod(partial, 0o666 & ~_umask())
        os.replace(partial, path)
    finally:
        if os.path.exists(partial):
            os.remove(partial)


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


class RunFolder:
    """A run's folder: ``best.params``, ``model.json`` (enough to build and use the network), ``log.txt``.

    Parameters
    ----------
    path : str
        Made if missing.
    description : dict
        What `model.json` says beside the epoch and the accuracy: model, options, labels, input_size, mean, std,
        crop_ratio, ...

    Raises
    ------
    ValueError
        If the folder cannot be made or written to.
    """

    def __init__(self, path, description):
        self.path, self.description = str(path), dict(description)
        try:
            os.makedirs(self.path, exist_ok=True)
            self._open_log().close()
        except OSError as error:
            raise ValueError(f'The run cannot be saved in {path}: {error.strerror}.') from None

    def log(self, line):
        """Append a line to log.txt."""
        with self._open_log() as file:
            print(line, file=file)

    def _open_log(self):
        return open(os.path.join(self.path, 'log.txt'), 'a', encoding='utf-8')

    def save_best(self, net, epoch, accuracy):
        """Write the parameters of the best epoch so far, then what they are."""
        with atomic(os.path.join(self.path, 'best.params')) as path:
            net.save_parameters(path)
        with atomic(os.path.join(self.path, 'model.json')) as path, open(path, 'w', encoding='utf-8') as file:
            json.dump({**self.description, 'parameters': 'best.params', 'epoch': epoch, 'accuracy': accuracy}, file,
                      indent=1)
