"""Images a second and peak memory of networks with addition, AFF and iAFF: ours, in their other forms, and PyTorch's.

    python benchmarks/training.py [--networks cifar_resnet8_w4 resnet50] [--rounds 7] [--clock cpu]
    python benchmarks/training.py --networks cifar_resnet8_w4 --only training --no-memory --rounds 9 \\
        --fusions add aff iaff 'bfloat16 add' 'bfloat16 aff' 'bfloat16 iaff'
    python benchmarks/training.py --operators

One network with each fusion takes turns in one process: a step of training (forward, backward, update), then one of
inference, all hybridized (static) and on random images. "bfloat16" are those that `--dtype bfloat16` trains, and by
default only where the processor has bfloat16, "uncompiled" the networks without the compiled operators (where those
were not built, they are the same), "naive" the formulas in Gluon's layers. Where PyTorch is installed --fusions knows
its networks, too, such as 'torch aff': also channels last, in bfloat16 by autocast, and by torch.compile, or several of
these ('torch compiled channels last bfloat16 aff'). Give them a run of their own: the threads of two libraries in one
process hinder each other. The peak memory is that of three steps in a process of its own, above what it took before the
network was made.
--operators reports MXNet's profile of a step of training instead, with the bulking of operators off.
"""

import argparse
import json
import statistics
import tempfile
from itertools import combinations

import mxnet as mx
from mxnet import profiler
from naive import NAIVE
from timing import CLOCK_HELP, CLOCKS, in_a_process, interleaved, memory_of, times_as_fast, training_step

import gluon_aff
import model_zoo
from gluon_aff.layers.kernels import compiled
from gluon_aff.train.mixed_precision import bfloat16_network, check_bfloat16

try:
    import in_torch
except ModuleNotFoundError:
    in_torch = None

NETWORKS = {
    'cifar_resnet8_w1': ('cifar_add_resnet8', {'width': 1}, 128, 32),
    'cifar_resnet8_w4': ('cifar_add_resnet8', {'width': 4}, 128, 32),
    'resnet50': ('add_resnet50', {}, 8, 224),
}
FORMS = {
    'add': 'add',
    'aff': 'aff',
    'iaff': 'iaff',
    **{f'bfloat16 {name}': name for name in ('add', 'aff', 'iaff')},
    'uncompiled aff': 'aff',
    'uncompiled iaff': 'iaff',
    **{f'naive {name}': make for name, make in NAIVE.items()},
}
FUSIONS = {**{name: name for name in gluon_aff.FUSIONS}, **FORMS}
DEFAULTS = list(FORMS)
try:
    check_bfloat16([mx.cpu()])
except ValueError:
    DEFAULTS = [name for name in FORMS if not name.startswith('bfloat16')]
TORCH_OPTIONS = [
    options for count in range(4) for options in combinations(('compiled', 'channels_last', 'bfloat16'), count)
]
TORCH = (
    {
        ' '.join(['torch', *options, name]).replace('_', ' '): (fusion, options)
        for options in TORCH_OPTIONS
        for name, fusion in in_torch.FUSIONS.items()
    }
    if in_torch
    else {}
)
MODES = ('training', 'inference')

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument('--networks', nargs='+', choices=NETWORKS, default=list(NETWORKS))
parser.add_argument(
    '--fusions', nargs='+', choices=[*FUSIONS, *TORCH], default=DEFAULTS, help=f'default: {", ".join(DEFAULTS)}'
)
parser.add_argument('--batch-size', type=int, help='default 128 for CIFAR networks, 8 for resnet50')
parser.add_argument('--rounds', type=int, default=7, help='steps of each network, after two to warm up')
parser.add_argument('--clock', choices=CLOCKS, default='wall', help=CLOCK_HELP)
parser.add_argument('--only', choices=MODES, help='time one of the two')
parser.add_argument('--no-memory', action='store_true', help='leave the peak memory out')
parser.add_argument('--operators', action='store_true', help='report the share of time by operator instead')
parser.add_argument('--memory-of', choices=MODES, help=argparse.SUPPRESS)  # what a process of its own is told
args = parser.parse_args()


def images(network):
    """Random images (N, 3, H, W) and their labels."""
    _, _, batch, side = NETWORKS[network]
    batch = args.batch_size or batch
    return mx.nd.random.uniform(shape=(batch, 3, side, side)), mx.nd.array([i % 10 for i in range(batch)])


