"""Starting this project's programs from tests."""

import os
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
SHORT_RUN = str(TOP / 'tests' / 'short_run.py')


def start(*command, stdout=subprocess.PIPE, **environment):
    """A Python program in a group of processes of its own, its output as text in pipes."""
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, 'PYTHONPATH': str(TOP), 'OMP_NUM_THREADS': '1', **environment},
    )


def finish(program, seconds=120):
    """(exit status, standard output, standard error) of a program once it has ended."""
    try:
        out, err = program.communicate(timeout=seconds)
    finally:
        if program.poll() is None:
            os.killpg(program.pid, 9)
    return program.returncode, out, err
