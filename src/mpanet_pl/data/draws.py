"""Whose images meet in an epoch's batches: the published draw, and those of other recipes, by name.

The balanced draw is the published recipe's: per identity, shuffle both modalities, trim the longer to the shorter, pair
them and cut groups of K/2 infrared + K/2 visible images; a batch is one group each of P different identities.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Draw = Callable[[Integers, Integers, int, int, np.random.Generator], Integers]
Named = Literal["balanced", "uniform", "random", "with_replacement", "any_modality"]


def draw_balanced(owners: Integers, infrared: Integers, p: int, k: int, rng: np.random.Generator) -> Integers:
    """As many groups of an identity as its scarcer modality fills, dealt until fewer than `p` identities have one.

    `owners` are the images' identities, 0 … C-1; returns rows, (batches, p * k).

    >>> owners, infrared = np.repeat([0, 1, 2], 4), np.tile([0, 0, 1, 1], 3)  # three identities, 2 + 2 images each
    >>> batches = draw_balanced(owners, infrared, p=2, k=2, rng=np.random.default_rng(1))
    >>> batches.shape
    (3, 4)
    >>> infrared[batches[0]].tolist()
    [1, 0, 1, 0]
    """
    groups, group_owners = _cut_groups(owners, infrared, k, rng)
    return groups[_deal(group_owners, p, rng)].reshape(-1, p * k)


def draw_uniform(owners: Integers, infrared: Integers, p: int, k: int, rng: np.random.Generator) -> Integers:
    """Every identity equally often: passes over all of them, in a new order and with newly drawn images each time.

    There are as many passes as an identity has groups in the balanced draw, on average. The last identities of a pass,
    where they fill no batch, are left out.
    """
    _, group_owners = _cut_groups(owners, infrared, k, rng)
    count = owners.max() + 1
    passes = []
    for _ in range(round(len(group_owners) / count)):
        groups, group_owners = _cut_groups(owners, infrared, k, rng)
        first_groups = np.searchsorted(group_owners, rng.permutation(count))
        passes.append(groups[first_groups[: count // p * p]].reshape(-1, p * k))
    return np.concatenate(passes)


def draw_random(owners: Integers, infrared: Integers, p: int, k: int, rng: np.random.Generator) -> Integers:
    """Whoever comes: p * k / 2 infrared and as many visible images, until the scarcer modality is used up."""
    return _cut_groups(np.zeros_like(owners), infrared, p * k, rng)[0]


def draw_with_replacement(owners: Integers, infrared: Integers, p: int, k: int, rng: np.random.Generator) -> Integers:
    """AGW's sampler: each batch `p` identities, whoever came before, and of each k/2 + k/2 images with replacement.

    There are as many batches as would show each image of the richer modality once, and one more.

    >>> owners, infrared = np.repeat([0, 1, 2], 4), np.tile([0, 0, 0, 1], 3)
    >>> draw_with_replacement(owners, infrared, p=2, k=4, rng=np.random.default_rng(1)).shape  # 9 // (2 * 2) + 1
    (3, 8)
    """
    half = k // 2
    lists = 2 * owners + infrared  # (N,) one list per owner and modality
    in_lists = np.argsort(lists, kind="stable")
    counts = np.bincount(lists, minlength=2 * (owners.max() + 1))
    batches = np.bincount(infrared).max() // (p * half) + 1
    chosen = rng.random((batches, len(counts) // 2)).argsort(axis=1)[:, :p]  # (batches, p)

    def halves(modality: int) -> Integers:
        of = (2 * chosen + modality)[..., None]
        return in_lists[(np.cumsum(counts) - counts)[of] + rng.integers(counts[of], size=(batches, p, half))]

    return np.stack((halves(1), halves(0)), axis=3).reshape(batches, p * k)


def draw_any_modality(owners: Integers, infrared: Integers, p: int, k: int, rng: np.random.Generator) -> Integers:
    """M3-ReID's sampler: groups of `k` rows of an identity, whatever their modality, dealt as the balanced ones are.

    What fills no group is left out; an identity of fewer rows has one group, drawn with replacement.

    >>> owners = np.repeat([0, 1, 2], [9, 4, 2])
    >>> draw_any_modality(owners, owners, p=2, k=4, rng=np.random.default_rng(1)).shape  # groups: 2, 1, 1
    (2, 8)
    """
    shuffled = np.lexsort((rng.random(len(owners)), owners))
    counts = np.bincount(owners)
    group_owners, turn = _turns(np.maximum(counts // k, 1))
    groups = shuffled[_places(counts, group_owners, turn, k, rng)]
    return groups[_deal(group_owners, p, rng)].reshape(-1, p * k)


DRAWS: dict[Named, Draw] = {
    "balanced": draw_balanced,
    "uniform": draw_uniform,
    "random": draw_random,
    "with_replacement": draw_with_replacement,
    "any_modality": draw_any_modality,
}


def _cut_groups(owners: Integers, infrared: Integers, size: int, rng: np.random.Generator) -> tuple[Integers, Integers]:
    """Groups (G, size) of rows that alternate infrared, visible; and whose they are (G,), ascending.

    No row is in two groups, except where an owner has fewer than size / 2 images of a modality: then it has one group,
    and those images are drawn with replacement.
    """
    half = size // 2
    lists = 2 * owners + infrared  # (N,) one list per owner and modality
    shuffled = np.lexsort((rng.random(len(lists)), lists))  # list by list, each in random order
    counts = np.bincount(lists, minlength=2 * (owners.max() + 1))
    group_owners, turn = _turns(np.maximum(counts.reshape(-1, 2).min(axis=1) // half, 1))
    infrareds, visibles = (
        shuffled[_places(counts, 2 * group_owners + modality, turn, half, rng)] for modality in (1, 0)
    )
    return np.stack((infrareds, visibles), axis=2).reshape(-1, size), group_owners


def _turns(groups_of: Integers) -> tuple[Integers, Integers]:
    """Of the numbers of groups that each list has (C,): each group's list, and which of its list's it is, from 0."""
    group_lists = np.repeat(np.arange(len(groups_of)), groups_of)  # (G,)
    return group_lists, np.arange(len(group_lists)) - np.repeat(np.cumsum(groups_of) - groups_of, groups_of)


def _places(counts: Integers, lists: Integers, turn: Integers, size: int, rng: np.random.Generator) -> Integers:
    """(G, size) places in the lists, which have `counts` entries one after another: the next `size` entries of each
    group's list, or as many drawn with replacement from a list that has fewer."""
    count = counts[lists][:, None]
    in_turn = turn[:, None] * size + np.arange(size)
    places = np.where(count < size, rng.integers(count, size=in_turn.shape), in_turn)
    return (np.cumsum(counts) - counts)[lists][:, None] + places


def _deal(group_owners: Integers, p: int, rng: np.random.Generator) -> Integers:
    """Group numbers (batches, p): each batch a uniform choice of `p` owners among those with groups left."""
    left = np.bincount(group_owners)
    upcoming = np.cumsum(left) - left
    batches = []
    while len(candidates := np.flatnonzero(left)) >= p:
        chosen = rng.choice(candidates, p, replace=False)
        batches.append(upcoming[chosen])
        upcoming[chosen] += 1
        left[chosen] -= 1
    return np.stack(batches)
