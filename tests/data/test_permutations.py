"""The permutation file that a stranger hands in: it chooses the galleries, or is refused in a sentence."""

from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation import made
from scipy.io import savemat

from mpanet_pl.data.catalogue import Catalogue
from mpanet_pl.errors import UserError
from mpanet_pl.evaluation import SYSUProtocol, evaluate

Tables = dict[tuple[int, int], np.ndarray]  # (camera, identity) -> (trials, images)


def tables_of(catalogue: Catalogue, trials: int = 10) -> Tables:
    draw = np.random.RandomState(0)
    where = list(zip(catalogue.cameras.tolist(), catalogue.identities.tolist(), strict=True))
    return {
        place: np.array([draw.permutation(where.count(place)) + 1 for _ in range(trials)])
        for place in sorted(set(where))
    }


def save(path: Path, tables: Tables, cameras: int = 6) -> Path:
    cells = np.empty((cameras, 1), dtype=object)
    for camera in range(1, cameras + 1):
        cells[camera - 1, 0] = np.empty((20, 1), dtype=object)
        for identity in range(1, 21):
            cells[camera - 1, 0][identity - 1, 0] = tables.get((camera, identity), np.empty((10, 0))).astype(np.uint8)
    savemat(path, {"rand_perm_cam": cells})
    return path


def test_galleries_are_the_first_images_of_each_row(tmp_path: Path) -> None:
    _, catalogue = made.small(2)
    tables = tables_of(catalogue)
    protocol = SYSUProtocol(save(tmp_path / "some.mat", tables))
    assert protocol.gallery == "official permutations"
    (search,) = protocol.searches(catalogue)
    for setting, cameras, shots in (("all/single", (1, 2, 4, 5), 1), ("indoor/multi", (1, 2), 10)):
        for trial, gallery in enumerate(search.galleries[setting]):
            expected = {
                f"cam{camera}/{identity:04d}/{number:04d}.jpg"
                for (camera, identity), table in tables.items()
                if camera in cameras
                for number in table[trial, :shots]
            }
            assert {catalogue.paths[row] for row in gallery.tolist()} == expected


def test_the_result_names_the_file_and_its_checksum(tmp_path: Path) -> None:
    embeddings, catalogue = made.small(2)
    protocol = SYSUProtocol(save(tmp_path / "some.mat", tables_of(catalogue)), trials=2)
    measured = evaluate(embeddings, catalogue, protocol)["all/single"].measured
    assert "2 galleries drawn by some.mat (sha256 " in measured


def test_a_missing_file_says_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"There is no permutation file .*rand_perm_cam\.mat"):
        SYSUProtocol(tmp_path / "absent.mat")


@pytest.mark.parametrize("kept", [0, 10, 100, 300, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path: Path, kept: float) -> None:
    path = save(tmp_path / "some.mat", tables_of(made.small(2)[1]))
    content = path.read_bytes()
    path.write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
    with pytest.raises(UserError, match="not SYSU-MM01's"):
        SYSUProtocol(path)


@pytest.mark.parametrize(
    "content",
    [
        {"something_else": np.zeros(3)},
        {"rand_perm_cam": np.zeros((6, 1))},
        {"rand_perm_cam": "six cameras"},
        {"rand_perm_cam": np.array([["a"] * 6], dtype=object)},
    ],
)
def test_another_mat_file_is_refused(tmp_path: Path, content: dict[str, object]) -> None:
    savemat(tmp_path / "other.mat", content)
    with pytest.raises(UserError, match="not SYSU-MM01's"):
        SYSUProtocol(tmp_path / "other.mat")


def test_a_text_file_and_too_few_cameras_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.mat").write_text("1 2 3\n" * 100)
    for path in (tmp_path / "text.mat", save(tmp_path / "five.mat", {}, cameras=5)):
        with pytest.raises(UserError, match="not SYSU-MM01's"):
            SYSUProtocol(path)


def test_a_file_of_another_dataset_is_refused(tmp_path: Path) -> None:
    _, catalogue = made.small(2)
    protocol = SYSUProtocol(save(tmp_path / "some.mat", tables_of(catalogue)))
    first = (catalogue.cameras == 1).nonzero()[0]
    fewer = torch.ones(len(catalogue), dtype=torch.bool).scatter_(0, first, False)
    with pytest.raises(UserError, match="does not fit this dataset: identity"):
        protocol.searches(catalogue[fewer])
    beyond = Catalogue.from_rows([("q", 21, 3, True), ("g", 21, 1, False)])
    with pytest.raises(UserError, match="identity 21 has 1 images under camera 1, the file orders 0"):
        protocol.searches(beyond)


def test_a_row_that_is_no_permutation_is_refused(tmp_path: Path) -> None:
    _, catalogue = made.small(2)
    tables = tables_of(catalogue)
    place = next(place for place, table in tables.items() if place[0] == 1 and table.shape[1] > 1)
    tables[place][4] = 1
    with pytest.raises(UserError, match=r"damaged: trial 5 of camera 1"):
        SYSUProtocol(save(tmp_path / "some.mat", tables)).searches(catalogue)


def test_more_trials_than_the_file_has_are_refused(tmp_path: Path) -> None:
    _, catalogue = made.small(2)
    protocol = SYSUProtocol(save(tmp_path / "some.mat", tables_of(catalogue)), trials=11)
    with pytest.raises(UserError, match="no 11 trials"):
        protocol.searches(catalogue)
