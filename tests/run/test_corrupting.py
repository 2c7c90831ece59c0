"""`evaluate corrupt=…`: whose images are corrupted, means over draws, curves over severities beside clean scores."""

import csv
from pathlib import Path

import pytest
import torch
from commands import SMALL, compose, scores_of, type_in
from PIL import Image

from mpanet_pl.data import SYSU, Catalogue, ReIDDataModule
from mpanet_pl.errors import UserError
from mpanet_pl.evaluate import evaluate as command
from mpanet_pl.evaluation import FolderProtocol, evaluate
from mpanet_pl.evaluation.roles import evaluate_by_role, over_draws
from mpanet_pl.run.corrupting import CorruptionRequest, corrupted_scores, report_corrupted
from mpanet_pl.train import train

PEOPLE = 30


@pytest.fixture
def people() -> tuple[torch.Tensor, Catalogue]:
    """Embeddings that find their person well: one visible image and one infrared image each."""
    rows = [
        (f"{person}/{infrared}.jpg", person, 1 + infrared, bool(infrared))
        for person in range(PEOPLE)
        for infrared in (0, 1)
    ]
    noise = torch.randn(2 * PEOPLE, 8, generator=torch.Generator().manual_seed(1))
    centres = torch.randn(PEOPLE, 8, generator=torch.Generator().manual_seed(2)).repeat_interleave(2, 0)
    return centres + 0.3 * noise, Catalogue.from_rows(rows)


def test_one_role_is_corrupted(people: tuple[torch.Tensor, Catalogue]) -> None:
    """As if the corrupted embeddings of that side stood among the clean ones of the other."""
    clean, catalogue = people
    corrupted = clean + torch.randn(clean.shape, generator=torch.Generator().manual_seed(3))
    protocol = FolderProtocol(same_camera=True)
    for role, infrared_are in (("queries", True), ("gallery", False)):
        by_role = evaluate_by_role(clean, corrupted, catalogue, protocol, role)["infrared_to_visible"]
        mixed = torch.where((catalogue.infrared == infrared_are)[:, None], corrupted, clean)
        expected = evaluate(mixed, catalogue, protocol)["infrared_to_visible"]
        assert by_role.means == expected.means
        assert by_role.ci == expected.ci
        assert by_role.means != evaluate(clean, catalogue, protocol)["infrared_to_visible"].means


def test_scores_are_means_over_draws(people: tuple[torch.Tensor, Catalogue]) -> None:
    clean, catalogue = people
    draws = [
        evaluate(
            clean + torch.randn(clean.shape, generator=torch.Generator().manual_seed(s)), catalogue, FolderProtocol()
        )
        for s in range(4)
    ]
    joined = over_draws(draws)
    for setting, scores in joined.items():
        assert scores.r1 == pytest.approx(sum(one[setting].r1 for one in draws) / 4)
        assert len(scores.trials["r1"]) == 4
        low, high = scores.ci["r1"]
        assert low < scores.r1 < high


def test_each_severity_is_embedded_as_asked(sysu: Path) -> None:
    data = ReIDDataModule(SYSU(sysu), height=24, width=12, identities_per_batch=2, images_per_identity=2)
    data.setup()
    seen = []

    def embed() -> torch.Tensor:
        assert data.corrupt is not None
        seen.append((data.corrupt.name, data.corrupt.severity, data.corrupt.of, data.corrupt.seed))
        images = torch.cat([batch.images for batch in data.test_dataloader()])
        return images.flatten(1).float()

    clean = torch.cat([batch.images for batch in data.test_dataloader()]).flatten(1).float()
    protocol = FolderProtocol()
    found = corrupted_scores(CorruptionRequest(["fog", "contrast"], [1, 5], "gallery", 2), data, protocol, clean, embed)
    assert list(found)[:4] == [("fog", 1), ("fog", 5), ("contrast", 1), ("contrast", 5)]
    for severity in (1, 5):
        of = [found[name, severity]["infrared_to_visible"].r1 for name in ("fog", "contrast", "mean of 2")]
        assert sum(of[:2]) / 2 == pytest.approx(of[2])
    assert seen[:3] == [("fog", 1, "both", 1), ("fog", 1, "both", 2), ("fog", 5, "both", 1)]
    assert data.corrupt is None
    assert [len(scores["infrared_to_visible"].trials["r1"]) for scores in found.values()] == [2] * 4 + [4] * 2


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (["severity=3"], "are of corruptions: add corrupt=all"),
        (["corrupt=mud"], "corrupt is all, each, or of gaussian_noise"),
        (["corrupt=fog", "data.corrupt=fog"], "give one of them"),
    ],
)
def test_what_cannot_be_corrupted_is_refused(asked: list[str], told: str) -> None:
    with pytest.raises(UserError, match=told):
        CorruptionRequest.of(compose("evaluate", ["dataset=sysu", *asked]))


