"""The command line: python -m model_zoo list | info | compare | predict | export | records | download | ..."""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import warnings

import mxnet as mx
from tqdm import tqdm

from gluon_aff.data.class_folders import usable_images
from gluon_aff.data.images import read_image
from gluon_aff.data.masks import overlay, overlay_names
from gluon_aff.data.record_writer import write_records
from gluon_aff.data.records import RecordFile
from gluon_aff.data.walk import find_images
from gluon_aff.deploy import export
from gluon_aff.deploy.predictor import BACKENDS
from gluon_aff.download import digest
from gluon_aff.errors import in_words
from gluon_aff.files import atomic, remove_abandoned
from gluon_aff.inspect.grad_cam import METHODS
from gluon_aff.params_file import read_parameters
from gluon_aff.text import any_character, printable

from .loading import open_or_random, open_predictor
from .pictures.comparison import RUNS, TABLE, compare, figure, write_csv, write_markdown
from .registry import get_model, list_models, model_info, purge
from .weights.catalog import checkpoints

# Every command returns its exit status: 0, or 1 where a part of the work could not be done.


def _millions(number):
    return f'{number / 1e6:.2f} M'


def _giga(number):
    return f'{number / 1e9:.2f} G'


def _size(input_size):
    return 'x'.join(map(str, input_size))


def _say(message):
    """Print one line of this program's own to standard error."""
    tqdm.write(f'gluon-aff: {printable(message)}', file=sys.stderr)


def _table(rows, out):
    rows = [[printable(cell) for cell in row] for row in rows]
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
        rows.append(
            (
                card.name,
                _millions(card.parameters),
                _giga(card.multiply_adds),
                _size(card.input_size),
                ', '.join(card.weights) or '-',
            )
        )
    _table(rows, sys.stdout)
    return 0


def _published(published):
    """Rows (title, text) of a network's published figures."""
    lines = [f'{figure}; {figure.source}' for figure in published.figures] if published else []
    if published and published.parameters:
        lines.append(f'{published.parameters:g} M parameters ({published.counted}); {published.parameters_source}')
    return [('published' if number == 0 else '', line) for number, line in enumerate(lines or ['nothing'])]


def info_command(args):
    """Print the card of a network."""
    card = model_info(args.name)
    _table(
        [
            ('name', card.name),
            ('family', card.family),
            ('task', card.task),
            ('fusion', card.fusion),
            ('params', f'{card.parameters:,} trainable'),
            ('multiply-adds', f'{card.multiply_adds:,} for one image'),
            ('input', f'{_size(card.input_size)}, RGB in 0..1 less mean, by std; centre crop of {card.crop_ratio:g}'),
            ('mean', ', '.join(f'{v:.4f}' for v in card.mean)),
            ('std', ', '.join(f'{v:.4f}' for v in card.std)),
            ('data set', card.dataset),
            ('classes', f'{card.classes}: {", ".join(card.class_names[:4])}, ...'),
            ('source', card.source),
            *_published(card.published),
            ('weights', ', '.join(card.weights) or 'none released'),
        ],
        sys.stdout,
    )
    for each in checkpoints(card.name):
        print()
        _table(
            [
                ('weights', each.tag),
                ('data set', f'{each.dataset}, labels {each.labels}, {each.outputs} outputs'),
                (
                    'figures',
                    ', '.join(f'{what.replace("_", " ")} {value:.4f}' for what, value in each.figures.items())
                    + f' ({each.figures_source})',
                ),
                ('recipe', each.recipe),
                ('from', each.source),
                ('licence', each.license),
                ('type', each.dtype),
                (each.digest_kind, each.digest),
                ('file', f'{each.path(args.root)}: {each.state(args.root)}'),
            ],
            sys.stdout,
        )
    return 0


def compare_command(args):
    """Set networks side by side: published figures, parameters, multiply-adds and speed."""
    for flag, value in (('--batch', args.batch), ('--gpu', args.gpu)):
        if args.no_speed and value is not None:
            raise ValueError(f'{flag} is for the speed, which --no-speed leaves out; leave one of them out.')
    ctx, batch = _device(args.gpu), args.batch or 1
    rows = compare(args.names or TABLE, None if args.no_speed else batch, ctx)
    if args.format == 'csv':
        write_csv(rows, sys.stdout)
    else:
        write_markdown(
            rows,
            sys.stdout,
            '' if args.no_speed else f'inference in float32 at batch {batch} on {ctx}, median of {RUNS} runs in turns',
        )
    if args.plot:
        figure(rows).savefig(args.plot, dpi=150)
    return 0


