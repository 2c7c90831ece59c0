"""Both modalities in one gallery: whether a network finds the person, or whoever was seen by the same kind of camera.

A network that has not closed the gap between modalities ranks strangers of the query's own modality above the person
searched for. Four ways to see it: how often that happens, R1 and mAP where both modalities stand in the gallery,
similarities by modality and person, and whether a linear probe can tell an embedding's modality.
"""

import hashlib
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mpanet_pl.data.catalogue import Catalogue
from mpanet_pl.errors import UserError
from mpanet_pl.evaluation.among import Around
from mpanet_pl.evaluation.protocols import rows_of
from mpanet_pl.evaluation.ranking import REMOVED
from mpanet_pl.evaluation.retrieval import SIMILARITIES_AT_ONCE, Retrieval, directions_of, lengths_of
from mpanet_pl.evaluation.scoring import Scores, check_embeddings, check_finite, evaluate
from mpanet_pl.evaluation.tables import score_values, shown
from mpanet_pl.interfaces import RetrievalProtocol, Search
from mpanet_pl.system.precision import full_precision

KINDS = ("same person, same modality", "same person, other modality", "others, same modality", "others, other modality")
BINS = 100
RIDGE = 1e-3  # of the embeddings' mean square


class MixedScores(NamedTuple):
    overtaken: Mapping[str, float]  # setting -> share of queries whose best true match a stranger overtakes
    similarities: Tensor  # (4, BINS) float64: how often each is met, by `KINDS`, from -1 to 1
    probe: float  # share of embeddings whose modality is told, both modalities weighing alike; 0.5 is chance
    probe_before: float | None = None  # the same of what the neck was given, where that is known
    retrieval: Mapping[str, Scores] = {}  # setting -> scores of `MixedGallery`

    def mean_similarity(self, kind: int) -> float:
        middles = (torch.arange(BINS, dtype=torch.float64) + 0.5) / BINS * 2 - 1
        return float(self.similarities[kind] @ middles / self.similarities[kind].sum())


class MixedGallery(Around):
    """A protocol whose galleries hold all test images of the query's own modality, too.

    What the query's own camera took of the query's person is left out.
    """

    def __init__(self, base: RetrievalProtocol) -> None:
        super().__init__(base, "and all test images of the query's own modality")

    def searches(self, catalogue: Catalogue) -> list[Search]:
        found = []
        for search in self.base.searches(catalogue):
            asking = catalogue.infrared[search.queries].unique().tolist()
            own = torch.cat([rows_of(catalogue, infrared=modality) for modality in asking])
            galleries = {
                setting: [torch.cat([images, own]).unique() for images in trials]
                for setting, trials in search.galleries.items()
            }
            measured_by = MixedGallery(search.measured_by) if search.measured_by else None
            found.append(Search(search.queries, galleries, measured_by))
        return found

    def ignored(self, queries: Catalogue, gallery: Catalogue) -> Tensor | None:
        own = (queries.identities[:, None] == gallery.identities) & (queries.cameras[:, None] == gallery.cameras)
        own &= queries.infrared[:, None] == gallery.infrared
        ignored = self.base.ignored(queries, gallery)
        return own if ignored is None else own | ignored


@torch.no_grad()
def evaluate_mixed(
    embeddings: Tensor, catalogue: Catalogue, protocol: RetrievalProtocol, *, descriptors: Tensor | None = None
) -> MixedScores:
    """`embeddings` (N, D) are the catalogue's, `descriptors` (N, D) what the network's neck was given. Galleries and
    rules are the protocol's; strangers are all test images of other people in the query's own modality.
    """
    for given in (embeddings, *([] if descriptors is None else [descriptors])):
        check_embeddings(given, len(catalogue))
        check_finite(lengths_of(given), catalogue)
    with full_precision(embeddings.device):
        overtaken: dict[str, float] = {}
        for search in protocol.searches(catalogue):
            overtaken |= _overtaken(Retrieval(embeddings, catalogue, search.measured_by or protocol), search)
        directions = directions_of(embeddings)
        before = None if descriptors is None else probe(directions_of(descriptors), catalogue)
        found = evaluate(embeddings, catalogue, MixedGallery(protocol))
        return MixedScores(overtaken, similarities(directions, catalogue), probe(directions, catalogue), before, found)


def _overtaken(retrieval: Retrieval, search: Search) -> dict[str, float]:
    """Setting -> the share of its queries with a true match, over trials, to whom a stranger is at least as similar."""
    infrared = retrieval.catalogue.infrared[search.queries]
    strange = retrieval.embeddings.new_full((len(infrared),), REMOVED, dtype=torch.float64)
    for modality in infrared.unique().tolist():
        own = rows_of(retrieval.catalogue, infrared=modality)
        asked = infrared == modality
        strange[asked] = _highest(retrieval, search.queries[asked], own, same_person=False)
    shares = {}
    for setting, trials in search.galleries.items():
        of_trials = []
        for images in trials:
            true = _highest(retrieval, search.queries, images, same_person=True)
            if not (matched := true > REMOVED).any():
                raise UserError(f"{setting}: no query has a true match that a stranger could overtake.")
            of_trials.append(float((strange >= true)[matched].double().mean()))
        shares[setting] = fmean(of_trials)
    return shares


