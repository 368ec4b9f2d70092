"""Parameter files into networks: names matched, types and shapes compared, then loaded."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Sequence

import mxnet as mx
import numpy as np
from mxnet.gluon.block import Block

from gluon_aff._mxnet import children, devices, load_value, structural_parameters
from gluon_aff.layers.context import PointwiseConv
from gluon_aff.params_file import read_parameters, write_parameters
from gluon_aff.text import printable

from .torch_files import is_torch_file, read_state_dict, write_state_dict
from .torch_names import rename_state_dict, torch_names

__all__ = ['load_arrays', 'load_parameters', 'read_arrays', 'read_for', 'save_parameters']

log = logging.getLogger(__name__)


def read_arrays(path: str) -> dict[str, np.ndarray]:
    """The arrays of a parameter file by their names in it; the suffix says the format.

    Raises
    ------
    FileNotFoundError, ImportError, ValueError
        As :func:`gluon_aff.params_file.read_parameters` and :func:`model_zoo.weights.torch_files.read_state_dict` do.
    """
    return read_state_dict(path) if is_torch_file(path) else read_parameters(path)


def read_for(net: Block, path: str, prefix: str = '') -> dict[str, np.ndarray]:
    """The arrays of a parameter file under the names that `net.save_parameters` gives them.

    A file of ``net.export`` or ``net.collect_params().save`` has the parameters' own names instead, behind the prefix
    of the network that was saved or, with ``strip_prefix``, behind none. A PyTorch state dict has the names of
    :mod:`model_zoo.weights.torch_names`. Names that do not fit stay as they are.

    Parameters
    ----------
    net : mxnet.gluon.Block
    path : str
    prefix : str, default ''
        Read only the parameters whose names begin with it, under the rest of their names.

    Returns
    -------
    dict of str to numpy.ndarray

    Raises
    ------
    FileNotFoundError, ImportError, ValueError
        As :func:`read_arrays`; a ValueError also if no name begins with the prefix.
    """
    arrays, parameters = read_arrays(path), structural_parameters(net)
    if prefix:
        names = ', '.join(list(arrays)[:3])
        arrays = {name[len(prefix) :]: array for name, array in arrays.items() if name.startswith(prefix)}
        if not arrays:
            raise ValueError(f'{path} has no parameter whose name begins with {prefix!r}; its names are {names}, ...')
    if is_torch_file(path):
        renamed = rename_state_dict(arrays, parameters)
        return {name: _as_image_kernel(array, parameters.get(name)) for name, array in renamed.items()}
    if any(name in parameters for name in arrays):
        return arrays
    local = {
        parameter.name[len(net.prefix) :]: name
        for name, parameter in parameters.items()
        if parameter.name.startswith(net.prefix)
    }
    # The prefix with which most names are the network's.
    sizes = {len(name) for name in local}
    fitting = Counter(name[:-size] for name in arrays for size in sizes if name[-size:] in local)
    prefix = max(fitting, key=lambda prefix: (fitting[prefix], prefix), default='')
    return {
        local.get(name[len(prefix) :], name) if name.startswith(prefix) else name: array
        for name, array in arrays.items()
    }


def _as_image_kernel(array, parameter):
    """A 1x1 kernel of sequences or volumes as our fusion blocks have it, which is that of images; others stay."""
    shape = parameter.shape if parameter is not None else None
    if array.ndim not in (3, 5) or not shape or len(shape) != 4 or {*array.shape[2:], *shape[2:]} != {1}:
        return array
    return array.reshape(*array.shape[:2], 1, 1)


def load_parameters(
    net: Block,
    path: str,
    ctx: mx.Context | Sequence[mx.Context] | None = None,
    *,
    allow_missing: bool = False,
    ignore_extra: bool = False,
    fresh: Sequence[str] = (),
    adapt_input: bool = False,
    prefix: str = '',
) -> None:
    """Load a parameter file into a network or block; its types stand.

    It may come from Gluon's save_parameters, export or collect_params().save, or be a PyTorch state dict (.safetensors,
    .pth, .pt, .bin, .tar) with timm's, torchvision's or the authors' names, see :func:`read_for`. MXNet never reads it,
    and it is compared with the network before anything changes.

    Parameters
    ----------
    net : mxnet.gluon.Block
        A network, or a block such as :class:`gluon_aff.AFF`.
    path : str
    ctx : mxnet.Context or list of it, default where the network is, or mxnet.cpu()
    allow_missing : bool, default False
        Parameters that the file lacks stay as they are, initialised (Xavier) if they were not; a log line names them.
    ignore_extra : bool, default False
        Ignore parameters that the network lacks.
    fresh : sequence of str, default ()
        Parameters to initialise (Xavier) even if the file has them.
    adapt_input : bool, default False
        Where the file's stem takes three channels and the network's takes another number n, sum the kernels for n = 1,
        else repeat them, scaled by 3 / n, as timm does; a log line says so.
    prefix : str, default ''
        Load a part of a larger model: the parameters whose names begin with it, such as 'encoder.fusion.'.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ImportError
        If it is one of PyTorch's own files, and PyTorch 2.6 or newer is not installed.
    ValueError
        If it is not a parameter file, is damaged, or is another network's: names the first few parameters that differ.
    """
    fill(
        net,
        read_for(net, path, prefix),
        path,
        ctx,
        allow_missing=allow_missing,
        ignore_extra=ignore_extra,
        fresh=fresh,
        adapt_input=adapt_input,
    )


def fill(net, arrays, path, ctx=None, *, allow_missing=False, ignore_extra=False, fresh=(), adapt_input=False):
    """Load the `arrays` that :func:`read_for` read from `path`, as :func:`load_parameters` does."""
    parameters = structural_parameters(net)
    if adapt_input:
        arrays = _adapt_input(arrays, parameters, path)
    if allow_missing and not any(name in parameters and name not in fresh for name in arrays):
        raise _another(path, arrays, ['it has none of their names'])
    missing = load_arrays(net, arrays, path, ctx, allow_missing, ignore_extra, fresh, cast_dtype=True)
    for name in [*missing, *fresh]:
        if name in fresh or not devices(parameters[name]):
            parameters[name].initialize(ctx=ctx, default_init=mx.init.Xavier(), force_reinit=True)
    if missing:
        log.warning(
            '%s lacks %d parameters, which are initialised or stay as they were: %s',
            printable(path),
            len(missing),
            _summary(missing),
        )


def save_parameters(net: Block, path: str) -> None:
    """Save an initialised network's parameters in the format that the suffix says.

    Parameters
    ----------
    net : mxnet.gluon.Block
    path : str
        A PyTorch state dict if it ends in .safetensors, .pth, .pt, .bin or .tar, by the names of
        :func:`model_zoo.weights.torch_names.torch_names`; else the file of Gluon's save_parameters.

    Raises
    ------
    ImportError
        If it is one of PyTorch's own formats, and PyTorch 2.6 or newer is not installed.
    OSError
        If it cannot be written whole; `path` is then as it was.
    """
    values = {name: parameter.list_data()[0] for name, parameter in structural_parameters(net).items()}
    if not is_torch_file(path):
        return write_parameters(path, values)
    mx.nd.waitall()  # a forward pass that still runs may be bringing weights into oneDNN's layout
    names, dims = torch_names(values), _kernel_dims(net)
    arrays = {name: value.asnumpy() for name, value in values.items()}
    arrays.update({name: arrays[name].reshape(*arrays[name].shape[:2], *[1] * dims[name]) for name in dims})
    write_state_dict(path, {names[name]: array for name, array in arrays.items()})


def _kernel_dims(block, path='', dims=0):
    """The spatial axes of PyTorch's 1x1 kernels, by their names, in the fusion blocks of sequences and volumes."""
    if isinstance(block, PointwiseConv):
        return {f'{path}weight': dims} if dims in (1, 3) else {}
    dims = dims or getattr(block, 'spatial_dims', 0)  # the blocks inside a fusion are called on images
    kernels = {}
    for name, child in children(block).items():
        kernels.update(_kernel_dims(child, f'{path}{name}.', dims))
    return kernels


