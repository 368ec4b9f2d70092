"""Time of the fusion blocks beside addition, and beside AFF and iAFF of MXNet's operators only and as they read.

    python benchmarks/fusion.py [--batch-size 32] [--channels 64] [--side 32] [--rounds 9] [--clock cpu]
    python benchmarks/fusion.py --scaling docs/fusion_scaling.png

Every block is hybridized (static) and takes the same two random maps, in turn, in one process. --scaling times
addition, AFF and iAFF over batch sizes, sides and channels, and draws the curves. Where PyTorch is installed its
addition, AFF and iAFF have rows in the table. "plain" are the blocks without the compiled operators.
"""
import argparse
import statistics
from functools import partial

import mxnet as mx
from mxnet import autograd
from obvious import OBVIOUS
from timing import CLOCK_HELP, CLOCKS, interleaved, times_as_fast

from gluon_aff import FUSIONS
from gluon_aff.compiled import compiled

try:
    import in_torch
except ModuleNotFoundError:
    in_torch = None

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument('--batch-size', type=int, default=32)
parser.add_argument('--channels', type=int, default=64)
parser.add_argument('--side', type=int, default=32)
parser.add_argument('--rounds', type=int, default=9, help='calls of each block, after two to warm up')
parser.add_argument('--clock', choices=CLOCKS, default='wall', help=CLOCK_HELP)
parser.add_argument('--scaling', metavar='PNG', help='time the curves instead of the table, and draw them here')
args = parser.parse_args()

# Large maps go with few images and many channels with small maps, as they do in networks.
CURVES = {'batch size': ('batch', (1, 4, 16, 64, 256), {'channels': 64, 'side': 16}),
          'image side': ('side', (32, 64, 128, 224, 448), {'batch': 2, 'channels': 64}),
          'channels': ('channels', (64, 128, 256, 512, 1024, 2048), {'batch': 8, 'side': 8})}


def measure(makers, batch, channels, side):
    """Seconds by name, of the forward pass in inference and of forward and backward in training."""
    x, y = (mx.nd.random.uniform(-1, 1, (batch, channels, side, side)) for _ in range(2))
    for array in (x, y):
        array.attach_grad()
    blocks = {}
    for name, make in makers.items():
        blocks[name] = make(channels)
        blocks[name].initialize()
        blocks[name].hybridize(static_alloc=True, static_shape=True)
        with compiled(False if name.startswith('plain') else None):
            blocks[name](x, y)      # traced here

    def infer(block):
        block(x, y)

    def train(block):
        with autograd.record():
            z = block(x, y)
        z.backward()

    calls = [{name: partial(call, block) for name, block in blocks.items()} for call in (infer, train)]
    if in_torch and 'sk' in makers:
        for name, make in in_torch.FUSIONS.items():
            for each, call in zip(calls, (in_torch.inference, in_torch.gradients)):
                each[f'torch {name}'] = call(make(channels), x.asnumpy(), y.asnumpy())
    return [interleaved(each, args.rounds, clock=args.clock) for each in calls]


def beside(names):
    """The fusions of these names, and AFF and iAFF in their other forms."""
    return {**{name: FUSIONS[name] for name in names}, 'plain aff': FUSIONS['aff'], 'plain iaff': FUSIONS['iaff'],
            **{f'obvious {name}': make for name, make in OBVIOUS.items()}}


def table():
    makers = beside(FUSIONS)
    forward, both = measure(makers, args.batch_size, args.channels, args.side)
    print('| fusion | forward, ms | of addition | forward and backward, ms | of addition | times the obvious formula |')
    print('|---|---|---|---|---|---|')
    for name in both:
        kind = name.replace('plain ', '')
        cells = [cell for seconds in (forward, both) for cell in
                 (f'{1e3 * statistics.median(seconds[name]):.2f}', f'{times_as_fast(seconds, "add", name):.1f}')]
        last = f'{times_as_fast(both, name, f"obvious {kind}"):.2f}' if kind in OBVIOUS else ''
        print(f'| {name} | {" | ".join(cells)} | {last} |')


def scaling(png):
    import matplotlib
    matplotlib.use('Agg')
    from matplotlib import pyplot
    makers = beside(('add', 'aff', 'iaff'))
    figure, axes = pyplot.subplots(1, len(CURVES), figsize=(14, 4.5))
    for axis, (title, (key, points, fixed)) in zip(axes, CURVES.items()):
        settings = ', '.join(f'{name} {value}' for name, value in fixed.items())
        print(f'\nForward and backward, ms, by {title} ({settings})\n\n| {title} | {" | ".join(makers)} |')
        print('|---' * (len(makers) + 1) + '|')
        medians = {name: [] for name in makers}
        for point in points:
            _, both = measure(makers, **{key: point}, **fixed)
            for name, seconds in both.items():
                medians[name].append(1e3 * statistics.median(seconds))
            print(f'| {point} | {" | ".join(f"{each[-1]:.1f}" for each in medians.values())} |', flush=True)
        for name, each in medians.items():
            style = {'obvious': 'o:', 'plain': 'o--'}.get(name.split()[0], 'o-')
            axis.loglog(points, each, style, label=name)
        axis.set(xlabel=title, ylabel='forward and backward, ms', title=settings)
        axis.set_xticks(points, labels=points, minor=False)
        axis.minorticks_off()
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(png, dpi=100)


scaling(args.scaling) if args.scaling else table()
