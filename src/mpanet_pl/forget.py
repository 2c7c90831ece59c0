"""`python -m mpanet_pl.forget`: people, tracklets, cameras or old times leave a gallery."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mpanet_pl.cli.command import run_command
from mpanet_pl.errors import RunStopped
from mpanet_pl.run.request import NOTHING_TYPED, Request

if TYPE_CHECKING:
    from omegaconf import DictConfig


def forget(cfg: DictConfig, request: Request = NOTHING_TYPED) -> None:
    from mpanet_pl.gallery.extras import need

    need("pyarrow", "gallery")
    from mpanet_pl.gallery.copies import copies_of
    from mpanet_pl.gallery.forgetting import forget as remove
    from mpanet_pl.gallery.forgetting import whom
    from mpanet_pl.gallery.store import Gallery

    asked = whom(**{name: cfg[name] for name in ("identity", "track", "camera", "path", "before")})
    gallery = Gallery(cfg.gallery)
    if cfg.uri is not None or copies_of(gallery.folder):
        need("pymilvus", "milvus")
    count = remove(gallery.folder, **asked)
    print(f"{count} rows are forgotten. Images that still lie in {gallery.root} would be embedded again.", flush=True)
    copies = copies_of(gallery.folder)
    if cfg.uri is not None:
        from mpanet_pl.gallery.milvus import copy_at

        named = copy_at(cfg.uri, cfg.collection, cfg.index)
        if named.where not in [copy.where for copy in copies]:
            copies.append(named._replace(owed=[asked]))
    if copies:
        from mpanet_pl.gallery.milvus import settle

        faults = settle(gallery, copies, token=cfg.uri_token)
        if faults:
            raise RunStopped(" ".join(f"{uri} still holds them: {reason}." for uri, reason in faults.items()))


def main(arguments: Sequence[str] | None = None) -> None:
    run_command("forget", forget, arguments)


if __name__ == "__main__":
    main()
