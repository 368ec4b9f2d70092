"""The figures of an evaluation, compared with scikit-learn's, with GluonCV's and with simulation."""

import csv
import io

import mxnet as mx
import numpy as np
import pytest
from gluoncv.utils.metrics.segmentation import SegmentationMetric
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from gluon_aff.inspect.evaluation_report import ClassificationReport, SegmentationReport, wilson_interval

NAMES = [f'class {i}' for i in range(7)]


def report(logits, labels, sizes=(1,)):
    result = ClassificationReport([f'class {i}' for i in range(logits.shape[1])])
    start = 0
    while start < len(labels):
        stop = start + sizes[start % len(sizes)]
        result.add(logits[start:stop], labels[start:stop], [f'{i}.png' for i in range(len(labels))[start:stop]])
        start = stop
    return result


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**31), n=st.integers(1, 60), sizes=st.lists(st.integers(1, 20), min_size=1, max_size=3))
def test_the_figures_are_those_of_scikit_learn(seed, n, sizes):
    random = np.random.RandomState(seed)
    logits, labels = random.normal(size=(n, 7)).astype(np.float32) * 3, random.randint(0, 7, n)
    result = report(logits, labels, sizes)
    summary, predicted = result.summary(), logits.argmax(1)
    assert summary['images'] == len(result) == n
    assert summary['top1'] == pytest.approx(metrics.accuracy_score(labels, predicted))
    assert summary['top5'] == pytest.approx(metrics.top_k_accuracy_score(labels, logits, k=5, labels=range(7)))
    np.testing.assert_array_equal(result.confusion, metrics.confusion_matrix(labels, predicted, labels=range(7)))
    rows, precision = (
        summary['classes'],
        metrics.precision_score(labels, predicted, labels=range(7), average=None, zero_division=np.nan),
    )
    recall = metrics.recall_score(labels, predicted, labels=range(7), average=None, zero_division=np.nan)
    np.testing.assert_allclose([np.nan if row['accuracy'] is None else row['accuracy'] for row in rows], recall)
    np.testing.assert_allclose([np.nan if row['precision'] is None else row['precision'] for row in rows], precision)


def test_the_calibration_error_is_the_weighted_gap_of_fifteen_bins():
    random = np.random.RandomState(0)
    logits, labels = random.normal(size=(1000, 4)) * 2, random.randint(0, 4, 1000)
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    expected = 0
    for low in np.arange(15) / 15:
        inside = (confidence > low) & (confidence <= low + 1 / 15)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert report(logits, labels, (250,)).calibration_error() == pytest.approx(expected, abs=1e-9)


def test_a_network_that_knows_its_doubts_has_no_calibration_error():
    labels = np.repeat([0, 1], [3, 1])
    assert report(np.log(np.tile([[0.75, 0.25]], (4, 1))), labels, (4,)).calibration_error() == pytest.approx(0)


def test_mistakes_begin_with_the_most_certain_one():
    logits = np.array([[0, 2, 0], [5, 0, 0], [9, 0, 0], [0, 0, 4]], np.float32)
    wrong = report(logits, np.array([0, 0, 1, 0]), (4,)).mistakes()
    assert [(mistake.image, mistake.label, mistake.predicted) for mistake in wrong] == [
        ('2.png', 1, 0),
        ('3.png', 0, 2),
        ('0.png', 0, 1),
    ]
    assert wrong[0].confidence > wrong[1].confidence > wrong[2].confidence


@pytest.mark.parametrize('share', [0.5, 0.92, 0.99])
def test_the_interval_covers_the_true_share_in_95_of_100_samples(share):
    samples = np.random.RandomState(1).binomial(400, share, 4000)
    bounds = np.array([wilson_interval(int(right), 400) for right in samples])
    assert 0.93 < ((bounds[:, 0] <= share) & (share <= bounds[:, 1])).mean() < 0.975


def test_the_confusion_matrix_is_written_with_names():
    result, file = report(np.eye(3), np.array([0, 0, 2]), (3,)), io.StringIO()
    result.write_confusion(file)
    assert list(csv.reader(io.StringIO(file.getvalue()))) == [
        ['label', 'class 0', 'class 1', 'class 2'],
        ['class 0', '1', '1', '0'],
        ['class 1', '0', '0', '0'],
        ['class 2', '0', '0', '1'],
    ]


@pytest.mark.parametrize(
    'logits, labels', [(np.zeros((2, 3)), [0, 3]), (np.zeros((2, 3)), [-1, 0]), (np.zeros((2, 4)), [0, 0])]
)
def test_labels_and_logits_that_do_not_fit_are_refused(logits, labels):
    with pytest.raises(ValueError, match='classes|logits'):
        ClassificationReport(['a', 'b', 'c']).add(logits, labels, ['x', 'y'])


def test_segmentation_figures_are_those_of_gluoncv():
    random = np.random.RandomState(2)
    masks, scores = random.randint(-1, 4, (5, 9, 11)), random.normal(size=(5, 4, 9, 11))
    theirs, result = SegmentationMetric(4), SegmentationReport(['background', 'a', 'b', 'c'])
    theirs.update(mx.nd.array(masks), mx.nd.array(scores))
    for mask, score in zip(masks, scores):
        result.add(score.argmax(0), mask)
    summary = result.summary()
    assert (summary['pixel_accuracy'], summary['miou']) == pytest.approx(theirs.get(), abs=1e-6)
    assert summary['classes'][2]['pixels'] == (masks == 2).sum() and summary['images'] == 5
