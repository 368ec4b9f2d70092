"""State dicts in .safetensors files and in PyTorch's own (.pth, .pt, .bin, .tar), read without running their code."""

from __future__ import annotations

import json
import os
import pickletools
import re
import struct
import zipfile
from importlib import metadata

import numpy as np

from gluon_aff.files import atomic, cut_short

__all__ = ['SUFFIXES', 'is_torch_file', 'read_state_dict', 'write_state_dict']

SAFETENSORS = '.safetensors'
PYTORCH = ('.pth', '.pt', '.bin', '.tar')
SUFFIXES = (SAFETENSORS, *PYTORCH)
MAX_SIZE = 4 << 30  # of a file; a network of 200 million parameters with its optimizer has 2.4e9 bytes
MAX_HEADER = 4 << 20  # of a .safetensors file; a thousand layers take about 0.4 MiB
MAX_TENSORS = 100_000
# Where checkpoints keep the state dict; as in timm, averaged weights come first.
WRAPPERS = ('state_dict_ema', 'model_ema', 'state_dict', 'model', 'model_state_dict')
# What DistributedDataParallel, Lightning and torch.compile put before every name.
PREFIXES = ('module.', 'model.', '_orig_mod.')
# Before 2.6 torch.load(weights_only=True) could be made to run code (CVE-2025-32434).
MIN_TORCH = (2, 6)


class _RefusedError(Exception):
    """Why a file is not read."""


def is_torch_file(path: str | os.PathLike) -> bool:
    """Whether a file's name ends as one of :data:`SUFFIXES`."""
    return os.path.splitext(path)[1].lower() in SUFFIXES


def read_state_dict(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The arrays of a state dict by name, without num_batches_tracked.

    The state dict may be in a checkpoint, as 'state_dict', 'model' or the like, and its names may begin with 'module.',
    'model.' or '_orig_mod.'.

    Parameters
    ----------
    path : str or os.PathLike
        A .safetensors file, or a file of torch.save, which PyTorch 2.6 or newer reads with ``weights_only=True``.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ImportError
        If PyTorch is needed and is missing or too old.
    ValueError
        If the file is damaged, holds more than tensors and plain values, or is larger than any network.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(f'There is no parameter file {path}.')
    safetensors = path.lower().endswith(SAFETENSORS)
    kind = 'a .safetensors file' if safetensors else "a file of PyTorch's"
    try:
        if os.path.getsize(path) > MAX_SIZE:
            raise _RefusedError(f'it has more than {MAX_SIZE >> 30} GiB')
        arrays = _read_safetensors(path) if safetensors else _read_pytorch(path, import_torch(path))
        if not arrays:
            raise _RefusedError('it holds no tensors')
    except _RefusedError as error:
        raise ValueError(f'{path} is not {kind} that can be read as parameters: {error}.') from None
    return _without_prefix(arrays)


def is_whole(path: str | os.PathLike) -> bool:
    """Whether a .safetensors file is undamaged in what its header tells: its ranges fill the file to its end."""
    from safetensors import SafetensorError, safe_open

    try:
        _check_header(path)
        with safe_open(path, 'numpy') as file:
            return bool(file.keys())
    except (SafetensorError, _RefusedError, OSError):
        return False


def _without_prefix(arrays):
    for prefix in 2 * PREFIXES:  # in any order
        if all(name.startswith(prefix) for name in arrays):
            arrays = {name[len(prefix) :]: array for name, array in arrays.items()}
    return arrays


def _read_safetensors(path):
    from safetensors import SafetensorError, safe_open

    _check_header(path)
    name = None
    try:
        with safe_open(path, 'numpy') as file:  # which checks the ranges of all tensors
            arrays, in_bfloat16 = {}, []
            for name in file.keys():
                if name.endswith('num_batches_tracked'):
                    continue
                if file.get_slice(name).get_dtype() == 'BF16':
                    in_bfloat16.append(name)
                    continue
                arrays[name] = file.get_tensor(name)
                if arrays[name].dtype.kind not in 'fiub':  # ml_dtypes' others
                    raise TypeError
        return {**arrays, **_read_bfloat16(path, in_bfloat16)}
    except SafetensorError as error:
        raise _RefusedError(_first_line(error)) from None
    except (TypeError, AttributeError):
        raise _RefusedError(f'{name} is of a type that NumPy lacks, such as float8; save it as float32') from None


def _read_bfloat16(path, names):
    """Arrays as float32, of a file whose header has been checked."""
    arrays = {}
    with open(path, 'rb') as file:
        (length,) = struct.unpack('<Q', file.read(8))
        header = json.loads(file.read(length)) if names else {}
        for name in names:
            start, end = header[name]['data_offsets']
            file.seek(8 + length + start)
            upper_halves = np.frombuffer(file.read(end - start), '<u2')
            arrays[name] = (upper_halves.astype(np.uint32) << 16).view(np.float32).reshape(header[name]['shape'])
    return arrays


def _check_header(path):
    with open(path, 'rb') as file:
        start = file.read(8)
    if len(start) == 8 and struct.unpack('<Q', start)[0] > MAX_HEADER:
        raise _RefusedError(f'its header has more than {MAX_HEADER >> 20} MiB')


def has_torch() -> bool:
    """Whether a PyTorch that reads its own files safely is installed, which is not imported."""
    try:
        return _is_new(metadata.version('torch'))
    except metadata.PackageNotFoundError:
        return False


def _is_new(version):
    return tuple(map(int, re.findall(r'\d+', version)[:2])) >= MIN_TORCH


def import_torch(path: str):
    """The module torch; an ImportError of one sentence, about the file at `path`, if it is missing or too old."""
    try:
        import torch
    except ImportError:
        problem = 'is not installed'
    else:
        if _is_new(torch.__version__):
            return torch
        problem = f'is installed as {torch.__version__}'
    raise ImportError(
        f'{path} needs PyTorch {".".join(map(str, MIN_TORCH))} or newer, which {problem}; install torch, or use a '
        '.safetensors file.'
    )


def _read_pytorch(path, torch):
    try:
        _check_pickles(path)
        content = torch.load(path, map_location='cpu', weights_only=True)
    except (_RefusedError, KeyboardInterrupt):
        raise
    except Exception as error:  # whatever a damaged or hostile file leads to
        other = re.search(r'GLOBAL (\S+)', str(error))
        reason = f'it holds more than tensors and plain values ({other[1]}); save the state dict alone' if other else ''
        raise _RefusedError(reason or f'it is damaged ({_first_line(error)})') from None
    if isinstance(content, dict):
        content = next((content[key] for key in WRAPPERS if isinstance(content.get(key), dict)), content)
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in content.items()
    ):
        raise _RefusedError('it holds no state dict, which has a tensor for each name')
    # Storages larger than the file would be memory that nothing was read into.
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in content.values()}
    if sum(storages.values()) > os.path.getsize(path):
        raise _RefusedError('its tensors are larger than the file')
    arrays = {}
    for name, tensor in content.items():
        if name.endswith('num_batches_tracked'):
            continue
        try:
            values = tensor.detach()
            arrays[name] = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
        except (TypeError, RuntimeError):
            raise _RefusedError(
                f'{name} is of a type that NumPy lacks, {tensor.dtype}, {tensor.layout}; save it as float32'
            ) from None
    return arrays