def download_command(args):
    """Fetch the released parameters of networks into the cache folder, verified."""
    wanted = [each for name in list_models(args.pattern) for each in checkpoints(name)]
    if not wanted:
        raise ValueError(
            f'No network with released parameters fits {args.pattern!r}; '
            f'there are: {", ".join(list_models(pretrained=True))}.'
        )
    failed = 0
    for each in wanted:
        try:
            print(printable(each.get(args.root)), flush=True)
        except (ValueError, OSError) as error:
            _say(error)
            failed += 1
    return 1 if failed else 0


def verify_command(args):
    """Check that a parameter file is whole, say which released one it is, and whether it fits a network."""
    arrays = read_parameters(args.file)
    values = sum(array.size for array in arrays.values())
    print(f'{printable(args.file)}: {len(arrays)} arrays, {values:,} values, whole')
    known = [each for each in checkpoints() if digest(args.file, each.digest_kind) == each.digest]
    for each in known:
        print(f'it is the released file of {each.model}, {each.tag}')
    if not known:
        print('it is not one of the released files')
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
            (printable(path), rank, printable(label), f'{p:.6f}') for rank, (label, p) in enumerate(found, start=1)
        )
    if form == 'jsonl':
        return lambda path, found: print(
            json.dumps(
                {'image': path, 'predictions': [{'label': label, 'probability': round(p, 6)} for label, p in found]}
            ),
            file=out,
        )
    return lambda path, found: _table(
        [(path if rank == 0 else '', f'{p:7.2%}', label) for rank, (label, p) in enumerate(found)], out
    )


def _classify(predictor, args):
    """How images are prepared (path) -> crop, and a function ([(path, crop), ...]) that writes their classes."""
    if args.output is not None:
        raise ValueError(f'-o is for segmentation networks; the classes from {predictor.name} go to standard output.')
    write = _write_predictions(args.format or 'table', sys.stdout)

    def show(batch):
        found = predictor.classify([crop for _, crop in batch], args.top_k or 5)
        with tqdm.external_write_mode():
            for (path, _), classes in zip(batch, found):
                write(path, classes)

    return lambda path: predictor.prepare(read_image(path)), show


def _segment(predictor, images, args):
    """How images are read (path) -> image, and a function ([(path, image), ...]) that writes and names overlays."""
    for flag, value in (('--top-k', args.top_k), ('--format', args.format), ('--batch-size', args.batch_size)):
        if value is not None:
            raise ValueError(f'{flag} is for classification networks; {predictor.name} segments images, one by one.')
    if args.output is None:
        raise ValueError(
            f'{predictor.name} is a segmentation network: give -o, a folder for the images with their masks overlaid.'
        )
    files = {path: os.path.join(args.output, name) for path, name in overlay_names(images, '-overlay.png').items()}
    if os.path.isdir(args.output):
        remove_abandoned(args.output)
    if not predictor.spec.dynamic:
        _say(
            '{} takes images of {} x {} only; others are scaled to fit into that, and their masks scaled back.'.format(
                predictor.name, *predictor.input_size[:0:-1]
            )
        )

    def read(path):
        image = read_image(path)
        if predictor.spec.dynamic and min(image.size) < predictor.min_size:
            raise ValueError(
                f'{path} is {image.width} x {image.height}, smaller than the '
                f'{predictor.min_size} pixels that {predictor.name} needs.'
            )
        return image

    def show(batch):
        for path, image in batch:
            with atomic(files[path]) as partial:
                overlay(image, predictor.segment(image)).save(partial, format='png')
            with tqdm.external_write_mode():
                print(printable(files[path]))

    return read, show


