"""`compare` on tiny results: what it says, what it leaves, what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mpanet_pl.compare import main
from mpanet_pl.data.catalogue import Catalogue
from mpanet_pl.evaluation import FolderProtocol, MutualNeighbours, RegDBProtocol, Results, evaluate
from mpanet_pl.evaluation.differences import holm
from mpanet_pl.evaluation.tables import shown
from mpanet_pl.features.queries import QUERIES, write_queries

PEOPLE = 30
CATALOGUE = Catalogue.from_rows(
    [
        (f"{modality}/{identity:04d}_{number}.png", identity, camera, modality == "infrared")
        for identity in range(PEOPLE)
        for camera, modality in enumerate(("visible", "infrared"), 1)
        for number in range(3)
    ]
)


def embeddings(noise: float, seed: int) -> torch.Tensor:
    of_people = torch.randn(PEOPLE, 8, generator=torch.Generator().manual_seed(0))[CATALOGUE.identities]
    return of_people + noise * torch.randn(of_people.shape, generator=torch.Generator().manual_seed(seed))


def write_run(folder: Path, noise: float, seed: int = 1, catalogue: Catalogue = CATALOGUE, **measured) -> Path:
    scores = evaluate(
        embeddings(noise, seed)[: len(catalogue)],
        catalogue,
        measured.get("protocol", FolderProtocol()),
        rerank=measured.get("rerank"),
    )
    config = {"dataset": "folder", "seed": seed, "lr": measured.get("lr", 1)}
    origin = {"dataset": "folder", "trial": None, "seed": seed, "config": config}
    write_queries(folder / QUERIES, {"last": scores}, catalogue.paths)
    Results.of({"last": scores}, {}, origin).write(folder)
    return folder


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    main([str(argument) for argument in arguments])
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    with pytest.raises(SystemExit) as leaving:
        main([str(argument) for argument in arguments])
    assert leaving.value.code == 2
    return capsys.readouterr().err


def test_a_better_run_is_told_in_words_numbers_and_a_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    worse, better = write_run(tmp_path / "worse", 1.0), write_run(tmp_path / "better", 0.4, 2)
    out = said(capsys, worse, better, "--into", tmp_path / "out")
    told = json.loads((tmp_path / "out/comparison.json").read_text())["differences"]
    first = next(one for one in told if (one["setting"], one["score"]) == ("infrared_to_visible", "r1"))
    scores = [Results.read(run).scores["last"]["infrared_to_visible"]["r1"]["mean"] for run in (worse, better)]
    assert first["difference"] == pytest.approx(scores[1] - scores[0])
    low, high = first["ci"]
    assert 0 < low < first["difference"] < high
    assert f"R1: of two networks, B finds {first['difference']:.1f} points more than A ({low:.1f} to {high:.1f}" in out
    assert f"A = {worse} (last)" in out
    assert "by Holm, over all 6 comparisons of the table" in out
    assert (tmp_path / "out/comparison.md").read_text() == out
    table = [line for line in out.splitlines() if line.startswith("| infrared_to_visible | ")]
    cell = f"{first['difference']:+.1f} ({low:+.1f} to {high:+.1f}), p < 0.001*"
    assert [line.split(" | ")[1] for line in table] == ["A", "B", "B − A"]
    assert table[2].split(" | ")[2] == cell
    values = [Results.read(run).scores["last"]["infrared_to_visible"]["r1"] for run in (worse, better)]
    assert [line.split(" | ")[2] for line in table[:2]] == [shown(value | {"std": None}) for value in values]
    in_csv = (tmp_path / "out/comparison.csv").read_text().replace('"', "")
    assert f"infrared_to_visible,B − A,{cell}" in in_csv
    assert r"infrared\_to\_visible & B $-$ A & +" in (tmp_path / "out/comparison.tex").read_text()
    assert "points would be told four times of five" in out
    errors = [one["errors"] for one in told if one["score"] == "r1"]
    of_people = {f"{error['people']:.1f}" for error in errors}
    assert f"standard errors of {' to '.join(sorted(of_people))} points of people, 0.0 points of runs" in out
    assert (tmp_path / "out/comparison.png").stat().st_size > 5000
    other_way = said(capsys, better, worse)
    fewer = f"B finds {first['difference']:.1f} points fewer than A ({low:.1f} to {high:.1f}"
    assert fewer in other_way, "in the order of the other way's numbers, without signs"


def test_equal_and_like_runs_cannot_be_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = write_run(tmp_path / "one", 1.0)
    out = said(capsys, one, one / "results.json")
    assert "no difference between two test ways can be told with these 30 people (B − A: +0.0 to +0.0; p 1.00)" in out
    assert "| infrared_to_visible | B − A | +0.0 (+0.0 to +0.0), p 1.00 |" in out
    like = said(capsys, one, write_run(tmp_path / "like", 1.0, 5))
    assert "B finds" not in like
    assert "no difference between two networks can be told" in like
    assert "one run each" in like


def test_folders_of_repeats_are_compared_on_both_levels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (1, 2, 3):
        write_run(tmp_path / "a" / str(seed), 1.0, seed)
        write_run(tmp_path / "b" / str(seed), 0.5, 10 + seed, lr=2)
    out = said(capsys, tmp_path / "a", tmp_path / "b")
    assert f"B = {tmp_path / 'b'} (last, 3 runs)" in out
    assert "of two recipes, B finds" in out
    assert "both levels, people and runs" in out
    assert "B finds" in out
    (tmp_path / "a").rename(tmp_path / "b" / "a")
    assert "do not repeat one another" in refused(capsys, tmp_path / "b", tmp_path / "b" / "1")


def test_how_embeddings_are_compared_is_a_methods_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """DEEN is scored by inner products, MPANet by cosines: two methods, and the answer says which is which."""
    one = write_run(tmp_path / "one", 1.0)
    other = write_run(tmp_path / "other", 1.0, seed=2, protocol=FolderProtocol(similarity="product"))
    out = said(capsys, one, other)
    assert "B − A" in out
    assert "compared its own way: A: cosine similarity; B: inner product of un-normalised embeddings" in out
    assert "its own way" not in said(capsys, one, write_run(tmp_path / "third", 1.0, seed=3))


def test_what_cannot_be_compared_is_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = write_run(tmp_path / "one", 1.0)
    raw = write_run(tmp_path / "raw", 1.0, protocol=RegDBProtocol())
    assert "no setting in common" in refused(capsys, one, raw)
    other_cmc = write_run(tmp_path / "cmc", 1.0, protocol=RegDBProtocol(cmc="plain"))
    assert "two ways" in (message := refused(capsys, raw, other_cmc))
    assert "A: deduplicated CMC; B: plain CMC" in message
    fewer = write_run(tmp_path / "fewer", 1.0, catalogue=CATALOGUE[torch.arange(60)])
    assert "of 90 and 30 they share 30" in refused(capsys, one, fewer)
    (tmp_path / "features.npz").write_bytes(b"")
    assert "features.npz is no file of embeddings" in refused(capsys, one, tmp_path / "features.npz")
    (tmp_path / "last.ckpt").write_bytes(b"")
    assert "evaluate ckpt=" in refused(capsys, one, tmp_path / "last.ckpt")
    assert "dataset=sysu says how features are measured" in refused(capsys, one, one, "dataset=sysu")
    assert "no run came to its end" in refused(capsys, one, tmp_path / "absent")
    assert "no results with and without re-ranking to compare. Name two results or more" in refused(capsys, one)
    assert "has no result 'best', but last" in refused(capsys, one, one, "--result", "best")
    (one / QUERIES).unlink()
    assert "tested before 0.2" in refused(capsys, one, raw)


def test_a_re_ranked_setting_is_another_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain, both = write_run(tmp_path / "plain", 1.0), write_run(tmp_path / "both", 0.9, 2, rerank=MutualNeighbours())
    out = said(capsys, plain, both)
    assert "not compared, for not all have it: infrared_to_visible + mutual neighbours" in out.replace(
        "_neigh", " neigh"
    )


def test_re_ranked_and_plain_rows_of_one_result_are_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in (1, 2, 3):
        write_run(tmp_path / "a" / str(seed), 1.0, seed, rerank=MutualNeighbours())
    one, all_three = said(capsys, tmp_path / "a" / "1"), said(capsys, tmp_path / "a")
    assert f"B = {tmp_path / 'a' / '1'} (last + {MutualNeighbours().name}" in one
    assert "one run each" in one
    assert "both levels" in all_three
    scores = [Results.read(tmp_path / "a" / str(seed)).scores["last"] for seed in (1, 2, 3)]
    setting = "infrared_to_visible"
    (name,) = (name for name in scores[0] if name.startswith(f"{setting} + "))
    gain = sum(of[name]["mAP"]["mean"] - of[setting]["mAP"]["mean"] for of in scores) / 3
    assert f"{gain:+.1f} (" in next(
        line for line in all_three.splitlines() if line.startswith(f"| {setting} | B − A |")
    )


def write_features(path: Path, noise: float, seed: int, **more) -> Path:
    columns = {name: getattr(CATALOGUE, name) for name in ("paths", "identities", "cameras", "infrared")}
    np.savez(path, **columns | {"embeddings": embeddings(noise, seed).numpy()} | more)
    return path


def test_features_are_measured_and_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "of c=1").mkdir()
    worse, better = (
        write_features(tmp_path / "worse.npz", 1.0, 1),
        write_features(tmp_path / "of c=1/better.npz", 0.4, 2),
    )
    words = ["dataset=folder", f"data_dir={tmp_path}", "protocol.same_camera=false"]
    out = said(capsys, worse, better, *words)
    runs = said(capsys, write_run(tmp_path / "w", 1.0), write_run(tmp_path / "b", 0.4, 2))
    table = [line for line in out.splitlines() if line.startswith("| ")]
    assert table == [line for line in runs.splitlines() if line.startswith("| ")]
    assert f"B = {better} (better)" in out
    assert "Files: " not in out
    assert "more than A" in said(capsys, tmp_path / "w", better, *words), "a run beside features"
    assert "does not say of which dataset it is: add dataset=…" in refused(capsys, worse, better)
    assert not (tmp_path / "runs").exists()


def test_a_margin_asks_whether_a_method_is_not_worse_or_as_good(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, like, better = (
        write_run(tmp_path / name, noise, seed) for name, noise, seed in (("a", 1, 1), ("b", 1, 2), ("c", 0.3, 3))
    )
    out = said(capsys, one, like, "margin=60")
    assert "infrared_to_visible, R1: B is as good as A within 60 points (p < 0.001)" in out
    assert "R1: B is not worse than A by 2 points (p < 0.001)" in said(capsys, one, better, "margin=2")
    assert "R1: B may be worse than A by 1 points" in said(capsys, better, one, "margin=1")
    assert "is as good" not in said(capsys, one, like)
    told = tmp_path / "out"
    said(capsys, one, like, "margin=3", "--into", told)
    kept = json.loads((told / "comparison.json").read_text())["differences"]
    shown_ones = [difference for difference in kept if difference["adjusted"] is not None]
    assert {difference["score"] for difference in shown_ones} == {"r1", "mAP", "mINP"}
    assert [difference["adjusted"] for difference in shown_ones] == pytest.approx(
        holm([difference["p"] for difference in shown_ones])
    )
    assert all(difference["not_worse"] <= difference["as_good"] + 1e-12 for difference in shown_ones)
    for wrong in ("margin=0", "margin=x", "margin=-1"):
        assert "margin is a number of points" in refused(capsys, one, like, wrong)


def test_copies_are_no_repeats(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Five copies of one run a side, under other seeds: it is one run a side, and says so."""
    for name, noise, seed in (("a", 1.0, 1), ("b", 0.9, 2)):
        for copy in range(5):
            write_run(tmp_path / name / str(copy), noise, seed)
            path = tmp_path / name / str(copy) / "results.json"
            results = json.loads(path.read_text())
            results["provenance"]["seed"] = results["provenance"]["config"]["seed"] = copy
            path.write_text(json.dumps(results))
    out = said(capsys, tmp_path / "a", tmp_path / "b")
    alone = said(capsys, tmp_path / "a/0", tmp_path / "b/0")
    assert [line for line in out.splitlines() if line.startswith("| ")] == [
        line for line in alone.splitlines() if line.startswith("| ")
    ]
    assert "one run each" in out
    assert f"{tmp_path / 'a' / '4'} is a copy of {tmp_path / 'a' / '0'}" in out


