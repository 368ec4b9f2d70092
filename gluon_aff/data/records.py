"""Images packed into one RecordIO file (.rec, with an index .idx), MXNet's format for ImageNet.

A record is MXNet's magic number, a word with the length, the header (flag, label, two numbers of the image), and the
image file's content; its end is filled up to a multiple of four bytes.
"""
from __future__ import annotations

import io
import os
import struct
import tempfile

import mxnet as mx
import numpy as np

from ..errors import positive
from . import labels
from .augmentation import AREA, ASPECT, JITTER, LIGHTING
from .images import opened, short_side, upright
from .parts import check_training, checked_part, number_of_batches

__all__ = ['RecordFile', 'Records']

MAGIC, MAGIC_BYTES = 0xced7230a, struct.pack('<I', 0xced7230a)
FRAME, HEADER = struct.Struct('<II'), struct.Struct('<IfQQ')
FORMATS = ('JPEG', 'PNG', 'BMP', 'TIFF')
JPEG, PNG = (b'\xff\xd8\xff', b'\xff\xd9'), (b'\x89PNG\r\n\x1a\n', b'IEND\xaeB`\x82')


class RecordFile:
    """A RecordIO file of labelled images, its structure checked.

    Parameters
    ----------
    path : str
    index : str, optional
        Its .idx file; by default the one of the same name, if there is one. It is only checked, as the records are
        found without it.

    Attributes
    ----------
    labels : tuple of str
        Name of each class: the lines of classes.txt in the same folder if there is one, ImageNet's of 1000 classes,
        else 'class 0', ...
    target : numpy.ndarray, int, (N,)
    offsets : numpy.ndarray, int, (N + 1,)
        Where each record begins, and the last one ends, in bytes.

    Raises
    ------
    FileNotFoundError
        If there is no such file, or no such index.
    ValueError
        If it is damaged, holds no image or one that MXNet cannot decode, or the index or the names of the classes
        belong to another file. Of a JPEG or PNG only the beginning and the end are looked at.
    """

    def __init__(self, path, index=None):
        self.path = os.fspath(path)
        for file in filter(None, (self.path, index)):
            if not os.path.isfile(file):
                raise FileNotFoundError(f'There is no file {file}; name a .rec file, such as gluon-aff records makes '
                                        'from folders of images, and its .idx, if any.')
        self.offsets, self.target, doubtful = self._scan()
        beside = os.path.splitext(self.path)[0] + '.idx'
        if index or os.path.isfile(beside):
            self._check_index(index or beside)
        self._check_images(doubtful)
        self.labels = self._names()

    def __len__(self):
        return len(self.target)

    def open(self, index):
        """Within the block, the image, see :func:`gluon_aff.data.images.opened`."""
        return opened(io.BytesIO(self._content(index)), f'image {index} of {self.path}')

    def _content(self, index):
        """The image file in a record."""
        begin, end = self.offsets[index:index + 2]
        with open(self.path, 'rb') as file:
            file.seek(begin)
            record = file.read(end - begin)
        if len(record) < end - begin:
            raise ValueError(f'{self.path} has become shorter since it was opened; copy or make it again.')
        parts, position = [], 0
        while position < len(record):
            # A record that has the magic number in it is cut there, into several, without it.
            _, word = FRAME.unpack_from(record, position)
            position += FRAME.size
            parts.append(record[position:position + _length(word)])
            position += _filled(word)
        content = MAGIC_BYTES.join(parts)
        return content[HEADER.size + 4 * HEADER.unpack_from(content)[0]:]

    def _scan(self):
        """Offsets and labels from the head of each record, and the numbers of those whose image may be damaged."""
        offsets, target, doubtful = [], [], []
        total, position, unfinished = os.path.getsize(self.path), 0, False
        with open(self.path, 'rb', buffering=0) as file:
            while position < total:
                file.seek(position)
                head = file.read(FRAME.size + HEADER.size + 12)
                if len(head) < FRAME.size or not head.startswith(MAGIC_BYTES):
                    raise self._damaged(position)
                word = FRAME.unpack_from(head)[1]
                # Kind 0 is whole; 1, 2 and 3 are the first, a middle and the last part of one.
                kind, end = word >> 29, position + FRAME.size + _length(word)
                if kind > 3 or unfinished != (kind >= 2):
                    raise self._damaged(position)
                if end > total:
                    raise ValueError(f'{self.path} is cut short: image {len(offsets)} ends at byte {end} of {total}; '
                                     'copy or make it again.')
                if kind < 2:
                    file.seek(end - 8)
                    if kind or not _looks_whole(head[FRAME.size + HEADER.size:], file.read(8)):
                        doubtful.append(len(offsets))
                    offsets.append(position)
                    target.append(self._label(head[FRAME.size:FRAME.size + _length(word)], position))
                unfinished = kind in (1, 2)
                position += FRAME.size + _filled(word)
        if unfinished or not offsets:
            raise ValueError(f'{self.path} {"is cut short" if offsets else "holds no image"}; copy or make it again.')
        return np.array([*offsets, total]), np.array(target, np.int32), doubtful

    def _damaged(self, position):
        if position == 0:
            return ValueError(f'{self.path} is not a RecordIO file; name a .rec file, such as gluon-aff records makes.')
        return ValueError(f'{self.path} is damaged at byte {position}; copy or make it again.')

    def _label(self, content, position):
        if len(content) < HEADER.size + 4:
            raise self._damaged(position)
        values, label, _, _ = HEADER.unpack_from(content)
        if values == 1:
            label, = struct.unpack_from('<f', content, HEADER.size)
        if values > 1 or not (0 <= label < 2 ** 24 and label == int(label)):
            what = f'{values} labels' if values > 1 else f'the label {label:g}'
            raise ValueError(f'An image of {self.path}, at byte {position}, has {what}; each needs one whole number '
                             'from 0 on, that of its class.')
        return int(label)

    def _check_index(self, index):
        try:
            with open(index, encoding='utf-8') as file:
                places = sorted(int(line.split('\t')[1]) for line in file)
        except (ValueError, IndexError):
            raise ValueError(f'{index} is not an index of a RecordIO file; make it anew, or remove it, as it is not '
                             'needed here.') from None
        if places != self.offsets[:-1].tolist():
            raise ValueError(f'{index} does not belong to {self.path}: it has {len(places)} records, the file has '
                             f'{len(self)}, or they are at other places; make it anew, or remove it, as it is not '
                             'needed here.')

    def _check_images(self, doubtful):
        for index in doubtful:
            with self.open(index) as image:
                upright(image)
            if image.format not in FORMATS:
                raise ValueError(f'Image {index} of {self.path} is a {image.format}, which MXNet does not decode; '
                                 f'it needs {", ".join(FORMATS)}.')

    def _names(self):
        classes = int(self.target.max()) + 1
        path = os.path.join(os.path.dirname(self.path), 'classes.txt')
        if os.path.isfile(path):
            names = labels.read_class_names(path)
            if len(names) < classes:
                raise ValueError(f'{path} names {len(names)} classes, but {self.path} has images of class '
                                 f'{classes - 1}; it needs a line for each class.')
            return names
        return labels.imagenet() if classes == 1000 else tuple(f'class {i}' for i in range(classes))


