"""What others published stands beside a result that was measured alike, and beside no other."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from golden import recipe

from mpanet_pl.evaluation import (
    BUPTCampusProtocol,
    LLCMProtocol,
    ORBenchProtocol,
    RegDBProtocol,
    RetrievalProtocol,
    SYSUProtocol,
    VCMProtocol,
)
from mpanet_pl.evaluation.published import across, mpanet, others, records

SYSU = {"similarity": "cosine", "gallery": "official permutations", "trials": 10}
REGDB = {"similarity": "euclidean", "gallery": "all images", "trials": None}


def beside(dataset: str, setting: str, protocol: RetrievalProtocol) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Header and rows of what was published of a setting, measured as `protocol` measures it."""
    ways = {"similarity": protocol.similarity, "gallery": protocol.gallery, "trials": protocol.trials}
    found = others(dataset, [setting], **ways, flip=False)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def permutations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("exp") / "rand_perm_cam.mat"
    recipe.save_permutations(file, recipe.permutations(2))
    return file


def test_the_papers_rows_are_its_tables() -> None:
    assert mpanet("sysu", **SYSU) == {
        "all/single": {"r1": 70.58, "r10": 96.21, "r20": 98.80, "mAP": 68.24},
        "all/multi": {"r1": 75.58, "r10": 97.91, "r20": 99.43, "mAP": 62.91},
        "indoor/single": {"r1": 76.74, "r10": 98.21, "r20": 99.57, "mAP": 80.95},
        "indoor/multi": {"r1": 84.22, "r10": 99.66, "r20": 99.96, "mAP": 75.11},
    }
    assert mpanet("regdb", **REGDB) == {
        "visible_to_thermal": {"r1": 83.7, "mAP": 80.9},
        "thermal_to_visible": {"r1": 82.8, "mAP": 80.7},
    }


def test_a_protocol_shows_them_only_as_the_paper_measured(permutations: Path) -> None:
    assert SYSUProtocol(permutations).published == mpanet("sysu", **SYSU)
    assert RegDBProtocol().published == mpanet("regdb", **REGDB)
    for another in (
        SYSUProtocol(),
        SYSUProtocol(permutations, trials=2),
        SYSUProtocol(permutations, normalise=False),
        RegDBProtocol(normalise=True),
        LLCMProtocol(),
    ):
        assert another.published == {}
    assert mpanet("sysu", **SYSU, flip=True) == {}


def test_others_stand_beside_what_was_measured_alike() -> None:
    found = others("sysu", ["all/single"], **SYSU, flip=False)
    assert found is not None
    header, rows = found
    assert [dict(zip(header, row, strict=True))["published"] for row in rows] == ["MPANet again (by its author)"]
    assert rows[0][2:6] == ["68.78", "95.00", "98.28", "65.96"]
    assert others("sysu", ["all/single"], **SYSU, flip=True) is None
    assert others("sysu", ["all/single + k-reciprocal"], **SYSU, flip=False) is None
    of_one_draw = others("sysu", ["all/single"], similarity="cosine", gallery="random.seed", trials=1, flip=False)
    assert of_one_draw is not None
    assert [row[1] for row in of_one_draw[1]] == ["AGW (in CIL's benchmark)", "CIL (NeurIPS 2021)"]


def test_a_row_says_its_edition_and_what_is_not_known() -> None:
    header, rows = beside("llcm", "visible_to_infrared", LLCMProtocol())
    told = [dict(zip(header, row, strict=True)) for row in rows]
    assert [(row["published"], row["R1"], row["mAP"]) for row in told] == [
        ("DEEN (CVPR 2023, of the paper)", "62.50", "65.80"),
        ("DEEN (CVPR 2023, of the README)", "69.21", "55.52"),
    ]
    assert {row["not said"] for row in told} == {"query, flip, normalised, selected"}


@pytest.mark.parametrize(
    ("dataset", "protocol", "expected"),
    [
        ("vcm", VCMProtocol(), ["M3-ReID (2025)", "SAADG (quoted)", "CST (quoted)", "TCC-VPReID (quoted)"]),
        ("buptcampus", BUPTCampusProtocol("m3"), ["M3-ReID (2025)", "TCC-VPReID (quoted)"]),
        ("buptcampus", BUPTCampusProtocol(), ["TCC-VPReID (quoted)"]),
        ("orbench", ORBenchProtocol(), ["ReID5o (NeurIPS 2025, weights of 2026-01)"]),
    ],
)
def test_tracklets_rows_stand_beside_the_rules_that_they_were_measured_by(
    dataset: str, protocol: RetrievalProtocol, expected: list[str]
) -> None:
    _, rows = beside(dataset, "infrared_to_visible", protocol)
    assert [row[1] for row in rows] == expected


def test_what_a_pair_scorer_or_a_re_ranking_reached_stands_beside_no_embedding() -> None:
    alike = next(record for record in records() if record.method == "MPANet again")
    for scorer in ("pair", "re-ranked", None):
        assert not alike._replace(scorer=scorer).is_alike(**SYSU, flip=False)


def test_every_record_is_of_a_kind_that_is_known() -> None:
    for record in records():
        assert record.scores
        assert all(0 < value <= 100 for value in record.scores.values())
        assert record.source
        assert record.scorer in ("embedding", "pair", "re-ranked", None)
        assert record.gallery in ("official permutations", "random.seed", "all images", "M3-ReID's rules", None)
        assert record.query in ("visible", "infrared", None)


def test_rows_across_datasets_stand_beside_a_matrix_alone() -> None:
    found = across(["regdb/thermal_to_visible", "regdb/visible_to_thermal", "sysu/all/multi"])
    assert found is not None
    header, rows = found
    cells = {row[2]: dict(zip(header, row, strict=True)) for row in rows}
    assert len(cells) == 9
    assert {row["trained on"] for row in cells.values()} == {"llcm + sysu"}
    of_l2rw = cells["L2RW, federated (in L2RW, CVPR 2025)"]
    assert (of_l2rw["R1"], of_l2rw["mAP"], of_l2rw["mINP"]) == ("21.54", "20.72", "12.78")
    assert "flip" in of_l2rw["not said"]
    assert across(["sysu/indoor/single"]) is None
    alone = others("sysu", ["all/single"], similarity="cosine", gallery="random.seed", trials=10, flip=False)
    assert alone is None or not any("L2RW" in cell for row in alone[1] for cell in row)
