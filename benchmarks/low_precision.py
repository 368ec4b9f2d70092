"""What fewer bits cost every registered network: in MXNet by its own tools, and in OpenVINO.

    python benchmarks/low_precision.py [--networks NAME ...] [--output docs/low_precision.csv]

The file has a row for each network: the largest error of an output, relative to the largest output in float32. The
parameters are random, and so are the four images, on which INT8 is calibrated, too: noise through a deep network, of
which a trained one keeps more. What a tool cannot convert has no figure but a reason. Rows that the file has already
are not computed again unless a single network is named, so the command may be stopped and repeated; the small networks
come first, and the reason of the others is "not run". At the end it prints the largest errors of each family.
"""

import argparse
import csv
import io
import logging
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import mxnet as mx
import numpy as np
from mxnet.contrib import amp, quantization

from gluon_aff.deploy import export_onnx, quantize_onnx
from gluon_aff.deploy.openvino_engine import compile_onnx
from gluon_aff.files import write_whole
from model_zoo import get_model, list_models, model_info

FIXED = ('aa_', 'ge_')  # their parameters are for images of one size
GAINS = {'aff': 0.25}  # of the weights, with which deep networks do not amplify rounding
FORMS = ('amp', 'quantize_net', 'openvino', 'openvino-bf16', 'openvino-int8')
NOT_RUN = 'not run'
COLUMNS = ('network', 'side', *FORMS, 'reason')


def build(name, side):
    """A network with random parameters that neither blows up nor forgets its input on the way, whatever its depth."""
    net = get_model(name, **({'input_size': side} if name.startswith(FIXED) else {}))
    random, gain = np.random.default_rng(zlib.crc32(name.encode())), GAINS.get(model_info(name).fusion, 1)
    net.initialize()
    for key, parameter in net.collect_params().items():
        if key.endswith('weight'):
            scale = np.sqrt(gain / np.prod(parameter.shape[1:])) * (0.1 if '_att' in key else 1)
            value = scale * random.standard_normal(parameter.shape, np.float32)
        elif key.endswith(('gamma', 'running_var')):
            value = random.uniform(0.5, 1.5, parameter.shape)
        else:
            value = 0.1 * random.standard_normal(parameter.shape)
        parameter.set_data(mx.nd.array(value))
    return net


def by_amp(net, x):
    net.hybridize()
    net(x)  # it converts what is traced
    return amp.convert_hybrid_block(net, target_dtype='bfloat16', ctx=mx.cpu())(x).asnumpy()


def by_quantize_net(net, x):
    data = mx.io.NDArrayIter(x, batch_size=len(x))
    return quantization.quantize_net(net, calib_data=data, calib_mode='naive', ctx=mx.cpu())(x).asnumpy()


class OpenVINO:
    """A network in OpenVINO, whose files are written once."""

    def __init__(self, folder, name):
        self.path, self.is_fixed = Path(folder, 'net.onnx'), name.startswith(FIXED)

    def compute(self, net, x, int8=False, bfloat16=False):
        path, data = self.path.with_suffix('.int8' if int8 else '.onnx'), x.asnumpy()
        if not self.path.exists():
            export_onnx(net, self.path, x.shape[1:], dynamic=not self.is_fixed)
        if not path.exists():
            quantize_onnx(self.path, [data], path)
        return compile_onnx(path.read_bytes(), bfloat16=bfloat16).create_infer_request().infer([data])[0]


def measure(name):
    """A network's row."""
    side = 32 if model_info(name).spec.input_size[1] == 32 or name.startswith(('fpn', 'unet')) else 64
    x = mx.nd.array(np.random.RandomState(0).uniform(-1, 1, (4, 3, side, side)))
    net, row, reasons = build(name, side), {'network': name, 'side': side}, []
    expected = net(x).asnumpy()
    with tempfile.TemporaryDirectory() as folder:
        openvino = OpenVINO(folder, name).compute
        forms = {
            'openvino': openvino,
            'openvino-bf16': lambda *args: openvino(*args, bfloat16=True),
            'openvino-int8': lambda *args: openvino(*args, int8=True),
            'amp': by_amp,
            'quantize_net': by_quantize_net,
        }
        for form, compute in forms.items():
            try:
                row[form] = f'{abs(compute(net, x) - expected).max() / abs(expected).max():.1e}'
            except Exception as error:  # of three libraries, each with its own
                *_, reason = [type(error).__name__, *filter(None, map(str.strip, str(error).splitlines()))]
                reasons.append(f'{form}: {reason[:200]}')
    return {**row, 'reason': '; '.join(reasons)}


def read(path):
    """The rows of a file by network, without those that were not run; none where there is no file."""
    if not path.exists():
        return {}
    with open(path, newline='', encoding='utf-8') as file:
        return {row['network']: row for row in csv.DictReader(file) if row['reason'] != NOT_RUN}


def write(path, rows):
    """Write the rows in the order of the registry."""
    rows = {name: rows.get(name, {'network': name, 'reason': NOT_RUN}) for name in list_models()}
    lines = [COLUMNS, *([row.get(column, '') for column in COLUMNS] for row in rows.values())]
    text = io.StringIO(newline='')
    csv.writer(text, lineterminator='\n').writerows(lines)
    write_whole(path, text.getvalue().encode())


def summary(rows):
    """A table of the largest errors of each family, and how many of its networks were run."""
    lines = [f'| networks | run | {" | ".join(FORMS)} |', '|---' * (len(FORMS) + 2) + '|']
    families = {}
    for name in list_models():
        families.setdefault(model_info(name).family, []).append(name)
    for family, members in families.items():
        known = [rows[name] for name in members if name in rows]
        worst = (max((row[form] for row in known if row[form]), key=float, default='-') for form in FORMS)
        lines.append(f'| {family} | {len(known)} of {len(members)} | {" | ".join(worst)} |')
    return '\n'.join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--networks', nargs='+', choices=list_models(), default=list_models(), metavar='NAME')
    parser.add_argument('--output', type=Path, default=Path('docs/low_precision.csv'), metavar='FILE')
    args = parser.parse_args()
    if len(args.networks) == 1:
        (name,), rows = args.networks, read(args.output)
        rows[name] = {**dict.fromkeys(COLUMNS, ''), **measure(name)}
        write(args.output, rows)
        print(', '.join(f'{column} {value}' for column, value in rows[name].items() if value), flush=True)
        return
    for name in sorted(set(args.networks) - set(read(args.output)), key=lambda name: model_info(name).multiply_adds):
        # A process of its own gives all of its memory back.
        command = [sys.executable, __file__, '--networks', name, '--output', str(args.output)]
        subprocess.run(command, stderr=subprocess.DEVNULL, check=True)
    print(summary(read(args.output)))


if __name__ == '__main__':
    logging.getLogger().setLevel(logging.ERROR)
    main()
