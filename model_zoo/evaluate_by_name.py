"""Evaluating a model by name or folder on data by name or path, beside what is reported of its weights."""

from __future__ import annotations

import os
from dataclasses import replace

import mxnet as mx

from gluon_aff.data.coco import CocoSegmentation
from gluon_aff.data.labelled_images import (
    DATASETS,
    LabelledImages,
    class_folders,
    flat_folder,
    held_out_images,
    record_images,
)
from gluon_aff.deploy import Graph, Predictor, is_export, read_export
from gluon_aff.errors import positive
from gluon_aff.inspect.model_evaluation import Evaluation, ReportedFigure, classify, segment
from gluon_aff.spec import ModelSpec
from gluon_aff.validation import shown

from .loading import LoadedModel, load_model, open_predictor
from .registry import model_info
from .weights import ReleasedWeights, list_weights
from .weights.catalog import choose, identify

METRICS = {'accuracy': 'top1', 'top1_error': 'top1', 'top5_error': 'top5'}  # by the catalogue's names
COCO, DATASET, RECORD, FOLDER = 'a COCO instances file', 'the name of a data set', 'a RecordIO file', 'a folder'

__all__ = ['evaluate', 'open_data', 'released_weights', 'reported_figures']


def evaluate(
    model: str | os.PathLike | LoadedModel | Predictor,
    data: str | os.PathLike | LabelledImages | CocoSegmentation,
    *,
    weights: str | None = None,
    backend: str | None = None,
    ctx: mx.Context | None = None,
    batch_size: int = 64,
    workers: int = 4,
    data_dir: str | None = None,
    ground_truth: str | None = None,
    image_dir: str | None = None,
    category: str | None = None,
) -> Evaluation:
    """Evaluate a model on labelled images.

    Parameters
    ----------
    model : str, LoadedModel or gluon_aff.deploy.Predictor
        A registered name, the folder of a training run, or an exported folder; or what is opened already.
    data : str, LabelledImages or CocoSegmentation
        For a classifier a tree with a folder for each class, a folder of images with `ground_truth`, a .rec file, or
        'cifar10', 'cifar100', 'digits' or 'fashion_mnist', whose test images are taken; for a segmentation network a
        COCO instances file (.json) with `image_dir`. Or what :func:`open_data` has opened.
    weights : str, optional
        Parameter file, or tag of a released one (default: the first).
    backend : str, optional
        What computes an exported folder: any that :class:`gluon_aff.deploy.Predictor` takes.
    ctx : mxnet.Context, default mxnet.cpu()
    batch_size : int, default 64
        Images that are classified at once; images are segmented one by one.
    workers : int, default 4
        Threads that read images.
    data_dir, ground_truth, image_dir, category : str, optional
        See :func:`open_data`.

    Returns
    -------
    Evaluation
        Its `summary()` is a dict of all figures, its `report` has the confusion matrix and the mistakes. Where figures
        are reported of released weights, `reported` has both.

    Raises
    ------
    ValueError, FileNotFoundError, DownloadError, ImportError
        If the model or the data cannot be opened, or do not fit each other.
    """
    positive('batch_size', batch_size)
    predictor = model
    if isinstance(model, LoadedModel):
        predictor = Predictor(model, backend, ctx)
    elif not isinstance(model, Predictor):
        predictor = open_predictor(model, weights, backend=backend, ctx=ctx)
    if not isinstance(data, (LabelledImages, CocoSegmentation)):
        options = {'data_dir': data_dir, 'ground_truth': ground_truth, 'image_dir': image_dir, 'category': category}
        data = open_data(data, predictor.spec, workers=workers, **options)
    if isinstance(data, CocoSegmentation):
        return segment(predictor, data, f'{data.class_names[1]} of COCO')
    evaluation = classify(predictor, data, batch_size=batch_size, workers=workers)
    record = released_weights(os.fspath(model), weights) if isinstance(model, (str, os.PathLike)) else None
    return replace(evaluation, reported=reported_figures(evaluation, record))


