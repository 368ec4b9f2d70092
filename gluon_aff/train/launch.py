"""Starts the processes of a distributed run: MXNet's own launcher, made to run on Python 3.9+ and to end with its job.

    python -m gluon_aff.train.launch -n 2 -s 1 --launcher local python train_cifar.py --kvstore dist_sync ...
    python -m gluon_aff.train.launch -n 2 -s 2 --launcher ssh -H hosts python train_imagenet.py --kvstore dist_sync ...

The flags are those of mxnet/tools/launch.py. Where one process fails the others are told to stop, so that they save
what they can, and the launcher's exit status is 1.
"""

from __future__ import annotations

import contextlib
import os
import runpy
import shlex
import signal
import sys
import threading
import time
from pathlib import Path

from ..program import python

GRACE = 30  # seconds between the first failure and the end of the rest
_ending = []  # the thread that ends the job


def _end_of_the_job(failure):
    threading.excepthook = lambda _: None  # those that end because of this
    _ending.append(failure.thread)
    print(
        f'launch: a process of the job failed ({str(failure.exc_value).partition(" on ")[0]}); stopping the others.',
        file=sys.stderr,
        flush=True,
    )
    for process in _descendants():
        os.kill(process, signal.SIGTERM)
    until = time.monotonic() + GRACE
    while time.monotonic() < until and _descendants():
        time.sleep(0.2)
    for process in _descendants():
        os.kill(process, signal.SIGKILL)
    os._exit(1)


def _descendants():
    """The live processes that this one has started, directly or not."""
    children = {}
    for folder in Path('/proc').glob('[0-9]*'):
        with contextlib.suppress(OSError):  # it may have ended
            state, parent = folder.joinpath('stat').read_text().rpartition(')')[2].split()[:2]
            if state != 'Z':
                children.setdefault(int(parent), []).append(int(folder.name))
    processes = [os.getpid()]
    for process in processes:
        processes += children.get(process, [])
    return processes[1:]


def _own_flags(argv):
    """The launcher's flags, which stand in front of the command that it starts."""
    end = 0
    while end < len(argv) and argv[end].startswith('-'):
        end += 1 if '=' in argv[end] or argv[end] == '--p3' else 2
    return argv[:end]


def main() -> None:
    """Run MXNet's launcher with this program's arguments."""
    import mxnet

    threading.Thread.isAlive = threading.Thread.is_alive  # which it calls, and Python 3.9 removed
    threading.excepthook = _end_of_the_job
    path = os.path.join(os.path.dirname(mxnet.__file__), 'tools', 'launch.py')
    os.environ['GLUON_AFF_LAUNCHER'] = shlex.join([python(), '-m', 'gluon_aff.train.launch', *_own_flags(sys.argv[1:])])
    sys.argv[0] = path
    runpy.run_path(path, run_name='__main__')
    for thread in _ending:
        thread.join()


if __name__ == '__main__':
    main()