def _check_pickles(path):
    """Refuse a file that would take more memory than its size, or makes too many objects, before torch loads it."""
    with open(path, 'rb') as file:
        zipped = file.read(4) == b'PK\x03\x04'
        if not zipped:  # five pickles precede the values
            file.seek(0)
            return _check_objects(file, 5)
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > os.path.getsize(path):
            raise _RefusedError('it is compressed, which PyTorch never does')
        for member in members:
            if member.filename.endswith('data.pkl'):
                with archive.open(member) as file:
                    _check_objects(file, 1)


def _check_objects(file, pickles):
    objects = 0
    for _ in range(pickles):
        for operation, argument, _ in pickletools.genops(file):
            if operation.name == 'GLOBAL' and argument.endswith(' bytearray'):  # of any size, which torch would fill
                raise _RefusedError('it holds more than tensors and plain values (bytearray)')
            objects += operation.name in ('REDUCE', 'NEWOBJ', 'NEWOBJ_EX', 'INST', 'OBJ')
            if objects > 3 * MAX_TENSORS:  # a parameter takes up to three
                raise _RefusedError(f'it holds more than {MAX_TENSORS:,} tensors')


def _first_line(error):
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip('.')


def write_state_dict(path: str | os.PathLike, arrays: dict[str, np.ndarray]) -> None:
    """Write a state dict that gets its name only after it has been read back.

    Parameters
    ----------
    path : str or os.PathLike
        Its suffix, one of :data:`SUFFIXES`, says the format. Its folder is made if missing.
    arrays : dict of str to numpy.ndarray

    Raises
    ------
    ImportError
        If PyTorch is needed and is missing or too old.
    OSError
        If it cannot be written whole; `path` is then as it was.
    """
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    path = os.fspath(path)
    torch = None if path.lower().endswith(SAFETENSORS) else import_torch(path)
    with atomic(path) as partial:
        try:
            if torch:
                torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, partial)
                written = _read_pytorch(partial, torch)
            else:
                from safetensors.numpy import save_file

                save_file(arrays, partial, metadata={'format': 'pt'})
                written = _read_safetensors(partial)
            whole = written.keys() == arrays.keys() and all(
                np.array_equal(written[name], array, equal_nan=True) for name, array in arrays.items()
            )
        except ImportError:
            raise
        except Exception:  # the libraries have errors of their own for a full disk
            whole = False
        if not whole:
            raise cut_short(path)
