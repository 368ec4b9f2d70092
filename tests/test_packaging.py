"""The wheel, what it asks for, and the environments that the package refuses."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path
from shutil import copy, copytree, ignore_patterns

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from gluon_aff._environment import check_environment, install_line
from gluon_aff.layers.kernels import LIBRARY

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ('gluon_aff', 'model_zoo')
SCRIPTS = ('train_cifar.py', 'train_imagenet.py', 'train_stopsign.py')
CUDA = ('cu101', 'cu102', 'cu110', 'cu112', 'cu115', 'cu117')


def run(*arguments, **options):
    done = subprocess.run([str(argument) for argument in arguments], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def pip(*arguments, **options):
    return run(sys.executable, '-m', 'pip', '--disable-pip-version-check', *arguments, **options)


def copy_source(tmp_path_factory):
    # A build leaves files behind, and one in the checkout would find those of earlier builds.
    source = tmp_path_factory.mktemp('source')
    for name in ('setup.py', 'pyproject.toml', 'MANIFEST.in', 'README.md', 'LICENSE', 'gluon_aff_start.py', *SCRIPTS):
        copy(ROOT / name, source)
    for name in PACKAGES:
        copytree(ROOT / name, source / name, ignore=ignore_patterns('__pycache__', '*.so'))
    return source


def build(tmp_path_factory, source=None, **environment):
    source = source or copy_source(tmp_path_factory)
    folder = tmp_path_factory.mktemp('wheel')
    pip(
        'wheel',
        '--no-index',
        '--no-deps',
        '--no-build-isolation',
        '--wheel-dir',
        folder,
        source,
        env={**os.environ, **environment},
    )
    (path,) = folder.glob('*.whl')
    return path


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    return build(tmp_path_factory)


def files(wheel):
    """Names of the files in a wheel, but for its own."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if '.dist-info/' not in name}


@pytest.fixture(scope='module')
def installed(wheel, tmp_path_factory):
    folder = tmp_path_factory.mktemp('installed')
    pip('install', '--no-index', '--no-deps', '--target', folder, wheel)
    return folder


@pytest.fixture
def python(installed, tmp_path):
    """Runs Python on the installed wheel, in an empty folder."""
    # -S, as the checkout may itself be installed, by a .pth file.
    others = [path for path in sys.path if path.endswith(('site-packages', 'dist-packages'))]
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(installed), *others])}
    return lambda *arguments: run(sys.executable, '-S', *arguments, cwd=tmp_path, env=environment)


@pytest.fixture(scope='module')
def metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith('.dist-info/METADATA'))
        return Parser().parsestr(archive.read(name).decode())


def requirements(metadata, extra='', **environment):
    """Requirements of an extra, with those of the extras that it includes, or those that always hold."""
    declared = [Requirement(line) for line in metadata.get_all('Requires-Dist')]
    if not extra:
        return [requirement for requirement in declared if requirement.marker is None]
    asked = []
    for requirement in declared:
        if requirement.marker and requirement.marker.evaluate({'extra': extra, **environment}):
            if canonicalize_name(requirement.name) == 'gluon-aff':
                for included in requirement.extras:
                    asked += requirements(metadata, included, **environment)
            else:
                asked.append(requirement)
    return asked


def test_wheel_holds_the_packages_and_their_data(wheel):
    expected = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob('*')
        if path.is_file()
        and '__pycache__' not in path.parts
        and not path.name.startswith('.')
        and path.suffix not in ('.cc', '.so')
        and 'third_party' not in path.parts
    }
    assert {name for name in files(wheel) if not name.endswith('.so')} == {
        *expected,
        *SCRIPTS,
        'gluon_aff_compat.pth',
        'gluon_aff_start.py',
    }


@pytest.mark.skipif(not LIBRARY.exists(), reason='nor could this installation build it')
def test_wheel_holds_the_compiled_operators(wheel):
    assert f'gluon_aff/layers/{LIBRARY.name}' in files(wheel)
    assert '-py3-none-' in wheel.name, 'the library serves every Python'


