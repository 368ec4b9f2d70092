"""Batches are unpickled as pickle does, others are refused, and nothing is ever executed."""

import copyreg
import hashlib
import pickle
import pickletools
import sys

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from python2 import dumps

from gluon_aff.data import class_names
from gluon_aff.data.cifar_archive import PIXELS, VERSIONS
from gluon_aff.data.cifar_pickle import load_batch

HOSTILE = {'pickle.find_class', 'import', 'exec', 'compile', 'os.system', 'subprocess.Popen', 'open', 'os.remove'}
seen = None


def _note(event, arguments):
    if seen is not None and event in HOSTILE:
        seen.append((event, arguments))


sys.addaudithook(_note)


def read(content):
    """The pixels and labels of one of CIFAR-10's pickled batches."""
    return VERSIONS['cifar10'][1].read(content, 'label')


def quietly(call, *arguments):
    """What it returns, once nothing was imported, opened or executed meanwhile; the ValueError where it raises one."""
    global seen
    seen = []
    try:
        result = call(*arguments)
    except ValueError as error:
        result = error
    finally:
        events, seen = seen, None
    assert not events
    return result


def refused(content, call=load_batch):
    message = quietly(call, content)
    assert isinstance(message, ValueError) and message.args
    assert '\n' not in str(message) and len(str(message)) < 200
    return str(message)


def same(a, b):
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and a.shape == b.shape and (a == b).all()
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return type(a) is type(b) and a == b


def with_str_keys(batch):
    return {key.decode('latin-1') if isinstance(key, bytes) else key: value for key, value in batch.items()}


def arrays():
    return st.builds(
        lambda shape, order, seed: np.asarray(
            np.random.RandomState(seed).randint(0, 256, shape), np.uint8, order=order
        ),
        st.lists(st.integers(1, 5), min_size=1, max_size=4),
        st.sampled_from(['C', 'F']),
        st.integers(0, 9),
    )


def picklable(strings):
    leaves = st.one_of(st.none(), st.booleans(), st.integers(-(2**31), 2**31 - 1), strings)
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=5),
            st.lists(inner, max_size=5).map(tuple),
            st.dictionaries(strings, inner, max_size=5),
        ),
        max_leaves=12,
    )


@pytest.mark.parametrize(
    'md5, table, meta',
    [
        (
            '5ff9c542aee3614f3951f8cda6e48888',
            {'label_names': class_names.CIFAR10},
            lambda names: {b'num_cases_per_batch': 10000, b'label_names': names[0], b'num_vis': 3072},
        ),
        (
            '7973b15100ade9c7d40fb424638fde48',
            {'fine_label_names': class_names.CIFAR100, 'coarse_label_names': class_names.CIFAR100_COARSE},
            lambda names: {b'fine_label_names': names[0], b'coarse_label_names': names[1]},
        ),
    ],
)
def test_the_authors_own_files_of_names_are_read_and_agree_with_our_labels(md5, table, meta):
    """What stands here is byte by byte the authors' file: the MD5 are those by which torchvision knows them."""
    content = dumps(meta([[name.encode() for name in names] for names in table.values()]))
    assert hashlib.md5(content).hexdigest() == md5
    names = load_batch(content)
    assert {key: tuple(name.decode() for name in names[key]) for key in table} == table


@given(
    st.dictionaries(
        st.binary(min_size=1, max_size=300), st.one_of(picklable(st.binary(max_size=300)), arrays()), max_size=5
    )
)
def test_pickles_of_python_2_are_read_as_pickle_reads_them(batch):
    content = dumps(batch)
    assert same(pickle.loads(content, encoding='bytes'), batch)
    assert same(quietly(load_batch, content), with_str_keys(batch))


@pytest.mark.parametrize('protocol', [2, 3, 4])
@given(
    strings=st.dictionaries(st.text(), picklable(st.text()), max_size=5),
    raw=st.dictionaries(st.binary(min_size=1), st.one_of(picklable(st.binary(min_size=1)), arrays()), max_size=5),
)
def test_pickles_of_python_3_are_read_as_pickle_reads_them(protocol, strings, raw):
    for batch in (strings, raw):
        assert same(quietly(load_batch, pickle.dumps(batch, protocol)), with_str_keys(batch))


