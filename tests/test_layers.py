"""Imports go one way, from the scripts to model_zoo to gluon_aff, and none go in circles."""

import ast
from importlib.util import resolve_name
from pathlib import Path

TOP = Path(__file__).parents[1]
MODULES = {
    '.'.join(path.relative_to(TOP).with_suffix('').parts).replace('.__init__', ''): path
    for package in ('gluon_aff', 'model_zoo')
    for path in (TOP / package).rglob('*.py')
}


def imported(name, statements):
    """The modules that statements of a module import, by their full names."""
    package = name if MODULES[name].name == '__init__.py' else name.rpartition('.')[0]
    for node in statements:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = resolve_name('.' * node.level + (node.module or ''), package)
            names = [f'{source}.{alias.name}' for alias in node.names]
            yield from (full if full in MODULES else source for full in names)


def test_no_package_imports_what_is_above_it():
    scripts = {'benchmarks', 'examples', *(path.stem for path in TOP.glob('train_*.py'))}
    for name, path in MODULES.items():
        above = scripts | {'model_zoo'} if name.startswith('gluon_aff') else scripts
        found = {module.partition('.')[0] for module in imported(name, ast.walk(ast.parse(path.read_bytes())))}
        assert not found & above, path


def test_modules_do_not_import_each_other_in_circles():
    waiting = {name: set(imported(name, ast.parse(path.read_bytes()).body)) for name, path in MODULES.items()}
    while waiting:
        ready = [name for name, modules in waiting.items() if not modules & waiting.keys()]
        assert ready, f'circle among {sorted(waiting)}'
        for name in ready:
            del waiting[name]
