"""Small vectors are learnt from images of the training split, or taken from where they were learnt before."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from gallery.made import made
from omegaconf import DictConfig
from torch import Tensor

from mpanet_pl.errors import UserError
from mpanet_pl.gallery import projection_learning
from mpanet_pl.gallery.projection import learn
from mpanet_pl.gallery.projection_learning import Teaching, projection_for, projection_of, training_embeddings

IMAGES = torch.randn(50, 20, generator=torch.Generator().manual_seed(0))
INFRARED = torch.arange(50) % 3 == 0
TAUGHT = IMAGES + 5 * INFRARED[:, None]  # as `Shifting` embeds them


class Shifting:
    """A network of two streams, of vectors instead of images."""

    def __init__(self, root: Path, **config: Any) -> None:
        config = {"data_dir": str(root), "data": {"dataset": {"root": "${data_dir}"}, "cache": True}} | config
        self.origin: Any = SimpleNamespace(config=config, path=str(root / "run/checkpoints/last.ckpt"))

    def __call__(self, images: Tensor, infrared: Tensor) -> Tensor:
        return images + 5 * infrared[:, None]


class People:
    """A data module of those vectors, which knows its training split once it was set up for it."""

    def __init__(self, cfg: DictConfig) -> None:
        assert not cfg.cache, "no cache is written beside images that are read once"
        self.dataset = SimpleNamespace(root=Path(cfg.dataset.root))

    def setup(self, stage: str) -> None:
        self.train = {"fit": SimpleNamespace(infrared=INFRARED)}[stage]

    def images(self, catalogue: Any) -> Tensor:
        assert catalogue is self.train
        return IMAGES


TEACHING: Any = Teaching(People)  # type: ignore[arg-type]


@pytest.fixture
def network(tmp_path: Path) -> Any:
    return Shifting(tmp_path)


def test_training_images_are_embedded_each_with_its_modality(network: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projection_learning, "BATCH", 4)
    assert torch.equal(training_embeddings(network, TEACHING), TAUGHT)
    some = training_embeddings(network, TEACHING, most=8)
    assert torch.equal(some, TAUGHT[[0, 7, 14, 21, 28, 35, 42, 49]]), "evenly spaced"


def test_a_size_is_learnt_and_a_path_is_read(network: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for whiten in (False, True):
        learnt = projection_of(4, network, TEACHING._replace(whiten=whiten))
        assert learnt
        assert learnt.digest == learn(TAUGHT, 4, whiten=whiten).digest
    learnt.save(tmp_path / "projection.npz")
    for place in (tmp_path, tmp_path / "projection.npz"):
        read = projection_of(str(place), network, TEACHING)
        assert read
        assert read.digest == learnt.digest
    monkeypatch.setattr(projection_learning, "IMAGES_A_DIRECTION", 2)
    few = projection_of(4, network, TEACHING)
    assert few
    assert few.digest == learn(TAUGHT[::7], 4).digest, "so many images a direction"
    assert projection_of(None, network, TEACHING) is None


def test_auto_keeps_whole_vectors_where_no_images_teach_unless_it_was_told_where_they_are(
    network: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert projection_of("auto", network, TEACHING) is None, "20 numbers are fewer than the narrowest usual width"
    assert capsys.readouterr().out.startswith("compact=auto")
    monkeypatch.setattr(projection_learning, "ENOUGH", 4)
    learnt = projection_of("auto", network, TEACHING)
    assert learnt
    assert learnt.digest == learn(TAUGHT, 4).digest
    assert capsys.readouterr().out == ""
    moved = Shifting(tmp_path / "gone")
    assert projection_of("auto", moved, TEACHING) is None  # type: ignore[arg-type]
    assert projection_of("auto", moved, TEACHING._replace(data_dir=tmp_path))  # type: ignore[arg-type]
    with pytest.raises(UserError, match="nowhere"):
        projection_of("auto", network, TEACHING._replace(data_dir="nowhere"))
    with pytest.raises(UserError, match="does not say what it was trained on"):
        projection_of(4, Shifting(tmp_path, data={}), TEACHING)  # type: ignore[arg-type]


def test_a_gallery_that_is_begun_keeps_its_vectors(network: Any, tmp_path: Path) -> None:
    untaught = Shifting(tmp_path, data={})  # who learns from it is told that it cannot teach
    small, whole = tmp_path / "small", made(tmp_path / "whole", 3).folder
    small.mkdir()
    learn(TAUGHT, 4).save(small / "projection.npz")
    for compact in (4, "auto"):
        there = projection_for(small, compact, untaught, TEACHING)  # type: ignore[arg-type]
        assert there
        assert there.dimension == 4
    assert projection_for(whole, "auto", untaught, TEACHING) is None  # type: ignore[arg-type]
    for folder, has in ((small, "vectors of 4 numbers"), (whole, "keeps all numbers")):
        with pytest.raises(UserError, match=has):
            projection_for(folder, 5, network, TEACHING)
    assert projection_for(small, None, network, TEACHING) is None
    taken, new = projection_for(whole, str(small), network, TEACHING), projection_for(tmp_path, 5, network, TEACHING)
    assert taken
    assert new
    assert (taken.dimension, new.dimension) == (4, 5)