@pytest.mark.parametrize(
    'array', [b'\x89U\x06\xfa\xfb\xfc\xfd\xfe\xff', b'\x88U\x06\xfa\xfd\xfb\xfe\xfc\xff'], ids=['rows', 'columns']
)
def test_what_python_2_7_and_numpy_1_16_wrote_is_read(array):
    """With cPickle, of numpy.arange(250, 256).reshape(2, 3) as uint8, in C's and in Fortran's order."""
    content = (
        b'\x80\x02}q\x01(U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00'
        b'\x85U\x01b\x87Rq\x05(K\x01K\x02K\x03\x86cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01\x87Rq\x07(K\x03U\x01|NNNJ\xff\xff'
        b'\xff\xffJ\xff\xff\xff\xffK\x00tb' + array + b'tbU\x06labelsq\x08]q\t(K\x06M,\x01eU\x0bbatch_labelq\nU'
        b'\x14testing batch 1 of 1q\x0bU\tfilenamesq\x0c]q\r(U\x05a.pngq\x0eU\x05b.pngq\x0feu.'
    )
    assert same(
        quietly(load_batch, content),
        {
            'data': np.arange(250, 256).astype(np.uint8).reshape(2, 3),
            'labels': [6, 300],
            'batch_label': b'testing batch 1 of 1',
            'filenames': [b'a.png', b'b.png'],
        },
    )


def test_what_occurs_twice_and_long_lists_are_read():
    array, names = np.arange(12, dtype=np.uint8).reshape(3, 4), [b'a%d' % i for i in range(2500)]
    for content in (dumps({b'data': array, b'names': names}), pickle.dumps({b'data': array, b'names': names}, 2)):
        assert same(load_batch(content), {'data': array, 'names': names})
    twice = pickle.dumps({'a': array, 'b': array, 'c': names, 'd': names}, 4)
    assert same(load_batch(twice), {'a': array, 'b': array, 'c': names, 'd': names})


# What is refused


def test_the_watch_sees_what_pickle_does():
    with pytest.raises(AssertionError, match='find_class'):
        quietly(pickle.loads, dumps({b'data': np.zeros(1, np.uint8)}))


class Calls:
    def __init__(self, function, *arguments):
        self.made = function, arguments

    def __reduce__(self):
        return self.made


@pytest.mark.parametrize(
    'wrap',
    [
        lambda payload: payload,
        lambda payload: {b'data': [(payload, payload)]},
        lambda payload: {b'data': np.zeros((1, PIXELS), np.uint8), b'labels': [0], b'filenames': payload},
        lambda payload: {b'data': np.array([payload], object)},
    ],
    ids=['alone', 'nested and repeated', 'beside a whole batch', 'in an array of objects'],
)
def test_a_pickle_that_calls_something_is_refused_and_executes_nothing(tmp_path, wrap):
    made = tmp_path / 'executed'
    for payload in (Calls(open, str(made), 'w'), Calls(eval, f'open({str(made)!r}, "w")')):
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            content = pickle.dumps(wrap(payload), protocol)
            refused(content)
            assert not made.exists()
            pickle.loads(content)
            assert made.exists(), 'it is one that pickle itself executes'
            made.unlink()


SYSTEM = b'cos\nsystem\n'
COMMAND = b'U\x04exit'
DTYPE = b'cnumpy\ndtype\n'
EMPTY = b'cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R'
U1 = DTYPE + b'U\x02u1K\x00K\x01\x87R'


