"""Time of the fusion blocks beside addition, and of AFF and iAFF without compiled operators and written naively.

    python benchmarks/fusion_blocks.py [--batch-size 32] [--channels 64] [--side 32] [--rounds 9] [--clock cpu]
    python benchmarks/fusion_blocks.py --scaling docs/fusion_scaling.png

Every block is hybridized (static) and takes the same two random maps, in turn, in one process. --scaling times
addition, AFF and iAFF over batch sizes, sides and channels, and draws the curves. Where PyTorch is installed its
addition, AFF and iAFF have rows in the table. "uncompiled" are the blocks without the compiled operators, "naive" the
formulas in Gluon's layers. The peak memory is that of three calls forward and backward in a process of its own, above
what the process took before the block was made.
"""

import argparse
import statistics

import mxnet as mx
from mxnet import autograd
from naive import NAIVE
from timing import CLOCK_HELP, CLOCKS, in_a_process, interleaved, memory_of, times_as_fast

from gluon_aff import FUSIONS
from gluon_aff.layers.kernels import compiled

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
parser.add_argument('--no-memory', action='store_true', help='leave the peak memory out')
parser.add_argument('--memory-of', metavar='FUSION', help=argparse.SUPPRESS)  # what a process of its own is told
args = parser.parse_args()

# Large maps go with few images and many channels with small maps, as they do in networks.
CURVES = {
    'batch size': ('batch', (1, 4, 16, 64, 256), {'channels': 64, 'side': 16}),
    'image side': ('side', (32, 64, 128, 224, 448), {'batch': 2, 'channels': 64}),
    'channels': ('channels', (64, 128, 256, 512, 1024, 2048), {'batch': 8, 'side': 8}),
}


def random_maps(batch, channels, side):
    return [mx.nd.random.uniform(-1, 1, (batch, channels, side, side)) for _ in range(2)]


def calls(name, make, x, y):
    """The block's forward pass in inference, and its forward and backward passes in training."""
    block = make(x.shape[1])
    if name.startswith('torch'):
        return tuple(call(block, x.asnumpy(), y.asnumpy()) for call in (in_torch.inference, in_torch.gradients))
    for array in (x, y):
        array.attach_grad()
    block.initialize()
    block.hybridize(static_alloc=True, static_shape=True)
    with compiled(False if name.startswith('uncompiled') else None):
        block(x, y)  # traced here

    def train():
        with autograd.record():
            z = block(x, y)
        z.backward()

    return lambda: block(x, y), train


def measure(makers, batch, channels, side):
    """Seconds by name, of the forward pass in inference and of forward and backward in training."""
    x, y = random_maps(batch, channels, side)
    pairs = {name: calls(name, make, x, y) for name, make in makers.items()}
    return [
        interleaved({name: pair[i] for name, pair in pairs.items()}, args.rounds, clock=args.clock) for i in range(2)
    ]


def beside(names):
    """The fusions of these names, and AFF and iAFF in their other forms."""
    return {
        **{name: FUSIONS[name] for name in names},
        'uncompiled aff': FUSIONS['aff'],
        'uncompiled iaff': FUSIONS['iaff'],
        **{f'naive {name}': make for name, make in NAIVE.items()},
    }


def all_makers():
    torch = in_torch.FUSIONS if in_torch else {}
    return {**beside(FUSIONS), **{f'torch {name}': make for name, make in torch.items()}}


def memory(name):
    if args.no_memory:
        return ''
    sizes = '--batch-size', args.batch_size, '--channels', args.channels, '--side', args.side
    return format(in_a_process(__file__, *sizes, '--memory-of', name), '.0f')


def own_memory(name):
    x, y = random_maps(args.batch_size, args.channels, args.side)
    print(memory_of(lambda: calls(name, all_makers()[name], x, y)[1]))


def table():
    forward, both = measure(all_makers(), args.batch_size, args.channels, args.side)
    columns = 'ms', 'images/s', 'of addition'
    heads = [f'{passes}: {column}' for passes in ('forward', 'both passes') for column in columns]
    print(f'| fusion | {" | ".join(heads)} | times the naive formula | peak MiB |')
    print('|---' * (len(heads) + 3) + '|')
    for name in both:
        kind, cells = name.split()[-1], []
        for seconds in (forward, both):
            middle = statistics.median(seconds[name])
            cells += [
                f'{1e3 * middle:.2f}',
                f'{args.batch_size / middle:.0f}',
                f'{times_as_fast(seconds, "add", name):.1f}',
            ]
        cells.append(f'{times_as_fast(both, name, f"naive {kind}"):.2f}' if kind in NAIVE else '')
        print(f'| {name} | {" | ".join(cells)} | {memory(name)} |', flush=True)


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
            print(f'| {point} | {" | ".join(f"{times[-1]:.1f}" for times in medians.values())} |', flush=True)
        for name, times in medians.items():
            style = {'naive': 'o:', 'uncompiled': 'o--'}.get(name.split()[0], 'o-')
            axis.loglog(points, times, style, label=name)
        axis.set(xlabel=title, ylabel='forward and backward, ms', title=settings)
        axis.set_xticks(points, labels=points, minor=False)
        axis.minorticks_off()
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(png, dpi=100)


own_memory(args.memory_of) if args.memory_of else scaling(args.scaling) if args.scaling else table()
