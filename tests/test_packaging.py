"""The wheel, installed elsewhere, with the checkout out of reach."""

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from commands import SMALL_WORLD, scores_of

import mpanet_pl

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    line = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(line, check=True, capture_output=True, timeout=300)
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_code_configuration_and_types(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    configs = {f"mpanet_pl/conf/{path.relative_to(ROOT / 'conf')}" for path in (ROOT / "conf").rglob("*.yaml")}
    assert names >= configs | {"mpanet_pl/py.typed", "mpanet_pl/world/sysu_counts.csv"}
    scripts = zipfile.ZipFile(wheel).read(f"mpanet_pl-{mpanet_pl.__version__}.dist-info/entry_points.txt").decode()
    assert "mpanet = mpanet_pl.__main__:main" in scripts
    assert not [name for name in names if name.startswith(("tests", "conf", "scripts"))]


@pytest.mark.slow
def test_commands_run_from_a_wheel_elsewhere(wheel: Path, tmp_path: Path) -> None:
    """Trained, in a sweep too, and evaluated; an editable install of the checkout is pushed out of sight."""
    target, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target)]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True, timeout=300)
    world = [*SMALL_WORLD, "data_dir=world", "trainer.max_epochs=1"]
    for name, arguments in {
        "train": ["-m", *world, "seed=1,2", "hydra.sweep.dir=sweep"],
        "evaluate": ["ckpt=sweep/0/checkpoints/last.ckpt", "trainer=cpu", "run_dir=evaluated"],
    }.items():
        environment = {**os.environ, "PYTHONPATH": str(target), "OMP_NUM_THREADS": "1"}
        line = [sys.executable, "-m", f"mpanet_pl.{name}", *arguments]
        done = subprocess.run(line, cwd=elsewhere, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
    assert scores_of(elsewhere / "evaluated")["last"] == scores_of(elsewhere / "sweep/0")["last"]
    where = [sys.executable, "-c", "import mpanet_pl; print(mpanet_pl.__file__)"]
    found = subprocess.run(where, cwd=elsewhere, env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.startswith(str(target))


def test_the_version_stands_in_one_place() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "version" in project["dynamic"]
    assert f"## {mpanet_pl.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_every_dependency_is_bounded() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for requirement in [*project["dependencies"], *(one for extra in extras.values() for one in extra)]:
        assert ">=" in requirement, requirement
        assert "<" in requirement, requirement
