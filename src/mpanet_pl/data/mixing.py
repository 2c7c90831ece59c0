"""How images of several datasets meet in batches: as they come, by shares, or a batch a dataset.

It is a draw as `sampler` takes them, made of the draw that each dataset has alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mpanet_pl.data.draws import Draw, Integers
from mpanet_pl.errors import UserError

MIXINGS = ("mixed", "pure")


def check_mixing(mixing: str, shares: Mapping[str, float] | None, names: Sequence[str]) -> None:
    """Raise a `UserError` that says what batches can be made of."""
    if mixing not in MIXINGS:
        raise UserError(f"mixing is one of {', '.join(MIXINGS)}, got {mixing!r}.")
    if shares is None:
        return
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
        if self.pure:
            natural = [self._draw_of(one, owners, infrared, p, k, rng) for one in range(count)]
            if self.shares is None:
                batches = np.concatenate(natural)
            else:
                total = sum(map(len, natural))
                wanted = [max(1, round(share * total)) for share in self.shares]
                again = [
                    self._enough(natural[one], wanted[one], one, owners, infrared, p, k, rng) for one in range(count)
                ]
                batches = np.concatenate(again)
            return batches[rng.permutation(len(batches))]
        sizes = split_evenly(p, self.shares or ())
        first = [self._draw_of(one, owners, infrared, sizes[one], k, rng) for one in range(count)]
        length = max(1, sum(part.size for part in first) // (p * k))
        parts = [self._enough(first[one], length, one, owners, infrared, sizes[one], k, rng) for one in range(count)]
        groups = np.concatenate([part.reshape(length, -1, k) for part in parts], axis=1)  # (batches, p, k)
        order = rng.random((length, p)).argsort(axis=1)  # ranks share a batch's identities
        return np.take_along_axis(groups, order[..., None], axis=1).reshape(length, p * k)

    def _draw_of(
        self, dataset: int, owners: Integers, infrared: Integers, p: int, k: int, rng: np.random.Generator
    ) -> Integers:
        """Batches of one dataset, in rows of the whole catalogue."""
        rows = np.flatnonzero(self.dataset_of[owners] == dataset)
        _, own = np.unique(owners[rows], return_inverse=True)
        if own.max() + 1 < p:
            raise UserError(
                f"A batch takes {p} identities of one dataset, which has {own.max() + 1}: change the shares."
            )
        return rows[self.draw(own.astype(np.int64), infrared[rows], p, k, rng)]

    def _enough(
        self,
        drawn: Integers,
        wanted: int,
        dataset: int,
        owners: Integers,
        infrared: Integers,
        p: int,
        k: int,
        rng: np.random.Generator,
    ) -> Integers:
        draws = [drawn]
        while sum(map(len, draws)) < wanted:
            draws.append(self._draw_of(dataset, owners, infrared, p, k, rng))
        return np.concatenate(draws)[:wanted]


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
