"""`evaluate protocol=open_set` and `protocol=mixed`: beside the table, what is asked for."""

import json
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import SMALL_WORLD, compose, type_in
from omegaconf import OmegaConf

from mpanet_pl import MPANetModule
from mpanet_pl.data import SYSU
from mpanet_pl.data.augment import normalise
from mpanet_pl.data.layout import Counts
from mpanet_pl.evaluate import evaluate, main
from mpanet_pl.evaluation import SYSUProtocol
from mpanet_pl.evaluation import evaluate as evaluate_all
from mpanet_pl.evaluation.calibration import OF_THE_TEST, Calibration, calibrate
from mpanet_pl.evaluation.mixed import evaluate_mixed, probe
from mpanet_pl.evaluation.open_set import evaluate_open_set
from mpanet_pl.evaluation.thresholds import Threshold
from mpanet_pl.features import read_features
from mpanet_pl.run.datasets import build_data
from mpanet_pl.train import train


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rows = [(f"cam{c}/{i:04d}/{k}.jpg", i, c) for i in range(12) for c in range(1, 7) for k in range(2)]
    paths, people, cameras = zip(*rows, strict=True)
    draw = np.random.default_rng(0)
    embeddings = draw.normal(size=(12, 8))[list(people)] + draw.normal(size=(len(rows), 8))
    place = tmp_path / "theirs.npz"
    np.savez(place, embeddings=embeddings, paths=paths, identities=people, cameras=cameras)
    return place


def run(place: Path, monkeypatch: pytest.MonkeyPatch, *typed: str) -> dict:
    words = [f"features={place}", "dataset=sysu", "run_dir=out", *typed]
    assert type_in("evaluate", evaluate, words, monkeypatch) == 0
    return json.loads(Path("out/results.json").read_text())


