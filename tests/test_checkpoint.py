"""A checkpoint is opened once: its module, the size of its images, what it may call."""

import warnings
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from checkpoints import HEIGHT, WIDTH, save_checkpoint

from mpanet_pl.checkpoint import LARGEST, open_checkpoint
from mpanet_pl.data import ReIDDataModule
from mpanet_pl.data.augment import normalise
from mpanet_pl.errors import UserError
from mpanet_pl.gallery.embedder import load
from mpanet_pl.module import MPANetModule
from mpanet_pl.system import weights
from mpanet_pl.world import Synthetic


def test_a_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, read, asked = save_checkpoint(tmp_path / "some.ckpt"), weights.read, []
    monkeypatch.setattr(weights, "read", lambda path: asked.append(path) or read(path))
    for opening in (open_checkpoint, load, MPANetModule.load_from_checkpoint):
        asked.clear()
        opening(path)
        assert asked == [path]


def test_the_descriptor_is_what_lies_before_the_neck(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "some.ckpt")
    module = open_checkpoint(path).module.eval()
    torch.nn.init.normal_(module.network.neck.weight)
    torch.save(torch.load(path, weights_only=True) | {"state_dict": module.state_dict()}, path)
    plain, before = (load(path, device="cpu", embedding=field) for field in ("embedding", "descriptor"))
    images = torch.randint(256, (3, 3, HEIGHT, WIDTH), dtype=torch.uint8)
    seen = module.embed(normalise(images))
    for embedder, expected in ((plain, seen.embedding), (before, seen.descriptor)):
        torch.testing.assert_close(embedder.embed(images), torch.nn.functional.normalize(expected).detach())
    assert not torch.allclose(plain.embed(images), before.embed(images))
    assert "embedding" not in plain.record
    assert before.record["embedding"] == "descriptor"
    with pytest.raises(UserError, match="embedding is one of embedding, descriptor, got neck"):
        load(path, embedding="neck")


def test_whoever_trains_the_images_size_is_kept(tmp_path: Path) -> None:
    people = Synthetic(tmp_path / "world", identities=8, images_per_camera=2, height=48, width=24, workers=1)
    data = ReIDDataModule(people, height=24, width=16, identities_per_batch=2, images_per_identity=4)
    network = {"trunk": "resnet18_thin", "pretrained": False, "patterns": 1}
    module = MPANetModule(6, network=network, criterion={}, optimizer={}, schedule={"milestones": [9]})
    quiet = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(max_epochs=1, limit_train_batches=1, limit_val_batches=0, enable_checkpointing=False, **quiet)
    with warnings.catch_warnings(action="ignore"):  # Lightning's hints
        trainer.fit(module, datamodule=data)
    trainer.save_checkpoint(tmp_path / "own.ckpt")
    assert open_checkpoint(tmp_path / "own.ckpt").size == (24, 16)
    embedder = load(tmp_path / "own.ckpt", device="cpu")
    assert (embedder.height, embedder.width) == (24, 16)


@pytest.mark.parametrize("given", [{"method": "agw"}, {"method": "agw", "last_stride": 2}])
def test_what_the_file_says_is_not_to_be_given(given: dict, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{' and '.join(given)} is for released checkpoints"):
        open_checkpoint(save_checkpoint(tmp_path / "some.ckpt"), **given)


def test_the_smallest_and_the_largest_size_are_taken(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "some.ckpt", height=1, width=LARGEST)
    assert open_checkpoint(path).size == (1, LARGEST)


@pytest.mark.parametrize("size", [0, True, "wide", 5000])
def test_a_size_that_is_none_is_told(size: object, tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "some.ckpt", height=size)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="says that its images' height is"):
        _ = open_checkpoint(path).size


@pytest.mark.parametrize(("name", "kept"), [("mean", [0.5, 0.5, 0.5]), ("std", [1.0, 1.0, 1.0])])
def test_another_normalisation_is_refused(name: str, kept: list[float], tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "some.ckpt")
    content = torch.load(path)
    content["images"] = {"height": 24, "width": 16, name: kept}
    torch.save(content, path)
    with pytest.raises(UserError, match=f"normalised by a {name} of .*; this package normalises by"):
        load(path)
