"""Which images meet in a batch: whole batches of rows, a pure function of (seed, epoch, rank, world).

The balanced draw is the published recipe's: per identity, shuffle both modalities, trim the longer to the shorter, pair
them and cut groups of K/2 infrared + K/2 visible images; a batch is one group each of P different identities.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import islice, repeat

import numpy as np
from numpy.typing import NDArray
from torch.utils.data.distributed import DistributedSampler

from mpanet_pl.data.catalogue import Catalogue
from mpanet_pl.errors import UserError

Integers = NDArray[np.int64]
Draw = Callable[[Integers, Integers, int, int, np.random.Generator], Integers]
NAMED_AT_MOST = 5  # images in a message


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
    groups, _ = _cut_groups(np.zeros_like(owners), infrared, p * k, rng)
    return groups


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
    groups_of = np.maximum(counts // k, 1)  # (C,)
    group_owners = np.repeat(np.arange(len(counts)), groups_of)  # (G,)
    turn = np.arange(len(group_owners)) - np.repeat(np.cumsum(groups_of) - groups_of, groups_of)  # 0, 1, … per owner
    count, in_turn = counts[group_owners][:, None], turn[:, None] * k + np.arange(k)
    places = np.where(count < k, rng.integers(count, size=in_turn.shape), in_turn)
    groups = shuffled[(np.cumsum(counts) - counts)[group_owners][:, None] + places]  # (G, k)
    return groups[_deal(group_owners, p, rng)].reshape(-1, p * k)


DRAWS: dict[str, Draw] = {
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
    starts = np.cumsum(counts) - counts
    groups_of = np.maximum(counts.reshape(-1, 2).min(axis=1) // half, 1)  # (C,)
    group_owners = np.repeat(np.arange(len(groups_of)), groups_of)  # (G,)
    turn = np.arange(len(group_owners)) - np.repeat(np.cumsum(groups_of) - groups_of, groups_of)  # 0, 1, … per owner

    def halves(modality: int) -> Integers:
        of = 2 * group_owners + modality
        count = counts[of][:, None]
        in_turn = turn[:, None] * half + np.arange(half)
        with_replacement = rng.integers(count, size=in_turn.shape)
        return shuffled[starts[of][:, None] + np.where(count < half, with_replacement, in_turn)]  # (G, half)

    return np.stack((halves(1), halves(0)), axis=2).reshape(-1, size), group_owners


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


class Rows(list[int]):
    """A batch: rows of the catalogue, which know the epoch, and how often each of them came before in it."""

    def __init__(self, rows: list[int], occurrence: list[int], epoch: int = 0) -> None:
        super().__init__(rows)
        self.occurrence, self.epoch = occurrence, epoch


class TrainingBatches(DistributedSampler[Rows]):
    """Yields this rank's slice of each batch: `identities_per_batch` / `world` identities, all their rows.

    The declared length is the first epoch's number of batches, whatever the later ones draw: a trainer reads it once.
    A longer draw is cut, a shorter one continued with a further draw.

    `sampler` names a draw of this file, or is one of your own, called as draw(owners, infrared, p, k, rng): images'
    identities from 0 and modality as integers (N,), the two sizes, a generator of (seed, epoch); it returns rows
    (batches, p * k), where an identity's k rows follow each other.

    A `DistributedSampler`, because a Lightning trainer leaves that alone and tells it the epoch.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        identities_per_batch: int,
        images_per_identity: int,
        sampler: str | Draw = "balanced",
        seed: int = 1,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        super().__init__(catalogue, num_replicas=world, rank=rank, seed=seed)  # type: ignore[arg-type]  # counts it, no more
        _check(catalogue, identities_per_batch, images_per_identity, sampler, world)
        _, owners = np.unique(catalogue.identities.numpy(), return_inverse=True)
        self._rows = owners.astype(np.int64), catalogue.infrared.numpy().astype(np.int64)
        self._shape = identities_per_batch, images_per_identity
        self._draw = DRAWS[sampler] if isinstance(sampler, str) else sampler
        self._begun = 0, 0

    def go_on(self, epoch: int, batch: int) -> None:
        """Leave out the first batches of this epoch, on which a resumed run was trained before."""
        self._begun = epoch, batch

    @property
    def first(self) -> int:
        """The first batch of this epoch that is left."""
        epoch, batch = self._begun
        return batch if epoch == self.epoch else 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Rows]:
        batches = self.global_batches(self.epoch)
        ours = (np.split(of_all, self.num_replicas, axis=1)[self.rank] for of_all in (batches, occurrences(batches)))
        rows = map(Rows, *(of_rank.tolist() for of_rank in ours), repeat(self.epoch))
        yield from islice(rows, self.first, None)

    def global_batches(self, epoch: int) -> Integers:
        """The batches of all ranks together, (len(self), P * K) rows of the catalogue."""
        draws = [self._draw_part(epoch, 0)]
        while sum(map(len, draws)) < self._length:
            draws.append(self._draw_part(epoch, len(draws)))
        return np.concatenate(draws)[: self._length]

    @cached_property
    def _length(self) -> int:
        return len(self._draw_part(0, 0))

    def _draw_part(self, epoch: int, part: int) -> Integers:
        rng = np.random.default_rng([self.seed, epoch, part])
        batches = np.asarray(self._draw(*self._rows, *self._shape, rng))
        count, width = len(self._rows[0]), math.prod(self._shape)
        fits = batches.ndim == 2 and len(batches) and batches.shape[1] == width and batches.dtype.kind in "iu"
        if not fits or batches.min() < 0 or batches.max() >= count:
            raise UserError(
                f"data.sampler gave an array {batches.shape} of {batches.dtype}: an epoch's batches are rows from 0 to "
                f"{count - 1}, (at least 1, {width})."
            )
        return batches.astype(np.int64, copy=False)


