"""Train MPANet, test its last and its best epoch, leave results, pictures and the table."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import LearningRateFinder

from mpanet_pl.data.seen import Seen
from mpanet_pl.errors import UserError
from mpanet_pl.evaluation import check_matches
from mpanet_pl.evaluation.calibration import Calibration
from mpanet_pl.evaluation.callback import MONITOR, RetrievalScoring, check_monitor, monitored
from mpanet_pl.evaluation.tables import JSON as RESULTS
from mpanet_pl.evaluation.tables import MARKDOWN, Results
from mpanet_pl.features.queries import QUERIES, write_queries
from mpanet_pl.module import MPANetModule
from mpanet_pl.run.calibrating import cut_of, keep_in, threshold_of
from mpanet_pl.run.callbacks import (
    Checkpoints,
    FiniteGuard,
    LiveProgress,
    Reopened,
    RunLogger,
    ScoredAtTheEnd,
    SeededEpochs,
    Timing,
)
from mpanet_pl.run.callbacks.checkpoints import BEST, LAST, epochs_done
from mpanet_pl.run.datasets import build_data, build_protocol, foresee, make_ready, set_trial
from mpanet_pl.run.examination import Examiner, GroundTruthOf, Tested, no_ground_truth
from mpanet_pl.run.logbook import logged
from mpanet_pl.run.loggers import build_loggers, check_loggers, log_results
from mpanet_pl.run.record import Record
from mpanet_pl.run.report import draw_pictures, print_end
from mpanet_pl.run.request import NOTHING_TYPED, Request
from mpanet_pl.run.run_folder import begun_in_sweep, check_free, reopen, run_folder
from mpanet_pl.run.run_page import write_run_page
from mpanet_pl.run.settings import plain, without_recipes
from mpanet_pl.run.trainer import build_trainer, exact_where_narrow, failures_explained
from mpanet_pl.system.lightning import isolated, quiet

logger = logging.getLogger(__name__)


def train(
    cfg: DictConfig, request: Request = NOTHING_TYPED, ground_truth_of: GroundTruthOf = no_ground_truth
) -> float | None:
    """What was monitored of the last epoch, in percent: on people held out where there are some, else on the test's."""
    resumed = cfg.resume is not None
    if resumed:
        cfg = reopen(cfg.resume, request, cfg.get("trust"))
    cfg = without_recipes(cfg)
    set_trial(cfg)
    if cfg.data_dir is not None:
        cfg.data_dir = str(Path(cfg.data_dir).expanduser().absolute())
    if begun := begun_in_sweep(cfg, request):
        if (begun / RESULTS).exists():
            print(f"{begun} is finished and stays as it is.")
            return Results.read(begun).monitored
        resumed, cfg.run_dir = True, str(begun)
        epochs_done(begun)  # says what is wrong with its checkpoints
    check_free(cfg, request, resumed)
    with quiet(), isolated():
        # What can be refused is refused before anything is drawn, cached or trained.
        trainer = build_trainer(cfg.trainer)
        check_loggers(cfg)
        own = [instantiate(callback) for callback in cfg.callbacks.values()]
        seed_everything(cfg.seed)
        data = build_data(cfg.data, validation=cfg.validation.on)
        foresee(data)
        check_epoch(cfg.trainer.limit_train_batches, len(data.training_batches(world=trainer.world_size)))
        protocol = build_protocol(cfg.protocol, data.dataset)
        check_matches(data.test, protocol)
        check_matches(data.val, protocol.elsewhere() if data.val is not data.test else protocol)
        check_monitor(cfg.validation.monitor, data.test, protocol)
        goes_on = resumed and (Path(cfg.run_dir) / LAST).exists()
        module = build_module(cfg, data.num_identities, new=not goes_on)
        module.trainer = trainer
        module.configure_optimizers()
        module.trainer = None
        make_ready(data, "fit")
        protocol = build_protocol(cfg.protocol, data.dataset)  # a world that was drawn only now brings permutations
        examiner = Examiner(data, RetrievalScoring(protocol, monitor=cfg.validation.monitor), ground_truth_of)
        with run_folder(cfg, request, resumed) as folder, logged(folder), failures_explained(folder):
            return fit_and_test(cfg, request, folder, module, examiner, own)