def test_open_set_writes_its_thresholds(theirs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = run(theirs, monkeypatch, "measure=open_set", "protocol.trials=2")
    embeddings, catalogue = read_features(theirs, infrared_cameras=(3, 6))
    expected = evaluate_open_set(embeddings, catalogue, SYSUProtocol(trials=2))
    threshold = calibrate(Calibration(embeddings, catalogue, OF_THE_TEST))
    assert threshold is not None
    assert Threshold.of(results["threshold"], "results") == threshold
    assert results["threshold"]["promises"] == threshold.promises() != []
    assert set(results["open_set"]) == set(expected)
    for setting, score in expected.items():
        assert results["open_set"][setting]["real"]["0.1"] == pytest.approx(score.real[0.1])
    table = Path("out/results.md").read_text()
    assert "| all/single |" in table
    assert "DIR at FAR 1 %" in table
    assert "thresholds calibrated on 3 people neither enrolled nor tested (too few for a promise: 1 % needs 99" in table
    assert "a–b the 95 % interval over other people" in table
    for picture in ("roc.png", "det.png"):
        assert Path(f"out/{picture}").stat().st_size > 5000


def test_published_rows_stand_beside_the_published_images_alone(theirs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CIL's benchmark drew one gallery of SYSU-MM01's 96 people; these are twelve others."""
    run(theirs, monkeypatch, "protocol.trials=1", "pictures=false")
    table = Path("out/results.md").read_text()
    assert "CIL" not in table
    assert "no published number stands beside: the test split has 12 identities, 96 visible and 48 infrared" in table
    with monkeypatch.context() as patch:
        patch.setattr(SYSU, "published", {"test": [Counts(12, 96, 48)]})
        Path("out").rename("before")
        run(theirs, patch, "protocol.trials=1", "pictures=false")
    assert "CIL (NeurIPS 2021)" in Path("out/results.md").read_text()


def test_mixed_galleries_are_told(theirs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = run(theirs, monkeypatch, "measure=mixed", "protocol.trials=2")
    expected = evaluate_mixed(*read_features(theirs, infrared_cameras=(3, 6)), SYSUProtocol(trials=2))
    assert results["mixed"]["overtaken"] == pytest.approx(expected.overtaken)
    assert results["mixed"]["probe"] == pytest.approx(expected.probe)
    found = results["mixed"]["retrieval"]["all/single"]["r1"]["mean"]
    assert found == pytest.approx(expected.retrieval["all/single"].r1)
    assert "a linear probe tells the modality" in Path("out/results.md").read_text()
    assert Path("out/similarity_by_modality.png").stat().st_size > 5000


@pytest.mark.parametrize("name", ["open_set", "mixed"])
def test_they_may_be_called_protocols(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("mpanet_pl.evaluate.run_command", lambda command, function, typed: asked.extend(typed))
    main([f"protocol={name}", "dataset=sysu"])
    assert asked == [f"measure={name}", "dataset=sysu"]


MINE = """
from mpanet_pl.run.measures import MeasureResult


class Lengths:
    def __init__(self, *, digits):
        self.digits = digits

    def __call__(self, material, folder):
        mean = round(float(material.embeddings.norm(dim=1).mean()), self.digits)
        (folder / "lengths.txt").write_text(str(mean))
        return MeasureResult([(["length"], [[str(mean)]])], ["lengths are means"])


class Backwards:
    name = "backwards"

    def __call__(self, queries, gallery):
        return -queries @ gallery.T

    def __str__(self):
        return "the least similar first"
"""


def test_a_measure_and_a_reranking_of_ones_own(theirs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("my_measures.py").write_text(MINE)
    monkeypatch.syspath_prepend(Path.cwd())
    typed = ["measure={_target_: my_measures.Lengths, digits: 3}", "rerank={_target_: my_measures.Backwards}"]
    results = run(theirs, monkeypatch, *typed)
    embeddings, catalogue = read_features(theirs, infrared_cameras=(3, 6))
    assert Path("out/lengths.txt").read_text() == str(round(float(embeddings.norm(dim=1).mean()), 3))
    table = Path("out/results.md").read_text()
    assert "| length |" in table
    assert "lengths are means" in table
    assert "the least similar first" in results["measured"]["all/single + backwards"]
    backwards = import_module("my_measures").Backwards()
    expected = evaluate_all(embeddings, catalogue, SYSUProtocol(), rerank=backwards)["all/single + backwards"]
    (scores,) = results["scores"].values()
    assert scores["all/single + backwards"]["mAP"]["mean"] == pytest.approx(expected.mAP)


def test_what_cannot_be_measured_says_what_can(
    theirs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = [f"features={theirs}", "dataset=sysu", "measure=nothing", "run_dir=out"]
    assert type_in("evaluate", evaluate, typed, monkeypatch) == 2
    assert "measure is one of open_set, mixed, or {_target_: my_lab.Mine}; got 'nothing'" in capsys.readouterr().err


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One epoch, validated on held-out training people."""
    folder = tmp_path_factory.mktemp("held_out")
    people = [f"data.dataset.{key}" for key in ("identities=48", "test_share=0.25", "images_per_camera=1")]
    one_epoch = ["trainer.max_epochs=1", "trainer.check_val_every_n_epoch=1", "validation.on=held_out"]
    train(compose("train", [*SMALL_WORLD, *people, *one_epoch, f"data_dir={folder}/world", f"run_dir={folder}/run"]))
    return folder / "run"


def measured(trained: Path, monkeypatch: pytest.MonkeyPatch, *typed: str) -> dict:
    arguments = [
        f"ckpt={trained}/checkpoints/last.ckpt",
        "trainer.accelerator=cpu",
        "trainer.precision=32-true",
        *typed,
    ]
    assert type_in("evaluate", evaluate, [*arguments, f"run_dir={typed[0]}"], monkeypatch) == 0
    return json.loads(Path(f"{typed[0]}/results.json").read_text())


@pytest.mark.slow
def test_a_run_leaves_the_threshold_of_the_people_it_held_out(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In its results, in its checkpoints, and again where the checkpoint is measured."""
    monkeypatch.chdir(tmp_path)
    stored = json.loads((trained / "results.json").read_text())["threshold"]
    threshold = Threshold.of(stored, "results")
    assert threshold is not None
    assert threshold.calibrated_on == "held-out training people"
    assert {setting.people for setting in threshold.settings} == {9}  # a quarter of 36: enough for 10 %
    for name in ("last", "best"):
        content = torch.load(trained / f"checkpoints/{name}.ckpt", weights_only=True)
        assert Threshold.of(content["threshold"], name) == threshold
        assert {"optimizer_states", "loops", "state_dict", "callbacks"} <= content.keys()
    results = measured(trained, monkeypatch, "measure=open_set")
    again = Threshold.of(results["threshold"], "results")
    assert again is not None
    for told, was in zip(again.promises(), threshold.promises(), strict=True):
        assert told["value"] == pytest.approx(was["value"], abs=1e-4)
        assert (told["enrolled"], told["rate"]) == (was["enrolled"], was["rate"])
    assert "calibrated on 9 held-out training people" in results["open_set"]["all/single"]["measured"]


@pytest.mark.slow
def test_the_modality_gap_is_told_before_the_neck(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mixed = measured(trained, monkeypatch, "measure=mixed")["mixed"]
    data = build_data(OmegaConf.load(trained / "config.yaml").data)
    data.setup("test")
    module = MPANetModule.load_from_checkpoint(trained / "checkpoints/last.ckpt").eval()
    with torch.no_grad():
        found = module.embed(normalise(data.images(data.test)[torch.arange(len(data.test))]), data.test.infrared)
    for key, vectors in (("probe", found.embedding), ("probe_before_neck", found.descriptor)):
        assert mixed[key] == pytest.approx(probe(torch.nn.functional.normalize(vectors), data.test))
    assert "| before the neck | " in Path("measure=mixed/results.md").read_text()
