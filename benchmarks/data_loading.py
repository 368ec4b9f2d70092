"""Throughput of the data loaders, in images a second, beside what GluonCV's scripts build for the same data.

    python benchmarks/data_loading.py [--images 768] [--rounds 5] [--workers 2]

All loaders of a kind take turns, an epoch each, in one process. The data are crops, 500x375, of scikit-learn's two
photographs; the folders have a quarter of them.
"""

import argparse
import os
import statistics
import tempfile
import time

import mxnet as mx
import numpy as np
from gluoncv.data.transforms import block
from mxnet.gluon.data import ArrayDataset, DataLoader
from mxnet.gluon.data.vision import ImageFolderDataset, transforms
from PIL import Image
from sklearn.datasets import load_sample_images

from gluon_aff.data.cifar import CIFAR_MEAN, CIFAR_STD, Batches
from gluon_aff.data.class_folders import image_folders
from gluon_aff.data.imagenet import Images
from gluon_aff.data.record_file import RecordFile
from gluon_aff.data.record_writer import write_records

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument('--images', type=int, default=768)
parser.add_argument('--rounds', type=int, default=5, help='epochs of each loader, after one to warm up')
parser.add_argument('--workers', type=int, default=2)
args = parser.parse_args()

MEAN, STD, BATCH = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 32


def compare(title, epochs):
    """Time one epoch of each loader in turn and print images a second, and the ratio to the last, GluonCV's."""
    rates = {name: [] for name in epochs}
    for turn in range(args.rounds + 1):
        for name, epoch in epochs.items():
            start, images = time.perf_counter(), 0
            for data in epoch(turn):
                images += len(data)
            rates[name].append(images / (time.perf_counter() - start))
    print(f'\n{title}, {images} images an epoch, median of {args.rounds} epochs (least to most)')
    reference = list(rates.values())[-1]
    for name, measured in rates.items():
        ratios = [rate / other for rate, other in zip(measured[1:], reference[1:])]
        print(
            f'{name:44s} {statistics.median(measured[1:]):8.0f} images/s   {statistics.median(ratios):5.2f} times '
            f'({min(ratios):.2f} to {max(ratios):.2f})'
        )


def ours(loader):
    return lambda number: (data for data, _ in loader.epoch(number))


def gluon(dataset, batch_size, workers, threads=False):
    """An epoch of GluonCV's kind of loader; the arrays are waited for, as they come while they are still computed."""
    loader = DataLoader(
        dataset, batch_size, shuffle=True, last_batch='discard', num_workers=workers, thread_pool=threads
    )

    def epoch(number):
        for data, _ in loader:
            data.wait_to_read()
            yield data

    return epoch


def pictures(folder):
    """A tree of two classes of crops of photographs."""
    random = np.random.RandomState(0)
    for number, photo in enumerate(load_sample_images().images):
        for split, count in (('train', args.images // 2), ('val', args.images // 8)):
            os.makedirs(os.path.join(folder, split, str(number)))
            for i in range(count):
                top, left = random.randint(photo.shape[0] - 375), random.randint(photo.shape[1] - 500)
                crop = Image.fromarray(photo[top : top + 375, left : left + 500])
                crop.save(os.path.join(folder, split, str(number), f'{i}.jpg'), quality=90)


def cifar():
    random = np.random.RandomState(0)
    images, target = random.randint(0, 256, (2048, 32, 32, 3), np.uint8), random.randint(0, 10, 2048).astype(np.int32)
    dataset = ArrayDataset(mx.nd.array(images, dtype=np.uint8), target).transform_first(
        transforms.Compose(
            [
                block.RandomCrop(32, pad=4),
                transforms.RandomFlipLeftRight(),
                transforms.ToTensor(),
                transforms.Normalize(CIFAR_MEAN, CIFAR_STD),
            ]
        )
    )
    compare(
        'CIFAR, crop and mirror',
        {
            'Batches': ours(Batches(images, target, 128, CIFAR_MEAN, CIFAR_STD, train=True, flip=True)),
            f'GluonCV, {args.workers} threads': gluon(dataset, 128, args.workers, threads=True),
            f'GluonCV, {args.workers} processes': gluon(dataset, 128, args.workers),
        },
    )


def records(folder):
    write_records(folder, folder, workers=args.workers)
    path = os.path.join(folder, 'train.rec')
    reader = mx.io.ImageRecordIter(
        path_imgrec=path,
        path_imgidx=os.path.join(folder, 'train.idx'),
        preprocess_threads=args.workers,
        shuffle=True,
        batch_size=BATCH,
        data_shape=(3, 224, 224),
        mean_r=123.68,
        mean_g=116.779,
        mean_b=103.939,
        std_r=58.393,
        std_g=57.12,
        std_b=57.375,
        rand_mirror=True,
        random_resized_crop=True,
        max_aspect_ratio=4 / 3,
        min_aspect_ratio=3 / 4,
        max_random_area=1,
        min_random_area=0.08,
        brightness=0.4,
        saturation=0.4,
        contrast=0.4,
        pca_noise=0.1,
        verbose=False,
    )

    def theirs(number):
        reader.reset()
        for batch in reader:
            batch.data[0].wait_to_read()
            yield batch.data[0]

    images = Images(RecordFile(path), 224, BATCH, MEAN, STD, train=True, workers=args.workers)
    compare(
        'ImageNet, records with a short side of 256',
        {
            f'Images of RecordFile, {args.workers} threads': ours(images),
            f'GluonCV, ImageRecordIter, {args.workers} threads': theirs,
        },
    )


def folders(folder):
    dataset = ImageFolderDataset(os.path.join(folder, 'val')).transform_first(
        transforms.Compose(
            [
                transforms.RandomResizedCrop(224),
                transforms.RandomFlipLeftRight(),
                transforms.RandomColorJitter(brightness=0.4, contrast=0.4, saturation=0.4),
                transforms.RandomLighting(0.1),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )
    )
    files = image_folders(folder, workers=args.workers).val
    for workers in sorted({1, args.workers}):
        compare(
            f'ImageNet, folders of JPEG files, {workers} workers',
            {
                'Images of ImageFiles, threads': ours(
                    Images(files, 224, BATCH, MEAN, STD, train=True, workers=workers)
                ),
                'GluonCV, threads': gluon(dataset, BATCH, workers, threads=True),
                'GluonCV, processes': gluon(dataset, BATCH, workers),
            },
        )


with tempfile.TemporaryDirectory() as temporary:
    pictures(temporary)
    cifar()
    folders(temporary)
    records(temporary)
