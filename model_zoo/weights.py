"""Where parameters come from: files on disk, checked before they reach a network."""
from __future__ import annotations

import os
from pathlib import Path

import mxnet as mx

__all__ = ['get_model_file', 'load_parameters', 'read_parameters']

ROOT = os.path.join(os.environ.get('MXNET_HOME', os.path.join('~', '.mxnet')), 'models')
# First eight bytes of a file that mx.nd.save wrote (kMXAPINDArrayListMagic).
MAGIC = (0x112).to_bytes(8, 'little')


def tags(name):
    """Tags of the released parameter files of a network; there are none yet."""
    return ()


def get_model_file(name, tag=None, root=ROOT):
    """Path of a network's parameter file in the cache folder (GluonCV's name for it).

    Parameters
    ----------
    name : str
        Of a registered network.
    tag : str or bool, optional
        Finds ``<name>-<tag>.params``; without it (or with True) ``<name>.params``.
    root : str, default '~/.mxnet/models' (or $MXNET_HOME/models)

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    """
    file = f'{name}-{tag}.params' if isinstance(tag, str) else f'{name}.params'
    path = Path(root).expanduser() / file
    if not path.is_file():
        raise FileNotFoundError(f'No parameters for {name}: none can be downloaded yet, and {path} does not exist; '
                                'put the file there, or give its path as pretrained.')
    return str(path)


def find(name, pretrained, root):
    """The parameter file that `get_model(..., pretrained=...)` asks for: a path, or a file of the cache folder."""
    if isinstance(pretrained, (str, os.PathLike)):
        path = Path(pretrained).expanduser()
        if path.is_file():
            return str(path)
        if path.suffix or len(path.parts) > 1:
            raise FileNotFoundError(f'There is no parameter file {path}.')
    return get_model_file(name, pretrained, root)


def remove(name, root=ROOT):
    """Remove a network's parameter files from the cache folder."""
    folder = Path(root).expanduser()
    for path in [folder / f'{name}.params', *folder.glob(f'{name}-*.params')]:
        if path.is_file():
            path.unlink()


def read_parameters(path):
    """Arrays by name of a file that Gluon's save_parameters or export wrote.

    Parameters
    ----------
    path : str

    Returns
    -------
    dict of str to NDArray

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, or it is not a parameter file.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f'There is no parameter file {path}.')
    with open(path, 'rb') as file:
        magic = file.read(len(MAGIC))
    arrays = None
    if magic == MAGIC:
        try:
            arrays = mx.nd.load(str(path))
        except mx.MXNetError:
            pass
    if not isinstance(arrays, dict) or not arrays:
        raise ValueError(f'{path} is not a parameter file that Gluon saved, or it is damaged; '
                         'give a file that save_parameters wrote.')
    return {name.split(':', 1)[-1] if name.startswith(('arg:', 'aux:')) else name: array
            for name, array in arrays.items()}


def load_parameters(net, path, ctx=None):
    """Load a parameter file into a network; the network's types stand.

    Parameters
    ----------
    net : mxnet.gluon.Block
    path : str
    ctx : mxnet.Context or list of it, default mxnet.cpu()

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not a parameter file, or is another network's: names the first few parameters that differ.
    """
    found, wanted = read_parameters(path), net._collect_params_with_prefix()
    differences = [f'{name} is missing' for name in wanted if name not in found]
    differences += [f'{name} is unknown' for name in found if name not in wanted]
    differences += [f'{name} has shape {found[name].shape}, not {tuple(param.shape)}'
                    for name, param in wanted.items() if name in found and not _fits(found[name].shape, param.shape)]
    if differences:
        more = f' and {len(differences) - 3} more' if len(differences) > 3 else ''
        raise ValueError(f'{path} holds the parameters of another network: {"; ".join(differences[:3])}{more}.')
    net.load_parameters(str(path), ctx=ctx or mx.cpu(), cast_dtype=True, dtype_source='current')


def _fits(shape, wanted):
    return wanted is None or (len(shape) == len(wanted) and all(w in (0, s) for s, w in zip(shape, wanted)))
