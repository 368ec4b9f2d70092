"""The documentation: its code runs, its commands parse, its links, tables and map agree with the package."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import shlex
from pathlib import Path
from unittest import mock

import pytest
from mxnet.gluon import Block
from PIL import Image
from test_layers import MODULES

import gluon_aff
import train_cifar
import train_imagenet
import train_stopsign
from gluon_aff.train import parse
from gluon_aff.train.script import make_parser
from model_zoo import list_models, model_info, registry
from model_zoo.cli import build_parser
from model_zoo.reported_results import REPORTED

TOP = Path(__file__).resolve().parents[1]
PAGES = {
    path.relative_to(TOP).as_posix(): path.read_text(encoding='utf-8')
    for path in [*sorted(TOP.glob('[CR]*.md')), *sorted((TOP / 'docs').rglob('*.md'))]
}
SCRIPTS = {'train_cifar': train_cifar, 'train_imagenet': train_imagenet, 'train_stopsign': train_stopsign}
# tests/test_gluoncv_scripts.py runs those of docs/gluoncv.md and checks their results.
SNIPPETS = {
    f'{page}-{number}': code
    for page, text in PAGES.items()
    if page != 'docs/gluoncv.md'
    for number, (mark, code) in enumerate(re.findall('(?ms)^(<!-- no-run -->\n)?```python\n(.*?)^```', text))
    if not mark
}


def cells(page, heading=''):
    """Rows of the tables below a heading of a page, as lists of cells."""
    section = PAGES[page].partition(heading)[2]
    for line in section.splitlines():
        if line.startswith('| ') and not line.startswith('|---'):
            yield [cell.strip() for cell in line.strip('|').split(' | ')]


@pytest.mark.parametrize('snippet', SNIPPETS)
def test_python_snippets_run(snippet, tmp_path, monkeypatch):
    if 'deployment' in snippet:
        pytest.importorskip('onnxruntime')
    monkeypatch.chdir(tmp_path)
    for name in ('my_pictures', 'clothes/Bag', 'clothes/T-shirt-top'):
        (tmp_path / name).mkdir(parents=True)
    for name in (
        'shirt.png',
        'my_pictures/1.png',
        'my_pictures/2.png',
        'clothes/Bag/1.png',
        'clothes/T-shirt-top/1.png',
    ):
        Image.linear_gradient('L').resize((40, 32)).save(name)
    with mock.patch.dict(registry._registry):
        exec(compile(SNIPPETS[snippet], snippet, 'exec'), {'__name__': 'snippet'})


def test_snippets_that_do_not_run_compile():
    for page, text in PAGES.items():
        for code in re.findall('(?ms)^<!-- no-run -->\n```python\n(.*?)^```', text):
            compile(code, page, 'exec')


def commands():
    """(page, command) of the code blocks, tables and text, continued lines joined and comments removed."""
    for page, text in PAGES.items():
        if page == 'CHANGELOG.md':
            continue
        text = re.sub('(?ms)^```.*?^```', '', text).replace('\\\n', ' ')
        lines = re.findall('(?m)^ {4,}(?:[A-Z_]+=[^ ]+ )*(.+)$', text) + re.findall('`([^`\n]+)`', text)
        for line in lines:
            for command in re.split('&&|;', line):
                yield page, re.split('  #| > ', command)[0].replace('...', '').strip()


def test_commands_parse(monkeypatch, capsys):
    counts = dict.fromkeys(['train', 'gluon-aff', 'benchmarks', 'make'], 0)
    targets = set(re.findall('(?m)^([a-z-]+):', (TOP / 'Makefile').read_text(encoding='utf-8')))
    for page, command in commands():
        words = shlex.split(command) if "'" not in command or command.count("'") % 2 == 0 else [command]
        if words[:1] == ['gluon-aff'] and len(words) > 2 and words[1] != 'COMMAND':
            build_parser().parse_args(words[1:])
            counts['gluon-aff'] += 1
        elif words[:1] == ['make'] and len(words) == 2:
            assert words[1] in targets, (page, command)
            counts['make'] += 1
        for script in re.finditer(r'python (train_\w+)\.py (-.+)', command):
            parse(SCRIPTS[script[1]].Config, shlex.split(script[2]))
            counts['train'] += 1
        for module in re.findall(r'python (?:-m )?(benchmarks[./]\w+)', command):
            assert (TOP / module.replace('.', '/')).with_suffix('.py').is_file(), (page, command)
            counts['benchmarks'] += 1
    assert counts['train'] > 12 and counts['gluon-aff'] > 12 and counts['benchmarks'] > 8 and counts['make'] > 8


def script_defaults(script):
    """{option: default} of a training script's parser."""
    parser = make_parser(script.Config)
    return {
        option: action.default
        for action in parser._actions
        for option in action.option_strings
        if action.help != '==SUPPRESS==' and option not in ('-h', '--help')
    }


