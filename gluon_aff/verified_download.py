"""Downloads a file once, whole and verified: resumed after interruptions, by one process at a time.

On requests, portalocker and tqdm, which MXNet and GluonCV install; pooch would verify and retry, but cannot resume.
"""

from __future__ import annotations

import hashlib
import os
import time
from typing import Callable, Sequence

import portalocker
import requests
from tqdm import tqdm

__all__ = ['DownloadError', 'digest', 'fetch']

ATTEMPTS = 6  # in a row that gain no byte
TIMEOUT = (5, 30)  # seconds to connect, and between two pieces
PIECE = 1 << 14  # bytes; an interruption loses less than one piece
LIMIT = 1 << 30  # bytes of a file whose size is not known; the largest dataset has 170 MB


class DownloadError(OSError):
    """The file could not be downloaded; the message says why, and how to put it in place by hand."""


class _RefusedError(Exception):
    """An address does not serve the file; asking again is useless."""


class _InterruptedError(Exception):
    """The connection or the server failed; the next attempt may go further.

    `attempts` is how many of these in a row end the download where nothing has been gained; None for ATTEMPTS.
    """

    def __init__(self, reason, attempts=None):
        super().__init__(reason)
        self.attempts = attempts


def digest(path: str, kind: str = 'git_blob') -> str:
    """The hexadecimal digest of a file, read in pieces.

    Parameters
    ----------
    path : str
    kind : {'git_blob', 'sha256', 'sha1', 'md5'}, default 'git_blob'
        git's object id (the SHA-1 of 'blob ', the size, a zero byte and the content), or a digest of the content.
    """
    if kind == 'git_blob':
        running = hashlib.sha1(b'blob %d\0' % os.path.getsize(path))
    else:
        running = hashlib.new(kind)
    with open(path, 'rb') as file:
        for piece in iter(lambda: file.read(1 << 20), b''):
            running.update(piece)
    return running.hexdigest()


def fetch(
    urls: Sequence[str],
    path: str,
    kind: str,
    expected: str,
    *,
    also: Sequence[tuple[str, str]] = (),
    check: Callable[[str], bool] | None = None,
    lock_timeout: float = 3600,
    limit: int | None = None,
) -> None:
    """Download a file unless it is there already, with the right digest.

    It is written to ``<path>.part``, resumed from there where the server allows it, verified, and then renamed. A file
    at `path` with another digest is renamed to ``<path>.corrupt``. Other processes that fetch the same file wait.
    Proxies are taken from the environment.

    Parameters
    ----------
    urls : list of str
        Tried in turn.
    path : str
        Its folder is made.
    kind, expected : str
        The digest it must have, see :func:`digest`, or the first digits of it; '' for a file of no known digest, whose
        download begins anew after an interruption.
    also : sequence of (kind, expected), default ()
        Digests of other files that are accepted in its place, such as a mirror's own.
    check : callable, optional
        Tells of a path whether the file there is right in other respects, such as its size.
    lock_timeout : float, default 3600
        Seconds to wait for another process.
    limit : int, optional
        The largest size expected, in bytes, by default 1 GiB; an address that sends more is given up.

    Raises
    ------
    DownloadError
        If no address gives the file with this digest, or it cannot be written.
    """

    def right(file):
        return (
            os.path.isfile(file)
            and any(not value or digest(file, k).startswith(value) for k, value in ((kind, expected), *also))
            and (check is None or check(file))
        )

    if right(path):  # the folder may then be read-only
        return
    try:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        with portalocker.Lock(path + '.lock', timeout=lock_timeout, check_interval=0.1):
            if right(path):
                return
            if os.path.exists(path):
                os.replace(path, path + '.corrupt')
            if not expected and os.path.exists(path + '.part'):
                os.remove(path + '.part')  # nothing would tell that its rest is another file's
            if not right(path + '.part'):
                _download(urls, path, kind, expected, right, limit or LIMIT)
            os.replace(path + '.part', path)
    except portalocker.exceptions.LockException:
        raise DownloadError(
            f'{path}.lock could not be locked: if another process has held it for {lock_timeout:g} s, end that one; '
            'if its file system has no locks, give another folder.'
        ) from None
    except DownloadError:
        raise
    except OSError as error:
        raise DownloadError(
            f'{path} cannot be written ({error.strerror or error}); make room for it, or give another folder.'
        ) from None


