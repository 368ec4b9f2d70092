import platform
import re
import sys
from importlib.util import find_spec
from pathlib import Path

from setuptools import Extension, find_packages, setup

HERE = Path(__file__).resolve().parent


def version():
    # Read, not imported: importing gluon_aff needs MXNet.
    text = (HERE / 'gluon_aff' / '__init__.py').read_text(encoding='utf-8')
    return re.search(r"^__version__ = '([^']+)'", text, re.MULTILINE).group(1)


def compiled():
    # The operators in C++ (gluon_aff/compiled.py), where MXNet's wheel with its headers is installed and for the
    # processors they are written for; optional, as they need a compiler. Without them all is the same, but slower.
    mxnet = find_spec('mxnet')
    if not mxnet or sys.platform != 'linux' or platform.machine() != 'x86_64':
        return []
    folder = Path(mxnet.origin).parent
    flags = ['-std=c++14', '-O3', '-mavx2', '-mfma', '-fopenmp']
    return [Extension('gluon_aff._compiled', ['gluon_aff/compiled.cc'], optional=True, extra_compile_args=flags,
                      extra_link_args=['-fopenmp'],
                      include_dirs=[str(folder / 'include'), str(folder / 'src')])]


# An extra rather than a requirement: the builds for a GPU are other distributions of the same `mxnet` package.
MXNET = {'cpu': ['mxnet==1.9.1'],
         **{cuda: [f'mxnet-{cuda}==1.9.1'] for cuda in ('cu101', 'cu102', 'cu110', 'cu112', 'cu115', 'cu117')}}
COCO = ['pycocotools']
TRAIN = ['scikit-learn', *COCO]
TENSORBOARD = ['tensorboardX']
# MXNet's mx2onnx needs what onnx 1.19 has dropped.
ONNX = ['onnx>=1.14,<1.19', 'onnxruntime']
# gluoncv2 is a witness only: other builds of SE-ResNet and SKNet.
TEST = [*TRAIN, *TENSORBOARD, *ONNX, 'gluoncv2', 'hypothesis', 'packaging', 'pytest', 'pytest-xdist',
        'setuptools>=70.1']

setup(
    name='gluon_aff',
    version=version(),
    description='Attentional Feature Fusion for GluonCV and MXNet: the fusion blocks, and networks by name',
    long_description=(HERE / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    ext_modules=compiled(),
    packages=find_packages(include=['gluon_aff', 'gluon_aff.*', 'model_zoo', 'model_zoo.*']),
    package_data={'model_zoo': ['*.json', 'checkpoints/*'],
                  'model_zoo.report': ['*.css', '*.html', '*.js', '*.png', '*.txt']},
    python_requires='>=3.8,<3.12',
    install_requires=['numpy>=1.17,<1.24', 'gluoncv>=0.10.5,<0.11', 'Pillow>=9.4', 'matplotlib', 'opencv-python',
                      'portalocker', 'requests', 'tqdm'],
    extras_require={**MXNET, 'coco': COCO, 'onnx': ONNX, 'tensorboard': TENSORBOARD, 'train': TRAIN, 'test': TEST,
                    'dev': [*TEST, 'build', 'ruff', 'wheel']},
    entry_points={'console_scripts': ['gluon-aff = model_zoo.__main__:main']},
    classifiers=['Programming Language :: Python :: 3', *(f'Programming Language :: Python :: 3.{minor}'
                                                          for minor in range(8, 12)),
                 'Topic :: Scientific/Engineering :: Artificial Intelligence',
                 'Topic :: Scientific/Engineering :: Image Recognition'],
)
