"""What a loader fetches: images or tracklets, a batch at a time."""

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from mpanet_pl.data.catalogue import Batch, Catalogue, Dataset
from mpanet_pl.data.corruptions import Corrupt, CorruptTraining
from mpanet_pl.data.sampler import Rows, TrainingBatches
from mpanet_pl.data.tracklets import Tracklets

SHOWN = 4  # frames of a tracklet in a picture


class Resumable(DataLoader[Batch]):
    """Goes on with the batch after the last that it gave: Lightning keeps its state in every checkpoint."""

    sampler: TrainingBatches
    given = 0, 0  # epoch, batches

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        for number, batch in enumerate(super().__iter__(), self.sampler.first + 1):
            self.given = self.sampler.epoch, number
            yield batch

    def state_dict(self) -> dict[str, int]:
        return dict(zip(("epoch", "batch"), self.given, strict=True))

    def load_state_dict(self, state: dict[str, int]) -> None:
        if state["batch"] < len(self):
            self.sampler.go_on(state["epoch"], state["batch"])


class StopsWorkers(DataLoader[Batch]):
    """Its workers end with the last batch, though a trainer, who knows how many there are, never asks for one more."""

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        batches = super().__iter__()
        upcoming = next(batches, None)
        while upcoming is not None:
            batch, upcoming = upcoming, next(batches, None)
            yield batch


class Pictures(Protocol):
    """uint8 images (B, 3, H, W) by row."""

    def __getitem__(self, index: Tensor) -> Tensor: ...


class Corrupted:
    """The images of a catalogue, each corrupted as its path says."""

    def __init__(self, images: Pictures, catalogue: Catalogue, corrupt: Corrupt) -> None:
        self.images, self.catalogue, self.corrupt = images, catalogue, corrupt

    def __getitem__(self, index: Tensor) -> Tensor:
        found = self.images[index]
        for picture, row in zip(found.permute(0, 2, 3, 1).numpy(), index.tolist(), strict=True):
            picture[:] = self.corrupt(picture, self.catalogue.paths[row], bool(self.catalogue.infrared[row]))
        return found


class RowsOf(TorchDataset[Batch]):
    """A catalogue's images, fetched by the batch; it says whose they are to whoever scores them."""

    def __init__(
        self,
        images: Pictures,
        catalogue: Catalogue,
        source: Dataset,
        *,
        is_test: bool,
        corrupt_training: CorruptTraining | None = None,
    ) -> None:
        self.images, self.catalogue, self.source, self.is_test = images, catalogue, source, is_test
        self.corrupt_training = corrupt_training

    def __len__(self) -> int:
        return len(self.catalogue)

    def __getitem__(self, rows: list[int]) -> Batch:
        index = torch.tensor(rows, dtype=torch.int64)
        occurrence = torch.tensor(rows.occurrence) if isinstance(rows, Rows) else torch.zeros_like(index)
        return self._batch(index, index, occurrence, rows)

    def _batch(
        self, images: Tensor, index: Tensor, occurrence: Tensor, rows: list[int], frames: int | None = None
    ) -> Batch:
        """Images by their rows, and every column of their catalogue's rows `index`."""
        seen, pictures = self.catalogue, self.images[images]
        infrared = seen.infrared[index]
        if self.corrupt_training and isinstance(rows, Rows):
            pictures = self.corrupt_training(pictures, images, infrared, occurrence, rows.epoch)
        return Batch(pictures, seen.identities[index], seen.cameras[index], infrared, index, occurrence, frames)


class Clips(RowsOf):
    """Tracklets, fetched by the batch: T frames each, and every column as often."""

    def __init__(
        self, images: Pictures, tracklets: Tracklets, *, seed: int, frames_alike: bool, source: Dataset, **words: Any
    ) -> None:
        super().__init__(images, tracklets.catalogue, source, **words)
        self.tracklets, self.seed, self.frames_alike = tracklets, seed, frames_alike

    def __getitem__(self, rows: list[int]) -> Batch:
        index, count = torch.tensor(rows, dtype=torch.int64), self.tracklets.per_track
        if isinstance(rows, Rows):
            occurrence = torch.tensor(rows.occurrence)
            chosen = self.tracklets.drawn(index, occurrence, seed=self.seed, epoch=rows.epoch)
        else:
            occurrence, chosen = torch.zeros_like(index), self.tracklets.first(index)
        index = index.repeat_interleave(count)
        occurrence = occurrence.repeat_interleave(count)
        if not self.frames_alike:  # a frame is augmented as the track's image of another occurrence would be
            occurrence = occurrence * count + torch.arange(count).repeat(len(rows))
        return self._batch(chosen.flatten(), index, occurrence, rows, count)


class Strips:
    """Tracklets as pictures (B, 3, H, n·W): up to four of the frames that stand for each, beside one another."""

    def __init__(self, clips: Clips) -> None:
        self.clips = clips

    def __getitem__(self, index: Tensor) -> Tensor:
        frames = self.clips.tracklets.first(index)  # (B, T)
        few = frames[:, torch.linspace(0, frames.shape[1] - 1, min(frames.shape[1], SHOWN)).long()]  # (B, n)
        images = self.clips.images[few.flatten()].unflatten(0, few.shape)
        return images.permute(0, 2, 3, 1, 4).flatten(3)


def pictures_of(rows: object) -> Pictures:
    """What shows the rows of a loader's dataset: images, or strips of frames."""
    assert isinstance(rows, RowsOf)
    return Strips(rows) if isinstance(rows, Clips) else rows.images
