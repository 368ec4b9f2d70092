"""The session in docs/quickstart.md, typed into a fresh folder."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

from PIL import Image

TOP = Path(__file__).resolve().parent.parent


def blocks():
    """The commands of the page, the installation excepted."""
    text = (TOP / 'docs' / 'quickstart.md').read_text(encoding='utf-8')
    commands = re.findall(r'(?ms)^```sh\n(.*?)^```$', text)
    assert commands[0].startswith('pip install ')
    return commands[1:]


def test_the_quick_start_runs_as_it_is_written(tmp_path):
    programs, folder = tmp_path / 'bin', tmp_path / 'session'
    programs.mkdir()
    folder.mkdir()
    for name, arguments in (('python', ''), ('gluon-aff', '-m model_zoo')):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
        (programs / name).chmod(0o755)
    environment = {**os.environ, 'PATH': f'{programs}:{os.environ["PATH"]}', 'PYTHONPATH': str(TOP)}
    outputs, started = [], time.monotonic()
    for block in blocks():
        done = subprocess.run(
            ['bash', '-e', '-c', block], cwd=folder, env=environment, capture_output=True, text=True, timeout=280
        )
        assert done.returncode == 0, (block, done.stdout, done.stderr)
        outputs.append(done.stdout)
    assert time.monotonic() - started < 300
    predicted, tuned, evaluated, exported = outputs
    assert re.search(r'trousers.png +\d+\.\d+%  Trouser\n', predicted)
    assert (
        '--val-fraction 0.2' in tuned and 'To predict: gluon-aff predict runs/photos photos/' in tuned.splitlines()[-1]
    )
    accuracy = float(re.search(r'top-1 +([\d.]+)%', evaluated)[1])
    assert accuracy > 70 and 'evaluation/confusion.png' in evaluated
    assert accuracy == 100 or Image.open(folder / 'evaluation' / 'mistakes.png').size[0] > 100
    assert re.search(r'others/temple/00.png +\d+\.\d+%  (temple|flower)\n', exported)
    assert (folder / 'runs' / 'photos' / 'run.yaml').exists()
