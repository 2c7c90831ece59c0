"""The evaluate command: this package's checkpoints, released ones, saved embeddings; and what it refuses."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from commands import SMALL, SMALL_WORLD, compose, scores_of, type_in
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from trees import draw_image, draw_regdb

from mpanet_pl import MPANetModule
from mpanet_pl.data import RegDB
from mpanet_pl.data.augment import normalise
from mpanet_pl.data.corruptions import Corrupt
from mpanet_pl.data.layout import Counts
from mpanet_pl.errors import UserError
from mpanet_pl.evaluate import evaluate, main
from mpanet_pl.evaluation import Results
from mpanet_pl.official import to_official
from mpanet_pl.run import evaluating
from mpanet_pl.run.evaluation_inputs import OF_TRAINING, EvaluationInput, read_checkpoint
from mpanet_pl.run.evaluation_settings import _check_unchanged, settings_for
from mpanet_pl.run.examination import no_ground_truth
from mpanet_pl.run.finished_run import Run
from mpanet_pl.run.request import NOTHING_TYPED
from mpanet_pl.run.run_folder import reopen
from mpanet_pl.run.settings import plain
from mpanet_pl.train import train

ONE_EPOCH = ["trainer.max_epochs=1", "trainer.check_val_every_n_epoch=1", "validation.start=1"]


@pytest.fixture(scope="session")
def trained(once: Callable[..., Path]) -> Path:
    def make(folder: Path) -> None:
        asked = [f"data_dir={folder / 'world'}", f"run_dir={folder / 'run'}"]
        train(compose("train", [*SMALL_WORLD, *ONE_EPOCH, *asked]))

    return once("trained", make) / "run"


@pytest.fixture(scope="module")
def regdb_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run on a dataset as large as the published one, if these few people were all that it has."""
    folder = tmp_path_factory.mktemp("regdb_run")
    root = draw_regdb(folder / "RegDB", trials=(1, 2, 3))
    overrides = ["dataset=regdb", "trial=2", f"data_dir={root}", f"run_dir={folder / 'run'}", *SMALL, *ONE_EPOCH]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RegDB, "published", {"test": [Counts.of(RegDB(root, trial=2).read().test)]})
        train(compose("train", overrides))
        yield folder / "run"


