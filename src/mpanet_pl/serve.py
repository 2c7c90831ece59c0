"""`python -m mpanet_pl.serve`: a gallery behind HTTP, and a page on which an image is dropped to see who answers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from mpanet_pl.cli.command import run_command
from mpanet_pl.run.request import NOTHING_TYPED, Request

if TYPE_CHECKING:
    from omegaconf import DictConfig


def serve(cfg: DictConfig, request: Request = NOTHING_TYPED) -> None:
    from mpanet_pl.gallery.extras import check_engine, need

    need("pyarrow", "gallery")
    check_engine(cfg.engine, cfg.uri)
    need("fastapi", "serve")
    uvicorn = need("uvicorn", "serve")
    from mpanet_pl.gallery.known import limit_of
    from mpanet_pl.gallery.searching import embedder_of
    from mpanet_pl.gallery.serving import LOOPBACK, Engine, HeldGallery, create_app
    from mpanet_pl.gallery.store import Gallery

    gallery = Gallery(cfg.gallery)
    limit = limit_of(gallery, cfg.threshold)
    embedder = embedder_of(gallery, ckpt=cfg.ckpt, device=cfg.device, trust=cfg.trust)
    token = None if cfg.token is None else str(cfg.token)
    if cfg.host not in LOOPBACK and token is None:
        print(f"Whoever reaches this machine can search the gallery: host={cfg.host} without token=….", flush=True)
    hint = f"#token={token}" if token else ""
    with ExitStack() as stack:
        engine: Engine
        if cfg.engine == "milvus":
            from mpanet_pl.gallery.milvus import copy_at, filled

            copy = copy_at(cfg.uri, cfg.collection, cfg.index)
            engine = stack.enter_context(filled(gallery, copy, token=cfg.uri_token))
        else:
            engine = HeldGallery(gallery.folder, embedder.device)
        print(f"{len(gallery)} rows: http://{cfg.host}:{cfg.port}/{hint}", flush=True)
        app = create_app(engine, embedder, token=token, host=cfg.host, limit=limit)
        uvicorn.run(app, host=cfg.host, port=cfg.port, log_level="warning", server_header=False)


def main(arguments: Sequence[str] | None = None) -> None:
    run_command("serve", serve, arguments)


if __name__ == "__main__":
    main()
