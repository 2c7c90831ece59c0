"""Standard output and error that may be closed, full, or without a reader: what is lost there loses nothing else."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any


class Enduring:
    """A stream that is written to as long as it takes anything; `fault` is why it no longer does."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.fault: Exception | None = None

    def write(self, text: str) -> int:
        self._try(self.stream.write, text)
        return len(text)

    def flush(self) -> None:
        self._try(self.stream.flush)

    def _try(self, act: Any, *arguments: Any) -> None:
        if self.fault is None:
            try:
                act(*arguments)
            except (OSError, ValueError) as fault:  # the second where it is closed
                self.fault = fault
                with suppress(OSError, ValueError):  # what Python still holds back of it goes nowhere, without a word
                    os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def enduring_output() -> Iterator[Enduring]:
    """Both streams endure meanwhile; yields standard output."""
    for stream in range(3):  # a closed one's number would be given to the next file that is opened
        try:
            os.fstat(stream)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    before = sys.stdout, sys.stderr
    output, errors = (Enduring(stream or open(os.devnull, "w")) for stream in before)  # noqa: SIM115
    sys.stdout, sys.stderr = output, errors
    try:
        yield output
    finally:
        output.flush()
        errors.flush()
        sys.stdout, sys.stderr = before
