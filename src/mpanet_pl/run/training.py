"""`python -m mpanet_pl.train`: train MPANet, test its last and its best epoch, print the table."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from mpanet_pl.errors import RunStopped, UserError
from mpanet_pl.evaluation import ReIDMetric
from mpanet_pl.evaluation.outcomes import QUERIES, write_queries
from mpanet_pl.evaluation.tables import JSON as RESULTS
from mpanet_pl.evaluation.tables import MARKDOWN, Results
from mpanet_pl.module import MPANetModule
from mpanet_pl.run.callbacks import Checkpoints, FiniteGuard, LiveProgress, RetrievalScoring, RunLogger, Timing
from mpanet_pl.run.callbacks.checkpoints import LAST, epochs_done
from mpanet_pl.run.callbacks.scoring import MONITOR
from mpanet_pl.run.configuration import NOTHING_TYPED, Request, plain
from mpanet_pl.run.examination import Examiner, Know, know_nothing
from mpanet_pl.run.folder import begun_in_sweep, provenance, reopen, run_folder
from mpanet_pl.run.pictures import draw_curves
from mpanet_pl.run.report import draw_pictures, tell
from mpanet_pl.run.trainer import build_trainer, failures_explained, isolated, quiet
from mpanet_pl.system.shell import typed

NEXT = """
Files of the run: {folder}
{files}

Next
  python -m mpanet_pl.evaluate {ckpt} rerank=k_reciprocal
  python -m mpanet_pl.train {resume} trainer.max_epochs=…      train longer
  python -m mpanet_pl.train dataset=sysu data_dir=…                   your dataset: sysu, regdb, llcm, folder"""


def train(cfg: DictConfig, request: Request = NOTHING_TYPED, know: Know = know_nothing) -> None:
    resumed = cfg.resume is not None
    if resumed:
        cfg = reopen(cfg.resume, request)
    cfg.data_dir = str(Path(cfg.data_dir).expanduser().absolute())
    if begun := begun_in_sweep(cfg, request):
        if (begun / RESULTS).exists():
            print(f"{begun} is finished and stays as it is.")
            return
        resumed, cfg.run_dir = True, str(begun)
        epochs_done(begun)  # says what is wrong with its checkpoints
    with quiet(), isolated():
        # What can be refused is refused before there is a folder.
        world = build_trainer(cfg.trainer).world_size
        seed_everything(cfg.seed)
        data = instantiate(cfg.data)
        data.prepare_data()
        data.setup("fit")
        data.training_batches(world=world)
        metric = ReIDMetric(data.test, instantiate(cfg.protocol))
        examiner = Examiner(data, RetrievalScoring(metric, **cfg.validation), know)
        goes_on = bool(cfg.run_dir) and (Path(cfg.run_dir) / LAST).exists()
        module = build_module(cfg, data.num_identities, new=not goes_on)
        module.configure_optimizers()
        with run_folder(cfg, request, resumed) as folder, failures_explained(folder):
            fit_and_test(cfg, request, folder, module, examiner)


def seed_everything(seed: int) -> None:
    try:
        pl.seed_everything(seed, workers=True, verbose=False)
    except ValueError as error:
        raise UserError(f"seed: {error}.") from error


def build_module(cfg: DictConfig, num_identities: int, *, new: bool = True) -> MPANetModule:
    """As configured; pretrained weights are for a new one, which no checkpoint brings its own to."""
    model = cfg.model if new else OmegaConf.merge(cfg.model, {"network": {"pretrained": False}})
    module: MPANetModule = instantiate(model, num_identities)
    if cfg.channels_last:
        module = module.to(memory_format=torch.channels_last)
    if cfg.compile:
        torch._dynamo.reset()  # a sweep's jobs share one process, and what each compiled counts towards one limit
        module.network.compile()
        module.criterion.compile()
    return module


def fit_and_test(cfg: DictConfig, request: Request, folder: Path, module: MPANetModule, examiner: Examiner) -> None:
    """Train from the last finished epoch on, test, and leave the results in the run's folder."""
    done = epochs_done(folder)
    checkpoints = Checkpoints(folder, MONITOR, config=plain(cfg))
    records = RunLogger(folder, done)
    trainer = build_trainer(
        cfg.trainer,
        [FiniteGuard(examiner.data.train.paths), *examiner.callbacks, Timing(folder), LiveProgress(), checkpoints],
        [records, *extra_loggers(cfg, folder)],
    )
    if trainer.is_global_zero:
        for file in (RESULTS, MARKDOWN):
            (folder / file).unlink(missing_ok=True)  # a run that goes on has none yet
    trainer.fit(
        module,
        datamodule=examiner.data,
        ckpt_path=checkpoints.last if done else None,
        weights_only=True if done else None,
    )
    tested = {"last": examiner.test(trainer, module, checkpoints.last)}
    if checkpoints.best_epoch not in (None, trainer.current_epoch):
        tested["best"] = examiner.test(trainer, module, checkpoints.best)
    elif checkpoints.best_epoch:
        tested["best"] = tested["last"]
    if trainer.is_global_zero:
        scores = {row: result.scores for row, result in tested.items()}
        results = Results.of(
            scores,
            examiner.published,
            provenance(cfg, request, trainer.strategy.root_device, trainer.precision, trainer.world_size),
            nuances=tested["last"].nuances,
            tables=tested["last"].tables,
            notes=[*tested["last"].remarks, examiner.chance, *cfg.get("changes", [])],
        )
        results.print()
        draw_curves(folder / "metrics.csv", folder / "curves.png")
        draw_pictures(folder, tested["last"], examiner, module)
        for logger in trainer.loggers:
            tell(logger, results, folder)
        write_queries(folder / QUERIES, scores, examiner.data.test.paths)
        results.write(folder)  # last: a run that has results is finished
        ckpt, resume = typed("ckpt", folder / LAST), typed("resume", folder)
        print(NEXT.format(folder=folder, files=_files_of(folder), ckpt=ckpt, resume=resume))


def _files_of(folder: Path) -> str:
    files = [*folder.glob("*.*"), *folder.glob("checkpoints/*.ckpt")]
    return textwrap.fill(
        ", ".join(sorted(str(file.relative_to(folder)) for file in files)),
        width=100,
        initial_indent="  ",
        subsequent_indent="  ",
    )


def extra_loggers(cfg: DictConfig, folder: Path) -> list[Any]:
    if not cfg.get("logger"):
        return []
    logger = instantiate(cfg.logger, save_dir=folder)
    try:
        logger.log_hyperparams(plain(cfg))
    except Exception as error:  # no account, no network, no such project: there is no end to the kinds
        raise RunStopped(f"The logger cannot begin: {error} (A new run with logger.offline=true can.)") from error
    return [logger]
