"""`python -m mpanet_pl.forget`: people, tracklets, cameras or old times leave a gallery."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mpanet_pl.cli.command import run_command
from mpanet_pl.run.request import NOTHING_TYPED, Request

if TYPE_CHECKING:
    from omegaconf import DictConfig


def forget(cfg: DictConfig, request: Request = NOTHING_TYPED) -> None:
    from mpanet_pl.gallery.extras import need

    need("pyarrow", "gallery")
    from mpanet_pl.gallery.forgetting import forget as remove
    from mpanet_pl.gallery.store import read_record

    whom = {name: cfg[name] for name in ("identity", "track", "camera", "path", "before")}
    root = read_record(cfg.gallery)["root"]
    if cfg.uri is not None:
        need("pymilvus", "milvus")
        from mpanet_pl.gallery.milvus import Collection, connected
        from mpanet_pl.gallery.store import Gallery

        with connected(cfg.uri, token=cfg.token) as client:
            Collection(client, Gallery(cfg.gallery), name=cfg.collection, index=cfg.index).forget(**whom)
    count = remove(cfg.gallery, **whom)
    print(f"{count} rows are forgotten. Images that still lie in {root} would be embedded again.")


def main(arguments: Sequence[str] | None = None) -> None:
    run_command("forget", forget, arguments)


if __name__ == "__main__":
    main()