def seed_everything(seed: int) -> None:
    try:
        pl.seed_everything(seed, workers=True, verbose=False)
    except ValueError as error:
        raise UserError(f"seed: {error}.") from error


def check_epoch(limit: float | None, batches: int) -> None:
    """Lightning takes a share of an epoch's batches, and stumbles over a share of less than one."""
    if isinstance(limit, float) and int(limit * batches) < 1:
        raise UserError(
            f"trainer.limit_train_batches={limit} of {batches} batches leaves none: say how many (1, 2, …)."
        )


def build_module(cfg: DictConfig, num_identities: int, *, new: bool = True) -> MPANetModule:
    """As configured; pretrained weights are for a new one, which no checkpoint brings its own to."""
    model = cfg.model if new else OmegaConf.merge(cfg.model, {"network": {"pretrained": False}})
    module: MPANetModule = instantiate(model, num_identities)
    if cfg.channels_last:
        for weight in module.parameters():
            if weight.ndim == 4:  # others, of three-dimensional convolutions, have no such format
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    else:
        module.network.register_forward_pre_hook(_planes)  # the loaders' images are in channels_last
    if cfg.compile:
        torch._dynamo.reset()  # a sweep's jobs share one process, and what each compiled counts towards one limit
        module.network.compile()
        module.criterion.compile()
    return module


def _planes(network: torch.nn.Module, images: tuple[Any, ...]) -> tuple[Any, ...]:
    return (images[0].contiguous(), *images[1:])


def fit_and_test(
    cfg: DictConfig,
    request: Request,
    folder: Path,
    module: MPANetModule,
    examiner: Examiner,
    own: Sequence[pl.Callback] = (),
) -> float | None:
    """Train from the last finished epoch on, test, and leave the results in the run's folder."""
    done, earlier = epochs_done(folder), Record.in_folder(folder)
    logger.info("%s%s", " ".join(["train", *request.overrides]), f", after epoch {done}" if done else "")
    loggers = build_loggers(cfg, folder, earlier)
    checkpoints = Checkpoints(folder, plain(cfg), start=cfg.validation.start)
    trainer = build_trainer(
        exact_where_narrow(cfg.trainer, module, examiner.data.height, examiner.data.width),
        [*_callbacks(cfg, folder, examiner, own, done), checkpoints],
        [RunLogger(folder, done), *loggers.values()],
        root=folder,
    )
    record = Record.of(trainer, module.network, dataset=cfg.dataset, trial=cfg.trial, seed=cfg.seed)
    record = replace(record, changes=tuple(cfg.get("changes", ())), loggers=_versions(loggers)).following(earlier)
    checkpoints.record = record
    checkpoints.seen = Seen.of(examiner.data.train, examiner.data.files(examiner.data.train, every=True))
    if trainer.is_global_zero:
        replace(record, epochs=done).write(folder)
        logger.info("%s", _first_lines(record, examiner))
    continued: dict[str, Any] = {"ckpt_path": checkpoints.last, "weights_only": True} if done else {}
    trainer.fit(module, datamodule=examiner.data, **continued)
    scored_last = checkpoints.scored == trainer.current_epoch - 1
    validated = trainer.callback_metrics.get(MONITOR) if scored_last else None
    held_out = {"last": examiner.held_out()} if scored_last else {}
    tested, rows = _test_rows(trainer, module, examiner, checkpoints, held_out)
    if cfg.validation.on == "test":
        score: float | None = monitored(tested["last"].scores, cfg.validation.monitor)
    else:  # a sweep that chooses by it does not choose on the test set
        score = examiner.validate(trainer, module) if validated is None else float(validated)
    if trainer.is_global_zero:
        record = replace(record, epochs=rows["last"]["epoch"])
        threshold = _leave_thresholds(folder, tested, examiner, rows, held_out)
        results = replace(_results(tested, examiner, record, cfg, request, rows, score), threshold=threshold)
        write_queries(
            folder / QUERIES,
            {row: of.scores for row, of in tested.items()},
            examiner.data.test.paths,
            networks={row: of.network for row, of in tested.items()},
            images=examiner.images,
        )
        results.write(folder)  # before anything that may fail
        record.write(folder)
        if cfg.get("pictures", True):  # a run that an older release began has no such key
            draw_pictures(folder, tested["last"], examiner, module, cut=cut_of(threshold, examiner.data.test))
        for one in loggers.values():
            log_results(one, results, folder)
        print_end(results, tested["last"], examiner, folder)
        write_run_page(folder, results)
    return score