def make(network, fusion, x, **hybridize):
    model, options, _, _ = NETWORKS[network]
    net = model_zoo.get_model(model, fusion=FUSIONS[fusion], **options)
    net.initialize(mx.init.Xavier())
    net.hybridize(static_alloc=True, static_shape=True, **hybridize)
    if fusion.startswith('bfloat16'):
        net(x)  # takes its widths from x
        net = bfloat16_network(net)
        net.hybridize(static_alloc=True, static_shape=True, **hybridize)
    is_compiled = fusion in gluon_aff.FUSIONS or fusion.startswith('bfloat16')
    with compiled(None if is_compiled else False):
        net(x)  # traced here
    return net


def calls(network, fusion, x, label):
    """A step of training and a call in inference, by mode."""
    if fusion in TORCH:
        block, options = TORCH[fusion]
        options = dict.fromkeys(options, True)
        net = (in_torch.cifar_resnet8 if network.startswith('cifar') else in_torch.resnet50)(
            block, **NETWORKS[network][1]
        )
        return {
            'training': in_torch.training_step(net, x.asnumpy(), label.asnumpy(), **options),
            'inference': in_torch.inference(net, x.asnumpy(), **options),
        }
    net = make(network, fusion, x)
    return {'training': training_step(net, x, label), 'inference': lambda: net(x)}


def memory(network, fusion, mode):
    return in_a_process(
        __file__,
        '--networks',
        network,
        '--fusions',
        fusion,
        '--memory-of',
        mode,
        *(['--batch-size', args.batch_size] if args.batch_size else []),
    )


def report(network, mode, seconds, batch):
    columns = [name for name in ('add', 'naive') if any(name in fusion for fusion in seconds)]
    columns += ['float32'] * any('bfloat16' in fusion for fusion in seconds)
    print(f'\n{network}, {mode}, batch {batch}\n')
    print(f'| fusion | images/s | {"".join(f"times {name} | " for name in columns)}peak MiB |')
    print('|---' * (len(columns) + 3) + '|')
    for fusion, times in seconds.items():
        cells = [f'{batch / statistics.median(times):.1f}']
        for column in columns:
            than = {
                'add': 'add',
                'naive': f'naive {fusion.split()[-1]}',
                'float32': fusion.replace('bfloat16 ', '') if 'bfloat16' in fusion else '',
            }[column]
            cells.append(f'{times_as_fast(seconds, fusion, than):.2f}' if than in seconds else '')
        cells.append('' if args.no_memory else f'{memory(network, fusion, mode):.0f}')
        print(f'| {fusion} | {" | ".join(cells)} |', flush=True)


def speed(network):
    x, label = images(network)
    steps = {fusion: calls(network, fusion, x, label) for fusion in args.fusions}
    for mode in MODES:
        if args.only in (None, mode):
            seconds = interleaved(
                {fusion: forms[mode] for fusion, forms in steps.items()}, args.rounds, clock=args.clock
            )
            report(network, mode, seconds, len(x))


def operators(network, steps=3, shown=24):
    times, (x, label) = {}, images(network)
    for fusion in (fusion for fusion in args.fusions if fusion in FUSIONS):
        net = make(network, fusion, x, forward_bulk_size=1, backward_bulk_size=1)
        step = training_step(net, x, label)
        interleaved({fusion: step}, 0)
        with tempfile.TemporaryDirectory() as folder:
            profiler.set_config(
                profile_symbolic=True, profile_imperative=True, aggregate_stats=True, filename=f'{folder}/profile.json'
            )
            profiler.set_state('run')
            for _ in range(steps):
                step()
            mx.nd.waitall()
            profiler.set_state('stop')
            by_operator = json.loads(profiler.dumps(reset=True, format='json'))['Time']['operator']
        times[fusion] = {name: spent['Total'] / steps for name, spent in by_operator.items()}
    totals = {fusion: sum(spent.values()) for fusion, spent in times.items()}
    names = sorted(
        {name for spent in times.values() for name in spent},
        key=lambda name: -max(spent.get(name, 0) for spent in times.values()),
    )
    print(f"\n{network}, % of the operators' time\n\n| operator | {' | '.join(times)} |")
    print('|---' * (len(times) + 1) + '|')
    print(f'| all, ms | {" | ".join(f"{total:.1f}" for total in totals.values())} |')
    for name in names[:shown]:
        shares = (f'{100 * spent.get(name, 0) / totals[fusion]:.1f}' for fusion, spent in times.items())
        print(f'| {name} | {" | ".join(shares)} |')


def own_memory(network, fusion):
    x, label = images(network)
    print(memory_of(lambda: calls(network, fusion, x, label)[args.memory_of]))


for network in args.networks:
    if args.memory_of:
        own_memory(network, args.fusions[0])
    else:
        (operators if args.operators else speed)(network)
