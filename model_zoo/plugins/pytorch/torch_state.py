"""Parameter files as state dicts of our PyTorch modules."""

from __future__ import annotations

import os

import numpy as np
import torch
from torch import Tensor

from ...weights.parameters import read_arrays
from ...weights.torch_names import rename_state_dict, torch_names

__all__ = ['read_torch_state']


def read_torch_state(path: str | os.PathLike) -> dict[str, Tensor]:
    """The state dict of a network's parameter file, float32, by the names in the PyTorch modules.

    Parameters
    ----------
    path : str or os.PathLike
        A file of Gluon's save_parameters, or a PyTorch state dict with our names, timm's, or those of the authors'
        PyTorch code.

    Raises
    ------
    FileNotFoundError, ImportError, ValueError
        As :func:`model_zoo.weights.parameters.read_arrays` does.
    """
    arrays = read_arrays(os.fspath(path))
    names = torch_names(arrays)
    arrays = {names[name]: array for name, array in arrays.items()}
    arrays = rename_state_dict(arrays, [name.replace('.fuse_mode.', '.attention.') for name in arrays])
    return {name: torch.from_numpy(np.array(array, 'float32')) for name, array in arrays.items()}
