"""`python -m mpanet_pl.synthesize`: draw a dataset of people in the layout of a real one, and a contact sheet of it."""

from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig
from PIL import Image

from mpanet_pl.errors import UserError
from mpanet_pl.system import sheet
from mpanet_pl.system.cores import usable_cores
from mpanet_pl.world import Look, World, draw_world
from mpanet_pl.world.census import WALKING
from mpanet_pl.world.people import Person
from mpanet_pl.world.shot import Shot
from mpanet_pl.world.videos import write_videos

VIDEO = "video"  # a layout that is drawn as walks in SYSU-MM01's tree, then filmed
PEOPLE, IMAGES = 8, 5  # of a contact sheet: rows, and columns of each modality


def synthesize(cfg: DictConfig) -> None:
    if cfg.scale not in ("small", "full"):
        raise UserError(f"scale is small or full, got {cfg.scale}")
    if cfg.scale == "full" and cfg.identities is not None:
        raise UserError("scale=full draws as many people as the real dataset has: leave out identities, or scale")
    films = cfg.layout == VIDEO
    world = World(
        layout="sysu" if films else cfg.layout,
        identities=None if cfg.scale == "full" else World.identities if cfg.identities is None else cfg.identities,
        images_per_camera=cfg.images_per_camera,
        frames=cfg.frames if films or cfg.layout in WALKING else None,
        siblings=cfg.siblings,
        look=Look(seed=cfg.seed, height=cfg.height, width=cfg.width, hardness=cfg.hardness),
    )
    root = Path(cfg.out, "drawn") if films else Path(cfg.out)
    draw_world(root, world, cfg.workers or usable_cores())
    if films:
        write_videos(root, world.lay_out().shots, world.look, Path(cfg.out))
        print(f"{cfg.out} holds a video and a tracker's text for each camera, and who is who in truth.csv")
    draw_contact_sheet(root, world, root / "contact_sheet.png")
    print(f"{root} holds {len(world.lay_out().shots)} images; have a look at {root / 'contact_sheet.png'}")


def draw_contact_sheet(root: Path, world: World, path: Path) -> None:
    """A few people, visible and infrared, one row each; siblings first, with the nuance in which they differ."""
    shots: dict[int, dict[bool, list[Shot]]] = {}
    for shot in world.lay_out().shots:
        shots.setdefault(shot.identity, {False: [], True: []})[shot.infrared].append(shot)
    people = world.people()
    seen_in_both = [identity for identity, by_modality in sorted(shots.items()) if all(by_modality.values())]
    chosen = sorted(seen_in_both, key=lambda identity: people[identity].siblings is None)[:PEOPLE]
    rows = [[_tile(root, shot) for shots_of in shots[i].values() for shot in _spread(shots_of)] for i in chosen]
    sheet.save(sheet.lay_out(rows, captions=[_caption(identity, people[identity]) for identity in chosen]), path)


def _spread(shots: list[Shot]) -> list[Shot]:
    """Some of the shots, from as many cameras as possible."""
    return [shots[place] for place in np.linspace(0, len(shots) - 1, IMAGES).round().astype(int)]


def _tile(root: Path, shot: Shot) -> Image.Image:
    with Image.open(root / shot.path) as image:
        return sheet.tile(torch.from_numpy(np.array(image)).permute(2, 0, 1))


def _caption(identity: int, person: Person) -> str:
    return f"{identity}\n{person.differs}: {person.attributes[person.differs]}" if person.differs else str(identity)