def _highest(retrieval: Retrieval, queries: Tensor, images: Tensor, *, same_person: bool) -> Tensor:
    """(Q,) float64: each query's highest similarity to one of `images` of the same person, or of others."""
    highest = []
    for rows in queries.split(max(1, SIMILARITIES_AT_ONCE // len(images))):
        similarity = retrieval.comparable(rows, images)
        same = retrieval.identities[rows][:, None] == retrieval.identities[images]
        highest.append(similarity.masked_fill_(same != same_person, REMOVED).amax(1).double())
    return torch.cat(highest)


def similarities(directions: Tensor, catalogue: Catalogue) -> Tensor:
    """(4, BINS): cosines of all pairs of two images by `KINDS`. `directions` (N, D) are of length one."""
    identities, infrared = (column.to(directions.device) for column in (catalogue.identities, catalogue.infrared))
    counts = torch.zeros(len(KINDS) * BINS, dtype=torch.float64)
    numbers = torch.arange(len(directions), device=directions.device)
    for rows in numbers.split(max(1, SIMILARITIES_AT_ONCE // len(directions))):
        cosines = directions[rows] @ directions.T  # (B, N)
        kind = 2 * (identities[rows][:, None] != identities) + (infrared[rows][:, None] != infrared)
        bins = ((cosines + 1) / 2 * BINS).long().clamp_(0, BINS - 1)
        pairs = (kind * BINS + bins)[rows[:, None] < numbers]
        counts += torch.bincount(pairs, minlength=len(counts)).cpu()
    return counts.view(len(KINDS), BINS)


def probe(directions: Tensor, catalogue: Catalogue) -> float:
    """How well ridge regression tells modality on people that it was not fitted to; each half of the people in turn."""
    digests = [hashlib.sha256(str(person).encode()).digest()[0] % 2 for person in catalogue.identities.tolist()]
    half = torch.tensor(digests, dtype=torch.bool, device=directions.device)
    infrared = catalogue.infrared.to(directions.device)
    told = []
    for fitted in (half, ~half):
        fit, test = directions[fitted], directions[~fitted]
        label = infrared[fitted].to(fit.dtype) * 2 - 1
        if not all(bool(part.any()) and not bool(part.all()) for part in (infrared[fitted], infrared[~fitted])):
            raise UserError("There are too few people of both modalities to tell how far apart the modalities are.")
        label = label / torch.where(label > 0, (label > 0).sum(), (label < 0).sum()).sqrt()  # modalities weigh alike
        weight = label.abs()
        centre = (fit * weight.square()[:, None]).sum(0) / weight.square().sum()
        rows = (fit - centre) * weight[:, None]
        ridge = RIDGE * (rows.square().sum() / len(rows)).clamp(min=1e-12)  # some, where all embeddings are equal
        gram = rows @ rows.T
        gram.diagonal().add_(ridge)
        direction = rows.T @ torch.linalg.solve(gram, label)
        right = ((test - centre) @ direction > 0) == infrared[~fitted]
        told += [right[infrared[~fitted] == kind].double().mean() for kind in (False, True)]
    return float(sum(told) / len(told))


def mixed_tables(scores: MixedScores) -> list[tuple[Sequence[str], Sequence[Sequence[str]]]]:
    """Header and rows."""
    return [
        (
            ["mixed gallery", "a stranger of the query's own modality stands above, percent"],
            [[setting, f"{100 * share:.2f}"] for setting, share in scores.overtaken.items()],
        ),
        (
            ["mixed gallery, both modalities", "R1", "mAP"],
            [
                [setting, *(shown(score_values(score)[name]) for name in ("r1", "mAP"))]
                for setting, score in scores.retrieval.items()
            ],
        ),
        (
            ["similarity", "mean cosine"],
            [[name, f"{scores.mean_similarity(kind):.4f}"] for kind, name in enumerate(KINDS)],
        ),
        (
            ["modality gap: a linear probe tells the modality of people it was not fitted to", "percent"],
            [
                *([] if scores.probe_before is None else [["before the neck", f"{100 * scores.probe_before:.2f}"]]),
                ["embeddings", f"{100 * scores.probe:.2f}"],
            ],
        ),
    ]


def mixed_values(scores: MixedScores) -> dict[str, Any]:
    means = {name: scores.mean_similarity(kind) for kind, name in enumerate(KINDS)}
    retrieval = {setting: score_values(score) for setting, score in scores.retrieval.items()}
    found = {"overtaken": dict(scores.overtaken), "retrieval": retrieval, "mean_cosine": means, "probe": scores.probe}
    return found | ({} if scores.probe_before is None else {"probe_before_neck": scores.probe_before})
