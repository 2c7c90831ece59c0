"""`python -m mpanet_pl.export`: a checkpoint -> one file for other programs, ONNX or torch, that answers the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mpanet_pl.cli.command import run_command
from mpanet_pl.run.request import NOTHING_TYPED, Request

if TYPE_CHECKING:
    from omegaconf import DictConfig


def export(cfg: DictConfig, request: Request = NOTHING_TYPED) -> None:
    from mpanet_pl.gallery.embedder import OF_A_CHECKPOINT, load
    from mpanet_pl.gallery.exporting import export as write

    embedder = load(**{key: cfg[key] for key in OF_A_CHECKPOINT}, device="cpu")
    if cfg.compact is not None:
        from mpanet_pl.gallery.training import projection_of

        taught = {"whiten": cfg.whiten, "data_dir": cfg.data_dir, "trust": cfg.trust}
        embedder.projection = projection_of(cfg.compact, embedder, **taught)
    parity = write(embedder, cfg.out, format=cfg.format, quantize=cfg.quantize)
    shapes = f"uint8 (batch, 3, {embedder.height}, {embedder.width}) -> (batch, {embedder.dimension})"
    print(f"{cfg.out}: {shapes}; {parity}\n{embedder.origin.terms('this file')}")


def main(arguments: Sequence[str] | None = None) -> None:
    run_command("export", export, arguments)


if __name__ == "__main__":
    main()
