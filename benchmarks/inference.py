"""Images a second of a network in every form that it can be deployed in, side by side.

    python benchmarks/inference.py [--network iaff_resnet50] [--threads 2] [--batch-sizes 1 8] [--rounds 9]
    python benchmarks/inference.py --threads 1 --clock cpu      on a machine that others use as well
    python benchmarks/inference.py --profile            where ONNX Runtime's time goes, float32 and INT8

All forms take turns in one process, with random parameters, whose values no speed depends on; INT8 is calibrated on
random images. The peak memory is of a process for each form. The share of the peak is of the largest float32 matrix
product that MXNet's BLAS reaches here, in multiply-adds a second; INT8 may exceed it. PyTorch is not among the forms:
it has no reader for any of the exported files. A form that cannot run the network has a row that says why. Forms of
MXNet's operators only are the ones that exports hold; those with compiled gates have gluon_aff's operators where they
were built.
"""

import argparse
import collections
import json
import logging
import os
import statistics
import sys
import tempfile

import cv2
import mxnet as mx
import numpy as np
import onnxruntime
from timing import CLOCK_HELP, CLOCKS, in_a_process, interleaved, peak_memory, times_as_fast

from gluon_aff import complexity
from gluon_aff.deploy import export_onnx, fold_batchnorm, quantize_onnx
from gluon_aff.deploy.onnx_files import session
from gluon_aff.layers.kernels import compiled
from model_zoo import get_model, model_info

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument('--network', default='iaff_resnet50')
parser.add_argument('--input-size', type=int, help="pixels of a side; default: the network's own")
parser.add_argument('--batch-sizes', type=int, nargs='+', default=[1, 8])
parser.add_argument(
    '--threads',
    type=int,
    default=int(os.environ.get('OMP_NUM_THREADS', 2)),
    help='of all forms; default: OMP_NUM_THREADS, or 2',
)
parser.add_argument('--rounds', type=int, default=9, help='calls of each form, after two to warm up')
parser.add_argument('--clock', choices=CLOCKS, default='wall', help=CLOCK_HELP)
parser.add_argument('--no-memory', action='store_true', help='leave the peak memory out')
parser.add_argument('--profile', action='store_true', help='time by operator in ONNX Runtime instead of the table')
parser.add_argument('--memory-of', metavar='FORM', help=argparse.SUPPRESS)  # what a process of its own is told
args = parser.parse_args()
if args.threads < 1:
    parser.error('--threads must be at least 1.')
if os.environ.get('OMP_NUM_THREADS') != str(args.threads):
    # MXNet reads it once, when it is imported.
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, 'OMP_NUM_THREADS': str(args.threads)})

try:
    side = args.input_size or model_info(args.network).spec.input_size[1]
    # Some networks have parameters for maps of one size.
    OPTIONS = {'input_size': side} if get_model(args.network).input_size else {}
except ValueError as error:
    parser.error(str(error))
SIZE = (3, side, side)
THAN = 'hybridized'


def network():
    mx.random.seed(0)
    net = get_model(args.network, **OPTIONS)
    net.initialize(mx.init.Xavier())
    return net


def mxnet_form(net, x, prepare):
    prepare(net)
    net(x).wait_to_read()  # traced here
    return lambda: net(x).wait_to_read()


def onnx_form(net, x, folder, int8):
    path = os.path.join(folder, 'net.onnx')
    if not os.path.exists(path):
        export_onnx(net, path, SIZE, dynamic=False)
    if int8 and not os.path.exists(path + '8'):
        calibration = [np.random.RandomState(i).uniform(-1, 1, (1, *SIZE)).astype(np.float32) for i in range(4)]
        quantize_onnx(path, calibration, path + '8')
    return path + '8' * int8


def ort(net, x, folder, int8=False):
    run, data = session(onnx_form(net, x, folder, int8), args.threads), x.asnumpy()
    return lambda: run.run(None, {'data': data})


def opencv(net, x, folder):
    cv2.setNumThreads(args.threads)
    loaded, data = cv2.dnn.readNetFromONNX(onnx_form(net, x, folder, False)), x.asnumpy()

    def step():
        loaded.setInput(data)
        return loaded.forward()

    return step


def subgraph(net, x):
    net.optimize_for(x, backend='MKLDNN', static_alloc=True, static_shape=True)


def static(net):
    net.hybridize(static_alloc=True, static_shape=True)


def with_compiled(make):
    """A form whose network is traced with the compiled operators where they were built."""

    def wrapped(x, folder):
        with compiled():
            return make(x, folder)

    return wrapped


# By name, what makes a call of the network on a batch; the folder is for files.
FORMS = {
    'eager': lambda x, folder: mxnet_form(network(), x, lambda net: None),
    THAN: lambda x, folder: mxnet_form(network(), x, lambda net: net.hybridize()),
    'static': lambda x, folder: mxnet_form(network(), x, static),
    'oneDNN subgraph': lambda x, folder: mxnet_form(network(), x, lambda net: subgraph(net, x)),
    'folded': lambda x, folder: mxnet_form(fold_batchnorm(network()), x, static),
    'folded, oneDNN subgraph': lambda x, folder: mxnet_form(fold_batchnorm(network()), x, lambda net: subgraph(net, x)),
    'static, compiled gates': with_compiled(lambda x, folder: mxnet_form(network(), x, static)),
    'folded, oneDNN subgraph, compiled gates': with_compiled(
        lambda x, folder: mxnet_form(fold_batchnorm(network()), x, lambda net: subgraph(net, x))
    ),
    'ONNX Runtime': lambda x, folder: ort(network(), x, folder),
    'ONNX Runtime INT8': lambda x, folder: ort(network(), x, folder, True),
    'OpenCV DNN': lambda x, folder: opencv(network(), x, folder),
}


