"""What the command line and the training scripts share: the parser, errors, Ctrl-C, and progress bars."""

from __future__ import annotations

import argparse
import difflib
import errno
import os
import re
import shutil
import signal
import sys
import threading
from contextlib import contextmanager
from typing import Any, Callable, Iterator, NoReturn, Sequence

from mxnet import MXNetError
from tqdm import tqdm

from .errors import in_words
from .text import any_character, printable

__all__ = ['Parser', 'command_line', 'interruptible', 'progress_bar', 'python', 'run_program']


# Errors of print(); files are written by gluon_aff.files, whose errors name them.
UNWRITABLE = (errno.EFBIG, errno.EIO, errno.ENOSPC)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are ValueErrors of one sentence, which suggest what was meant.

    Flags cannot be abbreviated, and an unknown flag is an error in :meth:`parse_known_args` as well, so that the parser
    of a subcommand, which knows its flags, reports it.
    """

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **{'allow_abbrev': False, **options})

    def parse_known_args(self, args=None, namespace=None):
        namespace, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f'unrecognized arguments: {" ".join(unknown)}')
        return namespace, unknown

    def error(self, message: str) -> NoReturn:
        message = re.sub(r'^argument (\S+): (?=must )', r'\1 ', message)
        message = re.sub(r'^argument (?=\S+: )', '', message)
        raise ValueError(f'{message}{self._suggestion(message)}; {self.prog} --help shows the usage.')

    def _suggestion(self, message: str) -> str:
        """', did you mean ...?' for the unknown flag or command that argparse's `message` quotes."""
        flag = re.match(r'unrecognized arguments: (--?[^\s=]+)', message)
        choice = re.match(r"(\S+): invalid choice: '([^']*)'", message)
        if flag:
            typed, known = flag[1], list(self._option_string_actions)
        elif choice:
            typed = choice[2]
            names = (action.choices for action in self._actions if choice[1] in _names(action))
            known = [str(name) for name in next(names, ())]
        else:
            return ''
        near = difflib.get_close_matches(typed, known, n=2, cutoff=0.6)
        return f', did you mean {" or ".join(near)}?' if near else ''


def _names(action):
    return ['/'.join(action.option_strings), action.metavar, action.dest]


@contextmanager
def interruptible() -> Iterator[None]:
    """Within the block Ctrl-C raises KeyboardInterrupt; before and after it the program's own handler stands.

    A signal that is ignored, as of a job in the background, stays so.
    """
    before = signal.getsignal(signal.SIGINT)
    if not callable(before) or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def run_program(name: str, work: Callable[[], int]) -> int:
    """Do a program's work; an error that a user can mend is one sentence on standard error.

    Parameters
    ----------
    name : str
        Of the program, in front of the sentence.
    work : callable
        Returns the exit status.

    Returns
    -------
    int
        The exit status: that of `work`; 2 for wrong arguments, files or data; 1 for a loss that is no longer finite or
        a lack of memory; 130 after Ctrl-C; 0 if the reader of standard output, such as head, has seen enough.
    """
    sentence = ''
    try:
        with interruptible(), any_character(sys.stdout):
            status = work()
    except SystemExit:  # --help
        _flush()
        raise
    except BrokenPipeError:
        status = 0
    except (Exception, KeyboardInterrupt) as error:
        sentence, status = _failure(error)
    unwritten = _flush()
    if unwritten and not isinstance(unwritten, BrokenPipeError):
        sentence, status = f'Standard output cannot be written to: {unwritten.strerror}.', 2
    if sentence:
        print(f'{name}: {printable(sentence)}', file=sys.stderr, flush=True)
    return status


def _failure(error):
    """The sentence and the exit status for an error that a user can mend; another one is raised again."""
    if _was_interrupted(error):
        return 'Stopped at once; what was saved is whole.', 128 + signal.SIGINT
    if isinstance(error, OSError) and error.filename is None and error.errno in UNWRITABLE:
        return f'Standard output cannot be written to: {error.strerror}.', 2
    if isinstance(error, (ValueError, OSError, ImportError)):
        return in_words(error), 2
    if isinstance(error, FloatingPointError):
        return str(error), 1
    out_of_memory = isinstance(error, MXNetError) and re.search('out of memory|to allocate', str(error))
    if out_of_memory or isinstance(error, MemoryError):
        return 'There is not enough memory; give a smaller --batch-size or network.', 1
    raise error


def _was_interrupted(error):
    """Whether Ctrl-C is the cause of an error; compiled modules turn it into an ImportError while they are imported."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False


def _flush():
    """Flush standard output; the error if that fails, as into a closed pipe or a full disk.

    What is left then goes to the null device, as Python would flush it again at its end and print a traceback.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return error
    return None


class _ColumnZero:
    """Standard error for a progress bar: leaves the cursor at the start of the line.

    MXNet's C++ code prints lines such as "MKLDNN Pooling: training with prop_kind is forward_scoring" there, past
    Python. A line that starts at the bar's first column replaces the bar, which is then drawn again below it.
    """

    def __init__(self, stream):
        self._stream = stream

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def __eq__(self, other):  # tqdm asks before it clears a bar for a line of its own
        return self._stream == other

    __hash__ = object.__hash__

    def write(self, text):
        self._stream.write(f'{text}\r' if text.strip() else text)


def progress_bar(**options: Any) -> tqdm:
    """Tqdm's bar on standard error, for a terminal only, removed at its end; lines of other origin do not tear it.

    Parameters
    ----------
    **options
        Of tqdm: total, unit, desc, initial, disable.
    """
    # Narrower than the lines of MXNet's log, which then cover it.
    columns = min(79, shutil.get_terminal_size().columns - 1)
    return tqdm(**{'file': _ColumnZero(sys.stderr), 'leave': False, 'disable': None, 'ncols': columns, **options})


def python() -> str:
    """How to call this Python: 'python' where that finds it, else its path."""
    command = shutil.which('python')
    return 'python' if command and os.path.dirname(command) == os.path.dirname(sys.executable) else sys.executable


def command_line(arguments: Sequence[str]) -> list[str]:
    """The words of a ``gluon-aff`` command as they work here: by its program if it is installed, else by its module."""
    command = shutil.which('gluon-aff')
    return [*(['gluon-aff'] if command else [python(), '-m', 'model_zoo']), *arguments]
