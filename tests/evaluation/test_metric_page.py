"""What docs/metric.md shows runs."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision import transforms
from trees import draw_sysu

from mpanet_pl.data import SYSU
from mpanet_pl.evaluation import evaluate, protocol_of

PAGE = Path(__file__).parents[2] / "docs/metric.md"


def test_another_network_is_scored_on_sysu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_sysu(tmp_path / "data/sysu")
    monkeypatch.chdir(tmp_path)
    score_it, own_protocol = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    torch.manual_seed(0)
    theirs = {
        "network": nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 8, 5)),
        "transform": transforms.Compose([transforms.Resize((16, 8)), transforms.ToTensor()]),
    }
    exec(compile(score_it, str(PAGE), "exec"), theirs)
    assert "'indoor/multi/mINP': tensor(" in capsys.readouterr().out

    metric = theirs["metric"]
    dataset = SYSU(tmp_path / "data/sysu")
    again = evaluate(metric.embeddings(), dataset.read().test, protocol_of(dataset))
    assert {name: score.trials for name, score in metric.scores().items()} == {n: s.trials for n, s in again.items()}

    exec(compile(own_protocol, str(PAGE), "exec"), theirs)
    one_gallery = evaluate(metric.embeddings(), metric.catalogue, theirs["OneGallery"]())
    assert one_gallery.keys() == {"infrared_to_visible"}
