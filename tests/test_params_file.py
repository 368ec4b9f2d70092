"""Parameter files: what MXNet writes is read as MXNet reads it, and what is broken or hostile is refused."""

import io
import os
import pickle
import struct
import subprocess
import sys
import time
import tracemalloc
import zipfile
from pathlib import Path
from random import Random

import mxnet as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from mxnet.gluon import nn

from gluon_aff.params_file import MAX_ARRAYS, read_parameters, write_parameters
from model_zoo import get_model
from model_zoo.weights import load_parameters

LIST, V1, V2, V3 = 0x112, 0xF993FAC8, 0xF993FAC9, 0xF993FACA
FLAGS = {
    np.dtype(name): flag
    for flag, name in enumerate(('float32', 'float64', 'float16', 'uint8', 'int32', 'int8', 'int64', 'bool'))
}
MUTANTS = 20_000
HANG = 5

# Reads every file named on standard input with MXNet, too, and prints what is not the same. A process of its own, since
# MXNet's reader can crash.
COMPARE = """
import sys
import mxnet as mx
from gluon_aff.params_file import read_parameters

def by_mxnet(path):
    try:
        return mx.nd.load(path)
    except mx.base.MXNetError:
        with mx.util.np_shape(True):
            return mx.nd.load(path)

def facts(array):
    return str(array.dtype), array.shape, array.tobytes()

for path in sys.stdin.read().splitlines():
    ours = {name: facts(array) for name, array in read_parameters(path).items()}
    try:
        theirs = {name[4:] if name[:4] in ('arg:', 'aux:') else name: facts(array.asnumpy())
                  for name, array in by_mxnet(path).items()}
    except Exception as error:
        theirs = repr(error)
    if ours != theirs:
        print(path, ours, theirs)
print('done')
"""


def array(value, magic=V2, storage=0, shape=None, dimensions=None, device=(1, 0), flag=None):
    """An array as MXNet writes it, unless told to lie."""
    shape = value.shape if shape is None else shape
    dimensions = len(shape) if dimensions is None else dimensions
    return b''.join(
        (
            struct.pack('<I', magic),
            b'' if magic == V1 else struct.pack('<i', storage),
            struct.pack('<i', dimensions),
            struct.pack(f'<{len(shape)}q', *shape),
            struct.pack('<ii', *device),
            struct.pack('<i', FLAGS[value.dtype] if flag is None else flag),
            value.tobytes(),
        )
    )


def name(text, size=None):
    text = text if isinstance(text, bytes) else text.encode()
    return struct.pack('<Q', len(text) if size is None else size) + text


def file(arrays, names, magic=LIST, reserved=0, array_count=None, name_count=None):
    """A file of encoded arrays and names, unless told to lie."""
    return b''.join(
        (
            struct.pack('<QQQ', magic, reserved, len(arrays) if array_count is None else array_count),
            *arrays,
            struct.pack('<Q', len(names) if name_count is None else name_count),
            *names,
        )
    )


def small():
    """Values of a small network by name."""
    random = np.random.RandomState(0)
    shapes = {
        '0.weight': (2, 1, 2, 2),
        '1.gamma': (2,),
        '1.beta': (2,),
        '1.running_mean': (2,),
        '1.running_var': (2,),
        '2.weight': (3, 2),
        '2.bias': (3,),
    }
    return {name: random.randn(*shape).astype('float32') for name, shape in shapes.items()}


def small_network():
    net = nn.HybridSequential()
    net.add(nn.Conv2D(2, 2, use_bias=False, in_channels=1), nn.BatchNorm(in_channels=2), nn.Dense(3, in_units=2))
    return net


def encoded(values, **options):
    return file([array(value, **options) for value in values.values()], [name(text) for text in values])


def refused(path, data=None):
    """The one sentence with which a file is refused, by the reader and by the loader alike."""
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(ValueError) as caught:
        read_parameters(str(path))
    with pytest.raises(ValueError) as again:
        load_parameters(small_network(), str(path))
    text = str(caught.value)
    assert text == str(again.value) and text.isprintable() and text.startswith(str(path)) and text.endswith('.')
    return text


def same(a, b):
    assert list(a) == list(b)
    for name in a:
        assert a[name].dtype == b[name].dtype and a[name].shape == b[name].shape
        assert a[name].tobytes() == b[name].tobytes()


