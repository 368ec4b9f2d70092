import ctypes
import os
import random
import signal
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import hypothesis
import mxnet as mx
import numpy as np
import pytest

# The first call of an operator is slow, so examples have no deadline. The same examples run every time.
hypothesis.settings.register_profile('tests', deadline=None, derandomize=True, database=None, max_examples=25)
hypothesis.settings.load_profile('tests')


# The slow tier runs if -m names it (make test-slow), or if one of these is set.
ASK_FOR_SLOW = ('GLUON_AFF_SLOW', 'GLUON_AFF_ALL_NETWORKS')


# Programs that the tests start inherit it where it is ignored, as in a job in the background, and could not be
# interrupted. Not by preexec_fn, which forks this process and its threads.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser):
    parser.addoption('--fast', action='store_true', help='one case of each test, none in long_tests.txt')


def pytest_collection_modifyitems(config, items):
    deselected = []
    if 'slow' not in config.option.markexpr and not any(map(os.environ.get, ASK_FOR_SLOW)):
        deselected += [item for item in items if item.get_closest_marker('slow')]
    if config.option.fast:
        long_tests = (Path(__file__).parent / 'long_tests.txt').read_text(encoding='utf-8').split()
        seen = set(long_tests)
        for item in items:
            if item in deselected:
                continue
            function = item.nodeid.partition('[')[0]
            if function in seen:
                deselected.append(item)
            seen.add(function)
    config.hook.pytest_deselected(items=deselected)
    left_out = set(deselected)
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture(autouse=True)
def seeded():
    random.seed(0)
    np.random.seed(0)
    mx.random.seed(0)


@pytest.fixture(autouse=True)
def freed_memory():
    """Two processes of tests would grow to 10 GB each, as glibc keeps what MXNet frees."""
    yield
    with suppress(OSError, AttributeError):  # on another system
        pages = int(Path('/proc/self/statm').read_text().split()[1])
        if pages * os.sysconf('SC_PAGE_SIZE') > 1.5e9:
            ctypes.CDLL(None).malloc_trim(0)


@pytest.fixture
def tmp_path():
    # Pytest keeps the files of the last three runs: gigabytes of parameters.
    with TemporaryDirectory() as folder:
        yield Path(folder)
