"""`compile=true` over the jobs of a sweep, which follow each other in one process."""

import functools
from collections.abc import Callable

import pytest
import torch
from commands import SMALL, compose
from torch import nn

from mpanet_pl.run.training import build_module


@pytest.mark.slow
def test_every_job_of_a_sweep_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    graphs: list[torch.fx.GraphModule] = []

    def counting(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(nn.Module, "compile", functools.partialmethod(nn.Module.compile, backend=counting))
    cfg = compose("train", [*SMALL, "data_dir=none", "compile=true"])
    with torch._dynamo.config.patch(recompile_limit=2), torch.no_grad():  # otherwise 8, and two graphs a job
        for job in range(1, 5):
            build_module(cfg, 2).eval()(torch.zeros(2, 3, 64, 32))
            assert len(graphs) == job
    torch._dynamo.reset()
