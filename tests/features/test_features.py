"""Embeddings that others wrote: read as they are, scored as the official evaluator does, refused with every fault."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden import recipe
from scipy.io import loadmat, savemat
from torch import Tensor

from mpanet_pl.data.catalogue import Catalogue
from mpanet_pl.data.faults import Faults
from mpanet_pl.errors import UserError
from mpanet_pl.evaluation import SYSUProtocol, evaluate, protocols
from mpanet_pl.features import holds_features, permutations_beside, read_features
from mpanet_pl.features.columns import catalogue_of, of_columns

OFFICIAL = Path(recipe.HERE) / "beyond/feature_mat"
INFRARED = (3, 6)


@pytest.mark.parametrize("normalise", [False, True])
def test_the_official_layout_scores_as_the_official_evaluator(normalise: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocols, "SYSU_SHOTS", {"single": 1, "multi": 2})  # two, of so few images
    expected = json.loads(OFFICIAL.with_suffix(".json").read_text())["results"]
    embeddings, catalogue = read_features(OFFICIAL, infrared_cameras=INFRARED)
    protocol = SYSUProtocol(permutations_beside(OFFICIAL), trials=3, normalise=normalise)
    for setting, score in evaluate(embeddings, catalogue, protocol).items():
        golden_setting = setting.replace("/single", "_1").replace("/multi", "_2")
        for trial, golden in enumerate(expected[golden_setting]["trials"]):
            mean_precision = golden["unit_length"]["mAP"] if normalise else golden["mAP"]
            first = golden["unit_length"]["rank1"] if normalise else golden["cmc"][0]
            assert score.trials["mAP"][trial] == pytest.approx(mean_precision, abs=1e-9)
            assert score.trials["r1"][trial] == pytest.approx(first, abs=1e-9)
            if not normalise:
                assert score.trials["r5"][trial] == pytest.approx(golden["cmc"][4], abs=1e-9)
    assert score.measured.startswith("cosine" if normalise else "Euclidean distance of un-normalised embeddings")


def test_an_image_is_named_by_camera_person_and_number() -> None:
    embeddings, catalogue = read_features(OFFICIAL, infrared_cameras=INFRARED)
    row = catalogue.paths.index("cam3/0006/0002.jpg")
    expected = loadmat(OFFICIAL / "made_cam3.mat")["feature"].ravel()[5][1]
    assert embeddings[row].tolist() == expected.tolist()
    assert (int(catalogue.identities[row]), int(catalogue.cameras[row])) == (6, 3)
    assert catalogue.infrared.tolist() == [camera in INFRARED for camera in catalogue.cameras.tolist()]


def test_people_can_be_said_where_no_file_says_them(tmp_path: Path) -> None:
    for file in OFFICIAL.glob("*.mat"):
        shutil.copy(file, tmp_path)
    with pytest.raises(UserError, match="does not say who is tested"):
        read_features(tmp_path, infrared_cameras=INFRARED)
    _, catalogue = read_features(tmp_path, infrared_cameras=INFRARED, people=[1, 3])
    assert set(catalogue.identities.tolist()) == {1, 3}
    order = loadmat(OFFICIAL / "data_split/rand_perm_cam.mat")["rand_perm_cam"]
    for cells in order.ravel():
        cells[:, 0] = [table[:1] for table in cells[:, 0]]  # one trial tells the image counts
    one_trial = tmp_path / "one_trial.mat"
    savemat(one_trial, {"rand_perm_cam": order})
    again = read_features(tmp_path, infrared_cameras=INFRARED, people=[1, 3], permutations=one_trial)
    assert again[1].paths == catalogue.paths


def test_all_that_is_wrong_with_the_official_layout_is_told_at_once(tmp_path: Path) -> None:
    shutil.copytree(OFFICIAL, tmp_path / "f")
    (tmp_path / "f/made_cam5.mat").unlink()
    shutil.copy(tmp_path / "f/made_cam6.mat", tmp_path / "f/other_cam6.mat")
    cells = loadmat(tmp_path / "f/made_cam1.mat")["feature"]
    cells[0, 0] = cells[0, 0][:, :5]
    cells[3, 0] = cells[3, 0][:-1]
    savemat(tmp_path / "f/made_cam1.mat", {"feature": cells})
    with pytest.raises(UserError) as error:
        read_features(tmp_path / "f", infrared_cameras=INFRARED)
    for fault in (
        "missing files (1): *_cam5.mat",
        "more than one file of a camera (1): made_cam6.mat, other_cam6.mat",
        "not 8 wide (1): camera 1 person 1: 5",
        "other image counts than in the permutations (1): camera 1 person 4: 3, not 4",
    ):
        assert fault in str(error.value)


@pytest.mark.parametrize("wrong", [np.ones((2, 4, 8)), np.ones((4, 8), np.int32)])
def test_a_persons_entry_is_a_table_of_numbers(wrong: np.ndarray, tmp_path: Path) -> None:
    shutil.copytree(OFFICIAL, tmp_path / "f")
    cells = loadmat(tmp_path / "f/made_cam2.mat")["feature"]
    cells[4, 0] = wrong
    savemat(tmp_path / "f/made_cam2.mat", {"feature": cells})
    with pytest.raises(UserError, match=r"\(1\): made_cam2\.mat person 5"):
        read_features(tmp_path / "f", infrared_cameras=INFRARED)


def test_numbers_that_are_not_finite_are_named(tmp_path: Path) -> None:
    shutil.copytree(OFFICIAL, tmp_path / "f")
    cells = loadmat(tmp_path / "f/made_cam2.mat")["feature"]
    cells[4, 0][1, 3] = np.nan
    savemat(tmp_path / "f/made_cam2.mat", {"feature": cells})
    with pytest.raises(UserError, match=r"not finite \(1\): cam2/0005/0002.jpg"):
        read_features(tmp_path / "f", infrared_cameras=INFRARED)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"nothing of the kind", r"made_cam2\.mat holds no MATLAB variable 'feature', or is damaged"),
        (
            b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM\x89HDF",
            r"made_cam2\.mat is a MATLAB 7\.3 file: save it with -v7",
        ),
    ],
)
def test_a_file_that_cannot_be_read_is_named(content: bytes, sentence: str, tmp_path: Path) -> None:
    shutil.copytree(OFFICIAL, tmp_path / "f")
    (tmp_path / "f/made_cam2.mat").write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        read_features(tmp_path / "f", infrared_cameras=INFRARED)


Columns = dict[str, Any]


def columns() -> Columns:
    draw = np.random.default_rng(0)
    rows = [(f"c{camera}/{person}_{k}.png", person, camera) for person in (7, 9) for camera in (1, 3) for k in range(3)]
    paths, people, cameras = (list(column) for column in zip(*rows, strict=True))
    return {
        "embedding": draw.normal(size=(len(rows), 5)).astype(np.float32),
        "path": paths,
        "identity": people,
        "camera": cameras,
        "modality": ["infrared" if camera == 3 else "visible" for camera in cameras],
    }


def write_npz(folder: Path, table: Columns) -> Path:
    kept = {
        name: table[own]
        for name, own in (("paths", "path"), ("identities", "identity"), ("cameras", "camera"), ("times", "time"))
        if own in table
    }
    if "modality" in table:
        kept["infrared"] = np.array([modality == "infrared" for modality in table["modality"]])
    np.savez(folder / "f.npz", embeddings=table["embedding"], **kept)
    return folder / "f.npz"


def write_npy(folder: Path, table: Columns) -> Path:
    np.save(folder / "f.npy", table["embedding"])
    words = {name: column for name, column in table.items() if name != "embedding"}
    with (folder / "f.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(words)
        writer.writerows(zip(*words.values(), strict=True))
    return folder / "f.npy"


def write_parquet(folder: Path, table: Columns) -> Path:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({**table, "embedding": list(table["embedding"])}), folder / "f.parquet")
    return folder / "f.parquet"


def write_gallery(folder: Path, table: Columns) -> Path:
    """As `embed` leaves it: shards whose vectors are raw bytes, people and cameras in words."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    half = len(table["embedding"]) // 2
    for part, rows in enumerate((slice(None, half), slice(half, None))):
        vectors = [row.astype("<f4").tobytes() for row in table["embedding"][rows]]
        words = {name: [str(value) for value in table[name][rows]] for name in table if name != "embedding"}
        raw = pa.array(vectors, pa.binary(4 * table["embedding"].shape[1]))
        shard = pa.table({**words, "embedding": raw}).replace_schema_metadata({"mpanet_pl": '{"dtype": "float32"}'})
        pq.write_table(shard, folder / f"part-{part:06d}.parquet")
    return folder


