"""Everything wrong with a dataset, told at once: at a bounded length, or in full where the full check is asked for."""

from collections.abc import Iterable

from mpanet_pl.data.catalogue import Splits
from mpanet_pl.errors import UserError

SHOWN = 20  # of each kind of fault


class Faults:
    """What is wrong, gathered by kind.

    >>> faults = Faults()
    >>> faults.add("missing folders", ["cam1", "cam3"])
    >>> print(faults)
    - missing folders (2): cam1, cam3
    """

    def __init__(self) -> None:
        self._found: dict[str, list[str]] = {}

    def add(self, kind: str, what: Iterable[object]) -> None:
        if found := [str(one) for one in what]:
            self._found.setdefault(kind, []).extend(found)

    def kinds(self) -> Iterable[tuple[str, list[str]]]:
        return self._found.items()

    def __bool__(self) -> bool:
        return bool(self._found)

    def __str__(self) -> str:
        return "\n".join(f"- {kind} ({len(found)}): {listed(found)}" for kind, found in self._found.items())

    def in_full(self) -> str:
        return "\n".join(f"- {kind} ({len(found)}): {', '.join(found)}" for kind, found in self._found.items())


class BrokenDataset(UserError):
    """A folder that cannot be used as it is: its faults, and the splits as far as they could be read."""

    def __init__(self, message: str, faults: Faults, splits: Splits) -> None:
        super().__init__(message)
        self.faults = faults
        self.splits = splits


def listed(items: Iterable[object]) -> str:
    """The first few, and how many more: enough to act on.

    >>> listed(range(22))
    '0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19 and 2 more'
    """
    every = [str(item) for item in items]
    more = f" and {len(every) - SHOWN} more" if len(every) > SHOWN else ""
    return ", ".join(every[:SHOWN]) + more
