"""Stopping in good order: on a signal, or when another worker is lost."""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
import time
from typing import Any, Callable

__all__ = ['Stopped', 'StopSignals', 'Watchdog']


class Stopped(Exception):  # noqa: N818 - not an error
    """A run was stopped by a signal and has saved a checkpoint.

    Attributes
    ----------
    number : int
        Of the signal.
    """

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.number = number


class StopSignals:
    """While entered, the first SIGTERM or Ctrl-C only sets `number`; a second one ends the program as usual."""

    def __init__(self) -> None:
        self.number = 0
        self._before = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():  # others may not set handlers
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number, _):
        self.number = number
        self.__exit__()
        print('\nStopping at the end of this step; once more to stop at once.', file=sys.stderr, flush=True)


class Watchdog:
    """While entered, ends this process if there is no heartbeat for too long: a lost worker leaves the others waiting.

    They wait inside MXNet, where no Python code of the same thread runs, not even a signal's handler. So a thread
    watches, and a signal shortens the timeout.

    Parameters
    ----------
    timeout : float
        Seconds without a :meth:`heartbeat`.
    message : callable
        Returns what to print at the end.
    after_signal : float, default 20
        The timeout after a signal, in seconds.
    """

    def __init__(self, timeout: float, message: Callable[[], str], after_signal: float = 20.0):
        self.timeout, self.message, self.after_signal = timeout, message, after_signal
        self._ended = False

    def heartbeat(self) -> None:
        """Start the timeout anew, as the run makes progress."""
        self._until = time.monotonic() + self.timeout

    def __enter__(self) -> Watchdog:
        self.heartbeat()
        self._woken, self._wakes = socket.socketpair()
        self._wakes.setblocking(False)
        self._before = None
        if threading.current_thread() is threading.main_thread():
            self._before = signal.set_wakeup_fd(self._wakes.fileno(), warn_on_full_buffer=False)
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self._before is not None:
            signal.set_wakeup_fd(self._before)
        self._ended = True
        self._wakes.send(b'0')
        self._watcher.join()
        self._woken.close()
        self._wakes.close()

    def _watch(self):
        signalled = False
        while not self._ended:
            if select.select([self._woken], [], [], 0.5)[0] and self._woken.recv(64) and not signalled:
                signalled = True
                self._until = min(self._until, time.monotonic() + self.after_signal)
                self.timeout = min(self.timeout, self.after_signal)
            if time.monotonic() > self._until:
                print(self.message(), file=sys.stderr, flush=True)
                os._exit(1)
