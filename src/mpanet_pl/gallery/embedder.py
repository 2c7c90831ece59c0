"""A checkpoint made ready to use: it knows its image size, its normalisation, its device and what it was trained on."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import normalize

from mpanet_pl.checkpoint import open_checkpoint
from mpanet_pl.data.decode import in_threads
from mpanet_pl.data.normalisation import IMAGENET_MEAN, IMAGENET_STD, normalise
from mpanet_pl.errors import UserError
from mpanet_pl.gallery.bounded_images import pixels
from mpanet_pl.gallery.projection import Projection
from mpanet_pl.interfaces import asked_by
from mpanet_pl.stored import terms_of
from mpanet_pl.system.files import sha256
from mpanet_pl.system.hub import local
from mpanet_pl.system.trust import packages

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
OF_A_CHECKPOINT = ("ckpt", "trust", "flip", "embedding", "height", "width", "last_stride", "method")  # keys for `load`
RELEASED = "a dataset that the released checkpoint does not name"


class Origin(NamedTuple):
    """Where a network comes from: what every gallery and export that it makes has to say."""

    digest: str  # SHA-256 of the checkpoint's bytes
    trained_on: str  # its dataset, whose terms apply to whatever is made of it
    config: Mapping[str, Any]  # of the run; empty where it is not known
    path: str = ""  # where the checkpoint was
    last_stride: int | None = None  # of a released checkpoint, which does not say it
    method: str | None = None  # likewise

    def terms(self, what: str) -> str:
        return terms_of(self.trained_on, self.config, what)


class Embedder:
    """Images to embeddings of length one, (N, D) float32 on the CPU: their products are cosine similarities.

    With `flip` an embedding is the mean over the image and its mirror image; `projection` makes it small. A network of
    two streams (`two_stream`) has to be told which images are `infrared`: one bool for all, or (N,).
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        height: int,
        width: int,
        origin: Origin,
        device: torch.device | str = "cpu",
        precision: str = "float32",
        flip: bool = False,
        projection: Projection | None = None,
    ) -> None:
        if precision not in PRECISIONS:
            raise UserError(f"precision is one of {', '.join(PRECISIONS)}, got {precision}.")
        self.network = network.to(device).eval().requires_grad_(False)
        self.height, self.width, self.origin = height, width, origin
        self.device, self.precision, self.flip = torch.device(device), precision, flip
        self.projection = projection
        self.scored: str = getattr(network, "scored", "embedding")
        self.two_stream = "infrared" in asked_by(network)

    @property
    def dimension(self) -> int:
        if self.projection:
            return self.projection.dimension
        visible = (torch.zeros(1, dtype=torch.bool, device=self.device),) if self.two_stream else ()
        return int(self.network(self._blank(), *visible).shape[1])

    def embed(
        self,
        images: Tensor | Iterable[str | Path | Image.Image],
        *,
        infrared: bool | Sequence[bool] | Tensor | None = None,
        batch_size: int = 64,
        workers: int | None = None,
    ) -> Tensor:
        """Of paths, of PIL images in any size, or of uint8 (N, 3, height, width)."""
        items: Tensor | list[str | Path | Image.Image] = images if isinstance(images, Tensor) else list(images)
        flags = self._flags(infrared, len(items))
        if isinstance(items, Tensor):
            batches: Iterable[Tensor] = items.split(batch_size)
        else:
            if not items:
                return torch.empty(0, self.dimension)
            read = partial(pixels, height=self.height, width=self.width)
            decoded = in_threads(read, items, workers)
            batches = (
                stacked([next(decoded) for _ in items[start : start + batch_size]])
                for start in range(0, len(items), batch_size)
            )
        parts = flags.split(batch_size) if flags is not None else repeat(None)
        return torch.cat([self(batch, part).cpu() for batch, part in zip(batches, parts, strict=False)])

    @torch.inference_mode()
    def __call__(self, images: Tensor, infrared: Tensor | None = None) -> Tensor:
        """uint8 (B, 3, height, width), and of two streams (B,) bool -> (B, D) float32 on the device, not waited for."""
        self._check(images)
        flags = self._flags(infrared, len(images))
        streams = () if flags is None else (flags.to(self.device, non_blocking=True),)
        normalised = normalise(images.to(self.device, non_blocking=True))
        embeddings = self._forward(normalised, *streams)
        if self.flip:
            embeddings = (embeddings + self._forward(normalised.flip(-1), *streams)) / 2
        embeddings = normalize(embeddings)
        return self.projection(embeddings) if self.projection else embeddings

    def _forward(self, images: Tensor, *infrared: Tensor) -> Tensor:
        reduced = self.precision != "float32"
        with torch.autocast(self.device.type, PRECISIONS[self.precision] if reduced else None, enabled=reduced):
            return self.network(images, *infrared).float()

    def _flags(self, infrared: bool | Sequence[bool] | Tensor | None, count: int) -> Tensor | None:
        """(count,) bool for a network of two streams; None for others, whatever is said."""
        if not self.two_stream:
            return None
        if infrared is None:
            raise UserError("This network has two streams: it has to be told which images are infrared (infrared=…).")
        flags = torch.as_tensor(infrared, dtype=torch.bool)
        if flags.ndim and flags.shape != (count,):
            raise UserError(f"infrared is one bool, or one for each of {count} images, got {tuple(flags.shape)}.")
        return flags.expand(count)

    def _blank(self) -> Tensor:
        return torch.zeros(1, 3, self.height, self.width, device=self.device)

    def _check(self, images: Tensor) -> None:
        if images.dtype != torch.uint8 or images.shape[1:] != (3, self.height, self.width):
            raise UserError(
                f"This network takes uint8 images (N, 3, {self.height}, {self.width}), which it normalises itself; "
                f"got {images.dtype} {tuple(images.shape)}."
            )

    @property
    def record(self) -> dict[str, Any]:
        """What two embeddings must share to be comparable, in plain values."""
        return {
            "checkpoint": self.origin.digest,
            "ckpt": self.origin.path,
            "last_stride": self.origin.last_stride,
            "method": self.origin.method,
            "trained_on": self.origin.trained_on,
            "height": self.height,
            "width": self.width,
            "resize": "bilinear, as Pillow does it",
            "colours": "RGB",
            "mean": list(IMAGENET_MEAN),
            "std": list(IMAGENET_STD),
            "precision": self.precision,
            "flip": self.flip,
            **({"embedding": self.scored} if self.scored != "embedding" else {}),
            "compact": self.projection.digest if self.projection else None,
            "dimension": self.dimension,
        }