Write = Callable[[Path, Columns], Path]
FORMS: list[Write] = [write_npz, write_npy, write_parquet, write_gallery]


def expected(table: Columns) -> tuple[Tensor, Catalogue]:
    rows = zip(table["path"], table["identity"], table["camera"], strict=True)
    return torch.from_numpy(table["embedding"]), Catalogue.from_rows([(*row, row[2] == 3) for row in rows])


def same(got: tuple[Tensor, Catalogue], wanted: tuple[Tensor, Catalogue]) -> bool:
    return (
        torch.equal(got[0], wanted[0])
        and got[1].paths == wanted[1].paths
        and all(
            torch.equal(getattr(got[1], name), getattr(wanted[1], name))
            for name in ("identities", "cameras", "infrared")
        )
    )


def test_a_folder_holds_features_once_a_file_of_them_lies_there(tmp_path: Path) -> None:
    assert not holds_features(tmp_path)
    assert not holds_features(tmp_path / "nowhere")
    place = write_npy(tmp_path, columns())
    assert holds_features(tmp_path)
    assert holds_features(place)
    assert same(read_features(tmp_path), expected(columns()))


@pytest.mark.parametrize("write", FORMS)
def test_every_form_gives_what_was_written(write: Write, tmp_path: Path) -> None:
    assert same(read_features(write(tmp_path, columns())), expected(columns()))


