"""Tracklets: which frames stand for one, in training and at test, by the published rules.

A tracklet of n frames gives T. `strips` (MITML, M3-ReID): the list is padded with its last frame to a multiple of T and
cut into T equal strips; training takes a random frame of each, the test the first. `linspace` (BUPTCampus): training
takes a sorted random choice of T, with replacement where n < T; the test every n/T-th, rounded down.
"""

from dataclasses import replace

import torch
from torch import Tensor

from mpanet_pl.data.catalogue import Catalogue
from mpanet_pl.data.randomness import image_keys, uniforms
from mpanet_pl.errors import UserError

CHOOSING = 11  # purpose of the draws of frames, beside those of augmentations


def strips(lengths: Tensor, frames: int, drawn: Tensor | None = None) -> Tensor:
    """(B, T) frames of tracklets of these lengths (B,): the first of each strip, or where `drawn` (B, T or more) falls.

    >>> strips(torch.tensor([13, 2]), 6)
    tensor([[ 0,  3,  6,  9, 12, 12],
            [ 0,  1,  1,  1,  1,  1]])
    """
    size = (lengths + frames - 1) // frames  # (B,)
    place = 0 if drawn is None else (drawn[:, :frames] * size[:, None]).long()
    return (torch.arange(frames) * size[:, None] + place).minimum(lengths[:, None] - 1)


def linspace(lengths: Tensor, frames: int, drawn: Tensor | None = None) -> Tensor:
    """(B, T) frames: every n/T-th, or a sorted random choice; `drawn` is (B, max(lengths, T)).

    >>> linspace(torch.tensor([13, 2]), 4)
    tensor([[0, 3, 6, 9],
            [0, 0, 1, 1]])
    """
    if drawn is None:
        steps = lengths.double() / frames  # as numpy's linspace: arange times the step, truncated
        return (torch.arange(frames).double() * steps[:, None]).long()
    places = torch.arange(drawn.shape[1])
    without = drawn.masked_fill(places >= lengths[:, None], 2.0).argsort(dim=1)[:, :frames]  # the least are chosen
    again = (drawn[:, :frames] * lengths[:, None]).long()
    return torch.where((lengths >= frames)[:, None], without, again).sort(dim=1).values


RULES = {"strips": strips, "linspace": linspace}


class Tracklets:
    """The tracklets of a catalogue of frames: `catalogue` has a row for each, named by its first frame.

    Frames keep the order of the list that they come from.
    """

    def __init__(self, frames: Catalogue, per_track: int, rule: str = "strips") -> None:
        if frames.tracks is None:
            raise UserError("data.frames is for datasets of tracklets: this one has images alone. Leave it out.")
        order = frames.tracks.argsort(stable=True)
        numbers, lengths = frames.tracks[order].unique_consecutive(return_counts=True)
        self.frames, self.per_track, self.rule = frames, per_track, RULES[rule]
        self.order, self.lengths = order, lengths  # (N,) rows of the frames; (M,)
        self.starts = lengths.cumsum(0) - lengths
        self.catalogue = replace(frames[order[self.starts]], tracks=numbers)

    def first(self, rows: Tensor) -> Tensor:
        """(B, T) rows of the frames that stand for tracklets (B,) at test."""
        return self._chosen(rows)

    def drawn(self, rows: Tensor, occurrence: Tensor, *, seed: int, epoch: int) -> Tensor:
        """(B, T) rows of the frames that stand for tracklets in training, a function of its arguments."""
        width = max(int(self.lengths[rows].max()), self.per_track)
        return self._chosen(rows, uniforms(image_keys(seed, epoch, rows, occurrence), width, CHOOSING))

    def _chosen(self, rows: Tensor, drawn: Tensor | None = None) -> Tensor:
        return self.order[self.starts[rows][:, None] + self.rule(self.lengths[rows], self.per_track, drawn)]


def without_short(catalogue: Catalogue, least: int) -> Catalogue:
    """The frames of tracklets that have at least `least` of them."""
    assert catalogue.tracks is not None
    _, place, counts = catalogue.tracks.unique(return_inverse=True, return_counts=True)
    return catalogue[counts[place] >= least]