def test_other_galleries_and_other_worlds_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A gallery without distractors, whose queries all still have a match; and other images under the same names."""
    distractors = [(f"visible/9{number:03d}_0.png", 900 + number, 1, False) for number in range(20)]
    rows = [
        (path, int(who), int(camera), bool(infrared))
        for path, who, camera, infrared in zip(
            CATALOGUE.paths, CATALOGUE.identities, CATALOGUE.cameras, CATALOGUE.infrared, strict=True
        )
    ]
    more, runs = Catalogue.from_rows([*rows, *distractors]), {}
    noise = torch.randn(len(distractors), 8, generator=torch.Generator().manual_seed(5))
    of_all = {"with": (more, torch.cat([embeddings(1.0, 1), noise])), "without": (CATALOGUE, embeddings(0.9, 2))}
    for name, (catalogue, numbers) in of_all.items():
        scores = {"infrared_to_visible": evaluate(numbers, catalogue, FolderProtocol())["infrared_to_visible"]}
        origin = {"dataset": "folder", "trial": None, "seed": 1, "config": {"dataset": "folder", "seed": 1}}
        for world in ("one", "two"):
            runs[name, world] = folder = tmp_path / name / world
            write_queries(folder / QUERIES, {"last": scores}, catalogue.paths, images=world, networks={"last": name})
            Results.of({"last": scores}, {}, origin).write(folder)
    assert "other galleries in trial 1" in refused(capsys, runs["with", "one"], runs["without", "one"])
    assert "another world was drawn" in refused(capsys, runs["with", "one"], runs["with", "two"])
    assert "two test ways" in said(capsys, runs["with", "one"], runs["with", "one"] / "results.json")
