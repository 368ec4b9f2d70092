"""An HTTP server on this machine that does what a test tells it to."""

import contextlib
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

STEP = 1000


def status(code):
    """An answer without content."""

    def answer(request):
        request.send_response(code)
        request.send_header('Content-Length', '0')
        request.end_headers()

    return answer


def redirect(url):
    def answer(request):
        request.send_response(302)
        request.send_header('Location', url)
        request.send_header('Content-Length', '0')
        request.end_headers()

    return answer


def content(data, ranges=True, until=None, content_range='bytes {}-{}/{}', length=None, between=None):
    """An answer with data, from where it is asked for if there are `ranges`; the line drops at byte `until`."""

    def answer(request):
        asked = re.fullmatch(r'bytes=(\d+)-', request.headers.get('Range', ''))
        start = int(asked.group(1)) if asked and ranges else 0
        if start and start >= len(data):
            return status(416)(request)
        request.send_response(206 if start else 200)
        if start:
            request.send_header('Content-Range', content_range.format(start, len(data) - 1, len(data)))
        request.send_header('Content-Length', length or len(data) - start)
        request.end_headers()
        end = len(data) if until is None else until
        for position in range(start, end, STEP):
            request.wfile.write(data[position : min(position + STEP, end)])
            if between:
                between()

    return answer


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.paths.append(self.path)
        self.server.starts.append(int(re.sub(r'\D', '', self.headers.get('Range', '0'))))
        answers = self.server.answers
        # The last answer is given again and again. Who asks may end before all is sent.
        with contextlib.suppress(ConnectionError):
            (answers.pop(0) if len(answers) > 1 else answers[0])(self)

    def log_message(self, *args):
        pass


class Server(ThreadingHTTPServer):
    """Gives one answer after the other; `paths` and `starts` (the first byte wanted) say what it was asked for."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, *answers):
        super().__init__(('127.0.0.1', 0), _Handler)
        self.answers, self.paths, self.starts = list(answers), [], []
        self.address = f'http://127.0.0.1:{self.server_port}'
        self.url = self.address + '/net.params'

    def __enter__(self):
        threading.Thread(target=self.serve_forever, kwargs={'poll_interval': 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()
