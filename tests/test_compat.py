"""MXNet and GluonCV on Pythons and NumPys that are too new for them, and nobody else sees a difference."""

from __future__ import annotations

import ast
import importlib.util
import os
import subprocess
import sys
import types
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gluon_aff import compat

ROOT = Path(__file__).resolve().parent.parent
NEW = sys.version_info >= (3, 12) or tuple(map(int, np.__version__.split('.')[:2])) >= (1, 24)
# Dropped by NumPy 1.24 or 2; each is asked for by MXNet or GluonCV.
DROPPED = (
    'float',
    'int',
    'alltrue',
    'in1d',
    'msort',
    'round_',
    'product',
    'sometrue',
    'Inf',
    'NaN',
    'NAN',
    'NINF',
    'PINF',
    'NZERO',
    'PZERO',
    'trapz',
    'compat',
    'mirr',
    'npv',
    'pmt',
    'ppmt',
    'pv',
    'rate',
)


def run(code, cwd=None, **environment):
    """What a script prints that finds gluon_aff.compat at its start, as an installation makes it."""
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=cwd,
        env={**os.environ, 'PYTHONPATH': str(ROOT), **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def numpy_without_names():
    """A NumPy that has dropped the names, prepared for MXNet."""
    numpy = types.ModuleType('numpy')
    for name in ('inf', 'nan', 'all', 'any', 'prod', 'round', 'isin', 'sort'):
        setattr(numpy, name, getattr(np, name))
    numpy.trapezoid = sum

    def __getattr__(name):  # noqa: N807
        raise AttributeError(f'numpy has no {name}')

    numpy.__getattr__ = __getattr__
    compat._answer_for_packages(numpy)
    return numpy


def asked_by(module, numpy, name):
    """getattr(numpy, name) in code of a module of this name."""
    return eval('getattr(numpy, name)', {'__name__': module, 'numpy': numpy, 'name': name})


@pytest.mark.parametrize('name', DROPPED)
def test_dropped_names_are_there_for_mxnet_and_gluoncv_alone(numpy_without_names, name):
    for module in ('mxnet', 'mxnet.numpy.fallback', 'gluoncv.data.base', 'gluoncv2.resnet', 'autocfg.dataclasses'):
        asked_by(module, numpy_without_names, name)
    for module in ('__main__', 'pandas.core', 'numpy.ma', 'mxnet_like', 'gluoncvx', 'gluon_aff.layers.fusion'):
        with pytest.raises(AttributeError, match=f'numpy has no {name}'):
            asked_by(module, numpy_without_names, name)


def test_dropped_names_are_what_they_were(numpy_without_names):
    def get(name):
        return asked_by('mxnet', numpy_without_names, name)

    assert get('float') is float and get('int') is int and get('bool') is bool and get('long') is int
    assert get('Inf') == np.inf and get('NINF') == -np.inf and np.isnan(get('NaN'))
    assert str(get('NZERO')) == '-0.0' and str(get('PZERO')) == '0.0'
    assert get('in1d')([[1, 2], [3, 4]], [2, 4]).tolist() == [False, True, False, True]
    assert get('msort')(np.array([[3, 1], [2, 5]])).tolist() == [[2, 1], [3, 5]]
    assert get('compat').basestring is str
    with pytest.raises(RuntimeError, match='numpy_financial'):
        get('npv')(0.1, [1, 2])
    with pytest.raises(AttributeError, match='numpy has no nonsense'):
        get('nonsense')


@pytest.mark.parametrize('module', sorted(set(compat.EDITS) - {name for name in compat.EDITS if 'contrib' in name}))
def test_every_edit_finds_its_place(module):
    package, _, rest = module.partition('.')
    if importlib.util.find_spec(package) is None:
        pytest.skip(f'{package} is not installed')
    folder = importlib.util.find_spec(package).submodule_search_locations[0]
    source = Path(folder, *(rest or '__init__').split('.')).with_suffix('.py')
    text = source.read_text(encoding='utf-8')
    assert any(old in text for old, _ in compat.EDITS[module])
    if compat.EDITS[module] not in (compat.DISTUTILS, compat.ONNX):
        for old, _ in compat.EDITS[module]:
            assert old in text, old


SHAPES = st.recursive(
    st.integers(-5, 5) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple),
    max_leaves=6,
)