def test_wheel_is_built_without_a_compiler_as_well_and_holds_no_older_library(tmp_path_factory):
    source = copy_source(tmp_path_factory)
    for stale in (
        source / 'gluon_aff' / 'layers' / LIBRARY.name,
        source / 'build' / 'lib' / 'gluon_aff' / 'layers' / LIBRARY.name,
        *(
            source / 'build' / f'lib.linux-x86_64-{tag}' / 'gluon_aff' / 'layers' / LIBRARY.name
            for tag in (sys.implementation.cache_tag, '.'.join(map(str, sys.version_info[:2])))
        ),
    ):
        stale.parent.mkdir(parents=True, exist_ok=True)
        stale.write_bytes(b'stale')
    assert not any(name.endswith('.so') for name in files(build(tmp_path_factory, source, CC='false', CXX='false')))


def test_an_editable_installation_prepares_python_too(tmp_path_factory):
    source, folder = copy_source(tmp_path_factory), tmp_path_factory.mktemp('editable')
    pip(
        'install',
        '--no-index',
        '--no-deps',
        '--no-build-isolation',
        '--target',
        folder,
        '-e',
        source,
        env={**os.environ, 'CC': 'false', 'CXX': 'false'},
    )
    assert (folder / 'gluon_aff_compat.pth').read_text().startswith('import sys; exec(')


def test_installed_wheel_builds_a_network(python, installed):
    out = python(
        '-c',
        'import gluon_aff, model_zoo; print(gluon_aff.__file__); print(model_zoo.__file__); '
        "print(type(model_zoo.get_model('cifar_aff_resnet8')).__name__)",
    )
    library, zoo, _ = out.splitlines()
    assert Path(library) == installed / 'gluon_aff' / '__init__.py'
    assert Path(zoo) == installed / 'model_zoo' / '__init__.py'


def test_installed_wheel_has_its_command(python, installed):
    (entry_points,) = installed.glob('gluon_aff-*.dist-info/entry_points.txt')
    assert 'gluon-aff = gluon_aff_start:main' in entry_points.read_text()
    listed = python('-m', 'model_zoo', 'list')
    assert 'cifar_aff_resnet8' in listed
    assert python(installed / 'bin' / 'gluon-aff', 'list') == listed


def test_installed_wheel_builds_its_page(python, tmp_path):
    assert python('-m', 'model_zoo', 'report', '-o', 'site').splitlines()[-1] == os.path.join('site', 'index.html')
    page = (tmp_path / 'site' / 'index.html').read_text(encoding='utf-8')
    assert 'build this page in a checkout' in page and 'data:image/jpeg' in page


def test_metadata_names_the_release(metadata):
    import gluon_aff

    assert canonicalize_name(metadata['Name']) == 'gluon-aff'
    assert metadata['Version'] == gluon_aff.__version__
    assert metadata['License'] == 'Apache-2.0' or metadata['License-Expression'] == 'Apache-2.0'
    assert metadata.get_payload().strip() == (ROOT / 'README.md').read_text(encoding='utf-8').strip()


@pytest.mark.parametrize(
    'python_version, accepted',
    [
        ('3.7.17', False),
        ('3.8.0', True),
        ('3.9.18', True),
        ('3.10.13', True),
        ('3.11.9', True),
        ('3.12.0', True),
        ('3.13.0', True),
    ],
)
def test_metadata_names_the_pythons(metadata, python_version, accepted):
    assert SpecifierSet(metadata['Requires-Python']).contains(python_version) is accepted


def test_metadata_requires_no_particular_mxnet(metadata):
    assert {requirement.name for requirement in requirements(metadata)} == {
        'numpy',
        'gluoncv',
        'Pillow',
        'matplotlib',
        'opencv-python',
        'portalocker',
        'PyYAML',
        'requests',
        'safetensors',
        'tqdm',
    }


