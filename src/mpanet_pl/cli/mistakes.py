"""What leaves a command without a traceback: a user's mistakes, or what stops a run; sentences and exit codes."""

import argparse
from typing import NoReturn

from mpanet_pl.errors import RunStopped, UserError


class Arguments(argparse.ArgumentParser):
    """argparse, whose complaints are sentences like everybody's."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message[:1].upper()}{message[1:]}. --help shows examples.")


def is_mistake(error: BaseException) -> bool:
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    return isinstance(error, UserError | RunStopped | HydraException | OmegaConfBaseException | OSError)


def exit_code(mistake: BaseException) -> int:
    from hydra.errors import HydraException

    return 1 if isinstance(mistake, RunStopped | OSError) and not isinstance(mistake, HydraException) else 2


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
