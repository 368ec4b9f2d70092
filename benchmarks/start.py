"""What gluon_aff_compat.pth costs at each start of Python, where MXNet is not imported: with it and without, in turns.

python -m benchmarks.start
"""

import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

RUNS = 40


def start(folder):
    began = time.perf_counter()
    subprocess.run([sys.executable, '-S', '-c', f'import site; site.addsitedir({str(folder)!r})'], check=True)
    return 1000 * (time.perf_counter() - began)


def main():
    installed = Path(sysconfig.get_path('purelib'))
    with tempfile.TemporaryDirectory() as top:
        without, with_it = Path(top, 'without'), Path(top, 'with')
        for folder in (without, with_it):
            folder.mkdir()
            for path in installed.glob('__editable__*gluon_aff*'):
                shutil.copy(path, folder)
        shutil.copy(installed / 'gluon_aff_compat.pth', with_it)
        # Where gluon_aff is found in an installation that is not editable.
        if (installed / 'gluon_aff').is_dir():
            for folder in (without, with_it):
                (folder / 'gluon_aff').symlink_to(installed / 'gluon_aff')
        times = [(start(without), start(with_it)) for _ in range(RUNS)]
    medians = [statistics.median(column) for column in zip(*times)]
    print(
        f'medians of {RUNS} starts: {medians[0]:.1f} ms without, {medians[1]:.1f} ms with; '
        f'{statistics.median(b - a for a, b in times):.1f} ms more'
    )


if __name__ == '__main__':
    main()
