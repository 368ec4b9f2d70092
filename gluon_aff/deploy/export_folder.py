"""The exported folder: the files, and model.json, which says what they are and how images are prepared for them."""

from __future__ import annotations

import hashlib
import json
import os
import re
from contextlib import suppress
from dataclasses import replace

import mxnet as mx

from ..download import digest
from ..errors import positive, unknown
from ..files import replace_folder, temporary_folder, write_whole
from ..spec import ModelSpec
from ..validation import check_plain_name, read_json, regular_file, shown
from .folding import fold_batchnorm
from .graph import Graph
from .int8 import compare_onnx, quantize_onnx, read_batches, sensitive_nodes
from .onnx_writer import check_float32, export_onnx, import_onnx, import_onnxruntime, input_shapes
from .symbol_writer import export_symbol

__all__ = ['FORMATS', 'export', 'is_export', 'read_export']

FORMATS = ('symbol', 'onnx', 'int8')
VERSION = 1
# The most bytes of a file of each kind; protobuf reads no larger ONNX file.
LIMITS = {'symbol': 16 << 20, 'params': 2 << 30, 'onnx': (2 << 30) - 1, 'int8': (2 << 30) - 1}


def export(model, folder, formats=('symbol', 'onnx'), calibration=None, preprocess=False, dynamic=True, float_nodes=0):
    """Write a network for inference: a folder of files that need neither this project nor, but for the symbol, MXNet.

    ``NAME-symbol.json`` and ``NAME-0000.params``, ``NAME.onnx``, ``NAME-int8.onnx``, and ``model.json``: class names,
    task, input, normalisation, versions, and the SHA-256 of each file. BatchNorm is folded in all of them. Each file is
    read back, and the folder appears whole or not at all. An earlier export in its place is replaced; its files of
    other formats stay where they are of the same network with the same parameters and description.

    Parameters
    ----------
    model : model_zoo.loading.Trained, or any object with its attributes
        name, task, net, class_names, input_size, min_size, mean, std, crop_ratio, as :class:`gluon_aff.spec.ModelSpec`
        takes them.
    folder : str
        Of a link, the folder that it points to.
    formats : sequence of {'symbol', 'onnx', 'int8'}, default ('symbol', 'onnx')
        'int8' writes 'onnx' as well.
    calibration : str or iterable, optional
        For 'int8', see :func:`gluon_aff.deploy.quantize_onnx`; what the INT8 file says of these images beside the
        float32 one goes to model.json.
    preprocess : bool, default False
        Let the files take images (N, H, W, 3) of uint8, and normalise them.
    dynamic : bool, default True
        Let height and width be dynamic where the network allows it, see :func:`gluon_aff.deploy.export_onnx`.
    float_nodes : int, default 0
        How many of the nodes that suffer most from INT8, by measurement, stay in float32.

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
    for each in formats:
        if each not in FORMATS:
            raise unknown('format', each, FORMATS)
    if not formats:
        raise ValueError(f'No format is given; choose from {", ".join(FORMATS)}.')
    if 'int8' in formats and calibration is None:
        raise ValueError('INT8 needs images to calibrate on; give a folder of a hundred that are like those to come.')
    positive('float_nodes', float_nodes, or_zero=True)
    if 'int8' not in formats and (calibration is not None or float_nodes):
        raise ValueError(
            f'{"Calibration" if calibration is not None else "float_nodes"} is for INT8; add int8 to the '
            'formats, or leave it out.'
        )
    if set(formats) & {'onnx', 'int8'}:
        import_onnx()
    if 'int8' in formats:
        import_onnxruntime()
    folder = os.path.realpath(folder)
    _check_replaceable(folder)
    try:
        check_plain_name(_names(model.name)['symbol'])
    except ValueError as error:
        raise ValueError(f'The name of a network names its files, and {error}.') from None
    try:
        os.makedirs(os.path.dirname(folder), exist_ok=True)
        with temporary_folder(os.path.dirname(folder), '.export-') as top:
            partial = os.path.join(top, 'new')
            os.mkdir(partial)
            said = _write(model, partial, folder, formats, calibration, preprocess, dynamic, float_nodes)
            _check_replaceable(folder)  # it may have come meanwhile
            replace_folder(partial, folder)
    except OSError as error:
        if not error.strerror:  # a sentence already
            raise
        raise OSError(
            f'{folder} cannot be written ({error.strerror}); make room on its disk, or name another folder.'
        ) from None
    return said


def _check_replaceable(folder):
    if os.path.exists(folder) and not is_export(folder) and (not os.path.isdir(folder) or os.listdir(folder)):
        raise ValueError(f'{folder} exists and is not an exported folder; remove it, or name another one.')


def _write(model, folder, earlier, formats, calibration, preprocess, dynamic, float_nodes):
    from .. import __version__

    spec = ModelSpec.of(model, layout='NHWC' if preprocess else 'NCHW')
    normalisation = (spec.mean, spec.std) if preprocess else None
    folded = fold_batchnorm(model.net)
    graph = Graph(folded)
    check_float32(graph, model.net)
    if preprocess:
        graph.preprocess(*normalisation)
    shape, free = input_shapes(graph, spec.input_size, preprocess)
    outputs = [graph.shapes(shape)[node][1:2] for node, _ in graph.outputs]
    if outputs != [(len(spec.class_names),)]:
        raise ValueError(
            f'{spec.name} has {len(spec.class_names)} class names, and its network gives {shown(outputs)} classes; '
            'give a label for each.'
        )
    spec = replace(spec, dynamic=dynamic and 'H' in free)
    description = {'input': 'data', **spec.to_json(), 'network': graph.digest()}
    kept = _take_over(earlier, folder, description)
    names, files = _names(model.name), {}

    def path(name):
        return os.path.join(folder, name)

    if 'symbol' in formats:
        export_symbol(folded, path(model.name), normalisation)
        files.update(symbol=names['symbol'], params=names['params'])
    versions = {'gluon_aff': __version__, 'mxnet': mx.__version__}
    if set(formats) & {'onnx', 'int8'}:
        files['onnx'] = names['onnx']
        export_onnx(folded, path(files['onnx']), spec.input_size, normalisation, description, dynamic)
        versions['onnx'] = import_onnx().__version__
    report = None
    if 'int8' in formats:
        files['int8'] = names['int8']
        source = path(files['onnx'])
        calibration = read_batches(source, calibration)
        worst = [name for name, _ in sensitive_nodes(source, calibration)[:float_nodes]] if float_nodes else []
        quantize_onnx(source, calibration, path(files['int8']), worst)
        report = {**compare_onnx(source, path(files['int8']), calibration), 'float_nodes': worst}
        versions['onnxruntime'] = import_onnxruntime().__version__
    report = report or kept.get('int8')
    description = {
        'export': VERSION,
        **description,
        'versions': {**kept.get('versions', {}), **versions},
        **({'int8': report} if report else {}),
        'files': {
            **kept.get('files', {}),
            **{kind: {'file': name, 'sha256': digest(path(name), 'sha256')} for kind, name in files.items()},
        },
    }
    write_whole(path('model.json'), json.dumps(description, indent=1).encode())
    return description


def _names(name):
    """The files' names by their kinds."""
    return {
        'symbol': f'{name}-symbol.json',
        'params': f'{name}-0000.params',
        'onnx': f'{name}.onnx',
        'int8': f'{name}-int8.onnx',
    }


def _take_over(earlier, folder, description):
    """Copy the intact files of an earlier export of this network; returns their part of its model.json."""
    try:
        previous = read_export(earlier)
        if any(previous.get(key) != value for key, value in description.items()):
            return {}
        names, kinds = _names(previous['name']), []
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
        **({'int8': previous['int8']} if 'int8' in previous and 'int8' in kinds else {}),
    }


def is_export(folder):
    """Whether a path is a folder with a model.json that an export wrote."""
    try:
        description = read_json(folder, 'model.json')
    except (OSError, ValueError):
        return False
    return isinstance(description, dict) and 'export' in description


def read_export(folder, kinds=()):
    """The content of an exported folder's model.json; the files of these kinds must be there and unchanged.

    Parameters
    ----------
    folder : str
    kinds : sequence of {'symbol', 'params', 'onnx', 'int8'}, default ()
        Files that are wanted.

    Returns
    -------
    dict

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or a file in it is missing.
    ValueError
        If it is not an exported folder, its model.json holds an invalid value, it has no file of such a kind, or a
        file is not the one that was exported.
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
