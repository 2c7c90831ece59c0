"""`python -m mpanet_pl.serve`: a gallery behind HTTP, and a page on which an image is dropped to see who answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mpanet_pl.cli.command import run_command
from mpanet_pl.run.request import NOTHING_TYPED, Request

if TYPE_CHECKING:
    from omegaconf import DictConfig


def serve(cfg: DictConfig, request: Request = NOTHING_TYPED) -> None:
    from mpanet_pl.gallery.extras import need

    need("pyarrow", "gallery")
    need("fastapi", "serve")
    uvicorn = need("uvicorn", "serve")
    from mpanet_pl.gallery.searching import embedder_of
    from mpanet_pl.gallery.serving import LOOPBACK, HeldGallery, create_app
    from mpanet_pl.gallery.store import Gallery

    embedder = embedder_of(Gallery(cfg.gallery), ckpt=cfg.ckpt, device=cfg.device, trust=cfg.trust)
    gallery = HeldGallery(cfg.gallery, embedder.device)
    token = None if cfg.token is None else str(cfg.token)
    if cfg.host not in LOOPBACK and token is None:
        print(f"Whoever reaches this machine can search the gallery: host={cfg.host} without token=….", flush=True)
    hint = f"#token={token}" if token else ""
    print(f"{len(gallery)} rows: http://{cfg.host}:{cfg.port}/{hint}", flush=True)
    app = create_app(gallery, embedder, token=token, host=cfg.host)
    uvicorn.run(app, host=cfg.host, port=cfg.port, log_level="warning", server_header=False)


def main(arguments: Sequence[str] | None = None) -> None:
    run_command("serve", serve, arguments)


if __name__ == "__main__":
    main()
