"""What a run shows at its end: pictures of one test, the table, where its files are and what to do next."""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from mpanet_pl.data import Catalogue
from mpanet_pl.data.augment import normalise
from mpanet_pl.data.loading import pictures_of
from mpanet_pl.evaluation.calibration import evenly
from mpanet_pl.evaluation.tables import Results, markdown
from mpanet_pl.module import MPANetModule
from mpanet_pl.run.callbacks.checkpoints import LAST
from mpanet_pl.run.examination import Examiner, Tested
from mpanet_pl.run.logbook import say
from mpanet_pl.run.pictures.curves import draw_cmc, draw_curves
from mpanet_pl.run.pictures.embeddings import Cut, draw_embeddings, draw_similarities
from mpanet_pl.run.pictures.pattern_maps import draw_patterns
from mpanet_pl.run.pictures.rank_list import SPREAD, WORST, best_ranked, draw_rank_list
from mpanet_pl.system.shell import typed

logger = logging.getLogger(__name__)

PEOPLE = 4  # whose pattern maps are pictured, in both modalities
PEOPLE_CHOSEN = "people at equal distances in the list of the test people, the first image of each modality"

NEXT = """
Files: {folder}, pictures and tables: index.html
Next:  python -m mpanet_pl.evaluate {ckpt} rerank=k_reciprocal
       python -m mpanet_pl.embed {ckpt} images=… out=people         a gallery of your images, then
       python -m mpanet_pl.search gallery=people queries=…          who is this?
       python -m mpanet_pl.train {resume} trainer.max_epochs=…      train longer
       python -m mpanet_pl.train dataset=sysu data_dir=…            your dataset: sysu, regdb, llcm, folder"""


def print_end(results: Results, tested: Tested, examiner: Examiner, folder: Path) -> None:
    """The table, a line each on nuances, on how it was measured and on the files, and what to do next."""
    lines = [examiner.ground_truth.line(tested.nuances)] if examiner.ground_truth else []
    results.print(extra=[line for line in (*lines, examiner.chance) if line])
    logger.info("results\n%s", markdown([results.scores_table()], results.notes).replace("\n", "\n  "))
    ckpt, resume = typed("ckpt", folder / LAST), typed("resume", folder)
    print(NEXT.format(folder=folder, ckpt=ckpt, resume=resume))


def draw_pictures(
    folder: Path,
    tested: Tested,
    examiner: Examiner,
    module: MPANetModule,
    rank_list: str | int = SPREAD,
    cut: Cut | None = None,
) -> None:
    """Of one test and the weights that `module` was tested with; a picture that fails costs itself alone.

    Beside the rank list that is asked for stands that of the worst queries. `cut` is the run's own threshold.
    """
    for name, draw in _pictures(tested, examiner, module, rank_list, cut).items():
        try:
            draw(folder / name)
        except Exception as error:  # a font, a full disk, a set of people nobody thought of
            say(f"{name} could not be drawn: {error}")


def _pictures(
    tested: Tested, examiner: Examiner, module: MPANetModule, choice: str | int, cut: Cut | None
) -> dict[str, Callable[[Path], None]]:
    """File -> what draws it."""
    test, embeddings = examiner.data.test, tested.embeddings

    def curves(path: Path) -> None:
        if (metrics := path.with_name("metrics.csv")).exists():
            draw_curves(metrics, path)

    def rank_list(path: Path, choice: str | int) -> None:
        ranked = best_ranked(embeddings, test, examiner.protocol, choice=choice)
        draw_rank_list(ranked, pictures_of(examiner.data.test_dataloader().dataset), test, path)

    def patterns(path: Path) -> None:
        rows = _both_modalities(test)
        images = examiner.data.images(test)[rows]
        if (maps := _maps(module, images, test.infrared[rows])).shape[1]:
            captions = [f"person {test.identities[i]}\n{'infrared' if test.infrared[i] else 'visible'}" for i in rows]
            boxes = examiner.ground_truth.boxes[rows] if examiner.ground_truth else None
            draw_patterns(images, maps, path, boxes=boxes, captions=captions, heading=PEOPLE_CHOSEN)

    return {
        "curves.png": curves,
        "cmc.png": partial(draw_cmc, tested.scores),
        "rank_list.png": partial(rank_list, choice=choice),
        "rank_list_worst.png": partial(rank_list, choice=WORST),
        "embeddings.png": partial(draw_embeddings, embeddings, test),
        "similarities.png": partial(draw_similarities, embeddings, test, cut=cut),
        "patterns.png": patterns,
    }


def _both_modalities(test: Catalogue) -> Tensor:
    """Rows of the first visible and the first infrared image of a few people, spread over the test set."""
    rows = []
    for person in evenly(test.identities.unique(), PEOPLE):
        for modality in (~test.infrared, test.infrared):
            rows += ((test.identities == person) & modality).nonzero().flatten()[:1].tolist()
    return torch.tensor(rows)


@torch.inference_mode()
def _maps(module: MPANetModule, images: Tensor, infrared: Tensor) -> Tensor:
    """None of a network that has no maps."""
    device = module.device
    return module.eval().embed(normalise(images).to(device), infrared.to(device)).maps
