"""The whole way on real pictures, in about two minutes on two cores: predict, fine-tune, export, re-import, predict.

    python examples/digits.py

Starts from fashion_mnist_aff_resnet8, whose parameters are shipped, names articles of clothing with it, fine-tunes it
to scikit-learn's 1,797 handwritten digits, of which 360 are held out, exports it as MXNet's symbol and parameters,
loads these without any of this project's code, and names the held-out digits.
"""

import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
from mxnet import gluon
from PIL import Image

from gluon_aff.data import class_names
from gluon_aff.data.cifar import Batches
from gluon_aff.data.image_sets import digits
from gluon_aff.train import Classification, evaluate

TOP = Path(__file__).resolve().parent.parent
RUN = Path('runs/digits')
LEAST_ACCURACY = 0.97


def command(line):
    print(f'\n$ python {line}', flush=True)
    subprocess.run([sys.executable, *shlex.split(line)], cwd=TOP, check=True)


def save_pictures(folder, images, names, count=5):
    (TOP / folder).mkdir(parents=True, exist_ok=True)
    for number, (image, name) in enumerate(zip(images[:count], names)):
        Image.fromarray(image).save(TOP / folder / f'{number}-is-{name.replace("/", "-")}.png')


clothing = np.load(TOP / 'tests/data/fashion_mnist_test.npz')
save_pictures(RUN / 'clothing', clothing['images'], [class_names.FASHION_MNIST[i] for i in clothing['labels'][:5]])
command(f'-m model_zoo predict fashion_mnist_aff_resnet8 {RUN}/clothing --top-k 1')

command(f'train_cifar.py --model fashion_mnist_aff_resnet8 --use-pretrained --save-dir {RUN} --overwrite')
command(f'-m model_zoo export {RUN} -o {RUN}/export')

data = digits()
symbol, parameters = (
    str(TOP / RUN / 'export' / f'fashion_mnist_aff_resnet8-{end}') for end in ('symbol.json', '0000.params')
)
net = gluon.SymbolBlock.imports(symbol, ['data'], parameters)
accuracy = evaluate(net, Batches(*data.test, 60, data.mean, data.std), task=Classification(10))['accuracy']

save_pictures(RUN / 'held-out', data.test[0][..., 0], [str(label) for label in data.test[1]])
command(f'-m model_zoo predict {RUN} {RUN}/held-out --top-k 1')

print(f"""
The exported symbol, re-imported, names {accuracy:.2%} of {len(data.test[1])} held-out digits rightly.
  {RUN}/best.params, model.json, log.txt    the best epoch, what it is, how it got there; curves.png shows it
  {RUN}/export/                             symbol and parameters, for SymbolBlock.imports or any MXNet binding
  {RUN}/clothing/, {RUN}/held-out/  the pictures; try your own:
  .venv/bin/python -m model_zoo predict {RUN} IMAGE""")
if accuracy < LEAST_ACCURACY:
    sys.exit(f'That is below the expected {LEAST_ACCURACY:.0%}.')
