"""Runs of two methods that were asked the same, split by split and query by query; what differs is refused by name."""

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import torch

from mpanet_pl.errors import UserError
from mpanet_pl.evaluation.digests import Met, check_images, check_met
from mpanet_pl.evaluation.outcomes import Outcomes


class Answers(NamedTuple):
    """One run's queries in one setting, and the paths of the catalogue that they are rows of."""

    outcomes: Outcomes
    paths: Sequence[str]
    network: str | None = None  # which gave them: a digest, or another name
    met: Met | None = None  # None: a release before 0.3 kept no digests; likewise the next
    images: str | None = None  # digest of the test images

    @property
    def asked(self) -> list[str]:
        """Paths of its queries."""
        return [self.paths[row] for row in self.outcomes.queries.tolist()]

    def aligned(self, asked: Sequence[str]) -> Outcomes:
        """The outcomes of these queries, in this order."""
        place = {path: number for number, path in enumerate(self.asked)}
        return self.outcomes.of(torch.tensor([place[path] for path in asked]))


class Split(NamedTuple):
    """One split's runs of two methods."""

    sides: Sequence[Sequence[Outcomes]]  # whose queries have one order
    of_same_networks: bool  # then both sides have one order of networks, too


def by_split(first: Sequence[Answers], second: Sequence[Answers]) -> list[Split]:
    """Both methods' runs over each split; a `UserError` where they were not asked the same."""
    ours, theirs = _of_each_split(first), _of_each_split(second)
    if ours.keys() != theirs.keys():
        raise UserError(_not_the_same(first, second))
    splits = []
    for asked in ours:
        sides, same = _by_network(ours[asked], theirs[asked])
        splits.append(Split(_aligned(asked, *sides), same))
    return splits


def same_answers(one: Answers, other: Answers) -> bool:
    """Of one network, or with equal outcomes of every query."""
    asked = sorted(one.asked)
    if asked != sorted(other.asked):
        return False
    pairs = zip(one.aligned(asked)[2:], other.aligned(asked)[2:], strict=True)
    return one.network == other.network or all(torch.equal(mine, theirs) for mine, theirs in pairs)


def _of_each_split(runs: Sequence[Answers]) -> dict[tuple[str, ...], list[Answers]]:
    """By the paths of their queries, sorted."""
    splits: dict[tuple[str, ...], list[Answers]] = {}
    for run in runs:
        splits.setdefault(tuple(sorted(run.asked)), []).append(run)
    return splits


def _by_network(first: Sequence[Answers], second: Sequence[Answers]) -> tuple[list[Sequence[Answers]], bool]:
    """Both sides in one order where each network answers once on either; whether that is so."""
    sides = [{run.network: run for run in runs} for runs in (first, second)]
    once = len(sides[0]) == len(first) == len(second)
    if not once or None in sides[0] or sides[0].keys() != sides[1].keys():
        return [first, second], False
    return [[side[network] for network in sides[0]] for side in sides], True


def _aligned(asked: Sequence[str], *sides: Sequence[Answers]) -> list[list[Outcomes]]:
    aligned = [[run.aligned(asked) for run in runs] for runs in sides]
    model, met, images = aligned[0][0], sides[0][0].met, sides[0][0].images
    for run, outcomes in zip(chain(*sides), chain(*aligned), strict=True):
        if not torch.equal(outcomes.identities, model.identities) and not (met and met == run.met):
            raise UserError("The same queries show other people in one of them: the datasets are not the same.")
        if outcomes.first.shape != model.first.shape or not torch.equal(outcomes.first > 0, model.first > 0):
            raise UserError("The same queries met other galleries in one of them.")
        check_met(met, run.met)
        check_images(images, run.images)
    # One number a person: of several datasets it depends on which they are.
    return [[one._replace(identities=model.identities) for one in side] for side in aligned]


def _not_the_same(first: Sequence[Answers], second: Sequence[Answers]) -> str:
    ours, theirs = ({path for run in runs for path in run.asked} for runs in (first, second))
    if ours == theirs:
        return (
            "They were asked the same queries, but in other splits: a trial or a split of one is missing in the other."
        )
    return (
        f"They were not asked the same queries: of {len(ours)} and {len(theirs)} they share {len(ours & theirs)}. "
        "(Another dataset, split or trial?)"
    )
