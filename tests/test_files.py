"""Files and temporary folders: whole or absent, and what a killed process left goes with the next call there."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from gluon_aff import files
from gluon_aff.files import atomic, remove_abandoned, temporary_folder

# Loads the module by itself, as importing the package would import MXNet.
START = f"""
import importlib.util, os, sys, time
spec = importlib.util.spec_from_file_location('files', {files.__file__!r})
files = importlib.util.module_from_spec(spec)
spec.loader.exec_module(files)
"""
IN_A_FILE = (
    START
    + """
with files.atomic(sys.argv[1]) as partial, open(partial, 'w') as file:
    file.write('half')
    file.flush()
    print('writing', flush=True)
    time.sleep(60)
"""
)
IN_A_FOLDER = (
    START
    + """
with files.temporary_folder(sys.argv[1], '.export-') as folder:
    open(os.path.join(folder, 'half'), 'w').close()
    print('writing', flush=True)
    time.sleep(60)
"""
)


REPLACING = (
    START
    + """
rename = os.rename
def killed_between(old, new):
    rename(old, new)
    os.kill(os.getpid(), 9)
with files.temporary_folder(sys.argv[1], '.export-') as folder:
    os.mkdir(os.path.join(folder, 'new'))
    os.rename = killed_between
    files.replace_folder(os.path.join(folder, 'new'), os.path.join(sys.argv[1], 'out'))
"""
)


LOCKED = (
    START
    + """
with files.locked(sys.argv[1]) as mine:
    print('locked' if mine else 'busy', flush=True)
    time.sleep(60 * mine)
