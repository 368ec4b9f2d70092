"""Calibration of INT8: batches of images or of what loaders give, and ranges from percentiles."""

from __future__ import annotations

import logging
import math
import os
from typing import Any, Callable, Iterable, Sequence

import mxnet as mx
import numpy as np

from .._mxnet import monitored_values
from ..data.class_folders import readable_images
from ..data.images import read_image
from ..errors import unknown
from ..spec import ModelSpec
from ..text import printable
from .onnx_files import import_onnx, load_onnx

__all__ = ['RANGES', 'EntropyCollector', 'PercentileCollector', 'make_batches', 'make_collector', 'read_batches']

log = logging.getLogger(__name__)

BATCH = 8
# Where the ranges of INT8 end, see `make_collector`.
RANGES = ('percentile', 'naive', 'entropy')


def read_batches(path: str, images: str | Iterable) -> list:
    """[(array, labels or None), ...] as the ONNX file at `path` takes them.

    Parameters
    ----------
    path : str
    images : str or iterable
        As `calibration` of :func:`gluon_aff.deploy.quantize_onnx`.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no ONNX file, no image, or a batch that the file does not take.
    """
    model = load_onnx(path)
    kind = model.graph.input[0].type.tensor_type
    shape = [side.dim_value or side.dim_param for side in kind.shape.dim]
    dtype = np.dtype(import_onnx().helper.tensor_dtype_to_np_dtype(kind.elem_type))

    def find_spec():
        try:
            return ModelSpec.from_metadata({entry.key: entry.value for entry in model.metadata_props})
        except ValueError as error:
            raise ValueError(
                f'{path} does not say how images are prepared for it ({str(error).rstrip(".")}); give batches '
                'rather than a folder.'
            ) from None

    return make_batches(path, images, shape=shape, dtype=dtype, find_spec=find_spec)


def make_batches(
    name: str, images: str | Iterable, *, shape: Sequence[int | str], dtype: np.dtype, find_spec: Callable
) -> list:
    """[(array, labels or None), ...] as a network takes them; errors as :func:`read_batches`.

    Parameters
    ----------
    name : str
        What errors call the network.
    images : str or iterable
        As `calibration` of :func:`gluon_aff.deploy.quantize_onnx`.
    shape, dtype
        Of its input, with names for the sides that may have any length.
    find_spec : callable
        Gives its ModelSpec, by which images are prepared.
    """
    if isinstance(images, (str, os.PathLike)):
        return list(_from_files(find_spec(), _in_folder(os.fspath(images))))
    images = list(images)
    if not images:
        raise ValueError('There are no images; give a folder of them, or batches.')
    if isinstance(images[0], (str, os.PathLike)):
        return list(_from_files(find_spec(), images))
    return [_checked(name, batch, shape, dtype) for batch in images]


def _checked(path, batch, shape, dtype):
    """(array, labels or None) of an array or an (array, labels), of numpy or MXNet."""
    data, labels = batch[:2] if isinstance(batch, (tuple, list)) else (batch, None)
    data, labels = (array.asnumpy() if hasattr(array, 'asnumpy') else array for array in (data, labels))
    data = np.asarray(data)
    if (
        data.ndim != 4
        or not len(data)
        or any(isinstance(side, int) and side != length for side, length in zip(shape, data.shape))
        or data.dtype.kind != dtype.kind
    ):
        raise ValueError(
            f'{path} takes batches ({", ".join(map(str, shape))}) of {dtype}, got {data.shape} of {data.dtype}.'
        )
    return data.astype(dtype, copy=False), None if labels is None else np.asarray(labels)


def _in_folder(folder):
    if not os.path.isdir(folder):
        raise FileNotFoundError(f'There is no folder {folder} of images.')
    files, skipped = readable_images([folder])
    for sentence in skipped.values():
        log.warning(printable(sentence))
    if not files:
        raise ValueError(f'Folder {folder} holds no image that can be read.')
    return files


def _from_files(spec, files):
    for start in range(0, len(files), BATCH):
        yield spec.feed(np.stack([spec.prepare(read_image(file)) for file in files[start : start + BATCH]])), None


