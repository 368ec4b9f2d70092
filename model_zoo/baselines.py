"""Published ImageNet results of other libraries' residual networks, from baselines.csv; none was measured here."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

__all__ = ['BASELINES', 'SOURCES', 'Baseline']

# Where each library states the accuracies. Parameters are counted; multiply-adds are torchvision's own for its
# networks, and counted by gluon_aff.complexity for the others at 224x224.
SOURCES = {
    'GluonCV': 'docs/model_zoo/csv_tables/Classifications, commit 567775619f3b97d47e7c360748912a4fd883ff52',
    'timm': 'results/results-imagenet.csv, commit 0173a139a2c66db3a41ebfe1d8ac4fb02483642e',
    'torchvision': '_metrics of the weights in torchvision 0.28.0',
}


@dataclass(frozen=True)
class Baseline:
    """A network of another library with its published accuracy on ImageNet's validation images.

    Attributes
    ----------
    library, name, weights : str
        As the library names them; GluonCV's weights are told apart by eight digits of a hash.
    top1, top5 : float
        In per cent.
    image_size : int
        Pixels of a side, at the evaluation.
    parameters : int
    multiply_adds : int or None
        For one image of 224x224.
    network : str
        The registered network of the same architecture, where the images are of its size; or ''.
    license : str
        Of the library, which states no other for these weights.
    file_size : int or None
        Bytes, as torchvision states them, to three digits of a MiB.
    """

    library: str
    name: str
    weights: str
    top1: float
    top5: float
    image_size: int
    parameters: int
    multiply_adds: int | None
    network: str
    license: str
    file_size: int | None

    @property
    def source(self) -> str:
        """Such as "GluonCV's resnet50_v1d (117a384e)"; with the size of the images if it is not 224."""
        size = '' if self.image_size == 224 else f' at {self.image_size}x{self.image_size}'
        return f"{self.library}'s {self.name} ({self.weights}){size}"


def _read():
    with open(Path(__file__).with_name('baselines.csv'), encoding='utf-8', newline='') as file:
        for row in csv.DictReader(file):
            numbers = {key: float(row.pop(key)) for key in ('top1', 'top5')}
            counts = {
                key: int(row.pop(key) or 0) or None
                for key in ('image_size', 'parameters', 'multiply_adds', 'file_size')
            }
            yield Baseline(**row, **numbers, **counts)


BASELINES = tuple(_read())
