"""Tracklets: published choices of frames against slow loops, readers on trees as released, faults at once."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from trees import FRAMES, draw_image, draw_layout

from mpanet_pl.data import BUPTCampus, MPReID, ORBench, ReIDDataModule, TrackLists
from mpanet_pl.data.catalogue import Batch, Catalogue
from mpanet_pl.data.loading import pictures_of
from mpanet_pl.data.tracklets import Tracklets, linspace, strips
from mpanet_pl.errors import UserError
from mpanet_pl.evaluation.callback import a_row_a_track
from mpanet_pl.run.preparation import check
from mpanet_pl.world import Look, World

LENGTHS = torch.arange(1, 101)
READERS = {"vcm": TrackLists, "buptcampus": BUPTCampus, "orbench": ORBench, "mp_reid": MPReID}


@pytest.fixture(scope="module")
def vcm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_layout("vcm", tmp_path_factory.mktemp("vcm"))


def edited(root: Path, tmp_path: Path, **texts: str) -> TrackLists:
    """A copy of the lists alone over the same images, some of them rewritten."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for folder in ("Train", "Test"):
        (copy / folder).symlink_to(root / folder)
    for path in (root / "info").iterdir():
        (copy / path.name).write_text(texts.get(path.stem, path.read_text()))
    return TrackLists(copy)


