"""gluon-aff evaluate and model_zoo.evaluate: equal to an independent count for each source and each backend."""

import csv
import gzip
import json
import struct
from dataclasses import replace
from importlib.util import find_spec
from types import SimpleNamespace

import cv2
import mxnet as mx
import numpy as np
import pytest
from PIL import Image
from reference import DATA, available, filled, loaded, refused, tiered
from scipy.io import savemat

import model_zoo
from gluon_aff.data import class_names
from gluon_aff.data.class_names import imagenet_synsets, match_class_names
from gluon_aff.data.coco import CocoSegmentation
from gluon_aff.data.ground_truth import read_ground_truth
from gluon_aff.data.image_sets import digits
from gluon_aff.data.labelled_images import record_images
from gluon_aff.data.masks import SegmentationBatches
from gluon_aff.data.record_file import write_record
from gluon_aff.deploy import export
from gluon_aff.deploy.openvino_engine import import_openvino
from gluon_aff.inspect.evaluation_report import ClassificationReport
from gluon_aff.inspect.model_evaluation import Evaluation, ReportedFigure
from gluon_aff.train import Segmentation
from gluon_aff.train import evaluate as evaluate_task
from model_zoo import get_model, list_weights, load_model, model_info
from model_zoo.cli import main
from model_zoo.evaluate_by_name import open_data, released_weights, reported_figures
from model_zoo.pictures.evaluation_files import confusion_figure, mistakes_figure, write_evaluation

SHIPPED = 'fashion_mnist_aff_resnet8'
NAMES = class_names.FASHION_MNIST
FILES = ('confusion.csv', 'confusion.png', 'mistakes.png', 'report.json')


def write_idx(path, array):
    header = struct.pack(f'>{1 + array.ndim}I', 0x800 + array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes(), 1))


@pytest.fixture(scope='module')
def clothes(tmp_path_factory):
    """1,000 of Fashion-MNIST's test images, half of them mirrored, in each form: a folder, and pixels and labels."""
    top, content = tmp_path_factory.mktemp('clothes'), np.load(DATA / 'fashion_mnist_test.npz')
    pixels = np.concatenate([content['images'], content['images'][:, :, ::-1]])
    labels = np.tile(content['labels'], 2)
    for name in ('tree', 'flat', 'idx'):
        (top / name).mkdir()
    for name in NAMES:
        (top / 'tree' / name.replace('/', '-').lower()).mkdir()
    with open(top / 'test.rec', 'wb') as record:
        for number, (image, label) in enumerate(zip(pixels, labels)):
            path = top / 'flat' / f'{number:04d}.png'
            Image.fromarray(image).save(path, compress_level=1)
            (top / 'tree' / NAMES[label].replace('/', '-').lower() / path.name).symlink_to(path)
            write_record(record, label, number, path.read_bytes())
    (top / 'classes.txt').write_text('\n'.join(NAMES))
    (top / 'labels.txt').write_text('\n'.join(map(str, labels)))
    order = np.random.RandomState(0).permutation(1000)
    (top / 'named.txt').write_text('\n'.join(f'{number:04d}.png {labels[number]}' for number in order))
    for prefix, chosen in (('train', slice(20)), ('t10k', slice(None))):
        write_idx(top / 'idx' / f'{prefix}-images-idx3-ubyte.gz', pixels[chosen])
        write_idx(top / 'idx' / f'{prefix}-labels-idx1-ubyte.gz', labels[chosen])
    return top, pixels, labels


@pytest.fixture(scope='module')
def batch(clothes):
    """The 1,000 images as the network takes them, prepared by hand."""
    resized = [np.asarray(Image.fromarray(image).resize((32, 32), Image.BILINEAR)) for image in clothes[1]]
    scaled = (np.stack(resized)[:, None] / 255 - 0.2856) / 0.3385
    return np.repeat(scaled, 3, 1).astype(np.float32)


@pytest.fixture(scope='module')
def exported(tmp_path_factory, clothes):
    """An export of the shipped network, in every form that can be written here."""
    folder = tmp_path_factory.mktemp('export') / 'exported'
    if not all(map(find_spec, ('onnx', 'onnxruntime'))):
        export(load_model(SHIPPED), str(folder), ['symbol'])
    else:
        images = [str(clothes[0] / 'flat' / f'{number:04d}.png') for number in range(0, 1000, 25)]
        export(load_model(SHIPPED), str(folder), ['symbol', 'onnx', 'int8'], images)
    return folder


