"""A protocol's searches of some queries among some of the images."""

from collections.abc import Sequence

from torch import Tensor

from mpanet_pl.data.catalogue import Catalogue
from mpanet_pl.evaluation.retrieval import any_match
from mpanet_pl.interfaces import RetrievalProtocol, Search


class Among(RetrievalProtocol):
    """Settings and trials in which nothing can be found are left out; `found` is what can be searched."""

    def __init__(
        self,
        protocol: RetrievalProtocol,
        catalogue: Catalogue,
        searches: Sequence[Search],
        *,
        asked: Tensor,
        kept: Tensor,
        draw: str,
    ) -> None:
        """`searches` are the protocol's; `asked` and `kept` (N,) bool choose queries and gallery; `draw` says how."""
        self.protocol, self.version, self.draw = protocol, protocol.version, f"{protocol.draw}, {draw}"
        self.cmc, self.similarity = protocol.cmc, protocol.similarity
        self.found: list[Search] = []
        for search in searches:
            queries = search.queries[asked[search.queries]]
            galleries = {}
            for setting, trials in search.galleries.items():
                parts = [images[kept[images]] for images in trials]
                if inhabited := [images for images in parts if any_match(catalogue, self, queries, images)]:
                    galleries[setting] = inhabited
            if galleries:
                self.found.append(Search(queries, galleries, search.measured_by))

    def searches(self, catalogue: Catalogue) -> list[Search]:
        return self.found

    def ignored(self, queries: Catalogue, gallery: Catalogue) -> Tensor | None:
        return self.protocol.ignored(queries, gallery)
