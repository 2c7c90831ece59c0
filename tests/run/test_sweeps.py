"""A sweep is told what was monitored, chooses among people held out, stops and goes on, runs wherever it is sent."""

import json
import math
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from commands import SMALL_WORLD, compose, type_in

from mpanet_pl.evaluation import Results
from mpanet_pl.run.summary import summarize
from mpanet_pl.run.training import train
from mpanet_pl.train import train as door

SMALLEST = [
    *(text for text in SMALL_WORLD if text.split("=")[0] not in ("model.network.trunk", "data.dataset.identities")),
    *("model.network.trunk=resnet18_thin", "data.dataset.identities=16", "protocol.trials=1", "trainer.max_epochs=1"),
]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}


def command(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "mpanet_pl.train", *arguments]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    return subprocess.Popen(line, cwd=cwd, env=ENVIRONMENT, text=True, **quiet)


def finished(storage: Path) -> int:
    if not storage.exists():
        return 0
    with closing(sqlite3.connect(storage)) as connection:
        try:
            ((count,),) = connection.execute("SELECT COUNT(*) FROM trials WHERE state = 'COMPLETE'")
        except sqlite3.OperationalError:  # the tables are being made
            return 0
    return count


@pytest.mark.slow
def test_a_run_is_judged_by_people_held_out_though_its_last_epoch_was_not_scored(tmp_path: Path) -> None:
    arguments = [*SMALLEST, "validation.on=held_out", "validation.monitor=[all/single/mAP]"]
    judged = train(compose("train", [*arguments, f"data_dir={tmp_path}", f"run_dir={tmp_path / 'run'}"]))
    assert judged is not None
    assert math.isfinite(judged)
    results = Results.read(tmp_path / "run")
    assert results.monitored == judged
    assert results.scores["last"]["all/single"]["mAP"]["mean"] != judged
    assert repr(judged) in (tmp_path / "run/metrics.csv").read_text()


@pytest.mark.slow
def test_a_sweeper_gets_what_was_monitored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr("hydra._internal.callbacks.Callbacks.on_job_end", telling(told))
    monkeypatch.setattr("mpanet_pl.run.training.train", lambda cfg, *_: 10.0 * cfg.seed)
    assert type_in("train", door, ["-m", "seed=1,2", f"hydra.sweep.dir={tmp_path}"], monkeypatch) == 0
    assert told == [10.0, 20.0]


def telling(told: list[Any]):
    def on_job_end(self: object, *, job_return: Any, **_: Any) -> None:
        told.append(job_return.return_value)

    return on_job_end


@pytest.mark.slow
def test_a_search_is_stopped_and_goes_on_from_its_storage(tmp_path: Path) -> None:
    storage = tmp_path / "search.db"
    search = ["experiment=search", *SMALLEST, "data_dir=world", "trainer.check_val_every_n_epoch=1"]
    begun = command(*search, "hydra.sweeper.n_trials=9", cwd=tmp_path)
    deadline = time.monotonic() + 300
    while not finished(storage) and begun.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    begun.send_signal(signal.SIGINT)
    _, said = begun.communicate(timeout=120)
    assert begun.returncode == 130, said
    before = finished(storage)
    assert 1 <= before < 9

    prune = "+callbacks.prune={_target_: pytorch_lightning.callbacks.EarlyStopping, monitor: val/monitor, mode: max, "
    prune += "divergence_threshold: 101}"  # nobody comes so far
    done = command(*search, prune, "trainer.max_epochs=2", "hydra.sweeper.n_trials=2", cwd=tmp_path)
    _, said = done.communicate(timeout=300)
    assert done.returncode == 0, said
    assert finished(storage) == before + 2
    (found,) = (tmp_path / "runs/search").glob("*/optimization_results.yaml")
    assert "model.optimizer.lr" in found.read_text()

    results = [json.loads(file.read_text()) for file in sorted(found.parent.glob("*/results.json"))]
    assert [one["provenance"]["rows"]["last"]["epoch"] for one in results] == [1, 1], "pruned"
    assert len({one["provenance"]["config"]["model"]["optimizer"]["lr"] for one in results}) == 2
    remarks = " ".join(summarize([tmp_path / "runs/search"]).remarks())
    jobs = len(list(tmp_path.glob("runs/search/*/*/results.json")))
    assert f"among {jobs} configurations ({jobs} runs), by all/single/r1 on held-out training people" in remarks


@pytest.mark.slow
def test_ray_runs_two_jobs(tmp_path: Path) -> None:
    ray = ["hydra/launcher=ray", "+hydra.launcher.ray.init.num_cpus=1", "hydra.sweep.dir=sweep"]
    done = command("-m", *SMALLEST, "data_dir=world", "seed=1,2", *ray, cwd=tmp_path)
    _, said = done.communicate(timeout=400)
    assert done.returncode == 0, said
    assert all((tmp_path / "sweep" / job / "results.json").exists() for job in ("0", "1"))
