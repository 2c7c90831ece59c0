"""A data module from a configuration: the recipe's augmentation, or one of the user's own."""

from pathlib import Path
from unittest.mock import Mock, call

import pytest
from commands import compose
from omegaconf import OmegaConf

from mpanet_pl.cli.configuration import config_folder
from mpanet_pl.data import SYSU, Augmentation
from mpanet_pl.errors import UserError
from mpanet_pl.evaluation import RetrievalProtocol, Search, rows_of
from mpanet_pl.run.datasets import build_data, build_protocol, make_ready, set_trial

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
    assert data.views.augmentation == Augmentation(tone=0.8)


def test_a_run_says_where_its_images_lie(sysu: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_ready(build_data(compose("train", ["dataset=sysu", f"data_dir={sysu}", "data.cache=false"]).data), "test")
    assert capsys.readouterr().out == f"Data: {sysu}\n"


def test_images_are_made_before_they_are_read(capsys: pytest.CaptureFixture[str]) -> None:
    data = Mock()
    data.dataset.root = "drawn"
    make_ready(data, "test")
    assert [call for call in data.mock_calls if call[0]] == [call.prepare_data(), call.setup("test")]
    assert capsys.readouterr().out == "Data: drawn\n"


def test_the_first_trial_is_taken_where_none_is_named() -> None:
    cfg = compose("train", ["dataset=regdb"])
    set_trial(cfg)
    assert cfg.trial == 1


def test_galleries_are_the_official_draw_where_it_lies_in_the_datasets_folder(sysu: Path) -> None:
    protocol = build_protocol(compose("train", ["dataset=sysu", "protocol.trials=2"]).protocol, SYSU(sysu))
    assert (protocol.trials, protocol.gallery) == (2, "random.seed"), "this folder has no official draw"


def test_an_augmentation_of_ones_own_comes_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "some_lab.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    words = ["+data.augment._target_=some_lab.Mirror", "data.augment.flip=0.25", "+data.augment.strength=3"]
    data = build_data(compose("train", [f"data_dir={tmp_path}", *words]).data)
    assert type(data.views.augmentation).__name__ == "Mirror"
    assert (data.views.augmentation.flip, data.views.augmentation.strength) == (0.25, 3)
    with pytest.raises(UserError, match=r"data\.augment: some_lab\.Miror cannot be found"):
        build_data(compose("train", [f"data_dir={tmp_path}", "+data.augment._target_=some_lab.Miror"]).data)


class OneGallery(RetrievalProtocol):
    draw = "visible images are the gallery"

    def searches(self, catalogue):
        infrared, visible = rows_of(catalogue, infrared=True), rows_of(catalogue, infrared=False)
        return [Search(infrared, {"infrared_to_visible": [visible]})]


@pytest.mark.parametrize("dataset", [path.stem for path in sorted((config_folder() / "dataset").glob("*.yaml"))])
def test_the_protocol_of_the_docstring_is_built_on_every_dataset(dataset: str) -> None:
    shipped = OmegaConf.load(config_folder() / "dataset" / f"{dataset}.yaml").protocol
    shipped._target_ = f"{__name__}.OneGallery"
    assert isinstance(build_protocol(shipped, None), OneGallery)


def test_a_key_that_no_protocol_takes_is_refused() -> None:
    with pytest.raises(UserError, match=r"protocol: .*OneGallery is refused"):
        build_protocol(OmegaConf.create({"_target_": f"{__name__}.OneGallery", "shots": 3}), None)


def test_normalise_of_earlier_releases_outweighs_the_shipped_similarity() -> None:
    cfg = OmegaConf.create({"_target_": "mpanet_pl.evaluation.FolderProtocol", "similarity": "cosine"})
    assert build_protocol(cfg, None).similarity == "cosine"
    cfg.normalise = False
    assert build_protocol(cfg, None).similarity == "euclidean"
