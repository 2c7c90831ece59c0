"""One thread for each test process, no window, no network; and the tiny datasets that many tests share."""

import gc
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

os.environ["MPLBACKEND"] = "Agg"
os.environ["WANDB_MODE"] = "offline"
os.environ["XDG_STATE_HOME"] = os.path.join(tempfile.gettempdir(), f"mpanet_pl_tests_{os.getuid()}")
os.environ["MPANET_CACHE"] = os.path.join(os.environ["XDG_STATE_HOME"], "cache")  # never the user's own

import pytest
import torch
from golden import folded
from trees import draw_folder, draw_llcm, draw_regdb, draw_sysu

torch.set_num_threads(1)
if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # in a shell's background: the commands under test would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    gc.freeze()  # what the imports made stays: each full collection would walk through it again


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a GPU")


@pytest.fixture(scope="session")
def sysu(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a tiny SYSU-MM01, to be read only; likewise the three below."""
    return draw_sysu(tmp_path_factory.mktemp("sysu"))


@pytest.fixture(scope="session")
def regdb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_regdb(tmp_path_factory.mktemp("regdb"))


@pytest.fixture(scope="session")
def llcm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_llcm(tmp_path_factory.mktemp("llcm"))


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_folder(tmp_path_factory.mktemp("folder"))


@pytest.fixture
def folded_convolutions() -> Iterator[None]:
    """A ResNet-50 in float64 takes less than half the time; its numbers stay those of PyTorch's own convolutions."""
    with folded.folded():
        yield
