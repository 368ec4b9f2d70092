"""The exported folder: the network's files, and model.json, which describes them and how images are prepared."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from contextlib import suppress
from dataclasses import replace
from typing import Any, Iterable, Sequence

import mxnet as mx

from .._mxnet import mxnet_variable
from ..errors import positive, unknown
from ..files import replace_folder, temporary_folder, write_whole
from ..spec import ModelSpec
from ..validation import check_plain_name, read_json, regular_file, shown
from ..verified_download import digest
from . import int8, quantized_symbol
from .calibration import RANGES, make_batches, read_batches
from .graph import Graph
from .int8_choice import AUTO, choose_int8
from .onnx_files import import_onnx, import_onnxruntime, read_onnx
from .onnx_writer import write_onnx
from .quantized_symbol import bfloat16_symbol
from .symbol_writer import write_symbol, write_symbol_files

__all__ = ['FORMATS', 'export', 'is_export', 'read_export']

FORMATS = ('symbol', 'symbol-bf16', 'symbol-int8', 'onnx', 'int8')
INT8 = {'symbol-int8', 'int8'}
VERSION = 1
# The most bytes of a file of each kind; protobuf reads no larger ONNX file.
LIMITS = {
    **{f'symbol{form}': 16 << 20 for form in ('', '-bf16', '-int8')},
    **{f'params{form}': 2 << 30 for form in ('', '-bf16', '-int8')},
    'onnx': (2 << 30) - 1,
    'int8': (2 << 30) - 1,
}


def export(
    model: Any,
    folder: str,
    formats: Sequence[str] = ('symbol', 'onnx'),
    calibration: str | Iterable | None = None,
    preprocess: bool = False,
    dynamic: bool = True,
    float_nodes: int | str = 0,
    *,
    ranges: str | None = None,
) -> dict:
    """Write a network for inference: a folder of files that need neither this project nor, but for the symbol, MXNet.

    ``NAME-symbol.json`` and ``NAME-0000.params`` (with ``-bf16`` and ``-int8`` after the name in fewer bits),
    ``NAME.onnx``, ``NAME-int8.onnx``, and ``model.json``: the model's
    :class:`gluon_aff.spec.ModelSpec`, versions, and the SHA-256 of each file. BatchNorm is folded in all of them. Each
    file is read back, and the folder appears whole or not at all. An earlier export there is replaced; its files of
    other formats stay if they are of the same network with the same parameters and description.

    Parameters
    ----------
    model : model_zoo.LoadedModel, or any object with its attributes
        spec, a :class:`gluon_aff.spec.ModelSpec`, and net.
    folder : str
        A link means the folder that it points to.
    formats : sequence of {'symbol', 'symbol-bf16', 'symbol-int8', 'onnx', 'int8'}, default ('symbol', 'onnx')
        The symbols are MXNet's, in float32, bfloat16 and INT8; 'int8' is ONNX's INT8, and writes 'onnx' as well.
    calibration : str or iterable, optional
        For the INT8 formats, see :func:`gluon_aff.deploy.quantize_onnx`; a comparison of each INT8 file with the
        float32 one on these images goes to model.json.
    preprocess : bool, default False
        Let the files take images (N, H, W, 3) of uint8, and normalise them.
    dynamic : bool, default True
        Let height and width be dynamic where the network allows it, see :func:`gluon_aff.deploy.export_onnx`.
    float_nodes : int or 'auto', default 0
        How many nodes stay in float32: those that INT8 changes most, by measurement. With 'auto' none, one, two, four
        and so on, up to half of them, until 99 % of the calibration images keep float32's class; where that is not
        reached, the number that changes the output least.
    ranges : {'percentile', 'naive', 'entropy'}, optional
        Where the ranges of INT8 end: at the 99.99th percentile of the magnitudes, at the least and largest value, or
        where the distribution changes least. By default the first or the second, whichever changes the output less on
        these images.

    Returns
    -------
    dict
        The content of model.json.

    Raises
    ------
    ImportError
        If a format needs a package that is missing or unfit.
    ValueError
        For an unknown format, 'int8' without calibration, calibration or float_nodes without 'int8', a network that is
        not of float32, mean or std for another number of channels, a folder that exists and is no export, and as the
        functions for the formats do.
    OSError
        If the folder cannot be written.
    """
    formats = list(dict.fromkeys(formats))
    _check_options(formats, calibration, float_nodes, ranges)
    folder = os.path.realpath(folder)
    _check_replaceable(folder)
    try:
        check_plain_name(_file_names(model.spec.name)['symbol'])
    except ValueError as error:
        raise ValueError(f'The name of a network names its files, and {error}.') from None
    try:
        os.makedirs(os.path.dirname(folder), exist_ok=True)
        with temporary_folder(os.path.dirname(folder), '.export-') as top:
            partial = os.path.join(top, 'new')
            os.mkdir(partial)
            options = {'ranges': ranges, 'float_nodes': float_nodes}
            description = _write(model, partial, folder, formats, calibration, options, preprocess, dynamic)
            _check_replaceable(folder)  # it may have come meanwhile
            replace_folder(partial, folder)
    except OSError as error:
        if not error.strerror:  # a sentence already
            raise
        raise OSError(
            f'{folder} cannot be written ({error.strerror}); make room on its disk, or name another folder.'
        ) from None
    return description


def _check_options(formats, calibration, float_nodes, ranges):
    for kind in formats:
        if kind not in FORMATS:
            raise unknown('format', kind, FORMATS)
    if not formats:
        raise ValueError(f'No format is given; choose from {", ".join(FORMATS)}.')
    if ranges is not None and ranges not in RANGES:
        raise unknown('ranges', ranges, RANGES)
    if set(formats) & INT8 and calibration is None:
        raise ValueError('INT8 needs images to calibrate on; give a folder of about a hundred typical ones.')
    if float_nodes != AUTO:
        positive('float_nodes', float_nodes, or_zero=True)
    if not set(formats) & INT8 and (calibration is not None or float_nodes):
        raise ValueError(
            f'{"Calibration" if calibration is not None else "float_nodes"} is for INT8; add int8 to the '
            'formats, or leave it out.'
        )
    if set(formats) & {'onnx', 'int8'}:
        import_onnx()
    if 'int8' in formats:
        import_onnxruntime()


def _check_replaceable(folder):
    seen = None
    while os.path.exists(folder):
        with suppress(FileNotFoundError):  # another export is taking its place
            status = os.stat(folder)
            if is_export(folder) or (stat.S_ISDIR(status.st_mode) and not os.listdir(folder)):
                return
            if seen is not None and os.path.samestat(status, seen):
                raise ValueError(f'{folder} exists and is not an exported folder; remove it, or name another one.')
            seen = status  # look again, as it may just have come


def _write(model, folder, earlier, formats, calibration, options, preprocess, dynamic):
    """Write all files to `folder`, taking over those of an `earlier` export of the same; returns the description."""
    from .. import __version__

    spec = replace(model.spec, layout='NHWC' if preprocess else 'NCHW')
    graph = Graph(model.net)
    graph.check_float32()
    graph.fold()
    if preprocess:
        graph.preprocess(spec.mean, spec.std)
    spec = replace(spec, dynamic=_check_network(graph, spec) and dynamic)
    description = {'input': 'data', **spec.to_json(), 'network': graph.digest()}
    kept = _take_over(earlier, folder, description)
    names, versions = _file_names(spec.name), {'gluon_aff': __version__, 'mxnet': mx.__version__}
    paths = {kind: os.path.join(folder, name) for kind, name in names.items()}
    kinds, reports = [], {kind: kept[kind] for kind in INT8 if kind in kept}
    if 'symbol' in formats:
        write_symbol(graph, os.path.join(folder, spec.name))
        kinds += ['symbol', 'params']
    if 'symbol-bf16' in formats:
        write_symbol_files(*bfloat16_symbol(graph), os.path.join(folder, f'{spec.name}-bf16'))
        kinds += ['symbol-bf16', 'params-bf16']
    if 'symbol-int8' in formats:
        path = os.path.join(folder, f'{spec.name}-int8')
        with mxnet_variable('MXNET_SUBGRAPH_VERBOSE', '0'):  # or MXNet logs hundreds of lines
            reports['symbol-int8'] = _write_symbol_int8(graph, path, spec, calibration, options)
        kinds += ['symbol-int8', 'params-int8']
    if {'onnx', 'int8'} & set(formats):
        write_onnx(graph, paths['onnx'], input_size=spec.input_size, metadata=description, dynamic=dynamic)
        kinds.append('onnx')
        versions['onnx'] = import_onnx().__version__
    if 'int8' in formats:
        reports['int8'] = _write_int8(paths['onnx'], paths['int8'], calibration, options)
        kinds.append('int8')
        versions['onnxruntime'] = import_onnxruntime().__version__
    files = {kind: {'file': names[kind], 'sha256': digest(paths[kind], 'sha256')} for kind in kinds}
    description = {
        'export': VERSION,
        **description,
        'versions': {**kept.get('versions', {}), **versions},
        **reports,
        'files': {**kept.get('files', {}), **files},
    }
    write_whole(os.path.join(folder, 'model.json'), json.dumps(description, indent=1).encode())
    return description


def _check_network(graph, spec):
    """Whether the network takes images of other sizes; a ValueError if its outputs are not the spec's classes."""
    shape, names = graph.input_shapes(spec.input_size)
    shapes = graph.shapes(shape)
    outputs = [shapes[node][1:2] for node, _ in graph.outputs]
    if outputs != [(len(spec.class_names),)]:
        raise ValueError(
            f'{spec.name} has {len(spec.class_names)} class names, and its network gives {shown(outputs)} classes; '
            'give a name for each.'
        )
    return 'H' in names


