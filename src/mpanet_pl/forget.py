"""`python -m mpanet_pl.forget`: people, tracklets, cameras or old times leave a gallery."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mpanet_pl.cli.command import run_command
from mpanet_pl.errors import RunStopped, UserError
from mpanet_pl.run.request import NOTHING_TYPED, Request

if TYPE_CHECKING:
    from omegaconf import DictConfig


def forget(cfg: DictConfig, request: Request = NOTHING_TYPED) -> None:
    from mpanet_pl.gallery.extras import need

    need("pyarrow", "gallery")
    from mpanet_pl.gallery.copies import copies_of
    from mpanet_pl.gallery.forgetting import criteria_from, forget_in_copies
    from mpanet_pl.gallery.forgetting import forget as remove
    from mpanet_pl.gallery.store import Gallery
    from mpanet_pl.system.files import written_aside

    gallery = Gallery(cfg.gallery)
    asked = criteria_from(gallery, cfg)
    if cfg.uri is not None or copies_of(gallery.folder):
        need("pymilvus", "milvus")
    try:
        done = remove(gallery.folder, **asked)
    except UserError:
        forget_in_copies(gallery.folder, cfg, None)  # what an interrupted request left to be done
        raise
    cleared, faults = forget_in_copies(gallery.folder, cfg, done)
    report = "\n".join([done.report(Gallery(gallery.folder)), *cleared, *faults])
    print(f"{done.rows} rows are forgotten.\n{report}", flush=True)
    if cfg.report is not None:
        with written_aside(Path(cfg.report).expanduser()) as aside:
            aside.write_text(report + "\n", encoding="utf-8")
    if faults:
        raise RunStopped(" ".join(faults))


def main(arguments: Sequence[str] | None = None) -> None:
    run_command("forget", forget, arguments)


if __name__ == "__main__":
    main()
