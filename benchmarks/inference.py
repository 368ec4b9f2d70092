"""Images a second of a network in every form that it can be deployed in, side by side.

    python benchmarks/inference.py [--network iaff_resnet50] [--threads 2] [--batch-sizes 1 8] [--rounds 9]
    python benchmarks/inference.py --threads 1 --clock cpu      on a machine that others use as well
    python benchmarks/inference.py --profile            where ONNX Runtime's time goes, float32 and INT8

All forms take turns, with random parameters and the statistics of random images, on which INT8 is calibrated, too. The
error is the largest of a logit, relative to the largest logit of the hybridized network. The peak memory is of a
process for each form. The share of the peak is of the largest float32 matrix product that MXNet's BLAS reaches here, in
multiply-adds a second; fewer bits may exceed it. A form that cannot run the network has a row that says why. Forms of
MXNet's operators only are the ones that exports hold; those with compiled gates have gluon_aff's operators where they
were built.

Where PyTorch is installed, the networks of benchmarks/in_torch.py have rows, too, with parameters of their own, their
errors relative to PyTorch's first row. It computes in a process of its own, as its waiting threads slow others down.
"""

import argparse
import collections
import contextlib
import importlib.metadata
import importlib.util
import json
import logging
import os
import re
import statistics
import subprocess
import sys
import tempfile
from functools import partial

import cv2
import mxnet as mx
import numpy as np
import onnxruntime
from mxnet import autograd
from mxnet.contrib import amp, quantization
from timing import CLOCK_HELP, CLOCKS, in_a_process, interleaved, peak_memory, times_as_fast

from gluon_aff import complexity
from gluon_aff.deploy import Graph, export_onnx, fold_batchnorm, quantize_onnx
from gluon_aff.deploy.onnx_files import session
from gluon_aff.deploy.openvino_engine import compile_onnx, import_openvino
from gluon_aff.deploy.quantized_symbol import bfloat16_symbol, calibrate, quantize_symbol
from gluon_aff.deploy.symbol_writer import write_symbol_files
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
# What a process of its own is told.
parser.add_argument('--memory-of', metavar='FORM', help=argparse.SUPPRESS)
parser.add_argument('--serve', action='store_true', help=argparse.SUPPRESS)
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
CALIBRATION = [np.random.RandomState(i).uniform(-1, 1, (1, *SIZE)).astype(np.float32) for i in range(4)]


def network(folder):
    """The network, its parameters made once and kept in the folder."""
    path, net = os.path.join(folder, 'net.params'), get_model(args.network, **OPTIONS)
    if os.path.exists(path):
        net.load_parameters(path)
        return net
    mx.random.seed(0)
    net.initialize(mx.init.Xavier())
    images = mx.nd.array(np.concatenate(CALIBRATION))
    net(images)
    # A last gamma of zero would hide the branch before it.
    for name, parameter in net.collect_params('.*gamma|.*running_mean|.*running_var').items():
        parameter.set_data(mx.nd.zeros(parameter.shape) if 'mean' in name else mx.nd.ones(parameter.shape))
    for _ in range(5):  # MXNet updates the statistics in the backward pass
        with autograd.record():
            output = net(images)
        output.backward()
    mx.nd.waitall()
    net.save_parameters(path)
    return net


def mxnet_form(net, x, prepare):
    net = prepare(net) or net
    net(x).wait_to_read()  # traced here

    def step():
        output = net(x)
        output.wait_to_read()
        return output

    return step


def onnx_form(folder, int8):
    path = os.path.join(folder, 'net.onnx')
    if not os.path.exists(path):
        export_onnx(network(folder), path, SIZE, dynamic=False)
    if int8 and not os.path.exists(path + '8'):
        quantize_onnx(path, CALIBRATION, path + '8')
    return path + '8' * int8


def symbol_form(x, folder, kind):
    """An export for plain MXNet in fewer bits, as `Predictor` runs it."""
    path = os.path.join(folder, f'net-{kind}')
    if not os.path.exists(f'{path}-symbol.json'):
        graph = Graph(network(folder)).fold()
        batches = [(images, None) for images in CALIBRATION]
        if kind == 'int8':
            made = quantize_symbol(graph, calibrate(graph, batches, 'naive'))
        else:
            made = bfloat16_symbol(graph)
        write_symbol_files(*made, path)
    return mxnet_form(mx.gluon.SymbolBlock.imports(f'{path}-symbol.json', ['data'], f'{path}-0000.params'), x, static)


def ort(x, folder, int8=False):
    run, data = session(onnx_form(folder, int8), args.threads), x.asnumpy()
    return lambda: run.run(None, {'data': data})[0]


def openvino(x, folder, int8=False, bfloat16=False):
    with open(onnx_form(folder, int8), 'rb') as file:
        compiled_model = compile_onnx(file.read(), threads=args.threads, bfloat16=bfloat16)
    request, data = compiled_model.create_infer_request(), x.asnumpy()
    return lambda: request.infer([data], share_inputs=True)[0]


