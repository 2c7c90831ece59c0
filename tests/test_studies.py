"""What a study says of its runs: differences that are told, and those that are as good as none."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from scripts_of import script

from mpanet_pl.data.catalogue import Catalogue
from mpanet_pl.evaluation import FolderProtocol, Results, evaluate
from mpanet_pl.features.queries import QUERIES, write_queries

studies = script("studies")
PEOPLE, SETTING = 40, "visible_to_infrared"
CATALOGUE = Catalogue.from_rows(
    [
        (f"{modality}/{identity:04d}_{number}.png", identity, camera, modality == "infrared")
        for identity in range(PEOPLE)
        for camera, modality in enumerate(("visible", "infrared"), 1)
        for number in range(3)
    ]
)


def method(folder: Path, noise: float) -> object:
    """Five runs that know people but for some noise."""
    known = torch.randn(PEOPLE, 16, generator=torch.Generator().manual_seed(0))[CATALOGUE.identities]
    for seed in range(5):
        blurred = known + noise * torch.randn(known.shape, generator=torch.Generator().manual_seed(seed))
        scores = {"last": evaluate(blurred, CATALOGUE, FolderProtocol())}
        write_queries(folder / f"seed{seed}" / QUERIES, scores, CATALOGUE.paths)
        Results.of(scores, {}, {"dataset": "folder", "seed": seed}).write(folder / f"seed{seed}")
    return studies.of(folder)


def test_it_marks_what_is_told_and_what_is_as_good_as_none(tmp_path: Path) -> None:
    sure, good, poor = (method(tmp_path / str(noise), noise) for noise in (0.1, 0.11, 1.2))
    rows = [(("blurred",), sure, poor, SETTING), (("alike",), sure, good, SETTING)]
    table = studies.gains(["how"], rows, margin=2.0)
    assert table["columns"] == ["how", "R1", "mAP", "mINP"]
    (what, *blurred), (_, *alike) = table["rows"]
    assert what == "blurred"
    assert all(cell.startswith("−") and cell.endswith("*") for cell in blurred)
    assert all(cell.endswith("=") and "*" not in cell for cell in alike)
    assert not any("=" in cell for _, *cells in studies.gains(["how"], rows)["rows"] for cell in cells)


def test_scores_have_their_intervals(tmp_path: Path) -> None:
    one = method(tmp_path / "one", 0.8)
    ((name, *cells),) = studies.scores(["method"], [(("one",), one, SETTING)])["rows"]
    assert name == "one"
    found = one.value(SETTING, "r1")
    assert cells[0].startswith(f"{found['mean']:.2f} ± {found['std']:.2f} ({found['ci'][0]:.1f}–")


def test_where_maps_point_is_told_over_pairs_of_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def runs(points: float) -> object:
        seen = [{"maps/mean": points + seed, "maps_chance/mean": 20.0, "siblings/mean": 60.0} for seed in range(5)]
        return SimpleNamespace(runs=[SimpleNamespace(nuances=one) for one in seen])

    monkeypatch.setattr(studies, "POINTS", {"maps": "maps", "siblings": "siblings"})
    maps, siblings = studies.points([[runs(30), runs(33)], [runs(31), runs(36)]])["rows"]
    assert maps == ["maps", "+12.5", "+16.5", "+4.0 (+3.2 to +4.8)"]  # 3 and 5, five times each
    assert siblings == ["siblings", "+10.0", "+10.0", "+0.0 (+0.0 to +0.0)"]
