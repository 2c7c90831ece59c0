"""Protocols of tracklet datasets, and of those whose lists say who searches."""

from typing import Any, Literal, Self

import torch
from torch import Tensor

from mpanet_pl.data.catalogue import Catalogue, Dataset
from mpanet_pl.evaluation.protocols import FolderProtocol, rows_of, same_identity_and_camera
from mpanet_pl.interfaces import RetrievalProtocol, Search
from mpanet_pl.system.ranges import checked

BATCH = 64  # of BUPTCampus' test, whose last incomplete batch of visible tracklets is dropped


class VCMProtocol(FolderProtocol):
    """HITSZ-VCM (MITML, M3-ReID): every tracklet of one modality searches among all of the other, both ways.

    A gallery tracklet of the query's own identity and camera is removed. Every tracklet counts at its own rank.
    """

    cmc = "plain"

    def __init__(self) -> None:
        super().__init__(same_camera=True)
        self.draw = "all tracklets of the other modality are the gallery but those of the query's identity and camera"

    @classmethod
    def of(cls, dataset: Dataset, **settings: Any) -> Self:
        return cls(**settings)


@checked
class BUPTCampusProtocol(RetrievalProtocol):
    """BUPTCampus in one of its uses.

    rules: `official`, the release: five settings, no camera rule, and of the visible tracklets of query.txt and of
        gallery.txt the last (their number modulo 64) are not scored, as its loader drops the last incomplete batch;
        `official_all`: the same, and nothing is dropped; `m3`: M3-ReID's, both ways across modalities, without gallery
        tracklets of the query's own identity and camera.
    """

    cmc = "plain"

    def __init__(self, rules: Literal["official", "official_all", "m3"] = "official") -> None:
        super().__init__()
        self.rules = rules
        self.gallery = "M3-ReID's rules" if rules == "m3" else None
        self.draw = f"query.txt searches gallery.txt ({rules})"
        self.title = f"BUPTCampusProtocol {rules}"

    def searches(self, catalogue: Catalogue) -> list[Search]:
        rows = {(kind, side): self._rows(catalogue, kind, side) for kind in (False, True) for side in (False, True)}
        named = {False: "visible", True: "infrared"}
        pairs = [(False, True), (True, False)]
        if self.rules != "m3":
            pairs = [(False, False), *pairs, (True, True)]
        found = [Search(rows[a, True], {f"{named[a]}_to_{named[b]}": [rows[b, False]]}) for a, b in pairs]
        if self.rules != "m3":
            queries, gallery = (torch.cat([rows[kind, side] for kind in (False, True)]) for side in (True, False))
            found.append(Search(queries, {"all_to_all": [gallery]}))
        return found

    def _rows(self, catalogue: Catalogue, infrared: bool, asks: bool) -> Tensor:
        """Rows of one modality and one list, in the order of that list."""
        chosen = ((catalogue.infrared == infrared) & (_roles(catalogue) == asks)).nonzero().flatten()
        if catalogue.tracks is not None:
            chosen = chosen[catalogue.tracks[chosen].argsort(stable=True)]
        whole_batches = len(chosen) // BATCH * BATCH
        if self.rules == "official" and not infrared and whole_batches:  # fewer than a batch: nothing would be left
            return chosen[:whole_batches]
        return chosen

    def ignored(self, queries: Catalogue, gallery: Catalogue) -> Tensor | None:
        return same_identity_and_camera(queries, gallery) if self.rules == "m3" else None


class TrackListProtocol(RetrievalProtocol):
    """MARS, MEVID: the tracklets of query_IDX search all others, but those of their own person and camera.

    queries_in_gallery: whether queries may be found, too (MARS, some of whose people are in no other tracklet).
    """

    cmc = "plain"

    def __init__(self, queries_in_gallery: bool = True) -> None:
        super().__init__()
        self.queries_in_gallery = queries_in_gallery
        self.draw = "query_IDX searches all test tracklets but those of the query's identity and camera"
        if not queries_in_gallery:
            self.draw += " and the other queries"

    def searches(self, catalogue: Catalogue) -> list[Search]:
        roles = torch.ones_like(catalogue.infrared) if catalogue.queries is None else catalogue.queries
        gallery = torch.ones_like(roles) if self.queries_in_gallery or roles.all() else ~roles
        return [Search(roles.nonzero().flatten(), {"queries_to_gallery": [gallery.nonzero().flatten()]})]

    def ignored(self, queries: Catalogue, gallery: Catalogue) -> Tensor | None:
        return same_identity_and_camera(queries, gallery)


class ORBenchProtocol(RetrievalProtocol):
    """ORBench: near-infrared images search the one visible gallery; no camera rule."""

    cmc = "plain"
    draw = "all visible test images are the gallery"

    def searches(self, catalogue: Catalogue) -> list[Search]:
        infrared, visible = rows_of(catalogue, infrared=True), rows_of(catalogue, infrared=False)
        return [Search(infrared, {"infrared_to_visible": [visible]})]


class MPReIDProtocol(RetrievalProtocol):
    """MP-ReID: all test images of an experiment's first kind of camera search all of its second; no camera rule."""

    cmc = "plain"
    draw = "all test images of the experiment's second kind of camera are the gallery"

    def __init__(self, setting: str = "queries_to_gallery") -> None:
        super().__init__()
        self.setting = setting

    @classmethod
    def of(cls, dataset: Dataset, **settings: Any) -> Self:
        sides = getattr(dataset, "sides", None)
        return cls(**({"setting": "_to_".join(sides)} if sides else {}) | settings)

    def searches(self, catalogue: Catalogue) -> list[Search]:
        roles = _roles(catalogue)
        order = torch.tensor(sorted(range(len(catalogue)), key=catalogue.paths.__getitem__), dtype=torch.int64)
        return [Search(order[roles[order]], {self.setting: [order[~roles[order]]]})]


def _roles(catalogue: Catalogue) -> Tensor:
    """(N,) bool, who searches; where no list says it, as of people held out of training, infrared searches."""
    return catalogue.infrared if catalogue.queries is None else catalogue.queries
