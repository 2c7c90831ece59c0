"""Parts of a work on several threads."""

import threading
from collections.abc import Iterator

import pytest
import torch

from mpanet_pl.system.threads import on_threads


@pytest.fixture
def three_threads() -> Iterator[None]:
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(1)


def test_each_thread_has_torch_to_itself_in_the_callers_mode(three_threads: None) -> None:
    together = threading.Barrier(3, timeout=30)  # which one thread alone would never pass

    def seen(part: int) -> tuple[int, int, bool, bool]:
        together.wait()
        return part, torch.get_num_threads(), torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    with torch.inference_mode():
        assert on_threads(seen, range(3)) == [(part, 1, True, False) for part in range(3)]
    with torch.no_grad():
        assert on_threads(seen, range(3)) == [(part, 1, False, False) for part in range(3)]
    assert torch.get_num_threads() == 3


def test_threads_are_kept_for_the_next_work(three_threads: None) -> None:
    together = threading.Barrier(3, timeout=30)

    def who(part: int) -> int:
        together.wait()
        return threading.get_ident()

    assert set(on_threads(who, range(3))) == set(on_threads(who, range(3)))


def test_a_fault_is_the_callers(three_threads: None) -> None:
    with pytest.raises(ZeroDivisionError):
        on_threads(lambda part: 1 // part, range(3))
    assert torch.get_num_threads() == 3