def count(logits, labels):
    """What a report has, counted anew."""
    order = np.argsort(-logits.astype(np.float64), 1, kind='stable')
    confusion = np.zeros((logits.shape[1],) * 2, int)
    for label, predicted in zip(labels, order[:, 0]):
        confusion[label, predicted] += 1
    figures = {
        'images': len(labels),
        'top1': np.mean([label == row[0] for label, row in zip(labels, order)]),
        'top5': np.mean([label in row[:5] for label, row in zip(labels, order)]),
    }
    return confusion, figures


def check(evaluation, logits, labels):
    confusion, figures = count(logits, labels)
    summary = evaluation.summary()
    np.testing.assert_array_equal(evaluation.report.confusion, confusion)
    assert {key: summary[key] for key in figures} == pytest.approx(figures)
    accuracies = [row['accuracy'] for row in summary['classes'] if row['images']]
    present = confusion.sum(1) > 0
    np.testing.assert_allclose(accuracies, np.diag(confusion)[present] / confusion.sum(1)[present])
    assert summary['images_per_second'] > 0 and summary['network_images_per_second'] > 0


SOURCES = {
    'class folders': ('tree', {}),
    'labels': ('flat', {'ground_truth': 'labels.txt'}),
    'names and labels': ('flat', {'ground_truth': 'named.txt'}),
    'record': ('test.rec', {}),
    'data set': ('fashion_mnist', {'data_dir': 'idx'}),
}


def opened(top, source):
    """Arguments of evaluate for a source."""
    data, options = SOURCES[source]
    path = data if data == 'fashion_mnist' else str(top / data)
    return path, {name: str(top / value) for name, value in options.items()}


@pytest.fixture(scope='module')
def logits(batch):
    net = get_model(SHIPPED, pretrained=True)
    return np.concatenate([net(mx.nd.array(part)).asnumpy() for part in np.split(batch, 4)])


@pytest.mark.parametrize('source', SOURCES)
def test_each_source_gives_an_independent_count(clothes, logits, source):
    top, _, labels = clothes
    data, options = opened(top, source)
    check(model_zoo.evaluate(SHIPPED, data, batch_size=250, **options), logits, labels)


def compute(backend, folder, batch):
    """Logits by an engine itself."""
    prefix = str(folder / SHIPPED)
    if backend == 'mxnet':
        net = mx.gluon.SymbolBlock.imports(f'{prefix}-symbol.json', ['data'], f'{prefix}-0000.params')
        return net(mx.nd.array(batch)).asnumpy()
    if backend == 'opencv':
        net = cv2.dnn.readNetFromONNX(f'{prefix}.onnx')
        net.setInput(batch)
        return net.forward()
    if backend.startswith('openvino'):
        openvino = import_openvino()
        path, precision = f'{prefix}{"-int8" * ("int8" in backend)}.onnx', {'INFERENCE_PRECISION_HINT': 'f32'}
        return openvino.Core().compile_model(path, 'CPU', precision)(batch)[0]
    onnxruntime = pytest.importorskip('onnxruntime')
    return onnxruntime.InferenceSession(f'{prefix}{"-int8" * (backend == "int8")}.onnx').run(None, {'data': batch})[0]


BACKENDS = ('mxnet', 'onnxruntime', 'int8', 'opencv', 'openvino', 'openvino-int8')
PAIRS = [(backend, source) for backend in BACKENDS for source in SOURCES]
QUICK = [(backend, source) for backend, source in PAIRS if source == 'class folders']


@pytest.mark.parametrize('pair', tiered(PAIRS, QUICK), ids=' on '.join)
def test_each_backend_gives_an_independent_count(clothes, batch, exported, pair):
    backend, source = pair
    top, _, labels = clothes
    available(backend)
    if backend != 'mxnet' and not (exported / f'{SHIPPED}.onnx').is_file():
        pytest.skip("needs the extra 'onnx'")
    logits = np.concatenate([compute(backend, exported, part) for part in np.split(batch, 4)])
    data, options = opened(top, source)
    evaluation = model_zoo.evaluate(str(exported), data, backend=backend, batch_size=250, **options)
    check(evaluation, logits, labels)
    assert evaluation.backend == backend