def _write_int8(source, path, calibration, options):
    """Quantize the ONNX file `source`; returns the comparison of both files."""
    batches, model, original = read_batches(source, calibration), int8.prepared(source), read_onnx(source)
    quantized, report = choose_int8(
        lambda ranges: int8.calibrate(model, batches, ranges),
        lambda collector, exclude: int8.quantize(model, batches, collector, exclude),
        lambda content: int8.compare_files(original, content, batches),
        lambda collector: int8.sensitivities(model, batches[:1], collector),
        **options,
    )
    write_whole(path, quantized)
    return report


def _write_symbol_int8(graph, path, spec, calibration, options):
    """Write the symbol in INT8; returns its comparison with the one in float32."""
    shape = graph.input_shapes(spec.input_size)[1]
    batches = make_batches(spec.name, calibration, shape=shape, dtype=graph.dtype, find_spec=lambda: spec)
    quantized, report = choose_int8(
        lambda ranges: quantized_symbol.calibrate(graph, batches, ranges),
        lambda collector, exclude: quantized_symbol.quantize_symbol(graph, collector, exclude=exclude),
        lambda form: quantized_symbol.compare_symbols(graph, form, batches),
        lambda collector: quantized_symbol.sensitive_operators(graph, collector, batches[:1]),
        **options,
    )
    write_symbol_files(*quantized, path)
    return report


