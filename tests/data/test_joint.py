"""Several datasets as one: whose is whose, nobody on both sides, and how they meet in batches."""

from pathlib import Path

import numpy as np
import pytest
import torch
from trees import draw_regdb, draw_sysu

from mpanet_pl.data import LLCM, SYSU, Joint, RegDB, ReIDDataModule, open_images
from mpanet_pl.data.joint import CAMERAS, PEOPLE, own_part, whose
from mpanet_pl.data.mixing import split_evenly
from mpanet_pl.errors import UserError

SIZE = {"height": 24, "width": 12}


@pytest.fixture
def three(sysu: Path, regdb: Path, llcm: Path) -> dict:
    return {"sysu": SYSU(sysu), "regdb": RegDB(regdb, trial=2), "llcm": LLCM(llcm)}


def test_everybody_stays_who_they_are(three: dict) -> None:
    joint = Joint(members=three, train_on=["sysu", "llcm"], test_on=["regdb"])
    splits = joint.read()
    assert splits.train.identities.unique().tolist() == list(range(4 + 3))
    alone = {name: dataset.read() for name, dataset in three.items()}
    assert len(splits.train) == len(alone["sysu"].train) + len(alone["llcm"].train)
    for row, path in enumerate(splits.train.paths):
        name, _, own = path.partition("/")
        theirs = alone[name].train
        place = theirs.paths.index(own)
        assert splits.train.identities[row] == theirs.identities[place] + (0 if name == "sysu" else 4)
        assert splits.train.sources[row] == theirs.sources[place]
        assert whose(splits.train.cameras[row], CAMERAS) == (1 if name == "sysu" else 2, theirs.cameras[place])
    _, own = own_part(splits.test, "regdb", 3)
    assert own.paths == alone["regdb"].test.paths
    assert torch.equal(own.identities, alone["regdb"].test.identities)
    assert torch.equal(own.cameras, alone["regdb"].test.cameras)
    assert not len(own_part(splits.test, "sysu", 1)[0])


def test_held_out_people_are_each_datasets_own(three: dict) -> None:
    splits = Joint(members=three, train_on=["sysu", "llcm"], test_on=["regdb"]).read()
    train, val = splits.hold_out()
    theirs = {
        *SYSU(three["sysu"].root).read().hold_out()[1].sources,
        *LLCM(three["llcm"].root).read().hold_out()[1].sources,
    }
    assert set(val.sources) == theirs
    assert not set(val.sources) & set(train.sources)
    places, numbers = whose(val.identities, PEOPLE)
    assert set(numbers[places == 1].tolist()) == {5}  # SYSU-MM01's validation person


def test_a_dataset_is_cached_once_whoever_uses_it(tmp_path: Path) -> None:
    members = {"sysu": SYSU(draw_sysu(tmp_path / "sysu")), "regdb": RegDB(draw_regdb(tmp_path / "regdb"))}
    alone = ReIDDataModule(members["sysu"], **SIZE, identities_per_batch=2, images_per_identity=2)
    alone.prepare_data()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")}
    data = ReIDDataModule(
        Joint(members=members, train_on=["sysu"], test_on=["regdb"]),
        **SIZE,
        identities_per_batch=2,
        images_per_identity=2,
    )
    data.prepare_data()
    data.setup()
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")}
    assert (len(before), len(after)) == (1, 2)
    assert before.items() <= after.items()
    batch = next(iter(data.train_dataloader()))
    one = data.train.paths[int(batch.index[0])].removeprefix("sysu/")
    same = open_images(members["sysu"].root, [one], **SIZE, cache=False)[torch.tensor([0])]
    assert torch.equal(batch.images[:1], same)


