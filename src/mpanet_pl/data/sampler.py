"""Which images meet in a batch: whole batches of rows, a pure function of (seed, epoch, rank, world)."""

import math
from collections.abc import Iterator
from functools import cached_property
from itertools import islice, repeat
from typing import Annotated

import numpy as np
from torch.utils.data.distributed import DistributedSampler

from mpanet_pl.data.catalogue import Catalogue
from mpanet_pl.data.draws import DRAWS, Draw, Integers, Named
from mpanet_pl.errors import UserError
from mpanet_pl.system.hints import Range
from mpanet_pl.system.ranges import Count, checked

NAMED_AT_MOST = 5  # images in a message
Even = Annotated[int, Range("even (half infrared, half visible) and at least 2", lambda k: k >= 2 and k % 2 == 0)]


class Rows(list[int]):
    """A batch: rows of the catalogue, which know the epoch, and how often each of them came before in it."""

    def __init__(self, rows: list[int], occurrence: list[int], epoch: int = 0) -> None:
        super().__init__(rows)
        self.occurrence, self.epoch = occurrence, epoch


@checked
class TrainingBatches(DistributedSampler[Rows]):
    """Yields this rank's slice of each batch: `identities_per_batch` / `world` identities, all their rows.

    The declared length is the first epoch's number of batches, whatever the later ones draw: a trainer reads it once.
    A longer draw is cut, a shorter one continued with a further draw.

    `sampler` names one of `DRAWS`, or is one of your own, called as draw(owners, infrared, p, k, rng): images'
    identities from 0 and modality as integers (N,), the two sizes, a generator of (seed, epoch); it returns rows
    (batches, p * k), where an identity's k rows follow each other.

    A `DistributedSampler`, because a Lightning trainer leaves that alone and tells it the epoch.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        identities_per_batch: Count,
        images_per_identity: Even,
        sampler: Named | Draw = "balanced",
        seed: int = 1,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        super().__init__(catalogue, num_replicas=world, rank=rank, seed=seed)  # type: ignore[arg-type]  # counts it, no more
        _check(catalogue, identities_per_batch, sampler, world)
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


def _check(catalogue: Catalogue, p: int, sampler: Named | Draw, world: int) -> None:
    """Every mistake that would show in the middle of an epoch, before the first."""
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
        sampler = "random" if infrared.any() and not infrared.all() else "any_modality"
        raise UserError(
            f"{len(one_sided)} training identities have images of one modality only ({', '.join(examples)}{dots}): "
            f"give them images of the other, leave them out, or set sampler={sampler}"
        )


def _check_identities(catalogue: Catalogue, p: int) -> None:
    if catalogue.num_identities < p:
        raise UserError(
            f"A batch takes {p} different identities, but the training split has {catalogue.num_identities}: "
            f"set identities_per_batch to at most {catalogue.num_identities}"
        )