"""
)


def started(program, *args):
    """A process that has begun to write."""
    process = subprocess.Popen([sys.executable, '-c', program, *map(str, args)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == 'writing\n'
    return process


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


def names(folder):
    return sorted(entry.name for entry in Path(folder).iterdir())


def write(path, text):
    with atomic(str(path)) as partial:
        Path(partial).write_text(text)


def test_the_next_write_of_a_file_takes_what_a_killed_process_left_and_no_other(tmp_path):
    path = tmp_path / 'best.params'
    path.write_text('old')
    living, killed = started(IN_A_FILE, path), started(IN_A_FILE, path)
    kill(killed)
    assert path.read_text() == 'old' and len(names(tmp_path)) == 3
    write(path, 'new')
    assert path.read_text() == 'new' and len(names(tmp_path)) == 2, 'the living one keeps its own'
    kill(living)
    write(path, 'newer')
    assert path.read_text() == 'newer' and names(tmp_path) == ['best.params']


def test_the_next_temporary_folder_removes_those_of_killed_processes_and_no_other(tmp_path):
    foreign = ['.export-by-hand', '.other', 'export']
    for name in foreign:
        (tmp_path / name).mkdir()
    living, killed = started(IN_A_FOLDER, tmp_path), started(IN_A_FOLDER, tmp_path)
    kill(killed)
    with temporary_folder(str(tmp_path), '.export-') as folder:
        assert os.path.isdir(folder) and len(names(tmp_path)) == len(foreign) + 2
        remove_abandoned(str(tmp_path), '.export-')
        assert os.path.isdir(folder)
    kill(living)
    with temporary_folder(str(tmp_path), '.export-'):
        assert len(names(tmp_path)) == len(foreign) + 1
    assert names(tmp_path) == sorted(foreign)


@pytest.mark.parametrize('taken', [False, True])
def test_what_a_killed_process_was_about_to_replace_is_back_with_the_next_one(tmp_path, taken):
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / 'old').touch()
    assert subprocess.run([sys.executable, '-c', REPLACING, str(tmp_path)]).returncode == -signal.SIGKILL
    assert not (tmp_path / 'out').exists()
    if taken:
        (tmp_path / 'out').mkdir()
        (tmp_path / 'out' / 'newer').touch()
    with temporary_folder(str(tmp_path), '.export-'):
        assert names(tmp_path / 'out') == ['newer' if taken else 'old']
    assert names(tmp_path) == ['out']


def test_partial_files_that_nobody_writes_are_removed_and_nothing_else(tmp_path):
    foreign = ['.a.part', 'a.0.part', '.part', 'b.png']
    for name in foreign:
        (tmp_path / name).touch()
    (tmp_path / '.c.0.part').symlink_to(tmp_path / 'b.png')
    living, killed = started(IN_A_FILE, tmp_path / 'x.png'), started(IN_A_FILE, tmp_path / 'y.png')
    kill(killed)
    remove_abandoned(str(tmp_path))
    assert names(tmp_path) == sorted([*foreign, '.c.0.part', '.x.png.0.part'])
    kill(living)
    remove_abandoned(str(tmp_path))
    assert names(tmp_path) == sorted([*foreign, '.c.0.part'])


def test_a_failure_leaves_the_file_as_it_was_and_nothing_beside_it(tmp_path):
    path = tmp_path / 'new' / 'a.txt'
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), atomic(str(path)) as partial:
            Path(partial).write_text('half')
            raise KeyboardInterrupt
    assert names(path.parent) == []
    with pytest.raises(RuntimeError), temporary_folder(str(tmp_path), '.records-') as folder:
        Path(folder, 'half').touch()
        raise RuntimeError
    assert names(tmp_path) == ['new']


def test_a_link_in_the_way_of_a_partial_file_is_not_followed(tmp_path):
    (tmp_path / 'precious').write_text('precious')
    (tmp_path / '.a.0.part').symlink_to(tmp_path / 'precious')
    (tmp_path / '.a.1.part').mkdir()
    write(tmp_path / 'a', 'text')
    assert (tmp_path / 'precious').read_text() == 'precious' and (tmp_path / 'a').read_text() == 'text'


def test_files_of_the_longest_names_are_written_side_by_side(tmp_path):
    paths = [tmp_path / ('a' * 254 + last) for last in 'xy']
    with atomic(str(paths[0])) as one, atomic(str(paths[1])) as other:
        assert one != other
        for path in (one, other):
            Path(path).write_text(path)
    assert [path.read_text() for path in paths] == [one, other] and len(names(tmp_path)) == 2


def test_a_written_file_has_the_rights_that_the_umask_leaves(tmp_path):
    write(tmp_path / 'a', 'text')
    (tmp_path / 'plain').touch()
    assert (tmp_path / 'a').stat().st_mode == (tmp_path / 'plain').stat().st_mode


@pytest.mark.parametrize('locks', [True, False])
def test_threads_that_write_one_file_at_once_leave_one_of_theirs_whole(tmp_path, locks, monkeypatch):
    if not locks:
        monkeypatch.setattr(files, 'fcntl', None)
    path, texts = tmp_path / 'a', [str(i) * 100_000 for i in range(8)]

    def work(text):
        for _ in range(10):
            write(path, text)

    threads = [threading.Thread(target=work, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() in texts and names(tmp_path) == ['a']


EXPORT = """
import sys
from gluon_aff.deploy import export
from model_zoo.loading import load_or_initialize
export(load_or_initialize('cifar_aff_resnet8', None)[0], sys.argv[1], ['symbol'])
"""
RECORDS = """
import sys
from gluon_aff.data.record_writer import write_records
write_records(sys.argv[2], sys.argv[1], resize=0)
"""


@pytest.mark.parametrize(
    'program, pattern', [(EXPORT, '.export-*'), (RECORDS, 'packed/.records-*')], ids=['export', 'records']
)
def test_leftovers_of_a_killed_export_or_packing_are_removed_by_the_next(tmp_path, program, pattern):
    for number in range(12):
        picture = tmp_path / 'tree' / ('train', 'val')[number % 2] / 'ab'[number // 2 % 2] / f'{number}.png'
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (40, 30), (20 * number, 0, 0)).save(picture)
    command = [sys.executable, '-W', 'ignore', '-c', program, str(tmp_path / 'packed'), str(tmp_path / 'tree')]
    with subprocess.Popen(command, cwd=Path(__file__).parents[1]) as process:
        while process.poll() is None and not list(tmp_path.glob(f'{pattern}/.lock')):
            time.sleep(0.001)
        process.kill()
    assert process.returncode == -signal.SIGKILL and list(tmp_path.glob(pattern))
    subprocess.run(command, cwd=Path(__file__).parents[1], check=True)
    assert not list(tmp_path.glob(pattern)) and len(names(tmp_path / 'packed')) >= 3


def test_a_lock_has_one_holder_and_is_free_once_that_is_killed(tmp_path):
    path = str(tmp_path / 'lock')
    with subprocess.Popen([sys.executable, '-c', LOCKED, path], stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b'locked\n'
        with files.locked(path) as mine:
            assert not mine
        holder.kill()
    with files.locked(path) as mine, files.locked(path) as second:
        assert mine and not second
    assert not os.path.exists(path)
