"""The command line: python -m model_zoo list | info | predict | export."""
from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import tempfile

import mxnet as mx
from tqdm import tqdm

from gluon_aff.data.images import evaluation_array, find_images, read_image

from .registry import get_model, list_models, model_info
from .trained import open_trained

# Every command returns its exit status: 0, or 1 where a part of the work could not be done.


def _millions(number):
    return f'{number / 1e6:.2f} M'


def _giga(number):
    return f'{number / 1e9:.2f} G'


def _size(input_size):
    return 'x'.join(map(str, input_size))


def _table(rows, out):
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        print('  '.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip(), file=out)


def list_command(args):
    """List networks: name, trainable parameters, multiply-adds for one image, input, released weights."""
    names = list_models(args.pattern)
    if not names:
        raise ValueError(f'No network fits {args.pattern!r}; try a wildcard such as "*resnext*".')
    rows = [('name', 'params', 'multiply-adds', 'input', 'weights')]
    for card in map(model_info, names):
        rows.append((card.name, _millions(card.parameters), _giga(card.multiply_adds), _size(card.input_size),
                     ', '.join(card.weights) or '-'))
    _table(rows, sys.stdout)
    return 0


def info_command(args):
    """Print the card of a network."""
    card = model_info(args.name)
    _table([('name', card.name), ('family', card.family), ('fusion', card.fusion),
            ('params', f'{card.parameters:,} trainable'), ('multiply-adds', f'{card.multiply_adds:,} for one image'),
            ('input', f'{_size(card.input_size)}, RGB in 0..1 less mean, by std; '
                      f'centre crop of {card.crop_ratio:g}'),
            ('mean', ', '.join(f'{v:.4f}' for v in card.mean)), ('std', ', '.join(f'{v:.4f}' for v in card.std)),
            ('data set', card.dataset), ('classes', f'{card.classes}: {", ".join(card.labels[:4])}, ...'),
            ('source', card.source), ('weights', ', '.join(card.weights) or 'none released here yet')], sys.stdout)
    return 0


def _write_predictions(form, out):
    """A function that writes the predictions [(label, probability), ...] of an image in this form."""
    if form == 'csv':
        writer = csv.writer(out)
        writer.writerow(('image', 'rank', 'label', 'probability'))
        return lambda path, found: writer.writerows(
            (path, rank, label, f'{p:.6f}') for rank, (label, p) in enumerate(found, start=1))
    if form == 'jsonl':
        return lambda path, found: print(json.dumps(
            {'image': path, 'predictions': [{'label': label, 'probability': round(p, 6)} for label, p in found]}),
            file=out)
    return lambda path, found: _table(
        [(path if rank == 0 else '', f'{p:7.2%}', label) for rank, (label, p) in enumerate(found)], out)


def predict_command(args):
    """Classify images: the most probable classes of each, by name."""
    images = find_images(args.images)
    ctx = mx.gpu(args.gpu) if args.gpu is not None else mx.cpu()
    model = open_trained(args.name, args.weights, ctx)
    model.net.hybridize()
    write = _write_predictions(args.format, sys.stdout)
    top_k = min(args.top_k, len(model.labels))
    unreadable = 0
    for path in tqdm(images, unit='image', file=sys.stderr, leave=False, disable=None):
        try:
            image = read_image(path)
        except ValueError as error:
            tqdm.write(f'gluon-aff: {error}', file=sys.stderr)
            unreadable += 1
            continue
        data = evaluation_array(image, model.input_size, model.mean, model.std, model.crop_ratio)
        scores = mx.nd.softmax(model.net(mx.nd.array(data[None], ctx=ctx)))[0].asnumpy()
        best = scores.argsort()[::-1][:top_k]
        with tqdm.external_write_mode():
            write(path, [(model.labels[i], float(scores[i])) for i in best])
    if unreadable:
        print(f'gluon-aff: {unreadable} of {len(images)} images could not be read.', file=sys.stderr)
    return 1 if unreadable else 0


def export_command(args):
    """Write a network's symbol and parameters as MXNet loads them: NAME-symbol.json and NAME-0000.params."""
    if args.weights is None and not os.path.isdir(args.name) and not model_info(args.name).weights:
        card = model_info(args.name)
        name, net, input_size = card.name, get_model(args.name), card.input_size
        net.initialize(mx.init.Xavier())
        print(f'gluon-aff: {name} has no released weights and --weights is not given; '
              'the exported parameters are random.', file=sys.stderr)
    else:
        model = open_trained(args.name, args.weights)
        name, net, input_size = model.name, model.net, model.input_size
    net.hybridize()
    net(mx.nd.zeros((1, *input_size)))
    os.makedirs(args.output, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix='.export-', dir=args.output) as folder:
        net.export(os.path.join(folder, name))
        for file in sorted(os.listdir(folder)):
            os.replace(os.path.join(folder, file), os.path.join(args.output, file))
            print(os.path.join(args.output, file))
    return 0


def _parser():
    parser = argparse.ArgumentParser(prog='gluon-aff', description='Networks with attentional feature fusion.',
                                     allow_abbrev=False)
    commands = parser.add_subparsers(dest='command', metavar='COMMAND', required=True)

    def command(name, run):
        sub = commands.add_parser(name, help=run.__doc__, description=run.__doc__, allow_abbrev=False)
        sub.set_defaults(run=run)
        return sub

    sub = command('list', list_command)
    sub.add_argument('pattern', nargs='?', default='*', metavar='PATTERN', help="wildcards, such as 'iaff_*'")

    command('info', info_command).add_argument('name', metavar='NAME')

    sub = command('predict', predict_command)
    sub.add_argument('name', metavar='NAME', help="a network's name, or a training run's folder")
    sub.add_argument('images', nargs='+', metavar='IMAGE', help='image files, or folders of them')
    sub.add_argument('--weights', metavar='FILE', help='parameter file, default: the released one')
    sub.add_argument('--top-k', type=_count, default=5, metavar='K')
    sub.add_argument('--format', choices=('table', 'jsonl', 'csv'), default='table')
    sub.add_argument('--gpu', type=int, metavar='N', help='run on this GPU rather than the CPU')

    sub = command('export', export_command)
    sub.add_argument('name', metavar='NAME', help="a network's name, or a training run's folder")
    sub.add_argument('-o', '--output', required=True, metavar='DIR')
    sub.add_argument('--weights', metavar='FILE', help='parameter file, default: the released one')
    return parser


def _count(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError('must be at least 1')
    return number


def main(argv=None):
    """Run a command; returns the exit status (2 where the arguments or files are wrong)."""
    args = _parser().parse_args(argv)
    try:
        status = args.run(args)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # The reader, such as head, has seen enough; keep Python from flushing into the closed pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError) as error:
        print(f'gluon-aff: {error}', file=sys.stderr)
        return 2


if __name__ == '__main__':
    sys.exit(main())
