from pathlib import Path

import pytest
from checkpoints import save_checkpoint

from mpanet_pl.gallery.embedder import Embedder, load


@pytest.fixture(scope="session")
def ckpt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("ckpt") / "best.ckpt")


@pytest.fixture(scope="session")
def embedder(ckpt: Path) -> Embedder:
    return load(ckpt, device="cpu")