@pytest.mark.parametrize("write", FORMS)
def test_names_may_hold_what_separates_names(write: Write, tmp_path: Path) -> None:
    table = columns()
    table["path"][:3] = ['a,"b".png', "a\r\nb.png", "a\nb.png"]
    assert read_features(write(tmp_path, table))[1].paths == tuple(table["path"])


@pytest.mark.parametrize("write", FORMS)
def test_cameras_tell_the_modality_where_no_column_does(write: Write, tmp_path: Path) -> None:
    table = {name: column for name, column in columns().items() if name != "modality"}
    place = write(tmp_path, table)
    with pytest.raises(UserError, match="does not say which images are infrared"):
        read_features(place)
    assert same(read_features(place, infrared_cameras=[3]), expected(columns()))


@pytest.mark.parametrize("write", FORMS)
def test_times_are_seconds_where_a_column_has_them(write: Write, tmp_path: Path) -> None:
    table = columns()
    table["time"] = [0.5 * row for row in range(len(table["path"]))]
    _, catalogue = read_features(write(tmp_path, table))
    assert catalogue.times is not None
    assert catalogue.times.tolist() == table["time"]
    assert catalogue[torch.tensor([3, 1])].times.tolist() == [1.5, 0.5]  # type: ignore[union-attr]


def test_a_time_may_be_unknown_but_is_a_number_of_seconds(tmp_path: Path) -> None:
    table = columns()
    table["time"] = ["", "7", *["8.5"] * (len(table["path"]) - 2)]
    _, catalogue = read_features(write_npy(tmp_path, table))
    assert catalogue.times is not None
    assert catalogue.times.isnan().tolist() == [True, *[False] * (len(catalogue) - 1)]
    table["time"][2] = "noon"
    with pytest.raises(UserError, match=r"times that are no seconds \(1\): c1/7_2\.png: noon"):
        read_features(write_npy(tmp_path, table))


@pytest.mark.parametrize("write", FORMS)
def test_only_the_people_asked_for_are_kept(write: Write, tmp_path: Path) -> None:
    embeddings, catalogue = read_features(write(tmp_path, columns()), people=[9])
    assert set(catalogue.identities.tolist()) == {9}
    assert torch.equal(embeddings, expected(columns())[0][6:])


@pytest.mark.parametrize("write", FORMS)
def test_faults_of_a_table_are_told_at_once(write: Write, tmp_path: Path) -> None:
    table = columns()
    table["path"][1] = table["path"][0]
    table["embedding"][[2, 5], 0] = [np.nan, np.inf]
    with pytest.raises(UserError) as error:
        read_features(write(tmp_path, table))
    assert "there twice (1): c1/7_0.png" in str(error.value)
    assert "not finite (2): c1/7_2.png, c3/7_2.png" in str(error.value)


