"""The scores as they are defined, one query after another: what the tensor functions are held against."""

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from mpanet_pl.data.catalogue import Catalogue

Leaves = Callable[[int, int], bool]  # whether query row and gallery row do not meet


def evaluate_query(entries: Sequence[tuple[float, int]], identity: int, cmc: str) -> tuple[int, float, float] | None:
    """(first true place, AP, INP) of a query that meets (similarity, identity) entries; None without a true match.

    Falling by similarity; of equal ones the wrong image comes first.
    """
    ranking = [who for _, who in sorted(entries, key=lambda entry: (-entry[0], entry[1] == identity))]
    places = [place for place, who in enumerate(ranking, start=1) if who == identity]
    if not places:
        return None
    precisions = [found / place for found, place in enumerate(places, start=1)]
    listed = list(dict.fromkeys(ranking)) if cmc == "deduplicated" else ranking
    return listed.index(identity) + 1, sum(precisions) / len(places), len(places) / places[-1]


def evaluate_trial(
    similarity: Tensor, catalogue: Catalogue, queries: Sequence[int], gallery: Sequence[int], leaves: Leaves, cmc: str
) -> dict[str, float]:
    """The scores in percent of one gallery; `similarity` (N, N) is that of all images with all images."""
    identities = catalogue.identities.tolist()
    found = [
        evaluate_query(
            [(float(similarity[query, image]), identities[image]) for image in gallery if not leaves(query, image)],
            identities[query],
            cmc,
        )
        for query in queries
    ]
    matched = [one for one in found if one is not None]
    scores = {f"r{k}": sum(first <= k for first, _, _ in matched) for k in (1, 5, 10, 20)}
    scores |= {"mAP": sum(ap for _, ap, _ in matched), "mINP": sum(inp for _, _, inp in matched)}
    return {name: 100 * total / len(matched) for name, total in scores.items()}


def k_reciprocal(distances: np.ndarray, queries: int, among_queries: bool, k1: int = 20, k2: int = 6) -> np.ndarray:
    """Re-ranked distances (Q, G), image by image, from those among all (N, N), each row scaled to a maximum of 1."""
    count = len(distances)
    asked = distances.copy()
    if among_queries:
        asked[:, queries:] = distances.max()
    ranking = np.argsort(asked, axis=1)

    def reciprocal(image: int, k: int) -> np.ndarray:
        nearest = ranking[image, : k + 1]
        return nearest[[image in ranking[other, : k + 1] for other in nearest]]

    vectors = np.zeros((count, count), dtype=distances.dtype)
    for image in range(count):
        own = expanded = reciprocal(image, k1)
        for other in own:
            theirs = reciprocal(other, round(k1 / 2))
            if len(np.intersect1d(theirs, own)) > 2 / 3 * len(theirs):
                expanded = np.append(expanded, theirs)
        expanded = np.unique(expanded)
        weight = np.exp(-distances[image, expanded])
        vectors[image, expanded] = weight / weight.sum()
    vectors = np.stack([vectors[ranking[image, :k2]].mean(axis=0) for image in range(count)])

    gallery_with = [np.flatnonzero(vectors[queries:, column]) for column in range(count)]
    jaccard = np.zeros((queries, count - queries), dtype=distances.dtype)
    for query in range(queries):
        shared = np.zeros(count - queries, dtype=distances.dtype)
        for column in np.flatnonzero(vectors[query]):
            images = gallery_with[column]
            shared[images] += np.minimum(vectors[query, column], vectors[queries + images, column])
        jaccard[query] = 1 - shared / (2 - shared)
    return 0.7 * jaccard + 0.3 * distances[:queries, queries:]


def affinity(queries: np.ndarray, gallery: np.ndarray, k1: int, k2: int) -> np.ndarray:
    """Distances (Q, G), image by image."""
    queries, gallery = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (queries, gallery))
    k1, k2 = min(k1, len(gallery)), min(k1, k2, len(gallery))

    def description(cosines: np.ndarray) -> np.ndarray:
        least = sorted(cosines.tolist(), reverse=True)[k1 - 1]
        return np.array([cosine if cosine >= least else 0 for cosine in cosines.tolist()])

    alone, nearest = [], []
    for image in range(len(gallery)):
        cosines = gallery @ gallery[image]
        alone.append(description(cosines))
        others = sorted(set(range(len(gallery))) - {image}, key=lambda other: -cosines[other])
        nearest.append([image, *others][:k2])
    described = [np.mean([alone[other] for other in nearest[image]], axis=0) for image in range(len(gallery))]
    distances = np.empty((len(queries), len(gallery)))
    for row, query in enumerate(queries):
        mine = description(gallery @ query)
        for image, theirs in enumerate(described):
            alike = mine @ theirs / np.linalg.norm(mine) / np.linalg.norm(theirs)
            distances[row, image] = -alike - query @ gallery[image]
    return distances
