"""Text of others is printed on one line, and nothing in it reaches a terminal that the terminal would obey."""
import sys
import unicodedata

import pytest

from gluon_aff.text import printable


def test_of_all_characters_those_that_act_or_hide_are_escaped_and_no_others():
    for code in (*range(0x4000), *range(0xd700, 0x1f700), *range(0xe0000, 0xe0200), sys.maxunicode):
        c = chr(code)
        shown = printable(c)
        assert shown == c or (shown.startswith('\\') and shown.isprintable())
        if unicodedata.category(c) in ('Cc', 'Cs', 'Zl', 'Zp') or 0x202a <= code <= 0x202e or 0x2066 <= code <= 0x2069:
            assert shown != c
        elif c.isprintable() or unicodedata.category(c) == 'Zs':
            assert shown == c


@pytest.mark.parametrize('text, shown', [
    ('Ankle boot', 'Ankle boot'), ('猫 é', '猫 é'), ('a\u3000b\xa0c', 'a\u3000b\xa0c'), ('👩\u200d🚀', '👩\u200d🚀'),
    ('a\r\nb\tc', r'a\r\nb\tc'), ('\x1b]0;x\x07', r'\x1b]0;x\x07'), ('\x9b31m', r'\x9b31m'),
    ('\x85\u2028', r'\x85\u2028'),
    ('\u202egpj', r'\u202egpj'), ('\ufeffcat', r'\ufeffcat'), ('\udcff', r'\udcff'), (ValueError('a\nb'), r'a\nb')])
def test_examples(text, shown):
    assert printable(text) == shown
