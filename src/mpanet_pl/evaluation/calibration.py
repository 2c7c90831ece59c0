"""People who calibrate a threshold: each searches a gallery of the others, in every pair of modalities."""

import hashlib
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mpanet_pl.data.catalogue import Catalogue
from mpanet_pl.evaluation.impostors import Law, laws_of
from mpanet_pl.evaluation.protocols import rows_of
from mpanet_pl.evaluation.ranking import Gallery
from mpanet_pl.evaluation.retrieval import directions_of, lengths_of
from mpanet_pl.evaluation.scoring import check_embeddings, check_finite
from mpanet_pl.evaluation.thresholds import ALL, COSINES, FALSE_ALARMS, SINGLE, Setting, Threshold, least_people
from mpanet_pl.system.precision import full_precision

SEARCHES = 1024  # that calibrate
HELD_OUT, OF_THE_TEST = "held-out training people", "test people"


class Calibration(NamedTuple):
    """People to calibrate on, and their embeddings by the network that is tested."""

    embeddings: Tensor  # (N, D)
    catalogue: Catalogue
    who: str = HELD_OUT


@torch.no_grad()
def calibrate(calibration: Calibration) -> Threshold | None:
    """Cosines for use in searches; None where nobody can calibrate. No protocol: whoever searches has no trials."""
    embeddings, catalogue, who = calibration
    check_embeddings(embeddings, len(catalogue))
    check_finite(lengths_of(embeddings), catalogue)
    settings = []
    with full_precision(embeddings.device):
        directions = directions_of(embeddings)
        sides = {"visible": rows_of(catalogue, infrared=False), "infrared": rows_of(catalogue, infrared=True)}
        galleries = {**sides, "both": torch.cat(list(sides.values()))} if all(map(len, sides.values())) else sides
        for gallery, images in galleries.items():
            for shots, chosen in ((SINGLE, _one_each(catalogue, images)), (ALL, images)):
                for queries, asked in sides.items():
                    setting = _calibrated(directions, catalogue, asked, chosen)
                    if setting:
                        settings.append(Setting(queries, gallery, shots, *setting))
    return Threshold(who, tuple(settings)) if settings else None


def _calibrated(
    directions: Tensor, catalogue: Catalogue, queries: Tensor, images: Tensor
) -> tuple[float, int, int, tuple[Law, ...]] | None:
    """Images of a person, people, searches and laws, of people who have queries and images."""
    identities = catalogue.identities
    both = sorted(set(identities[queries].tolist()) & set(identities[images].tolist()))
    queries, images = (rows[torch.isin(identities[rows], torch.tensor(both).long())] for rows in (queries, images))
    if len(both) < least_people(max(FALSE_ALARMS)):
        return None
    queries = evenly(queries, SEARCHES)
    device = directions.device
    images = images[identities[images].argsort(stable=True)]
    gallery = Gallery(identities[images].to(device))
    best = gallery.best_of_each(directions[queries.to(device)] @ directions[images.to(device)].T)  # (Q, I)
    own = torch.searchsorted(gallery.known, identities[queries].to(device))
    scores, columns = best.cpu().numpy().astype(np.float64), own.cpu().numpy()
    found = laws_of(COSINES.of(scores), columns, [rate for rate in FALSE_ALARMS if len(both) >= least_people(rate)])
    return (len(images) / len(both), len(both), len(queries), found) if found else None


def _one_each(catalogue: Catalogue, images: Tensor) -> Tensor:
    """One of each person's images, by a hash of their paths."""
    chosen: dict[int, tuple[bytes, int]] = {}
    for row in images.tolist():
        key = (hashlib.sha256(catalogue.paths[row].encode("utf-8", "surrogatepass")).digest(), row)
        person = int(catalogue.identities[row])
        chosen[person] = min(chosen.get(person, key), key)
    return torch.tensor([row for _, row in chosen.values()], dtype=torch.int64)


def evenly(rows: Tensor, most: int) -> Tensor:
    """At most so many, at equal distances in the list."""
    return rows[torch.linspace(0, len(rows) - 1, min(most, len(rows))).long()]