def opencv(x, folder):
    cv2.setNumThreads(args.threads)
    loaded, data = cv2.dnn.readNetFromONNX(onnx_form(folder, False)), x.asnumpy()

    def step():
        loaded.setInput(data)
        return loaded.forward()

    return step


def subgraph(net, x):
    net.optimize_for(x, backend='MKLDNN', static_alloc=True, static_shape=True)


def static(net):
    net.hybridize(static_alloc=True, static_shape=True)


def by_amp(net):
    net.hybridize()
    net(mx.nd.array(CALIBRATION[0]))  # it converts what is traced
    converted = amp.convert_hybrid_block(net, target_dtype='bfloat16', cast_optional_params=True, ctx=mx.cpu())
    static(converted)
    return converted


def by_quantize_net(net):
    data = mx.io.NDArrayIter(np.concatenate(CALIBRATION), batch_size=1)
    quantized = quantization.quantize_net(
        net,
        calib_data=data,
        calib_mode='naive',
        num_calib_examples=len(CALIBRATION),
        ctx=mx.cpu(),
        exclude_operators=['Activation'],
    )
    static(quantized)
    return quantized


def with_compiled(make):
    """A form whose network is traced with the compiled operators where they were built."""

    def wrapped(x, folder):
        with compiled():
            return make(x, folder)

    return wrapped


# By name, what makes a call of the network on a batch; the folder is for files.
FORMS = {
    'eager': lambda x, folder: mxnet_form(network(folder), x, lambda net: None),
    THAN: lambda x, folder: mxnet_form(network(folder), x, lambda net: net.hybridize()),
    'static': lambda x, folder: mxnet_form(network(folder), x, static),
    'oneDNN subgraph': lambda x, folder: mxnet_form(network(folder), x, lambda net: subgraph(net, x)),
    'folded': lambda x, folder: mxnet_form(fold_batchnorm(network(folder)), x, static),
    'folded, oneDNN subgraph': lambda x, folder: mxnet_form(
        fold_batchnorm(network(folder)), x, lambda net: subgraph(net, x)
    ),
    'static, compiled gates': with_compiled(lambda x, folder: mxnet_form(network(folder), x, static)),
    'folded, oneDNN subgraph, compiled gates': with_compiled(
        lambda x, folder: mxnet_form(fold_batchnorm(network(folder)), x, lambda net: subgraph(net, x))
    ),
    'bfloat16 by amp': lambda x, folder: mxnet_form(network(folder), x, by_amp),
    # The ReLUs behind gates stay in float32, as in our export.
    'INT8 by quantize_net': lambda x, folder: mxnet_form(network(folder), x, by_quantize_net),
    'bfloat16 by amp, folded': lambda x, folder: mxnet_form(fold_batchnorm(network(folder)), x, by_amp),
    'INT8 by quantize_net, folded': lambda x, folder: mxnet_form(fold_batchnorm(network(folder)), x, by_quantize_net),
    'bfloat16, our export': partial(symbol_form, kind='bf16'),
    'INT8, our export': partial(symbol_form, kind='int8'),
    'ONNX Runtime': ort,
    'ONNX Runtime INT8': lambda x, folder: ort(x, folder, int8=True),
    'OpenCV DNN': opencv,
    'OpenVINO': openvino,
    'OpenVINO bfloat16': lambda x, folder: openvino(x, folder, bfloat16=True),
    'OpenVINO INT8': lambda x, folder: openvino(x, folder, int8=True),
}


def torch_form(x, folder, **options):
    import in_torch
    import torch

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    fusion, resnet50 = re.fullmatch(IN_TORCH, args.network).groups()
    net = (in_torch.resnet50 if resnet50 else in_torch.cifar_resnet8)(in_torch.FUSIONS[fusion], **TORCH_SIZES)
    ours = get_model(args.network, **OPTIONS).collect_params().values()
    if sum(p.numel() for p in net.parameters()) != sum(np.prod(p.shape) for p in ours if p.grad_req != 'null'):
        raise ValueError('it has another number of parameters')
    call = in_torch.inference(net, x.asnumpy(), **options)
    return lambda: call().float().numpy()


IN_TORCH = '(?:cifar_)?(add|aff|iaff)_(?:(resnet50)|resnet8)'
TORCH_SIZES = {} if args.network.endswith('resnet50') else {'width': 4}
TORCH_FORMS = {
    f'PyTorch{layout}{dtype}': partial(torch_form, **options, bfloat16=bool(dtype))
    for dtype in ('', ' bfloat16')
    for layout, options in (
        ('', {}),
        (' channels last', {'channels_last': True}),
        (' compiled', {'channels_last': True, 'compiled': True}),
    )
    if importlib.util.find_spec('torch') and re.fullmatch(IN_TORCH, args.network) and args.clock == 'wall'
}


def batch(number):
    return mx.nd.array(np.random.RandomState(9).uniform(-1, 1, (number, *SIZE)).astype(np.float32))


def peak_multiply_adds():
    """Multiply-adds a second of the fastest of ten products of two 2048 x 2048 float32 matrices."""
    a = mx.nd.random.uniform(-1, 1, (2048, 2048))
    seconds = interleaved({'sgemm': lambda: mx.nd.dot(a, a)}, 10, clock=args.clock)['sgemm']
    return len(a) ** 3 / min(seconds)


