"""`python -m mpanet_pl.search`: who is this? The most similar of a gallery, as a table and as a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mpanet_pl.cli.command import run_command
from mpanet_pl.run.request import NOTHING_TYPED, Request

if TYPE_CHECKING:
    from omegaconf import DictConfig


def search(cfg: DictConfig, request: Request = NOTHING_TYPED) -> None:
    from mpanet_pl.gallery.extras import check_engine, need

    need("pyarrow", "gallery")
    from mpanet_pl.gallery.answers import write_answers
    from mpanet_pl.gallery.embedder import device_of
    from mpanet_pl.gallery.known import limit_of, said, with_known
    from mpanet_pl.gallery.searching import Filter, open_queries, table_of
    from mpanet_pl.gallery.searching import search as find
    from mpanet_pl.gallery.store import Gallery

    check_engine(cfg.engine, cfg.uri)
    only = Filter(**cfg.only)
    gallery = Gallery(cfg.gallery)
    limit = limit_of(gallery, cfg.threshold)
    opened = open_queries(
        gallery, cfg.queries, name=cfg.name, group=cfg.group, ckpt=cfg.ckpt, device=cfg.device, trust=cfg.trust
    )
    with opened as queries:
        if cfg.engine == "exact":
            hits = find(gallery, queries, k=cfg.k, only=only, device=device_of(cfg.device))
            table = table_of(gallery, queries, hits)
        else:
            from mpanet_pl.gallery.milvus import copy_at, filled

            with filled(gallery, copy_at(cfg.uri, cfg.collection, cfg.index), token=cfg.uri_token) as collection:
                table = collection.search(queries, k=cfg.k, only=only)
        write_answers(cfg.out, gallery, queries, with_known(table, limit), sheet=cfg.sheet, remark=said(gallery, limit))
    print(f"{len(queries)} queries against {len(gallery)} rows of {cfg.gallery}: {cfg.out}/sheet.html and results.csv")
    if limit is not None:
        print(f"An answer is {said(gallery, limit)}.")


def main(arguments: Sequence[str] | None = None) -> None:
    run_command("search", search, arguments)


if __name__ == "__main__":
    main()
