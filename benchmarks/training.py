"""Images a second of networks with addition, AFF and iAFF: ours, ours of MXNet's operators only, and as they read.

    python benchmarks/training.py [--networks cifar_resnet8_w4 resnet50] [--rounds 7] [--clock cpu]
    python benchmarks/training.py --memory
    python benchmarks/training.py --operators

One network with each fusion takes turns in one process: a step of training (forward, backward, update), then one of
inference, all hybridized (static) and on random images. --memory gives each a process of its own, trains it for three
steps, and reports how far the process's largest resident size lies above that before the network was made.
--operators reports MXNet's profile of a training step, with the bulking of operators off. Where PyTorch is installed
its CIFAR networks take their turns, too. "plain" are the networks without the compiled operators; where those were not
built, they are the same.
"""
import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile

import mxnet as mx
from mxnet import profiler
from obvious import OBVIOUS
from timing import CLOCK_HELP, CLOCKS, interleaved, times_as_fast, training_step

import model_zoo
from gluon_aff.compiled import compiled

try:
    import in_torch
except ModuleNotFoundError:
    in_torch = None

# network: model of the zoo, options, batch size, side
NETWORKS = {'cifar_resnet8_w1': ('cifar_add_resnet8', {'width': 1}, 128, 32),
            'cifar_resnet8_w4': ('cifar_add_resnet8', {'width': 4}, 128, 32),
            'resnet50': ('add_resnet50', {}, 8, 224)}
FUSIONS = {'add': 'add', 'aff': 'aff', 'iaff': 'iaff', 'plain aff': 'aff', 'plain iaff': 'iaff',
           **{f'obvious {name}': make for name, make in OBVIOUS.items()}}

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument('--networks', nargs='+', choices=NETWORKS, default=list(NETWORKS))
parser.add_argument('--fusions', nargs='+', choices=FUSIONS, default=list(FUSIONS))
parser.add_argument('--batch-size', type=int, help='default 128 for CIFAR networks, 8 for resnet50')
parser.add_argument('--rounds', type=int, default=7, help='steps of each network, after two to warm up')
parser.add_argument('--clock', choices=CLOCKS, default='wall', help=CLOCK_HELP)
parser.add_argument('--only', choices=('training', 'inference'), help='time one of the two')
parser.add_argument('--memory', action='store_true', help='report peak memory instead')
parser.add_argument('--operators', action='store_true', help='report the share of time by operator instead')
parser.add_argument('--peak', action='store_true', help=argparse.SUPPRESS)
args = parser.parse_args()


def make(network, fusion, **hybridize):
    """The network, and the images and labels it is timed on."""
    model, options, batch, side = NETWORKS[network]
    batch = args.batch_size or batch
    net = model_zoo.get_model(model, fusion=FUSIONS[fusion], **options)
    net.initialize(mx.init.Xavier())
    net.hybridize(static_alloc=True, static_shape=True, **hybridize)
    x = mx.nd.random.uniform(shape=(batch, 3, side, side))
    with compiled(None if fusion in ('aff', 'iaff') else False):
        net(x)          # traced here
    return net, x, mx.nd.array([i % 10 for i in range(batch)])


def report(network, mode, seconds, images):
    columns = [name for name in ('add', 'obvious') if any(name in fusion for fusion in seconds)]
    print(f'\n{network}, {mode}, batch {images}\n')
    print(f'| fusion | images/s | {" | ".join(f"times {name}" for name in columns)} |')
    print('|---' * (len(columns) + 2) + '|')
    for fusion, each in seconds.items():
        cells = []
        for column in columns:
            than = column if column == 'add' else f'obvious {fusion.split()[-1]}'
            cells.append(f'{times_as_fast(seconds, fusion, than):.2f}' if than in seconds else '')
        print(f'| {fusion} | {images / statistics.median(each):.1f} | {" | ".join(cells)} |', flush=True)


def speed(network):
    made = {fusion: make(network, fusion) for fusion in args.fusions}
    calls = {'training': {fusion: training_step(*each) for fusion, each in made.items()},
             'inference': {fusion: (lambda net=net, data=data: net(data)) for fusion, (net, data, _) in made.items()}}
    _, data, label = next(iter(made.values()))
    if in_torch and network.startswith('cifar'):
        for name, fusion in in_torch.FUSIONS.items():
            if name in args.fusions:
                net = in_torch.cifar_resnet8(fusion, **NETWORKS[network][1])
                calls['training'][f'torch {name}'] = in_torch.training_step(net, data.asnumpy(), label.asnumpy())
                calls['inference'][f'torch {name}'] = in_torch.inference(net, data.asnumpy())
    for mode, steps in calls.items():
        if args.only in (None, mode):
            seconds = interleaved(steps, args.rounds, clock=args.clock)
            report(network, mode, seconds, data.shape[0])


def highest():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def peak(network, fusion):
    """Print the MiB that three training steps take."""
    before = highest()
    step = training_step(*make(network, fusion))
    for _ in range(3):
        step()
        mx.nd.waitall()
    print(json.dumps(highest() - before))


def memory(network):
    print(f'\n{network}, peak memory of training\n\n| fusion | MiB |\n|---|---|')
    for fusion in args.fusions:
        command = [sys.executable, __file__, '--peak', '--networks', network, '--fusions', fusion]
        command += ['--batch-size', str(args.batch_size)] if args.batch_size else []
        out = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=600, check=True)
        print(f'| {fusion} | {json.loads(out.stdout.splitlines()[-1]):.0f} |', flush=True)


def operators(network, steps=3, shown=24):
    times = {}
    for fusion in args.fusions:
        step = training_step(*make(network, fusion, forward_bulk_size=1, backward_bulk_size=1))
        interleaved({fusion: step}, 0)
        with tempfile.TemporaryDirectory() as folder:
            profiler.set_config(profile_symbolic=True, profile_imperative=True, aggregate_stats=True,
                                filename=f'{folder}/profile.json')
            profiler.set_state('run')
            for _ in range(steps):
                step()
            mx.nd.waitall()
            profiler.set_state('stop')
            found = json.loads(profiler.dumps(reset=True, format='json'))['Time']['operator']
        times[fusion] = {name: each['Total'] / steps for name, each in found.items()}
    totals = {fusion: sum(each.values()) for fusion, each in times.items()}
    names = sorted({name for each in times.values() for name in each},
                   key=lambda name: -max(each.get(name, 0) for each in times.values()))
    print(f'\n{network}, % of the operators\' time\n\n| operator | {" | ".join(times)} |')
    print('|---' * (len(times) + 1) + '|')
    for name in names[:shown]:
        shares = (f'{100 * each.get(name, 0) / totals[fusion]:.1f}' for fusion, each in times.items())
        print(f'| {name} | {" | ".join(shares)} |')


for network in args.networks:
    if args.peak:
        peak(network, args.fusions[0])
    else:
        (memory if args.memory else operators if args.operators else speed)(network)
