"""The embedded dataset: people that this package draws, in SYSU-MM01's tree."""

import os
from copy import copy
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from mpanet_pl.data.catalogue import Catalogue, Splits
from mpanet_pl.data.faults import Faults
from mpanet_pl.data.sysu import SYSU
from mpanet_pl.system.cores import usable_cores
from mpanet_pl.system.files import cache_home
from mpanet_pl.system.ranges import Count, Seed, Share, Weight, Workers, checked
from mpanet_pl.system.shell import typed
from mpanet_pl.world.drawing import World, draw_world, is_drawn, lay_out_empty
from mpanet_pl.world.shot import Look, Shift, Size


def worlds() -> Path:
    """The folder of drawn worlds, a world each, that every working folder shares."""
    return cache_home() / "synthetic"


@checked
class Synthetic(SYSU):
    """Drawn by `prepare`, once, into a folder under `root` that is named by all that is asked for.

    Without a `root` the folder lies under `worlds()`. The last of the people, `test_share` of them, are the test's: by
    chance alone rank-1 is about one in their number. `light` and `clothes` shift a world from another (-3 to 3), and so
    does another seed of its `cameras`. With `tracks` people walk: each image is a tracklet of `track_length` frames,
    six of which stand for it by default.
    """

    name = "The synthetic dataset"
    config = "synthetic"
    chosen_by = ("identities", "test_share")
    published = {}  # noqa: RUF012
    slices = ("nuance", "sibling", "view")  # the labels of its ground truth
    terms = "none: this package draws these people"

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        *,
        identities: Count = 100,
        images_per_camera: Count = 8,
        test_share: Share = 0.4,
        seed: Seed = 1,
        siblings: Share = 0.0,
        dyed: bool = False,
        hardness: Weight = 1.0,
        height: Size = 128,
        width: Size = 64,
        workers: Workers | None = None,
        light: Shift = 0.0,
        clothes: Shift = 0.0,
        cameras: Seed | None = None,
        tracks: bool = False,
        track_length: Count = 12,
    ) -> None:
        look = Look(seed=seed, height=height, width=width, hardness=hardness, light=light, cameras=cameras)
        self.world = World(
            identities=identities,
            images_per_camera=images_per_camera,
            test_share=test_share,
            siblings=siblings,
            dyed=dyed,
            clothes=clothes,
            frames=track_length if tracks else None,
            look=look,
        )
        self.frames = 6 if tracks else None
        self.workers = workers or usable_cores()
        self.is_shared = root is None
        super().__init__((worlds() if root is None else Path(root)) / self.world.name)

    @property
    def source(self) -> str:
        return f"{self.config}{self.world.look.seed}"  # another seed draws other people

    @property
    def check_command(self) -> str:
        settings = asdict(self.world)
        look, frames, _ = (settings.pop(name) for name in ("look", "frames", "layout"))
        settings |= ({"tracks": True, "track_length": frames} if frames else {}) | look
        words = [typed(f"data.dataset.{key}", value) for key, value in settings.items() if value is not None]
        place = [] if self.is_shared else [typed("data_dir", self.root.parent)]
        return " ".join(["python -m mpanet_pl.prepare", *place, *words])

    def list_splits(self, faults: Faults) -> Splits:
        splits = super().list_splits(faults)
        if self.world.frames is None:
            return splits
        return replace(splits, train=_with_tracks(splits.train), test=_with_tracks(splits.test))

    def read(self) -> Splits:
        """Of a world that is still to be drawn, the splits that it will have."""
        if is_drawn(self.root, self.world):
            return super().read()
        with TemporaryDirectory() as folder:
            undrawn = copy(self)
            undrawn.root = Path(folder)
            lay_out_empty(undrawn.root, self.world)
            return super(Synthetic, undrawn).read()

    def prepare(self) -> None:
        draw_world(self.root, self.world, self.workers)


def _with_tracks(catalogue: Catalogue) -> Catalogue:
    """Frames whose paths differ in their last number alone are one tracklet's."""
    names = [path.rpartition("_")[0] for path in catalogue.paths]
    number = {name: place for place, name in enumerate(dict.fromkeys(names))}
    return replace(catalogue, tracks=torch.tensor([number[name] for name in names], dtype=torch.int64))