def test_all_that_is_wrong_is_told_with_the_datasets_name(sysu: Path, tmp_path: Path) -> None:
    members = {"sysu": SYSU(sysu), "again": SYSU(sysu), "regdb": RegDB(tmp_path / "nowhere")}
    with pytest.raises(UserError) as told:
        Joint(members=members, train_on=["sysu"], test_on=["again", "regdb"]).read()
    assert f"datasets of one folder (1): sysu and again: {sysu}" in str(told.value)
    assert f"regdb: missing folders (1): {tmp_path / 'nowhere'}" in str(told.value)


def test_nobody_is_trained_and_tested_on(regdb: Path, tmp_path: Path) -> None:
    """Trial 2's training half meets trial 1's test half, in copies of one dataset."""
    members = {"one": RegDB(regdb, trial=1), "two": RegDB(draw_regdb(tmp_path), trial=2)}
    seen = {*RegDB(regdb, trial=2).read().train.sources} & {*RegDB(regdb, trial=1).read().test.sources}
    assert seen
    with pytest.raises(UserError, match="people in both train and test") as told:
        Joint(members=members, train_on=["two"], test_on=["one"]).read()
    assert all(person in str(told.value) for person in seen)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"test_on": []}, "test_on names at least one dataset"),
        ({"train_on": ["sysu", "market"]}, "take sysu, regdb, llcm, got market"),
        ({"mixing": "stirred"}, "mixing must be mixed or pure, got 'stirred'"),
        ({"shares": {"sysu": 1.0}}, "shares are of sysu, llcm, each one's; got sysu"),
        ({"shares": {"sysu": 0.9, "llcm": 0.2}}, "add up to 1"),
    ],
)
def test_what_cannot_be_joined_is_refused(three: dict, wrong: dict, told: str) -> None:
    with pytest.raises(UserError, match=told):
        Joint(members=three, **{"train_on": ["sysu", "llcm"], "test_on": ["regdb"], **wrong})


def batches(three: dict, p: int, **mixing: object) -> tuple[np.ndarray, np.ndarray, list[str]]:
    data = ReIDDataModule(
        Joint(members=three, train_on=["sysu", "llcm"], test_on=["regdb"], **mixing),
        **SIZE,
        identities_per_batch=p,
        images_per_identity=2,
    )
    data.setup()
    drawn = data.training_batches().global_batches(3)
    assert np.array_equal(drawn, data.training_batches().global_batches(3))
    names = np.array([path.partition("/")[0] for path in data.train.paths])
    for row in drawn:
        groups = data.train.identities.numpy()[row].reshape(p, 2)
        assert (groups == groups[:, :1]).all()
        assert len(np.unique(groups[:, 0])) == p
        assert (data.train.infrared.numpy()[row].reshape(p, 2).sum(1) == 1).all()
    return drawn, names[drawn]


def test_pure_batches_are_of_one_dataset(three: dict) -> None:
    _, names = batches(three, 2, mixing="pure")
    assert all(len(set(row)) == 1 for row in names)
    assert set(names.ravel()) == {"sysu", "llcm"}
    _, names = batches(three, 2, mixing="pure", shares={"sysu": 0.75, "llcm": 0.25})
    share = np.mean([row[0] == "sysu" for row in names])
    assert abs(share - 0.75) <= 1 / len(names)


def test_mixed_batches_hold_their_shares(three: dict) -> None:
    _, names = batches(three, 4, shares={"sysu": 0.7, "llcm": 0.3})
    assert ((names == "sysu").sum(1) == 2 * 3).all()
    assert len({tuple(row) for row in names}) > 1  # people are shuffled, so that ranks share both
    batches(three, 4)


@pytest.mark.parametrize("shares", [[0.5, 0.5], [0.9, 0.05, 0.05], [0.34, 0.33, 0.33], [0.2, 0.8]])
def test_sizes_add_up(shares: list[float]) -> None:
    for whole in range(len(shares), 40):
        sizes = split_evenly(whole, shares)
        assert (sum(sizes), min(sizes) >= 1) == (whole, True)
        if min(shares) * whole >= 1:
            assert all(abs(size - whole * share) <= 1.01 for size, share in zip(sizes, shares, strict=True))
