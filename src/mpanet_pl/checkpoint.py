"""Opens a checkpoint once, whoever asks: this package's own or a released one, whole or damaged, trusted or not."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mpanet_pl import official
from mpanet_pl.data.normalisation import IMAGENET_MEAN, IMAGENET_STD
from mpanet_pl.errors import UserError
from mpanet_pl.module import MPANetModule
from mpanet_pl.stored import restored
from mpanet_pl.system import weights

LARGEST = 4096  # pixels of an image's side
OWN_KEYS = {"state_dict", "hyper_parameters", "pytorch-lightning_version"}


class Opened(NamedTuple):
    """A checkpoint's module, and what else its file says."""

    module: MPANetModule
    path: str
    content: Mapping[str, Any]  # of the file; empty where it is a released one
    last_stride: int | None = None  # of a released one
    method: str | None = None  # likewise

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of the images that the network was trained on; None where the file does not say."""
        config = self.content.get("config")
        data = self.content.get("images") or (config.get("data") if isinstance(config, Mapping) else None)
        found = tuple(data.get(name) for name in ("height", "width")) if isinstance(data, Mapping) else (None, None)
        if found == (None, None):
            return None
        for name, size in zip(("height", "width"), found, strict=True):
            if not isinstance(size, int) or isinstance(size, bool) or not 0 < size <= LARGEST:
                raise UserError(f"{self.path} says that its images' {name} is {size!r}.")
        return found  # type: ignore[return-value]

    @property
    def is_released(self) -> bool:
        return self.method is not None


def open_checkpoint(
    path: str | Path,
    *,
    trust: str | Sequence[str] = (),
    method: str | None = None,
    last_stride: int | None = None,
    height: int | None = None,
    width: int | None = None,
) -> Opened:
    """A checkpoint of this package, or a released state dict.

    A released file does not say its `method` (mpanet unless given), its `last_stride` (the method's own unless given),
    and the `height` and `width` of its images, which matter where weights belong to places. Ours says its own.
    """
    content = weights.read(path)
    if official.is_official(content):
        method = method or official.MPANET
        module = official.module_from_official(content, method, height=height, width=width, last_stride=last_stride)
        return Opened(module, str(path), {}, module.hparams["network"]["last_stride"], method)
    if not content.keys() >= OWN_KEYS:
        raise UserError(f"{path} is neither a checkpoint of mpanet_pl.train nor a released state dict.")
    given = {"method": method, "last_stride": last_stride}
    if typed := [name for name, value in given.items() if value is not None]:
        raise UserError(f"{' and '.join(typed)} is for released checkpoints: {path} says its own.")
    _check_normalisation(content.get("images"), path)
    return Opened(restored(MPANetModule, content, path, trust=trust), str(path), content)


def _check_normalisation(images: object, path: str | Path) -> None:
    """Whoever opens a checkpoint normalises by ImageNet's statistics; a data module of one's own may say others."""
    for name, ours in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
        theirs = images.get(name, ours) if isinstance(images, Mapping) else ours
        if theirs not in (ours, list(ours)):
            raise UserError(
                f"{path} was trained on images normalised by a {name} of {theirs}; this package normalises by "
                f"{list(ours)}. Scale the network's first layer accordingly, or score features (evaluate features=…)."
            )
