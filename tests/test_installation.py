"""The wheel in a fresh environment of each Python, installed as the README says, with the versions that pip chooses.

    make wheel
    GLUON_AFF_FRESH_ENVIRONMENT=1 .venv/bin/python -m pytest -m network tests/test_installation.py -s

A minute or two for each Python that is found on PATH or among pyenv's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from gluon_aff._environment import install_line
from gluon_aff.layers.kernels import LIBRARY

ROOT = Path(__file__).resolve().parent.parent

pytestmark = [
    pytest.mark.network,
    pytest.mark.skipif(
        not os.environ.get('GLUON_AFF_FRESH_ENVIRONMENT'),
        reason='installs packages; GLUON_AFF_FRESH_ENVIRONMENT=1 asks for it',
    ),
]

# A user's script: MXNet comes first, and this project is never imported.
WORKERS = """
import multiprocessing
import sys
import mxnet as mx
import numpy as np
from mxnet.gluon.data import ArrayDataset, DataLoader

if __name__ == '__main__':
    for method in ('fork', 'forkserver', 'spawn'):
        multiprocessing.set_start_method(method, force=True)
        data = ArrayDataset(np.arange(24, dtype='float32').reshape((12, 2)), np.arange(12))
        batches = list(DataLoader(data, batch_size=4, num_workers=2))
        assert [int(labels.sum().asscalar()) for _, labels in batches] == [6, 22, 38], method
    assert not [name for name in sys.modules if name.split('.')[0] in ('gluon_aff', 'model_zoo')]
    print('workers', np.__version__)
"""
NETWORK = """
import mxnet as mx
import numpy as np
from PIL import Image
from gluon_aff.layers import kernels
from model_zoo import get_model

net = get_model('fashion_mnist_aff_resnet8', pretrained=True)
net.hybridize(static_alloc=True)
picture = np.random.RandomState(0).randint(0, 256, (40, 40, 3)).astype('uint8')
Image.fromarray(picture).save('picture.png')
print('operators', kernels.available(), net(mx.nd.zeros((1, 3, 32, 32))).shape)
"""


def find_python(minor):
    """The path of a Python 3.minor that can make an environment, or None."""
    pyenv = Path(os.environ.get('PYENV_ROOT', Path.home() / '.pyenv'))
    for path in (shutil.which(f'python3.{minor}'), *pyenv.glob(f'versions/3.{minor}.*/bin/python')):
        if path and not subprocess.run([path, '-c', 'import ensurepip'], capture_output=True).returncode:
            return path
    return None


def run(*command, **options):
    # The checkout must not be found by what is tried here.
    environment = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope='module')
def wheel():
    try:
        (path,) = (ROOT / 'dist').glob('gluon_aff-*-manylinux*.whl')
    except ValueError:
        pytest.skip('dist/ has no wheel, or several: make wheel builds it')
    return path


# Python 3.N, and the NumPy installed beforehand where pip shall not choose it.
CASES = [*((minor, None) for minor in range(8, 15)), (8, '1.23'), (10, '1.25'), (13, '2.1')]


@pytest.mark.parametrize('minor, numpy', CASES)
def test_the_wheel_works_in_a_fresh_environment(minor, numpy, wheel, tmp_path):
    base = find_python(minor)
    if base is None:
        pytest.skip(f'no Python 3.{minor} is installed')
    run(base, '-m', 'venv', tmp_path / 'environment')
    path = tmp_path / 'environment' / 'bin'
    if numpy:
        run(path / 'python', '-m', 'pip', 'install', f'numpy=={numpy}.*')
    line = install_line((3, minor), wheel)
    run('sh', '-c', f'PATH="{path}:$PATH"; {line}', cwd=tmp_path)
    print(run(path / 'python', '-m', 'pip', 'freeze', cwd=tmp_path))

    (tmp_path / 'workers.py').write_text(WORKERS)
    assert run(path / 'python', 'workers.py', cwd=tmp_path).startswith('workers ')
    assert run(path / 'python', '-c', 'import gluoncv', cwd=tmp_path) == ''
    out = run(path / 'python', '-c', NETWORK, cwd=tmp_path)
    assert out.splitlines()[-1] == f'operators {LIBRARY.exists()} (1, 10)'
    predicted = run(path / 'gluon-aff', 'predict', 'fashion_mnist_aff_resnet8', 'picture.png', cwd=tmp_path)
    assert predicted.startswith('picture.png')

    # im2rec runs in a process of its own, and packs with a function that NumPy 2 dropped.
    (tmp_path / 'images' / 'one').mkdir(parents=True)
    (tmp_path / 'picture.png').rename(tmp_path / 'images' / 'one' / 'picture.png')
    for options in (('--list', '--recursive'), ()):
        run(path / 'python', '-m', 'mxnet.tools.im2rec', *options, 'records', 'images', cwd=tmp_path)
    assert (tmp_path / 'records.rec').stat().st_size > 100

    run(path / 'python', '-m', 'pip', 'install', 'hypothesis', 'pytest', cwd=tmp_path)
    print(run(path / 'python', '-m', 'pytest', '-q', '-p', 'no:cacheprovider', 'tests/test_compat.py', cwd=ROOT))