@pytest.mark.parametrize("count", [1, 2, 6, 10])
def test_test_frames_are_the_published_ones(count: int) -> None:
    for n, of_strips, of_linspace in zip(
        LENGTHS.tolist(), strips(LENGTHS, count).tolist(), linspace(LENGTHS, count).tolist(), strict=True
    ):
        frames = [*range(n)]
        while len(frames) % count:
            frames.append(n - 1)
        assert of_strips == frames[:: len(frames) // count]
        assert of_linspace == np.linspace(0, n, count, endpoint=False, dtype=int).tolist()


@pytest.mark.parametrize("count", [1, 6, 10])
def test_training_frames_follow_the_published_rules(count: int) -> None:
    drawn = torch.rand(100, 100, generator=torch.Generator().manual_seed(1))
    for n, row in zip(LENGTHS.tolist(), strips(LENGTHS, count, drawn[:, :count]).tolist(), strict=True):
        size = -(-n // count)
        for place, frame in enumerate(row):
            strip = [min(place * size + step, n - 1) for step in range(size)]  # the padded list's own
            assert frame in strip
    for n, row in zip(LENGTHS.tolist(), linspace(LENGTHS, count, drawn).tolist(), strict=True):
        assert row == sorted(row)
        assert 0 <= row[0] <= row[-1] < n
        assert n < count or len({*row}) == count
    many = torch.full((4000,), 30)
    seen = linspace(many, 10, torch.rand(4000, 30, generator=torch.Generator().manual_seed(2)))
    assert (seen.flatten().bincount(minlength=30) / 4000 - 1 / 3).abs().max() < 0.04
    seen = strips(many, 6, torch.rand(4000, 6, generator=torch.Generator().manual_seed(3)))
    assert (seen.flatten().bincount(minlength=30) / 4000 - 1 / 5).abs().max() < 0.04


def test_frames_keep_the_order_of_their_list() -> None:
    tracks = [3, 1, 3, 1, 1]
    frames = Catalogue.from_rows([(f"{n}.jpg", track, 1, False) for n, track in enumerate(tracks)], tracks=tracks)
    tracklets = Tracklets(frames, 3)
    assert tracklets.catalogue.paths == ("1.jpg", "0.jpg")
    assert tracklets.catalogue.tracks.tolist() == [1, 3]
    assert tracklets.first(torch.tensor([1, 0])).tolist() == [[0, 2, 2], [1, 3, 4]]
    with pytest.raises(UserError, match="for datasets of tracklets"):
        Tracklets(Catalogue.from_rows([("a", 1, 1, False)]), 6)


@pytest.mark.parametrize("layout", READERS)
def test_a_tree_is_read_as_it_was_laid_out(layout: str, tmp_path: Path) -> None:
    dataset = READERS[layout](draw_layout(layout, tmp_path))
    splits = dataset.read()
    assert splits.train.identities.unique().tolist() == [0, 1, 2, 3]
    assert set(splits.train.sources) == {f"{layout}/{number}" for number in (1, 2, 3, 4)}
    assert set(splits.test.sources) == {f"{layout}/5", f"{layout}/6"}
    assert {path.partition("/")[0] for path in splits.test.paths} <= {
        *["DATA", "Test", "vis", "nir"],
        *(f"{n:02}" for n in range(15)),
    }
    if layout in ("vcm", "buptcampus"):
        _, lengths = splits.test.tracks.unique(return_counts=True)
        assert lengths.tolist() == [FRAMES] * (2 * 6)
    if layout == "vcm":
        assert torch.equal(splits.test.queries, splits.test.infrared)
        infos = (tmp_path / "info/track_test_info.txt").read_text().splitlines()
        names = (tmp_path / "info/test_name.txt").read_text().split()
        for number in splits.test.tracks.unique().tolist():
            rows = (splits.test.tracks == number).nonzero().flatten().tolist()
            modality, first, last, identity, camera = map(int, infos[number].split())
            assert [int(Path(splits.test.paths[row]).stem) for row in rows] == [
                int(name.split("F")[1][:-4]) for name in names[first - 1 : last]
            ]
            assert {int(splits.test.identities[row]) for row in rows} == {identity}
            assert {(int(splits.test.cameras[row]), bool(splits.test.infrared[row])) for row in rows} == {
                (camera, modality == 1)
            }


@pytest.mark.parametrize(
    ("images", "lists", "zeros"),
    [("Train and Test", "info", False), ("data", "root", True), ("root", "info", True), ("root", "root", False)],
)
def test_vcm_lies_in_three_layouts(vcm: Path, tmp_path: Path, images: str, lists: str, zeros: bool) -> None:
    expected = TrackLists(vcm).read()
    for path in (vcm / "info").iterdir():
        (tmp_path / "info").mkdir(exist_ok=True)
        (tmp_path / ("info" if lists == "info" else "") / path.name).write_text(path.read_text())
    bases = {"Train and Test": ("Train", "Test"), "data": ("data", "data"), "root": ("", "")}[images]
    for split, base in zip(("Train", "Test"), bases, strict=True):
        (tmp_path / base).mkdir(exist_ok=True)
        for person in (vcm / split).iterdir():
            (tmp_path / base / (person.name if zeros else person.name.lstrip("0"))).symlink_to(person)
    found = TrackLists(tmp_path).read()
    for split, base, own in zip(("train", "test"), bases, ("Train", "Test"), strict=True):
        theirs, mine = getattr(expected, split), getattr(found, split)
        moved = [path.replace(f"{own}/", f"{base}/" if base else "", 1) for path in theirs.paths]
        assert list(mine.paths) == (moved if zeros else [path.replace("000", "") for path in moved])
        assert mine.sources == theirs.sources
        for column in ("identities", "cameras", "infrared", "tracks"):
            assert torch.equal(getattr(mine, column), getattr(theirs, column))


def test_a_range_that_runs_into_the_other_modality_is_read(vcm: Path, tmp_path: Path) -> None:
    """As a line of the release may: its frame is then visible in one tracklet and infrared in the next."""
    lines = (vcm / "info/track_train_info.txt").read_text().splitlines()
    place = next(n for n, line in enumerate(lines) if line[0] == "2" and lines[n + 1][0] == "1")
    modality, first, last, identity, camera = lines[place].split()
    lines[place] = f"{modality} {first} {int(last) + 1} {identity} {camera}"
    dataset = edited(vcm, tmp_path, track_train_info="\n".join(lines))
    train = dataset.read().train
    both = [path for path in train.paths if train.paths.count(path) == 2]
    assert len(both) == 2
    assert {bool(train.infrared[row]) for row, path in enumerate(train.paths) if path == both[0]} == {True, False}
    assert len(TrackLists(dataset.root, mixed_in="drop").read().train) == len(train) - 1


def test_queries_that_are_not_the_infrared_tracklets_are_told(vcm: Path, tmp_path: Path) -> None:
    asked = (vcm / "info/query_IDX.txt").read_text().split()
    assert not any("query_IDX" in odd for odd in TrackLists(vcm).oddities(TrackLists(vcm).read()))
    dataset = edited(vcm, tmp_path, query_IDX=" ".join(["1", *asked[1:]]))
    odd = list(dataset.oddities(dataset.read()))
    assert odd[-1] == "query_IDX differs from the infrared tracklets, who search here, in 2 tracklets"


def rows_of_lists(layout: str, root: Path) -> dict[str, list[list[tuple]]]:
    """Split -> tracklets -> (path, identity, camera, infrared, query), read as the release reads them."""
    found: dict[str, list[list[tuple]]] = {"train": [], "test": []}
    if layout == "buptcampus":
        paths, cameras = json.loads((root / "data_paths.json").read_text()), ["LS3", "G25", "CQ1", "W4", "TSG1", "TSG2"]
        for name, split in (("train", "train"), ("query", "test"), ("gallery", "test")):
            for line in (root / f"{name}.txt").read_text().splitlines():
                person, modalities, camera, track = line.split()
                for modality in modalities.split("/"):
                    at, is_query = cameras.index(camera) + 1, name == "query"
                    frames = paths[person][modality][camera][track]
                    found[split].append([(f"DATA/{p}", int(person), at, modality == "IR", is_query) for p in frames])
    if layout == "orbench":
        lists = json.loads((root / "test_gallery_and_queries.json").read_text())
        for key, camera in (("RGB_GALLERY", 1), ("NIR", 2)):
            found["test"] += [[(path, person, camera, camera == 2, camera == 2)] for person, path in lists[key]]
        for one in json.loads((root / "train_annos.json").read_text()):
            folder = one["file_path"].split("/")[1]
            every = [one["file_path"], *(str(p.relative_to(root)) for p in (root / "nir" / folder).iterdir())]
            found["train"] += [[(p, one["id"], 1 + ("nir" in p), "nir" in p, False)] for p in every]
        found["train"] = [[row] for row in dict.fromkeys(rows[0] for rows in found["train"])]
    if layout == "mp_reid":
        named = {
            split: {int(n) for n in (root / f"exp_cctv_ir_cctv_rgb/{split}_id.txt").read_text().split(",")}
            for split in ("train", "val", "test")
        }
        for path in root.glob("*/*/*.jpg"):
            camera, person = int(path.parts[-3]), int(path.parts[-2])
            if camera <= 12:
                split, infrared = "test" if person in named["test"] else "train", camera > 6
                found[split].append([(str(path.relative_to(root)), person, camera, infrared, infrared)])
    return found


@pytest.mark.parametrize("layout", ["buptcampus", "orbench", "mp_reid"])
def test_readers_agree_with_their_releases_rules(layout: str, tmp_path: Path) -> None:
    splits, expected = READERS[layout](draw_layout(layout, tmp_path)).read(), rows_of_lists(layout, tmp_path)
    for split in ("train", "test"):
        catalogue = getattr(splits, split)
        who = catalogue.identities + (1 if split == "train" else 0)  # the tree's training people are 1, 2, 3, 4
        queries = catalogue.queries if split == "test" else torch.zeros(len(catalogue), dtype=torch.bool)
        columns = (who, catalogue.cameras, catalogue.infrared, queries)
        rows = [*zip(catalogue.paths, *(column.tolist() for column in columns), strict=True)]
        theirs = [row for rows in expected[split] for row in rows]
        if split == "train":
            theirs = [(*row[:4], False) for row in theirs]
        if layout == "buptcampus":
            assert rows == theirs
            numbers = [number for number, track in enumerate(expected[split]) for _ in track]
            assert catalogue.tracks.tolist() == numbers
        else:
            assert sorted(rows) == sorted(theirs)


@pytest.mark.parametrize("alike", ["frame", "track"])
def test_batches_of_tracklets(vcm: Path, alike: str, tmp_path: Path) -> None:
    def made() -> ReIDDataModule:
        data = ReIDDataModule(
            TrackLists(vcm), height=24, width=12, identities_per_batch=2, images_per_identity=4, frames=6,
            augment_by=alike, cache=str(tmp_path), validation="held_out",
        )  # fmt: skip
        data.setup()
        return data

    data, loaders = made(), []
    for one in (data, made()):
        loader = one.train_dataloader()
        loader.sampler.set_epoch(3)
        loaders.append(next(iter(loader)))
    batch, again = loaders
    assert torch.equal(batch.images, again.images)  # a function of seed and epoch
    assert batch.images.shape == (2 * 4 * 6, 3, 24, 12)
    assert batch.infrared.view(8, 6).all(1).sum() == 4  # K/2 tracklets of each modality a person
    assert (batch.index.view(8, 6) == batch.index.view(8, 6)[:, :1]).all()
    same = torch.stack([batch.images[:1]] * 6, 1)[0]
    view = batch._replace(images=same.repeat(8, 1, 1, 1))
    augmented = data.augment_batch(view, 3).images.unflatten(0, (8, 6))
    equal = (augmented == augmented[:, :1]).flatten(2).all(2)
    assert equal.all() if alike == "track" else not equal[:, 1:].any(1).all()
    test = next(iter(data.test_dataloader()))
    strip = pictures_of(data.test_dataloader().dataset)[torch.tensor([3])]
    own = test.images[test.index == 3]
    assert torch.equal(strip[0], torch.cat([own[frame] for frame in (0, 1, 3, 5)], 2)), "four of the six, side by side"
    assert len(data.test) == 12
    assert test.a_row_a_track().index.tolist() == test.index[::6].tolist()
    assert not {*data.val.sources} & {*data.train.sources}


def test_a_tracklets_vector_is_the_mean_of_its_frames() -> None:
    embeddings, index = torch.randn(6, 4), torch.tensor([7, 7, 7, 2, 2, 2])
    rows, numbers = a_row_a_track(embeddings, Batch(index, index, index, index > 1, index, frames=3))
    assert numbers.tolist() == [7, 2]
    assert torch.allclose(rows, torch.stack([embeddings[:3].mean(0), embeddings[3:].mean(0)]))


def test_short_tracklets_are_left_out_and_told(vcm: Path, tmp_path: Path) -> None:
    lines = (vcm / "info/track_test_info.txt").read_text().splitlines()
    modality, first, _, identity, camera = lines[2].split()
    lines[2] = f"{modality} {first} {first} {identity} {camera}"
    dataset = edited(vcm, tmp_path, track_test_info="\n".join(lines))
    splits = dataset.read()
    assert len(splits.test.tracks.unique()) == 11
    assert "test tracklets of fewer than 12 frames, which are left out: 1" in list(dataset.oddities(splits))
    assert len(TrackLists(dataset.root, least_frames=1).read().test.tracks.unique()) == 12


def test_frames_of_others_are_named_and_dropped_where_asked(vcm: Path, tmp_path: Path) -> None:
    names = (vcm / "info/train_name.txt").read_text().split()
    names[0], names[-1] = names[-1], names[0]
    dataset = edited(vcm, tmp_path, train_name="\n".join(names))
    splits = dataset.read()
    assert any(
        f"lines of track_train_info with frames of others, which are kept: 1 ({names[0]})" in odd
        for odd in dataset.oddities(splits)
    )
    assert len(splits.train) == len(names)
    assert len(TrackLists(dataset.root, mixed_in="drop").read().train) == len(names) - 2


def test_all_that_is_wrong_with_lists_is_told_at_once(vcm: Path, tmp_path: Path) -> None:
    lines = (vcm / "info/track_train_info.txt").read_text().splitlines()
    names = (vcm / "info/train_name.txt").read_text().split()
    wrong = ["1 1 99999 1 4", "3 1 2 1 4", "1 9 2 1 4", "1 2 3 4", "one 2 3 4 5"]
    dataset = edited(
        vcm,
        tmp_path,
        track_train_info="\n".join([*lines, *wrong]),
        train_name="\n".join(["nobody.jpg", names[1].replace("F2", "F777"), *names[2:]]),
        query_IDX="1 2 555 x",
        test_name="\n".join(["0005M2D1T1F../../../1.jpg", *(vcm / "info/test_name.txt").read_text().split()[1:]]),
    )
    with pytest.raises(UserError) as told:
        dataset.read()
    for sentence in (
        "tracklets outside the list of names (2): track_train_info.txt:25 1-99999, track_train_info.txt:27 9-2",
        "modalities that are neither 1 nor 2 (1): track_train_info.txt:26 3",
        "lines that are not 5 whole numbers (2): track_train_info.txt:28 '1 2 3 4', track_train_info.txt:29 'one 2",
        "names of another grammar (1): nobody.jpg",
        "frames of train_name.txt that are not there (1): Train/0001/rgb/D1/777.jpg",
        "queries that are no line of track_test_info (1): 555",
        "paths that lead out of the dataset (1): Test/0005/rgb/D1/../../../1.jpg",
        "lines that are not 1 whole numbers (1): query_IDX.txt: 'x'",
    ):
        assert sentence in str(told.value), told.value


@pytest.mark.parametrize("zeros", [True, False])
def test_numbers_with_leading_zeros_or_without(tmp_path: Path, zeros: bool) -> None:
    root = draw_layout("mp_reid", tmp_path)
    if not zeros:
        for folder in root.glob("0[1-9]"):
            folder.rename(root / folder.name[1:])
        (root / "split").mkdir()
        (root / "exp_cctv_ir_cctv_rgb").rename(root / "split/exp_cctv_ir_cctv_rgb")
    splits = MPReID(root).read()
    assert splits.test.cameras[splits.test.queries].unique().tolist() == [7, 8, 9, 10, 11, 12]
    assert splits.test.cameras[~splits.test.queries].unique().tolist() == [1, 2, 3, 4, 5, 6]
    assert MPReID(root, camera_digit=True).read().test.cameras.unique().tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    if zeros:
        splits = MPReID(root, experiment="exp_cctv_ir_uav_ir").read()  # infrared alone: by camera, not by modality
        for part in (splits.test, splits.hold_out()[1]):
            assert part.infrared.all()
            assert part.cameras[part.queries].unique().tolist() == [7, 8, 9, 10, 11, 12]
            assert part.cameras[~part.queries].unique().tolist() == [14]
        assert not any(
            "one modality only" in text for text in check(MPReID(root, experiment="exp_cctv_ir_uav_ir")).warnings
        )
    with pytest.raises(UserError, match="experiment is exp_A_B"):
        MPReID(root, experiment="exp_ir_rgb")


def test_orbench_says_whose_images_it_holds(tmp_path: Path) -> None:
    root = draw_layout("orbench", tmp_path)
    listed = json.loads((root / "test_gallery_and_queries.json").read_text())
    path = listed["NIR"][0][1]
    taken = f"{path.rpartition('/')[0]}/llcm_0042_c03.jpg"
    (root / path).rename(root / taken)
    listed["NIR"][0][1] = taken
    (root / "test_gallery_and_queries.json").write_text(json.dumps(listed))
    test = ORBench(root).read().test
    assert test.sources[test.paths.index(taken)] == "llcm/42"
    listed["NIR"] += [["x", taken], [5, "../out/of/it.jpg"], [5, "nir/0005/gone.jpg"]]
    (root / "test_gallery_and_queries.json").write_text(json.dumps(listed))
    with pytest.raises(UserError) as told:
        ORBench(root).read()
    assert "entries that are not identity and path (2)" in str(told.value)
    assert "test images that are not there (1): nir/0005/gone.jpg" in str(told.value)


def test_another_edition_and_a_query_without_a_partner_are_told(vcm: Path, tmp_path: Path) -> None:
    """Counts beside the published ones, a list of another form, and who is searched for in vain."""
    lines = (vcm / "info/track_test_info.txt").read_text().splitlines()
    alone = [line for line in lines if not (line.startswith("2 ") and line.split()[3] == "5")]
    dataset = edited(vcm, tmp_path, track_test_info="\n".join(alone), query_IDX="4")
    *_, test_counts, unmatched = check(dataset).warnings
    assert test_counts.startswith(
        "the test split has 2 identities, 39 visible and 78 infrared images; published are 427"
    )
    assert "images of one modality only (1), who are searched for or found in vain: Test/0005/ir/" in unmatched
    root = draw_layout("orbench", tmp_path / "orbench")
    (root / "train_annos.json").write_text("{}")
    with pytest.raises(UserError, match=r"split files of another edition \(1\): train_annos.json \(no list\)"):
        ORBench(root).read()


def test_buptcampus_lists_that_do_not_fit(tmp_path: Path) -> None:
    root = draw_layout("buptcampus", tmp_path)
    train = (root / "train.txt").read_text()
    (root / "train.txt").write_text(train + "0001 RGB/IR LS3 77\n0001 RGB NOWHERE 01\n0001 RGB\n")
    with pytest.raises(UserError) as told:
        BUPTCampus(root).read()
    assert "tracklets that data_paths.json does not have (2): train.txt:13 '0001 RGB/IR LS3 77'" in str(told.value)
    assert "cameras that are none of LS3, G25, CQ1, W4, TSG1, TSG2 (1): train.txt:14" in str(told.value)
    assert "lines that are not identity, modality, camera, tracklet (1): train.txt:15 '0001 RGB'" in str(told.value)
    (root / "train.txt").write_text(train)
    paths = json.loads((root / "data_paths.json").read_text())
    paths["0001"]["RGB"]["LS3"]["01"][0] = "../../outside.jpg"
    draw_image(tmp_path.parent / "outside.jpg", 1, False)
    (root / "data_paths.json").write_text(json.dumps(paths))
    with pytest.raises(UserError, match=r"paths that lead out of the dataset \(1\): DATA/../../outside.jpg"):
        BUPTCampus(root).read()
    (root / "data_paths.json").write_text("[]")
    with pytest.raises(UserError, match=r"split files of another edition \(1\): data_paths.json \(no dict\)"):
        BUPTCampus(root).read()


def test_people_walk() -> None:
    """Frames of a tracklet show the same side of the same person, in another step each."""
    from mpanet_pl.world.shot import Shot

    look, rng = Look(height=32, width=16), random.Random(1)
    person = next(iter(World(layout="vcm", identities=6, frames=2, look=look).people().values()))
    for _ in range(5):
        number = rng.randrange(100)
        shots = [Shot("", 1, 4, True, number, frame) for frame in range(8)]
        assert len({look.facing(shot, person) for shot in shots}) == 1
        assert len({look.inks(shot, person).tobytes() for shot in shots}) > 4
