"""What a run leaves behind at its end: the table on the screen, results.md and results.json, pictures."""

from __future__ import annotations

from pathlib import Path

import torch
from pytorch_lightning.loggers import Logger, WandbLogger
from torch import Tensor

from mpanet_pl.data import Catalogue
from mpanet_pl.data.augment import normalise
from mpanet_pl.evaluation.tables import COLUMNS, Results
from mpanet_pl.module import MPANetModule
from mpanet_pl.run import pictures
from mpanet_pl.run.examination import Examiner, Tested

PEOPLE = 4  # whose pattern maps are pictured, in both modalities


def draw_pictures(folder: Path, tested: Tested, examiner: Examiner, module: MPANetModule) -> None:
    """Of one test: CMC curves, a rank list, embeddings and their similarities, and where the pattern maps look."""
    test, protocol = examiner.data.test, examiner.scoring.metric.protocol
    pictures.draw_cmc({setting: score.cmc for setting, score in tested.scores.items()}, folder / "cmc.png")
    ranks = pictures.best_ranked(tested.embeddings, test, protocol)
    pictures.draw_rank_list(ranks, examiner.data.images(test), folder / "rank_list.png")
    pictures.draw_embeddings(tested.embeddings, test, folder / "embeddings.png")
    pictures.draw_similarities(tested.embeddings, test, folder / "similarities.png")
    rows = _both_modalities(test)
    images = examiner.data.images(test)[rows]
    maps = _maps(module, images)
    if maps.shape[1]:
        captions = [f"person {test.identities[row]}\n{'infrared' if test.infrared[row] else 'visible'}" for row in rows]
        boxes = examiner.knowledge.boxes[rows] if examiner.knowledge else None
        pictures.draw_patterns(images, maps, folder / "patterns.png", boxes=boxes, captions=captions)


def _both_modalities(test: Catalogue) -> Tensor:
    """Rows of the first visible and the first infrared image of a few people, spread over the test set."""
    people = test.identities.unique()
    people = people[torch.linspace(0, len(people) - 1, min(PEOPLE, len(people))).long()]
    rows = []
    for person in people:
        for modality in (~test.infrared, test.infrared):
            rows += ((test.identities == person) & modality).nonzero().flatten()[:1].tolist()
    return torch.tensor(rows)


@torch.inference_mode()
def _maps(module: MPANetModule, images: Tensor) -> Tensor:
    network = module.eval().network
    return network.patterns(network.trunk(normalise(images).to(module.device)))


def tell(logger: Logger, results: Results, folder: Path) -> None:
    """The final table and the pictures, to Weights & Biases."""
    if isinstance(logger, WandbLogger):
        rows = [
            [row, setting, *(scores[name]["mean"] for name in COLUMNS)]
            for row, settings in results.scores.items()
            for setting, scores in settings.items()
        ]
        logger.log_table("results", columns=["result", "setting", *COLUMNS], data=rows)
        logger.log_image("rank_list", [str(folder / "rank_list.png")])
