import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat
from trees import draw_folder, draw_image, draw_regdb, draw_sysu, write

from mpanet_pl.data import SYSU, Folder, RegDB
from mpanet_pl.evaluation.protocols import SYSUProtocol
from mpanet_pl.prepare import main
from mpanet_pl.run import preparation
from mpanet_pl.run.preparation import check, table


def prepare(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    monkeypatch.setattr(
        sys, "argv", ["prepare", *arguments, "data.height=24", "data.width=12", "data.identities_per_batch=2"]
    )
    main()


def test_a_good_dataset_is_told_in_a_table_and_cached(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = shutil.copytree(folder, tmp_path / "my people")
    prepare(monkeypatch, "dataset=folder", f"data_dir={root}")
    told = capsys.readouterr()
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in told.out.splitlines() if "│" in line]
    assert rows == [
        ["train", "visible", "4", "12", "? 1 2"],
        ["train", "infrared", "4", "12", "? 1 2"],
        ["test", "visible", "2", "6", "? 1 2"],
        ["test", "infrared", "2", "6", "? 1 2"],
    ]
    assert "Warning" not in told.out
    assert f"36 images are cached at 24x12 in {root / '.mpanet_cache'}" in told.out
    assert len(list((root / ".mpanet_cache").glob("24x12-*.npy"))) == 1


def test_brackets_of_a_datasets_own_words_are_printed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = check(Folder(folder))._replace(warnings=["[person] twice"], card=["sizes [b]"])
    monkeypatch.setattr(preparation, "check", lambda *_, **__: report)
    prepare(monkeypatch, "dataset=folder", f"data_dir={folder}", "data.cache=false")
    lines = capsys.readouterr().out.splitlines()
    assert {"Warning: [person] twice", "sizes [b]"} <= set(lines)


def test_the_cache_goes_where_it_is_told_or_nowhere(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = shutil.copytree(folder, tmp_path / "people")
    prepare(monkeypatch, "dataset=folder", f"data_dir={root}", "data.cache=false")
    assert "the image files are read at every use" in capsys.readouterr().out
    prepare(monkeypatch, "dataset=folder", f"data_dir={root}", f"data.cache={tmp_path / 'caches'}")
    assert not (root / ".mpanet_cache").exists()
    assert len(list((tmp_path / "caches").glob("people-*/24x12-*.npy"))) == 1


def test_all_faults_are_told_at_once_and_no_cache_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_sysu(tmp_path)
    write(tmp_path / "exp/train_id.txt", "1,2,4,77")
    shutil.rmtree(tmp_path / "cam5")
    whole = (tmp_path / "cam1/0006/0001.jpg").read_bytes()
    (tmp_path / "cam1/0006/0001.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "cam6/0001/0002.jpg").write_bytes(b"")
    with pytest.raises(SystemExit) as left:
        prepare(monkeypatch, "dataset=sysu", f"data_dir={tmp_path}")
    message = capsys.readouterr().err
    assert left.value.code == 2
    assert "missing folders (1): cam5" in message
    assert "identities of a split file without any image (1): 77" in message
    assert "images that cannot be read (2): cam1/0006/0001.jpg (" in message
    assert "cam6/0001/0002.jpg (" in message
    assert not (tmp_path / ".mpanet_cache").exists()


def test_counts_are_compared_with_the_published_ones(regdb: Path) -> None:
    report = check(RegDB(regdb))
    assert not report.faults
    assert report.warnings == [
        f"the {split} split has 4 identities, 8 visible and 8 infrared images; "
        "published are 206 identities, 2060 visible and 2060 infrared images."
        for split in ("train", "test")
    ]


def test_a_missing_permutation_file_is_explained(sysu: Path) -> None:
    *_, warning = check(SYSU(sysu), SYSUProtocol(trials=3)).warnings
    assert f"{sysu}/exp/rand_perm_cam.mat is missing: the official draw" in warning
    assert "Without it results are measured on 3 galleries drawn by random.seed(trial)" in warning


def test_a_permutation_file_of_another_dataset_is_a_fault(tmp_path: Path) -> None:
    draw_sysu(tmp_path)
    cells = np.empty((6, 1), dtype=object)
    for camera in range(6):
        cells[camera, 0] = np.empty((1, 10), dtype=object)
        for identity in range(10):
            cells[camera, 0][0, identity] = np.array([[1, 2, 3]])  # the drawn people have two images
    savemat(tmp_path / "exp/rand_perm_cam.mat", {"rand_perm_cam": cells})
    report = check(SYSU(tmp_path), SYSUProtocol(tmp_path / "exp/rand_perm_cam.mat", trials=1))
    assert "does not fit this dataset" in str(report.faults)
    assert not any("is missing" in warning for warning in report.warnings)


def test_a_broken_permutation_file_is_a_fault_among_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_sysu(tmp_path)
    write(tmp_path / "exp/rand_perm_cam.mat", "no matrix")
    write(tmp_path / "cam1/0001/0001.jpg", "no image")
    with pytest.raises(SystemExit, match="2"):
        prepare(monkeypatch, "dataset=sysu", f"data_dir={tmp_path}")
    told = capsys.readouterr().err
    assert "images that cannot be read (1): cam1/0001/0001.jpg" in told
    assert "what the protocol asks for (1)" in told
    assert "rand_perm_cam.mat" in told


def test_a_permutation_file_that_is_not_used_is_not_called_missing(tmp_path: Path) -> None:
    write(draw_sysu(tmp_path) / "exp/rand_perm_cam.mat", "whatever")
    (warning,) = [text for text in check(SYSU(tmp_path), SYSUProtocol()).warnings if "rand_perm_cam" in text]
    assert "is there, but is not used" in warning


def test_test_people_who_cannot_be_found_are_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for split, people in {"train": (1, 2, 3), "test": (4, 5)}.items():
        for person in people:
            for modality in ("visible", "infrared"):
                draw_image(tmp_path / f"{split}/{modality}/{person}/c1_0.png", person, modality == "infrared")
    with pytest.raises(SystemExit, match="2"):
        prepare(monkeypatch, "dataset=folder", f"data_dir={tmp_path}")
    assert "protocol.same_camera=false" in capsys.readouterr().err
    prepare(monkeypatch, "dataset=folder", f"data_dir={tmp_path}", "protocol.same_camera=false")


def test_a_training_split_too_small_for_a_batch_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_regdb(tmp_path)
    prepare(monkeypatch, "dataset=regdb", f"data_dir={tmp_path}")
    assert "A batch takes" not in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["prepare", "dataset=regdb", f"data_dir={tmp_path}", "data.cache=false"])
    main()
    assert "A batch takes 12 different identities, but the training split has 4" in capsys.readouterr().out


def test_people_seen_in_one_modality_only_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_folder(tmp_path / "train", people=("anna", "bert"))
    draw_folder(tmp_path / "test", people=("cleo",))
    draw_image(tmp_path / "train/infrared/night owl/a.png", 3, infrared=True)
    prepare(monkeypatch, "dataset=folder", f"data_dir={tmp_path}")
    assert "1 training identities have images of one modality only (train/infrared/night owl/a.png)" in (
        capsys.readouterr().out
    )
    prepare(monkeypatch, "dataset=folder", f"data_dir={tmp_path}", "data.sampler=random")
    assert "one modality only" not in capsys.readouterr().out


def test_test_people_without_a_counterpart_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_folder(tmp_path / "train", people=("anna", "bert"))
    draw_folder(tmp_path / "test", people=("cleo", "dora"))
    (tmp_path / "test/infrared/dora").rename(tmp_path / "test/infrared/Dora")
    prepare(monkeypatch, "dataset=folder", f"data_dir={tmp_path}")
    said = capsys.readouterr().out
    assert "Warning: test people with images of one modality only (2)" in said
    assert "test/infrared/Dora/" in said
    assert "test/visible/dora/" in said


def test_a_trial_without_split_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_regdb(tmp_path)
    with pytest.raises(SystemExit):
        prepare(monkeypatch, "dataset=regdb", f"data_dir={tmp_path}", "trial=3")
    assert "missing split files (4): idx/train_visible_3.txt" in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_all_that_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        prepare(monkeypatch, "dataset=llcm", f"data_dir={tmp_path / 'nowhere'}")
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines()[1:] == [f"- missing folders (1): {tmp_path / 'nowhere'}"]


def test_sizes_are_checked_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        prepare(monkeypatch, f"data_dir={tmp_path}", "data.eval_batch_size=0")
    assert "eval_batch_size must be at least 1, got 0" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_who_is_held_out_is_the_users_choice(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        prepare(monkeypatch, "dataset=folder", f"data_dir={folder}", "data.dataset.test_share=1e-9")
    assert "too few people to hold some out by data.dataset.test_share" in capsys.readouterr().err


def test_a_card_says_sizes_and_terms(sysu: Path) -> None:
    sizes, terms = check(SYSU(sysu)).card
    assert sizes.startswith("sizes (width x height): 18 x 33 to 24 x 52; most often ")
    assert terms == "terms: its owners' agreement"


def test_a_card_of_tracklets(tmp_path: Path) -> None:
    for person in ("anna", "bert"):
        for split in ("train", "test"):
            for modality, tracks in (("visible", 2), ("infrared", 1)):
                for track in range(tracks):
                    for frame in range(2 + track):
                        path = tmp_path / split / modality / f"{person}{split}" / f"c1_{track}" / f"{frame}.png"
                        draw_image(path, 1, modality == "infrared")
    report = check(Folder(tmp_path, tracks=True))
    columns = {str(column.header): [*column.cells] for column in table(report.splits).columns}
    assert columns["tracklets"] == ["4", "2", "4", "2"]
    assert columns["images"] == ["10", "4", "10", "4"]
    assert "train tracklets: 6, of 2 to 3 frames, half of them up to 2" in report.card
