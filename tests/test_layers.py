"""Imports go down only: from the scripts to model_zoo to gluon_aff, and within the packages in the order below."""

import ast
from importlib.util import resolve_name
from pathlib import Path

TOP = Path(__file__).parents[1]
MODULES = {
    '.'.join(path.relative_to(TOP).with_suffix('').parts).replace('.__init__', ''): path
    for package in ('gluon_aff', 'model_zoo')
    for path in (TOP / package).rglob('*.py')
}
# From the lowest to the highest. Those on one line do not import each other; modules that are not listed, such as
# gluon_aff.files, are below all of them.
ORDER = [
    ['gluon_aff.layers'],
    ['gluon_aff.inspect'],
    ['gluon_aff.data'],
    ['gluon_aff.spec'],
    ['gluon_aff.train', 'gluon_aff.deploy'],
    ['model_zoo.weights'],
    ['model_zoo.hosts'],
    ['model_zoo.networks'],
    ['model_zoo.registry'],
    ['model_zoo.summary'],
    ['model_zoo.loading'],
    [
        'model_zoo.plugins',
        'model_zoo.pictures',
        'model_zoo.from_flags',
        'model_zoo.evaluate_by_name',
        'model_zoo.transforms',
    ],
    ['model_zoo.cli'],
    ['model_zoo.__main__'],
]
# The facades, and the list of old names, import from everywhere.
FACADES = {'gluon_aff', 'gluon_aff._deprecated', 'model_zoo'}


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


def level(name):
    """The room of a module, and its place in the order."""
    for number, rooms in enumerate(ORDER, 1):
        for room in rooms:
            if name == room or name.startswith(room + '.'):
                return room, number
    return name, 0


def test_no_package_imports_what_is_above_it():
    scripts = {'benchmarks', 'examples', *(path.stem for path in TOP.glob('train_*.py'))}
    for name, path in MODULES.items():
        above = scripts | {'model_zoo'} if name.startswith('gluon_aff') else scripts
        packages = {module.partition('.')[0] for module in imported(name, ast.walk(ast.parse(path.read_bytes())))}
        assert not packages & above, path


def test_within_the_packages_imports_go_down():
    wrong = []
    for name, path in MODULES.items():
        room, height = level(name)
        for module in set(imported(name, ast.walk(ast.parse(path.read_bytes())))) & MODULES.keys():
            other, other_height = level(module)
            above = other_height > height or (other_height == height > 0 and other != room)
            if name not in FACADES and above and module.partition('.')[0] == name.partition('.')[0]:
                wrong.append(f'{name} imports {module}')
    assert not wrong, '\n'.join(sorted(wrong))


def test_the_order_names_what_exists():
    assert all(room in MODULES for rooms in ORDER for room in rooms)


def test_modules_do_not_import_each_other_in_circles():
    waiting = {name: set(imported(name, ast.parse(path.read_bytes()).body)) for name, path in MODULES.items()}
    while waiting:
        ready = [name for name, modules in waiting.items() if not modules & waiting.keys()]
        assert ready, f'circle among {sorted(waiting)}'
        for name in ready:
            del waiting[name]