class PercentileCollector:
    """Ranges of a network's maps for INT8 that leave out the rarest large values.

    What ``mxnet.contrib.quantization.quantize_net_v2(..., calib_mode='customize', LayerOutputCollector=...)`` takes.

    Parameters
    ----------
    percentile : float, default 99.99
        The share, in per cent, of the magnitudes of a map's values that its range holds.

    Attributes
    ----------
    min_max_dict : dict of str to (float, float)
        The range by the map's name in the symbol.

    Raises
    ------
    ValueError
        If the percentile is not above 50 and at most 100.
    """

    bins = 4096

    def __init__(self, percentile: float = 99.99):
        if not 50 < percentile <= 100:
            raise ValueError(f'percentile must be above 50 and at most 100, got {percentile!r}.')
        self.percentile = percentile
        self._ranges: dict | None = None
        self._counts: dict = {}  # by name: magnitudes in each bin, the last bin's end, the least and largest value

    def collect(self, name: str | bytes, array: Any) -> None:
        """Count the values of one map, whose handle it frees: the callback of MXNet's executors."""
        name = name.decode() if isinstance(name, bytes) else name
        self.add(name, monitored_values(array))

    def add(self, name: str, values: np.ndarray) -> None:
        """Count the values of one map."""
        low, high = float(values.min()), float(values.max())
        if not math.isfinite(high - low):
            # The monitor gives outputs that nothing writes, too: a BatchNorm's mean and variance.
            values = values[np.isfinite(values)]
            if not values.size:
                return
            low, high = float(values.min()), float(values.max())
        largest = max(-low, high, 1e-30)
        counts, end, least, most = self._counts.get(name, (np.zeros(self.bins, np.int64), largest, low, high))
        while end < largest:  # pairs of bins become one
            counts = np.concatenate([counts.reshape(-1, 2).sum(1), np.zeros(self.bins // 2, np.int64)])
            end *= 2
        places = np.minimum(np.abs(values).ravel() * (self.bins / end), self.bins - 1).astype(np.int32)
        counts = counts + np.bincount(places, minlength=self.bins)
        self._counts[name] = counts, end, min(least, low), max(most, high)
        self._ranges = None

    def with_percentile(self, percentile: float) -> PercentileCollector:
        """A collector of another percentile on the same counts, so that nothing is computed again."""
        other = PercentileCollector(percentile)
        other._counts = dict(self._counts)
        return other

    @property
    def min_max_dict(self) -> dict[str, tuple[float, float]]:
        if self._ranges is None:
            self._ranges = {name: self._range(*counted) for name, counted in self._counts.items()}
        return self._ranges

    def _range(self, counts, end, low, high):
        limit = self._limit(counts, end, low)
        return min(max(low, -limit), limit), max(min(high, limit), -limit)

    def _limit(self, counts, end, low):
        """The largest magnitude that the range holds."""
        held = np.searchsorted(counts.cumsum(), self.percentile / 100 * counts.sum()) + 1
        return end * held / self.bins


class EntropyCollector(PercentileCollector):
    """Ranges whose cut changes a map's distribution least, by the Kullback-Leibler divergence, as MXNet finds them.

    Used as :class:`PercentileCollector` is, and with its attributes.
    """

    bins = 8192

    def __init__(self):
        super().__init__(100)

    def _limit(self, counts, end, low):
        # Bins for MXNet's operator: the middle one, around 0, holds two of ours, and each of the others four.
        right = counts[2:-2].reshape(-1, 4).sum(1)
        right[-1] += counts[-2:].sum()
        left = 0 * right if low >= 0 else right[::-1]
        edges = (np.arange(2 * len(right) + 2) - len(right) - 0.5) * (4 * end / self.bins)
        threshold, _ = mx.nd.contrib.calibrate_entropy(
            mx.nd.array(np.r_[left, counts[:2].sum(), right]),
            mx.nd.array(edges),
            num_quantized_bins=511 if low >= 0 else 255,
        )
        return float(threshold.asscalar())


def make_collector(ranges: str) -> PercentileCollector:
    """A new collector for ranges that end at the 99.99th percentile, at the extremes ('naive'), or by entropy.

    Raises
    ------
    ValueError
        For others.
    """
    if ranges not in RANGES:
        raise unknown('ranges', ranges, RANGES)
    if ranges == 'entropy':
        return EntropyCollector()
    return PercentileCollector(100) if ranges == 'naive' else PercentileCollector()