def _download(urls, path, kind, expected, right, limit):
    """Leave the right file as `path`.part."""
    part, reasons = path + '.part', []
    for url in urls:
        # Twice, since what an earlier attempt left may be the beginning of another file.
        for resumed in (True, False) if os.path.exists(part) else (False,):
            try:
                _download_from(url, part, limit)
            except (_RefusedError, _InterruptedError) as reason:
                reasons.append(f'{url}: {reason}')
                break
            if right(part):
                return
            actual = digest(part, kind)
            problem = f'with {kind} {actual}'
            if actual.startswith(expected):
                problem = f'of {_size(part)} bytes that is damaged or another'
            os.remove(part)
            if not resumed:
                reasons.append(f'{url} gave a file {problem}')
    raise DownloadError(
        f'{os.path.basename(path)} could not be downloaded ({"; ".join(reasons)}). To use it '
        f'nevertheless, get the file{_of_digest(kind, expected)} and save it as {path}.'
    )


def _of_digest(kind, expected):
    if not expected:
        return ''
    return f' with {kind} {expected}' + ('...' if len(expected) < 32 else '')


def _download_from(url, part, limit):
    """Fill `part` from one address, continuing after interruptions as long as attempts gain something."""
    begun = most = _size(part)
    failed = 0
    while True:
        try:
            return _attempt(url, part, limit)
        except _InterruptedError as interrupted:
            failed = 1 if _size(part) > most else failed + 1
            most = max(most, _size(part))
            if failed >= (interrupted.attempts if interrupted.attempts and most == begun else ATTEMPTS):
                raise
        time.sleep(min(2**failed / 4, 8))


def _size(path):
    return os.path.getsize(path) if os.path.exists(path) else 0


def _attempt(url, part, limit):
    start = _size(part)
    if start >= limit:  # of another file
        os.remove(part)
        start = 0
    headers = {'Accept-Encoding': 'identity', **({'Range': f'bytes={start}-'} if start else {})}
    response = None
    try:
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            status, sent = response.status_code, response.headers.get('Content-Range', '')
            if start and (status == 416 or status == 206 and not sent.startswith(f'bytes {start}-')):
                os.remove(part)  # as long as the file or longer, or the server cannot resume there
                raise _InterruptedError('the server sent another part than was asked for')
            if status >= 500 or status in (408, 429):
                raise _InterruptedError(f'status {status}')
            if status not in (200, 206):
                raise _RefusedError(f'status {status}')
            if status == 200:
                start = 0
            length = response.headers.get('Content-Length')
            total = start + int(length) if length else None
            if total is not None and total > limit:
                raise _RefusedError(f'it has {total} bytes, more than the {limit} that are expected')
            with open(part, 'r+b' if start else 'wb') as file, tqdm(
                total=total,
                initial=start,
                unit='B',
                unit_scale=True,
                leave=False,
                disable=None,
                desc=os.path.basename(part)[: -len('.part')],
            ) as bar:
                file.seek(start)
                for piece in response.iter_content(PIECE):
                    if file.tell() + len(piece) > limit:
                        file.truncate(0)
                        raise _RefusedError(f'it sends more than the {limit} bytes that are expected')
                    file.write(piece)
                    bar.update(len(piece))
                if total is not None and file.tell() < total:
                    raise _InterruptedError(f'ended after {file.tell()} of {total} bytes')
    except (ValueError, requests.exceptions.TooManyRedirects) as error:  # no address, or no HTTP answer
        raise _RefusedError(str(error)) from None
    except requests.exceptions.RequestException as error:
        # A machine without a network fails soon. While it waited to connect, the system asked three times.
        attempts = 1 if isinstance(error, requests.exceptions.ConnectTimeout) else 2
        raise _InterruptedError(
            f'the connection failed ({type(error).__name__})', None if response is not None else attempts
        ) from None
