"""Downloads a file once, whole and verified: resumed where the line drops, locked among processes.

On requests (which MXNet and GluonCV bring, as they do portalocker and tqdm); pooch would verify and retry, but cannot
resume.
"""
from __future__ import annotations

import hashlib
import os
import time

import portalocker
import requests
from tqdm import tqdm

__all__ = ['DownloadError', 'digest', 'fetch']

ATTEMPTS = 6
TIMEOUT = (10, 30)      # seconds to connect, and between two pieces
PIECE = 1 << 16


class DownloadError(OSError):
    """The file could not be had; says which, why, and how to put it in place by hand."""


class _RefusedError(Exception):
    """This address will not give the file, however often it is asked."""


class _InterruptedError(Exception):
    """The line dropped, or the server is not well; the next attempt may go further."""


def digest(path, kind='git_blob'):
    """The digest of a file, read in pieces.

    Parameters
    ----------
    path : str
    kind : {'git_blob', 'sha256'}, default 'git_blob'
        git's object id, the SHA-1 of 'blob ', the size, a zero byte and the content; or SHA-256.

    Returns
    -------
    str
        Hexadecimal.
    """
    if kind == 'git_blob':
        sha = hashlib.sha1(b'blob %d\0' % os.path.getsize(path))
    else:
        sha = hashlib.sha256()
    with open(path, 'rb') as file:
        for piece in iter(lambda: file.read(1 << 20), b''):
            sha.update(piece)
    return sha.hexdigest()


def fetch(urls, path, kind, wanted, lock_timeout=3600):
    """Download a file unless it is there already, and right.

    It is written beside its place as ``<path>.part``, resumed from there where the server allows it, verified, and
    then renamed. A file in its place that is wrong is set aside as ``<path>.corrupt``. Processes that want the same
    file wait for the one that downloads it. Proxies are taken from the environment.

    Parameters
    ----------
    urls : list of str
        Tried in turn.
    path : str
        Where the file goes; folders are made.
    kind, wanted : str
        The digest it must have, see :func:`digest`.
    lock_timeout : float, default 3600
        Seconds to wait for another process.

    Raises
    ------
    DownloadError
        If no address gives the file with this digest, or it cannot be written.
    """
    def right(file):
        return os.path.isfile(file) and digest(file, kind) == wanted

    if right(path):     # a folder that cannot be written will do
        return
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with portalocker.Lock(path + '.lock', timeout=lock_timeout, check_interval=0.1):
            if right(path):
                return
            if os.path.exists(path):
                os.replace(path, path + '.corrupt')
            if not right(path + '.part'):
                _download(urls, path, kind, wanted)
            os.replace(path + '.part', path)
    except portalocker.exceptions.LockException:
        raise DownloadError(f'Another process has held {path}.lock for {lock_timeout:g} s; end it, or remove the lock '
                            'if there is none.') from None
    except DownloadError:
        raise
    except OSError as error:
        raise DownloadError(f'{path} cannot be written: {error.strerror or error}.') from None


def _download(urls, path, kind, wanted):
    """Leave the right file as `path`.part."""
    part, reasons = path + '.part', []
    for url in urls:
        # Twice, since what an earlier attempt left may be the beginning of another file.
        for resumed in ((True, False) if os.path.exists(part) else (False,)):
            try:
                _from(url, part)
            except (_RefusedError, _InterruptedError) as reason:
                reasons.append(f'{url}: {reason}')
                break
            found = digest(part, kind)
            if found == wanted:
                return
            os.remove(part)
            if not resumed:
                reasons.append(f'{url} gave a file with {kind} {found}')
    raise DownloadError(f'{os.path.basename(path)} could not be downloaded ({"; ".join(reasons)}). To use it '
                        f'nevertheless, get the file with {kind} {wanted} and save it as {path}.')


def _from(url, part):
    """Fill `part` from one address, going on after each interruption."""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(min(2 ** attempt / 4, 8))
        try:
            return _piece_by_piece(url, part)
        except _InterruptedError as reason:
            last = reason
    raise last


def _piece_by_piece(url, part):
    start = os.path.getsize(part) if os.path.exists(part) else 0
    headers = {'Accept-Encoding': 'identity', **({'Range': f'bytes={start}-'} if start else {})}
    try:
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            if response.status_code == 416:     # the part is as long as the file, or longer: begin anew
                os.remove(part)
                raise _InterruptedError('the server has nothing beyond the part at hand')
            if response.status_code >= 500 or response.status_code in (408, 429):
                raise _InterruptedError(f'status {response.status_code}')
            if response.status_code not in (200, 206):
                raise _RefusedError(f'status {response.status_code}')
            if response.status_code == 200:
                start = 0
            elif not response.headers.get('Content-Range', '').startswith(f'bytes {start}-'):
                raise _RefusedError('the server sent another part than was asked for')
            length = response.headers.get('Content-Length')
            total = start + int(length) if length else None
            with open(part, 'r+b' if start else 'wb') as file, \
                    tqdm(total=total, initial=start, unit='B', unit_scale=True, leave=False, disable=None,
                         desc=os.path.basename(part)[:-len('.part')]) as bar:
                file.seek(start)
                for piece in response.iter_content(PIECE):
                    file.write(piece)
                    bar.update(len(piece))
                if total is not None and file.tell() < total:
                    raise _InterruptedError(f'ended after {file.tell()} of {total} bytes')
    except (requests.exceptions.MissingSchema, requests.exceptions.InvalidSchema,
            requests.exceptions.InvalidURL) as error:
        raise _RefusedError(str(error)) from None
    except requests.exceptions.RequestException as error:
        raise _InterruptedError(type(error).__name__) from None
