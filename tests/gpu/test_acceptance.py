"""`scripts/gpu_acceptance.py` in its short form: what needs no GPU, in tiny sizes."""

import json
import os
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

SCRIPT = Path(__file__).parents[2] / "scripts" / "gpu_acceptance.py"
STEPS = ["step: float32", "step: bf16", "parts of a bf16 step", "schedules, bf16", "embedding"]
WITH_PACKAGES = ["real batches", "exact search", "first command", "tests marked gpu"]


def accept(out: Path, *words: str, options: tuple[str, ...] = (), path: str | None = None) -> dict:
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | ({} if path is None else {"PYTHONPATH": path})
    command = [sys.executable, *options, str(SCRIPT), "--short", "--out", str(out), *words]
    done = subprocess.run(command, env=environment, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    table = (out / "acceptance.md").read_text()
    said = json.loads((out / "acceptance.json").read_text())
    assert all(f"| {name} |" in table for name in said["rows"])
    return said


@pytest.mark.slow
def test_every_row_is_measured(tmp_path: Path) -> None:
    rows = accept(tmp_path)["rows"]
    assert {name: row["error"] for name, row in rows.items()} == dict.fromkeys(rows)
    assert {*STEPS, *WITH_PACKAGES} < set(rows)
    assert rows["step: float32"]["values"]["images/s"] > 0
    assert rows["tests marked gpu"]["values"]["passed"] == 1


def only(packages: list[str], folder: Path) -> str:
    """A folder that holds these installed packages and what they ask for, and nothing else."""
    folder.mkdir()
    wanted, known = [*packages], set()
    while wanted:
        if (name := wanted.pop()) in known:
            continue
        known.add(name)
        installed = distribution(name)
        needs = [Requirement(text) for text in installed.requires or []]
        wanted += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
        for top in {file.parts[0] for file in installed.files or [] if file.parts[0] not in ("..", "__pycache__")}:
            if not (folder / top).exists():
                (folder / top).symlink_to(Path(str(installed.locate_file(top))))
    return str(folder)


@pytest.mark.slow
def test_torch_and_torchvision_are_enough(tmp_path: Path) -> None:
    """Every row says what it would need, or is measured: the steps are."""
    path = only(["torch", "torchvision"], tmp_path / "packages")
    said = accept(tmp_path / "out", options=("-S",), path=path)
    assert "pytorch_lightning" in said["missing"]
    for name in STEPS:
        assert said["rows"][name]["error"] is None, name
    for name in WITH_PACKAGES:
        assert said["rows"][name]["error"].startswith("ModuleNotFoundError: needs "), name


@pytest.mark.slow
def test_what_there_was_no_time_for_says_so(tmp_path: Path) -> None:
    rows = accept(tmp_path, "--rows", "machine", "memory", "--seconds", "0")["rows"]
    assert [row["error"] for row in rows.values()] == ["TimeoutError: the time was used up"] * 2
