"""Loggers beside metrics.csv: built from configuration, continued with their run, told the table and the pictures."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import Logger, MLFlowLogger, TensorBoardLogger

from mpanet_pl.errors import RunStopped, UserError
from mpanet_pl.evaluation.tables import COLUMNS, Results
from mpanet_pl.run.record import Record
from mpanet_pl.run.settings import plain

NEEDS: dict[type[Logger], tuple[str, ...]] = {  # packages, of which each logger needs one
    MLFlowLogger: ("mlflow",),
    TensorBoardLogger: ("tensorboard", "tensorboardX"),
}


def check_loggers(cfg: DictConfig) -> None:
    """Raise a `UserError` where something is to be called that is no logger, or whose package is not installed."""
    for settings in _named(cfg).values():
        target = settings.get("_target_")
        try:
            found = get_object(str(target))
        except Exception as error:  # whatever importing somebody's module comes to
            raise UserError(f"The logger {target} cannot be found: {error}") from error
        if not (isinstance(found, type) and issubclass(found, Logger)):
            raise UserError(f"{target} is no logger of Lightning's.")
        if (packages := NEEDS.get(found)) and not any(map(find_spec, packages)):
            raise UserError(f"{found.__name__} needs {packages[0]}: pip install 'mpanet_pl[{packages[0]}]'.")


def _named(cfg: DictConfig) -> dict[str, DictConfig]:
    chosen = cfg.get("logger") or OmegaConf.create({})
    return {"logger": chosen} if "_target_" in chosen else {str(name): logger for name, logger in chosen.items()}


def build_loggers(cfg: DictConfig, folder: Path, earlier: Record | None) -> dict[str, Logger]:
    """By name; a run that is continued goes on in each logger's own run of it."""
    named = _named(cfg)
    known = earlier.loggers if earlier else {}
    return {name: _build(logger, folder, known.get(name), cfg) for name, logger in named.items()}


def _build(settings: DictConfig, folder: Path, version: Any, cfg: DictConfig) -> Logger:
    again = "run_id" if settings["_target_"].endswith("MLFlowLogger") else "version"
    continued = {} if version is None else {again: version}
    place = {} if again == "run_id" else {"save_dir": str(folder)}
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # MLflow 3 asks for leave to keep runs in a folder
    try:
        logger: Logger = instantiate(settings, **place, **continued)
        if version is None:
            logger.log_hyperparams(plain(cfg, resolve=True))
    except (HydraException, ModuleNotFoundError) as error:
        cause = error.__cause__ or error
        raise RunStopped(f"The logger {settings['_target_']} cannot be made: {cause}") from error
    except Exception as error:  # no account, no network, no such project: there is no end to the kinds
        raise RunStopped(f"The logger cannot begin: {error} (A new run with logger=csv can.)") from error
    return logger


def log_results(logger: Logger, results: Results, folder: Path) -> None:
    """The final table and the pictures, to those that take them; nothing is lost where one refuses."""
    pictures = sorted(folder.glob("*.png"))
    try:
        if isinstance(logger, TensorBoardLogger):
            _log_to_tensorboard(logger, results, pictures)
        elif isinstance(logger, MLFlowLogger):
            for file in [*pictures, folder / "results.md", folder / "results.json"]:
                logger.experiment.log_artifact(logger.run_id, str(file))
        elif hasattr(logger, "log_image"):
            header, rows = _flat_table(results)
            logger.log_table("results", columns=header, data=rows)  # type: ignore[attr-defined]
            for file in pictures:
                logger.log_image(file.stem, [str(file)])
    except Exception as error:  # as above
        print(f"{type(logger).__name__} did not take the results: {error}", file=sys.stderr)


def _log_to_tensorboard(logger: TensorBoardLogger, results: Results, pictures: list[Path]) -> None:
    import numpy as np
    from PIL import Image

    logger.experiment.add_text("results", results.markdown())
    for file in pictures:
        with Image.open(file) as picture:
            logger.experiment.add_image(file.stem, np.asarray(picture.convert("RGB")), dataformats="HWC")
    logger.experiment.close()  # Lightning's own end was that of the fit: what came since would wait for the process's


def _flat_table(results: Results) -> tuple[list[str], list[list[Any]]]:
    rows = [
        [row, setting, *(scores[name]["mean"] for name in COLUMNS)]
        for row, settings in results.scores.items()
        for setting, scores in settings.items()
    ]
    return ["result", "setting", *COLUMNS], rows
