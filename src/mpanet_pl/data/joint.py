"""Several datasets as one: trained on together, and each tested by its own protocol.

A path begins with its dataset's name. Training identities are 0 … C-1 over all; elsewhere a number says whose it is:
person 7 of the third dataset is 3 * 10^9 + 7, camera 2 of the first is 1 * 10^6 + 2, as `whose` takes them apart again.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from mpanet_pl.data.catalogue import Catalogue, Dataset, Root, Splits
from mpanet_pl.data.draws import Draw
from mpanet_pl.data.faults import BrokenDataset, Faults
from mpanet_pl.data.layout import DatasetOnDisk
from mpanet_pl.data.mixing import Mix, check_shares
from mpanet_pl.errors import UserError
from mpanet_pl.system.ranges import checked
from mpanet_pl.system.targets import TARGET, build, named

PEOPLE, CAMERAS = 10**9, 10**6  # a dataset's own numbers are below


@checked
class Joint(DatasetOnDisk):
    """Trains on the people of `train_on`, tests on those of `test_on`; none of the latter is among the former.

    Args:
        members: datasets by name, or `_target_` and its keywords; those that are neither trained nor tested on are not
            looked at.
        train_on: names of those trained on, in the order of their identities.
        test_on: likewise of those tested on.
        mixing: `mixed`, a batch has people of all; `pure`, a batch is of one dataset.
        shares: how much of the batches each has; None: as many as it fills.
    """

    name = "The joint dataset"
    config = "joint"
    protocol = "mpanet_pl.evaluation.JointProtocol"

    def __init__(
        self,
        *,
        members: Mapping[str, Dataset | Mapping[str, Any]],
        train_on: Sequence[str],
        test_on: Sequence[str],
        mixing: Literal["mixed", "pure"] = "mixed",
        shares: Mapping[str, float] | None = None,
    ) -> None:
        self.train_on, self.test_on = list(train_on), list(test_on)
        self.names = list(dict.fromkeys([*train_on, *test_on]))
        if not test_on:
            raise UserError(
                "test_on names at least one dataset, and so does train_on for a training: 'test_on=[regdb]'."
            )
        if unknown := [name for name in self.names if name not in members]:
            raise UserError(f"train_on and test_on take {', '.join(members)}, got {', '.join(unknown)}.")
        if shares is not None:
            check_shares(shares, self.train_on)
        self.mixing, self.shares = mixing, shares
        self.members: dict[str, Dataset] = {}
        for name in self.names:
            member = members[name]
            given = isinstance(member, Mapping) and TARGET in member
            self.members[name] = build(member, f"data.dataset.members.{name}") if given else member  # type: ignore[arg-type, assignment]
        super().__init__(Path(self.members[self.names[0]].root).parent)

    @classmethod
    def trials_of(cls, settings: Mapping[str, Any]) -> range | None:
        """Those of the first member in use that has some."""
        members = settings.get("members") or {}
        used = (members.get(name) for name in [*(settings.get("train_on") or []), *(settings.get("test_on") or [])])
        targets = (one[TARGET] for one in used if isinstance(one, Mapping) and TARGET in one)
        trials = (getattr(named(target, "data.dataset.members"), "trials", None) for target in targets)
        return next(filter(None, trials), None)

    @property
    def terms(self) -> str:  # type: ignore[override]
        return "; ".join(f"{name}: {getattr(member, 'terms', 'unknown')}" for name, member in self.members.items())

    @property
    def check_command(self) -> str:
        commands = (getattr(member, "check_command", "") for member in self.members.values())
        return " and ".join(filter(None, commands))

    def hints(self) -> list[str]:
        members = ((name, getattr(member, "hints", list)) for name, member in self.members.items())
        found = ((name, hint.replace("data_dir=", f"data_dirs.{name}=")) for name, hints in members for hint in hints())
        return [f"{name}: {hint}" for name, hint in found]

    def prepare(self) -> None:
        for member in self.members.values():
            member.prepare()

    def warnings(self, splits: Splits, protocol: object = None) -> Iterator[str]:
        for name, member in self.members.items():
            if isinstance(member, DatasetOnDisk):
                yield from (f"{name}: {warning}" for warning in member.warnings(member.read(), protocol))

    def oddities(self, splits: Splits) -> Iterator[str]:
        for name, member in self.members.items():
            if isinstance(member, DatasetOnDisk):
                yield from (f"{name}: {oddity}" for oddity in member.oddities(member.read()))

    def read(self) -> Splits:
        faults, parts = Faults(), {}
        for name, member in self.members.items():
            try:
                parts[name] = member.read()
            except BrokenDataset as broken:
                parts[name] = broken.splits
                for kind, found in broken.faults.kinds():
                    faults.add(f"{name}: {kind}", found)
        places: dict[Path, str] = {}
        for name, member in self.members.items():
            other = places.setdefault(Path(member.root).resolve(), name)
            faults.add("datasets of one folder", [f"{other} and {name}: {member.root}"] if other != name else [])
        splits = self._join(parts)
        if not faults:
            trained, tested = (set(part.sources or ()) for part in (splits.train, splits.test))
            faults.add("people in both train and test", sorted(trained & tested))
        if faults:
            message = "\n".join([f"{self.name} cannot be used:", str(faults), *self.hints()])
            raise BrokenDataset(message, faults, splits)
        return splits

    def list_splits(self, faults: Faults) -> Splits:
        """The members' splits as one; `read` also says whose faults are whose."""
        return self._join({name: member.read() for name, member in self.members.items()})

    def _join(self, parts: Mapping[str, Splits]) -> Splits:
        order = {name: place for place, name in enumerate(self.names, start=1)}
        trains, held_out, numbers, start = [], [], [], 0
        for name in self.train_on:
            part = parts[name]
            count = part.train.num_identities
            own = torch.arange(count) if part.numbers is None else part.numbers
            numbers.append(_numbered(own, order[name], PEOPLE, name))
            held_out.append(part.validators() if count else torch.zeros(0, dtype=torch.bool))
            trains.append(replace(_of(name, order[name], part.train), identities=part.train.identities + start))
            start += count
        tests = []
        for name in self.test_on:
            test = _of(name, order[name], parts[name].test)
            tests.append(replace(test, identities=_numbered(test.identities, order[name], PEOPLE, name)))
        roots = {
            name: Root(Path(self.members[name].root), tuple(sorted({*part.train.paths, *part.test.paths})))
            for name, part in parts.items()
        }
        if not trains:  # who only tests
            return Splits(Catalogue.from_rows([]), joined(tests), roots=roots)
        return Splits(joined(trains), joined(tests), torch.cat(held_out), torch.cat(numbers), roots)

    def draw(self, train: Catalogue, base: Draw) -> Draw | None:
        """The draw of batches of this training split, made of the draw of one dataset; None: `base` over everybody."""
        if self.mixing == "mixed" and self.shares is None:
            return None
        place = {name: number for number, name in enumerate(self.train_on)}
        _, owners = train.identities.unique(return_inverse=True)
        dataset_of = torch.zeros(train.num_identities, dtype=torch.int64)
        dataset_of[owners] = torch.tensor([place[path.partition("/")[0]] for path in train.paths])
        shares = None if self.shares is None else tuple(self.shares[name] for name in self.train_on)
        return Mix(dataset_of.numpy(), base, self.mixing == "pure", shares)


