"""Where the forward pass of networks spends its time, by operator, from MXNet's profiler.

    OMP_NUM_THREADS=1 python benchmarks/profile_ops.py [--networks resnet101 se_resnet101 ...] [--rounds 5]

On random images. The time is the processor time of a forward pass of the hybridized (static) network, the median of
the rounds. The shares are of the network called eagerly, as a hybridized one's profile has many operators in one row:
of each operator the least total of a round counts, which other processes disturb least.
"""

import argparse
import json
import statistics
import tempfile
import time

import mxnet as mx
from mxnet import profiler

from model_zoo import get_model, model_info

COMPARATORS = [
    'resnet101',
    'se_resnet101',
    'eca_resnet101',
    'aa_resnet101',
    'ge_theta_plus_resnet101',
    'lip_resnet101',
    'sk_resnet50',
    'aff_resnet50',
    'iaff_resnet50',
]

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument('--networks', nargs='+', default=COMPARATORS, metavar='NAME')
parser.add_argument('--batch-size', type=int, default=1)
parser.add_argument('--rounds', type=int, default=5, help='forward passes of each, after two to warm up')
parser.add_argument('--top', type=int, default=6, help='operators to name')
args = parser.parse_args()


def profile(call):
    """Milliseconds by operator of one call."""
    with tempfile.TemporaryDirectory() as folder:
        profiler.set_config(profile_imperative=True, aggregate_stats=True, filename=f'{folder}/profile.json')
        profiler.set_state('run')
        call()
        profiler.set_state('stop')
        operators = json.loads(profiler.dumps(reset=True, format='json'))['Time']['operator']
    return {name: row['Total'] for name, row in operators.items()}


def measure(name):
    """(seconds of processor time, {operator: milliseconds}) of a forward pass."""
    net = get_model(name)
    net.initialize(mx.init.Xavier())
    net.hybridize(static_alloc=True, static_shape=True)
    x = mx.nd.random.uniform(shape=(args.batch_size, *model_info(name).spec.input_size))

    def call():
        net(x)
        mx.nd.waitall()

    for _ in range(2):
        call()
    seconds, operators = [], {}
    for _ in range(args.rounds):
        start = time.process_time()
        call()
        seconds.append(time.process_time() - start)
    net.hybridize(False)
    call()
    for _ in range(args.rounds):
        for operator, milliseconds in profile(call).items():
            operators[operator] = min(milliseconds, operators.get(operator, milliseconds))
    return statistics.median(seconds), operators


print(f'| network, batch {args.batch_size} | processor ms | share of the operators |\n|---|---|---|')
for network in args.networks:
    spent, operators = measure(network)
    whole = sum(operators.values())
    shares = sorted(((100 * value / whole, operator) for operator, value in operators.items()), reverse=True)
    largest = ', '.join(f'{operator} {share:.1f} %' for share, operator in shares[: args.top])
    print(f'| {network} | {1e3 * spent:.0f} | {largest} |', flush=True)
