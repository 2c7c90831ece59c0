"""What datasets say of themselves, written out as facts; and a dataset of one's own from its base class."""

from pathlib import Path
from typing import ClassVar

import pytest
import torch
from trees import draw_image

from mpanet_pl.data import (
    LLCM,
    SYSU,
    Catalogue,
    DatasetOnDisk,
    Faults,
    Folder,
    RegDB,
    ReIDDataModule,
    Splits,
    relabelled,
)
from mpanet_pl.data.layout import Counts
from mpanet_pl.errors import UserError
from mpanet_pl.evaluation import protocol_of


class Corridor(DatasetOnDisk):
    """Everybody in one folder: visible from the front, infrared from behind."""

    name = "Corridor"
    protocol = "mpanet_pl.evaluation.FolderProtocol"
    published: ClassVar = {"train": [Counts(9, 9, 9), Counts(4, 8, 8)]}

    def list_splits(self, faults: Faults) -> Splits:
        paths = sorted(path.name for path in self.root.iterdir())
        rows = [(name, int(name[:2]), 1 + ("back" in name), "back" in name) for name in paths]
        train, test = [row for row in rows if row[1] < 20], [row for row in rows if row[1] >= 20]
        return Splits(relabelled(train), Catalogue.from_rows(test))


@pytest.fixture
def corridor(tmp_path: Path) -> Corridor:
    for person in (11, 13, 15, 17, 21, 22):
        for side in ("front", "back"):
            for shot in range(2):
                draw_image(tmp_path / f"{person}_{side}_{shot}.png", person, side == "back", seed=shot)
    return Corridor(tmp_path)


@pytest.mark.parametrize(
    ("dataset", "facts"),
    [
        (SYSU, ("sysu", "SYSUProtocol", None, ())),
        (RegDB, ("regdb", "RegDBProtocol", range(1, 11), ("trial",))),
        (LLCM, ("llcm", "LLCMProtocol", None, ())),
        (Folder, ("folder", "FolderProtocol", None, ("test_share", "seed"))),
    ],
)
def test_what_the_datasets_say(dataset: type[DatasetOnDisk], facts: tuple) -> None:
    config, protocol, trials, chosen_by = facts
    assert (dataset.config, dataset.trials, dataset.chosen_by) == (config, trials, chosen_by)
    assert dataset.protocol == f"mpanet_pl.evaluation.{protocol}"
    assert type(protocol_of(dataset("nowhere"))).__name__ == protocol


def test_a_dataset_of_ones_own_is_one_class(corridor: Corridor) -> None:
    data = ReIDDataModule(corridor, height=24, width=12, identities_per_batch=2, images_per_identity=4)
    data.prepare_data()
    data.setup()
    assert (data.num_identities, len(data.test)) == (4, 8)
    assert sorted(next(iter(data.train_dataloader())).identities.bincount().tolist())[-2:] == [4, 4]
    assert protocol_of(corridor).searches(data.test)


def test_its_faults_are_told_without_a_command_for_them(corridor: Corridor) -> None:
    for path in corridor.root.glob("*_back_*"):
        path.unlink()
    with pytest.raises(UserError) as told:
        corridor.read()
    assert str(told.value) == (
        f"Corridor in {corridor.root} cannot be used:\n- splits without images of a modality (2): "
        "no infrared training image, no infrared test image"
    )


def test_counts_of_any_edition_are_fine(corridor: Corridor) -> None:
    splits = corridor.read()
    assert list(corridor.warnings(splits)) == []
    corridor.published = {"train": [Counts(9, 9, 9), Counts(1, 2, 3)], "test": [Counts(2, 4, 4)]}
    (warning,) = corridor.warnings(splits)
    assert warning == (
        "the train split has 4 identities, 8 visible and 8 infrared images; published are 9 identities, 9 visible and "
        "9 infrared images, or 1 identities, 2 visible and 3 infrared images."
    )


def test_sysu_holds_its_own_validation_people_out(sysu: Path) -> None:
    splits = SYSU(sysu).read()
    train, val = splits.hold_out()
    assert {path.split("/")[1] for path in val.paths} == {"0005"}  # val_id.txt
    assert {path.split("/")[1] for path in train.paths} == {"0001", "0002", "0004"}
    assert train.identities.unique().tolist() == [0, 1, 2]
    assert val.identities.unique().tolist() == [5]  # its own number, by which the official galleries are drawn
    assert sorted(train.paths + val.paths) == sorted(splits.train.paths)


@pytest.mark.parametrize("name", ["regdb", "llcm", "folder"])
def test_elsewhere_a_quarter_is_held_out(name: str, request: pytest.FixtureRequest) -> None:
    dataset = {"regdb": RegDB, "llcm": LLCM, "folder": Folder}[name](request.getfixturevalue(name))
    splits = dataset.read()
    train, val = splits.hold_out()
    assert val.num_identities == max(1, round(splits.train.num_identities / 4))
    assert train.identities.unique().tolist() == list(range(train.num_identities))
    assert sorted(train.paths + val.paths) == sorted(splits.train.paths)
    assert dataset.read().hold_out()[1].paths == val.paths


def test_who_is_held_out_is_a_matter_of_names() -> None:
    def split_of(people: list[str]) -> Splits:
        rows = [(f"{side}/{who}/1.jpg", n, 1, side == "nir") for n, who in enumerate(people) for side in ("vis", "nir")]
        return Splits(Catalogue.from_rows(rows), Catalogue.from_rows([]))

    people = [f"person {number}" for number in range(40)]
    _, val = split_of(people).hold_out()
    _, other = split_of(people[::-1]).hold_out()
    assert set(val.paths) == set(other.paths)
    assert len(val) == 20
    with pytest.raises(UserError, match="1 training identities are too few to hold some out"):
        split_of(["anna"]).hold_out()
    train = split_of(["anna", "bert"]).train
    with pytest.raises(UserError, match="too few"):
        Splits(train, train, held_out=torch.tensor([False, False])).hold_out()