def _adapt_input(arrays, parameters, path):
    """Arrays of a file with its stem, if it takes three channels, made one of the network's number of channels."""
    first = next(name for name, parameter in parameters.items() if len(parameter.shape) == 4)
    channels = parameters[first].shape[1]
    if channels in (0, 3) or first not in arrays or arrays[first].shape[1:2] != (3,):
        return arrays
    log.warning('%s takes 3 channels; its first convolution is adapted to %d.', printable(path), channels)
    adapted = dict(arrays)
    for name in parameters:
        array = arrays.get(name)
        if name == first:
            kernels = array.astype(np.float32)
            order = np.arange(channels) % 3
            kernels = kernels.sum(1, keepdims=True) if channels == 1 else kernels[:, order] * (3 / channels)
            adapted[name] = kernels.astype(array.dtype)
            return adapted
        if array is not None and array.shape == (3,):  # of a norm of the images
            adapted[name] = array.mean(keepdims=True) if channels == 1 else np.resize(array, channels)


def load_arrays(
    net,
    arrays,
    path,
    ctx=None,
    allow_missing=False,
    ignore_extra=False,
    fresh=(),
    cast_dtype=False,
    dtype_source='current',
):
    """Give a network the arrays of :func:`read_for`, except those in `fresh`, once all of them fit.

    The arguments are Gluon's, as in mxnet.gluon.Block.load_parameters. Of a parameter that has
    several names one is enough.

    Returns
    -------
    list of str
        Names of the parameters that are missing.

    Raises
    ------
    ValueError
        If they are another network's, or of other types and cast_dtype is False.
    """
    if dtype_source not in ('current', 'saved'):
        raise ValueError(f"dtype_source must be 'current' or 'saved', got {dtype_source!r}.")
    parameters = {name: parameter for name, parameter in structural_parameters(net).items() if name not in fresh}
    loaded = [name for name in parameters if name in arrays]
    shared = {id(parameters[name]) for name in loaded}
    missing = [name for name in parameters if id(parameters[name]) not in shared]
    differences = [] if allow_missing else [f'{name} is missing' for name in missing]
    if not ignore_extra:
        differences += [f'{name} is unknown' for name in arrays if name not in {*parameters, *fresh}]
    for name in loaded:
        dtype, shape = arrays[name].dtype, arrays[name].shape
        if not _fits(shape, parameters[name].shape):
            differences.append(f'{name} has shape {shape}, not {tuple(parameters[name].shape)}')
        elif dtype.kind != 'f' or not cast_dtype and dtype != np.dtype(parameters[name].dtype):
            differences.append(f'{name} holds {dtype} values, not {np.dtype(parameters[name].dtype)}')
    if differences:
        raise _another(path, arrays, differences)
    for name in loaded:
        dtype = arrays[name].dtype if dtype_source == 'saved' else np.dtype(parameters[name].dtype)
        value = mx.nd.array(arrays[name].astype(dtype), dtype=dtype)
        load_value(
            parameters[name],
            value.as_np_ndarray() if mx.util.is_np_array() else value,
            ctx,
            cast_dtype=cast_dtype,
            dtype_source=dtype_source,
        )
    return missing


def _another(path, arrays, differences):
    more = f' and {len(differences) - 3} more' if len(differences) > 3 else ''
    # Names without a dot are the parameters' own, which GluonCV chooses differently.
    own = not is_torch_file(path) and any('.' not in name for name in arrays)
    hint = '; for a GluonCV network give a file from its save_parameters' if own else ''
    return ValueError(f'{path} holds the parameters of another network: {"; ".join(differences[:3])}{more}{hint}.')


def _fits(shape, expected):
    return expected is None or (len(shape) == len(expected) and all(e in (0, s) for s, e in zip(shape, expected)))


def _summary(names):
    """Names in one line, by the blocks they belong to."""
    blocks = sorted(
        {
            name.rsplit('.', 1)[0].split('.attention.')[0] + ('.attention' if '.attention.' in name else '')
            for name in names
        }
    )
    return ', '.join(blocks[:6]) + (f', ... ({len(blocks)} blocks)' if len(blocks) > 6 else '')