@pytest.mark.parametrize(
    'operations',
    [
        SYSTEM + COMMAND + b'\x85R',  # REDUCE
        b'(' + COMMAND + b'ios\nsystem\n',  # INST
        b'(' + SYSTEM + COMMAND + b'o',  # OBJ
        SYSTEM + COMMAND + b'\x85\x81',  # NEWOBJ
        b'\x8c\x02os\x8c\x06system\x93' + COMMAND + b'\x85R',  # STACK_GLOBAL
        b'\x8c\x02os\x8c\x06system\x93' + COMMAND + b'\x85}\x92',  # NEWOBJ_EX
        b'Psystem\n',
        COMMAND + b'Q',  # persistent ids
        SYSTEM + b'q\x010h\x01' + COMMAND + b'\x85R',  # by way of the memo
        U1 + SYSTEM + COMMAND + b'\x85Rb',  # as a state
        EMPTY + b'(K\x01K\x02\x85' + U1 + b'\x89' + SYSTEM + COMMAND + b'\x85Rtb',
        b'cnumpy.core.multiarray\n_reconstruct\n' + SYSTEM + b'K\x00\x85U\x01b\x87R',
        b'cnumpy.core.multiarray\n_reconstruct\ncnumpy\nmatrix\nK\x00\x85U\x01b\x87R',
        b'cnumpy.core.multiarray\n_reconstruct\n' + DTYPE + b'K\x00\x85U\x01b\x87R',
        b'cnumpy\nndarray\nK\x09\x85\x85R',  # uninitialised memory
        b'cnumpy\nndarray\n)\x81',
        DTYPE + b'U\x01OK\x00K\x01\x87R',
        DTYPE + b'U\x02O8K\x00K\x01\x87R',
        DTYPE + b'U\x02i8K\x00K\x01\x87R',
        DTYPE + b'](U\x01aU\x01Oee\x85R',
        DTYPE + b')R',
        DTYPE + b'}}b',
        b'cnumpy\nload\n' + COMMAND + b'\x85R',
        b'cnumpy.core.multiarray\nscalar\n' + U1 + b'U\x01a\x86R',
        EMPTY + b'(K\x01K\x02\x85' + DTYPE + b'\x89U\x02abtb',  # the name instead of a dtype
        EMPTY + b'(K\x01K\x02\x85U\x02u1\x89U\x02abtb',
        EMPTY + b'(K\x01K\x03\x85' + U1 + b'\x89U\x02abtb',  # fewer bytes than the shape says
        EMPTY + b'(K\x01J\xff\xff\xff\xff\x85' + U1 + b'\x89U\x02abtb',  # a length to be guessed
        EMPTY + b'(K\x01J\xff\xff\xff\xffJ\xfe\xff\xff\xff\x86' + U1 + b'\x89U\x02abtb',
        EMPTY + b'(K\x01(' + b'K\x01' * 70 + b't' + U1 + b'\x89U\x01atb',  # more dimensions than numpy has
        EMPTY + b'(K\x01K\x00\x8a\x09' + b'\xff' * 8 + b'\x00\x86' + U1 + b'\x89U\x00tb',
        EMPTY + b'(K\x01K\x02\x85' + U1 + b'\x89](K\x01K\x02etb',  # objects for bytes
        EMPTY + b'}U\x05valueK\x01sb',
        EMPTY + b'(K\x01tb',
        b'c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R',
        b'c_codecs\ndecode\nU\x01aU\x03zip\x86R',
        b'c_codecs\nencode\n' + SYSTEM + b'X\x06\x00\x00\x00latin1\x86R',
        b'ccopy_reg\n_reconstructor\nc__builtin__\nobject\nc__builtin__\nobject\nN\x87R',
        b'c__builtin__\ngetattr\n' + DTYPE + b'U\x07__new__\x86R',
        b'c_codecs\nencode\n}U\x08__code__K\x01s\x86b',
        b'cbuiltins\neval\n',
        b'c' + b'x' * 10_000 + b'\ny\n',
        b'c\n\n',
        b'cnumpy\ndtype.type\n',
        b'}(U\x01aK\x01U\x01bu',
        b'K\x01K\x01\x85R',
        b'}K\x01\x85R',
        b'N)R',
        b'\x8f',
    ],
)
def test_hostile_or_foreign_operations_are_refused_and_execute_nothing(operations):
    refused(b'\x80\x02}U\x04data' + operations + b's.')
    refused(b'\x80\x02' + operations + b'.')


def test_the_registry_of_extensions_is_not_asked(tmp_path):
    copyreg.add_extension('os', 'system', 250)
    try:
        pickle.loads(b'\x80\x02\x82\xfa.')  # fills pickle's cache, after which find_class is no longer asked
        assert pickle.loads(b'\x80\x02\x82\xfaU\x04true\x85R.') == 0
        refused(b'\x80\x02\x82\xfaU\x04true\x85R.')
    finally:
        copyreg.remove_extension('os', 'system', 250)


def test_the_sentence_says_what_was_refused():
    assert "names 'os system'" in refused(b'\x80\x02' + SYSTEM + COMMAND + b'\x85R.')
    assert 'not a pickle of plain data' in refused(b'\x80\x02(ios\nsystem\n.')


