"""What the networks of a data set take: a ModelSpec for each, named after the data set."""

from __future__ import annotations

from gluon_aff.data import cifar, class_names, image_sets
from gluon_aff.spec import ModelSpec

__all__ = ['CIFAR100', 'FASHION_MNIST', 'IMAGENET', 'STOP_SIGN']

IMAGENET = ModelSpec(
    name='ImageNet-1k',
    task='classification',
    class_names=class_names.IMAGENET,
    input_size=(3, 224, 224),
    min_size=1,
    # Of 0..255, from the AFF paper's released training script.
    mean=tuple(value / 255 for value in (123.68, 116.779, 103.939)),
    std=tuple(value / 255 for value in (58.393, 57.12, 57.375)),
    crop_ratio=0.875,
)
CIFAR100 = ModelSpec(
    name='CIFAR-100 (fine labels)',
    task='classification',
    class_names=class_names.CIFAR100,
    input_size=(3, 32, 32),
    min_size=1,
    mean=cifar.CIFAR_MEAN,
    std=cifar.CIFAR_STD,
    crop_ratio=1.0,
)
FASHION_MNIST = ModelSpec(
    name='Fashion-MNIST',
    task='classification',
    class_names=class_names.FASHION_MNIST,
    input_size=(3, 32, 32),
    min_size=1,
    mean=image_sets.FASHION_MNIST_MEAN,
    std=image_sets.FASHION_MNIST_STD,
    crop_ratio=1.0,
)
# Segmentation takes whole images.
STOP_SIGN = ModelSpec(
    name='COCO, images with a stop sign',
    task='segmentation',
    class_names=class_names.STOP_SIGN,
    input_size=(3, 224, 224),
    min_size=1,
    mean=IMAGENET.mean,
    std=IMAGENET.std,
    crop_ratio=1.0,
)