def occurrences(batches: Integers) -> Integers:
    """How often each row came before, in the order of the batches; the same shape.

    >>> occurrences(np.array([[4, 7, 4], [7, 4, 1]]))
    array([[0, 0, 1],
           [1, 2, 0]])
    """
    rows = batches.ravel()
    order = np.argsort(rows, kind="stable")
    first = np.flatnonzero(np.diff(rows[order], prepend=-1))
    counted = np.empty_like(rows)
    counted[order] = np.arange(len(rows)) - np.repeat(first, np.diff(first, append=len(rows)))
    return counted.reshape(batches.shape)


class EvaluationBatches(DistributedSampler[list[int]]):
    """Yields this rank's rows of the catalogue, each row on one rank once.

    Every rank has equally many batches, none empty, because ranks that evaluate wait for each other; so where the
    images are fewer than ranks times batches, a batch may exceed `size`. Fewer images than ranks are a `UserError`.
    """

    def __init__(self, catalogue: Catalogue, size: int, *, rank: int = 0, world: int = 1) -> None:
        super().__init__(catalogue, num_replicas=world, rank=rank, shuffle=False)  # type: ignore[arg-type]  # as above
        if len(catalogue) < world:
            raise UserError(f"{len(catalogue)} images to evaluate cannot be shared by {world} processes: start fewer")
        batches = min(-(-len(catalogue) // (world * size)), len(catalogue) // world)
        self._batches = np.array_split(np.arange(len(catalogue)), world * batches)[rank::world]

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self._batches:
            yield batch.tolist()


def _check(catalogue: Catalogue, p: int, k: int, sampler: str | Draw, world: int) -> None:
    """Every mistake that would show in the middle of an epoch, before the first."""
    if not callable(sampler) and sampler not in DRAWS:
        raise UserError(f"The sampler is one of {', '.join(DRAWS)}, or a class by _target_, got {sampler!r}")
    if k < 2 or k % 2:
        raise UserError(f"images_per_identity is even (half infrared, half visible) and at least 2, got {k}")
    if p < 1:
        raise UserError(f"identities_per_batch is at least 1, got {p}")
    if p % world:
        below, above = p // world * world, (p // world + 1) * world
        working = f"{below} or {above}" if below else f"{above}"
        raise UserError(
            f"{p} identities per batch cannot be shared equally by {world} ranks: set identities_per_batch to {working}"
        )
    if sampler == "random":
        _check_both_modalities(catalogue)
    elif not callable(sampler):
        if sampler != "any_modality":
            _check_two_sides(catalogue)
        _check_identities(catalogue, p)


def _check_both_modalities(catalogue: Catalogue) -> None:
    infrared = int(catalogue.infrared.sum())
    if infrared in (0, len(catalogue)):
        raise UserError(
            f"A batch holds visible and infrared images, but the training split has {len(catalogue) - infrared} "
            f"visible and {infrared} infrared images"
        )


def _check_two_sides(catalogue: Catalogue) -> None:
    identities, infrared = catalogue.identities.numpy(), catalogue.infrared.numpy()
    one_sided = np.setxor1d(identities[infrared], identities[~infrared])
    if len(one_sided):
        examples = [catalogue.paths[np.flatnonzero(identities == one)[0]] for one in one_sided[:NAMED_AT_MOST]]
        dots = ", …" if len(one_sided) > NAMED_AT_MOST else ""
        raise UserError(
            f"{len(one_sided)} training identities have images of one modality only ({', '.join(examples)}{dots}): "
            "give them images of the other, leave them out, or set sampler=random"
        )


def _check_identities(catalogue: Catalogue, p: int) -> None:
    if catalogue.num_identities < p:
        raise UserError(
            f"A batch takes {p} different identities, but the training split has {catalogue.num_identities}: "
            f"set identities_per_batch to at most {catalogue.num_identities}"
        )