def _file_names(name):
    """The files' names by their kinds."""
    return {
        'symbol': f'{name}-symbol.json',
        'params': f'{name}-0000.params',
        'symbol-bf16': f'{name}-bf16-symbol.json',
        'params-bf16': f'{name}-bf16-0000.params',
        'symbol-int8': f'{name}-int8-symbol.json',
        'params-int8': f'{name}-int8-0000.params',
        'onnx': f'{name}.onnx',
        'int8': f'{name}-int8.onnx',
    }


def _take_over(earlier, folder, description):
    """Copy the intact files of an earlier export of this network; returns their part of its model.json."""
    try:
        previous = read_export(earlier)
        if any(previous.get(key) != value for key, value in description.items()):
            return {}
        names, kinds = _file_names(previous['name']), []
        for kind, record in previous['files'].items():
            if record['file'] == names[kind]:
                with suppress(FileNotFoundError, ValueError):  # missing or damaged
                    write_whole(os.path.join(folder, names[kind]), read_file(earlier, previous, kind))
                    kinds.append(kind)
    except (FileNotFoundError, ValueError):
        return {}  # there is none, or none that could be used
    return {
        'files': {kind: previous['files'][kind] for kind in kinds},
        'versions': previous.get('versions', {}),
        **{kind: previous[kind] for kind in INT8 if kind in previous and kind in kinds},
    }


