"""What others wrote, a folder with a model.json and its files, works or is refused with one sentence."""

import copy
import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import available, filled, refused

from gluon_aff.deploy import Predictor, backends, compare_onnx, export, is_export, quantize_onnx
from gluon_aff.deploy.onnx_files import check_onnx
from gluon_aff.spec import ModelSpec
from model_zoo import get_model
from model_zoo.loading import load_model, open_predictor

onnx = pytest.importorskip('onnx', reason="needs the extra 'onnx'")
pytest.importorskip('onnxruntime', reason="needs the extra 'onnx'")
from onnx import TensorProto, helper  # noqa: E402

SHIPPED = 'fashion_mnist_aff_resnet8'
PIXELS = np.random.RandomState(0).randint(0, 256, (32, 40, 3)).astype(np.uint8)
OPTIONS = {'classes': 3, 'width': 1}


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp('export') / 'exported'
    export(load_model(SHIPPED), str(folder))
    return folder


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A run's folder as it was written before there was a version."""
    folder = tmp_path_factory.mktemp('run')
    net = filled(get_model('cifar_aff_resnet8', **OPTIONS))
    net.save_parameters(str(folder / 'best.params'))
    (folder / 'model.json').write_text(
        json.dumps(
            {
                'model': 'cifar_aff_resnet8',
                'options': OPTIONS,
                'labels': ['a', 'b', 'c'],
                'input_size': [3, 32, 32],
                'mean': [0.5, 0.5, 0.5],
                'std': [0.2, 0.2, 0.2],
                'crop_ratio': 1.0,
                'parameters': 'best.params',
                'epoch': 3,
            }
        )
    )
    return folder


def changed(folder, tmp_path, **values):
    """A copy of a folder with other values in its model.json."""
    copied = tmp_path / 'changed'
    shutil.copytree(folder, copied)
    description = json.loads((folder / 'model.json').read_text())
    (copied / 'model.json').write_text(json.dumps({**description, **values}))
    return copied


def replaced(exported, tmp_path, kind, content):
    """A copy of an exported folder with another file of a kind, and its digest in model.json."""
    files = json.loads((exported / 'model.json').read_text())['files']
    files[kind]['sha256'] = hashlib.sha256(content).hexdigest()
    folder = changed(exported, tmp_path, files=files)
    (folder / files[kind]['file']).write_bytes(content)
    return str(folder)


# model.json

HOSTILE = (
    None,
    True,
    -1,
    0,
    1,
    2,
    3.5,
    1e-30,
    1e6,
    1e308,
    10**400,
    float('nan'),
    float('inf'),
    '',
    '../x',
    '/etc/hosts',
    'x\n',
    '\x1b[2J',
    '\ud800',
    'NHWC',
    'uint8',
    'segmentation',
    [],
    [0.0] * 3,
    [1e6] * 3,
    [3, 1000000, 1000000],
    [3, 0, 0],
    [1, 32, 32],
    ['a'] * 10,
    {},
    {'pretrained': True},
    {'classes': 10**9},
    {'norm_layer': 'x'},
    {'width': 2.5},
    ['N', 3, 32, 32],
    [[[[]]]],
)


