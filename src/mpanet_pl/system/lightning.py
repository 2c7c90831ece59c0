"""Lightning kept within its task: without its hints, and without its traces in this process."""

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning_fabric.utilities.warnings import PossibleUserWarning


@contextmanager
def quiet() -> Iterator[None]:
    """Without Lightning's hints, whose advice (more workers, other loggers) does not fit these runs."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=PossibleUserWarning)
        warnings.filterwarnings("ignore", module=r"(pytorch_lightning|lightning_fabric)\.")
        warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)  # Lightning's use of torch
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextmanager
def isolated() -> Iterator[None]:
    """Leave no trace of a run's ranks and logs behind, so that the next run of a sweep starts its own."""
    before = dict(os.environ)
    try:
        yield
    finally:
        if wandb := sys.modules.get("wandb"):
            wandb.finish(exit_code=int(sys.exc_info()[0] is not None))
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        os.environ.clear()
        os.environ.update(before)
