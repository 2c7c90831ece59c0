"""The form of a door: what was typed is checked at once, a mistake leaves as a sentence, Ctrl-C as a word.

A command NAME is `conf/NAME.yaml` (keys, --help), a table of their hints in a room (`run/run_keys.py`), its name in
tests/test_house.py, and a file at the root that imports a room when it is entered, like `mpanet_pl/prepare.py`: nothing
that a door's first lines import may bring torch. One with arguments of its own (`mistakes.Arguments`) stands within
`with door("NAME"):`. Rooms raise `UserError` (exit code 2), `RunStopped` or OSError (1); nothing else is caught.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mpanet_pl.cli.mistakes import exit_code, is_mistake, root, sentence
from mpanet_pl.errors import RunStopped, down_to_the_cause
from mpanet_pl.system.output import enduring_output
from mpanet_pl.system.processes import STOPPED

if TYPE_CHECKING:
    from mpanet_pl.cli.application import Task


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
        except (KeyboardInterrupt, SystemExit, Exception) as leaving:
            if _is_ctrl_c(leaving):
                print(f"\n{name}: stopped", file=sys.stderr)
                sys.exit(STOPPED)
            if isinstance(leaving, SystemExit) or not is_mistake(leaving) or full_errors():
                raise
            mistake = root(leaving)
            print(f"{name}: {sentence(mistake)}", file=sys.stderr)
            sys.exit(exit_code(mistake))


def _is_ctrl_c(leaving: BaseException) -> bool:
    """Lightning answers it by a SystemExit of its own, others bury it under what they could not finish."""
    said = isinstance(leaving, SystemExit) and leaving.code == STOPPED
    return not said and any(isinstance(fault, KeyboardInterrupt) for fault in down_to_the_cause(leaving))


def full_errors() -> bool:
    return os.environ.get("HYDRA_FULL_ERROR", "0") not in ("", "0")