@pytest.mark.parametrize(
    'operations',
    [
        b'r\xff\xff\xff\xff',
        b'r\xff\xff\xff\x7f' * 9,  # the memo of pickle would take gigabytes
        b')' + b'q\x00h\x00\x86' * 99 + b'q\x00}h\x00K\x01s',  # a key whose hash takes for ever
        b'}(' + b')' + b'q\x00h\x00\x86' * 99 + b'K\x01u',
        b'U\x01a' + b'q\x00h\x00\x86' * 99 + b'q\x00h\x00\x93',  # a name as long as that
        b'](' * 100_000 + b'e' * 100_000,
        b'T\xff\xff\xff\x7fa',
        b'X\xff\xff\xff\xffa',
        b'\x8e' + b'\xff' * 8,
        b'\x96' + b'\xff' * 7 + b'\x7fa',
        b'\x8b\xff\xff\xff\x7fa',
        b'\x95' + b'\xff' * 8,
        EMPTY + b'(K\x01(' + b'J\xff\xff\xff\x7f' * 30 + b't' + U1 + b'\x89U\x02abtb',
    ],
    ids=lambda operations: operations[:9].hex(),
)
def test_what_would_take_for_ever_or_all_memory_does_not(operations):
    quietly(load_batch, b'\x80\x02}' + operations + b'.')
    refused(b'\x80\x02' + operations + b'.', read)


BATCH = {
    b'batch_label': b'testing batch 1 of 1',
    b'labels': [3, 9],
    b'data': np.random.RandomState(0).randint(0, 256, (2, PIXELS)).astype(np.uint8),
    b'filenames': [b'cat_s_000001.png', b'truck_s_000002.png'],
}
WRITTEN = [dumps(BATCH), *(pickle.dumps(BATCH, protocol) for protocol in (2, 3, 4))]
INTERESTING = bytes(sorted({ord(operation.code) for operation in pickletools.opcodes}))


@st.composite
def damaged(draw):
    """A batch with some bytes replaced, taken out or put in, mostly where the operations are."""
    content = bytearray(draw(st.sampled_from(WRITTEN)))
    for _ in range(draw(st.integers(1, 4))):
        position = draw(st.one_of(st.integers(0, 230), st.integers(-120, -1), st.integers(0, len(content) - 1)))
        size = draw(st.integers(0, 3))
        some = bytes(draw(st.lists(st.one_of(st.sampled_from(INTERESTING), st.integers(0, 255)), max_size=5)))
        position %= len(content)
        content[position : position + size] = some
    return bytes(content[: draw(st.sampled_from([None, draw(st.integers(0, len(content)))]))])


@settings(max_examples=300)
@given(damaged())
@example(WRITTEN[0][:-1])
@example(b'')
def test_a_damaged_batch_is_one_of_right_form_or_one_sentence_and_executes_nothing(content):
    result = quietly(read, content)
    if isinstance(result, ValueError):
        refused(content, read)
    else:
        rows, target = result
        assert rows.dtype == np.uint8 and rows.shape == (len(target), PIXELS) and len(rows)
        assert all(type(label) is int for label in target)


@pytest.mark.parametrize('content', WRITTEN, ids=['Python 2', 'protocol 2', 'protocol 3', 'protocol 4'])
def test_a_batch_cut_anywhere_is_refused(content):
    rows, target = read(content)
    assert (rows == BATCH[b'data']).all() and target == [3, 9]
    for end in [*range(0, 300, 3), *range(len(content) - 300, len(content), 3)]:
        refused(content[:end], read)


@pytest.mark.parametrize(
    'change',
    [
        {b'data': np.zeros((2, PIXELS - 1), np.uint8)},
        {b'data': np.zeros((2, 3, 32, 32), np.uint8)},
        {b'data': np.zeros((3, PIXELS), np.uint8)},
        {b'data': [0] * PIXELS},
        {b'data': None},
        {b'labels': [3]},
        {b'labels': (3, 9)},
        {b'labels': [3, b'9']},
        {b'labels': [3, True]},
        {b'labels': [3, [9]]},
        {b'labels': None},
        {b'data': np.zeros((0, PIXELS), np.uint8), b'labels': []},
        {b'labels': np.zeros(2, np.uint8)},
        {b'data': np.zeros((2, PIXELS), np.int64)},
        {b'data': np.zeros((2, PIXELS), np.float32)},
    ],
)
def test_a_sound_pickle_of_something_else_is_refused(change):
    refused(dumps({**BATCH, **change}), read)
    refused(dumps([BATCH]), read)


def test_integers_that_no_array_holds_are_read():
    content = pickle.dumps({'data': BATCH[b'data'], 'labels': [3, 2**200]}, 2)
    assert read(content)[1] == [3, 2**200], 'whose range the caller checks'
