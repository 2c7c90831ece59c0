"""docs/data_module.md runs, block after block."""

import re
import warnings
from pathlib import Path

import pytest
import torch
from trees import draw_sysu

PAGE = Path(__file__).parents[2] / "docs/data_module.md"


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_sysu(tmp_path / "SYSU-MM01")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice on a bare Trainer
        for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
            exec(compile(block, PAGE.name, "exec"), names)
    first, second = names["first"], names["second"]
    assert first.shape == second.shape == (8, 3, 48, 24)
    assert not torch.equal(first, second)
