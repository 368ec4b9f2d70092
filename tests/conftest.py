import os
import random
from pathlib import Path
from tempfile import TemporaryDirectory

import hypothesis
import mxnet as mx
import numpy as np
import pytest

# The first call of an operator is slow, so examples have no deadline; the same ones run every time.
hypothesis.settings.register_profile('tests', deadline=None, derandomize=True, database=None, max_examples=25)
hypothesis.settings.load_profile('tests')


# The slow tier runs where -m names it (make test-slow), or one of these is set.
ASK_FOR_SLOW = ('GLUON_AFF_SLOW', 'GLUON_AFF_ALL_NETWORKS')


def pytest_collection_modifyitems(config, items):
    if 'slow' in config.option.markexpr or any(map(os.environ.get, ASK_FOR_SLOW)):
        return
    slow = [item for item in items if item.get_closest_marker('slow')]
    config.hook.pytest_deselected(items=slow)
    items[:] = [item for item in items if item not in slow]


@pytest.fixture(autouse=True)
def seeded():
    random.seed(0)
    np.random.seed(0)
    mx.random.seed(0)


@pytest.fixture
def tmp_path():
    # Pytest would keep the parameter files, gigabytes, of the last three runs.
    with TemporaryDirectory() as folder:
        yield Path(folder)