def run(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    scores_alone = [] if "pictures=true" in arguments else ["pictures=false"]
    return type_in("evaluate", evaluate, ["trainer.accelerator=cpu", *scores_alone, *arguments], monkeypatch)


@pytest.fixture(scope="module")
def saved(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an evaluation, beside it the embeddings that it saved, in e.npz."""
    folder = tmp_path_factory.mktemp("saved")
    words = [f"ckpt={trained}/checkpoints/last.ckpt", f"save_features={folder}/e.npz", f"run_dir={folder}/one"]
    with pytest.MonkeyPatch.context() as patch:
        assert run(words, patch) == 0
    return folder


def rows(folder: Path, name: str) -> dict:
    return scores_of(folder)[name]


def test_a_checkpoint_brings_its_dataset(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run([f"ckpt={trained}/checkpoints/last.ckpt", "run_dir=again", "pictures=true"], monkeypatch) == 0
    assert rows(tmp_path / "again", "last") == rows(trained, "last")
    assert {path.name for path in (tmp_path / "again").iterdir()} >= {"results.json", "results.md", "cmc.png"}


def test_saved_embeddings_give_the_same_scores(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run([f"features={saved}/e.npz", "run_dir=two"], monkeypatch) == 0
    assert rows(tmp_path / "two", "last") == rows(saved / "one", "last")
    with np.load(saved / "e.npz", allow_pickle=False) as stored:
        assert len(stored["embeddings"]) == len(stored["paths"])


@pytest.mark.slow
def test_a_network_is_known_by_its_weights_wherever_they_lie(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = torch.load(trained / "checkpoints/last.ckpt", weights_only=True)
    other["state_dict"]["network.neck.weight"] *= 2
    for name, content in (("same", None), ("other", other)):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        if content:
            torch.save(content, "last.ckpt")
        else:
            shutil.copy(trained / "checkpoints/last.ckpt", "last.ckpt")
        assert run(["ckpt=last.ckpt", "run_dir=run"], monkeypatch) == 0
    here, same, apart = (
        Run(folder, Results.read(folder)).network("last")
        for folder in (trained, tmp_path / "same/run", tmp_path / "other/run")
    )
    assert here == same != apart


@pytest.mark.slow
def test_parts_of_a_test_are_scored_by_themselves(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint = f"ckpt={trained}/checkpoints/last.ckpt"
    arguments = [checkpoint, "slices=[camera,sibling,view]", "rank_list=10", "save_features=e.npz", "run_dir=one"]
    assert run(arguments, monkeypatch) == 0
    printed, said = capsys.readouterr()
    assert "could not be drawn" not in said
    assert "| camera: 3 → 1 | all/single | " in printed
    assert "| view: back | all/single | " in printed
    assert "| sibling: has one | all/single | " in printed
    assert "(few)" in printed
    assert "camera: 3 → 1" in Path("one/results.md").read_text()
    assert run(["features=e.npz", "slices=gallery", "run_dir=two"], monkeypatch) == 0
    assert "| gallery: " in capsys.readouterr().out
    assert run(["features=e.npz", "slices=nuance", "run_dir=three"], monkeypatch) == 2
    assert "slices are camera, gallery of these images, got nuance" in capsys.readouterr().err
    assert not Path("three").exists()


def test_embeddings_that_are_no_numbers_leave_no_folder(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with np.load(saved / "e.npz", allow_pickle=False) as stored:
        columns = dict(stored)
    columns["embeddings"][3, 2] = np.nan
    np.savez("broken.npz", **columns)
    assert run(["features=broken.npz", "run_dir=two"], monkeypatch) == 2
    assert str(columns["paths"][3]) in capsys.readouterr().err
    assert not Path("two").exists()


def test_an_unreadable_image_is_a_sentence_from_a_worker_too(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world = shutil.copytree(trained.parent / "world", tmp_path / "world")
    broken = next(world.rglob("cam3/0010/*.jpg"))
    os.truncate(broken, 200)
    arguments = [f"ckpt={trained}/checkpoints/last.ckpt", f"data_dir={world}", f"run_dir={tmp_path}/run"]
    assert run([*arguments, "data.cache=false", "data.workers=1"], monkeypatch) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"evaluate: {broken} cannot be read: ")
    assert "Traceback" not in said


@pytest.mark.slow
def test_another_number_of_drawn_people_tests_some_that_were_trained_on(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [f"ckpt={trained}/checkpoints/last.ckpt", "+data.dataset.identities=6", f"data_dir={tmp_path}/few"]
    assert run(arguments, monkeypatch) == 2
    assert "trained with data.dataset.identities=10" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("trial=x", "trial must be a whole number, got 'x'"),
        ("trained=3", "There is no key 'trained'"),
        ("last_stride=2", "last_stride is for released checkpoints"),
        ("measure={_target_: no_lab.Mine}", "measure: no_lab.Mine cannot be found"),
        ("protocol=null", "protocol=null leaves nothing to measure by"),
        ("rank_list=best", "rank_list is spread, first, worst or a person's number, got 'best'"),
        ("rank_list=900", "rank_list=900: the test has no person 900; it has "),
        ("slices=weather", "slices are camera, gallery, nuance, sibling, view of these images, got weather"),
        ("save_features=/proc/e.npz", "/proc/e.npz cannot be written"),
    ],
)
def test_a_mistake_is_a_sentence(
    typed: str,
    sentence: str,
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run([f"ckpt={trained}/checkpoints/last.ckpt", "run_dir=two", typed], monkeypatch) == 2
    assert sentence in capsys.readouterr().err
    assert not Path("two").exists()


@pytest.mark.parametrize("typed", ["slices=weather", "rank_list=900"])
def test_parts_that_a_test_does_not_have_are_refused_before_it_is_drawn(
    typed: str, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run([f"ckpt={trained}/checkpoints/last.ckpt", "data_dir=undrawn", typed], monkeypatch) == 2
    assert typed.partition("=")[2] in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_reranked_rows_stand_beside_the_plain_ones(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = f"ckpt={trained}/checkpoints/last.ckpt"
    assert run([checkpoint, "rerank=k_reciprocal", f"run_dir={tmp_path}"], monkeypatch) == 0
    settings = rows(tmp_path, "last")
    assert {"all/single", "all/single + k-reciprocal"} <= set(settings)
    assert settings["all/single"] == rows(trained, "last")["all/single"]


def test_flipping_averages_and_is_named_also_of_saved_embeddings(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint = f"ckpt={trained}/checkpoints/last.ckpt"
    assert run([checkpoint, "flip=true", "save_features=e.npz", "run_dir=one"], monkeypatch) == 0
    assert run(["features=e.npz", "run_dir=two"], monkeypatch) == 0
    cfg = OmegaConf.create(torch.load(trained / "checkpoints/last.ckpt", weights_only=True)["config"])
    data, module = instantiate(cfg.data), MPANetModule.load_from_checkpoint(trained / "checkpoints/last.ckpt").eval()
    data.setup()
    images = normalise(data.images(data.test)[torch.arange(5)])
    with torch.no_grad():
        mean = (module(images) + module(images.flip(3))) / 2
    with np.load("e.npz", allow_pickle=False) as stored:
        np.testing.assert_allclose(stored["embeddings"][:5], mean.numpy(), rtol=1e-4, atol=1e-5)
    for folder in ("one", "two"):
        assert "mirror image" in (tmp_path / folder / "results.md").read_text()
    assert f"network: {trained}" in (tmp_path / "two/results.md").read_text()
    assert json.loads((tmp_path / "two/results.json").read_text())["provenance"]["config"]["flip"] is True


@pytest.mark.slow
def test_saved_embeddings_are_of_what_they_were_made_of(
    regdb_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run([f"ckpt={regdb_run}/checkpoints/last.ckpt", "save_features=e.npz", "run_dir=one"], monkeypatch) == 0
    for typed, named in {
        "trial=3 allow_trained_people=true": "whose trial cannot change",
        "dataset=llcm": "whose dataset, data_dir",
        "flip=true": "whose flip cannot change",
        "save_features=e.txt": "the path of an .npz file",
    }.items():
        assert run(["features=e.npz", "run_dir=two", *typed.split()], monkeypatch) == 2
        assert named in capsys.readouterr().err
    assert not (tmp_path / "two").exists()


@pytest.mark.slow
def test_the_protocol_of_a_checkpoint_can_be_varied(
    regdb_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = f"ckpt={regdb_run}/checkpoints/last.ckpt"
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    line = ["evaluate", checkpoint, "trainer=cpu", f"run_dir={tmp_path}/it", "protocol.normalise=true"]
    monkeypatch.setattr(sys, "argv", [*line, "protocol.cmc=plain"])
    main()
    assert "cosine similarity; plain CMC" in (tmp_path / "it/results.md").read_text()
    monkeypatch.setattr(sys, "argv", [*line, "protocol.cms=plain"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "Did you mean 'protocol.cmc'?" in capsys.readouterr().err


@pytest.mark.slow
def test_a_folder_is_tested_on_the_people_held_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(8):
        for modality in ("visible", "infrared"):
            for image in range(4):
                draw_image(tmp_path / f"own/{modality}/person{number}/{image}.png", number, modality == "infrared")
    own = ["dataset=folder", f"data_dir={tmp_path}/own", "data.dataset.seed=5"]
    train(compose("train", [*own, *SMALL, *ONE_EPOCH, f"run_dir={tmp_path}/run"]))
    checkpoint = "ckpt=run/checkpoints/last.ckpt"
    assert run([checkpoint, *own[:2], "run_dir=same"], monkeypatch) == 0
    assert rows(tmp_path / "same", "last") == rows(tmp_path / "run", "last")
    assert run([checkpoint, *own[:2], "data.dataset.seed=6", "run_dir=other"], monkeypatch) == 2
    assert "with data.dataset.seed=6, people it was trained on" in capsys.readouterr().err
    assert (
        run([checkpoint, *own[:2], "data.dataset.seed=6", "allow_trained_people=true", "run_dir=other"], monkeypatch)
        == 0
    )


def test_an_evaluation_is_not_resumed_as_a_training_run(
    saved: Path,
) -> None:
    with pytest.raises(UserError, match="holds no training run"):
        reopen(saved / "one", NOTHING_TYPED)


@pytest.mark.slow
def test_a_released_file_is_measured_directly(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world_of, run_of = f"data_dir={trained.parent / 'world'}", f"run_dir={tmp_path}/whole"
    train(compose("train", [*SMALL_WORLD, *ONE_EPOCH, "model.network.trunk=resnet18", world_of, run_of]))
    trained = tmp_path / "whole"  # files are released of whole trunks alone
    module = MPANetModule.load_from_checkpoint(trained / "checkpoints/last.ckpt")
    torch.save(to_official(module.state_dict()), tmp_path / "released.pth")
    assert run([f"ckpt={tmp_path}/released.pth"], monkeypatch) == 2
    assert "does not say what it was trained on: add dataset=" in capsys.readouterr().err
    world = [text for text in SMALL_WORLD if text.startswith("data.")]
    exactly = [*world, "trainer.precision=32-true"]
    arguments = [f"ckpt={tmp_path}/released.pth", "dataset=synthetic", world_of, *exactly]
    assert run([*arguments, f"run_dir={tmp_path}/out"], monkeypatch) == 0
    assert rows(tmp_path / "out", "released") == rows(trained, "last")
    assert "last stride 1, which a released file does not say" in (tmp_path / "out/results.md").read_text()
    assert run([*arguments, f"run_dir={tmp_path}/wide", "last_stride=2"], monkeypatch) == 0
    assert rows(tmp_path / "wide", "released") != rows(trained, "last")


def test_a_checkpoint_of_a_bare_trainer_is_measured_on_a_dataset(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = torch.load(trained / "checkpoints/last.ckpt", weights_only=True)
    del content["config"]
    torch.save(content, tmp_path / "bare.ckpt")
    world = [text for text in SMALL_WORLD if text.startswith("data.")]
    arguments = [f"ckpt={tmp_path}/bare.ckpt", "dataset=synthetic", f"data_dir={trained.parent / 'world'}", *world]
    assert run([*arguments, f"run_dir={tmp_path}/out"], monkeypatch) == 0
    assert rows(tmp_path / "out", "bare") == rows(trained, "last")


def test_a_damaged_checkpoint_is_told(trained: Path, tmp_path: Path) -> None:
    content = torch.load(trained / "checkpoints/last.ckpt", weights_only=True)
    weights, settings = content["state_dict"], content["hyper_parameters"]
    damages = [
        {"state_dict": {key: value for key, value in weights.items() if "neck" not in key}},
        {"state_dict": weights | {"network.neck.weight": torch.ones(3)}},
        {"state_dict": weights | {"extra": torch.ones(3)}},
        {"hyper_parameters": {}},
        {"hyper_parameters": settings | {"network": 5}},
        {"hyper_parameters": settings | {"criterion": {"unknown": 1}}},
        {"hyper_parameters": settings | {"num_identities": "many"}},
        {"pytorch-lightning_version": "new"},
        {"config": {"dataset": "synthetic"}},
    ]
    for damage in damages:
        torch.save(content | damage, tmp_path / "damaged.ckpt")
        with pytest.raises(UserError, match=r"damaged\.ckpt"):
            read_checkpoint(tmp_path / "damaged.ckpt")


@pytest.mark.slow
def test_regdb_checkpoints_know_their_trial(
    regdb_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = f"ckpt={regdb_run}/checkpoints/last.ckpt"
    assert run([checkpoint, f"run_dir={tmp_path}/own"], monkeypatch) == 0
    assert json.loads((tmp_path / "own/results.json").read_text())["provenance"]["trial"] == 2
    assert run([checkpoint, "trial=3", f"run_dir={tmp_path}/other"], monkeypatch) == 2
    assert "was trained with trial=2" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()
    assert run([checkpoint, "trial=3", "allow_trained_people=true", f"run_dir={tmp_path}/other"], monkeypatch) == 0


@pytest.mark.slow
def test_no_published_number_stands_beside_a_network_trained_elsewhere(
    trained: Path, regdb_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = ["dataset=regdb", "trial=1", f"data_dir={regdb_run.parent / 'RegDB'}"]
    assert run([f"ckpt={trained}/checkpoints/last.ckpt", *elsewhere, f"run_dir={tmp_path}"], monkeypatch) == 0
    assert "published (" not in (tmp_path / "results.md").read_text()


def test_published_numbers_stand_beside(regdb_run: Path) -> None:
    table = (regdb_run / "results.md").read_text()
    assert "| published (MPANet, CVPR 2021) | 83.70 |" in table
    assert "best (selected on the test set)" not in table, "the best epoch is the last"
    assert "un-normalised" in table


def test_a_checkpoint_of_another_kind_is_refused(tmp_path: Path) -> None:
    whole = {"state_dict": {}, "hyper_parameters": {}, "pytorch-lightning_version": "2.6.6", "config": {}}
    others = [{**whole, "config": 5}, {"config": {}, "state_dict": {}}, {"epoch": 3}, {**whole, 3: "a key"}]
    released = [
        {"backbone.conv1.weight": 5},
        {"bn_neck.weight": torch.tensor(1.0), "classifier.weight": torch.ones(())},
    ]
    for content in (*others, *released):
        torch.save(content, tmp_path / "file")
        with pytest.raises(UserError):
            read_checkpoint(tmp_path / "file")


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("nothing.ckpt", None, "No such file"),
        ("notes.ckpt", b"just some text", "cannot be read"),
        ("features.npz", b"just some text", "is no file of embeddings"),
    ],
)
def test_other_files_are_refused(
    name: str,
    content: bytes | None,
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    key = "features" if name.endswith(".npz") else "ckpt"
    assert run([f"{key}={tmp_path / name}"], monkeypatch) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("key", "value", "more"),
    [
        ("dataset", {"_target_": "mpanet_pl.run.record.subprocess.run", "args": ["touch", "ran"]}, []),
        ("dataset", "${oc.create:{_target_: os.mkdir, path: ran}}", []),
        ("height", {"_target_": "os.mkdir", "path": "ran"}, ["dataset=synthetic"]),
    ],
)
def test_a_checkpoint_cannot_have_code_run(
    key: str,
    value: object,
    more: list[str],
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Neither by pickle nor by naming, openly or in disguise, what its configuration wants called."""
    content = torch.load(trained / "checkpoints/last.ckpt", weights_only=True)
    content["config"]["data"][key] = value
    torch.save(content, tmp_path / "wicked.ckpt")
    monkeypatch.chdir(tmp_path)
    assert run(["ckpt=wicked.ckpt", *more], monkeypatch) == 2
    assert "is refused: its configuration would " in capsys.readouterr().err
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("trained", "typed", "validation"),
    [
        ({"dataset": "sysu", "validation": {"on": "held_out"}}, [], "held_out"),
        ({"dataset": "sysu", "validation": {"on": "held_out"}}, ["flip=true"], "test"),
        ({"dataset": "sysu", "validation": {"on": "test"}}, [], "test"),
        ({"dataset": "llcm", "validation": {"on": "held_out"}}, [], "test"),
        (None, [], "test"),
    ],
)
def test_thresholds_are_calibrated_on_people_held_out_from_training(
    trained: dict | None, typed: list[str], validation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where this dataset's people were, and are embedded as the test images are."""
    asked = []

    class Enough(Exception):
        pass

    def build(cfg: DictConfig, validation: str) -> None:
        asked.append(validation)
        raise Enough

    monkeypatch.setattr(evaluating, "build_data", build)
    cfg = compose("evaluate", ["dataset=sysu", "measure=open_set", *typed])
    with pytest.raises(Enough):
        evaluating.measure_network(cfg, NOTHING_TYPED, Mock(root=trained), no_ground_truth)
    assert asked == [validation]


def test_what_a_checkpoint_became_while_it_trained_is_a_note(trained: Path, tmp_path: Path) -> None:
    content = torch.load(trained / "checkpoints/last.ckpt", weights_only=True)
    content["config"]["changes"] = ["after epoch 1: another precision"]
    torch.save(content, tmp_path / "changed.ckpt")
    assert read_checkpoint(tmp_path / "changed.ckpt").notes == ("after epoch 1: another precision",)
    assert read_checkpoint(trained / "checkpoints/last.ckpt").notes == ()


def test_embeddings_are_of_the_images_that_they_were_made_of() -> None:
    """How they are compared may change, and whom and what they show may not."""
    made = OmegaConf.create({**dict.fromkeys(OF_TRAINING, "made"), "flip": False, "features": "e.npz", "ckpt": None})
    _check_unchanged(OmegaConf.create({**made, "protocol": "another"}), made)
    for key in {*OF_TRAINING} - {"protocol"}:
        with pytest.raises(UserError, match=rf"^e\.npz holds embeddings, whose {key} cannot change"):
            _check_unchanged(OmegaConf.create({**made, key: "another"}), made)
    with pytest.raises(UserError, match="whose flip cannot change"):
        _check_unchanged(OmegaConf.create({**made, "flip": True}), made)


def test_a_checkpoint_brings_its_dataset_whole() -> None:
    """No key of the dataset that would be measured without it stays."""
    trained = compose("train", ["dataset=regdb", "trial=2", "data_dir=theirs", "data.workers=3"])
    given = EvaluationInput(trained, None, None)
    cfg = settings_for(compose("evaluate", ["ckpt=last.ckpt"]), NOTHING_TYPED, given)
    for key in ("dataset", "trial", "data_dir", "data", "protocol"):
        assert plain(cfg)[key] == plain(trained)[key]
    elsewhere = compose("evaluate", ["ckpt=last.ckpt", "dataset=sysu"])
    size = (elsewhere.data.height, elsewhere.data.width)
    cfg = settings_for(elsewhere, NOTHING_TYPED, given)
    assert (cfg.dataset, cfg.data.height, cfg.data.width) == ("sysu", *size), (
        "as large as another's, if nothing says so"
    )


def test_how_a_test_was_made_is_said_where_it_was_made_otherwise() -> None:
    usual = OmegaConf.create({"embedding": "embedding", "flip": False})
    assert evaluating._test_ways(usual, Mock(corrupt=None)) == []
    otherwise = OmegaConf.create({"embedding": "descriptor", "flip": True})
    descriptors, mirrored, corrupted = evaluating._test_ways(otherwise, Mock(corrupt=Corrupt("fog", severity=3)))
    assert ("descriptor" in descriptors, "mirror" in mirrored, "fog" in corrupted) == (True, True, True)
