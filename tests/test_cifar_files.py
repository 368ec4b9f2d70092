"""CIFAR's official files: both versions give the same, from wherever they are, and what is wrong is one sentence."""

import hashlib
import inspect
import io
import os
import shutil
import socket
import tarfile
from types import SimpleNamespace

import mxnet as mx
import numpy as np
import pytest
from loopback import Server, content, status
from mxnet.gluon.data.vision import CIFAR10, CIFAR100, datasets
from python2 import dumps

from gluon_aff import verified_download
from gluon_aff.data import cifar_archive as cifar_files
from gluon_aff.data import class_names
from gluon_aff.data.cifar import cifar10, cifar100
from gluon_aff.verified_download import DownloadError

READERS = {'cifar10': cifar10, 'fine': cifar100, 'coarse': lambda data_dir=None: cifar100(data_dir, fine=False)}
FOLDERS = {
    'cifar-10-binary': 'cifar-10-batches-bin',
    'cifar-10-python': 'cifar-10-batches-py',
    'cifar-100-binary': 'cifar-100-binary',
    'cifar-100-python': 'cifar-100-python',
}


def batch(seed, count=3):
    """Pixels, fine or CIFAR-10's labels, and coarse labels, of a few made-up images."""
    random = np.random.RandomState(seed)
    return [
        random.randint(0, 256, (count, 3072)).astype(np.uint8),
        random.randint(0, 10, count),
        random.randint(10, 20, count),
    ]


def texts(names):
    return [name.encode() for name in names]


def files():
    """The content of the authors' four archives, without their readme, each with three images a file."""
    out = {name: {} for name in FOLDERS}
    for i, file in enumerate([*(f'data_batch_{i}' for i in range(1, 6)), 'test_batch']):
        data, target, _ = batch(i)
        out['cifar-10-binary'][file + '.bin'] = np.column_stack([target, data]).astype(np.uint8).tobytes()
        out['cifar-10-python'][file] = dumps(
            {b'batch_label': b'batch', b'labels': target.tolist(), b'data': data, b'filenames': [b'a.png'] * len(data)}
        )
    out['cifar-10-binary']['batches.meta.txt'] = '\n'.join([*class_names.CIFAR10, '', '']).encode()
    out['cifar-10-python']['batches.meta'] = dumps({b'label_names': texts(class_names.CIFAR10), b'num_vis': 3072})
    for i, file in enumerate(['train', 'test']):
        data, fine, coarse = batch(10 + i)
        out['cifar-100-binary'][file + '.bin'] = np.column_stack([coarse, fine, data]).astype(np.uint8).tobytes()
        out['cifar-100-python'][file] = dumps(
            {b'fine_labels': fine.tolist(), b'coarse_labels': coarse.tolist(), b'data': data}
        )
    out['cifar-100-python']['meta'] = dumps(
        {b'fine_label_names': texts(class_names.CIFAR100), b'coarse_label_names': texts(class_names.CIFAR100_COARSE)}
    )
    return out


