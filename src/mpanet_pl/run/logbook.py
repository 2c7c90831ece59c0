"""run.log: what happened in a run, line by line with its time. A run that goes on adds to it."""

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mpanet_pl.errors import RunStopped, UserError
from mpanet_pl.system.processes import is_child_rank, rank_of_outer_launcher

LOG = "run.log"
PACKAGE = logging.getLogger(__name__.partition(".")[0])
LINE = logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S")

logger = logging.getLogger(__name__)


@contextmanager
def logged(folder: Path) -> Iterator[None]:
    """Meanwhile run.log gets what this package logs, every warning, and how it ended; of several ranks the first's."""
    if is_child_rank() or rank_of_outer_launcher():
        yield
        return
    handler = logging.FileHandler(folder / LOG, encoding="utf-8")
    handler.setFormatter(LINE)
    level, show = PACKAGE.level, warnings.showwarning

    def showing(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        handler.handle(logging.makeLogRecord({"msg": f"{category.__name__}: {message}", "levelno": logging.WARNING}))
        show(message, category, *where, **more)

    PACKAGE.addHandler(handler)
    PACKAGE.setLevel(logging.INFO)
    warnings.showwarning = showing
    try:
        yield
    except (UserError, RunStopped) as stop:
        logger.info("stopped: %s", stop)
        raise
    except BaseException:
        logger.info("stopped", exc_info=True)
        raise
    finally:
        warnings.showwarning = show
        PACKAGE.removeHandler(handler)
        PACKAGE.setLevel(level)
        handler.close()


def say(text: str) -> None:
    """On standard error and in the log."""
    print(text, file=sys.stderr, flush=True)
    logger.info("%s", text)
