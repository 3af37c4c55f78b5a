"""One command at a time on a folder."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from aether.errors import InputError
from aether.locks import UNLOCKED, locked

filelock = pytest.importorskip("filelock")

HOLD = """
import sys, time
from pathlib import Path
from aether.locks import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "work")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_another_process_is_named(holder, tmp_path):
    with pytest.raises(InputError, match=f"process {holder.pid} on .*; wait until it ends") as error:
        with locked(tmp_path / "work"):
            pass
    assert error.value.field == "out" and str(tmp_path / "work") in str(error.value)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_a_lock_ends_with_its_process_however_that_ends(holder, tmp_path, end):
    holder.send_signal(end)
    holder.wait()
    assert bool(list(tmp_path.iterdir())) == (end == signal.SIGKILL), "Ctrl-C leaves no file"
    with locked(tmp_path / "work") as note:
        assert note is None
        with pytest.raises(InputError, match=f"process {os.getpid()} "), locked(tmp_path / "work"):
            pass
    assert not list(tmp_path.iterdir())


def test_an_error_frees_the_folder_and_leaves_nothing(tmp_path):
    for _ in range(2):
        with pytest.raises(KeyError), locked(tmp_path / "deep" / "er" / "work"):
            raise KeyError
        assert not list(tmp_path.iterdir())


def test_what_was_made_within_stays(tmp_path):
    with locked(tmp_path / "deep" / "work"):
        (tmp_path / "deep" / "result").mkdir()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["result"]


def test_a_file_system_without_locks_is_reported(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.ENOTSUP, "not supported")

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    with locked(tmp_path / "work") as note:
        assert note == UNLOCKED

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(filelock.FileLock, "acquire", full)
    with pytest.raises(OSError, match="no space"), locked(tmp_path / "work"):
        pass
