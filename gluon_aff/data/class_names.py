"""The class names of the data sets, in the order of their labels, and files of class names."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from pathlib import Path
from typing import Iterable, Sequence

import numpy as np
from PIL import ImageFile

from ..validation import shown

__all__ = [
    'BY_NAME',
    'CIFAR10',
    'CIFAR100',
    'CIFAR100_COARSE',
    'DIGITS',
    'FASHION_MNIST',
    'IMAGENET',
    'STOP_SIGN',
    'imagenet_synsets',
    'match_class_names',
    'numbered',
    'read_class_names',
    'write_class_names',
]

MAX_BYTES = 16 << 20  # of a file of class names

DIGITS = tuple('0123456789')

STOP_SIGN = ('background', 'stop sign')

FASHION_MNIST = tuple('T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot'.split(','))

CIFAR10 = ('airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck')

CIFAR100 = tuple(
    """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
    caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
    flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
    motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate
    poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
    squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
    wardrobe whale willow_tree wolf woman worm""".split()
)


CIFAR100_COARSE = tuple(
    """
    aquatic_mammals fish flowers food_containers fruit_and_vegetables household_electrical_devices household_furniture
    insects large_carnivores large_man-made_outdoor_things large_natural_outdoor_scenes large_omnivores_and_herbivores
    medium_mammals non-insect_invertebrates people reptiles small_mammals trees vehicles_1 vehicles_2""".split()
)


# As GluonCV words them.
IMAGENET = tuple(Path(__file__).with_name('imagenet_classes.txt').read_text(encoding='utf-8').splitlines())

# By the keys of the released weights; the networks for the 20 superclasses were given 100 outputs.
BY_NAME = {
    'cifar100_coarse': CIFAR100_COARSE + tuple(f'(unused {i})' for i in range(len(CIFAR100_COARSE), 100)),
    'cifar100_fine': CIFAR100,
    'fashion_mnist': FASHION_MNIST,
    'imagenet': IMAGENET,
}


def numbered(classes: int) -> tuple[str, ...]:
    """Names for classes that have none."""
    return tuple(f'class {i}' for i in range(classes))


def imagenet_synsets() -> tuple[str, ...]:
    """WordNet's ids of ImageNet's classes, such as 'n01440764', in the order of `IMAGENET`."""
    truncated = ImageFile.LOAD_TRUNCATED_IMAGES
    from gluoncv.data import ImageNet1kAttr

    ImageFile.LOAD_TRUNCATED_IMAGES = truncated  # which that import sets
    return tuple(ImageNet1kAttr().synset)


def match_class_names(names: Sequence[str], class_names: Sequence[str], *, source: str) -> np.ndarray:
    """The place of a data set's classes among those of a model.

    A name stands for the class of the same name, or else of the same letters and digits, in any case: 't-shirt_top' for
    'T-shirt/top'. ImageNet's classes may be named by their synsets as well, such as 'n01440764'.

    Parameters
    ----------
    names : sequence of str
        Of the data set's classes.
    class_names : sequence of str
        Of the model's.
    source : str
        What has the names, for the error.

    Returns
    -------
    numpy.ndarray, int, (len(names),)
        Indices into class_names.

    Raises
    ------
    ValueError
        If a name stands for no class of the model, or for several.
    """
    if tuple(names) == tuple(class_names):
        return np.arange(len(names))
    exact, simplified = defaultdict(set), defaultdict(set)
    for index, name in enumerate(class_names):
        exact[name].add(index)
        simplified[_letters_and_digits(name)].add(index)
    if tuple(class_names) == IMAGENET:
        exact.update((synset, {index}) for index, synset in enumerate(imagenet_synsets()))
    matches = [exact.get(name) or simplified.get(_letters_and_digits(name), set()) for name in names]
    unknown = [name for name, indices in zip(names, matches) if not indices]
    if unknown:
        raise ValueError(
            f'{source} has {len(unknown)} of {len(names)} classes that are not among the {len(class_names)} of the '
            f'model, such as {shown(unknown[0])}; name its classes as the model does, such as {shown(class_names[0])}.'
        )
    for name, indices in zip(names, matches):
        if len(indices) > 1:
            raise ValueError(
                f'{source} has the class {shown(name)}, and the model has {len(indices)} of this name; '
                'name an ImageNet class by its synset, such as n01440764, and another as the model does.'
            )
    return np.array([min(indices) for indices in matches])


def _letters_and_digits(name):
    return re.sub(r'[\W_]+', ' ', unicodedata.normalize('NFC', name).casefold()).strip() or name


def read_class_names(path: str) -> tuple[str, ...]:
    """Read class names from a text file, one per line, in the order of their labels.

    Parameters
    ----------
    path : str
        UTF-8, with or without a byte order mark.

    Returns
    -------
    tuple of str

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not UTF-8, has an empty line, or is too large.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f'There is no file of class names {path}.')
    if os.path.getsize(path) > MAX_BYTES:
        raise ValueError(
            f'{path} has more than {MAX_BYTES >> 20} MB, too much for class names; it needs a line for each class.'
        )
    try:
        with open(path, encoding='utf-8-sig') as file:
            text = file.read()
        damaged = text.find('\0')  # of UTF-16
    except UnicodeDecodeError as error:
        damaged = error.start
    if damaged >= 0:
        raise ValueError(f'{path} is not UTF-8 (byte {damaged}); save it as UTF-8, with a class name on each line.')
    names = tuple(text.rstrip('\n').split('\n'))
    if '' in names:
        raise ValueError(f'Line {names.index("") + 1} of {path} is empty; it needs a class name on each line.')
    return names


def write_class_names(path: str, names: Iterable[str]) -> None:
    """Write class names for :func:`read_class_names`.

    Parameters
    ----------
    path : str
    names : iterable of str

    Raises
    ------
    ValueError
        If a name is empty, begins with a byte order mark, or has a line break, a null or bytes that are not UTF-8;
        nothing is written.
    """
    for name in names:
        if name[:1] in ('', '\ufeff') or any(c in '\n\r\0' or '\ud800' <= c <= '\udfff' for c in name):
            raise ValueError(
                f'The class name {name!r} is empty, has a line break or a byte order mark, or is not '
                'UTF-8; rename its folder.'
            )
    with open(path, 'w', encoding='utf-8') as file:
        file.writelines(f'{name}\n' for name in names)