def _device(gpu):
    """MXNet's device for --gpu."""
    if gpu is None:
        return mx.cpu()
    try:
        count = mx.context.num_gpus()
    except mx.MXNetError:  # its driver is missing
        count = 0
    if not 0 <= gpu < count:
        raise ValueError(
            f'--gpu {gpu} is not there: MXNet finds {count} GPUs on this machine'
            f'{", and they count from 0" if count else "; leave --gpu out"}.'
        )
    return mx.gpu(gpu)


def _name_skipped(skipped):
    """Name the files that were left out on standard error; returns the exit status."""
    for sentence in skipped.values():
        _say(sentence)
    if skipped:
        _say(f'{len(skipped)} files were left out.')
    return 1 if skipped else 0


def predict_command(args):
    """Classify images: the most probable classes of each; a segmentation network writes overlays (-o)."""
    images, skipped = find_images(args.images)
    if args.gpu is not None and args.backend not in (None, 'mxnet'):
        raise ValueError(
            f'--gpu is for MXNet, and --backend {args.backend} computes on the CPU; leave one of them out.'
        )
    predictor = open_predictor(args.name, args.weights, args.backend, _device(args.gpu))
    segments = predictor.task == 'segmentation'
    prepare, show = _segment(predictor, images, args) if segments else _classify(predictor, args)
    size, unreadable = 1 if segments else args.batch_size or 8, 0
    with tqdm(total=len(images), unit='image', file=sys.stderr, leave=False, disable=None) as progress:
        for start in range(0, len(images), size):
            batch = []
            for path in images[start : start + size]:
                try:
                    batch.append((path, prepare(path)))
                except ValueError as error:
                    _say(error)
                    unreadable += 1
            if batch:
                show(batch)
            progress.update(len(images[start : start + size]))
    if unreadable:
        _say(f'{unreadable} of {len(images)} images could not be read.')
    return _name_skipped(skipped) or (1 if unreadable else 0)


def gradcam_command(args):
    """Show where networks look: a figure with a row for each, a column for each image (Grad-CAM; PNG or PDF)."""
    # Not at the top: drawing takes long to import, and the other commands do without it.
    from .pictures.figure import FORMATS, pages, save
    from .pictures.heatmaps import Panel, Row, check_labels, crop, enlarged, look, open_model

    if os.path.splitext(args.output)[1].lower() not in FORMATS:
        raise ValueError(f'-o names a {" or ".join(FORMATS)} file, got {args.output!r}.')
    paths, skipped = find_images(args.images)
    if args.label and len(args.label) not in (1, len(paths)):
        raise ValueError(
            f'--label takes one class for all images, or {len(paths)}, one for each; got {len(args.label)}.'
        )
    truths = args.label and (args.label * len(paths) if len(args.label) == 1 else args.label)
    ctx = _device(args.gpu)
    opened = [(name, *open_model(name, ctx)) for name in args.models]
    models = [model for _, model, _ in opened]
    check_labels(truths or (), models)
    readable = {}  # of a large picture the crops alone stay in memory
    for index, path in enumerate(paths):
        try:
            image = read_image(path)
            readable[index] = [crop(model, image) for model in models]
        except ValueError as error:
            _say(error)
    if not readable:
        raise ValueError(f'None of the {len(paths)} images could be read; there is nothing to draw.')
    truths = truths and [truths[index] for index in readable]
    names = [
        printable(os.path.basename(paths[index])) + (f'\n{truths[place]}' if truths else '')
        for place, index in enumerate(readable)
    ]
    crops = list(zip(*readable.values()))
    rows = [Row('image', [Panel(enlarged(picture), name) for picture, name in zip(crops[0], names)])]
    for (name, model, _), seen in zip(opened, crops):
        title = name if not os.path.isdir(name) else f'{model.name} ({os.path.basename(os.path.normpath(name))})'
        rows += look(model, seen, printable(title), truths, args.method, args.fusion_weights)
    random = ', '.join(name for name, _, is_random in opened if is_random)
    banner = random and (
        f'Random weights: {random}. No parameters are released and none are given (NAME=FILE), so '
        'these rows show nothing that was learned.'
    )
    if banner:
        _say(banner)
    note = 'Grad-CAM of the class that the network names, with its softmax score below.'
    if truths:
        note += ' A star: it is not the class asked for.'
    if args.fusion_weights:
        note += (
            ' M: orange where fusion takes the branch that M multiplies (in residual blocks the learned one), '
            'blue where it takes the other, white where both count alike.'
        )
    for file in save(pages(rows, note, banner), args.output):
        print(printable(file))
    return _name_skipped(skipped) or (1 if len(readable) < len(paths) else 0)