def compare(paths):
    """What MXNet reads otherwise than read_parameters, as text."""
    run = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', COMPARE],
        input='\n'.join(map(str, paths)),
        text=True,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parent.parent,
        check=True,
    )
    *differences, last = run.stdout.splitlines()
    assert last == 'done'
    return '\n'.join(differences[:3])


# What MXNet writes


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(codec='ascii', categories=('L', 'N'), include_characters='._'), min_size=1, max_size=20),
        st.sampled_from(['float16', 'float32', 'float64', 'uint8', 'int8', 'int32', 'int64']).flatmap(
            lambda dtype: hnp.arrays(dtype, hnp.array_shapes(max_dims=5, max_side=4))
        ),
        min_size=1,
        max_size=4,
    )
)
def test_what_mxnet_writes_is_read(tmp_path_factory, values):
    path = tmp_path_factory.mktemp('any') / 'x.params'
    written = {name: mx.nd.array(value, dtype=value.dtype) for name, value in values.items()}
    mx.nd.save(str(path), written)
    same(read_parameters(str(path)), {name: value.asnumpy() for name, value in written.items()})
    assert path.read_bytes() == encoded(values)


def test_bool_arrays_are_read(tmp_path):
    path = tmp_path / 'x.params'
    mx.nd.save(str(path), {'a': mx.nd.array([1, 0, 1]).astype(bool)})
    same(read_parameters(path), {'a': np.array([True, False, True])})


def test_all_versions_of_the_format_are_read(tmp_path):
    files = [tmp_path / str(magic) for magic in (V1, V2, V3)]
    for path in files:
        path.write_bytes(encoded(small(), magic=int(path.name)))
        same(read_parameters(path), small())
    assert compare(files) == ''


def test_what_is_saved_with_numpy_semantics_is_read(tmp_path):
    path = tmp_path / 'x.params'
    with mx.util.np_shape(True), mx.util.np_array(True):
        mx.npx.save(str(path), {name: mx.np.array(value) for name, value in small().items()})
    same(read_parameters(path), small())


def test_the_marks_of_an_exported_network_are_left_out(tmp_path):
    net = small_network()
    net.initialize()
    net.hybridize()
    net(mx.nd.ones((1, 1, 2, 2)))
    net.export(str(tmp_path / 'x'))
    arrays = read_parameters(tmp_path / 'x-0000.params')
    assert arrays.keys() == net.collect_params().keys()
    same(arrays, {name: net.collect_params()[name].data().asnumpy() for name in arrays})


def test_parameters_on_a_gpu_are_read(tmp_path):
    (tmp_path / 'x.params').write_bytes(encoded(small(), device=(2, 3)))
    same(read_parameters(tmp_path / 'x.params'), small())


def test_arrays_are_read_only(tmp_path):
    (tmp_path / 'x.params').write_bytes(encoded(small()))
    with pytest.raises(ValueError, match='read-only'):
        read_parameters(tmp_path / 'x.params')['2.bias'][0] = 1


# What is no parameter file


def test_no_file_says_so(tmp_path):
    for path in (tmp_path / 'no.params', tmp_path):
        for read in (read_parameters, lambda path: load_parameters(small_network(), path)):
            with pytest.raises(FileNotFoundError, match='There is no parameter file'):
                read(str(path))


@pytest.mark.parametrize(
    'data, says',
    [
        (b'', 'it is empty'),
        (b'\x12', 'does not begin like one'),
        (b'a text\n' * 9, 'does not begin like one'),
        (bytes(99), 'does not begin like one'),
        (struct.pack('<Q', LIST), 'ends at byte 8, within a value'),
        (file([], []), 'it is empty'),
    ],
)
def test_another_file_is_refused(tmp_path, data, says):
    assert says in refused(tmp_path / 'x.params', data)


ONE, TWO = np.ones(1, 'float32'), np.ones((2, 3), 'float32')


