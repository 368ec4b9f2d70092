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
