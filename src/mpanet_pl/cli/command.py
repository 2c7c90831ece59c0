"""The form of a door: what was typed is checked at once, a mistake leaves as a sentence, Ctrl-C as a word.

A command NAME that Hydra configures is `conf/NAME.yaml` (its keys, its --help), its schema in `mpanet_pl.cli.schema`,
the name in tests/test_house.py, and a file at the root that imports a room only when it is entered:

    \"\"\"`python -m mpanet_pl.NAME`: what it does, in the line that `python -m mpanet_pl` lists.\"\"\"

    from mpanet_pl.cli.command import run_command

    def NAME(cfg, request=None):
        from mpanet_pl.room import thing  # after the checks: it brings torch

        thing.act(cfg.images, size=cfg.size)

    def main(arguments=None):
        run_command("NAME", NAME, arguments)

    if __name__ == "__main__":
        main()

One with arguments of its own (argparse) keeps the same file and stands within `with door("NAME"):`; there, too, rooms
are imported after the arguments are read. Rooms raise `UserError` (exit code 2), `RunStopped` or OSError (1); nothing
else has to be caught. Nothing that is imported here or by a door's first lines may bring torch.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mpanet_pl.errors import RunStopped, UserError
from mpanet_pl.system.output import enduring_output
from mpanet_pl.system.processes import STOPPED

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from mpanet_pl.run.configuration import Request

Task = Callable[["DictConfig", "Request"], object]  # what it gives is a sweeper's to judge the job by


def run_command(name: str, task: Task, arguments: Sequence[str] | None = None) -> None:
    """Run `task` on the configuration that `conf/NAME.yaml` and the arguments (those of the process) compose."""
    with door(name):
        from mpanet_pl.cli.application import compose_and_run  # within, so that Ctrl-C finds the door standing

        compose_and_run(name, task, sys.argv[1:] if arguments is None else arguments)


@contextmanager
def door(name: str) -> Iterator[None]:
    """Whatever a command meets leaves by here: 0, 1 where it could not go on, 2 for a mistake, 130 after Ctrl-C."""
    with enduring_output() as output:
        try:
            yield
            output.flush()
            if isinstance(output.fault, OSError) and not isinstance(output.fault, BrokenPipeError):
                raise RunStopped(f"not all could be printed ({output.fault.strerror}); files are whole.")
        except (KeyboardInterrupt, SystemExit) as leaving:
            if isinstance(leaving, SystemExit) and not _is_an_answer_to_ctrl_c(leaving):
                raise
            print(f"\n{name}: stopped", file=sys.stderr)
            sys.exit(STOPPED)
        except Exception as error:
            if not is_mistake(error) or full_errors():
                raise
            mistake = root(error)
            print(f"{name}: {sentence(mistake)}", file=sys.stderr)
            sys.exit(exit_code(mistake))


def exit_code(mistake: BaseException) -> int:
    from hydra.errors import HydraException

    return 1 if isinstance(mistake, RunStopped | OSError) and not isinstance(mistake, HydraException) else 2


def _is_an_answer_to_ctrl_c(leaving: SystemExit) -> bool:
    """Lightning leaves by a SystemExit of its own."""
    return leaving.code != STOPPED and isinstance(leaving.__context__, KeyboardInterrupt)


def full_errors() -> bool:
    return os.environ.get("HYDRA_FULL_ERROR", "0") not in ("", "0")


def is_mistake(error: BaseException) -> bool:
    """A user's, or what stops a run: to be told without a traceback."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    return isinstance(error, UserError | RunStopped | HydraException | OmegaConfBaseException | OSError)


def sentence(mistake: BaseException) -> str:
    if isinstance(mistake, OSError) and mistake.filename:
        return f"{mistake.filename}: {mistake.strerror}"
    wrapped_by_a_loader = f"{UserError.__module__}.{UserError.__qualname__}: "
    return str(mistake).rpartition(wrapped_by_a_loader)[2].strip()


def root(error: BaseException) -> BaseException:
    """The error itself, or the user's mistake that another wraps."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, UserError | RunStopped):
            return seen
        seen = seen.__cause__ or seen.__context__
    return error