def report_command(args):
    """Write a page on the whole zoo, one HTML file that needs no network: tables, plots, Grad-CAM, code."""
    from .pictures.page import write_report

    print(printable(write_report(args.output)))
    return 0


def export_command(args):
    """Write a network for use elsewhere: MXNet's symbol and parameters, ONNX, INT8, and model.json beside them."""
    formats = args.format.split(',')
    for flag, given in (('--calibrate', args.calibrate is not None), ('--float-nodes', args.float_nodes != 0)):
        if given and 'int8' not in formats:
            raise ValueError(f'{flag} is for INT8; add int8 to --format, or leave {flag} out.')
    if args.float_nodes < 0:
        raise ValueError(f'--float-nodes is a number of nodes, at least 0, got {args.float_nodes}.')
    model, is_random = open_or_random(args.name, args.weights)
    if is_random:
        _say(f'{model.name} has no released weights and --weights is not given; the exported parameters are random.')
    calibration, skipped = usable_images([args.calibrate]) if args.calibrate else (None, {})
    if args.calibrate and not calibration:
        raise ValueError(f'--calibrate {args.calibrate} holds no image that can be read; name a folder of images.')
    before = set(os.listdir(args.output)) if os.path.isdir(args.output) else set()
    description = export(
        model, args.output, formats, calibration, args.preprocess, not args.fixed_size, args.float_nodes
    )
    for file in [*(record['file'] for record in description['files'].values()), 'model.json']:
        print(printable(os.path.join(args.output, file)))
    gone = sorted(name for name in before if not os.path.exists(os.path.join(args.output, name)))
    if gone:
        _say(
            f'{", ".join(gone)} of the earlier export were removed, as this one has other parameters or another '
            'description.'
        )
    if 'int8' in formats:
        _say(
            'on the {images} images INT8 predicts the same class as float32 for {top1_agreement:.2%}, and its logits '
            'are off by {mean_absolute_difference:.3g} on average, at a mean size of {mean_absolute_logit:.3g}.'.format(
                **description['int8']
            )
        )
    return _name_skipped(skipped)


def records_command(args):
    """Pack folders of images, one for each class, into train.rec and val.rec, with their .idx and classes.txt."""
    skipped = write_records(args.tree, args.output, args.val_fraction, args.resize, args.quality, args.workers)
    for name in ('train.rec', 'val.rec'):
        packed = RecordFile(os.path.join(args.output, name))
        print(f'{printable(packed.path)}: {len(packed)} images of {len(packed.class_names)} classes')
    return _name_skipped(skipped)


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        super().error(printable(message))