def agrees(stated, default):
    """Whether a table's default is the parser's; for None or False the table may use words."""
    if default is None or isinstance(default, bool):
        return not re.fullmatch(r'`?\d.*', stated)
    text = ','.join(map(str, default)) if isinstance(default, tuple) else str(default)
    return stated.strip('`') == text or re.fullmatch(r'[\d.]+', stated) and float(stated) == default


@pytest.mark.parametrize('name', SCRIPTS)
def test_the_tables_of_training_have_every_option_and_default(name):
    tables = list(cells('docs/training.md', '\n## Options'))
    documented = {}
    for row in tables:
        if len(row) == 3 and row[0].startswith('`-'):
            documented.update((option, row[1]) for option in re.findall('`(-[^`]+)`', row[0]))
    for row in tables:
        if len(row) == 4 and f'`{name}.py`' in row[0]:
            documented.update((option, row[2]) for option in re.findall('`(-[^`]+)`', row[1]))
    for option, default in script_defaults(SCRIPTS[name]).items():
        assert option in documented, option
        if not documented[option].startswith('COCO'):
            assert agrees(documented[option], default), (option, documented[option], default)


def test_the_table_of_commands_has_every_option_and_default():
    documented = {}
    for row in cells('docs/cli.md', '\n## Options'):
        for command in re.findall('`([^`]+)`', row[0]):
            documented.update(((command, option), row[2]) for option in re.findall('`(-[^`]+)`', row[1]))
    (subcommands,) = (action for action in build_parser()._actions if action.dest == 'command')
    actual = {
        (name, option): action.default
        for name, parser in subcommands.choices.items()
        for action in parser._actions
        for option in action.option_strings
        if option not in ('-h', '--help') and action.help != '==SUPPRESS=='
    }
    assert documented.keys() == actual.keys()
    for key, default in actual.items():
        assert default is None or agrees(documented[key], default), (key, documented[key], default)


def anchors(text):
    """The anchors of a page's headings, as GitHub and MkDocs make them."""
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in re.findall('(?m)^#+ (.+)$', text)}


def test_links_resolve():
    for page, text in PAGES.items():
        for target in re.findall(r'\]\(([^)\s]+)\)', text):
            path, _, anchor = target.partition('#')
            if ':' in path:
                continue
            file = (TOP / page).parent / path if path else TOP / page
            assert file.exists(), (page, target)
            # The site has what is in docs.
            assert not page.startswith('docs/') or (TOP / 'docs') in file.resolve().parents, (page, target)
            assert not anchor or anchor in anchors(file.read_text(encoding='utf-8')), (page, target)


def test_every_page_is_in_the_table_of_contents_and_on_the_site():
    site = (TOP / 'mkdocs.yml').read_text(encoding='utf-8')
    for page in PAGES:
        if page.startswith('docs/') and page != 'docs/index.md':
            assert f'({page[5:]})' in PAGES['docs/index.md'] and f': {page[5:]}\n' in site, page


def test_the_api_reference_has_every_module():
    """By itself, or by its package, whose modules mkdocs.yml includes."""
    text = '\n'.join(text for page, text in PAGES.items() if page.startswith('docs/api/'))
    named = set(re.findall('(?m)^::: (.+)$', text))
    assert named <= MODULES.keys()
    for name in MODULES.keys() - {'gluon_aff'}:
        parents = {'.'.join(name.split('.')[:depth]) for depth in range(1, name.count('.') + 2)} - {'gluon_aff'}
        assert re.search(r'(^|\.)_', name) or parents & named, name


