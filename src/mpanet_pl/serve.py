"""`python -m mpanet_pl.serve`: a gallery behind HTTP, and a page on which an image is dropped to see who answers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from mpanet_pl.cli.command import run_command
from mpanet_pl.run.request import NOTHING_TYPED, Request

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from mpanet_pl.gallery.engines import Engine


def serve(cfg: DictConfig, request: Request = NOTHING_TYPED) -> None:
    from mpanet_pl.gallery.extras import check_engine, need

    need("pyarrow", "gallery")
    check_engine(cfg.engine, cfg.uri)
    for module in ("fastapi", "uvicorn", "limits", "pebble"):
        need(module, "serve")
    from mpanet_pl.gallery.access_log import AccessLog
    from mpanet_pl.gallery.engines import Live
    from mpanet_pl.gallery.guard import names_of, rate_of, tokens_of
    from mpanet_pl.gallery.listening import check_free, server_of
    from mpanet_pl.gallery.searching import embedder_of
    from mpanet_pl.gallery.serving import create_app
    from mpanet_pl.gallery.store import Gallery

    gallery = Gallery(cfg.gallery)
    tokens = tokens_of(cfg.token_file)
    names, rate = names_of(cfg.host, cfg.hosts, tokens), rate_of(cfg.rate)
    log = AccessLog(cfg.access_log, cfg.access_file)
    check_free(cfg.host, cfg.port)
    embedder = embedder_of(gallery, ckpt=cfg.ckpt, device=cfg.device, trust=cfg.trust)

    def opened(folder: Path) -> AbstractContextManager[Engine]:
        if cfg.engine == "milvus":
            from mpanet_pl.gallery.milvus import copy_at, filled

            return filled(Gallery(folder), copy_at(cfg.uri, cfg.collection, cfg.index), token=cfg.uri_token)
        from mpanet_pl.gallery.engines import HeldGallery

        return nullcontext(HeldGallery(folder, embedder.device))

    live = Live(gallery.folder, opened)
    live.engine()  # what is wrong with it is told before anybody asks
    app = create_app(live, embedder, tokens=tokens, names=names, threshold=cfg.threshold, rate=rate, log=log)
    server = server_of(app, host=cfg.host, port=cfg.port, proxies=cfg.proxies, connections=cfg.connections)
    print(f"{len(gallery)} rows, and pictures below {gallery.root}: http://{cfg.host}:{cfg.port}/", flush=True)
    server.run()


def main(arguments: Sequence[str] | None = None) -> None:
    run_command("serve", serve, arguments)


if __name__ == "__main__":
    main()