def in_numpy(value):
    if isinstance(value, (list, tuple)):
        return type(value)(map(in_numpy, value))
    return np.int64(value) if isinstance(value, int) else np.float64(value)


@given(value=SHAPES)
def test_settings_of_numpy_numbers_read_as_plain_ones(value):
    assert compat.text(in_numpy(value)) == str(value) or not isinstance(value, (list, tuple))
    assert compat.text(value) == str(value)


NUMBERS = st.lists(st.integers(0, 99), min_size=1, max_size=4)


@given(first=NUMBERS, second=NUMBERS)
def test_versions_compare_by_their_numbers(first, second):
    versions = [compat.version_numbers('.'.join(map(str, numbers))) for numbers in (first, second)]
    assert (versions[0] < versions[1]) == (first < second)
    assert (versions[0] >= versions[1]) == (first >= second)
    assert (versions[0] == versions[1]) == (first == second)
    assert compat.version_numbers('2.0.0b1') > compat.version_numbers('1.9.1') == compat.version_numbers('v1.9.1+cpu')


# Whether other libraries' code, and a script, find the dropped names in NumPy.
OTHERS = f"""
import numpy, warnings
warnings.simplefilter('ignore')
def names_seen():
    names = {('bool', 'float', 'int', 'object', 'str', 'long', *DROPPED)}
    modules = ('__main__', 'numpy.ma.core', 'scipy.sparse', 'pandas.core.api', 'matplotlib.cbook', 'torch._numpy')
    check = '[hasattr(numpy, name) for name in names]'
    return [eval(check, {{'__name__': name, 'numpy': numpy, 'names': names}}) for name in modules]
"""


@pytest.mark.parametrize('first', ['mxnet', 'gluoncv', 'model_zoo'])
def test_any_of_them_can_be_imported_first_and_numpy_looks_as_before(first):
    code = (
        f'{OTHERS}\nimport {first}\nimport mxnet as mx\nafter = names_seen()\n'
        'mx.nd.zeros(tuple(numpy.array([2, 3]))).reshape(tuple(numpy.array([3, 2]))).asnumpy()\n'
        'packed = mx.recordio.pack(mx.recordio.IRHeader(0, [1, 2], 3, 0), b"bytes")\n'
        'header, content = mx.recordio.unpack(packed)\n'
        'assert content == b"bytes" and header.label.tolist() == [1, 2]\n'
        'import numpy.ma, scipy.stats, pandas, matplotlib.pyplot\n'
        'assert numpy.ma.masked_array([1, 2], mask=[0, 1]).sum() == 1\n'
        'assert pandas.DataFrame({"a": numpy.arange(3)}).a.sum() == 3\n'
        'assert names_seen() == after\nprint(after)\n'
    )
    assert run(code) == run(f'{OTHERS}\nprint(names_seen())', GLUON_AFF_COMPAT='0')


WORKERS = """
import multiprocessing
import sys
import mxnet as mx
import numpy as np

if __name__ == '__main__':
    multiprocessing.set_start_method(sys.argv[1])
    data = mx.gluon.data.ArrayDataset(np.arange(6, dtype='float32').reshape((3, 2)), np.arange(3))
    (batch,) = mx.gluon.data.DataLoader(data, batch_size=3, num_workers=1)
    print(batch[0].sum().asscalar(), batch[1].asnumpy().tolist())
"""


# On Linux fork is the default up to Python 3.13, forkserver from 3.14 on.
@pytest.mark.parametrize(
    'method', ['forkserver', *(pytest.param(name, marks=pytest.mark.slow) for name in ('fork', 'spawn'))]
)
def test_worker_processes_are_prepared_too(method, tmp_path):
    (tmp_path / 'script.py').write_text(WORKERS)
    code = f'import runpy, sys; sys.argv = ["script.py", "{method}"]; runpy.run_path("script.py", run_name="__main__")'
    assert run(code, cwd=tmp_path) == '15.0 [0, 1, 2]'