def logits(output):
    return output.astype('float32').asnumpy() if isinstance(output, mx.nd.NDArray) else output


def opened(forms, than, x, folder):
    """By form: what makes a call and has run once, its error relative to one form, and why one cannot run."""
    steps, outputs, failures = {}, {}, {}
    for name, make in forms.items():
        try:
            steps[name] = make(x, folder)
            outputs[name] = logits(steps[name]()).copy()
        except Exception as error:  # of six libraries, each with its own
            steps.pop(name, None)
            *_, reason = [type(error).__name__, *filter(None, map(str.strip, str(error).splitlines()))]
            failures[name] = reason.replace('|', '/')[:160]
    expected = outputs.get(than)
    if expected is None:
        return steps, {}, failures
    errors = {name: float(abs(y - expected).max() / abs(expected).max()) for name, y in outputs.items()}
    return steps, errors, failures


def command(number, *flags):
    """This benchmark, for one batch size, as a process of its own."""
    same = ('--network', args.network, '--input-size', side, '--threads', args.threads)
    return [__file__, *map(str, (*same, '--batch-sizes', number, *flags))]


class Torch:
    """The forms of PyTorch, computed in a process of its own; attributes as what `opened` returns."""

    def __init__(self, number):
        self.process = subprocess.Popen(
            [sys.executable, *command(number, '--serve')],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.errors, self.failures = json.loads(self.process.stdout.readline())
        self.steps = {name: partial(self.call, name) for name in self.errors}

    def call(self, name):
        print(name, file=self.process.stdin, flush=True)
        self.process.stdout.readline()

    def close(self):
        self.process.communicate()


def serve():
    """Call the form that each line of the standard input names, until it ends."""
    steps, errors, failures = opened(TORCH_FORMS, next(iter(TORCH_FORMS)), batch(args.batch_sizes[0]), None)
    print(json.dumps([errors, failures]), flush=True)
    for line in sys.stdin:
        steps[line.strip()]()
        print(flush=True)


def memory(form, number, folder):
    """MiB that a process needs at most for this form, the imports included."""
    return in_a_process(*command(number, '--memory-of', form), env={**os.environ, 'INFERENCE_FILES': folder})


def ratio(seconds, name, than):
    return f'{times_as_fast(seconds, name, than):.2f}' if than in seconds else ''


def versions():
    names = {'MXNet': mx.__version__, 'ONNX Runtime': onnxruntime.__version__, 'OpenCV': cv2.__version__}
    with contextlib.suppress(ImportError):
        names['OpenVINO'] = import_openvino().__version__.split('-')[0]
    if TORCH_FORMS:
        names['PyTorch'] = importlib.metadata.version('torch')
    return ', '.join(f'{name} {version}' for name, version in names.items())


def table(folder):
    multiply_adds, peak = complexity(network(folder), (1, *SIZE)).multiply_adds, peak_multiply_adds()
    print(
        f'{args.network}, {side} x {side}, {multiply_adds / 1e9:.2f} G multiply-adds an image; sgemm reaches '
        f'{peak / 1e9:.0f} G a second; threads: {args.threads}; {versions()}'
    )
    for number in args.batch_sizes:
        with compiled(False):
            steps, errors, failures = opened(FORMS, THAN, batch(number), folder)
        if TORCH_FORMS:
            torch = Torch(number)
            for ours, theirs in zip((steps, errors, failures), (torch.steps, torch.errors, torch.failures)):
                ours.update(theirs)
        seconds = interleaved(steps, args.rounds, clock=args.clock)
        del steps
        if TORCH_FORMS:
            torch.close()
        print(
            f'\n| batch {number} | ms | images/s | times {THAN} | times ONNX Runtime | G multiply-adds/s | of sgemm '
            '| error of logits | peak MiB |\n|---|---|---|---|---|---|---|---|---|'
        )
        for name in (*FORMS, *TORCH_FORMS):
            if name in failures:
                print(f'| {name} | cannot run it: {failures[name]} | | | | | | | |')
                continue
            middle = statistics.median(seconds[name])
            rate = number * multiply_adds / middle
            print(
                f'| {name} | {1e3 * middle:.1f} | {number / middle:.1f} | {ratio(seconds, name, THAN)} | '
                f'{ratio(seconds, name, "ONNX Runtime")} | {rate / 1e9:.0f} | {rate / peak:.0%} | '
                f'{errors.get(name, float("nan")):.1e} | '
                f'{"" if args.no_memory else format(memory(name, number, folder), ".0f")} |',
                flush=True,
            )


def profile(folder):
    for int8 in (False, True):
        path, x = onnx_form(folder, int8), batch(args.batch_sizes[-1]).asnumpy()
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
            make = {**FORMS, **TORCH_FORMS}[args.memory_of]
            step = make(batch(args.batch_sizes[0]), os.environ['INFERENCE_FILES'])
        for _ in range(2):
            step()
        print(peak_memory())
    elif args.serve:
        serve()
    else:
        profile(top) if args.profile else table(top)
