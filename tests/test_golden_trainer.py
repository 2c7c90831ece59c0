"""The training step as a Trainer runs it, against the released numbers: no wrong order, no lost rank."""

import json
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from test_golden_network import CASES, TERMS, batch_of, features_of, grad_norms, module_of, twin_norms
from torch.utils.data import DataLoader

import mpanet_pl.step
from mpanet_pl.module import MPANetModule
from mpanet_pl.system.lightning import quiet

(FULL,) = (path for path in CASES if path.stem == "full")


class Seen(pl.Callback):
    """The terms and the gradients of each step."""

    def __init__(self) -> None:
        self.terms: list[dict[str, float]] = []
        self.gradients: list[dict[str, float]] = []

    def on_before_optimizer_step(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        self.gradients.append(grad_norms(module))

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, *_: Any) -> None:
        self.terms.append({name: float(value) for name, value in outputs["terms"].items()})


@pytest.mark.usefixtures("folded_convolutions")
def test_a_trainer_makes_the_released_steps() -> None:
    """The twins move before each step's loss; the optimiser, the terms and the weights afterwards are the release's."""
    case, stored = json.loads(FULL.read_text()), np.load(FULL.with_suffix(".npz"))
    assert case["epoch"] == 1
    module, seen = module_of(case), Seen()
    np.testing.assert_allclose(features_of(module, case), stored["features_before"], rtol=1e-8, atol=1e-10)
    module.train()
    batches = [batch_of(case, step) for step in range(len(case["train_steps"]))]
    with quiet():
        trainer = pl.Trainer(
            max_epochs=1,
            accelerator="cpu",
            precision="64-true",
            callbacks=[seen],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, DataLoader(batches, batch_size=None))
    for step, (terms, expected) in enumerate(zip(seen.terms, case["train_steps"], strict=True)):
        assert {TERMS[name]: value for name, value in terms.items()} == pytest.approx(
            {name: value for name, value in expected.items() if name != "acc"}, rel=1e-8 if step == 0 else 1e-7
        )
    assert seen.gradients[0] == pytest.approx(case["grad_norms_step0"], rel=1e-8)
    assert twin_norms(module) == pytest.approx(case["twin_norms_after"], rel=1e-8)
    np.testing.assert_allclose(features_of(module, case), stored["features_after"], rtol=1e-7, atol=1e-9)


def test_a_step_sees_the_rows_of_every_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    """Embeddings, identities and modality alike: with two ranks each loss is of twice the rows."""
    monkeypatch.setattr(mpanet_pl.step, "gather", lambda rows: torch.cat([rows, rows]))
    network = {"trunk": "resnet18_thin", "pretrained": False, "patterns": 2}
    module = MPANetModule(4, network=network, criterion={}, optimizer={"lr": 1e-3}, schedule={"milestones": [1]})
    rows: list[set[int]] = []
    forward = module.criterion.forward

    def counted(embedding: Any, *columns: torch.Tensor, **more: Any) -> Any:
        rows.append({len(embedding.embedding), *map(len, columns)})
        return forward(embedding, *columns, **more)

    monkeypatch.setattr(module.criterion, "forward", counted)
    images = torch.randn(4, 3, 64, 32)
    identities, index = torch.tensor([0, 0, 1, 1]), torch.arange(4)
    batch = mpanet_pl.module.Batch(images, identities, index, index % 2 == 0, index)
    with quiet():
        pl.Trainer(
            max_epochs=1,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        ).fit(module, DataLoader([batch], batch_size=None))
    assert rows == [{8}]