def whose(numbers: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """Which dataset each of a joint catalogue's numbers belongs to, counted from 1, and its own number there.

    >>> whose(torch.tensor([3_000_000_007]), PEOPLE)
    (tensor([3]), tensor([7]))
    """
    return numbers // stride, numbers % stride


def own_part(catalogue: Catalogue, name: str, place: int) -> tuple[Tensor, Catalogue]:
    """A dataset's rows (M,) in a joint catalogue, and those rows as the dataset alone has them."""
    rows = (catalogue.cameras // CAMERAS == place).nonzero().flatten()
    part = catalogue[rows]
    own = replace(
        part,
        paths=tuple(path.removeprefix(f"{name}/") for path in part.paths),
        identities=part.identities % PEOPLE,
        cameras=part.cameras % CAMERAS,
    )
    return rows, own


def joined(parts: Sequence[Catalogue]) -> Catalogue:
    """Catalogues one after another. Optional columns are those that all have; tracklets count on."""
    sources = [part.sources or ("",) * len(part) for part in parts]
    tracks: list[Tensor] = []
    for part in parts:
        if part.tracks is not None:
            start = int(tracks[-1].max()) + 1 if tracks and len(tracks[-1]) else 0
            tracks.append(part.tracks + start)
    return Catalogue(
        tuple(path for part in parts for path in part.paths),
        torch.cat([part.identities for part in parts]),
        torch.cat([part.cameras for part in parts]),
        torch.cat([part.infrared for part in parts]),
        tracks=torch.cat(tracks) if len(tracks) == len(parts) else None,
        sources=tuple(source for some in sources for source in some),
    )


def _of(name: str, place: int, catalogue: Catalogue) -> Catalogue:
    return replace(
        catalogue,
        paths=tuple(f"{name}/{path}" for path in catalogue.paths),
        cameras=_numbered(catalogue.cameras, place, CAMERAS, name),
        sources=catalogue.sources or tuple(f"{name}:{path.rpartition('/')[0]}" for path in catalogue.paths),
    )


def _numbered(own: Tensor, place: int, stride: int, name: str) -> Tensor:
    if len(own) and not 0 <= int(own.min()) <= int(own.max()) < stride:
        raise UserError(f"{name} numbers people or cameras above {stride:,}: it cannot be joined with others.")
    return own + place * stride