def paths(value, path=()):
    """The path of each value within a JSON value, its own included."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from paths(inner, (*path, key))


def mutated(data, description):
    """The description with one or two values changed, removed or added."""
    description = copy.deepcopy(description)
    for _ in range(data.draw(st.integers(1, 2))):
        path = data.draw(st.sampled_from([path for path in paths(description) if path]))
        holder = description
        for key in path[:-1]:
            holder = holder[key]
        action = data.draw(st.sampled_from(['change', 'change', 'change', 'remove', 'add']))
        if action == 'remove':
            del holder[path[-1]]
        elif action == 'add' and isinstance(holder, dict):
            holder[data.draw(st.sampled_from(['pretrained', 'root', 'ctx', 'input', 'version', 'dynamic']))] = (
                data.draw(st.sampled_from(HOSTILE))
            )
        else:
            holder[path[-1]] = data.draw(st.sampled_from(HOSTILE))
    return description


def works_or_is_refused(folder):
    try:
        predictor = open_predictor(str(folder))
        probabilities = [p for _, p in predictor.predict(PIXELS)[0]] if predictor.spec.task == 'classification' else [1]
    except (ValueError, FileNotFoundError) as error:
        assert not isinstance(error, UnicodeError) and '\n' not in str(error) and len(str(error)) < 1000
        assert str(error).isprintable() or str(folder) in str(error)
    else:
        assert np.isfinite(probabilities).all() and 0 < sum(probabilities) <= 1.0001


@settings(max_examples=100)
@given(st.data())
def test_any_change_of_an_exports_description_works_or_is_refused(exported, data):
    with tempfile.TemporaryDirectory() as folder:
        for file in exported.iterdir():
            os.link(file, os.path.join(folder, file.name))
        os.remove(os.path.join(folder, 'model.json'))
        description = mutated(data, json.loads((exported / 'model.json').read_text()))
        Path(folder, 'model.json').write_text(json.dumps(description))
        works_or_is_refused(folder)


@settings(max_examples=40)
@given(st.data())
def test_any_change_of_a_runs_description_works_or_is_refused(trained, data):
    with tempfile.TemporaryDirectory() as folder:
        os.link(trained / 'best.params', os.path.join(folder, 'best.params'))
        description = mutated(data, json.loads((trained / 'model.json').read_text()))
        Path(folder, 'model.json').write_text(json.dumps(description))
        works_or_is_refused(folder)


@pytest.mark.parametrize(
    'text, says',
    [
        ('[' * 100000, 'nested too deeply'),
        ('{"export": ' + '1' * 5000 + '}', 'a number has 5000 digits'),
        ('"' + 'x' * (5 << 20) + '"', 'more than 4,194,304 bytes'),
        ('\xff', "can't decode"),
        ('', 'Expecting value'),
    ],
)
def test_a_description_that_is_not_json_is_refused(text, says, tmp_path):
    (tmp_path / 'model.json').write_bytes(text.encode('latin-1'))
    assert not is_export(tmp_path)
    with refused(says):
        load_model(str(tmp_path))


@pytest.mark.parametrize(
    'values, says',
    [
        ({'std': [0.2, 0, 0.2]}, 'std must be numbers from 0.000001'),
        ({'mean': [0.5, 0.5]}, 'mean must be numbers'),
        ({'input_size': [3, 1000000, 1000000]}, 'at least 3 .min_size. and at most 2048'),
        ({'class_names': ['a', 'b']}, 'class_names must be 3'),
        ({'crop_ratio': 1e-3}, 'crop_ratio must be'),
        ({'version': 3}, 'a newer gluon_aff may read it'),
        ({'options': {'classes': 3, 'pretrained': True}}, "options must be the network's own"),
        ({'options': {'classes': 3, 'root': '/'}}, "options must be the network's own"),
        ({'options': {'classes': 3, 'ctx': None}}, "options must be the network's own"),
        ({'options': {'classes': 3, 'norm_layer': 'x'}}, 'cannot be built with the options'),
        ({'options': {'classes': 3, 'widht': 1}}, 'did you mean width'),
        *(({'parameters': name}, 'plain name') for name in ('../best.params', '/etc/hosts', 'a/b', '.', 'C:x', '', 3)),
    ],
)
def test_a_runs_description_is_checked(trained, tmp_path, values, says):
    with refused(says):
        load_model(str(changed(trained, tmp_path, **values)))


def test_a_runs_parameters_may_not_be_a_link(trained, tmp_path):
    (tmp_path / 'elsewhere').write_bytes((trained / 'best.params').read_bytes())
    folder = changed(trained, tmp_path)
    (folder / 'best.params').unlink()
    (folder / 'best.params').symlink_to(tmp_path / 'elsewhere')
    with refused('is a link'):
        load_model(str(folder))


def test_a_spec_survives_json_and_metadata_and_old_folders_open(trained, exported):
    spec = Predictor(str(exported)).spec
    assert ModelSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec and spec.to_json()['version'] == 2
    metadata = {entry.key: entry.value for entry in onnx.load(str(exported / f'{SHIPPED}.onnx')).metadata_props}
    assert ModelSpec.from_metadata(metadata) == spec
    fixed = ModelSpec(
        'a', 'segmentation', ('x', 'y'), (3, 48, 32), 3, (0, 0, 0), (1, 1, 1), 1, layout='NHWC', dynamic=False
    )
    assert fixed.shape == ('N', 48, 32, 3) and ModelSpec.from_json(fixed.to_json()) == fixed
    old = {
        key: value
        for key, value in json.loads((exported / 'model.json').read_text()).items()
        if key not in ('version', 'interpolation')
    }
    old['labels'] = old.pop('class_names')
    assert ModelSpec.from_json(old) == spec
    metadata['labels'] = metadata.pop('class_names')
    assert ModelSpec.from_metadata({**metadata, 'version': '1'}) == spec
    assert load_model(str(trained)).spec.class_names == ('a', 'b', 'c')


# The files of an export


@pytest.mark.parametrize('name', ['../x.onnx', '/etc/hosts', 'a/x.onnx', '..', 'C:x.onnx', 'x\0', '', None])
def test_an_export_names_plain_files_of_its_folder_only(exported, tmp_path, name):
    files = json.loads((exported / 'model.json').read_text())['files']
    files['onnx']['file'] = name
    with refused('given by its plain name'):
        Predictor(str(changed(exported, tmp_path, files=files)), 'mxnet')


@pytest.mark.parametrize('make', [lambda path: path.symlink_to('/etc/hosts'), lambda path: path.mkdir(), os.mkfifo])
def test_an_exports_files_are_regular_ones(exported, tmp_path, make):
    folder = changed(exported, tmp_path)
    path = folder / f'{SHIPPED}.onnx'
    path.unlink()
    make(path)
    with refused('is not a regular file'):
        Predictor(str(folder), 'onnxruntime')


def test_the_bytes_that_were_checked_are_the_bytes_that_are_opened(exported, tmp_path, monkeypatch):
    folder, session = changed(exported, tmp_path), backends.session

    def swapped(*args):
        (folder / f'{SHIPPED}.onnx').write_bytes(b'another')
        return session(*args)

    monkeypatch.setattr(backends, 'session', swapped)
    assert Predictor(str(folder), 'onnxruntime').predict(PIXELS) == Predictor(str(exported)).predict(PIXELS)
    assert (folder / f'{SHIPPED}.onnx').read_bytes() == b'another'


def tensor(name, external):
    stored = onnx.numpy_helper.from_array(np.zeros(4, np.float32), name)
    if external:
        onnx.external_data_helper.set_external_data(stored, '../secret.bin', 0, 16)
        stored.ClearField('raw_data')
    return stored


def sparse(external):
    return helper.make_sparse_tensor(tensor('w', external), onnx.numpy_helper.from_array(np.arange(4), 'i'), [9])


def holding(where, external):
    """A model with a tensor in one of the places where ONNX has tensors."""
    data = helper.make_tensor_value_info('data', TensorProto.FLOAT, ['N', 3, 'H', 'W'])
    output = helper.make_tensor_value_info('y', TensorProto.FLOAT, None)
    attributes = {
        't': lambda: tensor('w', external),
        'tensors': lambda: [tensor('w', external)],
        'sparse': lambda: sparse(external),
        'sparses': lambda: [sparse(external)],
    }
    inner = helper.make_graph(
        [helper.make_node('Identity', ['data'], ['z'])], 'inner', [], [output], [tensor('w', external)]
    )
    attributes.update(graph=lambda: inner, graphs=lambda: [inner])
    nodes = [helper.make_node('Identity', ['data'], ['y'])]
    if where in attributes:
        nodes.append(helper.make_node('Constant', [], ['c'], value=attributes[where]()))
    graph = helper.make_graph(nodes, 'graph', [data], [output], [tensor('w', external)] * (where == 'initializer'))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 13)], ir_version=8)
    if where == 'sparse initializer':
        model.graph.sparse_initializer.append(sparse(external))
    if where == 'function':
        model.functions.append(
            helper.make_function(
                'd',
                'f',
                [],
                ['c'],
                [helper.make_node('Constant', [], ['c'], value=tensor('w', external))],
                [helper.make_opsetid('', 13)],
            )
        )
    if where == 'training':
        model.training_info.add().algorithm.CopyFrom(inner)
    return model.SerializeToString()


@pytest.mark.parametrize(
    'where',
    [
        'initializer',
        'sparse initializer',
        't',
        'tensors',
        'sparse',
        'sparses',
        'graph',
        'graphs',
        'function',
        'training',
    ],
)
def test_external_data_is_refused_before_an_engine_sees_it(exported, tmp_path, monkeypatch, where):
    if where != 'function':
        check_onnx(holding(where, False), 'x')
    folder = replaced(exported, tmp_path, 'onnx', holding(where, True))
    monkeypatch.setattr(backends, 'session', None)
    for backend in ('onnxruntime', 'opencv', 'openvino'):
        with refused('keeps values in other files'):
            Predictor(folder, backend)
    path = os.path.join(folder, f'{SHIPPED}.onnx')
    for use in (
        lambda: compare_onnx(path, path, [PIXELS]),
        lambda: quantize_onnx(path, [PIXELS], tmp_path / 'int8.onnx'),
    ):
        with refused('keeps values in other files'):
            use()


@settings(max_examples=200)
@given(position=st.floats(0, 1), byte=st.integers(0, 255), cut=st.booleans())
def test_the_search_for_external_data_takes_any_bytes(position, byte, cut):
    content = bytearray(holding('graph', False))
    position = int(position * (len(content) - 1))
    content = content[:position] if cut else content[:position] + bytes([byte]) + content[position + 1 :]
    try:
        check_onnx(bytes(content), 'x')
    except ValueError as error:
        assert str(error).startswith('x ')


def network(*nodes, output=(1, 10), opsets=('',)):
    data = helper.make_tensor_value_info('data', TensorProto.FLOAT, ['N', 3, 'H', 'W'])
    y = helper.make_tensor_value_info('y', TensorProto.FLOAT, list(output))
    constant = onnx.numpy_helper.from_array(np.full((1, 10), np.nan, np.float32), 'nan')
    graph = helper.make_graph(list(nodes), 'graph', [data], [y], [constant])
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid(domain, 13 if not domain else 1) for domain in opsets], ir_version=8
    ).SerializeToString()


def endless():
    """A file with a function that calls itself, by which ONNX Runtime crashes."""
    call = helper.make_node('F', ['a'], ['b'], domain='my')
    model = onnx.ModelProto.FromString(network(helper.make_node('F', ['data'], ['y'], domain='my'), opsets=('', 'my')))
    model.functions.append(helper.make_function('my', 'F', ['a'], ['b'], [call], [helper.make_opsetid('my', 1)]))
    return model.SerializeToString()


BAD_ONNX = {
    'function': (endless(), 'defines functions of its own'),
    'garbage': (b'no model at all', 'is not an ONNX file'),
    'name': (
        network(helper.make_node('Wrong', ['data'], ['y'], name='latin')).replace(b'latin', b'lat\xefn'),
        'cannot run',
    ),
    'empty': (b'', 'cannot run'),
    'runtime format': (b'\x0a\x05..ORTM.', 'is not an ONNX file'),
    'custom domain': (network(helper.make_node('X', ['data'], ['y'], domain='my'), opsets=('', 'my')), 'cannot run'),
    'cycle': (
        network(
            helper.make_node('Add', ['data', 'b'], ['a']),
            helper.make_node('Add', ['a', 'a'], ['b']),
            helper.make_node('Identity', ['a'], ['y']),
        ),
        'cannot run',
    ),
    'shape': (network(helper.make_node('Identity', ['data'], ['y']), output=('N', 3, 'H', 'W')), 'should give'),
    'input': (network(helper.make_node('Identity', ['nan'], ['y'])).replace(b'data', b'atad'), 'cannot run'),
    'nan': (network(helper.make_node('Identity', ['nan'], ['y'])), 'not finite'),
}


@pytest.mark.parametrize('kind', BAD_ONNX)
def test_a_bad_onnx_file_is_refused_with_a_sentence(exported, tmp_path, capsys, kind):
    content, says = BAD_ONNX[kind]
    folder = replaced(exported, tmp_path, 'onnx', content)
    with refused(says):
        Predictor(folder, 'onnxruntime').predict(PIXELS)
    assert capsys.readouterr() == ('', '')
    with refused("should give|not finite|OpenCV's DNN module|is not an ONNX file|defines functions"):
        Predictor(folder, 'opencv').predict(PIXELS)


@pytest.mark.parametrize('kind', ['cycle', 'no input', 'shape', 'name', 'custom domain'])
def test_a_bad_onnx_file_is_refused_by_openvino_with_a_sentence(exported, tmp_path, capfd, monkeypatch, kind):
    available('openvino')
    if kind == 'cycle':  # its reader never returns from one
        monkeypatch.setattr(backends, 'TRIAL_SECONDS', 3)
    crash = network(helper.make_node('Conv', [], ['y'], kernel_shape=[1, 1]))
    content = crash if kind == 'no input' else BAD_ONNX[kind][0]
    with refused('should give' if kind == 'shape' else f'cannot run .*{SHIPPED}.onnx .*export the network again'):
        Predictor(replaced(exported, tmp_path, 'onnx', content), 'openvino').predict(PIXELS)
    assert capfd.readouterr() == ('', '')


def bad_symbol(change):
    def content(exported):
        graph = json.loads((exported / f'{SHIPPED}-symbol.json').read_text())
        change(graph, graph['nodes'], next(node for node in graph['nodes'] if node['op'] == 'Convolution'))
        return json.dumps(graph).encode()

    return content


BAD_SYMBOLS = {
    'garbage': lambda exported: b'no symbol',
    'deep': lambda exported: b'[' * 100000,
    'list': lambda exported: b'[]',
    'no nodes': bad_symbol(lambda graph, nodes, conv: graph.update(nodes=[])),
    'cycle': bad_symbol(lambda graph, nodes, conv: conv['inputs'][0].__setitem__(0, len(nodes) - 1)),
    'input': bad_symbol(lambda graph, nodes, conv: conv['inputs'][0].__setitem__(0, 10**6)),
    'negative': bad_symbol(lambda graph, nodes, conv: conv['inputs'][0].__setitem__(0, -1)),
    'output': bad_symbol(lambda graph, nodes, conv: conv['inputs'][0].__setitem__(1, 77)),
    'head': bad_symbol(lambda graph, nodes, conv: graph.update(heads=[[10**6, 0, 0]])),
    'no head': bad_symbol(lambda graph, nodes, conv: graph.update(heads=[])),
    'pointer': bad_symbol(lambda graph, nodes, conv: conv.update(op='_Native', attrs={'info': '1234'})),
    'file': bad_symbol(lambda graph, nodes, conv: conv.update(op='_cvimread', attrs={'filename': 'x'}, inputs=[])),
    'python': bad_symbol(lambda graph, nodes, conv: conv.update(op='Custom', attrs={'op_type': 'x'})),
    'unknown': bad_symbol(lambda graph, nodes, conv: conv.update(op='nothing')),
    'subgraph': bad_symbol(lambda graph, nodes, conv: conv.update(subgraphs=[graph['nodes'][0]])),
    'attribute': bad_symbol(lambda graph, nodes, conv: conv['attrs'].update(kernel='x')),
    'number': bad_symbol(lambda graph, nodes, conv: conv['attrs'].update(kernel=3)),
    'shapes': bad_symbol(lambda graph, nodes, conv: conv['attrs'].update(num_filter='5')),
    'no groups': bad_symbol(lambda graph, nodes, conv: conv['attrs'].update(num_group='0')),
    'overflow': bad_symbol(lambda graph, nodes, conv: conv['attrs'].update(dilate='(2147483647, 2147483647)')),
    'sparse': bad_symbol(lambda graph, nodes, conv: conv['attrs'].update(__storage_type__='1')),
    'names': bad_symbol(lambda graph, nodes, conv: nodes[1].update(name='other')),
    'twice': bad_symbol(lambda graph, nodes, conv: nodes[1].update(name='data')),
}


@pytest.mark.parametrize('kind', BAD_SYMBOLS)
def test_a_bad_symbol_is_refused_with_a_sentence(exported, tmp_path, kind):
    with refused('is not a usable symbol'):
        Predictor(replaced(exported, tmp_path, 'symbol', BAD_SYMBOLS[kind](exported)), 'mxnet').predict(PIXELS)


def test_mxnet_sees_no_parameter_file(exported, tmp_path, monkeypatch):
    monkeypatch.setattr(mx.nd, 'load', None)
    predictions = Predictor(str(exported), 'mxnet').predict(PIXELS)
    assert predictions[0][0][0] == Predictor(str(exported)).predict(PIXELS)[0][0][0]
    content = (exported / f'{SHIPPED}-0000.params').read_bytes()
    with refused('is not a parameter file that Gluon saved, or is damaged'):
        Predictor(replaced(exported, tmp_path, 'params', content[:-9]), 'mxnet')
