"""`python -m mpanet_pl.search`: who is this? The most similar of a gallery, as a table and as a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mpanet_pl.cli.command import run_command
from mpanet_pl.run.request import NOTHING_TYPED, Request

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from pyarrow import Table

    from mpanet_pl.gallery.searching import Filter, Queries
    from mpanet_pl.gallery.store import Gallery


def search(cfg: DictConfig, request: Request = NOTHING_TYPED) -> None:
    from mpanet_pl.gallery.extras import check_engine, need

    need("pyarrow", "gallery")
    from mpanet_pl.gallery.answer_files import check_out, printed, write_answers
    from mpanet_pl.gallery.copies import note_answers
    from mpanet_pl.gallery.generations import of_one_generation
    from mpanet_pl.gallery.known import limit_of, modality_of, promise_of, with_known
    from mpanet_pl.gallery.searching import Filter, open_queries
    from mpanet_pl.gallery.store import Gallery

    check_engine(cfg.engine, cfg.uri)
    only = Filter(**cfg.only)
    out = Path(cfg.out).expanduser()
    check_out(out)
    first = Gallery(cfg.gallery)
    opened = open_queries(
        first, cfg.queries, name=cfg.name, group=cfg.group, ckpt=cfg.ckpt, device=cfg.device, trust=cfg.trust
    )
    with opened as queries:
        modality = modality_of(queries.columns["modality"])
        modality = None if modality == "both" else modality

        def ask(gallery: Gallery) -> None:
            limit = limit_of(gallery, cfg.threshold, modality)
            promise = promise_of(gallery, limit, modality)
            table = with_known(_answers(cfg, gallery, queries, only), limit)
            gallery.check_current()
            remark = "; ".join(part for part in (promise, gallery.unfinished) if part)
            note_answers(gallery.folder, out)  # first: forget asks there, whatever was written
            write_answers(out, gallery, queries, table, sheet=cfg.sheet, remark=remark)
            print(printed(table, queries))
            if gallery.unfinished:
                print(gallery.unfinished)
            told = f"{len(queries)} queries against {len(gallery)} rows of {cfg.gallery}"
            print(f"{told}: {cfg.out}/sheet.html, results.csv and results.json")
            if promise:
                print(f"An answer is {promise}.")

        of_one_generation(lambda: Gallery(cfg.gallery), ask)


def _answers(cfg: DictConfig, gallery: Gallery, queries: Queries, only: Filter) -> Table:
    if cfg.engine == "milvus":
        from mpanet_pl.gallery.milvus import copy_at, filled

        with filled(gallery, copy_at(cfg.uri, cfg.collection, cfg.index), token=cfg.uri_token) as collection:
            return collection.search(queries, k=cfg.k, only=only)
    from mpanet_pl.gallery.embedder import device_of
    from mpanet_pl.gallery.searching import search as find
    from mpanet_pl.gallery.searching import table_of

    return table_of(gallery, queries, find(gallery, queries, k=cfg.k, only=only, device=device_of(cfg.device)))


def main(arguments: Sequence[str] | None = None) -> None:
    run_command("search", search, arguments)


if __name__ == "__main__":
    main()
