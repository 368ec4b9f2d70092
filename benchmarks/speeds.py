"""Images a second of the networks with a known result: writes model_zoo/speeds.json, which listings read.

    python benchmarks/speeds.py [NAME...] [--rounds 5] [--clock cpu]

One thread, float32, hybridized, random parameters; batches of 8, or of 128 where an image is 32x32. Names on the
command line replace the entries of these networks only.
"""

import argparse
import json
import os
import statistics
import sys
from pathlib import Path

if os.environ.get('OMP_NUM_THREADS') != '1':
    # MXNet reads it once, when it is imported.
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, 'OMP_NUM_THREADS': '1'})

import mxnet as mx
from timing import CLOCK_HELP, CLOCKS, interleaved, processor

from model_zoo import get_model, model_info

FILE = Path(__file__).parents[1] / 'model_zoo' / 'speeds.json'


def batch_of(name):
    """Images in a batch of a network."""
    return 128 if model_info(name).spec.input_size[1] <= 32 else 8


def forward(name):
    """A function that passes a batch through a network."""
    net = get_model(name)
    net.initialize(mx.init.Xavier())
    net.hybridize()
    data = mx.nd.random.uniform(-1, 1, (batch_of(name), *model_info(name).spec.input_size))
    return lambda: net(data).wait_to_read()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('names', nargs='*', metavar='NAME')
    parser.add_argument('--rounds', type=int, default=5, help='calls of each network, after two to warm up')
    parser.add_argument('--clock', choices=CLOCKS, default='cpu', help=CLOCK_HELP)
    args = parser.parse_args()
    names = args.names
    if not names:
        from model_zoo.summary import summaries

        names = dict.fromkeys(row.name for row in summaries() if row.accuracy is not None)
    speeds = json.loads(FILE.read_text(encoding='utf-8'))['images_per_second'] if args.names and FILE.is_file() else {}
    how = (
        f'benchmarks/speeds.py --clock {args.clock} on {processor()}: one thread, MXNet {mx.__version__}, float32, '
        f'hybridized, batches of 8 (of 128 at 32x32), median of {args.rounds} runs'
    )
    for name in names:
        seconds = interleaved({name: forward(name)}, args.rounds, clock=args.clock)[name]
        speeds[name] = round(batch_of(name) / statistics.median(seconds), 2)
        FILE.write_text(json.dumps({'how': how, 'images_per_second': dict(sorted(speeds.items()))}, indent=1) + '\n')


if __name__ == '__main__':
    main()
