"""The program gluon-aff, and the first import of the training scripts: Ctrl-C ends them with one line from here on.

It stands outside the packages and imports nothing of them, as importing them imports MXNet, which takes seconds; a
KeyboardInterrupt meanwhile would be a traceback.
"""

import os
import signal
import sys

__all__ = ['end_on_interrupt', 'main']


def end_on_interrupt() -> None:
    """Let Ctrl-C end this process at once, with one line and status 130, unless it is ignored or handled already."""

    def end(number, _):
        name = os.path.basename(sys.argv[0])
        name = 'gluon-aff' if name in ('-m', '__main__.py') else name
        after_echo = '\n' if os.isatty(2) else ''  # of ^C
        os.write(2, f'{after_echo}{name}: Stopped.\n'.encode())
        os._exit(128 + number)

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, end)


def main() -> int:
    """Run ``gluon-aff``; returns its exit status."""
    end_on_interrupt()
    from model_zoo.cli import main as run

    return run()
