"""Segmentation: what is learnt and reported, overlays, and train_stopsign.py from COCO's files to pictures."""

import csv
import json
import os
import re
import signal
import sys
from unittest import mock

import mxnet as mx
import numpy as np
import pytest
from gluoncv.loss import SoftmaxCrossEntropyLoss
from gluoncv.utils.metrics.segmentation import SegmentationMetric
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from programs import TOP, finish, start
from reference import refused
from test_resume import same, trained

import train_stopsign
from benchmarks import paired
from benchmarks import segmentation as benchmark
from gluon_aff.data.coco import CocoSegmentation
from gluon_aff.data.fingerprint import identity
from gluon_aff.data.masks import COLOURS, IGNORED, SegmentationBatches, overlay
from gluon_aff.data.preprocessing import normalise
from gluon_aff.program import python
from gluon_aff.train import Segmentation, Stopped, parse
from model_zoo.loading import load_model

LAUNCH = ['-m', 'gluon_aff.train.launch', '-n', '2', '-s', '1', '--launcher', 'local', sys.executable]


# The task


@st.composite
def batches(draw, images=None):
    """Logits (N, C, H, W) and masks (N, H, W) with ignored pixels."""
    classes, count = draw(st.integers(2, 4)), images or draw(st.integers(1, 3))
    height, width = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    random = np.random.RandomState(draw(st.integers(0, 2**32 - 1)))
    ignored = random.rand(count, height, width) < draw(st.sampled_from([0, 0.3, 1]))
    target = np.where(ignored, IGNORED, random.randint(0, classes, (count, height, width)))
    return random.randn(count, classes, height, width).astype('float32') * 3, target.astype('float32')


@given(drawn=st.lists(batches(), min_size=1, max_size=3))
def test_metrics_are_those_of_gluoncvs(drawn):
    drawn = [(logits, target) for logits, target in drawn if logits.shape[1] == drawn[0][0].shape[1]]
    classes = drawn[0][0].shape[1]
    task, metric, sums = Segmentation(classes), SegmentationMetric(classes), 0
    for logits, target in drawn:
        metric.update(mx.nd.array(target), mx.nd.array(logits))
        sums = sums + task.batch_sums(mx.nd.array(logits), target)
    metrics = task.metrics(sums)
    assert (metrics['pixel_accuracy'], metrics['miou']) == pytest.approx(metric.get(), abs=1e-12)
    assert sums.dtype == np.float64 and metrics.keys() == {task.main_metric, 'pixel_accuracy', 'val_loss'}
    losses = [task.loss(mx.nd.array(logits), mx.nd.array(target)).asnumpy() for logits, target in drawn]
    assert metrics['val_loss'] == pytest.approx(np.concatenate(losses).mean(), rel=1e-5)


