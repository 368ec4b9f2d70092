"""Names of the classes of the data sets, in the order of their numbers."""
from __future__ import annotations

import logging

log = logging.getLogger(__name__)

DIGITS = tuple('0123456789')

STOP_SIGN = ('background', 'stop sign')

FASHION_MNIST = ('T-shirt/top', 'Trouser', 'Pullover', 'Dress', 'Coat', 'Sandal', 'Shirt', 'Sneaker', 'Bag',
                 'Ankle boot')

CIFAR10 = ('airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck')

CIFAR100 = tuple('''
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
    caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
    flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
    motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate
    poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
    squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
    wardrobe whale willow_tree wolf woman worm'''.split())


CIFAR100_COARSE = tuple('''
    aquatic_mammals fish flowers food_containers fruit_and_vegetables household_electrical_devices household_furniture
    insects large_carnivores large_man-made_outdoor_things large_natural_outdoor_scenes large_omnivores_and_herbivores
    medium_mammals non-insect_invertebrates people reptiles small_mammals trees vehicles_1 vehicles_2'''.split())


def imagenet():
    """The 1000 classes of ImageNet-1k, as GluonCV words them; where it is not installed they are numbered."""
    try:
        from gluoncv.data import ImageNet1kAttr
    except ImportError:
        log.warning("The names of ImageNet's classes are GluonCV's, which is not installed; they are numbered.")
        return tuple(f'class {i}' for i in range(1000))
    return tuple(ImageNet1kAttr().classes)


def named(labels):
    """The class names that a checkpoint's `labels` stands for, one for each of its outputs."""
    if labels == 'cifar100_coarse':
        # The released networks were given 100 outputs and trained on 20 superclasses.
        return CIFAR100_COARSE + tuple(f'(unused {i})' for i in range(len(CIFAR100_COARSE), 100))
    return {'imagenet': imagenet, 'cifar100_fine': lambda: CIFAR100, 'fashion_mnist': lambda: FASHION_MNIST}[labels]()