@pytest.mark.parametrize('extra, name', [('cpu', 'mxnet'), *((cuda, f'mxnet-{cuda}') for cuda in CUDA)])
def test_each_build_of_mxnet_is_an_extra(metadata, extra, name):
    for python_version, distributions in (('3.8', [name]), ('3.12', [name]), ('3.13', ['graphviz', 'requests'])):
        asked = requirements(metadata, extra, python_version=python_version)
        assert [requirement.name for requirement in asked] == distributions
        assert name not in distributions or str(asked[0].specifier) == '==1.9.1'


@pytest.mark.parametrize(
    'file, python_version',
    [
        ('constraints.txt', '3.8'),
        ('constraints.txt', '3.11'),
        ('constraints-3.12.txt', '3.12'),
        ('constraints-3.13.txt', '3.13'),
    ],
)
def test_constraints_satisfy_what_setup_asks_for(metadata, file, python_version):
    lines = (ROOT / file).read_text().splitlines()
    pins = dict(line.split('==') for line in lines if line and not line.startswith('#'))
    pins = {canonicalize_name(name): version for name, version in pins.items()}
    asked = [
        requirement
        for extra in ('', 'cpu', 'browser', 'dev')
        for requirement in requirements(metadata, extra, python_version=python_version)
    ]
    assert {'pytest', 'ruff', 'scikit-learn', 'mkdocs-material', 'onnx'} < {requirement.name for requirement in asked}
    for requirement in asked:
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement


@pytest.mark.parametrize(
    'python_version, numpy_version', [((3, 8, 0), '1.23.0'), ((3, 11, 9), '1.26.4'), ((3, 14, 0), '2.5.5')]
)
def test_environment_in_range_passes(python_version, numpy_version):
    check_environment(python=python_version, numpy_version=numpy_version)


@pytest.mark.parametrize(
    'options, sentence',
    [
        ({'python': (3, 7, 0)}, r'Python 3\.8 or newer.* Python 3\.7'),
        ({'numpy_version': '1.22.4'}, r'NumPy 1\.23 to 2\.x.* 1\.22 .*pip install'),
        ({'numpy_version': '3.0.0'}, r'NumPy 1\.23 to 2\.x.* 3\.0 .*pip install'),
    ],
)
def test_environment_out_of_range_is_refused_in_one_sentence(options, sentence):
    with pytest.raises(ImportError) as caught:
        check_environment(**options)
    assert re.fullmatch(f'.*{sentence}.*', str(caught.value)), 'one line, as . matches no newline'


def test_the_readme_has_the_line_that_the_error_says():
    readme = (ROOT / 'README.md').read_text(encoding='utf-8')
    assert install_line((3, 12), '.') in readme
    assert install_line((3, 13), '.') in readme


def test_missing_system_library_is_one_sentence(tmp_path):
    (tmp_path / 'mxnet.py').write_text("raise OSError('libquadmath.so.0: cannot open shared object file')")
    code = 'try:\n    import gluon_aff\nexcept ImportError as error:\n    print(error)'
    out = run(sys.executable, '-c', code, cwd=tmp_path, env={**os.environ, 'PYTHONPATH': str(ROOT)})
    assert re.fullmatch(r'.*libquadmath\.so\.0.*libquadmath0.*\n', out), out


@pytest.mark.parametrize('package, missing', [*((package, 'mxnet') for package in PACKAGES), ('gluon_aff', 'numpy')])
def test_missing_mxnet_is_one_sentence(package, missing, tmp_path):
    code = (
        f"import sys; sys.modules['{missing}'] = None\ntry:\n    import {package}\nexcept ImportError as error:\n"
        '    print(error)'
    )
    out = run(sys.executable, '-c', code, cwd=tmp_path, env={**os.environ, 'PYTHONPATH': str(ROOT)})
    assert re.fullmatch(r'.*MXNet 1\.9.*cu117.*\n', out), out
    assert any(f'run: {install_line(package=name)} ' in out for name in ('gluon_aff', '.')), out
