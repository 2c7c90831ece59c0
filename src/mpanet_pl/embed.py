"""`python -m mpanet_pl.embed`: a folder, list or table of images -> a gallery that can be searched."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mpanet_pl.cli.command import run_command
from mpanet_pl.errors import UserError
from mpanet_pl.run.request import NOTHING_TYPED, Request

if TYPE_CHECKING:
    from omegaconf import DictConfig


def embed(cfg: DictConfig, request: Request = NOTHING_TYPED) -> None:
    from mpanet_pl.gallery.extras import need

    need("pyarrow", "gallery")
    from omegaconf import OmegaConf

    from mpanet_pl.gallery.building import embed_images
    from mpanet_pl.gallery.embedder import OF_A_CHECKPOINT, load
    from mpanet_pl.gallery.launching import launched
    from mpanet_pl.gallery.projection_learning import Teaching, projection_for
    from mpanet_pl.run.datasets import build_data

    out = Path(cfg.out).expanduser()
    if (cfg.video is None) == (cfg.images is None) or (cfg.video is None) != (cfg.tracks is None):
        raise UserError("embed takes images=PATH, or video=FILE and tracks=FILE.")
    trainer = {key: cfg.trainer[key] for key in ("accelerator", "devices", "num_nodes", "precision")}
    with launched(**trainer, save_config=lambda path: OmegaConf.save(cfg, path)) as place:
        asked = {key: cfg[key] for key in OF_A_CHECKPOINT}
        embedder = load(**asked, device=place.device, precision=place.precision)
        how = Teaching(build_data, cfg.whiten, cfg.data_dir, cfg.trust)
        done = embed_images(
            embedder,
            _table(cfg, out, place.ranks.rank) if cfg.video is not None else cfg.images,
            out,
            name=cfg.name,
            group="track" if cfg.video is not None else cfg.group,
            dtype=cfg.dtype,
            strict=cfg.strict,
            prune=cfg.prune,
            batch_size=cfg.batch_size,
            shard_size=cfg.shard_size,
            workers=cfg.workers,
            compact=lambda folder: projection_for(folder, cfg.compact, embedder, how),
            ranks=place.ranks,
        )
        if place.ranks.rank == 0:
            print(done.summary(out))


def _table(cfg: DictConfig, out: Path, rank: int) -> Path:
    """The table of a video's crops, which the first process makes; the others do not look at it."""
    from mpanet_pl.gallery.extras import need
    from mpanet_pl.gallery.footage import extract

    crops = Path(cfg.crops).expanduser() if cfg.crops is not None else out.with_name(f"{out.name}_crops")
    if rank:
        return crops
    need("av", "video")
    asked = {name: cfg[name] for name in ("camera", "start", "modality")}
    footage = extract(cfg.video, cfg.tracks, crops, **asked)
    for note in footage.notes:
        print(note, flush=True)
    return footage.table


def main(arguments: Sequence[str] | None = None) -> None:
    run_command("embed", embed, arguments)


if __name__ == "__main__":
    main()
