"""Private names of MXNet and GluonCV stand in gluon_aff/_mxnet.py alone, each in a function with a sentence why."""

import ast
import inspect
import re
from pathlib import Path

import gluoncv
import mxnet
import pytest

from gluon_aff import _mxnet

TOP = Path(__file__).parents[1]
# compat.py edits MXNet's and GluonCV's sources and imports nothing of them.
FILES = [
    path
    for folder in ('gluon_aff', 'model_zoo', 'benchmarks', 'examples')
    for path in (TOP / folder).rglob('*.py')
    if path.relative_to(TOP).as_posix() not in ('gluon_aff/_mxnet.py', 'gluon_aff/compat.py')
]
FILES += TOP.glob('*.py')
PRIVATE = r'_[a-zA-Z]\w*'


def library_names():
    """Private attributes and globals of the parts of the libraries that this project uses."""
    mx, cv = (Path(library.__file__).parent for library in (mxnet, gluoncv))
    sources = [*mx.glob('*.py'), *(cv / 'model_zoo').glob('*.py')]
    for folder in ('gluon', 'symbol', 'ndarray', 'optimizer', 'kvstore', 'module', 'onnx/mx2onnx'):
        sources += (mx / folder).rglob('*.py')
    text = '\n'.join(path.read_text(encoding='utf-8') for path in sources)
    return set(re.findall(rf'(?:\.|def |^)({PRIVATE})', text, re.MULTILINE))


LIBRARY_NAMES = library_names()


def named(node, *names):
    return isinstance(node, ast.Name) and node.id in names


def own_names(tree):
    """Private names that a module defines itself: functions, classes, and what it assigns to self."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and named(node.value, 'self'):
            yield node.attr


OWN_NAMES = {name for path in FILES for name in own_names(ast.parse(path.read_bytes()))}
OWN_NAMES |= {'_replace', '_asdict', '_fields'}  # of named tuples


def private_uses(source):
    """Uses of private names of MXNet and GluonCV in a module's source."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and re.match(PRIVATE, node.attr) and node.attr in LIBRARY_NAMES - OWN_NAMES:
            yield node.attr
        elif isinstance(node, ast.Attribute) and node.attr == 'base' and named(node.value, 'mx', 'mxnet'):
            yield 'mxnet.base'
        elif isinstance(node, ast.ImportFrom) and (node.module or '').split('.')[0] in ('mxnet', 'gluoncv'):
            for name in [*node.module.split('.'), *(alias.name for alias in node.names)]:
                if name.startswith('_') or name == 'base':
                    yield f'{node.module}: {name}'


def test_private_names_of_the_libraries_stand_in_one_file():
    uses = {str(path.relative_to(TOP)): list(private_uses(path.read_bytes())) for path in FILES}
    assert not {path: names for path, names in uses.items() if names}


@pytest.mark.parametrize(
    'source',
    [
        'net._collect_params_with_prefix()',
        'parameter._data is None',
        'self._children',
        'norm._kwargs["eps"]',
        'trainer._updaters[0]',
        'mx.base.data_dir()',
        'from mxnet.base import _LIB',
        'from mxnet.onnx.mx2onnx._export_onnx import MXNetGraph',
        'from gluoncv.model_zoo.model_zoo import _models',
        'model_store._model_sha1',
    ],
)
def test_the_check_finds_private_uses(source):
    assert list(private_uses(source))


def test_each_function_says_why():
    members = vars(_mxnet).values()
    members = [member for member in members if getattr(member, '__module__', None) == _mxnet.__name__]
    assert len(members) > 15
    for member in members:
        assert re.fullmatch(r'[A-Z].*[;,:].*\.', inspect.getdoc(member).splitlines()[0]), member
