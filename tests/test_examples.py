"""Each example, its own commands in a copy of its folder, against the installed wheel and nothing of the checkout."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mpanet_pl.losses.functional import distances

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted(path.parent for path in (ROOT / "examples").glob("*/README.md"))
SMALLER = {  # the last words to what takes its time
    "own_loss": ["model.network.trunk=resnet18_thin", "model.network.pretrained=false"],
    "tutorial": ["model.network.trunk=resnet18_thin", "model.network.pretrained=false", "protocol.trials=2"],
    "another_method": ["model.network.trunk=resnet18_thin", "model.network.pretrained=false"],
}
LEAVES = dict.fromkeys(("tutorial", "another_method"), "comparison/comparison.json")
WORLD = "data.dataset.identities=8 data.dataset.images_per_camera=2 data.dataset.height=48 data.dataset.width=24 "
WORLD += "data.height=48 data.width=24 data.identities_per_batch=2 data.images_per_identity=4 trainer.max_epochs=1 "
WORLD += "trainer.log_every_n_steps=1"

COMMANDS = """
import json, runpy, sys
from importlib import import_module
import mpanet_pl
print(mpanet_pl.__file__, flush=True)
for first, *words in json.loads(sys.stdin.read()):
    print(first, *words, file=sys.stderr, flush=True)
    if first == "-m":
        import_module(words[0]).main(words[1:])
    else:
        sys.argv = [first, *words]
        runpy.run_path(first, run_name="__main__")
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, installed by itself."""
    folder, target = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("site")
    line = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(line, check=True, capture_output=True, timeout=300)
    line = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target)]
    subprocess.run([*line, str(next(folder.glob("*.whl")))], check=True, capture_output=True, timeout=300)
    return target


def commands(example: Path) -> list[list[str]]:
    (block,) = re.findall(r"```sh\n(.*?)```", (example / "README.md").read_text(), re.DOTALL)
    return [shlex.split(line) for line in block.splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_it_runs_from_outside(example: Path, site: Path, tmp_path: Path) -> None:
    """Its lines one after the other, in one process that lies outside."""
    elsewhere = tmp_path / example.name
    shutil.copytree(example, elsewhere, ignore=shutil.ignore_patterns("__pycache__"))
    environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1", "XDG_STATE_HOME": str(tmp_path)}
    lines = [words for _, *words in commands(example)]
    for words in lines:
        if "mpanet_pl.train" in words and example.name in SMALLER:
            words += [*WORLD.split(), *SMALLER[example.name]]
        if words[:2] in (["-m", "mpanet_pl.train"], ["-m", "mpanet_pl.evaluate"]) and "resume=run" not in words:
            words += ["trainer.accelerator=cpu", "pictures=false"]
        if "experiment=idea" in words:
            words += ["seed=1,2"]
    line, asked = [sys.executable, "-c", COMMANDS], json.dumps(lines)
    done = subprocess.run(
        line, cwd=elsewhere, env=environment, input=asked, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(site)), "an editable install of the checkout is pushed out of sight"
    assert (elsewhere / LEAVES.get(example.name, "tested/results.json")).exists()
    if example.name == "tutorial":
        told = (elsewhere / "comparison/comparison.md").read_text()
        assert "weight0.5" in told
        assert re.search(r"all/single .*\(-?[\d.]+ to [+-][\d.]+\)", told), "the difference has its interval"
    if example.name == "another_method":
        assert "train/hetero_center" in (elsewhere / "run/metrics.csv").read_text()
        assert "_target_: stripes.Stripes" in (elsewhere / "run/config.yaml").read_text()
        assert "oc.select" not in (elsewhere / "tested/config.yaml").read_text()
    if example.name == "own_loss":
        assert "train/hetero_center" in (elsewhere / "run/metrics.csv").read_text()


@pytest.mark.slow
def test_an_installed_package_brings_its_own_methods(tmp_path: Path) -> None:
    """A wheel's search path plugin says where its methods are; their folder is nowhere on the command line."""
    project, target = tmp_path / "another_method", tmp_path / "site"
    shutil.copytree(ROOT / "examples/another_method", project, ignore=shutil.ignore_patterns("__pycache__"))
    line = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*line, "--target", str(target), str(project)], check=True, capture_output=True, timeout=300)
    shutil.rmtree(project)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(target)))}
    line = [sys.executable, "-m", "mpanet_pl.train", "method=stripes", "data.height=96", "--cfg", "job"]
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert "_target_: stripes.Stripes" in done.stdout, done.stderr


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_it_is_short(example: Path) -> None:
    code = [path.read_text().splitlines() for kind in ("py", "yaml") for path in example.rglob(f"*.{kind}")]
    assert sum(map(len, code)) <= 80


def test_the_hetero_centre_triplet_is_that_of_its_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from mpanet_pl.network import Embedding

    monkeypatch.syspath_prepend(str(ROOT / "examples/own_loss"))
    from hetero_center import HeteroCenterTriplet  # type: ignore[import-not-found]

    torch.manual_seed(0)
    f, identities = torch.randn(12, 4), torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 3])
    infrared = torch.tensor([True, False] * 4 + [True, False, False, True])
    centres = {
        (who, light): f[(identities == who) & (infrared == light)].mean(0)
        for who in range(4)
        for light in (True, False)
        if ((identities == who) & (infrared == light)).any()
    }
    expected = []
    for (who, light), centre in centres.items():
        if (who, not light) in centres:
            others = torch.stack([other for (person, _), other in centres.items() if person != who])
            near = distances(torch.cat([centre[None], others]))[0, 1:].min()
            expected.append((0.3 + (centre - centres[who, not light]).norm() - near).clamp(min=0))
    loss = HeteroCenterTriplet()(Embedding(f[:, :0, None, None], f, f), identities, infrared)
    torch.testing.assert_close(loss, torch.stack(expected).mean())


def test_the_hetero_centre_loss_is_that_of_its_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.syspath_prepend(str(ROOT / "examples/another_method"))
    from stripes import hetero_center  # type: ignore[import-not-found]

    torch.manual_seed(0)
    f, identities = torch.randn(7, 4), [0, 0, 0, 1, 1, 1, 2]
    infrared = [True, False, False, True, True, False, True]
    expected = []
    for one in identities:
        of = [[f[o] for o in range(7) if identities[o] == one and infrared[o] == light] for light in (True, False)]
        expected.append(
            (torch.stack(of[0]).mean(0) - torch.stack(of[1]).mean(0)).square().sum() if of[1] else f.sum() * 0
        )
    loss = hetero_center(f, torch.tensor(identities), torch.tensor(infrared))
    torch.testing.assert_close(loss, torch.stack(expected).mean())


def test_the_tutorials_idea_is_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from torch.nn.functional import normalize

    from mpanet_pl.network import Embedding

    monkeypatch.syspath_prepend(str(ROOT / "examples/tutorial"))
    from my_idea import Meet  # type: ignore[import-not-found]

    torch.manual_seed(0)
    f, identities = torch.randn(7, 4), [0, 0, 0, 1, 1, 1, 2]
    infrared = [True, False, False, True, True, False, True]
    rows = normalize(f)
    expected = []
    for one in range(7):
        there = [o for o in range(7) if identities[o] == identities[one] and infrared[o] != infrared[one]]
        if there:
            expected.append((rows[one] - rows[there].mean(0)).square().sum())
    loss = Meet()(Embedding(f[:, :0, None, None], f, f), torch.tensor(identities), torch.tensor(infrared))
    torch.testing.assert_close(loss, torch.stack(expected).mean())
