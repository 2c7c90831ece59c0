"""`compare` on tiny results: what it says, what it leaves, what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mpanet_pl.compare import main
from mpanet_pl.data.catalogue import Catalogue
from mpanet_pl.evaluation import FolderProtocol, MutualNeighbours, RegDBProtocol, Results, evaluate
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
    assert (
        f"infrared_to_visible, R1: B finds {first['difference']:.1f} points more than A ({low:.1f} to {high:.1f}" in out
    )
    assert f"A = {worse} (last)" in out
    assert "adjusted by Holm for 2 comparisons of each score" in out
    assert (tmp_path / "out/comparison.md").read_text() == out
    assert (tmp_path / "out/comparison.png").stat().st_size > 5000
    assert "B finds" in said(capsys, better, worse)
    assert "points fewer than A" in said(capsys, better, worse)


def test_equal_and_like_runs_cannot_be_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = write_run(tmp_path / "one", 1.0)
    out = said(capsys, one, one / "results.json")
    assert "no difference can be told with these 30 people (B − A: +0.0 to +0.0; p 1.00)" in out
    assert "| infrared_to_visible | B | +0.0 (+0.0 to +0.0), p 1.00 |" in out
    like = said(capsys, one, write_run(tmp_path / "like", 1.0, 5))
    assert "B finds" not in like
    assert "one run each" in like


def test_folders_of_repeats_are_compared_on_both_levels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (1, 2, 3):
        write_run(tmp_path / "a" / str(seed), 1.0, seed)
        write_run(tmp_path / "b" / str(seed), 0.5, 10 + seed, lr=2)
    out = said(capsys, tmp_path / "a", tmp_path / "b")
    assert f"B = {tmp_path / 'b'} (last, 3 runs)" in out
    assert "both levels, people and runs" in out
    assert "B finds" in out
    (tmp_path / "a").rename(tmp_path / "b" / "a")
    assert "do not repeat one another" in refused(capsys, tmp_path / "b", tmp_path / "b" / "1")


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
    assert f"{gain:+.1f} (" in next(line for line in all_three.splitlines() if line.startswith(f"| {setting} | B |"))


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
    assert "network" not in out
    assert "more than A" in said(capsys, tmp_path / "w", better, *words), "a run beside features"
    assert "does not say of which dataset it is: add dataset=…" in refused(capsys, worse, better)
    assert not (tmp_path / "runs").exists()
