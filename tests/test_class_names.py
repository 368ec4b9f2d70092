"""Files of class names: as editors save them, and as they come from others."""

import codecs
import os

import pytest
from reference import refused

from gluon_aff.data import class_names
from gluon_aff.data.class_names import read_class_names, write_class_names

NAMES = ('cat', 'Löwe', '猫', 'a b\t', 'cat', 'T-shirt/top')


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig'])
@pytest.mark.parametrize('newline', ['\n', '\r\n'])
@pytest.mark.parametrize('end', ['', '\n'])
def test_names_are_read_as_editors_save_them(tmp_path, encoding, newline, end):
    (tmp_path / 'classes.txt').write_bytes((newline.join(NAMES) + end.replace('\n', newline)).encode(encoding))
    assert read_class_names(str(tmp_path / 'classes.txt')) == NAMES


@pytest.mark.parametrize(
    'data',
    [
        'Löwe\n'.encode('latin-1'),
        codecs.BOM_UTF16_LE + 'cat\n'.encode('utf-16-le'),
        'cat\n'.encode('utf-16-le'),
        'cat\n'.encode('utf-16-be'),
        b'cat\ndog\xff',
    ],
)
def test_a_file_that_is_not_utf_8_is_refused_by_name(tmp_path, data):
    path = tmp_path / 'classes.txt'
    path.write_bytes(data)
    with refused(f'{path} is not UTF-8 .*; save it as UTF-8'):
        read_class_names(str(path))


@pytest.mark.parametrize('text, line', [('cat\n\ndog\n', 2), ('\ncat\n', 1), ('', 1), ('\n\n', 1)])
def test_an_empty_line_names_no_class(tmp_path, text, line):
    (tmp_path / 'classes.txt').write_text(text)
    with refused(f'Line {line} of .*classes.txt is empty'):
        read_class_names(str(tmp_path / 'classes.txt'))


def test_a_missing_or_endless_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / 'pipe')
    for name in ('none', 'pipe', '.'):
        with refused('no file of class names', FileNotFoundError):
            read_class_names(str(tmp_path / name))
    with open(tmp_path / 'large', 'wb') as file:
        file.truncate(class_names.MAX_BYTES + 1)
    with refused('large has more than 16 MB'):
        read_class_names(str(tmp_path / 'large'))


@pytest.mark.parametrize('name', ['a\nb', 'a\rb', '', 'a\udcff', 'a\0', '\ufeffa'])
def test_names_that_a_line_cannot_hold_are_not_written(tmp_path, name):
    with refused('class name .* rename its folder'):
        write_class_names(str(tmp_path / 'classes.txt'), ['cat', name])
    assert not list(tmp_path.iterdir())
    write_class_names(str(tmp_path / 'classes.txt'), ['cat', '猫\x85\u2028'])
    assert read_class_names(str(tmp_path / 'classes.txt')) == ('cat', '猫\x85\u2028')
