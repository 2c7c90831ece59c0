"""How images of several datasets meet in batches: as they come, by shares, or a batch a dataset.

It is a draw as `sampler` takes them, made of the draw that each dataset has alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mpanet_pl.data.draws import Draw, Integers
from mpanet_pl.errors import UserError


def check_shares(shares: Mapping[str, float], names: Sequence[str]) -> None:
    """Raise a `UserError` where batches cannot be made of these shares."""
    if set(shares) != set(names):
        raise UserError(f"shares are of {', '.join(names)}, each one's; got {', '.join(shares) or 'none'}.")
    if min(shares.values()) <= 0 or abs(sum(shares.values()) - 1) > 1e-6:
        raise UserError(f"shares are above 0 and add up to 1, got {dict(shares)}.")


@dataclass(frozen=True)
class Mix:
    """A draw over several datasets, called as every draw: `mix(owners, infrared, p, k, rng)`.

    dataset_of: (C,) the number of each identity's dataset, from 0.
    draw: what draws the batches of one dataset.
    pure: whether a batch is of one dataset; else each batch has identities of all, as many as `shares` says.
    shares: of the batches (pure) or of each batch's identities (mixed), dataset by dataset; None: of all batches as
        many as each dataset fills alone, and mixed is then one draw over everybody.
    """

    dataset_of: Integers
    draw: Draw
    pure: bool = False
    shares: tuple[float, ...] | None = None

    def __call__(self, owners: Integers, infrared: Integers, p: int, k: int, rng: np.random.Generator) -> Integers:
        if not self.pure and self.shares is None:
            return self.draw(owners, infrared, p, k, rng)
        count = int(self.dataset_of.max()) + 1
        sizes = [p] * count if self.pure else split_evenly(p, self.shares or ())
        rows_of = [np.flatnonzero(self.dataset_of[owners] == dataset) for dataset in range(count)]

        def batches_of(dataset: int) -> Integers:
            """Batches of one dataset, in rows of the whole catalogue."""
            rows, size = rows_of[dataset], sizes[dataset]
            _, own = np.unique(owners[rows], return_inverse=True)
            if (people := own.max() + 1) < size:
                raise UserError(
                    f"A batch takes {size} identities of one dataset, which has {people}: change the shares."
                )
            return rows[self.draw(own.astype(np.int64), infrared[rows], size, k, rng)]

        parts = [batches_of(dataset) for dataset in range(count)]
        wanted = self._lengths(parts, p * k)
        for dataset, part in enumerate(parts):
            while len(part) < wanted[dataset]:
                part = np.concatenate((part, batches_of(dataset)))
            parts[dataset] = part[: wanted[dataset]]
        if self.pure:
            batches = np.concatenate(parts)
            return batches[rng.permutation(len(batches))]
        groups = np.concatenate([part.reshape(len(part), -1, k) for part in parts], axis=1)  # (batches, p, k)
        order = rng.random(groups.shape[:2]).argsort(axis=1)  # ranks share a batch's identities
        return np.take_along_axis(groups, order[..., None], axis=1).reshape(-1, p * k)

    def _lengths(self, parts: Sequence[Integers], rows: int) -> list[int]:
        """How many batches of each dataset an epoch has, of those that each fills alone; a batch has so many `rows`."""
        if not self.pure:
            return [max(1, sum(part.size for part in parts) // rows)] * len(parts)
        if self.shares is None:
            return [*map(len, parts)]
        return [max(1, round(share * sum(map(len, parts)))) for share in self.shares]


def split_evenly(whole: int, shares: Sequence[float]) -> list[int]:
    """Whole numbers in these shares that add up to `whole`, each at least 1 (largest remainders).

    >>> split_evenly(8, [0.5, 0.3, 0.2]), split_evenly(4, [0.9, 0.1])
    ([4, 2, 2], [3, 1])
    """
    if whole < len(shares):
        raise UserError(f"A batch of {whole} identities cannot hold some of each of {len(shares)} datasets.")
    sizes = [max(1, int(whole * share)) for share in shares]
    while sum(sizes) != whole:
        change = 1 if sum(sizes) < whole else -1
        missing = [change * (whole * share - size) for share, size in zip(shares, sizes, strict=True)]
        order = sorted(range(len(sizes)), key=lambda one: -missing[one])
        place = next(one for one in order if sizes[one] + change >= 1)
        sizes[place] += change
    return sizes
