"""A shared network answers as its run's did, says what it is, and goes nowhere that its data's owners forbid."""

import json
import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from checkpoints import HEIGHT, WIDTH, save_checkpoint
from commands import compose, type_in
from hub import Hub

from mpanet_pl import load
from mpanet_pl.data import Catalogue
from mpanet_pl.data.normalisation import IMAGENET_MEAN, IMAGENET_STD
from mpanet_pl.errors import RunStopped, UserError
from mpanet_pl.evaluation import Results
from mpanet_pl.evaluation.calibration import Calibration, calibrate
from mpanet_pl.gallery.sharing import pack
from mpanet_pl.push import push
from mpanet_pl.run.evaluation_inputs import read_input
from mpanet_pl.system import weights
from mpanet_pl.system.hub import local, upload

IMAGES = torch.randint(256, (3, 3, HEIGHT, WIDTH), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@cache
def threshold() -> dict:
    people = torch.arange(120) // 2
    vectors = torch.randn(120, 16, generator=torch.Generator().manual_seed(1))
    catalogue = Catalogue(tuple(map(str, range(120))), people, 1 + people % 2, torch.arange(120) % 2 == 1)
    found = calibrate(Calibration(vectors, catalogue))
    assert found
    return found.plain()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return made_run(tmp_path / "run", "synthetic")


def made_run(folder: Path, dataset: str, **config: object) -> Path:
    """A checkpoint in a run's folder with results."""
    (folder / "checkpoints").mkdir(parents=True)
    ckpt = save_checkpoint(folder / "checkpoints/last.ckpt", trunk="resnet18_thin")
    content = torch.load(ckpt, weights_only=True)
    content["config"] |= {
        "dataset": dataset,
        "method": "mpanet",
        "data_dir": "/home/me/secret",
        "run_dir": "/home/me/r",
    }
    content["config"] |= config
    content["images"] = {"height": HEIGHT, "width": WIDTH, "mean": list(IMAGENET_MEAN), "std": list(IMAGENET_STD)}
    content["record"] = {"dataset": dataset, "trial": None, "seed": 3, "epochs": 46, "precision": "32-true"}
    content["record"] |= {
        "device": "CPU",
        "date": "2026-01-31",
        "versions": {"mpanet_pl": "0.3.0"},
        "loggers": {"w": 1},
    }
    torch.save(content | {"threshold": threshold(), "optimizer_states": [1]}, ckpt)
    score = {"mean": 70.58, "std": 0.31, "ci": [66.84, 74.01]}
    Results(
        {"last": {"all/single": {"r1": score}}, "best": {"all/single": {"r1": score | {"mean": 99.0}}}},
        {"all/single": "cosine similarity"},
        {},
        {"rows": {"last": {"checkpoint": "checkpoints/last.ckpt"}, "best": {"checkpoint": "checkpoints/best.ckpt"}}},
    ).write(folder)
    return ckpt


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    server = Hub()
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    monkeypatch.setenv("HF_TOKEN", "hf_made_up")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    yield server
    server.shutdown()
    server.server_close()


def test_what_is_pushed_is_loaded_by_its_address_and_answers_the_same(
    run: Path, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert type_in("push", push, [f"ckpt={run}", "repo=me/mpanet", "private=true"], monkeypatch) == 0
    assert 'load("hf://me/mpanet")' in capsys.readouterr().out
    assert "private" in json.dumps(hub.created[0])
    assert sorted(hub.files) == [f"me/mpanet/{name}" for name in ("README.md", "config.json", "model.safetensors")]
    fetched = load("hf://me/mpanet@main", device="cpu")
    assert torch.equal(fetched.embed(IMAGES), load(run, device="cpu").embed(IMAGES))
    assert (fetched.height, fetched.width) == (HEIGHT, WIDTH)
    assert fetched.record["trained_on"] == "synthetic"
    with pytest.raises(UserError, match=r"/model\.safetensors has a configuration without"):  # evaluate opens it, too
        read_input(compose("evaluate", ["ckpt=hf://me/mpanet"]))
    with pytest.raises(RunStopped, match="hf://me/other cannot be fetched: "):
        load("hf://me/other")


def test_a_repository_is_pushed_to_again(hub: Hub, tmp_path: Path) -> None:
    for text in ("first", "second"):
        (tmp_path / "README.md").write_text(text)
        assert upload(tmp_path, "me/mpanet", private=False).startswith(f"{hub.address}/me/mpanet/commit/")
        assert hub.files == {"me/mpanet/README.md": text.encode()}


def test_the_files_are_a_checkpoint_that_knows_its_threshold_and_no_secrets(run: Path, tmp_path: Path) -> None:
    weights_file, config, card = pack(run, tmp_path / "out")
    content, original = weights.read(weights_file), weights.read(run)
    assert content["threshold"] == original["threshold"]
    assert content["hyper_parameters"] == original["hyper_parameters"]
    assert all(torch.equal(content["state_dict"][name], tensor) for name, tensor in original["state_dict"].items())
    assert "optimizer_states" not in content
    told = json.loads(config.read_text())
    assert told["images"]["mean"] == [0.485, 0.456, 0.406]
    for file in (weights_file, config, card):
        assert b"/home/me" not in file.read_bytes()


def test_the_card_shows_the_rows_interval_threshold_and_terms(run: Path, tmp_path: Path) -> None:
    text = pack(run, tmp_path / "out", repo="me/mpanet")[2].read_text(encoding="utf-8")
    assert text.startswith("---\nlibrary_name: mpanet_pl\n")
    assert "| all/single | last | 70.58 ± 0.31 (66.8–74.0) |" in text
    assert "99.00" not in text
    assert 'load("hf://me/mpanet")' in text
    assert "| 30 | 5 % | 0." in text
    assert "Trained on synthetic (people that this package draws): its terms apply to these weights." in text
    for words in ("| seed | 3 |", "| epochs | 46 |", "| release | 0.3.0 |"):
        assert words in text


@pytest.mark.parametrize(
    ("dataset", "config", "named"),
    [
        ("sysu", {}, "sysu"),
        ("folder", {}, "folder"),
        ("joint", {"train_on": ["synthetic", "llcm"]}, "synthetic and llcm"),
        ("None", {}, "None"),
    ],
)
def test_weights_of_owned_images_ask_who_allowed_it(dataset: str, config: dict, named: str, tmp_path: Path) -> None:
    ckpt = made_run(tmp_path / "run", dataset, **config)
    with pytest.raises(UserError, match=f"trained on {named}, whose owners' agreement .* allowed_by="):
        pack(ckpt, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    card = pack(ckpt, tmp_path / "out", allowed_by="Prof. A, 2026-01-31")[2].read_text(encoding="utf-8")
    assert "Sharing was allowed by Prof. A, 2026-01-31." in card


def test_only_a_runs_own_checkpoint_with_results_is_shared(run: Path, tmp_path: Path) -> None:
    other = run.with_name("other.ckpt")
    other.write_bytes(run.read_bytes())
    with pytest.raises(UserError, match=r"other\.ckpt is none of the checkpoints .*: last, best"):
        pack(other, tmp_path / "out")
    (run.parents[1] / "results.json").unlink()
    with pytest.raises(UserError, match="cannot be shared without its results"):
        pack(run, tmp_path / "out")
    with pytest.raises(UserError, match="Share a checkpoint of train's"):
        pack(save_checkpoint(tmp_path / "bare.ckpt", trunk="resnet18_thin"), tmp_path / "out")


@pytest.mark.parametrize("address", ["hf://me", "hf://me/a/b/c", "hf://me/a@", "hf:///a"])
def test_an_address_is_an_owner_and_a_name(address: str) -> None:
    with pytest.raises(UserError, match="hf://OWNER/NAME"):
        local(address)


@pytest.mark.parametrize("damage", [b"", b"\x08\0\0\0\0\0\0\0{}", None])
def test_a_damaged_file_is_a_sentence(damage: bytes | None, run: Path, tmp_path: Path) -> None:
    file = pack(run, tmp_path / "out")[0]
    file.write_bytes(file.read_bytes()[:-100] if damage is None else damage)
    with pytest.raises(UserError, match=r"model\.safetensors .*(truncated|neither a checkpoint)"):
        load(file)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["repo=me"], "repo is OWNER/NAME, got me"),
        ([], "push takes repo="),
        (["repo=me/a", "out=b"], "push takes repo="),
    ],
)
def test_what_is_typed_is_checked_before_anything_is_written(
    typed: list[str], said: str, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(run.parent)
    before = sorted(run.parent.iterdir())
    assert type_in("push", push, [f"ckpt={run}", *typed], monkeypatch) == 2
    assert said in capsys.readouterr().err
    assert sorted(run.parent.iterdir()) == before
