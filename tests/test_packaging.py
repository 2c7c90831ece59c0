"""What the wheel holds; test_examples runs commands from it, with the checkout out of reach."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

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
