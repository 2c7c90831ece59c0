import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from filelock import FileLock

from mpanet_pl.errors import UserError
from mpanet_pl.system import files
from mpanet_pl.system.files import alone_in, in_turn, written_aside


def test_a_folder_has_one_holder_who_lets_go(tmp_path: Path) -> None:
    with alone_in(tmp_path), pytest.raises(UserError, match=f"Another process is at work in {tmp_path}"):
        alone_in(tmp_path).__enter__()
    with alone_in(tmp_path):
        pass


def test_who_waits_is_told_and_comes_next(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    order = []

    def second() -> None:
        with in_turn(tmp_path / "lock", "The first is at work."):
            order.append(2)

    with in_turn(tmp_path / "lock", "unsaid"):
        thread = threading.Thread(target=second)
        thread.start()
        while not caplog.messages:
            time.sleep(0.01)
        order.append(1)
    thread.join()
    assert order == [1, 2]
    assert caplog.messages == ["The first is at work."]


def test_a_holder_that_dies_lets_go(tmp_path: Path) -> None:
    script = (
        "import os; from pathlib import Path; from mpanet_pl.system.files import alone_in\n"
        f"holder = alone_in(Path({str(tmp_path)!r})); holder.__enter__(); os._exit(9)"
    )
    source = str(Path(files.__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": source})
    assert done.returncode == 9
    with alone_in(tmp_path):
        pass


def test_where_nothing_can_be_locked_it_goes_on(tmp_path: Path) -> None:
    with in_turn(tmp_path / "missing/lock", "unsaid"):
        pass


@pytest.mark.parametrize("fault", [OSError("no locks"), NotImplementedError("FileSystem does not support flock")])
def test_a_file_system_without_locks_keeps_nobody_waiting(
    fault: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: FileLock, **keywords: object) -> None:
        raise fault

    monkeypatch.setattr(FileLock, "acquire", refuse)
    done = []
    with in_turn(tmp_path / "lock", "unsaid"):
        done.append("the work")
    assert done


def test_what_fails_leaves_the_old_file(tmp_path: Path) -> None:
    def write(content: str, failing: bool = False) -> None:
        with written_aside(tmp_path / "a") as aside:
            aside.write_text(content)
            if failing:
                raise ZeroDivisionError

    write("old")
    with pytest.raises(ZeroDivisionError):
        write("half", failing=True)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "old")]
    write("new")
    assert (tmp_path / "a").read_text() == "new"


def test_folders_are_made_and_a_fault_names_the_file_that_was_meant(tmp_path: Path) -> None:
    place = tmp_path / "a/b/file"
    with written_aside(place) as aside:
        aside.write_text("whole")
    assert place.read_text() == "whole"
    with pytest.raises(OSError, match="full") as fault, written_aside(place) as aside:
        raise OSError(28, "full", str(aside))
    assert fault.value.filename == str(place)
    assert [path.name for path in place.parent.iterdir()] == ["file"]


@pytest.mark.slow
def test_windows_imports_what_loads_and_evaluates() -> None:
    """No module that only Unix has, and no call of `os` that Windows lacks, where a module is imported."""
    script = (
        "import sys, os; sys.modules.update(fcntl=None); [delattr(os, n) for n in ('pwrite', 'fork')]\n"
        "import mpanet_pl.data, mpanet_pl.evaluation, mpanet_pl.module, mpanet_pl.system.files as files\n"
        "from pathlib import Path\n"
        f"with files.alone_in(Path({os.curdir!r})): pass"
    )
    source = str(Path(files.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": source}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
