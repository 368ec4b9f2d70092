"""Train a network of the zoo on small images.

    python train_cifar.py --dataset digits --model cifar_aff_resnet8 --width 1
    python train_cifar.py --dataset fashion_mnist --data-dir DIR --model cifar_iaff_resnet8 --width 1

Flags are named as in GluonCV's and the paper authors' scripts. The run's folder (--save-dir) gets best.params and
model.json, which `python -m model_zoo predict RUN_FOLDER IMAGE...` uses, checkpoints to --resume from, and the log.
"""

from __future__ import annotations

if __name__ == '__main__':  # Ctrl-C during the imports, too, ends it with one line
    from gluon_aff_start import end_on_interrupt

    end_on_interrupt()

from dataclasses import dataclass, replace

from gluon_aff.data.cifar import Batches, cifar10, cifar100
from gluon_aff.data.image_sets import digits, fashion_mnist, hold_out, subset
from gluon_aff.train import (
    ClassificationConfig,
    augmentation,
    batch_size,
    classification_task,
    flag,
    number,
    open_run,
    run_script,
    script,
    start,
    train_network,
    whole,
)
from model_zoo.from_flags import check_task, open_teacher, start_network


@dataclass(frozen=True)
class Config(ClassificationConfig):
    """Train a network of the zoo on small images."""

    dataset: str = flag('digits', ('digits', 'fashion_mnist', 'cifar10', 'cifar100'), group='data and network')
    labels: str = flag('fine', ('fine', 'coarse'), "CIFAR-100's 100 or 20 classes")
    data_dir: str | None = flag(
        help="folder of the data files, default MXNet's; CIFAR is downloaded there", affects_results=False
    )
    train_images: int | None = flag(None, whole(1), 'train on N images, a share of each class', metavar='N')
    test_images: int | None = flag(None, whole(1), 'evaluate on N images, a share of each class', metavar='N')
    val_images: int | None = flag(
        None,
        whole(1),
        'evaluate on N of the training images, which are not trained on, in place of the test images',
        metavar='N',
    )
    model: str = flag('cifar_aff_resnet8', help='a cifar_* name of python -m model_zoo list')
    width: float | None = flag(None, number(1), "channels of the first stage are 16 x width, default the model's")
    save_dir: str = 'runs/cifar'

    USELESS = (
        ('labels', 'without --dataset cifar100', lambda config: config.dataset != 'cifar100'),
        ('data_dir', 'with --dataset digits', lambda config: config.dataset == 'digits'),
    )


DATASETS = {
    'digits': lambda config: digits(),
    'fashion_mnist': lambda config: fashion_mnist(config.data_dir),
    'cifar10': lambda config: cifar10(config.data_dir),
    'cifar100': lambda config: cifar100(config.data_dir, config.labels == 'fine'),
}


def read_data(config):
    """The data set, the images to train on and those to evaluate on."""
    data = DATASETS[config.dataset](config)
    train, test = hold_out(*data.train, config.val_images) if config.val_images else (data.train, data.test)
    return data, subset(*train, config.train_images), subset(*test, config.test_images)


@script(Config)
def main(config):
    spec = check_task(config.model, 'classification').spec
    workers, ctx = start(config)

    data, train_set, test_set = read_data(config)
    size = batch_size(config, len(train_set[1]), devices=len(ctx), workers=workers)
    train = Batches(
        *train_set,
        size,
        data.mean,
        data.std,
        train=True,
        flip=data.flip,
        seed=config.seed,
        shard=workers.shard,
        **augmentation(config, 'cifar10'),
    )
    test = Batches(*test_set, size, data.mean, data.std, shard=workers.shard)

    net, options = start_network(config, data.class_names, ctx=ctx)
    teacher = open_teacher(config, net.classes, ctx=ctx)
    task = classification_task(config, net.classes, train_set[1], teacher=teacher)
    run = open_run(
        config,
        replace(
            spec,
            class_names=data.class_names,
            input_size=(3, 32, 32),
            min_size=net.min_size,
            mean=data.mean,
            std=data.std,
            crop_ratio=1.0,
        ),
        options=options,
        dataset=data.name,
        train_images=len(train_set[1]),
        test_images=len(test_set[1]),
    )
    return train_network(net, train, test, config, run, task=task, ctx=ctx, workers=workers)


if __name__ == '__main__':
    run_script('train_cifar.py', main)
