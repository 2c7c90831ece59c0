"""Doors open at once: what is typed is answered before torch is imported, and no fault of a terminal loses anything."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import mpanet_pl

HEAVY = ("torch", "pytorch_lightning", "torchvision", "matplotlib", "scipy")
ANSWERS = """
import os, sys
from mpanet_pl.__main__ import main
import mpanet_pl.cli.application
out, *lines = sys.argv[1:]
for number, typed in enumerate(lines):
    if os.fork() == 0:
        for stream in (1, 2):
            os.dup2(os.open(f"{out}/{number}.out", os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
        sys.argv, code = ["mpanet", *typed.split()], 0
        try:
            main()
        except SystemExit as leaving:
            code = leaving.code or 0
        sys.stdout.flush()
        heavy = ",".join(name for name in %r if name in sys.modules)
        with open(f"{out}/{number}.end", "w") as end:
            end.write(f"{code} [{heavy}] {sum(os.times()[:2])}")
        os._exit(0)
    os.wait()
""" % (HEAVY,)  # noqa: UP031


def python(code: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-c", code, *arguments]
    return subprocess.run(line, cwd=cwd, capture_output=True, text=True, timeout=60)


TYPED = {
    "": (0, "each has a --help"),
    "--help": (0, "train MPANet, test its last and its best epoch"),
    "trian": (2, "There is no command 'trian'. Did you mean 'train'?"),
    "--version": (0, mpanet_pl.__version__),
    "train --version": (0, mpanet_pl.__version__),
    "train --help": (0, "Groups (GROUP=CHOICE)"),
    "train sede=3": (2, "There is no key 'sede'. Did you mean 'seed'?"),
    "train dataset=regbd": (2, "Did you mean 'regdb'?"),
    "evaluate": (2, "Add ckpt=PATH"),
    "synthesize": (2, "Add out=…"),
    "summarize --help": (0, "a folder of runs, such as runs/"),
    "summarize": (2, "summarize: The following arguments are required: DIR. --help shows examples."),
    "train --epochs 10": (
        2,
        "There is no option --epochs: keys are typed KEY=VALUE. Did you mean 'trainer.max_epochs'?",
    ),
}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="one process starts the others")
def test_an_answer_needs_no_torch(tmp_path: Path) -> None:
    """Each in a process of its own, copied from one that has imported the doors."""
    (tmp_path / "here").mkdir()
    done = python(ANSWERS, str(tmp_path), *TYPED, cwd=tmp_path / "here")
    assert done.returncode == 0, done.stderr
    for number, (typed, (code, said)) in enumerate(TYPED.items()):
        answer, of_it = (tmp_path / f"{number}.out").read_text(), (tmp_path / f"{number}.end").read_text()
        left, heavy, seconds = of_it.split(" ", 2)
        assert said in answer, typed
        assert (int(left), heavy) == (code, "[]"), (typed, answer)
        assert float(seconds) < 5, typed  # of a core that others use, too; alone it takes half a second
    assert not list((tmp_path / "here").iterdir())


def test_the_package_is_imported_at_once_and_its_names_when_touched(tmp_path: Path) -> None:
    code = f"import sys, mpanet_pl; print([name for name in {HEAVY} if name in sys.modules], mpanet_pl.__version__)"
    done = python(code, cwd=tmp_path)
    assert done.stdout.startswith("[] ")
    assert mpanet_pl.__getattr__("MPANet").__name__ == "MPANet"
    assert sorted(dir(mpanet_pl)) == sorted(mpanet_pl.__all__)
    with pytest.raises(AttributeError, match="no attribute 'MPANett'"):
        mpanet_pl.MPANett  # noqa: B018


def test_ctrl_c_during_the_imports_is_a_word(tmp_path: Path) -> None:
    code = "import mpanet_pl.train as door, hydra; print('ready', flush=True); door.main(['-m', 'seed=range(1,1000)'])"
    running = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert running.stdout
    assert running.stdout.readline() == "ready\n"
    time.sleep(0.3)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert (running.returncode, said) == (130, "\ntrain: stopped\n")


PRINTS = """
from mpanet_pl.cli.command import door
with door("train"):
    print("a line\\n" * 10000)
    open("results.json", "w").write("whole")
"""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_device_behind_the_output_loses_no_results(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", PRINTS], cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert (tmp_path / "results.json").read_text() == "whole"
    assert (done.returncode, done.stderr) == (
        1,
        "train: not all could be printed (No space left on device); files are whole.\n",
    )


def test_a_reader_that_left_loses_no_results(tmp_path: Path) -> None:
    reads, writes = os.pipe()
    os.close(reads)
    done = subprocess.run(
        [sys.executable, "-c", PRINTS], cwd=tmp_path, stdout=writes, stderr=subprocess.PIPE, text=True
    )
    os.close(writes)
    assert (tmp_path / "results.json").read_text() == "whole"
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_files(closed: str, tmp_path: Path) -> None:
    (tmp_path / "prints.py").write_text(PRINTS)
    done = subprocess.run(f"'{sys.executable}' prints.py {closed}", cwd=tmp_path, shell=True, capture_output=True)
    assert done.returncode == 0
    assert (tmp_path / "results.json").read_text() == "whole"


@pytest.mark.skipif(sys.version_info[:3] == (3, 13, 0), reason="from such a folder, its `-c` cannot `import socket`")
def test_a_deleted_working_folder_is_named(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    code = "import os; os.rmdir(os.getcwd())\nfrom mpanet_pl.train import main\nmain([])"
    done = python(code, cwd=gone)
    assert (done.returncode, done.stderr) == (
        2,
        "train: The folder that you are in was deleted: change to another.\n",
    )