def _length(word):
    return word & 2 ** 29 - 1


def _filled(word):
    """The length up to the next multiple of four bytes."""
    return _length(word) + 3 & ~3


def _looks_whole(head, tail):
    return any(head.startswith(first) and tail.endswith(last) for first, last in (JPEG, PNG))


class Records:
    """Batches (N, 3, H, W) float32 and (N,) float32 labels of a RecordIO file, by MXNet's own reader.

    It is mxnet.io.ImageRecordIter, called as GluonCV's train_imagenet.py calls it: a random resized crop, mirror,
    colours changed by 0.4 and light by 0.1 in training, else a resize and a centre crop.
    :class:`gluon_aff.data.imagenet.Images` reads the same file to the same ends, and keeps more promises. Of this one,
    by experiment on MXNet 1.9.1:

    - Which images a batch has, in which order, depends on seed, epoch, part and batch size alone.
    - The random changes are reproducible with one thread only; with more, who decodes which image is a matter of
      chance. They are the same sequence in each epoch, whatever the seed, and fall on other images as the order is
      another one. The reader's `seed_aug` is not used: it would repeat the changes of one batch in all others.
    - MXNet takes no more threads than half the processors less one.
    - The share of each of several processes is a piece of the file, the same in each epoch, so the file should be
      shuffled, as :func:`gluon_aff.data.packing.write_records` does.
    - Batches before `start` are decoded and dropped.
    - The images are an mxnet.NDArray that the reader writes to again a few batches later: copy what you keep. The
      labels are a numpy array.

    Parameters
    ----------
    source : RecordFile
    size, batch_size, mean, std, train, crop_ratio, workers, seed, part
        See :class:`gluon_aff.data.imagenet.Images`.
    augment : None
        What works on single images, such as AutoAugment, is refused: the reader gives batches.

    Raises
    ------
    ValueError
        If `augment` is given, a held-out image cannot be decoded, or for batch sizes as
        :class:`gluon_aff.data.imagenet.Images`. While iterating: if a training image cannot be decoded.
    """

    def __init__(self, source, size, batch_size, mean, std, train=False, augment=None, crop_ratio=0.875, workers=4,
                 seed=0, part=(0, 1)):
        if augment is not None:
            raise ValueError("MXNet's record reader makes whole batches and takes no augmentation of single images, "
                             'such as AutoAugment; leave it out, or train from folders of images.')
        self.source, self.size, self.mean, self.std = source, positive('size', size), mean, std
        self.batch_size, self.train, self.crop_ratio = positive('batch_size', batch_size), train, crop_ratio
        self.workers, self.seed, self.part = positive('workers', workers), seed, checked_part(part)
        if train:
            check_training(batch_size, len(source), self.part)
        else:
            # What OpenCV cannot decode, its resize divides by zero, which ends the process; in training it is an error.
            for index in range(len(source)):
                with source.open(index):
                    pass

    def __len__(self):
        return number_of_batches(len(self.source), self.batch_size, self.part, self.train)

    def epoch(self, number=0, start=0):
        """Iterate over the batches of epoch `number` from batch `start` on."""
        rank, parts = self.part
        share, more = divmod(len(self.source), parts)
        begin, images = rank * share + min(rank, more), share + (rank < more)
        if not images:
            return
        with tempfile.TemporaryDirectory(prefix='gluon_aff-') as folder:
            try:
                for batch, found in zip(range(len(self)), self._reader(folder, begin, begin + images, number)):
                    if batch >= start:
                        # The reader fills up the last batch with anything.
                        count = min(self.batch_size, images - batch * self.batch_size)
                        yield found.data[0][:count], found.label[0][:count].asnumpy()
            except mx.MXNetError:
                raise ValueError(f'{self.source.path} holds an image that MXNet cannot decode; '
                                 'make it again.') from None

    def _reader(self, folder, begin, end, number):
        # A name that MXNet does not take for a list of files, as it would one with a semicolon.
        record, index = os.path.join(folder, 'images.rec'), os.path.join(folder, 'images.idx')
        os.symlink(os.path.abspath(self.source.path), record)
        # MXNet cuts an index into equal parts, so the second part of this one is as long and empty: its own division
        # of a file leaves the last process short, and crashes where nothing is left for it.
        places = [*self.source.offsets[begin:end], *[self.source.offsets[end]] * (end - begin)]
        with open(index, 'w') as file:
            file.writelines(f'{i}\t{place}\n' for i, place in enumerate(places))
        changes = {'resize': short_side(self.size, self.crop_ratio)}
        if self.train:
            changes = {'shuffle': True, 'seed': np.random.RandomState([self.seed, number]).randint(2 ** 30),
                       'rand_mirror': True, 'random_resized_crop': True, 'min_random_area': AREA[0],
                       'max_random_area': AREA[1], 'min_aspect_ratio': ASPECT[0], 'max_aspect_ratio': ASPECT[1],
                       'brightness': JITTER, 'contrast': JITTER, 'saturation': JITTER, 'pca_noise': LIGHTING}
        for channel, mean, std in zip('rgb', self.mean, self.std):
            changes.update({f'mean_{channel}': 255 * mean, f'std_{channel}': 255 * std})
        return mx.io.ImageRecordIter(
            path_imgrec=record, path_imgidx=index, num_parts=2, part_index=0, data_shape=(3, self.size, self.size),
            batch_size=self.batch_size, round_batch=False, preprocess_threads=self.workers, device_id=-1,
            verbose=False, **changes)
