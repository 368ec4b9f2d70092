"""Text of others is printed on one line, and nothing in it reaches a terminal that the terminal would obey."""

import io
import sys
import unicodedata
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

from gluon_aff.text import any_character, distinct_names, printable
from gluon_aff.train import RunFolder, run_script
from model_zoo.cli import main


def test_exactly_the_control_and_invisible_characters_are_escaped():
    for code in (*range(0x4000), *range(0xD700, 0x1F700), *range(0xE0000, 0xE0200), sys.maxunicode):
        c = chr(code)
        shown = printable(c)
        assert shown == c or (shown.startswith('\\') and shown.isprintable())
        if unicodedata.category(c) in ('Cc', 'Cs', 'Zl', 'Zp') or 0x202A <= code <= 0x202E or 0x2066 <= code <= 0x2069:
            assert shown != c
        elif c.isprintable() or unicodedata.category(c) == 'Zs':
            assert shown == c


@pytest.mark.parametrize('encoding', ['ascii', 'latin-1', 'utf-8'])
def test_characters_that_an_encoding_lacks_are_escaped_within_the_block_only(encoding):
    out = io.TextIOWrapper(io.BytesIO(), encoding)
    with any_character(out):
        print('猫\udcff', file=out)
    assert out.errors == 'strict'
    with pytest.raises(UnicodeEncodeError):
        print('\udcff', file=out)
    out.seek(0)
    assert out.read() == ('猫' if encoding == 'utf-8' else '\\u732b') + '\\udcff\n'
    with any_character(io.StringIO()) as nothing:
        assert nothing is None


@pytest.mark.parametrize(
    'text, shown',
    [
        ('Ankle boot', 'Ankle boot'),
        ('猫 é', '猫 é'),
        ('a\u3000b\xa0c', 'a\u3000b\xa0c'),
        ('👩\u200d🚀', '👩\u200d🚀'),
        ('a\r\nb\tc', r'a\r\nb\tc'),
        ('\x1b]0;x\x07', r'\x1b]0;x\x07'),
        ('\x9b31m', r'\x9b31m'),
        ('\x85\u2028', r'\x85\u2028'),
        ('\u202egpj', r'\u202egpj'),
        ('\ufeffcat', r'\ufeffcat'),
        ('\udcff', r'\udcff'),
        (ValueError('a\nb'), r'a\nb'),
    ],
)
def test_examples(text, shown):
    assert printable(text) == shown


def test_a_training_scripts_error_and_log_are_escaped(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, 'argv', ['train.py'])

    def script(argv):
        run = RunFolder(tmp_path, {}, skipped=['a\nb.png is no image.'])
        run.begin(fresh=True)
        run.log('Resuming from \x1b[31m\udcff.')
        raise ValueError('There is no \u202efile\n.')

    with pytest.raises(SystemExit) as ended:
        run_script('train.py', script)
    out, err = capsys.readouterr()
    assert ended.value.code == 2 and out == 'Resuming from \\x1b[31m\\udcff.\n'
    assert err.endswith('train.py: There is no \\u202efile\\n.\n')
    assert (tmp_path / 'log.txt').read_text() == out
    assert (tmp_path / 'skipped.txt').read_text() == 'Left out: 1\na\\nb.png is no image.\n'


def test_what_the_system_refuses_is_a_sentence_in_scripts_and_commands(tmp_path, capsys, monkeypatch):
    (tmp_path / 'file\n').write_text('')
    sentence = f'{tmp_path}/file\\n/x cannot be read or written: Not a directory.\n'
    monkeypatch.setattr(sys, 'argv', ['train.py'])
    with pytest.raises(SystemExit):
        run_script('train.py', lambda argv: open(tmp_path / 'file\n' / 'x'))
    assert capsys.readouterr().err == f'train.py: {sentence}'
    monkeypatch.setattr('model_zoo.registry.purge', lambda root: open(tmp_path / 'file\n' / 'x'))
    assert main(['purge']) == 2
    assert capsys.readouterr().err == f'gluon-aff: {sentence}'


def test_equal_file_names_are_told_apart_by_the_folders_that_differ():
    assert distinct_names(['a/1.png', 'b/1.png', 'b/2.png']) == ['a/1.png', 'b/1.png', '2.png']
    assert distinct_names(['x/a/1.png', 'y/a/1.png', 'y/b/1.png']) == ['x/a/1.png', 'y/a/1.png', 'b/1.png']
    assert distinct_names(['1.png', 'a/1.png', '/a/1.png']) == ['1.png', 'a/1.png', '/a/1.png']
    assert distinct_names(['a/P.png', 'b/p.png', './a/P.png']) == ['a/P.png', 'b/p.png', 'a/P.png']
    assert distinct_names([Path('a', 'b.png')]) == ['b.png'] and distinct_names([]) == []


@given(st.lists(st.lists(st.sampled_from(['x', 'X', 'y', '..']), min_size=1, max_size=4).map('/'.join)))
def test_distinct_names_are_the_shortest_ends_that_differ(paths):
    names = distinct_names(paths)
    assert len(set(names)) == len(set(paths))
    for path, name in zip(paths, names):
        assert f'/{path}'.endswith(f'/{name}')
        shorter = name.partition('/')[2].casefold()
        assert not shorter or any(f'/{other}'.casefold().endswith(f'/{shorter}') for other in set(paths) - {path})
