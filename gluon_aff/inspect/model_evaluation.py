"""Trying a model on labelled images: its report, its speed, and how both compare with what is reported of it."""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..program import progress_bar
from .evaluation_report import ClassificationReport, SegmentationReport

__all__ = ['Evaluation', 'ReportedFigure', 'classify', 'segment']

AHEAD = 2  # batches read in advance
LISTED = 32  # of the mistakes


@dataclass(frozen=True)
class ReportedFigure:
    """A figure that somebody reports of a model's weights, beside the measured one; both are shares in 0..1.

    Attributes
    ----------
    metric : str
        'top1' or 'top5'.
    reported, measured : float
    interval : (float, float)
        Of the measured figure, 95 %.
    data, source : str
        What it was measured on, and who reports it.
    """

    metric: str
    reported: float
    measured: float
    interval: tuple[float, float]
    data: str
    source: str

    @property
    def is_within(self) -> bool:
        """Whether the reported figure lies in the interval of the measured one."""
        low, high = self.interval
        return low <= self.reported <= high


@dataclass(frozen=True)
class Evaluation:
    """What a model does on labelled images.

    Attributes
    ----------
    model, data, backend : str
        Its name, the data's, and what computed it.
    report : ClassificationReport or SegmentationReport
    skipped : dict of str: str
        A sentence for each image that was left out, by name.
    images_per_second : float
        Reading and preparing the images included.
    network_images_per_second : float
        Of the network alone, without its first batch if there are more.
    reported : tuple of ReportedFigure
    """

    model: str
    data: str
    backend: str
    report: ClassificationReport | SegmentationReport
    skipped: dict[str, str]
    images_per_second: float
    network_images_per_second: float
    reported: tuple[ReportedFigure, ...] = ()

    def summary(self) -> dict:
        """All figures, as a dict for JSON; shares are in 0..1."""
        summary = {'model': self.model, 'data': self.data, 'backend': self.backend, **self.report.summary()}
        if isinstance(self.report, ClassificationReport):
            names = self.report.class_names
            summary['mistakes'] = [
                {**mistake._asdict(), 'label': names[mistake.label], 'predicted': names[mistake.predicted]}
                for mistake in self.report.mistakes(LISTED)
            ]
        return {
            **summary,
            'images_per_second': self.images_per_second,
            'network_images_per_second': self.network_images_per_second,
            'reported': [{**asdict(figure), 'is_within': figure.is_within} for figure in self.reported],
            'skipped': list(self.skipped.values()),
        }


class _Stopwatch:
    """The speed of a network, and of all that is done for an evaluation."""

    def __init__(self):
        self.start, self.images, self.batches = time.perf_counter(), 0, []

    def run(self, function, images, *args):
        """`function(*args)`, which computes so many images."""
        start = time.perf_counter()
        result = function(*args)
        self.batches.append((images, time.perf_counter() - start))
        return result

    def speeds(self):
        """Images a second: with everything, and of the network, whose first batch prepares it."""
        images, seconds = map(sum, zip(*(self.batches[1:] or self.batches)))
        return {
            'images_per_second': sum(count for count, _ in self.batches) / (time.perf_counter() - self.start),
            'network_images_per_second': images / seconds,
        }


def classify(predictor: Any, images: Any, *, batch_size: int = 64, workers: int = 4) -> Evaluation:
    """Try a classifier; images that cannot be read are left out.

    Parameters
    ----------
    predictor : gluon_aff.deploy.Predictor
    images : gluon_aff.data.labelled_images.LabelledImages
        Its labels are the predictor's classes.
    batch_size : int, default 64
        Images computed at once.
    workers : int, default 4
        Threads that read and prepare images.

    Returns
    -------
    Evaluation

    Raises
    ------
    ValueError
        If no image can be read, or as :meth:`gluon_aff.deploy.Predictor.logits`.
    """
    report, skipped, watch = ClassificationReport(predictor.spec.class_names), dict(images.skipped), _Stopwatch()
    with progress_bar(total=len(images), unit='image') as progress:
        for batch in _read(images, predictor.spec.prepare, batch_size, workers):
            crops = {}
            for index, task in batch:
                try:
                    crops[index] = task.result()
                except ValueError as error:
                    skipped[images.names[index]] = str(error)
            if crops:
                data, chosen = predictor.feed(np.stack(list(crops.values()))), list(crops)
                logits = watch.run(predictor.logits, len(chosen), data)
                report.add(logits, images.labels[chosen], [images.names[index] for index in chosen])
            progress.update(len(batch))
    if not len(report):
        raise ValueError(
            f'None of the {len(images)} images of {images.source} can be read: {next(iter(skipped.values()))}'
        )
    return Evaluation(predictor.spec.name, images.source, predictor.backend, report, skipped, **watch.speeds())


def _read(images, prepare, batch_size, workers):
    """Batches of (index, task that reads and prepares an image), a few of them in advance."""
    waiting = deque()
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(images), batch_size):
            indices = range(start, min(start + batch_size, len(images)))
            waiting.append([(index, pool.submit(lambda i: prepare(images.read(i)), index)) for index in indices])
            if len(waiting) > AHEAD:
                yield waiting.popleft()
        yield from waiting


def segment(predictor: Any, images: Any, source: str) -> Evaluation:
    """Try a segmentation network on whole images, one by one; those that cannot be used are left out.

    Parameters
    ----------
    predictor : gluon_aff.deploy.Predictor
    images : gluon_aff.data.coco.CocoSegmentation
        Images with masks of the predictor's classes.
    source : str
        Where they are from.

    Returns
    -------
    Evaluation

    Raises
    ------
    ValueError
        If no image can be used, or as :meth:`gluon_aff.deploy.Predictor.segment`.
    """
    spec, watch = predictor.spec, _Stopwatch()
    report, skipped = SegmentationReport(spec.class_names), {sentence: sentence for sentence in images.report}
    with progress_bar(total=len(images), unit='image') as progress:
        for index, path in enumerate(images.paths):
            progress.update()
            try:
                image, mask = images[index]
                if spec.dynamic and min(mask.shape) < spec.min_size:
                    raise ValueError(
                        f'{path} is {mask.shape[1]} x {mask.shape[0]}, smaller than the {spec.min_size} pixels that '
                        f'{spec.name} needs.'
                    )
            except ValueError as error:
                skipped[path] = str(error)
                continue
            report.add(watch.run(predictor.segment, 1, image), mask)
    if not report.images:
        raise ValueError(f'None of the {len(images)} images of {source} can be used: {next(iter(skipped.values()))}')
    return Evaluation(spec.name, source, predictor.backend, report, skipped, **watch.speeds())
