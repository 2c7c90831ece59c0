"""A data module from a configuration: the recipe's augmentation, or one of the user's own."""

from pathlib import Path

import pytest
from commands import compose

from mpanet_pl.data import Augmentation
from mpanet_pl.errors import UserError
from mpanet_pl.run.datasets import build_data

OWN = """
from mpanet_pl.data.augment import normalise

class Mirror:
    def __init__(self, flip=0.5, strength=1):
        self.flip, self.strength = flip, strength

    def __call__(self, images, index, infrared, *, seed, epoch, occurrence=None, view=None):
        return normalise(images).flip(3)
"""


def test_the_recipes_augmentation_is_the_default(tmp_path: Path) -> None:
    data = build_data(compose("train", ["dataset=sysu", f"data_dir={tmp_path}", "data.augment.tone=0.8"]).data)
    assert data.augmentation == Augmentation(tone=0.8)


def test_an_augmentation_of_ones_own_comes_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "some_lab.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    words = ["+data.augment._target_=some_lab.Mirror", "data.augment.flip=0.25", "+data.augment.strength=3"]
    data = build_data(compose("train", [f"data_dir={tmp_path}", *words]).data)
    assert type(data.augmentation).__name__ == "Mirror"
    assert (data.augmentation.flip, data.augmentation.strength) == (0.25, 3)
    with pytest.raises(UserError, match=r"data\.augment: some_lab\.Miror cannot be found"):
        build_data(compose("train", [f"data_dir={tmp_path}", "+data.augment._target_=some_lab.Miror"]).data)