def _callbacks(
    cfg: DictConfig, folder: Path, examiner: Examiner, own: Sequence[pl.Callback], done: int
) -> list[pl.Callback]:
    """The package's, then those of the user's `own`."""
    watching = [FiniteGuard(examiner.data.train.paths), SeededEpochs(cfg.seed), *examiner.callbacks]
    watching += [ScoredAtTheEnd()] if cfg.validation.get("last") else []
    if done:  # the rate that it found is in the checkpoint, and its search would make Lightning forget where it was
        own = [callback for callback in own if not isinstance(callback, LearningRateFinder)]
    return [*watching, Reopened(folder / RESULTS, folder / MARKDOWN), Timing(folder), LiveProgress(), *own]


def _first_lines(record: Record, examiner: Examiner) -> str:
    """What runs where, for the log."""
    train, test = examiner.data.train, examiner.data.test
    versions = ", ".join(f"{name} {number}" for name, number in record.versions.items())
    return (
        f"{record.dataset}: {len(train)} images of {train.num_identities} people to train on, {len(test)} of "
        f"{test.num_identities} to test; {record.weights} weights; {record.device}, {record.ranks} ranks, "
        f"{record.precision}; {versions}"
    )


def _versions(loggers: dict[str, Any]) -> dict[str, Any]:
    """By which each logger knows this run, to go on with it."""
    return {name: one.version for name, one in loggers.items()}


def _leave_thresholds(
    folder: Path,
    tested: dict[str, Tested],
    examiner: Examiner,
    rows: dict[str, dict[str, Any]],
    held_out: dict[str, Calibration | None],
) -> dict[str, Any]:
    """In each checkpoint its own; the last's goes into the results."""
    found: dict[str, dict[str, Any]] = {}
    for row, of in tested.items():
        if of is tested["last"] and "last" in found:
            found[row] = found["last"]  # one network, saved twice
        else:
            found[row] = threshold_of(of.embeddings, examiner.data.test, held_out.get(row, examiner.held_out()))
        keep_in(folder / rows[row]["checkpoint"], found[row])
    return found["last"]


def _test_rows(
    trainer: pl.Trainer,
    module: MPANetModule,
    examiner: Examiner,
    checkpoints: Checkpoints,
    held_out: dict[str, Calibration | None],
) -> tuple[dict[str, Tested], dict[str, dict[str, Any]]]:
    """The rows of the table, and the checkpoint that each is of. The last's weights stay in the module; whom the best
    did not see goes into `held_out`."""
    epochs = epochs_done(checkpoints.last.parents[1])
    if not epochs:
        raise UserError("No epoch came to its end, so there is nothing to test: give the run more time.")
    rows = {"last": {"checkpoint": LAST, "epoch": epochs}}
    best = None
    if checkpoints.best_epoch:
        rows["best"] = {"checkpoint": BEST, "epoch": checkpoints.best_epoch}
        if checkpoints.best_epoch != epochs:
            best = examiner.test(trainer, module, checkpoints.best)
            if examiner.held_out():
                examiner.validate(trainer, module)
                held_out["best"] = examiner.held_out()
    last = examiner.test(trainer, module, checkpoints.last)
    return {"last": last} | ({"best": best or last} if checkpoints.best_epoch else {}), rows


def _results(
    tested: dict[str, Tested],
    examiner: Examiner,
    record: Record,
    cfg: DictConfig,
    request: Request,
    rows: dict[str, dict[str, Any]],
    score: float | None,
) -> Results:
    last = tested["last"]
    spoilt = [str(examiner.data.corrupt_training)] if examiner.data.corrupt_training else []
    notes = [*record.changes, *([record.ended] if record.ended else []), *spoilt, *examiner.unlike]
    return Results.of(
        {row: result.scores for row, result in tested.items()},
        examiner.published,
        record.plain()
        | {
            "overrides": list(request.overrides),
            "config": plain(cfg),
            "rows": rows,
            "validation": cfg.validation.on,
            "monitored": score,
        },
        nuances=last.nuances,
        tables=last.tables,
        table_notes=[*last.remarks, examiner.chance],
        notes=notes,
    )
