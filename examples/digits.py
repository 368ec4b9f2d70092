"""The whole way on real pictures, in about a minute on two cores: train, export, re-import, predict.

    python examples/digits.py

Trains cifar_aff_resnet8 at width 1 on scikit-learn's 1,797 handwritten digits, of which 360 are held out, exports it as
MXNet's symbol and parameters, loads these without any of this project's code, and classifies the held-out digits.
"""
import shlex
import subprocess
import sys
from pathlib import Path

import mxnet as mx
from mxnet import gluon
from PIL import Image

from gluon_aff.data.cifar import Batches, digits
from gluon_aff.train import evaluate

TOP = Path(__file__).resolve().parent.parent
RUN = Path('runs/digits')
WANTED = 0.97


def command(line):
    print(f'\n$ python {line}', flush=True)
    subprocess.run([sys.executable, *shlex.split(line)], cwd=TOP, check=True)


command(f'train_cifar.py --dataset digits --model cifar_aff_resnet8 --width 1 --save-dir {RUN}')
command(f'-m model_zoo export {RUN} -o {RUN}/export')

data = digits()
net = gluon.SymbolBlock.imports(str(TOP / RUN / 'export/cifar_aff_resnet8-symbol.json'), ['data'],
                                str(TOP / RUN / 'export/cifar_aff_resnet8-0000.params'))
held_out = Batches(*data.test, 60, data.mean, data.std)
accuracy = evaluate(net, held_out, [mx.cpu()])

pictures = TOP / RUN / 'held-out'
pictures.mkdir(exist_ok=True)
for number in range(5):
    image, label = data.test[0][number, :, :, 0], data.test[1][number]
    Image.fromarray(image).save(pictures / f'{number}-is-{label}.png')
command(f'-m model_zoo predict {RUN} {RUN}/held-out --top-k 1')

print(f'''
The exported symbol, re-imported, names {accuracy:.2%} of {len(data.test[1])} held-out digits rightly.
  {RUN}/best.params, model.json, log.txt            the best epoch, what it is, how it got there
  {RUN}/export/cifar_aff_resnet8-symbol.json, -0000.params   for SymbolBlock.imports or any MXNet binding
  {RUN}/held-out/*.png                              five of the pictures; try your own:
  .venv/bin/python -m model_zoo predict {RUN} IMAGE''')
if accuracy < WANTED:
    sys.exit(f'That is below the {WANTED:.0%} that this demonstration stands for.')