def test_the_map_in_the_readme_is_the_tree():
    lines = PAGES['README.md'].partition('\n## Layout')[2].splitlines()
    named, folders = set(), []
    for line in lines:
        match = re.match(r'    (?P<indent> *)(?P<paths>\S+(?: \S+)*?)(?:   *\S.*)?$', line)
        if match:
            del folders[len(match['indent']) // 2 :]
            paths = [''.join(folders) + path for path in match['paths'].split()]
            named.update(paths)
            folders.append(paths[0])
    for path in named:
        assert (TOP / path).is_dir() if path.endswith('/') else (TOP / path).is_file(), path
    for package in ('gluon_aff', 'model_zoo'):
        for path in (TOP / package).glob('*'):
            name = path.relative_to(TOP).as_posix()
            if path.suffix == '.py' and path.name not in ('__init__.py', '__main__.py'):
                assert name in named, f'{name} is not in the map of the README'
            elif path.is_dir() and any(child.name != '__pycache__' for child in path.iterdir()) and name[-2:] != '__':
                assert name + '/' in named, f'{name}/ is not in the map of the README'


def test_the_version_is_the_newest_in_the_changelog():
    headings = re.findall('(?m)^## (.+)$', PAGES['CHANGELOG.md'])
    assert headings[0] == 'Unreleased'
    version, date = headings[1].split(' - ')
    assert version == gluon_aff.__version__ and re.fullmatch(r'\d{4}-\d\d-\d\d', date)


def test_the_table_of_networks_in_the_readme():
    rows = [row for row in cells('README.md', '\n## Which network') if row[0].strip('`') in list_models()]
    assert len(rows) == 15
    for name, _, accuracy, _, parameters, multiply_adds, _, _, weights, _ in rows:
        card = model_info(name.strip('`'))
        assert parameters == f'{card.parameters / 1e6:.2f} M' and multiply_adds == f'{card.multiply_adds / 1e9:.2f} G'
        assert (weights == 'shipped') == ('ours' in accuracy)
        source = accuracy.split()[-1]
        if source != 'ours':
            errors = [result.error for result in REPORTED[card.name].results if source in result.source]
            assert accuracy == f'{100 - errors[0]:.2f} % {source}'
        else:
            assert accuracy.split()[0] in PAGES['docs/weights.md']


WITH_TORCH = importlib.util.find_spec('torch') and importlib.util.find_spec('timm')
# The public interface, of the modules without an underscore that have an __all__.
PUBLIC_MODULES = [
    name
    for name in sorted(MODULES)
    if not any(part.startswith('_') for part in name.split('.'))
    and name != 'gluon_aff.compat'
    and (WITH_TORCH or not name.startswith('model_zoo.plugins.pytorch'))
    and re.search('(?m)^__all__ = ', MODULES[name].read_text(encoding='utf-8'))
]
PUBLIC = {
    f'{module}.{name}': value
    for module in PUBLIC_MODULES
    for name in importlib.import_module(module).__all__
    for value in [getattr(importlib.import_module(module), name)]
    if inspect.getmodule(value) is importlib.import_module(module) and (inspect.isclass(value) or callable(value))
}
# Gluon's, and those that a subclass passes on.
INHERITED = {'prefix', 'params', '**options', '**kwargs'}


# Names that a package's __init__ exports; the others may do with a sentence.
EXPORTED = [
    getattr(importlib.import_module(module), name)
    for module in PUBLIC_MODULES
    if MODULES[module].name == '__init__.py'
    for name in importlib.import_module(module).__all__
]


def test_docstrings_follow_numpydoc_and_document_the_signature():
    validate = pytest.importorskip('numpydoc.validate').validate
    wrong = []
    for name, value in PUBLIC.items():
        text = inspect.getdoc(value) or ''
        for code, message in validate(name)['errors']:
            if code in ('GL03', 'GL07', 'GL08', 'PR02', 'RT05'):
                wrong.append(f'{name}: {message}')
            elif code == 'PR01' and ('Parameters\n---' in text or (inspect.isfunction(value) and value in EXPORTED)):
                missing = set(re.findall(r"'([^']+)'", message)) - INHERITED
                wrong += [f'{name}: {parameter}' for parameter in missing if not re.search(rf'\b{parameter}\b', text)]
    assert not wrong, '\n'.join(wrong)


BLOCKS = {
    name: ''.join(f'{base.__doc__}{inspect.getmodule(base).__doc__}' for base in value.mro() if base.mro()[1:]).lower()
    for name, value in PUBLIC.items()
    if inspect.isclass(value) and issubclass(value, Block)
}


def test_blocks_document_their_shapes_errors_and_source():
    assert len(BLOCKS) > 30
    for name, text in BLOCKS.items():
        if name not in ('gluon_aff.layers.kernels.CompiledBlock', 'gluon_aff.layers.layout.GlobalAvgPool'):  # helpers
            assert '(n, ' in text and 'raise' in text and ('reference' in text or 'paper' in text), name


def test_the_long_tests_exist():
    for name in (TOP / 'tests' / 'long_tests.txt').read_text(encoding='utf-8').split():
        path, _, function = name.partition('::')
        assert f'def {function}(' in (TOP / path).read_text(encoding='utf-8'), name
