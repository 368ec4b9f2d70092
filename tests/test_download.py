"""Downloads, from a server that does everything wrong that servers do: the file is there and right, or absent."""

import contextlib
import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import portalocker
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loopback import Server, content, redirect, status

from gluon_aff import download
from gluon_aff.verified_download import DownloadError, digest, fetch

DATA = np.random.RandomState(0).bytes(100_000)
SHA = hashlib.sha256(DATA).hexdigest()
OTHER = DATA[::-1]
# Loads the module by itself, as importing the package would import MXNet.
FETCH = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location('download', {download.__file__!r})
download = importlib.util.module_from_spec(spec)
spec.loader.exec_module(download)
download.fetch(sys.argv[1:2], *sys.argv[2:])
"""
HANG = 60


@pytest.fixture(autouse=True)
def direct(monkeypatch):
    """No proxies, no waiting between attempts, small pieces."""
    for name in ('http_proxy', 'https_proxy', 'all_proxy', 'no_proxy'):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(download, 'time', SimpleNamespace(sleep=lambda seconds: None))
    monkeypatch.setattr(download, 'PIECE', 2000)


@pytest.fixture()
def path(tmp_path):
    """Where the file goes; whatever happens, it is absent or right there in the end."""
    path = tmp_path / 'cache' / 'net.params'
    yield path
    assert not path.exists() or path.read_bytes() == DATA


def get(path, *urls):
    """Fetch it, and see that it is there and nothing but it and its lock."""
    fetch(urls, str(path), 'sha256', SHA)
    assert path.read_bytes() == DATA
    assert {file.name for file in path.parent.iterdir()} <= {path.name, path.name + '.lock', path.name + '.corrupt'}


def refused(path, *urls):
    """The one sentence with which a download fails; the file is absent."""
    with pytest.raises(DownloadError) as caught:
        fetch(urls, str(path), 'sha256', SHA)
    assert not path.exists() and '\n' not in str(caught.value)
    return str(caught.value)


def process(path, url):
    return subprocess.Popen([sys.executable, '-c', FETCH, url, str(path), 'sha256', SHA], stderr=subprocess.PIPE)


def part(path, data):
    """Put data there as an earlier download would have left it."""
    path.parent.mkdir(parents=True)
    file = Path(f'{path}.part')
    file.write_bytes(data)
    return file


# Digests


@pytest.mark.parametrize(
    'data, blob',
    [(b'', 'e69de29bb2d1d6434b8b29ae775ad8c2e48c5391'), (b'hello\n', 'ce013625030ba8dba906f756967f9e9ca394464a')],
)
def test_git_blob_digest_is_gits(tmp_path, data, blob):
    (tmp_path / 'file').write_bytes(data)
    assert digest(tmp_path / 'file') == blob


@settings(max_examples=10, deadline=None)
@given(size=st.integers(0, 3 << 20), seed=st.integers(0, 9))
def test_digests_of_any_content(size, seed):
    data = np.random.RandomState(seed).bytes(size)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, 'file')
        file.write_bytes(data)
        for kind in ('sha256', 'sha1', 'md5'):
            assert digest(file, kind) == hashlib.new(kind, data).hexdigest()
        assert digest(file, 'git_blob') == hashlib.sha1(b'blob %d\0' % size + data).hexdigest()
        try:
            output = subprocess.check_output(['git', 'hash-object', '--no-filters', str(file)])
        except OSError:
            return  # no git here
        assert digest(file) == output.decode().strip()


# The plain way


@pytest.mark.parametrize(
    'kind, expected',
    [
        ('sha256', SHA),
        ('git_blob', hashlib.sha1(b'blob 100000\0' + DATA).hexdigest()),
        ('sha1', hashlib.sha1(DATA).hexdigest()),
        ('md5', hashlib.md5(DATA).hexdigest()),
    ],
)
def test_a_file_is_fetched_once(path, kind, expected):
    with Server(content(DATA)) as server:
        for _ in range(2):
            fetch([server.url], str(path), kind, expected)
            assert path.read_bytes() == DATA
        assert server.paths == ['/net.params']


def test_the_progress_bar_names_the_file_and_counts_its_bytes(path, monkeypatch):
    bars = []

    class Bar:
        def __init__(self, desc, total, initial, **_):
            bars.append(self)
            self.facts, self.n = (desc, total, initial), initial

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def update(self, n):
            self.n += n

    monkeypatch.setattr(download, 'tqdm', Bar)
    with Server(content(DATA, until=50_000), content(DATA)) as server:
        get(path, server.url)
    assert [bar.facts for bar in bars] == [('net.params', len(DATA), 0), ('net.params', len(DATA), 50_000)]
    assert [bar.n for bar in bars] == [50_000, len(DATA)]


def test_a_path_without_a_folder_is_in_the_current_one(path, monkeypatch):
    path.parent.mkdir()
    monkeypatch.chdir(path.parent)
    with Server(content(DATA)) as server:
        get(Path('net.params'), server.url)


def test_a_redirect_is_followed(path):
    with Server(content(DATA)) as there, Server(redirect(there.url + '?signed')) as here:
        get(path, here.url)
        assert here.paths == ['/net.params'] and there.paths == ['/net.params?signed']


def test_a_slow_drip_arrives(path):
    with Server(content(DATA, between=lambda: time.sleep(0.003))) as server:
        get(path, server.url)
        assert server.starts == [0]


def test_a_server_that_does_not_say_the_length_will_do(path):
    def answer(request):
        request.send_response(200)
        request.end_headers()
        request.wfile.write(DATA)

    with Server(answer) as server:
        get(path, server.url)


def test_a_compressed_answer_is_not_asked_for(path):
    def answer(request):
        encoding = request.headers.get('Accept-Encoding')
        (content(DATA) if encoding == 'identity' else status(406))(request)

    with Server(answer) as server:
        get(path, server.url)


def test_a_right_file_needs_no_server_and_no_lock(path):
    path.parent.mkdir()
    path.write_bytes(DATA)
    fetch([], str(path), 'sha256', SHA)
    assert os.listdir(path.parent) == ['net.params']


def test_a_wrong_file_is_set_aside(path):
    path.parent.mkdir()
    path.write_bytes(DATA[:-1] + b'?')
    with Server(content(DATA)) as server:
        get(path, server.url)
    assert Path(f'{path}.corrupt').read_bytes() == DATA[:-1] + b'?'


def test_a_wrong_file_is_set_aside_although_there_is_no_other(path):
    path.parent.mkdir()
    path.write_bytes(b'')
    with Server(status(404)) as server:
        refused(path, server.url)


# Interruptions


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(0, len(DATA) - 1), min_size=1, max_size=10))
def test_a_dropped_line_is_taken_up_where_it_dropped(cuts):
    cuts = sorted(cuts)
    with tempfile.TemporaryDirectory() as folder, Server(
        *(content(DATA, until=cut) for cut in cuts), content(DATA)
    ) as server:
        # As many attempts as a server that now and then sends nothing new needs.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(download, 'ATTEMPTS', len(cuts) + 1)
            get(Path(folder, 'net.params'), server.url)
        assert len(server.starts) == len(cuts) + 1 and server.starts[0] == 0
        for start, cut in zip(server.starts[1:], cuts):
            assert cut - download.PIECE < start <= cut


def test_what_counts_are_the_attempts_in_a_row_that_gain_nothing(path):
    drops = [content(DATA, until=cut) for cut in range(5_000, len(DATA), 5_000)]
    assert len(drops) > download.ATTEMPTS
    with Server(*drops, content(DATA)) as server:
        get(path, server.url)
        assert server.starts == sorted(server.starts) and server.starts[-1] > 90_000


def test_attempts_are_spaced_out_more_and_more(path, monkeypatch):
    naps = []
    monkeypatch.setattr(download, 'time', SimpleNamespace(sleep=naps.append))
    with Server(status(503)) as server:
        assert 'status 503' in refused(path, server.url)
        assert len(server.paths) == download.ATTEMPTS
    assert len(naps) == download.ATTEMPTS - 1 and naps == sorted(set(naps)) and sum(naps) < HANG


@pytest.mark.parametrize('code', [500, 502, 503, 429, 408])
def test_a_server_that_is_not_well_is_asked_again(path, code):
    with Server(status(code), status(code), content(DATA)) as server:
        get(path, server.url)
        assert len(server.paths) == 3


def test_a_server_without_ranges_sends_all_of_it_again(path):
    with Server(content(DATA, until=60_000), content(DATA, ranges=False)) as server:
        get(path, server.url)
        assert server.starts == [0, 60_000]


def test_a_server_without_ranges_that_drops_ever_earlier_ends(path):
    drops = [content(DATA, ranges=False, until=until) for until in (50_000, 40_000, 49_000)]
    with Server(*drops) as server:
        refused(path, server.url)
        assert len(server.paths) == download.ATTEMPTS


@pytest.mark.parametrize('content_range', ['bytes 0-{1}/{2}', 'bytes 1{0}-{1}/{2}', 'nonsense', ''])
def test_a_server_that_sends_another_range_is_asked_for_all_of_it(path, content_range):
    with Server(content(DATA, until=60_000), content(OTHER, content_range=content_range), content(DATA)) as server:
        get(path, server.url)
        assert server.starts == [0, 60_000, 0]


def test_a_server_that_truncates_for_ever_is_left_and_the_part_kept(path):
    with Server(content(DATA, until=60_000)) as server:
        message = refused(path, server.url)
    assert 'net.params' in message and SHA in message
    assert Path(f'{path}.part').read_bytes() == DATA[:60_000]
    with Server(content(DATA)) as server:
        get(path, server.url)
        assert server.starts == [60_000]


def test_a_line_that_is_reset_is_taken_up(path):
    def reset(request):
        content(DATA, until=60_000)(request)
        request.wfile.flush()
        time.sleep(0.2)  # a reset discards what the other side has not read yet
        request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b'\1\0\0\0\0\0\0\0')
        request.connection.close()

    with Server(reset, content(DATA)) as server:
        get(path, server.url)
        assert server.starts[0] == 0 and 0 < server.starts[1] <= 60_000


# What earlier downloads left


def test_a_whole_part_is_taken_without_asking(path):
    part(path, DATA)
    with Server(status(500)) as server:
        get(path, server.url)
        assert server.paths == []


@pytest.mark.parametrize('left', [DATA + b'more', OTHER], ids=['longer', 'as long'])
def test_a_part_that_leaves_nothing_to_ask_for_is_begun_anew(path, left):
    part(path, left)
    with Server(content(DATA)) as server:
        get(path, server.url)
        assert server.starts == [len(left), 0]


def test_a_part_of_another_file_is_begun_anew(path):
    part(path, OTHER[:30_000])
    with Server(content(DATA)) as server:
        get(path, server.url)
        assert server.starts == [30_000, 0]


def test_killed_in_the_middle_it_goes_on_from_there(path):
    going_on = threading.Event()
    halfway = content(DATA, between=lambda: server.sent.append(1) or len(server.sent) < 50 or going_on.wait(HANG))
    with Server(halfway, content(DATA)) as server:
        server.sent = []
        child = process(path, server.url)
        left, deadline = Path(f'{path}.part'), time.monotonic() + HANG
        while (not left.exists() or not left.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        assert child.wait(HANG) == -signal.SIGKILL
        going_on.set()
        assert not path.exists()
        size = left.stat().st_size
        get(path, server.url)
        assert server.starts == [0, size] and size > 0


# Wrong content, or none


def test_a_file_with_another_digest_is_not_kept(path):
    with Server(content(OTHER)) as server:
        message = refused(path, server.url)
        assert len(server.paths) == 1
    assert SHA in message and hashlib.sha256(OTHER).hexdigest() in message and 'sha256' in message
    assert os.listdir(path.parent) == ['net.params.lock']


def test_404_is_final_and_the_next_address_is_asked(path):
    with Server(status(404)) as mirror, Server(content(DATA)) as server:
        get(path, mirror.url, server.url)
        assert len(mirror.paths) == len(server.paths) == 1


def test_a_wrong_file_on_a_mirror_is_passed_over(path):
    with Server(content(OTHER, until=len(DATA) - 1), content(OTHER)) as mirror, Server(content(DATA)) as server:
        get(path, mirror.url, server.url)
        assert server.starts == [0]


def test_what_one_address_began_the_next_one_completes(path):
    with Server(content(DATA, until=60_000)) as mirror, Server(content(DATA)) as server:
        get(path, mirror.url, server.url)
        assert server.starts == [60_000]


def test_404_everywhere_names_every_address(path):
    with Server(status(404)) as mirror, Server(status(404)) as server:
        message = refused(path, mirror.url, server.url)
        assert f'{mirror.url}: status 404' in message and f'{server.url}: status 404' in message
        assert len(mirror.paths) == len(server.paths) == 1


def test_without_a_server_the_sentence_says_what_to_put_where(path):
    with Server(status(500)) as server:
        url = server.url  # nobody listens there once it is closed
    message = refused(path, url)
    assert message.startswith('net.params could not be downloaded') and url in message
    assert f'sha256 {SHA}' in message and message.endswith(f'save it as {path}.')


@pytest.mark.parametrize('url', ['file:///etc/passwd', 'nonsense', 'http://', 'ftp://x/y', f'http://{"a" * 99}/', ''])
def test_what_is_no_web_address_is_refused(path, url):
    refused(path, url)
    with Server(content(DATA)) as server:
        get(path, url, server.url)


def test_a_redirect_to_a_local_file_is_refused(path, tmp_path):
    (tmp_path / 'secret').write_bytes(DATA)
    with Server(redirect(f'file://{tmp_path}/secret')) as server:
        refused(path, server.url)


@pytest.mark.parametrize('length', ['abc', '-5', '1, 2'])
def test_an_answer_that_is_not_http_is_refused(path, length):
    with Server(content(DATA, length=length)) as liar, Server(content(DATA)) as server:
        get(path, liar.url, server.url)


def endless(request, length=None):
    request.send_response(200)
    if length:
        request.send_header('Content-Length', length)
    request.end_headers()
    while True:
        request.wfile.write(bytes(10_000))


def test_an_endless_response_is_cut_at_the_limit_and_removed(path, monkeypatch):
    monkeypatch.setattr(download, 'LIMIT', len(DATA) + 1)
    with Server(endless) as flood, Server(content(DATA)) as server:
        message = refused(path, flood.url)
        assert f'it sends more than the {len(DATA) + 1} bytes that are expected' in message and len(flood.paths) == 1
        assert Path(f'{path}.part').stat().st_size == 0
        get(path, flood.url, server.url)


@pytest.mark.parametrize('answer', [endless, content(DATA + b'1'), lambda request: endless(request, 2**62)])
def test_a_file_larger_than_its_known_size_is_refused(path, answer):
    path.parent.mkdir()
    with Server(answer) as flood, Server(content(DATA)) as server:
        fetch([flood.url, server.url], str(path), 'sha256', SHA, limit=len(DATA))
        assert path.read_bytes() == DATA and len(flood.paths) == 1 and server.starts == [0]


def test_a_partial_download_at_the_limit_is_started_again(path):
    part(path, OTHER)
    with Server(content(DATA)) as server:
        fetch([server.url], str(path), 'sha256', SHA, limit=len(DATA))
        assert path.read_bytes() == DATA and server.starts == [0]


def test_an_endless_redirect_ends(path):
    with Server(status(404)) as server:
        server.answers = [redirect(server.url)]
        assert 'redirects' in refused(path, server.url)
        assert len(server.paths) < 50


def test_an_address_where_nobody_answers_is_asked_once_more_and_left(path, monkeypatch):
    naps = []
    monkeypatch.setattr(download, 'time', SimpleNamespace(sleep=naps.append))
    with Server(lambda request: request.connection.close()) as silent, Server(content(DATA)) as server:
        get(path, silent.url, server.url)
        assert len(silent.paths) == 2
    assert len(naps) == 1


@pytest.mark.skipif(sys.platform != 'linux', reason='others do not drop the connections that a full queue cannot take')
def test_an_address_that_swallows_connections_is_asked_once(path, monkeypatch):
    naps = []
    monkeypatch.setattr(download, 'time', SimpleNamespace(sleep=naps.append))
    monkeypatch.setattr(download, 'TIMEOUT', (0.3, 30))
    with socket.socket() as full, contextlib.ExitStack() as waiting, Server(content(DATA)) as server:
        full.bind(('127.0.0.1', 0))
        full.listen(0)
        for _ in range(3):
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        hole = f'http://127.0.0.1:{full.getsockname()[1]}/net.params'
        assert 'ConnectTimeout' in refused(path, hole)
        get(path, hole, server.url)
    assert naps == []


def test_a_server_that_was_heard_of_is_not_left_for_a_few_silent_tries(path):
    with Server(
        content(DATA, until=60_000),
        *[lambda request: request.connection.close()] * (download.ATTEMPTS - 2),
        content(DATA),
    ) as server:
        get(path, server.url)
        assert len(server.paths) == download.ATTEMPTS


@pytest.mark.parametrize('sent', [DATA, OTHER], ids=['the file', 'the other one'])
def test_another_file_that_will_do_is_taken(path, tmp_path, sent):
    target = tmp_path / 'elsewhere' / 'net.params'
    accepted = [('sha1', 'f' * 40), ('md5', hashlib.md5(OTHER).hexdigest())]
    with Server(content(sent)) as server:
        for _ in range(2):
            fetch([server.url], str(target), 'sha256', SHA, also=accepted)
            assert target.read_bytes() == sent
        assert len(server.paths) == 1
    assert sorted(os.listdir(target.parent)) == ['net.params', 'net.params.lock']


# Proxies


def test_the_proxy_of_the_environment_is_asked(path, monkeypatch):
    with Server(content(DATA)) as proxy:
        monkeypatch.setenv('http_proxy', proxy.address)
        get(path, 'http://nowhere.invalid/net.params')
        assert proxy.paths == ['http://nowhere.invalid/net.params']


# Folders and disks


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / 'file').write_bytes(b'')
    with Server(content(DATA)) as server:
        message = refused(tmp_path / 'file' / 'cache' / 'net.params', server.url)
        assert server.paths == []
    assert 'cannot be written (Not a directory)' in message


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='has no /dev/full')
@pytest.mark.parametrize('data', [DATA, DATA[:100]], ids=['many pieces', 'one piece'])
def test_a_full_disk_is_one_sentence(path, data):
    path.parent.mkdir()
    Path(f'{path}.part').symlink_to('/dev/full')
    with Server(content(data)) as server:
        assert 'cannot be written (No space left on device)' in refused(path, server.url)
        assert len(server.paths) == 1


# Several processes


def test_eight_processes_download_once(path):
    with Server(content(DATA, between=lambda: time.sleep(0.01))) as server:
        children = [process(path, server.url) for _ in range(8)]
        errors = [child.communicate(timeout=HANG)[1] for child in children]
        assert [child.returncode for child in children] == [0] * 8, errors
        assert server.starts == [0]
    assert path.read_bytes() == DATA


def test_a_lock_that_is_never_given_back_is_one_sentence(path):
    path.parent.mkdir()
    with portalocker.Lock(f'{path}.lock'), pytest.raises(DownloadError) as caught:
        fetch([], str(path), 'sha256', SHA, lock_timeout=0.1)
    assert re.search(r'net\.params\.lock could not be locked: .* 0\.1 s', str(caught.value))