def batch(number):
    return mx.nd.array(np.random.RandomState(9).uniform(-1, 1, (number, *SIZE)).astype(np.float32))


def peak_multiply_adds():
    """Multiply-adds a second of the fastest of ten products of two 2048 x 2048 float32 matrices."""
    a = mx.nd.random.uniform(-1, 1, (2048, 2048))
    seconds = interleaved({'sgemm': lambda: mx.nd.dot(a, a)}, 10, clock=args.clock)['sgemm']
    return len(a) ** 3 / min(seconds)


def steps_and_failures(x, folder):
    """By form, what makes a call that has run once, and of those that cannot run why."""
    steps, failures = {}, {}
    for name, make in FORMS.items():
        try:
            steps[name] = make(x, folder)
            steps[name]()
            mx.nd.waitall()
        except Exception as error:  # of five libraries, each with its own
            steps.pop(name, None)
            *_, reason = [type(error).__name__, *filter(None, map(str.strip, str(error).splitlines()))]
            failures[name] = reason.replace('|', '/')[:160]
    return steps, failures


def memory(form, number, folder):
    """MiB that a process needs at most for this form, the imports included."""
    return in_a_process(
        __file__,
        '--network',
        args.network,
        '--input-size',
        side,
        '--batch-sizes',
        number,
        '--threads',
        args.threads,
        '--memory-of',
        form,
        env={**os.environ, 'INFERENCE_FILES': folder},
    )


def ratio(seconds, name, than):
    return f'{times_as_fast(seconds, name, than):.2f}' if than in seconds else ''


def table(folder):
    multiply_adds, peak = complexity(network(), (1, *SIZE)).multiply_adds, peak_multiply_adds()
    print(
        f'{args.network}, {side} x {side}, {multiply_adds / 1e9:.2f} G multiply-adds an image; sgemm reaches '
        f'{peak / 1e9:.0f} G a second; threads: {args.threads}; ONNX Runtime {onnxruntime.__version__}, '
        f'OpenCV {cv2.__version__}, MXNet {mx.__version__}'
    )
    for number in args.batch_sizes:
        x = batch(number)
        with compiled(False):
            steps, failures = steps_and_failures(x, folder)
        seconds = interleaved(steps, args.rounds, clock=args.clock)
        del steps
        print(
            f'\n| batch {number} | ms | images/s | times {THAN} | times ONNX Runtime | G multiply-adds/s | of sgemm '
            '| peak MiB |\n|---|---|---|---|---|---|---|---|'
        )
        for name in FORMS:
            if name in failures:
                print(f'| {name} | cannot run it: {failures[name]} | | | | | | |')
                continue
            middle = statistics.median(seconds[name])
            rate = number * multiply_adds / middle
            print(
                f'| {name} | {1e3 * middle:.1f} | {number / middle:.1f} | {ratio(seconds, name, THAN)} | '
                f'{ratio(seconds, name, "ONNX Runtime")} | {rate / 1e9:.0f} | {rate / peak:.0%} | '
                f'{"" if args.no_memory else format(memory(name, number, folder), ".0f")} |',
                flush=True,
            )


def profile(folder):
    for int8 in (False, True):
        path, x = onnx_form(network(), None, folder, int8), batch(args.batch_sizes[-1]).asnumpy()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.enable_profiling = args.threads, True
        options.profile_file_prefix = os.path.join(folder, 'profile')
        run = onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
        for _ in range(args.rounds):
            run.run(None, {'data': x})
        spent, calls = collections.Counter(), collections.Counter()
        with open(run.end_profiling(), encoding='utf-8') as file:
            for event in json.load(file):
                if event.get('cat') == 'Node' and event['name'].endswith('_kernel_time'):
                    spent[event['args']['op_name']] += event['dur'] / 1e3 / args.rounds
                    calls[event['args']['op_name']] += 1
        print(f'\n| {"INT8" if int8 else "float32"}, batch {len(x)} | nodes | ms | share |\n|---|---|---|---|')
        for name, milliseconds in spent.most_common(12):
            print(
                f'| {name} | {calls[name] // args.rounds} | {milliseconds:.1f} | '
                f'{milliseconds / sum(spent.values()):.0%} |'
            )


logging.getLogger().setLevel(logging.ERROR)
with tempfile.TemporaryDirectory() as top:
    if args.memory_of:
        with compiled(False):
            step = FORMS[args.memory_of](batch(args.batch_sizes[0]), os.environ['INFERENCE_FILES'])
        for _ in range(2):
            step()
        print(peak_memory())
    else:
        profile(top) if args.profile else table(top)
