"""How fast evaluation is beside its limit, the product that holds all similarities; re-ranking beside a double loop.

    python scripts/bench_evaluation.py                     SYSU-MM01's four settings, ten trials, 14 336-wide embeddings
    python scripts/bench_evaluation.py --straightforward   and an evaluator in numpy that sorts every gallery by itself
    python scripts/bench_evaluation.py --rerank            k-reciprocal on all-search multi-shot beside a double loop
    python scripts/bench_evaluation.py --width 64 --rounds 1

Embeddings are made up, on SYSU-MM01's exact structure. Times are medians over interleaved rounds, processor seconds are
those of all cores (where others are at work, OMP_NUM_THREADS=1 and their ratio say more than the clock);
memory is the highest resident size above that before the call (Linux).
"""

import argparse
import os
import platform
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from evaluation import made
from evaluation.definition import k_reciprocal

from mpanet_pl.data.catalogue import Catalogue
from mpanet_pl.evaluation import KReciprocal, SYSUProtocol, evaluate
from mpanet_pl.evaluation.rerank import squared_distances


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=14336)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--straightforward", action="store_true")
    parser.add_argument("--rerank", action="store_true")
    options = parser.parse_args()

    _, catalogue = made.sysu(dim=1)
    embeddings = made_up(catalogue, options.width)
    print(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{int(catalogue.infrared.sum())} queries, {int((~catalogue.infrared).sum())} images, {options.width} wide\n")
    if options.rerank:
        bench_rerank(embeddings, catalogue)
    else:
        bench_evaluate(embeddings, catalogue, options.rounds, options.straightforward)


def made_up(catalogue: Catalogue, width: int) -> Tensor:
    """Embeddings that know identities about as well as a trained network's: rank-1 is near 70 %."""
    draw = torch.Generator().manual_seed(0)
    embeddings = torch.randn(len(catalogue), width, generator=draw).mul_(1.6 * (width / 64) ** 0.25)
    return embeddings.add_(torch.randn(534, width, generator=draw)[catalogue.identities])


def bench_evaluate(embeddings: Tensor, catalogue: Catalogue, rounds: int, straightforward: bool) -> None:
    protocol = SYSUProtocol()
    busy = os.getloadavg()[0]
    evaluate(embeddings[:, :8], catalogue, protocol)  # warm
    queries, gallery = embeddings[catalogue.infrared], embeddings[~catalogue.infrared]
    rounds_of: dict[str, list[tuple[float, float]]] = {"one product": [], "evaluate": []}
    memory = 0
    for _ in range(rounds):
        rounds_of["one product"].append(seconds(lambda: queries @ gallery.T))
        taken, above = watched(lambda: evaluate(embeddings, catalogue, protocol))
        rounds_of["evaluate"].append(taken)
        memory = max(memory, above)
    (product, of_cores), (ours, our_cores) = (
        tuple(map(statistics.median, zip(*taken, strict=True))) for taken in rounds_of.values()
    )
    row("", "seconds", "of the product", "processor s", "memory above")
    row("one product", f"{product:.2f}", "1.00", f"{of_cores:.2f}", "")
    row("evaluate", f"{ours:.2f}", f"{ours / product:.2f}", f"{our_cores:.2f}", f"{memory / 1e9:.2f} GB")
    if straightforward:
        taken, above = watched(lambda: evaluate_straightforwardly(embeddings.numpy(), catalogue, protocol))
        row(
            "straightforward",
            f"{taken[0]:.2f}",
            f"{taken[0] / product:.2f}",
            f"{taken[1]:.2f}",
            f"{above / 1e9:.2f} GB",
        )
    ratios = [one[0] / other[0] for one, other in zip(rounds_of["evaluate"], rounds_of["one product"], strict=True)]
    print(f"\nevaluate takes {ours / product:.2f} times the product ({', '.join(f'{r:.2f}' for r in ratios)} by round)")
    print(f"load before: {busy:.1f} (below 0.3 is quiet)")


def bench_rerank(embeddings: Tensor, catalogue: Catalogue) -> None:
    (search,) = SYSUProtocol(trials=1).searches(catalogue)
    rows = torch.cat([search.queries, search.galleries["all/multi"][0]])
    count, reranker = len(search.queries), KReciprocal()
    embeddings = torch.nn.functional.normalize(embeddings[rows])
    row("", "seconds", "of the loop", "memory above")
    (whole, _), above = watched(lambda: reranker(embeddings[:count], embeddings[count:]))
    distances = squared_distances(embeddings)
    distances /= distances.amax(1, keepdim=True)
    (taken, _), _ = watched(lambda: reranker.similarity(distances, count))
    (loop, _), loop_above = watched(lambda: k_reciprocal(distances.numpy(), count, among_queries=False))
    row("double loop", f"{loop:.2f}", "1.00", f"{loop_above / 1e9:.2f} GB")
    row("k-reciprocal", f"{taken:.2f}", f"{taken / loop:.3f}", "")
    row("with its distances", f"{whole:.2f}", "", f"{above / 1e9:.2f} GB")


def evaluate_straightforwardly(embeddings: np.ndarray, catalogue: Catalogue, protocol: SYSUProtocol) -> list[float]:
    """Rank-1 and mAP of each trial: a similarity matrix and a sort for itself, and a loop over the queries."""
    identities, cameras = catalogue.identities.numpy(), catalogue.cameras.numpy()
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    (search,) = protocol.searches(catalogue)
    queries = search.queries.numpy()
    scores = []
    for gallery in (gallery.numpy() for trials in search.galleries.values() for gallery in trials):
        ranking = np.argsort(-(unit[queries] @ unit[gallery].T), axis=1)
        hits, precisions = [], []
        for query, order in zip(queries, gallery[ranking], strict=True):
            kept = order[cameras[order] != 2] if cameras[query] == 3 else order
            places = np.flatnonzero(identities[kept] == identities[query]) + 1
            if len(places):
                _, appearances = np.unique(identities[kept], return_index=True)
                hits.append(places[0] - 1 == appearances.min())
                precisions.append((np.arange(1, len(places) + 1) / places).mean())
        scores += [float(np.mean(hits)), float(np.mean(precisions))]
    return scores


def seconds(call: Callable[[], Any]) -> tuple[float, float]:
    """On the clock, and of processors."""
    began, worked = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - began, time.process_time() - worked


def watched(call: Callable[[], Any]) -> tuple[tuple[float, float], int]:
    """(seconds, bytes of memory above what was there before)."""
    before, highest, done = resident(), 0, threading.Event()

    def watch() -> None:
        nonlocal highest
        while not done.wait(0.005):
            highest = max(highest, resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    taken = seconds(call)
    done.set()
    watcher.join()
    return taken, max(0, highest - before)


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def row(name: str, *cells: str) -> None:
    print(f"{name:20}" + "".join(f"{cell:>16}" for cell in cells))


if __name__ == "__main__":
    main()