def open_data(
    data: str | os.PathLike,
    spec: ModelSpec,
    *,
    data_dir: str | None = None,
    ground_truth: str | None = None,
    image_dir: str | None = None,
    category: str | None = None,
    workers: int = 4,
) -> LabelledImages | CocoSegmentation:
    """Open the data for :func:`evaluate`.

    Parameters
    ----------
    data : str
    spec : ModelSpec
        The model's, whose classes and task the data must have.
    data_dir : str, optional
        Folder of the files of CIFAR or Fashion-MNIST, default MXNet's; CIFAR is downloaded there.
    ground_truth : str, optional
        The labels of the images in a folder, see :mod:`gluon_aff.data.ground_truth`.
    image_dir : str, optional
        Folder of the images of a COCO instances file.
    category : str, optional
        Of the instances file, default the model's second class.
    workers : int, default 4
        Threads that check a .rec file.

    Raises
    ------
    ValueError
        If the data are of another task or other classes than the model, or an option is of no use with them.
    FileNotFoundError, DownloadError, ImportError
        As the function that opens the data does.
    """
    data, segments = os.fspath(data), spec.task == 'segmentation'
    kind, allowed = _kind(data)
    if (kind == COCO) != segments:
        expected = 'segments images; give a COCO instances file (.json) and --image-dir'
        if not segments:
            expected = 'classifies whole images; give class folders, a .rec file or the name of a data set'
        raise ValueError(f'{data} is {kind}, and {spec.name} {expected}.')
    options = {'data_dir': data_dir, 'ground_truth': ground_truth, 'image_dir': image_dir, 'category': category}
    for name, value in options.items():
        if value is not None and name not in allowed:
            raise ValueError(f'--{name.replace("_", "-")} is of no use with {data}, {kind}; leave it out.')
    if kind == COCO:
        return _open_coco(data, spec, image_dir, category)
    if kind == DATASET:
        return held_out_images(data, spec.class_names, data_dir)
    if kind == RECORD:
        return record_images(data, spec.class_names, workers=workers)
    return flat_folder(data, ground_truth, spec.class_names) if ground_truth else class_folders(data, spec.class_names)


def _kind(data):
    """What a path or name stands for, and the options that apply to it."""
    if data in DATASETS:
        return DATASET, {'data_dir'}
    if data.lower().endswith('.json'):
        return COCO, {'image_dir', 'category'}
    return (RECORD, ()) if data.lower().endswith('.rec') else (FOLDER, {'ground_truth'})


def _open_coco(annotations, spec, image_dir, category):
    if image_dir is None:
        raise ValueError(f'{annotations} needs --image-dir, the folder of its images, such as val2017.')
    category = category or spec.class_names[1]
    if spec.class_names != ('background', category):
        raise ValueError(
            f'{spec.name} has the classes {shown(spec.class_names)}, and its data would have background and '
            f'{shown(category)}; give a network that was trained on this category.'
        )
    return CocoSegmentation(annotations, image_dir, category)


def released_weights(name: str, weights: str | None = None) -> ReleasedWeights | None:
    """The record of the released file that a model has its parameters from.

    Parameters
    ----------
    name : str
        A registered name, or a folder: an exported network is compared with the released files that are in the cache.
    weights : str, optional
        A parameter file, compared by its digest, or a tag (default: the first).

    Returns
    -------
    ReleasedWeights or None
        None for other parameters, and for a training run.
    """
    if is_export(name):
        return _exported_weights(read_export(name))
    if os.path.isdir(name):
        return None
    name = model_info(name).name
    path = os.path.expanduser(weights or '')
    if os.path.isfile(path):
        return next(iter(identify(path, name)), None)
    return choose(name, weights or True)


def _exported_weights(description):
    for record in list_weights(description['name']):
        if record.state() not in ('intact', 'whole'):
            continue
        graph = Graph(load_model(record.model, record.tag).net)
        graph.fold()
        if description['layout'] == 'NHWC':
            graph.preprocess(description['mean'], description['std'])
        if graph.digest() == description.get('network'):
            return record
    return None


def reported_figures(evaluation: Evaluation, record: ReleasedWeights | None) -> tuple[ReportedFigure, ...]:
    """What is reported of released weights, beside what an evaluation has measured.

    Parameters
    ----------
    evaluation : Evaluation
        Of a classifier.
    record : ReleasedWeights or None

    Returns
    -------
    tuple of ReportedFigure
        Of top-1 and top-5 accuracies; a reported error is counted as 1 minus it.
    """
    measured, figures = evaluation.report.summary(), []
    for name, value in (record.metrics if record else {}).items():
        metric = METRICS.get(name, '')
        if metric in measured:
            value = round(1 - value, 6) if name.endswith('error') else value
            interval = tuple(measured[f'{metric}_interval_95'])
            figures.append(
                ReportedFigure(metric, value, measured[metric], interval, record.dataset, record.metrics_source)
            )
    return tuple(figures)