def packed(contents, folder):
    """A gzipped archive of them."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode='w:gz') as archive:
        for file, data in contents.items():
            member = tarfile.TarInfo(folder + file)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


FILES = files()
ARCHIVES = {name + '.tar.gz': packed(contents, FOLDERS[name] + '/') for name, contents in FILES.items()}
# MXNet's copies have no folder.
MIRRORED = {name: packed(FILES[name], './') for name in ('cifar-10-binary', 'cifar-100-binary')}
PUBLISHED = {**cifar_files.DIGESTS, 'mirror': cifar_files.MXNET_MIRROR}
BINARY = 'cifar-10-binary.tar.gz'
MD5 = hashlib.md5(ARCHIVES[BINARY]).hexdigest()


@pytest.fixture(autouse=True)
def published(monkeypatch, tmp_path):
    """As if these archives were the published ones; no network, and an empty home."""
    for name, data in ARCHIVES.items():
        monkeypatch.setitem(cifar_files.DIGESTS, name, (('md5', hashlib.md5(data).hexdigest()),))
    for name, data in MIRRORED.items():
        archive = name + '.tar.gz'
        monkeypatch.setitem(
            cifar_files.DIGESTS, archive, (*cifar_files.DIGESTS[archive], ('sha1', hashlib.sha1(data).hexdigest()))
        )
    for name in ('http_proxy', 'https_proxy', 'all_proxy', 'no_proxy'):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(cifar_files, 'SITE', 'nowhere:')
    monkeypatch.setattr(cifar_files, 'MXNET_MIRROR', 'nowhere:')
    monkeypatch.setattr(verified_download, 'time', SimpleNamespace(sleep=lambda seconds: None))
    monkeypatch.delenv('MXNET_GLUON_REPO', raising=False)
    monkeypatch.setenv('MXNET_HOME', str(tmp_path / 'home'))


def unpack(name, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for file, data in FILES[name].items():
        (folder / file).write_bytes(data)


def same(a, b):
    for one, other in ((a.train, b.train), (a.test, b.test)):
        for x, y in zip(one, other):
            assert x.dtype == y.dtype
            np.testing.assert_array_equal(x, y)
    assert a.class_names == b.class_names and a.name == b.name


def refused(name, folder, kind=ValueError):
    with pytest.raises(kind) as caught:
        READERS[name](str(folder))
    assert '\n' not in str(caught.value) and str(folder) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize('name', READERS)
@pytest.mark.parametrize('version', ['binary', 'python'])
def test_every_image_and_label_is_read_from_archive_and_folder(name, version, tmp_path):
    stem = f'cifar-{10 if name == "cifar10" else 100}-{version}'
    (tmp_path / 'packed').mkdir()
    (tmp_path / 'packed' / f'{stem}.tar.gz').write_bytes(ARCHIVES[f'{stem}.tar.gz'])
    unpack(stem, tmp_path / 'unpacked' / FOLDERS[stem])
    data = READERS[name](str(tmp_path / 'packed'))
    same(data, READERS[name](str(tmp_path / 'unpacked')))
    same(data, READERS[name](str(tmp_path / 'unpacked' / FOLDERS[stem])))

    def expected(seeds):
        pixels, *targets = zip(*(batch(seed) for seed in seeds))
        images = np.concatenate(pixels).reshape(-1, 3, 32, 32)
        return images, np.concatenate(targets[name == 'coarse'])

    for part, seeds in (
        (data.train, range(5) if name == 'cifar10' else [10]),
        (data.test, [5 if name == 'cifar10' else 11]),
    ):
        images, target = expected(seeds)
        assert part[0].dtype == np.uint8 and part[1].dtype == np.int32
        np.testing.assert_array_equal(part[0].transpose(0, 3, 1, 2), images)
        np.testing.assert_array_equal(part[1], target)
    assert len(data.class_names) == {'cifar10': 10, 'fine': 100, 'coarse': 20}[name]


def test_the_binary_version_is_read_as_mxnet_reads_it(tmp_path):
    for stem in ('cifar-10-binary', 'cifar-100-binary'):
        unpack(stem, tmp_path)
    ten, fine, coarse = (READERS[name](str(tmp_path)) for name in READERS)
    for data, (images, target) in (
        (ten.test, CIFAR10._read_batch(None, str(tmp_path / 'test_batch.bin'))),
        (fine.train, CIFAR100._read_batch(SimpleNamespace(_fine_label=True), str(tmp_path / 'train.bin'))),
        (coarse.train, CIFAR100._read_batch(SimpleNamespace(_fine_label=False), str(tmp_path / 'train.bin'))),
    ):
        np.testing.assert_array_equal(data[0], images)
        np.testing.assert_array_equal(data[1], target)


@pytest.mark.parametrize('name', READERS)
def test_mxnets_copy_of_the_archive_is_read(name, tmp_path):
    stem = f'cifar-{10 if name == "cifar10" else 100}-binary'
    (tmp_path / f'{stem}.tar.gz').write_bytes(MIRRORED[stem])
    unpack(stem, tmp_path / 'unpacked')
    same(READERS[name](str(tmp_path)), READERS[name](str(tmp_path / 'unpacked')))


@pytest.mark.parametrize(
    'dataset, name, archive', [(CIFAR10, 'cifar10', BINARY), (CIFAR100, 'cifar100', 'cifar-100-binary.tar.gz')]
)
def test_mxnets_copy_folder_and_digest_are_those_that_mxnet_itself_knows(dataset, name, archive, tmp_path, monkeypatch):
    class AskedError(Exception):
        pass

    def ask(url, path, sha1_hash):
        raise AskedError(url, path, sha1_hash)

    monkeypatch.setattr(datasets, 'download', ask)
    with pytest.raises(AskedError) as caught:
        dataset(root=str(tmp_path))
    assert caught.value.args == (
        f'{PUBLISHED["mirror"]}/gluon/dataset/{name}/{archive}',
        str(tmp_path),
        dict(PUBLISHED[archive])['sha1'],
    )
    default = inspect.signature(dataset).parameters['root'].default
    monkeypatch.delenv('MXNET_HOME')
    assert os.path.relpath(cifar_files.default_folder(name), mx.base.data_dir()) == os.path.join('datasets', name)
    assert default.endswith(os.path.join('datasets', name))


# What is wrong with files that are there


@pytest.mark.parametrize(
    'damage',
    [
        lambda data: data[: len(data) // 2],
        lambda data: b'<html>',
        lambda data: b'',
        lambda data: data[:-9] + b'?' + data[-8:],
    ],
)
@pytest.mark.parametrize('version', ['binary', 'python'])
def test_an_archive_that_is_not_the_published_one_is_refused_and_kept(version, damage, tmp_path):
    archive = f'cifar-10-{version}.tar.gz'
    wrong = damage(ARCHIVES[archive])
    (tmp_path / archive).write_bytes(wrong)
    message = refused('cifar10', tmp_path)
    assert hashlib.md5(wrong).hexdigest() in message and hashlib.md5(ARCHIVES[archive]).hexdigest() in message
    assert (tmp_path / archive).read_bytes() == wrong


def test_a_folder_that_is_not_whole_is_refused_whatever_else_is_there(tmp_path):
    (tmp_path / BINARY).write_bytes(ARCHIVES[BINARY])
    unpack('cifar-10-binary', tmp_path / 'cifar-10-batches-bin')
    (tmp_path / 'cifar-10-batches-bin' / 'data_batch_3.bin').unlink()
    assert 'lacks data_batch_3.bin;' in refused('cifar10', tmp_path, FileNotFoundError)
    shutil.rmtree(tmp_path / 'cifar-10-batches-bin')
    (tmp_path / 'cifar-10-batches-bin').mkdir()
    assert cifar10(str(tmp_path)).class_names == class_names.CIFAR10, 'an empty one is none'


def target(**labels):
    return lambda _: dumps({b'data': batch(0)[0], **{key.encode(): value for key, value in labels.items()}})


def names(**lists):
    return lambda _: dumps({key.encode(): list(value) for key, value in lists.items()})


@pytest.mark.parametrize(
    'stem, file, broken, says',
    [
        ('cifar-10-binary', 'test_batch.bin', lambda data: data[:-1], 'whole number'),
        ('cifar-10-binary', 'test_batch.bin', lambda data: b'', 'whole number'),
        ('cifar-10-binary', 'test_batch.bin', lambda data: b'\x0a' + data[1:], 'to 10, of 10 classes'),
        ('cifar-10-python', 'test_batch', lambda data: data[:-1], 'is not a pickle of plain data, or is damaged'),
        ('cifar-10-python', 'test_batch', lambda data: b'', 'is not a pickle of plain data, or is damaged'),
        ('cifar-10-python', 'test_batch', lambda data: b'cos\nsystem\nU\x02lsR.', "names 'os system'"),
        ('cifar-10-python', 'test_batch', target(labels=[0, 1, 10]), 'labels 0 to 10, of 10 classes'),
        ('cifar-10-python', 'test_batch', target(labels=[0, -1, 2]), 'labels -1 to 2, of 10 classes'),
        ('cifar-10-python', 'test_batch', target(fine_labels=[0, 1, 2]), "as many 'labels'"),
        ('cifar-100-python', 'train', target(coarse_labels=[0, 1, 2]), "as many 'fine_labels'"),
        ('cifar-10-python', 'batches.meta', names(label_names=texts(class_names.CIFAR10[::-1])), 'other classes'),
        ('cifar-10-python', 'batches.meta', names(label_names=[1, None, [b'cat']]), 'other classes'),
        ('cifar-100-python', 'meta', names(fine_label_names=texts(class_names.CIFAR100[1:])), 'other classes'),
        ('cifar-10-python', 'batches.meta', names(names=[]), "not a pickle of 'label_names'"),
        ('cifar-10-python', 'batches.meta', lambda data: data[:-1], 'is not a pickle of plain data, or is damaged'),
    ],
)
def test_a_broken_file_is_one_sentence_that_names_it(stem, file, broken, says, tmp_path):
    name = 'cifar10' if '-10-' in stem else 'fine'
    folder = tmp_path / FOLDERS[stem]
    unpack(stem, folder)
    READERS[name](str(tmp_path))
    (folder / file).write_bytes(broken((folder / file).read_bytes()))
    message = refused(name, tmp_path)
    assert says in message and file in message and stem in message


def test_files_of_names_may_be_missing(tmp_path):
    unpack('cifar-10-python', tmp_path)
    (tmp_path / 'batches.meta').unlink()
    assert cifar10(str(tmp_path)).class_names == class_names.CIFAR10


# Downloads


def official(monkeypatch, server):
    monkeypatch.setattr(cifar_files, 'SITE', server.address + '/~kriz')


@pytest.mark.parametrize('name', READERS)
def test_what_is_not_there_is_downloaded_once_where_mxnet_keeps_it(name, tmp_path, monkeypatch):
    archive = f'cifar-{10 if name == "cifar10" else 100}-binary.tar.gz'
    with Server(content(ARCHIVES[archive])) as server:
        official(monkeypatch, server)
        first = READERS[name]()
        same(first, READERS[name]())
        assert server.paths == [f'/~kriz/{archive}']
    home = tmp_path / 'home' / 'datasets' / ('cifar10' if name == 'cifar10' else 'cifar100')
    assert (home / archive).read_bytes() == ARCHIVES[archive]
    same(first, READERS[name](str(home)))


def test_it_is_downloaded_into_the_folder_that_is_named(tmp_path, monkeypatch):
    with Server(content(ARCHIVES[BINARY], until=3000), content(ARCHIVES[BINARY])) as server:
        official(monkeypatch, server)
        cifar10(str(tmp_path / 'new' / 'folder'))
        assert server.starts[0] == 0 and len(server.starts) == 2
    assert (tmp_path / 'new' / 'folder' / BINARY).read_bytes() == ARCHIVES[BINARY]


def test_nothing_is_downloaded_where_the_python_version_is(tmp_path, monkeypatch):
    unpack('cifar-10-python', tmp_path / 'cifar-10-batches-py')
    with Server(content(ARCHIVES[BINARY])) as server:
        official(monkeypatch, server)
        cifar10(str(tmp_path))
        assert server.paths == []


@pytest.mark.parametrize(
    'failing',
    [status(404), content(b'<html>sorry</html>'), content(ARCHIVES[BINARY], until=5000)],
    ids=['absent', 'wrong', 'cut off'],
)
def test_where_the_official_site_fails_mxnets_copy_is_taken(failing, tmp_path, monkeypatch):
    with Server(failing) as server, Server(content(MIRRORED['cifar-10-binary'])) as mirror:
        official(monkeypatch, server)
        monkeypatch.setenv('MXNET_GLUON_REPO', mirror.address + '/')
        data = cifar10(str(tmp_path))
        assert server.paths and set(mirror.paths) == {f'/gluon/dataset/cifar10/{BINARY}'}
    assert (tmp_path / BINARY).read_bytes() == MIRRORED['cifar-10-binary']
    unpack('cifar-10-binary', tmp_path / 'unpacked')
    same(data, cifar10(str(tmp_path / 'unpacked')))


def test_the_official_archive_is_taken_from_a_mirror_as_well(tmp_path, monkeypatch):
    with Server(status(404)) as server, Server(content(ARCHIVES['cifar-100-binary.tar.gz'])) as mirror:
        official(monkeypatch, server)
        monkeypatch.setattr(cifar_files, 'MXNET_MIRROR', mirror.address)
        cifar100(str(tmp_path))
        assert mirror.paths == ['/gluon/dataset/cifar100/cifar-100-binary.tar.gz']


def test_where_both_fail_the_sentence_says_which_file_to_put_where(tmp_path, monkeypatch):
    with Server(content(b'wrong')) as server, Server(status(403)) as mirror:
        official(monkeypatch, server)
        monkeypatch.setenv('MXNET_GLUON_REPO', mirror.address)
        message = refused('cifar10', tmp_path, DownloadError)
        assert f'{mirror.address}/gluon/dataset/cifar10/{BINARY}: status 403' in message
    assert hashlib.md5(b'wrong').hexdigest() in message
    assert message.endswith(f'get the file with md5 {MD5} and save it as {tmp_path / BINARY}.')
    assert not (tmp_path / BINARY).exists()
    (tmp_path / BINARY).write_bytes(ARCHIVES[BINARY])
    cifar10(str(tmp_path))


def test_without_a_network_that_sentence_comes_after_two_tries_of_each_address(tmp_path, monkeypatch):
    naps = []
    monkeypatch.setattr(verified_download, 'time', SimpleNamespace(sleep=naps.append))
    with socket.socket() as nobody:  # has the port, and does not listen
        nobody.bind(('127.0.0.1', 0))
        monkeypatch.setattr(cifar_files, 'SITE', f'http://127.0.0.1:{nobody.getsockname()[1]}')
        monkeypatch.setenv('MXNET_GLUON_REPO', cifar_files.SITE)
        message = refused('cifar10', tmp_path, DownloadError)
    assert MD5 in message and message.count('connection failed') == 2
    assert len(naps) == 2 and sum(naps) < 2