@pytest.mark.parametrize(
    'data, says',
    [
        (file([array(ONE)], [name('a')], array_count=2**63), f'to hold {2**63} arrays, more than fit'),
        (file([array(ONE)], [name('a')], array_count=2**64 - 1), 'more than fit'),
        (file([array(ONE)], [name('a')], name_count=2**40), f'to hold {2**40} names, more than fit'),
        (file([array(ONE)], [name('a', size=2**62)]), f'a name of {2**62} bytes'),
        (file([array(ONE)], [name('a', size=100)]), 'within a value'),
        (file([array(TWO, shape=(2**20, 2**20))], [name('a')]), 'within a value'),
        (file([array(TWO, shape=(2**32, 2**32))], [name('a')]), 'within a value'),  # 2**64 is 0 in 64 bits
        (file([array(TWO, shape=(2**62, 2**62, 2**62, 6))], [name('a')]), 'within a value'),
        (file([array(TWO, shape=(-2, -3))], [name('a')]), r'of shape (-2, -3)'),
        (file([array(TWO, shape=(6, -1))], [name('a')]), 'of shape (6, -1)'),
        (file([array(TWO, shape=(0, 2**62))], [name('a')]), 'of shape (0,'),
        (file([array(TWO, shape=())], [name('a')]), 'of 0 dimensions'),
        (file([array(TWO, dimensions=-1)], [name('a')]), 'of -1 dimensions'),
        (file([array(TWO, dimensions=2**31 - 1)], [name('a')]), 'dimensions'),
        (file([array(TWO, shape=(1,) * 33)], [name('a')]), 'of 33 dimensions'),
        (file([array(TWO, flag=8)], [name('a')]), 'unknown type (8)'),
        (file([array(TWO, flag=-1)], [name('a')]), 'unknown type (-1)'),
        (file([array(TWO, flag=13)], [name('a')]), 'unknown type (13)'),
        (file([array(TWO, storage=1)], [name('a')]), 'a sparse array'),
        (file([array(TWO, storage=-1)], [name('a')]), 'a sparse array'),
        (file([array(TWO, magic=2)], [name('a')]), 'there is no array at byte 24'),
        (file([array(TWO), array(TWO, magic=V3)], [name('a'), name('b')]), 'with and without NumPy semantics'),
        (file([array(ONE), array(TWO)], [name('a'), name('a')]), 'two arrays of one name'),
        (file([array(ONE), array(TWO)], [name('arg:a'), name('aux:a')]), 'two arrays of one name'),
        (file([array(ONE), array(TWO)], [name('a')]), '2 arrays and 1 names'),
        (file([array(ONE)], []), '1 arrays and 0 names'),
        (file([array(ONE)], [name(b'a\xff')]), 'not UTF-8'),
        (file([array(ONE)], [name('a\0b')]), 'control characters'),
        (file([array(ONE)], [name('a\nb')]), 'control characters'),
        (encoded(small()) + b'\0', '1 bytes follow its end'),
    ],
    ids=lambda value: value if isinstance(value, str) else '',
)
def test_a_broken_or_hostile_file_is_refused(tmp_path, data, says):
    assert says in refused(tmp_path / 'x.params', data)


def test_what_is_cut_anywhere_is_refused(tmp_path):
    data = encoded(small())
    for size in range(len(data)):
        refused(tmp_path / 'x.params', data[:size])


def test_sparse_arrays_of_mxnet_are_refused(tmp_path):
    mx.nd.save(str(tmp_path / 'x.params'), {'a': mx.nd.array(TWO).tostype('row_sparse')})
    assert 'sparse' in refused(tmp_path / 'x.params')


# Pickles


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def zipped(data):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w') as archive:
        archive.writestr('archive/data.pkl', data)
    return buffer.getvalue()


def npz(data):
    buffer = io.BytesIO()
    np.savez(buffer, a=np.frombuffer(data, np.uint8))
    return buffer.getvalue()


@pytest.mark.parametrize('wrap', [bytes, zipped, npz])
@pytest.mark.parametrize('protocol', [0, pickle.HIGHEST_PROTOCOL])
def test_a_pickle_executes_nothing(tmp_path, protocol, wrap):
    data = pickle.dumps(Payload(str(tmp_path / 'executed')), protocol)
    assert 'does not begin like one' in refused(tmp_path / 'x.params', wrap(data))
    with pytest.raises(ValueError, match='does not begin like one'):
        get_model('cifar_aff_resnet8', pretrained=str(tmp_path / 'x.params'))
    assert not (tmp_path / 'executed').exists()
    pickle.loads(data)
    assert (tmp_path / 'executed').exists()


def test_a_pickle_as_a_name_or_as_values_executes_nothing(tmp_path):
    data = pickle.dumps(Payload(str(tmp_path / 'executed')), 0)
    values = np.frombuffer(data, np.uint8)
    (tmp_path / 'x.params').write_bytes(file([array(values)], [name('a')]))
    same(read_parameters(tmp_path / 'x.params'), {'a': values})
    refused(tmp_path / 'y.params', file([array(values)], [name(data)]))
    assert not (tmp_path / 'executed').exists()