def test_im2rec_runs(tmp_path):
    (tmp_path / 'images').mkdir()
    Image.new('RGB', (8, 8)).save(tmp_path / 'images' / 'black.png')
    (tmp_path / 'records.lst').write_text('0\t1.0\t2.0\tblack.png\n')
    code = (
        'import mxnet, runpy, sys; sys.argv = ["im2rec", "--pack-label", "records", "images"]\n'
        'runpy.run_module("mxnet.tools.im2rec", run_name="__main__")'
    )
    run(code, cwd=tmp_path)
    record = mx.recordio.MXRecordIO(str(tmp_path / 'records.rec'), 'r').read()
    header, image = mx.recordio.unpack_img(record)
    assert header.label.tolist() == [1, 2] and image.shape == (8, 8, 3)


def attributes_of_numpy(path):
    """Names that a file asks NumPy for."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding='utf-8'))))
    names = [alias for node in nodes if isinstance(node, ast.Import) for alias in node.names if alias.name == 'numpy']
    aliases = {alias.asname or alias.name for alias in names}
    return {node.attr for node in nodes if isinstance(node, ast.Attribute) and getattr(node.value, 'id', '') in aliases}


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('package', sorted(compat.PACKAGES))
def test_numpy_has_or_is_given_every_name_that_they_ask_for(package):
    spec = importlib.util.find_spec(package)
    asked = set().union(*map(attributes_of_numpy, Path(spec.submodule_search_locations[0]).rglob('*.py')))
    assert not [name for name in asked if not hasattr(np, name) and compat._dropped(np, name) is None]


def test_the_environment_switches_it_off():
    code = 'import sys; print(any(type(finder).__name__ == "_Finder" for finder in sys.meta_path))'
    assert run(code) == 'True', 'installed without its .pth file'
    assert run(code, GLUON_AFF_COMPAT='0') == 'False'


@pytest.mark.skipif(not NEW, reason='MXNet needs no help here')
def test_switched_off_the_import_says_so_in_a_sentence():
    code = 'try:\n    import gluon_aff\nexcept ImportError as error:\n    print(error)'
    out = run(code, GLUON_AFF_COMPAT='0')
    assert 'GLUON_AFF_COMPAT=0' in out and len(out.splitlines()) == 1


def test_the_file_works_alone(tmp_path):
    (tmp_path / 'compat.py').write_text(Path(compat.__file__).read_text(encoding='utf-8'))
    code = 'import compat; compat.enable(); compat.enable(); import mxnet as mx; print(mx.nd.ones(3).sum().asscalar())'
    assert run(code, PYTHONPATH=str(tmp_path), GLUON_AFF_COMPAT='0') == '3.0'


def test_where_mxnet_is_not_imported_nothing_is(tmp_path):
    code = 'import sys; print([name for name in ("numpy", "mxnet", "gluon_aff", "re") if name in sys.modules])'
    assert run(code) == run(code, GLUON_AFF_COMPAT='0')


@pytest.mark.parametrize('version, warns', [('2.13.0+cpu', False), ('1.13.1', True)])
def test_gluoncv_is_imported_beside_a_pytorch_of_any_age(version, warns, tmp_path):
    (tmp_path / 'torch.py').write_text(f'__version__ = {version!r}\n')
    metadata = tmp_path / f'torch-{version}.dist-info'
    metadata.mkdir()
    (metadata / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: torch\nVersion: {version}\n')
    out = subprocess.run(
        [sys.executable, '-W', 'always::UserWarning', '-c', 'import gluon_aff, gluoncv; print(gluoncv.model_zoo)'],
        env={**os.environ, 'PYTHONPATH': os.pathsep.join([str(tmp_path), str(ROOT)])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert out.returncode == 0 and "<module 'gluoncv.model_zoo'" in out.stdout, out.stdout
    assert ('are installed' in out.stdout) == warns
