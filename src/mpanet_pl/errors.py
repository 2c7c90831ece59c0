"""What a person can mend, told in their words: what, where, and what to do."""

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager


class UserError(ValueError):
    """A mistake in what was asked for or handed in: the commands print it as a sentence and leave with exit code 2."""


class RunStopped(RuntimeError):
    """A run that cannot go on (a full disk, a loss that is no number): a sentence, and exit code 1."""


class UserErrors(UserError):
    """Several mistakes, told together."""

    def __init__(self, sentences: Collection[str]) -> None:
        self.sentences = sentences
        counted = [f"{len(sentences)} mistakes:"] if len(sentences) > 1 else []
        super().__init__("\n  ".join([*counted, *sentences]))

    def __reduce__(self) -> tuple[type, tuple[list[str]]]:
        return type(self), (list(self.sentences),)


class Gathered:
    """Mistakes, until all are found."""

    def __init__(self) -> None:
        self.sentences: dict[str, None] = {}

    def add(self, sentences: Iterable[str]) -> None:
        self.sentences |= dict.fromkeys(sentences)

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Go on after a mistake, and remember it."""
        try:
            yield
        except UserErrors as faults:
            self.add(faults.sentences)
        except UserError as fault:
            self.add([str(fault)])

    def tell(self) -> None:
        if self.sentences:
            raise UserErrors(self.sentences)


def down_to_the_cause(fault: BaseException | None) -> Iterator[BaseException]:
    """A fault and what lies under it: libraries bury a full disk, or Ctrl-C, under what they could not finish."""
    while fault is not None:
        yield fault
        fault = fault.__cause__ or fault.__context__