# Memory


@pytest.fixture()
def memory():
    """The most memory that a call takes."""

    def most(call):
        tracemalloc.start()
        try:
            call()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    return most


def test_reading_takes_no_memory_for_values(tmp_path, memory):
    path = tmp_path / 'x.params'
    path.write_bytes(encoded({'a': np.ones((4096, 1024), 'float32')}))
    assert memory(lambda: read_parameters(path)) < 100_000


@pytest.mark.parametrize(
    'data',
    [
        file([array(ONE)] * 20_000, [name(f'{i}') for i in range(20_000)]),
        file([array(ONE)] * 20_000, [name('')] * 20_000),
        file([array(ONE)] * 20_000, [], name_count=2**63),
        file([array(ONE)], [name('')] * 100_000),
        file([array(ONE)], [name('a' * 1024)] * 1_000),
        file([array(TWO, shape=(1,) * 30 + (2, 3))] * 5_000, []),
    ],
    ids=['arrays', 'arrays of one name', 'arrays and no names', 'no names', 'long names', 'dimensions'],
)
def test_many_small_things_take_a_small_multiple_of_the_file(tmp_path, memory, data):
    path = tmp_path / 'x.params'
    path.write_bytes(data)

    def read():
        try:
            load_parameters(small_network(), path)
        except ValueError as error:
            assert str(error).isprintable() and len(str(error)) < 10_000

    assert memory(read) < 10 * len(data)


@pytest.mark.parametrize('count', [MAX_ARRAYS, MAX_ARRAYS + 1, 1_000_000])
def test_many_tiny_arrays_are_read_or_refused_quickly(tmp_path, count):
    path = tmp_path / 'x.params'
    path.write_bytes(file([array(ONE)] * count, [name(f'{i}') for i in range(count)]))
    start = time.perf_counter()
    if count > MAX_ARRAYS:
        assert f'it holds {count} arrays, more than the {MAX_ARRAYS} that are read' in refused(path)
    else:
        assert len(read_parameters(path)) == count
    with pytest.raises(ValueError, match='another network|more than the'):
        load_parameters(small_network(), path)
    assert time.perf_counter() - start < HANG


# Mutants

NUMBERS = [
    *range(-2, 10),
    33,
    1000,
    1025,
    *(sign * 2**bits + more for bits in (15, 31, 32, 48, 62, 63, 64) for sign in (1, -1) for more in (-1, 0, 1)),
]
WRONG = {
    'magic': [V1, V2, V3, 0, 2],
    'storage': [0, 1, 2, -1, 7],
    'flag': [*range(9), 12, -1],
    'dimensions': [0, 1, 2, 5, 33, -1, 2**31 - 1],
    'device': [(1, 0), (2, 5), (99, -9), (-7, 0)],
}
NAMES = ['', 'a', 'arg:1.gamma', '1.gamma', '0.weight', 'x' * 1025, b'\xc3\x28', 'a\0b', '\u2028', '\x1b[31m']


def mutant(random, base, structure):
    """A file that differs from base in a place or a few, mostly among `structure`, those that hold no values."""
    data = bytearray(base)
    for _ in range(random.choice([1, 1, 1, 2, 3])):
        at = random.choice(structure) if random.random() < 0.7 else random.randrange(len(base))
        other, size, width = random.randrange(len(base)), random.randint(1, 40), random.choice([1, 4, 8])
        noise = bytes(random.choices(range(256), k=size))
        number = random.choice(NUMBERS) % 2 ** (8 * width)
        kind = random.choice(['bit', 'byte', 'number', 'number', 'cut', 'append', 'insert', 'delete', 'copy'])
        if kind == 'bit' and at < len(data):
            data[at] ^= 1 << random.randrange(8)
        elif kind == 'byte':
            data[at : at + 1] = noise[:1]
        elif kind == 'number':
            data[at : at + width] = number.to_bytes(width, 'little')
        elif kind == 'cut':
            del data[at:]
        elif kind == 'append':
            data += noise
        elif kind == 'insert':
            data[at:at] = noise
        elif kind == 'delete':
            del data[at : at + size]
        elif kind == 'copy':
            data[at : at + size] = data[other : other + size]
    return bytes(data)


