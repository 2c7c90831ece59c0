"""`python -m mpanet_pl.export`: a checkpoint -> one file for other programs, ONNX or torch, that answers the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mpanet_pl.cli.command import run_command
from mpanet_pl.run.request import NOTHING_TYPED, Request

if TYPE_CHECKING:
    from omegaconf import DictConfig


def export(cfg: DictConfig, request: Request = NOTHING_TYPED) -> None:
    from mpanet_pl.gallery.embedder import OF_A_CHECKPOINT, load
    from mpanet_pl.gallery.exporting import checked_path
    from mpanet_pl.gallery.exporting import export as write
    from mpanet_pl.world import Synthetic

    checked_path(cfg.out, cfg.format, cfg.quantize)
    embedder = load(**{key: cfg[key] for key in OF_A_CHECKPOINT}, device="cpu")
    if cfg.compact is not None:
        from mpanet_pl.gallery.projection_learning import Teaching, projection_of
        from mpanet_pl.run.datasets import build_data

        how = Teaching(build_data, cfg.whiten, cfg.data_dir, cfg.trust)
        embedder.projection = projection_of(cfg.compact, embedder, how)

    def people(folder: Path, identities: int) -> Synthetic:
        return Synthetic(folder, identities=identities, images_per_camera=2, hardness=0.5)

    parity = write(embedder, cfg.out, people=people, format=cfg.format, quantize=cfg.quantize)
    shapes = f"uint8 (batch, 3, {embedder.height}, {embedder.width}) -> (batch, {embedder.dimension})"
    print(f"{cfg.out}: {shapes}; {parity}\n{embedder.origin.terms('this file')}")


def main(arguments: Sequence[str] | None = None) -> None:
    run_command("export", export, arguments)


if __name__ == "__main__":
    main()
