"""The command line: python -m model_zoo list | info | predict | export | download | verify | purge."""
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
from gluon_aff.download import digest

from .params_file import read_parameters
from .registry import get_model, list_models, model_info, purge
from .trained import open_trained
from .weights import checkpoints

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
            ('source', card.source), ('weights', ', '.join(card.weights) or 'none released')], sys.stdout)
    for each in checkpoints(card.name):
        print()
        _table([('weights', each.tag), ('data set', f'{each.dataset}, labels {each.labels}, {each.outputs} outputs'),
                ('figures', ', '.join(f'{what.replace("_", " ")} {value:.4f}' for what, value in each.figures.items())
                 + f' ({each.figures_source})'),
                ('recipe', each.recipe), ('from', each.source), ('licence', each.license), ('type', each.dtype),
                (each.digest_kind, each.digest), ('file', f'{each.path(args.root)}: {each.state(args.root)}')],
               sys.stdout)
    return 0


def download_command(args):
    """Fetch the released parameters of networks into the cache folder, verified."""
    wanted = [each for name in list_models(args.pattern) for each in checkpoints(name)]
    if not wanted:
        raise ValueError(f'No network with released parameters fits {args.pattern!r}; '
                         f'there are: {", ".join(list_models(pretrained=True))}.')
    failed = 0
    for each in wanted:
        try:
            print(each.get(args.root), flush=True)
        except (ValueError, OSError) as error:
            print(f'gluon-aff: {error}', file=sys.stderr)
            failed += 1
    return 1 if failed else 0


def verify_command(args):
    """Check that a parameter file is whole, say which released one it is, and whether it fits a network."""
    arrays = read_parameters(args.file)
    values = sum(array.size for array in arrays.values())
    print(f'{args.file}: {len(arrays)} arrays, {values:,} values, whole')
    known = [each for each in checkpoints() if digest(args.file, each.digest_kind) == each.digest]
    for each in known:
        print(f'it is the released file of {each.model}, {each.tag}')
    if not known:
        print('it is none of the released files')
    if args.model:
        get_model(args.model, pretrained=args.file)
        print(f'it fits {args.model}')
    return 0


def purge_command(args):
    """Remove the released parameters of this zoo's networks from the cache folder."""
    purge(args.root)
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

    def cache(sub):
        sub.add_argument('--root', metavar='DIR', help='cache folder, default $MXNET_HOME/models or ~/.mxnet/models')

    sub = command('list', list_command)
    sub.add_argument('pattern', nargs='?', default='*', metavar='PATTERN', help="wildcards, such as 'iaff_*'")

    sub = command('info', info_command)
    sub.add_argument('name', metavar='NAME')
    cache(sub)

    sub = command('download', download_command)
    sub.add_argument('pattern', metavar='PATTERN', help="a name, or wildcards such as 'iaff_*'")
    cache(sub)

    sub = command('verify', verify_command)
    sub.add_argument('file', metavar='FILE')
    sub.add_argument('--model', metavar='NAME', help='the network that it should fit')

    cache(command('purge', purge_command))

    sub = command('predict', predict_command)
    sub.add_argument('name', metavar='NAME', help="a network's name, or a training run's folder")
    sub.add_argument('images', nargs='+', metavar='IMAGE', help='image files, or folders of them')
    sub.add_argument('--weights', metavar='FILE', help='parameter file, or tag of a released one')
    sub.add_argument('--top-k', type=_count, default=5, metavar='K')
    sub.add_argument('--format', choices=('table', 'jsonl', 'csv'), default='table')
    sub.add_argument('--gpu', type=int, metavar='N', help='run on this GPU rather than the CPU')

    sub = command('export', export_command)
    sub.add_argument('name', metavar='NAME', help="a network's name, or a training run's folder")
    sub.add_argument('-o', '--output', required=True, metavar='DIR')
    sub.add_argument('--weights', metavar='FILE', help='parameter file, or tag of a released one')
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