def is_export(folder: str) -> bool:
    """Whether a path is a folder with an export's model.json."""
    try:
        description = read_json(folder, 'model.json')
    except (OSError, ValueError):
        return False
    return isinstance(description, dict) and 'export' in description


def read_export(folder: str, kinds: Sequence[str] = ()) -> dict:
    """The content of an exported folder's model.json, checked.

    Parameters
    ----------
    folder : str
    kinds : sequence of {'symbol', 'params', 'onnx', 'int8'}, default ()
        Files that must be there and unchanged.

    Returns
    -------
    dict

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or a file in it is missing.
    ValueError
        If it is not an exported folder, its model.json holds an invalid value, or a file of these kinds was not
        exported or has changed.
    """
    if not os.path.exists(folder):
        raise FileNotFoundError(f'There is no folder {folder}.')
    if not is_export(folder):
        raise ValueError(
            f'{folder} is not an exported folder: it has no model.json of an export; '
            "give the folder that 'gluon-aff export' wrote."
        )
    description = read_json(folder, 'model.json')
    try:
        if type(description['export']) is not int or description['export'] != VERSION:
            raise ValueError(f'export must be {VERSION}, got {shown(description["export"])}.')
        if description.get('input', 'data') != 'data':
            raise ValueError(f'input must be data, got {shown(description["input"])}.')
        ModelSpec.from_json(description)
        _check_files(description.get('files'))
    except ValueError as error:
        raise ValueError(
            f'{folder}/model.json is damaged or of another version of gluon_aff: '
            f'{str(error).rstrip(".")}; export the network again.'
        ) from None
    for kind in kinds:
        read_file(folder, description, kind)
    return description


def _check_files(files):
    """Raise a ValueError where `files` is not {kind: {'file': plain name, 'sha256': digest}}."""
    if not isinstance(files, dict) or not files:
        raise ValueError(f'files must name the files by their kinds, got {shown(files)}.')
    for kind, record in files.items():
        if kind not in LIMITS:
            raise ValueError(f'files must be of the kinds {", ".join(LIMITS)}, got {shown(kind)}.')
        if not isinstance(record, dict) or not re.fullmatch('[0-9a-f]{64}', str(record.get('sha256'))):
            raise ValueError(f'files.{kind} must have a file and its sha256, got {shown(record)}.')
        check_plain_name(record.get('file'))
    names = [record['file'] for record in files.values()]
    if len(set(names)) < len(names):
        raise ValueError(f'files must be different ones, got {shown(names)}.')


def read_file(folder, description, kind):
    """The bytes of a file in an exported folder, read once and checked against model.json; errors as `read_export`."""
    files = description['files']
    if kind not in files:
        raise ValueError(f'{folder} holds no {kind} file, only {", ".join(files)}; export it with that format.')
    name = files[kind]['file']
    if not os.path.lexists(os.path.join(folder, name)):
        raise FileNotFoundError(f'{folder} lacks {name}; export the network again.')
    content = regular_file(folder, name, LIMITS[kind])
    if hashlib.sha256(content).hexdigest() != files[kind]['sha256']:
        raise ValueError(
            f'{os.path.join(folder, name)} is not the file that was exported: its SHA-256 is not the one '
            'in model.json; export the network again.'
        )
    return content