@given(drawn=batches(images=1))
def test_loss_of_an_image_is_the_mean_over_its_labelled_pixels_with_the_gradient_of_gluoncvs(drawn):
    logits, target = (mx.nd.array(array) for array in drawn)
    share, gradients = (drawn[1] != IGNORED).mean(), []
    for loss in (Segmentation(logits.shape[1]).loss, SoftmaxCrossEntropyLoss(ignore_label=IGNORED)):
        logits.attach_grad()
        with mx.autograd.record():
            value = loss(logits, target)
        value.backward()
        gradients.append((value.asnumpy(), logits.grad.asnumpy().copy()))
    (ours, our_gradient), (theirs, their_gradient) = gradients
    assert ours.shape == (1,) and ours.dtype == np.float32
    # GluonCV divides the value by all pixels.
    np.testing.assert_allclose(ours * share, theirs, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(our_gradient, their_gradient, atol=1e-6)


def test_an_image_without_labelled_pixels_has_no_loss_and_changes_no_other():
    task, random = Segmentation(2), np.random.RandomState(0)
    logits = mx.nd.array(random.randn(3, 2, 5, 4) * 200)
    target = random.randint(0, 2, (3, 5, 4)).astype('float32')
    target[1] = IGNORED
    logits.attach_grad()
    with mx.autograd.record():
        losses = task.loss(logits, mx.nd.array(target))
    losses.backward()
    assert losses[1] == 0 and not logits.grad[1].asnumpy().any()
    for image in (0, 2):
        alone = task.loss(logits[image : image + 1], mx.nd.array(target[image : image + 1]))
        np.testing.assert_allclose(losses[image].asnumpy(), alone[0].asnumpy(), rtol=1e-6)


def test_training_score_is_the_pixel_accuracy_of_gluoncvs_metric():
    random = np.random.RandomState(1)
    logits, target = mx.nd.array(random.randn(4, 3, 9, 9)), random.randint(0, 3, (4, 9, 9)).astype('float32')
    target[:, 6:] = IGNORED  # as many in each image, for GluonCV counts pixels and the score images
    metric = SegmentationMetric(3)
    metric.update(mx.nd.array(target), logits)
    total, number = Segmentation(3).score(logits, mx.nd.array(target))
    assert total.asscalar() / number == pytest.approx(metric.get()[0], rel=1e-6)


# Overlays


def test_an_overlay_colours_objects_and_leaves_the_rest():
    random = np.random.RandomState(0)
    image, mask = random.randint(0, 256, (20, 30, 3)).astype(np.uint8), random.randint(-1, 9, (20, 30))
    kept = image.copy()
    coloured = np.asarray(overlay(Image.fromarray(image), mask, opacity=0.25)).astype(float)
    np.testing.assert_array_equal(coloured[mask <= 0], image[mask <= 0])
    for number in range(1, 9):
        expected = 0.75 * image[mask == number] + 0.25 * np.array(COLOURS[(number - 1) % len(COLOURS)])
        assert abs(coloured[mask == number] - expected).max() <= 0.5
    np.testing.assert_array_equal(overlay(image, mask), overlay(Image.fromarray(image), mask))
    np.testing.assert_array_equal(image, kept)
    with refused(r'the same size, got \(30, 20\) and \(20, 30, 3\)'):
        overlay(image, mask.T)


# The script


@pytest.fixture(scope='module')
def signs(tmp_path_factory):
    """The flags of a short run on drawn signs; one training image is missing, and one to validate on is smaller."""
    folder = tmp_path_factory.mktemp('signs')
    status, _, err = finish(start(TOP / 'examples' / 'stopsign_data.py', folder, '--train', 7, '--val', 2))
    assert status == 0, err
    (folder / 'train' / '000003.png').unlink()
    Image.new('RGB', (70, 51), (90, 120, 90)).save(folder / 'val' / 'small.png')
    annotations = json.loads((folder / 'instances_val.json').read_text())
    annotations['images'].append({'id': 99, 'file_name': 'small.png', 'width': 70, 'height': 51})
    annotations['annotations'].append(
        {
            'id': 99,
            'image_id': 99,
            'category_id': 13,
            'iscrowd': 0,
            'bbox': [9, 8, 20, 20],
            'segmentation': [[9, 8, 29, 8, 29, 28, 9, 28]],
        }
    )
    (folder / 'instances_val.json').write_text(json.dumps(annotations))
    return [
        '--data-dir',
        str(folder),
        *'--train-images train --train-annotations instances_train.json'.split(),
        *'--val-images val --val-annotations instances_val.json'.split(),
        *'--base-size 96 --input-size 48 --batch-size 2 --num-epochs 2 --model fpn_aff_resnet8 --fusion aff'.split(),
    ]


def held_out(signs):
    return CocoSegmentation(os.path.join(signs[1], 'instances_val.json'), os.path.join(signs[1], 'val'))


def check_metrics(folder, signs):
    """What was logged of the best epoch is what GluonCV's metric says of its parameters."""
    model, metric = load_model(str(folder)), SegmentationMetric(2)
    spec = model.spec
    for image, mask in held_out(signs):
        metric.update(mx.nd.array(mask[None]), model.net(mx.nd.array(normalise(image[None], spec.mean, spec.std))))
    model_json = json.loads((folder / 'model.json').read_text())
    assert (model_json['pixel_accuracy'], model_json['miou']) == pytest.approx(metric.get(), abs=1e-4)
    return model, model_json


@pytest.fixture(scope='module')
def whole(signs, tmp_path_factory):
    folder = tmp_path_factory.mktemp('whole') / 'fpn_aff_resnet8'
    best = train_stopsign.main([*signs, '--save-dir', str(folder)])
    return folder, best


def test_a_run_leaves_parameters_log_and_overlays(signs, whole):
    folder, best = whole
    model, model_json = check_metrics(folder, signs)
    assert model.spec.class_names == ('background', 'stop sign') and model.spec.input_size == (3, 48, 48)
    assert model_json['miou'] == best['miou'] and 0 < best['train_pixel_accuracy'] < 1
    history = [json.loads(line) for line in (folder / 'log.jsonl').read_text().splitlines()]
    assert [record['epoch'] for record in history] == [1, 2] and max(r['miou'] for r in history) == best['miou']
    assert sorted(os.listdir(folder / 'overlays')) == ['000001.png', '000002.png', 'small.png']
    for path, (image, _) in zip(held_out(signs).paths, held_out(signs)):
        written = np.asarray(Image.open(folder / 'overlays' / os.path.basename(path)))
        mask = model.segment(image)
        assert mask.dtype == np.int32 and mask.shape == image.shape[:2]
        np.testing.assert_array_equal(written, overlay(image, mask))


def test_images_that_are_left_out_are_listed_in_the_runs_folder(signs, whole, capsys):
    folder, _ = whole
    train_stopsign.main([*signs, '--save-dir', str(folder), '--resume'])
    out, err = capsys.readouterr()
    assert 'Best miou' in out and '[Epoch' not in out
    assert f'Left out: 1; {folder}/skipped.txt names them.' in err
    assert re.fullmatch(
        r'Left out: 1\nImage 3 \(.*000003.png\) is left out: There is no file .*000003.png\.\n',
        (folder / 'skipped.txt').read_text(),
    )


def test_a_run_that_is_stopped_and_resumed_ends_as_a_whole_one(signs, whole, tmp_path, monkeypatch):
    epochs = SegmentationBatches.epoch

    def interrupted(self, number=0, start=0):
        for index, batch in enumerate(epochs(self, number, start)):
            if self.train and (number, index) == (2, 1):
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    flags = [*signs, '--save-dir', str(tmp_path / 'run')]
    monkeypatch.setattr(SegmentationBatches, 'epoch', interrupted)
    with pytest.raises(Stopped, match='Stopped after 5 updates, in epoch 2 of 2'):
        train_stopsign.main(flags)
    monkeypatch.undo()
    train_stopsign.main([*flags, '--resume'])
    same(trained(tmp_path / 'run'), trained(whole[0]))
    with refused('lr was 0.01 and is 0.02'):
        train_stopsign.main([*flags, '--resume', '--lr', '0.02'])


def test_two_workers_share_training_and_evaluation(signs, tmp_path):
    status, out, err = finish(
        start(*LAUNCH, TOP / 'train_stopsign.py', *signs, '--save-dir', tmp_path / 'run', '--kvstore', 'dist_sync')
    )
    assert status == 0, err
    assert out.count('[Epoch 2]') == 1 and err.count('Left out') == 1
    assert (
        f'To run it again in its place: {python()} -m gluon_aff.train.launch -n 2 -s 1 --launcher local {python()} '
        'train_stopsign.py --data-dir'
    ) in out
    check_metrics(tmp_path / 'run', signs)


@pytest.mark.parametrize(
    'flags, says',
    [
        (['--model', 'cifar_aff_resnet8'], '--model cifar_aff_resnet8 classifies whole images; give a segmentation'),
        (['--model', 'fpn_aff_resnet9'], 'fpn_aff_resnet9.*did you mean'),
        (['--category', 'stop sing'], 'stop sign'),
        (['--category', 'person'], 'no image with a person that can be used'),
        (['--batch-size', '1'], '--batch-size must be 2 or more for each device, got 1'),
        (['--batch-size', '7'], '--batch-size must be 2 to 6'),
        (['--input-size', '0'], '--input-size must be 1'),
        (['--val-images', 'gone'], 'no folder of images .*gone'),
        (['--train-annotations', 'gone.json'], 'gone.json'),
        (['--fusion', 'sum'], 'Unknown fusion'),
        (['--num-gpus', '99'], 'MXNet finds'),
        (['--width', '0'], '--width must be a finite number, 1 or more'),
    ],
)
def test_wrong_arguments_are_refused_in_one_sentence_before_a_run_is_begun(signs, tmp_path, flags, says):
    with refused(says, (ValueError, FileNotFoundError)):
        train_stopsign.main([*signs, '--save-dir', str(tmp_path / 'run'), *flags])
    assert not (tmp_path / 'run').exists()


def test_the_defaults_are_the_papers_settings():
    args = parse(train_stopsign.Config, ['--data-dir', 'coco'])
    assert (args.num_epochs, args.batch_size, args.optimizer, args.lr, args.lr_mode, args.init, args.warmup_epochs) == (
        300,
        32,
        'adagrad',
        0.01,
        'poly',
        'kaiming',
        0,
    )
    assert (args.category, args.model, args.reduction) == ('stop sign', 'fpn_aff_resnet20', None)


def test_fewer_images_to_evaluate_on_than_workers_are_refused(signs):
    SegmentationBatches(held_out(signs), 1, (0,) * 3, (1,) * 3, shard=(0, 3))
    with refused('3 images to evaluate on are fewer than the 4 processes'):
        SegmentationBatches(held_out(signs), 1, (0,) * 3, (1,) * 3, shard=(0, 4))


def test_every_worker_knows_the_data_set_by_the_same_digest(signs):
    data = held_out(signs)
    shares = [
        identity(data.class_names, SegmentationBatches(data, 1, (0,) * 3, (1,) * 3, shard=(rank, 2)))
        for rank in range(2)
    ]
    assert shares[0] == shares[1]
    data.paths.reverse()
    assert identity(data.class_names, SegmentationBatches(data, 1, (0,) * 3, (1,) * 3)) != shares[0]


# The benchmark


class Guesses(dict):
    """A network that knows the mask of each image."""

    def segment(self, image):
        return self[image.tobytes()]


def test_objects_are_counted_by_their_size_without_their_neighbours(signs):
    data = held_out(signs)
    annotated = benchmark.objects(os.path.join(signs[1], 'instances_val.json'), 'stop sign')
    assert sorted(annotated) == [1, 2, 99] and all(
        (np.any([mask for _, mask in annotated[number]], 0) == truth).all()
        for number, (_, truth) in zip(data.ids, data)
    )
    perfect = Guesses((image.tobytes(), truth) for image, truth in data)
    whole, sizes = benchmark.evaluate(perfect, data, annotated)
    assert benchmark.miou(whole) == 1 and whole.sum() == sum(truth.size for _, truth in data)
    assert {benchmark.miou(pixels) for pixels in sizes if pixels.any()} == {1}
    for number, (image, truth) in zip(data.ids, data):
        for (_, _, wide, high), mask in annotated[number]:
            size = np.digitize(max(wide, high), benchmark.BOUNDS)
            missed = Guesses({**perfect, image.tobytes(): np.where(mask, 0, truth)})
            _, others = benchmark.evaluate(missed, data, annotated)
            assert benchmark.miou(others[size]) < 1 and others[size][2] == mask.sum()
            np.testing.assert_array_equal(np.delete(others, size, 0), np.delete(sizes, size, 0))


def test_an_object_is_counted_with_half_its_longer_side_around_it():
    mask, truth = (np.zeros((60, 60), int) for _ in range(2))
    mask[20:24, 10:18] = truth[20:24, 10:18] = 1
    truth[27:33, 21:30] = 1  # its neighbour, of which one pixel is in the window
    truth[17, 7:10] = IGNORED
    counts = benchmark.count_object([10, 20, 8, 4], mask.astype(bool), truth, np.ones((60, 60), int))
    assert counts.tolist() == [0, 12 * 16 - 32 - 1 - 3, 0, 32]
    whole = benchmark.count_object([10, 20, 8, 4], mask.astype(bool), mask, mask)
    assert whole.tolist() == [12 * 16 - 32, 0, 0, 32]


def test_the_benchmark_prints_a_table_of_finished_runs(signs, whole, capsys, tmp_path):
    (tmp_path / 'fpn-aff-b1-seed0').symlink_to(whole[0])
    flags = [flag for flag in signs if flag not in ('--model', 'fpn_aff_resnet8', '--fusion', 'aff')]
    own = [*'--fusions aff --seeds 0 --show 2 99 --picture'.split(), str(tmp_path / 'p.png')]
    benchmark.main([*flags, *own, '--csv', str(tmp_path / 'rows.csv'), '--save-dir', str(tmp_path)])
    table = {}
    for printed in capsys.readouterr().out.strip().split('\n\n')[-2:]:
        head, _, row = (line.strip('| ').split(' | ') for line in printed.splitlines()[-3:])
        kind = 'pointing, ' if 'pointing' in head else ''
        table.update((kind + name if '(' in name else name, cell) for name, cell in zip(head, row))
    *_, last = (json.loads(line) for line in (whole[0] / 'log.jsonl').read_text().splitlines())
    assert table['network'] == 'fpn_aff_resnet8' and float(table['mIoU']) == pytest.approx(last['miou'], abs=6e-4)
    objects = benchmark.objects(os.path.join(signs[1], 'instances_val.json'), 'stop sign')
    by_size = {name: int(name.split('(')[1][:-1]) for name in table if '(' in name}
    assert sum(n for name, n in by_size.items() if 'pointing' not in name) == sum(map(len, objects.values()))
    assert sum(n for name, n in by_size.items() if 'pointing' in name) == len(objects) == 3
    with open(tmp_path / 'rows.csv', encoding='utf-8', newline='') as file:
        (written,) = csv.DictReader(file)
    assert written['seed'] == '0' and all(
        float(written[name]) == pytest.approx(float(table[name]), abs=6e-4) for name in by_size
    )
    assert Image.open(tmp_path / 'p.png').size == (2 * benchmark.SIDE, benchmark.LINE + 2 * benchmark.SIDE)


def test_a_map_points_at_an_object_where_its_maximum_lies_in_a_box(signs, monkeypatch):
    data = held_out(signs)
    annotated = benchmark.objects(os.path.join(signs[1], 'instances_val.json'), 'stop sign')
    model = mock.Mock()
    model.spec.transform.return_value = lambda image: np.zeros((3, *image.shape[:2]), 'float32')
    shift = 0

    def cam(net, pixels, classes, region):
        heat = np.zeros((1, *pixels.shape[2:]))
        left, top, wide, high = next(
            boxes[0][0]
            for number, boxes in annotated.items()
            if data[data.ids.index(number)][0].shape[:2] == heat.shape[1:]
        )
        heat[0, int(top + high / 2) if not shift else 0, int(left + wide / 2) if not shift else 0] = 1
        return mock.Mock(maps=heat)

    monkeypatch.setattr(benchmark, 'grad_cam', cam)
    small = {number: boxes if number == 99 else [] for number, boxes in annotated.items()}
    assert benchmark.hits(model, data, small).tolist() == [[0, 0], [1, 1], [0, 0], [0, 0], [0, 0]]
    shift = 1
    assert benchmark.hits(model, data, small).sum(0).tolist() == [0, 1]


def test_differences_are_between_runs_of_a_seed():
    rows = [
        {'network': name, 'parameters': 9, 'seed': seed, 'mIoU': 0.5 + 0.1 * seed + gain * (1 + 0.5 * seed)}
        for name, gain in (('add', 0.0), ('aff', 0.02))
        for seed in (0, 1)
    ]
    for row in rows:
        row['pointing'] = row['mIoU'] ** 2
    pixels, _, points = benchmark.tables(rows, ['mIoU', 'pointing']).partition('\n\n')
    lines = pixels.splitlines()
    # Differences of 0.02 and 0.03: the mean 0.025, and 12.706 times its error of 0.005.
    assert lines[2:] == [
        '| add | 9 | 2 | 0.550 |',
        '| aff | 9 | 2 | 0.575 |',
        '| aff - add | | 2 | +0.025 (-0.039 to +0.089) |',
        '| p, Holm | | 2 | 0.251 |',  # twice that of t = 5 with one degree of freedom
        f'| detectable | | 2 | {paired.detectable(0.005 * 2**0.5, 2, 0.05 / 2):.2f} |',
    ]
    assert points.splitlines()[0] == '| network | parameters | seeds | pointing |'
    for row in rows:
        row['mIoU'] = 0.5
    assert benchmark.tables(rows, ['mIoU']).splitlines()[-2:] == [
        '| p, Holm | | 2 | 1.000 |',
        '| detectable | | 2 | 0.00 |',
    ]
