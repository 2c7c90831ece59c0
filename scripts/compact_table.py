"""What small vectors cost: a finished run's test people, found by vectors of every width and kind of number.

    python scripts/compact_table.py RUN

Directions are learnt from the run's training images alone. A change is paired with the full vectors over the same
queries, and its 95 % interval is over people; a row that reaches zero is as good as the full width, as far as these
people tell. The last line names the narrowest width of which that is so.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from omegaconf import OmegaConf
from torch import Tensor
from torch.nn.functional import normalize

from mpanet_pl.evaluation import Scores, evaluate
from mpanet_pl.evaluation.differences import Difference, compare
from mpanet_pl.evaluation.outcomes import NAMES
from mpanet_pl.evaluation.pairing import Answers
from mpanet_pl.gallery.embedder import load
from mpanet_pl.gallery.projection import learn_each
from mpanet_pl.gallery.projection_learning import Teaching, training_embeddings
from mpanet_pl.run.datasets import build_data, build_protocol

WIDTHS = (4096, 2048, 1024, 512, 256, 128, 64, 32)
TOLD = ("r1", "mAP")


def int8(vectors: Tensor) -> Tensor:
    """Each row in steps of a 127th of its largest number."""
    step = vectors.abs().amax(1, keepdim=True) / 127
    return normalize((vectors / step).round())


NUMBERS: dict[str, Callable[[Tensor], Tensor]] = {
    "float32": lambda vectors: vectors,
    "float16": lambda vectors: vectors.half().float(),
    "int8": int8,
}
BYTES = {"float32": 4, "float16": 2, "int8": 1}


def rows(run: Path, setting: str, whiten: bool) -> Iterator[tuple[str, int, str, Scores, Difference]]:
    """(how, width, numbers, scores, what they gain on the full float32 vectors)."""
    embedder = load(run / "checkpoints/last.ckpt", device="cpu")
    cfg = OmegaConf.create(dict(embedder.origin.config))
    cfg.data.cache = False
    data = build_data(cfg.data)
    data.setup("test")
    images = data.images(data.test)
    full = embedder.embed(images[torch.arange(len(images))], infrared=data.test.infrared)
    learning = training_embeddings(embedder, Teaching(build_data))
    protocol = build_protocol(cfg.protocol, data.dataset)
    most = min(full.shape[1], len(learning) - 1)
    widths = [width for width in WIDTHS if width <= most]
    vectors = {("full", full.shape[1]): full}
    for width, projection in zip(widths, learn_each(learning, widths, whiten=whiten), strict=True):
        vectors["compact", width] = projection(full)

    def measured(embeddings: Tensor) -> tuple[Scores, Answers]:
        scores = evaluate(embeddings, data.test, protocol)[setting]
        assert scores.outcomes is not None
        return scores, Answers(scores.outcomes, data.test.paths)

    _, reference = measured(full)
    for (how, width), kept in vectors.items():
        for numbers, stored in NUMBERS.items():
            scores, answers = measured(stored(kept))
            yield how, width, numbers, scores, compare([reference], [answers])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--setting", default="all/single")
    parser.add_argument("--whiten", action="store_true")
    asked = parser.parse_args()
    print("| width | numbers | bytes | R1 | change | mAP | change |\n|---|---|---|---|---|---|---|")
    chosen = ""
    for how, width, numbers, scores, gained in rows(asked.run, asked.setting, asked.whiten):
        cells = [f"{width}{' (full)' if how == 'full' else ''}", numbers, str(width * BYTES[numbers])]
        places = [NAMES.index(name) for name in TOLD]
        for name, place in zip(TOLD, places, strict=True):
            low, high = scores.ci[name]
            cells.append(f"{scores.means[name]:.2f} ({low:.1f}–{high:.1f})")
            cells.append(f"{gained.mean[place]:+.2f} ({gained.low[place]:+.2f} to {gained.high[place]:+.2f})")
        print(f"| {' | '.join(cells)} |", flush=True)
        if how == "compact" and numbers == "float32" and all(gained.high[place] >= 0 for place in places):
            chosen = f"\nThe narrowest without a loss that these people show: {width}."
    print(chosen)


if __name__ == "__main__":
    main()