def lie(random, values):
    """A well-formed file of these values in which a thing or a few are not what they should be."""
    names, wrong = list(values), [{} for _ in values]
    counts = {}
    for _ in range(random.choice([1, 1, 1, 2, 3])):
        which = random.randrange(len(names))
        kind = random.choice(['name', 'name', 'swap', 'shape', 'count', *WRONG])
        if kind == 'name':
            names[which] = random.choice(NAMES)
        elif kind == 'swap':
            other = random.randrange(len(names))
            names[which], names[other] = names[other], names[which]
        elif kind == 'shape':
            wrong[which]['shape'] = tuple(random.choice(NUMBERS[:-12]) for _ in range(random.randint(0, 5)))
        elif kind == 'count':
            counts[random.choice(['array_count', 'name_count'])] = random.choice(NUMBERS) % 2**64
        else:
            wrong[which][kind] = random.choice(WRONG[kind])
    return file(
        [array(value, **options) for value, options in zip(values.values(), wrong)],
        [name(text) for text in names],
        **counts,
    )


def test_mutants_are_refused_in_a_sentence_or_read_as_mxnet_reads_them(tmp_path, memory):
    random = Random(0)
    half = {name: value.astype('float16' if 'weight' in name else 'float32') for name, value in small().items()}
    bases = []
    for content, magic in ((small(), V2), (half, V2), (small(), V3), (small(), V1)):
        base = encoded(content, magic=magic)
        held = {base.index(value.tobytes()) + i for value in content.values() for i in range(value.nbytes)}
        bases.append((base, sorted(set(range(len(base))) - held)))

    net, path, accepted, loaded = small_network(), tmp_path / 'x.params', [], []

    def attempt(read):
        try:
            return read()
        except ValueError as error:
            assert str(error).isprintable() and str(error).startswith(str(path)) and str(error).endswith('.')

    # Opened once, since some file systems take long over truncating a file when it is opened.
    with open(path, 'wb', buffering=0) as out:
        for number in range(MUTANTS):
            data = lie(random, half) if number % 4 == 0 else mutant(random, *random.choice(bases))
            out.seek(0)
            out.write(data)
            out.truncate()
            start = time.perf_counter()
            arrays = attempt(lambda: read_parameters(path))
            fits = attempt(lambda: load_parameters(net, path) or True)
            assert time.perf_counter() - start < HANG
            if number % 20 == 0:
                assert memory(lambda: attempt(lambda: load_parameters(net, path))) < 10 * len(data) + 50_000
            if fits:
                loaded.append(number)
                for parameter_name, parameter in net._collect_params_with_prefix().items():
                    np.testing.assert_array_equal(parameter.data().asnumpy(), arrays[parameter_name].astype('float32'))
            if arrays:
                accepted.append(tmp_path / str(number))
                accepted[-1].write_bytes(data)
    assert len(accepted) > MUTANTS / 20 and len(loaded) > MUTANTS / 50
    assert compare(accepted) == ''


@pytest.mark.parametrize('missing', [1, 100, 5000])
def test_a_file_that_the_disk_has_no_room_for_never_takes_its_name(tmp_path, missing):
    """A limit on the size of files stands for the disk; MXNet reports neither."""
    resource = pytest.importorskip('resource')
    path = tmp_path / 'net.params'
    arrays = {'arg:weight': mx.nd.random.uniform(shape=(40, 40)), 'aux:mean': mx.nd.arange(3, dtype='float64')}
    write_parameters(path, arrays)
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) - missing, limits[1]))
    try:
        with pytest.raises(OSError, match='net.params could not be written whole; make room') as caught:
            write_parameters(path, {'arg:weight': arrays['arg:weight'] + 1, 'aux:mean': arrays['aux:mean']})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert '\n' not in str(caught.value)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ['net.params']
    np.testing.assert_array_equal(read_parameters(path)['weight'], arrays['arg:weight'].asnumpy())


def test_a_file_that_holds_other_values_than_were_written_is_not_kept(tmp_path, monkeypatch):
    save = mx.nd.save
    monkeypatch.setattr(mx.nd, 'save', lambda path, arrays: save(path, {name: a + 1 for name, a in arrays.items()}))
    with pytest.raises(OSError, match='could not be written whole'):
        write_parameters(tmp_path / 'net.params', {'weight': mx.nd.zeros((2, 3))})
    assert os.listdir(tmp_path) == []