@pytest.mark.parametrize('name', ['digits', 'cifar10', 'cifar100', 'cifar100 coarse'])
def test_data_sets_by_name(tmp_path, name):
    """With a network of random weights, prepared by its own mean and std."""
    random, name, coarse = np.random.RandomState(0), *name.partition(' ')[::2]
    data_dir = None
    if name == 'digits':
        pixels, labels = digits().test
        names, pixels = class_names.DIGITS, np.repeat(pixels, 3, 3)
    else:
        pixels, labels = random.randint(0, 256, (90, 32, 32, 3)).astype(np.uint8), random.randint(0, 10, (90, 2))
        names = {'cifar10': class_names.CIFAR10, 'cifar100': class_names.CIFAR100}[name]
        heads, labels = labels[:, 2 - len(names) // 100 - 1 :], labels[:, 0 if coarse else -1]
        if coarse:
            names = class_names.BY_NAME['cifar100_coarse']
        rows = np.column_stack([heads, pixels.transpose(0, 3, 1, 2).reshape(90, -1)]).astype(np.uint8).tobytes()
        folder = tmp_path / {'cifar10': 'cifar-10-batches-bin', 'cifar100': 'cifar-100-binary'}[name]
        folder.mkdir()
        train = ('train',) if name == 'cifar100' else [f'data_batch_{number}' for number in range(1, 6)]
        for file in (*train, 'test' if name == 'cifar100' else 'test_batch'):
            (folder / f'{file}.bin').write_bytes(rows)
        data_dir = str(tmp_path)
    net = filled(get_model('cifar_add_resnet8', classes=len(names), width=1))
    model = loaded('cifar_add_resnet8', net, names, (3, 32, 32), (0.4, 0.5, 0.6), (0.2, 0.3, 0.25))
    logits = net(mx.nd.array(((pixels / 255 - model.spec.mean) / model.spec.std).transpose(0, 3, 1, 2))).asnumpy()
    check(model_zoo.evaluate(model, name, data_dir=data_dir), logits, labels)


def polygon(left, top, right, bottom):
    return [[left, top, right, top, right, bottom, left, bottom]]


@pytest.fixture
def signs(tmp_path):
    """A COCO instances file of four images with a sign, one of which is damaged, and a segmentation network."""
    random, images, annotations = np.random.RandomState(0), [], []
    for number, (width, height) in enumerate([(40, 32), (24, 48), (33, 33), (30, 30)]):
        Image.fromarray(random.randint(0, 256, (height, width, 3)).astype(np.uint8)).save(tmp_path / f'{number}.png')
        images.append({'id': number, 'file_name': f'{number}.png', 'width': width, 'height': height})
        annotation = {'id': number, 'image_id': number, 'category_id': 13, 'iscrowd': 0, 'area': 100}
        annotations.append({**annotation, 'segmentation': polygon(5, 6, 15, 16), 'bbox': [5, 6, 10, 10]})
    (tmp_path / '3.png').write_bytes((tmp_path / '3.png').read_bytes()[:500])
    content = {'images': images, 'annotations': annotations, 'categories': [{'id': 13, 'name': 'stop sign'}]}
    path = tmp_path / 'instances.json'
    path.write_text(json.dumps(content))
    net = filled(get_model('fpn_aff_resnet8'))
    return path, loaded('fpn_aff_resnet8', net, class_names.STOP_SIGN, (3, 32, 32), (0.5,) * 3, (0.2,) * 3)


def test_segmentation_is_evaluated_as_in_training(signs):
    pytest.importorskip('pycocotools')
    path, model = signs
    summary = model_zoo.evaluate(model, path, image_dir=str(path.parent)).summary()
    data = CocoSegmentation(str(path), str(path.parent))
    batches = SegmentationBatches(data, 1, model.spec.mean, model.spec.std)
    expected = evaluate_task(model.net, batches, task=Segmentation(2))
    assert (summary['miou'], summary['pixel_accuracy']) == pytest.approx((expected['miou'], expected['pixel_accuracy']))
    right = sum(int((model.segment(image) == mask).sum()) for image, mask in data)
    assert summary['pixel_accuracy'] == pytest.approx(right / sum(row['pixels'] for row in summary['classes']))
    assert summary['images'] == 3 and len(summary['skipped']) == 1 and '3.png' in summary['skipped'][0]


# The command


def run(capsys, *args):
    """Exit status, standard output and standard error of the command."""
    status = main(['evaluate', *map(str, args)])
    return (status, *capsys.readouterr())


@pytest.fixture
def few(tmp_path):
    """Twelve images in class folders, and one that is damaged."""
    content = np.load(DATA / 'fashion_mnist_test.npz')
    for number in range(12):
        folder = tmp_path / 'few' / NAMES[content['labels'][number]].replace('/', ' ')
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(content['images'][number]).save(folder / f'{number}.png')
    whole = (folder / f'{number}.png').read_bytes()
    (folder / 'damaged.png').write_bytes(whole[: len(whole) // 2])
    return tmp_path / 'few'


def test_the_command_prints_figures_and_leaves_damaged_images_out(capsys, few):
    status, out, err = run(capsys, SHIPPED, few)
    assert status == 1 and 'damaged.png is not an image' in err and '1 files were left out' in err
    lines = dict(line.split('  ', 1) for line in out.splitlines() if '  ' in line)
    assert '12 images' in lines['data'] and '100.00% (75.75% to 100.00%)' in lines['top-1']
    assert '92.24%, inside' in lines['reported top-1'] and 'reported on Fashion-MNIST' in out


def test_a_run_is_evaluated_without_reported_figures(few, tmp_path):
    model = load_model(SHIPPED)
    (tmp_path / 'run').mkdir()
    model.net.save_parameters(str(tmp_path / 'run' / 'best.params'))
    description = {**model.spec.to_json(), 'model': SHIPPED, 'options': {}, 'parameters': 'best.params'}
    (tmp_path / 'run' / 'model.json').write_text(json.dumps(description))
    by_run, by_name = (model_zoo.evaluate(name, few) for name in (tmp_path / 'run', SHIPPED))
    np.testing.assert_array_equal(by_run.report.confusion, by_name.report.confusion)
    assert not by_run.reported and by_name.reported and by_run.skipped == by_name.skipped


def test_a_segmentation_networks_classes_are_printed_and_written(capsys, signs, fpn, tmp_path):
    pytest.importorskip('pycocotools')
    path, _ = signs
    status, out, err = run(capsys, fpn, path, '--image-dir', path.parent, '-o', tmp_path / 'out')
    assert status == 1 and '3.png' in err and 'mIoU' in out and 'pixel accuracy' in out and 'stop sign' in out
    saved = json.loads((tmp_path / 'out' / 'report.json').read_text())
    assert [row['class'] for row in saved['classes']] == ['background', 'stop sign'] and saved['images'] == 3


def test_json_is_one_document_and_the_reported_figure_stands_beside_ours(capsys, few):
    status, out, _ = run(capsys, SHIPPED, few, '--json')
    summary = json.loads(out)
    assert summary['top1'] == 1 and summary['reported'][0]['reported'] == 0.9224 and summary['reported'][0]['is_within']
    assert [row['images'] for row in summary['classes']][-1] > 0 and summary['model'] == SHIPPED


def test_files_of_an_earlier_evaluation_are_replaced_and_others_are_not(clothes, tmp_path):
    out_dir, images = tmp_path / 'out', open_data(str(clothes[0] / 'tree'), model_info(SHIPPED).spec)
    # All in the first folder, with the labels of another.
    images = replace(images, labels=(images.labels[:40] + 1) % 10, names=images.names[:40])
    evaluation = model_zoo.evaluate(SHIPPED, images)
    assert write_evaluation(evaluation, str(out_dir), images) == [str(out_dir / name) for name in FILES]
    rows = list(csv.reader((out_dir / 'confusion.csv').open()))
    np.testing.assert_array_equal(np.array([row[1:] for row in rows[1:]], int), evaluation.report.confusion)
    saved = json.loads((out_dir / 'report.json').read_text())
    assert saved == json.loads(json.dumps(evaluation.summary())) and len(saved['mistakes']) == 32
    assert saved['mistakes'][0]['confidence'] >= saved['mistakes'][-1]['confidence']
    assert all(min(Image.open(out_dir / name).size) > 400 for name in FILES if name.endswith('png'))
    write_evaluation(evaluation, str(out_dir), images)
    (out_dir / 'notes.txt').write_text('mine')
    with refused('holds notes.txt'):
        write_evaluation(evaluation, str(out_dir), images)
    assert {path.name for path in out_dir.iterdir()} == {*FILES, 'notes.txt'} and len(list(tmp_path.iterdir())) == 1


def test_several_backends_are_compared(capsys, exported, few, tmp_path):
    if not (exported / f'{SHIPPED}.onnx').is_file():
        pytest.skip("needs the extra 'onnx'")
    out_dir = tmp_path / 'out'
    status, out, _ = run(capsys, exported, few, '--backend', 'onnxruntime,int8', '-o', out_dir)
    assert status == 1 and 'onnxruntime' in out and '0 images' in out
    # The export is recognised as one of the released weights.
    assert '92.24%, inside' in out
    assert {path.name for path in out_dir.iterdir()} == {'onnxruntime', 'int8'}


def test_a_figure_outside_the_interval_says_so():
    figure = ReportedFigure('top1', 0.9, 0.8, (0.75, 0.85), 'data', 'source')
    assert not figure.is_within and replace(figure, reported=0.85).is_within


def test_reported_errors_are_compared_as_accuracies():
    report = ClassificationReport(NAMES)
    report.add(np.eye(10), [*range(8), 0, 0], [str(i) for i in range(10)])
    evaluation = Evaluation(SHIPPED, 'x', 'mxnet', report, {}, 1.0, 1.0)
    top1, top5 = reported_figures(evaluation, list_weights('iaff_resnet50')[0])
    assert (top1.metric, top1.reported, top1.measured, top1.is_within) == ('top1', 0.797841, 0.8, True)
    assert (top5.metric, top5.reported, top5.data) == ('top5', 0.945413, 'ImageNet-1k')
    assert reported_figures(evaluation, None) == ()


def test_labels_of_a_record_without_class_names_are_the_models(tmp_path):
    Image.new('RGB', (32, 32)).save(tmp_path / 'black.png')
    for labels in ([3, 9], [3, 10]):
        with open(tmp_path / 'x.rec', 'wb') as record:
            for number, label in enumerate(labels):
                write_record(record, label, number, (tmp_path / 'black.png').read_bytes())
        if labels[1] < 10:
            assert record_images(str(tmp_path / 'x.rec'), NAMES).labels.tolist() == labels
            continue
        with refused('has images of class 10, and the model has the classes 0 to 9'):
            record_images(str(tmp_path / 'x.rec'), NAMES)


def test_released_weights_are_recognised_by_tag_and_by_digest(tmp_path):
    record = released_weights(SHIPPED)
    assert record.tag == 'fashion_mnist' and released_weights(SHIPPED, record.path()) == record
    other = tmp_path / 'other.params'
    filled(get_model(SHIPPED)).save_parameters(str(other))
    assert released_weights(SHIPPED, str(other)) is None and released_weights(str(tmp_path)) is None


def test_the_picture_of_many_classes_has_no_numbers():
    report = ClassificationReport([f'class {i}' for i in range(100)])
    report.add(np.eye(100), np.arange(100), [str(i) for i in range(100)])
    axes = confusion_figure(report).axes[0]
    assert not axes.texts and axes.images[0].get_array().shape == (100, 100)


# Names of classes and ground truth


def test_class_names_are_matched_by_letters_and_digits():
    assert match_class_names(['SHIRT', 't_shirt top', 'Bag'], NAMES, source='x').tolist() == [6, 0, 8]
    synsets = imagenet_synsets()
    assert match_class_names(synsets[::-1], class_names.IMAGENET, source='x').tolist() == list(range(1000))[::-1]
    assert match_class_names(['great_white shark', 'tench'], class_names.IMAGENET, source='x').tolist() == [2, 0]
    with refused('2 of this name'):
        match_class_names(['crane'], class_names.IMAGENET, source='x')
    with refused("1 of 2 classes .* 'cat'"):
        match_class_names(['cat', 'Bag'], NAMES, source='x')


@pytest.fixture
def devkit(tmp_path):
    """ImageNet's devkit: numbers in its own order, as its meta.mat has them, which also lists inner nodes."""
    synsets = np.random.RandomState(0).permutation(imagenet_synsets())
    kind = [('ILSVRC2012_ID', 'O'), ('WNID', 'O'), ('words', 'O'), ('gloss', 'O'), ('num_children', 'O')]
    rows = [(number, synset, 'w', 'g', 0) for number, synset in enumerate(synsets, 1)]
    rows.append((1001, 'n00001740', 'entity', 'g', 3))
    savemat(tmp_path / 'meta.mat', {'synsets': np.array(rows, kind)[:, None]})
    path = tmp_path / 'ILSVRC2012_validation_ground_truth.txt'
    path.write_text('490\n361\n1000\n1\n')
    return path, [imagenet_synsets().index(synsets[number - 1]) for number in (490, 361, 1000, 1)]


def test_the_devkits_numbers_are_translated_by_its_meta_mat(devkit, tmp_path):
    path, expected = devkit
    names = [f'ILSVRC2012_val_0000000{number}.JPEG' for number in range(1, 5)]
    labels, missing = read_ground_truth(str(path), names, 1000)
    assert labels.tolist() == expected and not missing
    with refused("ImageNet's 1000 classes, and the model has 10"):
        read_ground_truth(str(path), names, 10)
    path.write_text('490\n361\n1000\n1001\n')
    with refused('the number 1001'):
        read_ground_truth(str(path), names, 1000)
    (tmp_path / 'meta.mat').write_bytes(b'damaged')
    with refused('cannot be read'):
        read_ground_truth(str(path), names, 1000)
    (tmp_path / 'meta.mat').unlink()
    with refused('its own order|own order'):
        read_ground_truth(str(path), names, 1000)


def test_images_that_the_folder_lacks_are_named(clothes, tmp_path):
    top, _, _ = clothes
    (tmp_path / '0003.png').symlink_to(top / 'flat' / '0003.png')
    evaluation = model_zoo.evaluate(SHIPPED, str(tmp_path), ground_truth=str(top / 'named.txt'))
    assert len(evaluation.report) == 1 and 'names 999 images' in next(iter(evaluation.skipped.values()))


# Mistakes of the user


def mistake(*args, **files):
    """Arguments, in which {top} is a folder of these files."""
    return args, files


MISTAKES = {
    'There is no folder': mistake(SHIPPED, '{top}/nowhere'),
    'There is no file': mistake(SHIPPED, '{top}/nowhere.rec'),
    'There is no annotation file': mistake('{fpn}', '{top}/no.json', '--image-dir', '{top}'),
    'has no class folders': mistake(SHIPPED, '{top}', **{'1.png': ''}),
    'is empty': mistake(SHIPPED, '{top}', **{'Bag/': ''}),
    'holds no image file': mistake(SHIPPED, '{top}', '--ground-truth', '{top}/labels.txt', **{'labels.txt': '1'}),
    'parts of a data set': mistake(SHIPPED, '{top}', **{'train/Bag/1.png': '', 'val/Bag/1.png': ''}),
    "1 of 2 classes .* such as 'cat'": mistake(SHIPPED, '{top}', **{'cat/1.png': '', 'Bag/1.png': ''}),
    'None of the 1 images': mistake(SHIPPED, '{top}', **{'Bag/1.png': 'x'}),
    'There is no ground-truth file': mistake(SHIPPED, '{top}', '--ground-truth', '{top}/no', **{'1.png': ''}),
    'has 1 labels, and there are 2 images': mistake(
        SHIPPED, '{top}', '--ground-truth', '{top}/g.txt', **{'1.png': '', '2.png': '', 'g.txt': '1\n'}
    ),
    'has no line for 1 of the 2 images, such as 2.png': mistake(
        SHIPPED, '{top}', '--ground-truth', '{top}/g.txt', **{'1.png': '', '2.png': '', 'g.txt': '1.png 3\n'}
    ),
    'gives 1.png the label 10, and labels are 0 to 9': mistake(
        SHIPPED, '{top}', '--ground-truth', '{top}/g.txt', **{'1.png': '', 'g.txt': '10'}
    ),
    "has 'shirt' for a label": mistake(
        SHIPPED, '{top}', '--ground-truth', '{top}/g.txt', **{'1.png': '', 'g.txt': '1.png shirt'}
    ),
    'Line 2 of .* each line needs': mistake(
        SHIPPED, '{top}', '--ground-truth', '{top}/g.txt', **{'1.png': '', '2.png': '', 'g.txt': '1\n2.png 1'}
    ),
    'segments images': mistake('{fpn}', '{top}', **{'Bag/1.png': ''}),
    'classifies whole images': mistake(SHIPPED, '{top}/x.json', '--image-dir', '{top}'),
    'needs --image-dir': mistake('{fpn}', '{top}/x.json'),
    'trained on this category': mistake('{fpn}', '{top}/x.json', '--image-dir', '{top}', '--category', 'bicycle'),
    'is of no use with digits': mistake(SHIPPED, 'digits', '--ground-truth', 'x'),
    '--image-dir is of no use': mistake(SHIPPED, '{top}', '--image-dir', 'x'),
    'without a data folder': mistake(SHIPPED, 'digits', '--data-dir', 'x'),
    'digits has 10 of 10 classes': mistake(SHIPPED, 'digits'),
    'Fashion-MNIST needs': mistake(SHIPPED, 'fashion_mnist', '--data-dir', '{top}'),
    'not exported; export it': mistake(SHIPPED, '{top}', '--backend', 'int8'),
    'Unknown model': mistake('nothing', '{top}'),
    '--batch-size must be': mistake(SHIPPED, '{top}', '--batch-size', '0'),
    'which is not of an evaluation': mistake(SHIPPED, '{top}', '-o', '{top}', **{'Bag/1.png': ''}),
    'is not a folder to write to': mistake(SHIPPED, '{top}', '-o', '{top}/x/y/z', **{'x': ''}),
    'is a file; name a folder': mistake(SHIPPED, '{top}', '-o', '{top}/x', **{'x': ''}),
    'is not an exported folder|not a training run': mistake('{top}', '{top}', **{'Bag/1.png': ''}),
}


@pytest.fixture(scope='module')
def fpn(tmp_path_factory):
    """The export of a segmentation network."""
    folder = tmp_path_factory.mktemp('fpn') / 'exported'
    net = filled(get_model('fpn_add_resnet8'))
    export(
        loaded('fpn_add_resnet8', net, class_names.STOP_SIGN, (3, 32, 32), (0.5,) * 3, (0.2,) * 3), folder, ['symbol']
    )
    return folder


@pytest.mark.parametrize('sentence', MISTAKES)
def test_a_mistake_is_one_sentence_and_status_2(capsys, tmp_path, fpn, sentence):
    args, files = MISTAKES[sentence]
    for name, text in files.items():
        path = tmp_path / name
        (path if name.endswith('/') else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith('/'):
            path.write_text(text)
    before = sorted(tmp_path.rglob('*'))
    status, out, err = run(capsys, *(str(arg).format(top=tmp_path, fpn=fpn) for arg in args))
    assert (status, out, err.count('\n')) == (2, '', 1), err
    with refused(sentence):
        raise ValueError(err.rstrip('\n'))
    assert sorted(tmp_path.rglob('*')) == before


def test_the_sheet_of_mistakes_tells_equal_file_names_apart():
    report = ClassificationReport(('cat', 'dog'))
    names = ['x/a/1.png', 'x/b/1.png', 'x/b/2.png']
    report.add(np.array([[0, 3], [0, 2], [0, 1]], np.float32), np.zeros(3, int), names)
    images = SimpleNamespace(names=names, read=lambda index: Image.new('RGB', (9, 8)))
    figure = mistakes_figure(SimpleNamespace(report=report, model='net'), images)
    written = [text.get_text() for text in figure.texts]
    assert [text for text in written if text.endswith('.png')] == ['a/1.png', 'b/1.png', '2.png']
    assert 'The 3 most certain of 3 mistakes by net.' in written