def test_what_is_asked() -> None:
    def of(*words: str) -> CorruptionRequest | None:
        return CorruptionRequest.of(compose("evaluate", ["dataset=sysu", *words]))

    assert of() is None
    assert of("corrupt=all") == CorruptionRequest(["all"], [None], "visible", 10)
    assert of("corrupt=[snow,rain]", "draws=2") == CorruptionRequest(["snow", "rain"], [1, 2, 3, 4, 5], "visible", 2)
    each = of("corrupt=each", "severity=2")
    assert each is not None
    assert (len(each.names), each.severities, each.draws) == (20, [2], 1)


def test_the_table_of_corruptions_holds_what_was_found(
    people: tuple[torch.Tensor, Catalogue], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mpanet_pl.run.corrupting.draw_corrupted", lambda *_: None)
    clean, catalogue = people
    scores = evaluate(clean, catalogue, FolderProtocol())
    found = {("fog", 3): evaluate(clean.flip(1) + clean, catalogue, FolderProtocol()), ("all", -1): scores}
    report_corrupted(found, scores, CorruptionRequest(["fog"], [3], "both", 1), tmp_path)
    with (tmp_path / "corruptions.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if (row["setting"], row["score"]) == ("visible_to_infrared", "mAP")]
    assert [(row["corruption"], row["severity"]) for row in rows] == [
        ("clean", ""),
        ("fog", "3"),
        ("all", "1 to 5, drawn"),
    ]
    every = [one["visible_to_infrared"] for one in (scores, *found.values())]
    assert [float(row["mean"]) for row in rows] == pytest.approx([one.mAP for one in every])
    for row, one in zip(rows, every, strict=True):
        assert (float(row["low"]), float(row["high"])) == pytest.approx(one.ci["mAP"])


@pytest.mark.slow
def test_a_checkpoint_on_corrupted_images(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = [text for text in SMALL if "trunk" not in text]
    asked = [
        "dataset=folder",
        f"data_dir={folder}",
        *small,
        "model.network.trunk=resnet18_thin",
        f"data.cache={tmp_path}",
    ]
    asked += ["trainer.max_epochs=1", "trainer.limit_train_batches=1", "data.corrupt_training=0.5"]
    assert type_in("train", train, [*asked, f"run_dir={tmp_path / 'run'}"], monkeypatch) == 0
    assert "50% of the training images had one of the 20" in (tmp_path / "run/results.md").read_text()
    again = [f"ckpt={tmp_path / 'run/checkpoints/last.ckpt'}", "trainer.accelerator=cpu", f"run_dir={tmp_path / 'c'}"]
    assert type_in("evaluate", command, [*again, "corrupt=pixelate", "corrupted=queries"], monkeypatch) == 0
    with (tmp_path / "c/corruptions.csv").open() as file:
        rows = [
            row for row in csv.DictReader(file) if row["setting"] == "visible_to_infrared" and row["score"] == "mAP"
        ]
    assert [(row["corruption"], row["severity"]) for row in rows] == [
        ("clean", ""),
        *(("pixelate", str(n)) for n in range(1, 6)),
    ]
    last = scores_of(tmp_path / "run")["last"]["visible_to_infrared"]["mAP"]["mean"]
    assert float(rows[0]["mean"]) == pytest.approx(last)
    with Image.open(tmp_path / "c/corruptions.png") as picture:
        assert picture.width > 300
    assert "corrupted are queries, 1 draw" in (tmp_path / "c/results.md").read_text()
