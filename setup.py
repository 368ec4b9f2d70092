"""What pyproject.toml cannot say: the C++ operators, the .pth file, and the wheel's tag."""

import platform
import sys
import tempfile
import zipfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.command.editable_wheel import editable_wheel

OPERATORS = 'gluon_aff.layers.libgluon_aff'

# Python runs it at every start, so that mxnet and gluoncv can be imported before gluon_aff where Python or NumPy is too
# new for them. It loads one file, as importing the package would import MXNet.
START = """try:
 from importlib.util import find_spec, module_from_spec, spec_from_file_location
 folder = find_spec('gluon_aff').submodule_search_locations[0]
 spec = spec_from_file_location('_gluon_aff_compat', folder + '/compat.py')
 sys.modules[spec.name] = module_from_spec(spec)
 spec.loader.exec_module(sys.modules[spec.name])
 sys.modules[spec.name].enable_at_start()
except (AttributeError, ImportError, OSError, TypeError):
 pass
"""
PTH = 'gluon_aff_compat.pth', f'import sys; exec({START!r})\n'


class BuildPy(build_py):
    def run(self):
        super().run()
        if not self.editable_mode:
            Path(self.build_lib, PTH[0]).write_text(PTH[1], encoding='ascii')

    def get_outputs(self, include_bytecode=1):
        return [*super().get_outputs(include_bytecode), str(Path(self.build_lib, PTH[0]))]


class EditableWheel(editable_wheel):
    def run(self):
        super().run()
        (wheel,) = Path(self.dist_dir).glob('*.whl')
        with tempfile.TemporaryDirectory() as folder:
            with zipfile.ZipFile(wheel) as file:
                file.extractall(folder)
            Path(folder, PTH[0]).write_text(PTH[1], encoding='ascii')
            from wheel.wheelfile import WheelFile

            with WheelFile(wheel, 'w') as file:  # which writes the list of files anew
                file.write_files(folder)


class BuildExt(build_ext):
    """Builds a library that MXNet loads, not a Python module, or nothing where that fails."""

    def get_ext_filename(self, fullname):
        return fullname.replace('.', '/') + '.so'

    def build_extension(self, ext):
        # What an earlier build left must not be shipped if this one fails.
        for path in {Path(self.get_ext_fullpath(ext.name)), Path(self.build_lib, self.get_ext_filename(ext.name))}:
            path.unlink(missing_ok=True)
        self.force = True
        try:
            super().build_extension(ext)
        except Exception as error:
            print(
                f'gluon_aff: the C++ operators are left out, as they could not be compiled ({error}); '
                'networks give the same results without them, but slower.',
                file=sys.stderr,
            )

    def copy_extensions_to_source(self):
        self.extensions = [
            ext for ext in self.extensions if Path(self.build_lib, self.get_ext_filename(ext.name)).exists()
        ]
        super().copy_extensions_to_source()

    def get_outputs(self):
        return [path for path in super().get_outputs() if Path(path).exists()]


class Wheel(bdist_wheel):
    def get_tag(self):
        # The library does not depend on Python's version.
        return ('py3', 'none', super().get_tag()[2])


def operators():
    if sys.platform != 'linux' or platform.machine() != 'x86_64':
        return []
    third_party = 'gluon_aff/third_party/mxnet'
    return [
        Extension(
            OPERATORS,
            ['gluon_aff/layers/kernels.cc'],
            optional=True,
            language='c++',
            include_dirs=[f'{third_party}/include', f'{third_party}/src'],
            extra_compile_args=['-std=c++14', '-O3', '-g0', '-mavx2', '-mfma', '-fopenmp'],
            extra_link_args=['-fopenmp', '-s'],
        )
    ]


setup(
    license='Apache-2.0',
    cmdclass={'bdist_wheel': Wheel, 'build_ext': BuildExt, 'build_py': BuildPy, 'editable_wheel': EditableWheel},
    ext_modules=operators(),
)
