"""Products in full precision, however the precision outside was set."""

from collections.abc import Callable, Iterator

import pytest
import torch

from mpanet_pl.system.precision import full_precision

CPU = torch.device("cpu")
NEW = hasattr(torch.backends, "fp32_precision")


def effective() -> list[str]:
    if NEW:
        return [torch.backends.cuda.matmul.fp32_precision, torch.backends.mkldnn.matmul.fp32_precision]
    return [torch.get_float32_matmul_precision()]


def for_all(precision: str) -> None:
    torch.backends.fp32_precision = precision


def for_one(precision: str) -> None:
    torch.backends.cuda.matmul.fp32_precision = precision


SETTINGS: list[tuple[Callable[[str], None], str]] = [
    (torch.set_float32_matmul_precision, "highest"),
    (torch.set_float32_matmul_precision, "high"),
    (torch.set_float32_matmul_precision, "medium"),
    *([(for_all, "ieee"), (for_all, "tf32"), (for_one, "ieee"), (for_one, "tf32")] if NEW else []),
]


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    torch.set_float32_matmul_precision("highest")
    if NEW:
        torch.backends.fp32_precision = "none"
        torch.backends.cuda.matmul.fp32_precision = torch.backends.mkldnn.matmul.fp32_precision = "none"


@pytest.mark.parametrize(("say", "precision"), SETTINGS)
def test_full_inside_and_as_before_outside(say: Callable[[str], None], precision: str) -> None:
    say(precision)
    before = effective()
    with full_precision(CPU):
        assert set(effective()) <= {"ieee", "highest"}
    assert effective() == before


@pytest.mark.skipif(not NEW, reason="since torch 2.9")
def test_what_is_set_for_all_still_reaches_every_backend_afterwards() -> None:
    for_all("tf32")
    with full_precision(CPU):
        pass
    for_all("ieee")
    assert set(effective()) == {"ieee"}


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_the_older_way_can_still_be_read_afterwards(precision: str) -> None:
    torch.set_float32_matmul_precision(precision)
    with full_precision(CPU):
        pass
    assert torch.get_float32_matmul_precision() == precision
    assert torch.backends.cuda.matmul.allow_tf32


def test_no_autocast_reaches_in() -> None:
    values = torch.randn(8, 8)
    with torch.autocast("cpu", torch.bfloat16), full_precision(CPU):
        assert (values @ values).dtype == torch.float32