def load(
    ckpt: str | Path,
    *,
    device: torch.device | str = "auto",
    trust: str | Sequence[str] | None = (),
    method: str | None = None,
    height: int | None = None,
    width: int | None = None,
    last_stride: int | None = None,
    precision: str = "float32",
    flip: bool = False,
    embedding: str = "embedding",
    projection: Projection | None = None,
) -> Embedder:
    """A checkpoint of this package, or a released one, ready to embed; also hf://OWNER/NAME, which `push` made.

    It may call classes of this package alone, and of the packages that `trust` names.
    A released file says neither its images' `height` and `width` nor its `method` (mpanet unless given) and its
    `last_stride` (the method's own unless given).

        embeddings = load("best.ckpt").embed(["night.jpg", "day.jpg"])  # (2, D)
    """
    ckpt = local(ckpt)
    opened = open_checkpoint(
        ckpt, trust=packages(trust), method=method, last_stride=last_stride, height=height, width=width
    )
    opened.module.score_by(embedding)
    digest, place = sha256(ckpt), str(Path(ckpt).expanduser().absolute())
    if opened.is_released:
        if height is None or width is None:
            raise UserError(f"{ckpt} is a released checkpoint, which does not say its image size: give height, width.")
        origin = Origin(digest, RELEASED, {}, place, opened.last_stride, opened.method)
    else:
        if (height, width) != (None, None):
            raise UserError(f"height and width are for released checkpoints: {ckpt} says its own.")
        config = opened.content.get("config") or {}
        if opened.size is None:
            raise UserError(f"{ckpt} does not say how large its images are: it was saved without a ReIDDataModule.")
        height, width = opened.size
        trained_on = str(config.get("dataset", "a dataset that the checkpoint does not name"))
        origin = Origin(digest, trained_on, config, place)
    return Embedder(
        opened.module,
        height=height,
        width=width,
        origin=origin,
        device=device_of(device),
        precision=precision,
        flip=flip,
        projection=projection,
    )


def stacked(images: Sequence[np.ndarray]) -> Tensor:
    """(H, W, 3) uint8 each -> (N, 3, H, W), channels last in memory."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


def device_of(asked: torch.device | str) -> torch.device:
    """`auto` is the GPU where there is one."""
    if asked == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(asked)
        torch.empty(0, device=device)
    except Exception as error:  # a device that this torch was not built for is an AssertionError
        raise UserError(f"device={asked} is not there: {str(error).splitlines()[0]}") from error
    return device