@pytest.mark.parametrize("write", FORMS)
def test_people_and_cameras_by_name_are_numbered_in_their_order(write: Write, tmp_path: Path) -> None:
    table = columns()
    table["identity"] = [{7: "zoe", 9: "adam"}[person] for person in table["identity"]]
    table["camera"] = [{1: "yard", 3: "door"}[camera] for camera in table["camera"]]
    _, catalogue = read_features(write(tmp_path, table))
    assert catalogue.identities.tolist() == [2] * 6 + [1] * 6
    assert catalogue.cameras.tolist() == ([2] * 3 + [1] * 3) * 2


def test_a_home_is_looked_for_and_what_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copytree(OFFICIAL, tmp_path / "theirs")
    assert permutations_beside("~/theirs") == tmp_path / "theirs/data_split/rand_perm_cam.mat"
    with pytest.raises(UserError, match=r"absent\.npz does not exist"):
        read_features(tmp_path / "absent.npz")


def test_thermal_is_infrared_other_words_are_told_and_nobody_is_no_name() -> None:
    faults, words = Faults(), {"modality": ["visible", "thermal", "radar"], "identity": ["zoe", None, "adam"]}
    rows = {"path": ["a", "b", "c"], "camera": [1, 1, 3]}
    table = of_columns(np.ones((3, 2), np.float32), rows | words, Path("table.csv"), faults)
    assert dict(faults.kinds()) == {
        "rows without an identity": ["b"],
        "modalities that are none of visible, infrared, thermal": ["radar"],
    }
    catalogue = catalogue_of(table, (), Path("table.csv"))
    assert catalogue.infrared.tolist() == [False, True, False]
    assert catalogue.identities.tolist() == [2, 0, 1]


@pytest.mark.parametrize("write", [write_npy, write_parquet])
def test_an_empty_field_is_no_identity(write: Write, tmp_path: Path) -> None:
    table = columns()
    table["identity"][1] = None
    with pytest.raises(UserError, match=r"without an identity \(1\): c1/7_1\.png"):
        read_features(write(tmp_path, table))


@pytest.mark.parametrize("write", FORMS)
@pytest.mark.parametrize("column", ["path", "identity", "camera"])
def test_a_column_that_is_needed_is_named(write: Write, column: str, tmp_path: Path) -> None:
    table = {name: values for name, values in columns().items() if name != column}
    with pytest.raises(UserError, match=f"has no.*{column[:6]}"):
        read_features(write(tmp_path, table))


def test_lengths_that_differ_are_told(tmp_path: Path) -> None:
    for write in (write_npz, write_npy):
        table = columns()
        table["embedding"] = table["embedding"][:-1]
        with pytest.raises(UserError, match="12 paths for 11 embeddings"):
            read_features(write(tmp_path, table))


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((12, 0), np.float32), np.zeros(12, np.float32), np.zeros((12, 5), np.int8), np.zeros((12, 5), "c8")],
)
def test_embeddings_that_are_no_numbers_are_refused(wrong: np.ndarray, tmp_path: Path) -> None:
    for write in (write_npz, write_npy):
        with pytest.raises(UserError, match="no numbers"):
            read_features(write(tmp_path, {**columns(), "embedding": wrong}))


def test_of_two_files_one_has_to_be_named(tmp_path: Path) -> None:
    write_npy(tmp_path, columns())
    shutil.copy(tmp_path / "f.npy", tmp_path / "g.npy")
    with pytest.raises(UserError, match=r"f\.npy, g\.npy"):
        read_features(tmp_path)


def test_pickled_objects_are_not_opened(tmp_path: Path) -> None:
    np.save(tmp_path / "f.npy", np.array([{}], dtype=object), allow_pickle=True)
    (tmp_path / "f.csv").write_text("path,identity,camera\n")
    with pytest.raises(UserError, match="cannot be read"):
        read_features(tmp_path / "f.npy")


@pytest.mark.parametrize("name", ["f.npz", "f.parquet"])
def test_files_of_another_kind_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("nothing of the kind")
    with pytest.raises(UserError, match="cannot be read as"):
        read_features(tmp_path / name)


def test_what_holds_no_features_says_which_forms_there_are(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        read_features(tmp_path / "none")
    with pytest.raises(UserError, match="holds no features: they are a folder of"):
        read_features(tmp_path)