def _parser():
    parser = _Parser(prog='gluon-aff', description='Networks with attentional feature fusion.', allow_abbrev=False)
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

    sub = command('compare', compare_command)
    sub.add_argument(
        'names',
        nargs='*',
        metavar='NAME',
        help="networks, a fusion added as in 'se_resnet50+aff'; default: the AFF slides' table, and more",
    )
    sub.add_argument('--batch', type=_count, metavar='N', help='images in a batch, for the speed, default 1')
    sub.add_argument('--no-speed', action='store_true', help='leave the speed out')
    sub.add_argument('--gpu', type=int, metavar='N', help='measure on this GPU rather than the CPU')
    sub.add_argument('--format', choices=('markdown', 'csv'), default='markdown')
    sub.add_argument('--plot', metavar='FILE.png', help='draw the published error against parameters and multiply-adds')

    sub = command('download', download_command)
    sub.add_argument('pattern', metavar='PATTERN', help="a name, or wildcards such as 'iaff_*'")
    cache(sub)

    sub = command('verify', verify_command)
    sub.add_argument('file', metavar='FILE')
    sub.add_argument('--model', metavar='NAME', help='the network that it should fit')

    cache(command('purge', purge_command))

    sub = command('predict', predict_command)
    sub.add_argument('name', metavar='NAME', help="a network's name, or a folder: a training run's, or an exported one")
    sub.add_argument('images', nargs='+', metavar='IMAGE', help='image files, or folders of them')
    sub.add_argument('--weights', metavar='FILE', help='parameter file, or tag of a released one')
    sub.add_argument('--top-k', type=_count, metavar='K', help='how many classes of each image, default 5')
    sub.add_argument('--format', choices=('table', 'jsonl', 'csv'), help='default: table')
    sub.add_argument('--batch-size', type=_count, metavar='N', help='images that are computed at once, default 8')
    sub.add_argument('--gpu', type=int, metavar='N', help='run on this GPU, by MXNet, rather than the CPU')
    sub.add_argument('--backend', choices=BACKENDS, help='what computes an exported folder')
    sub.add_argument('-o', '--output', metavar='DIR', help="folder for a segmentation network's overlays")

    sub = command('gradcam', gradcam_command)
    sub.add_argument('images', nargs='+', metavar='IMAGE', help='image files, or folders of them')
    sub.add_argument(
        '--models',
        nargs='+',
        required=True,
        metavar='NAME',
        help="networks: a name, NAME=FILE (parameters, or a released file's tag), or a run's folder",
    )
    sub.add_argument('-o', '--output', required=True, metavar='FILE', help='figure.png or figure.pdf')
    sub.add_argument('--label', nargs='+', metavar='CLASS', help='what the images show, one for all or one for each')
    sub.add_argument('--method', choices=METHODS, default='grad_cam')
    sub.add_argument('--fusion-weights', action='store_true', help='add rows that show M, where there are any')
    sub.add_argument('--gpu', type=int, metavar='N', help='run on this GPU rather than the CPU')

    sub = command('report', report_command)
    sub.add_argument('-o', '--output', required=True, metavar='DIR', help='folder for index.html')

    sub = command('export', export_command)
    sub.add_argument('name', metavar='NAME', help="a network's name, or a training run's folder")
    sub.add_argument('-o', '--output', required=True, metavar='DIR')
    sub.add_argument('--weights', metavar='FILE', help='parameter file, or tag of a released one')
    sub.add_argument('--format', default='symbol', metavar='F,F', help='of symbol, onnx, int8; default: symbol')
    sub.add_argument('--calibrate', metavar='FOLDER', help='images like those to come, for int8')
    sub.add_argument(
        '--float-nodes',
        type=int,
        default=0,
        metavar='N',
        help='leave the N nodes that suffer most from INT8, by measurement, in float32',
    )
    sub.add_argument('--preprocess', action='store_true', help='take images (N, H, W, 3) of uint8')
    sub.add_argument('--fixed-size', action='store_true', help="take images of the network's input size only")

    sub = command('records', records_command)
    sub.add_argument('tree', metavar='TREE', help='folder of train/ and val/, or of the classes')
    sub.add_argument('-o', '--output', required=True, metavar='DIR')
    sub.add_argument('--val-fraction', type=float, metavar='F', help='share of one tree that is held out')
    sub.add_argument('--resize', type=int, default=256, metavar='N', help='pixels of the short side; 0 leaves them')
    sub.add_argument('--quality', type=_count, default=95, metavar='Q', help='of the JPEG, 1 to 100')
    sub.add_argument('--workers', type=_count, default=4, metavar='N')
    return parser


def _count(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'must be a whole number, 1 or more, got {text}')
    return int(text)


def main(argv=None):
    """Run a command; returns the exit status (2 where the arguments or files are wrong)."""
    with any_character(sys.stdout), warnings.catch_warnings():
        # Pillow's readers warn of damaged metadata and sizes; what matters of it is an error here.
        warnings.filterwarnings('ignore', module='PIL')
        warnings.filterwarnings('ignore', 'Glyph .* missing')  # a figure has a box in its place
        args = _parser().parse_args(argv)
        try:
            status = args.run(args)
            sys.stdout.flush()
            return status
        except BrokenPipeError:
            # The reader, such as head, has seen enough; keep Python from flushing into the closed pipe at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except (ValueError, OSError, ImportError) as error:
            _say(in_words(error))
            return 2


if __name__ == '__main__':
    sys.exit(main())
