"""`evaluate features=…` of what another method wrote."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import compose, type_in
from golden import recipe
from scipy.io import loadmat

from mpanet_pl.evaluate import evaluate
from mpanet_pl.run import external_features

OFFICIAL = Path(recipe.HERE) / "beyond/feature_mat"


def run(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    return type_in("evaluate", evaluate, ["dataset=sysu", "protocol.trials=3", *arguments], monkeypatch)


def mean(folder: Path, row: str, setting: str, score: str) -> float:
    results = json.loads((folder / "results.json").read_text())
    return results["scores"][row][setting][score]["mean"]


def test_the_official_layout_is_scored_as_its_evaluator_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = ["name=Made", "notes='eight numbers an image'", "protocol.normalise=false", "run_dir=out"]
    assert run([f"features={OFFICIAL}", *said], monkeypatch) == 0
    expected = json.loads(OFFICIAL.with_suffix(".json").read_text())["results"]
    assert mean(tmp_path / "out", "Made", "all/single", "mAP") == pytest.approx(expected["all_1"]["mean"]["mAP"])
    assert mean(tmp_path / "out", "Made", "indoor/single", "r1") == pytest.approx(
        expected["indoor_1"]["mean"]["cmc"][0]
    )
    table = (tmp_path / "out/results.md").read_text()
    for words in (
        "| Made |",
        "eight numbers an image",
        "Euclidean distance of un-normalised",
        "rand_perm_cam.mat (sha256",
    ):
        assert words in table


def test_the_datasets_folder_says_who_is_tested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(OFFICIAL, tmp_path / "f", ignore=shutil.ignore_patterns("test_id.mat"))
    people = loadmat(OFFICIAL / "data_split/test_id.mat")["id"].ravel().tolist()
    (tmp_path / "SYSU/exp").mkdir(parents=True)
    (tmp_path / "SYSU/exp/test_id.txt").write_text(",".join(map(str, people)))
    assert run(["features=f", "data_dir=SYSU", "protocol.normalise=false", "run_dir=out"], monkeypatch) == 0
    expected = json.loads(OFFICIAL.with_suffix(".json").read_text())["results"]
    assert mean(tmp_path / "out", "f", "all/single", "mAP") == pytest.approx(expected["all_1"]["mean"]["mAP"])


def test_the_datasets_own_draw_is_held_against_the_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "exp").mkdir()
    (tmp_path / "exp/rand_perm_cam.mat").touch()
    asked: list[dict] = []
    monkeypatch.setattr(external_features, "read_features", lambda path, **words: asked.append(words))
    cfg = compose("evaluate", [f"features={tmp_path}/f", "dataset=sysu", f"data_dir={tmp_path}"])
    external_features.external_features(cfg)
    assert asked[0]["permutations"] == cfg.protocol.permutations == str(tmp_path / "exp/rand_perm_cam.mat")


def test_a_table_of_features_is_reranked_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [(f"cam{c}/{i:04d}/{k}.jpg", i, c) for i in range(5) for c in range(1, 7) for k in range(2)]
    paths, people, cameras = zip(*rows, strict=True)
    embeddings = np.random.default_rng(0).normal(size=(len(rows), 4)).astype(np.float32)
    np.savez("theirs.npz", embeddings=embeddings, paths=paths, identities=people, cameras=cameras)
    assert run(["features=theirs.npz", "rerank=affinity", "k1=3", "k2=2", "run_dir=out"], monkeypatch) == 0
    assert mean(tmp_path / "out", "theirs", "all/single + affinity (3, 2)", "mAP") > 0


def test_features_with_times_are_scored_by_distance_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [(f"cam{c}/{i:04d}/{k}.jpg", i, c) for i in range(5) for c in (1, 2, 3, 6) for k in range(2)]
    paths, people, cameras = zip(*rows, strict=True)
    vectors = np.random.default_rng(0).normal(size=(len(rows), 4)).astype(np.float32)
    times = np.where(np.array(people) < 2, 0, np.array(cameras) * 1000.0)  # two people stand before all cameras at once
    np.savez("f.npz", embeddings=vectors, paths=paths, identities=people, cameras=cameras, times=times)
    assert run(["features=f.npz", "slices=time", "run_dir=out"], monkeypatch) == 0
    printed = capsys.readouterr().out
    assert "| time: under a minute | all/single | 2 (few) | 8 |" in printed
    assert "| time: a minute to an hour | all/single | 3 (few) | 6 |" in printed  # from camera 3 to camera 1


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        (["features=none"], "none does not exist"),
        ([f"features={OFFICIAL}", "flip=true"], "holds embeddings: flip=true is for a checkpoint"),
        ([f"features={OFFICIAL}", "k1=3"], "k1 needs rerank=k_reciprocal"),
        ([f"features={OFFICIAL}", "rerank=mutual_neighbours", "k1=3"], "rerank=mutual_neighbours has no k1"),
        ([f"features={OFFICIAL}", "rerank=affinity", "k1=0"], "k1 must be at least 1, got 0"),
        ([f"features={OFFICIAL}", "protocol.trials=4"], "has no 4 trials"),
    ],
)
def test_what_cannot_be_measured_leaves_a_sentence(
    typed: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run([*typed, "run_dir=out"], monkeypatch) == 2
    assert sentence in capsys.readouterr().err
    assert not Path("out").exists()


def test_features_need_a_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert type_in("evaluate", evaluate, [f"features={OFFICIAL}", "run_dir=out"], monkeypatch) == 2
    assert "does not say of which dataset it is: add dataset=" in capsys.readouterr().err
