"""Other searches by a protocol's rules: the base of such protocols, and searches of some queries among some images."""

from collections.abc import Sequence

from torch import Tensor

from mpanet_pl.data.catalogue import Catalogue
from mpanet_pl.evaluation.retrieval import any_match
from mpanet_pl.interfaces import RetrievalProtocol, Search


class Around(RetrievalProtocol):
    """The rules of another protocol, whose name stands in the results; `draw` says what differs."""

    def __init__(self, base: RetrievalProtocol, draw: str = "") -> None:
        self.base, self.version, self.cmc, self.similarity = base, base.version, base.cmc, base.similarity
        self.title = base.title or type(base).__name__
        self.draw = f"{base.draw}, {draw}" if draw else base.draw

    def searches(self, catalogue: Catalogue) -> list[Search]:
        return self.base.searches(catalogue)

    def ignored(self, queries: Catalogue, gallery: Catalogue) -> Tensor | None:
        return self.base.ignored(queries, gallery)


class Among(Around):
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
        super().__init__(protocol, draw)
        self.found: list[Search] = []
        for search in searches:
            queries = search.queries[asked[search.queries]]
            galleries = {}
            for setting, trials in search.galleries.items():
                parts = [images[kept[images]] for images in trials]
                if inhabited := [images for images in parts if any_match(catalogue, self, queries, images)]:
                    galleries[setting] = inhabited
            if galleries:
                measured_by = Around(search.measured_by, draw) if search.measured_by else None
                self.found.append(Search(queries, galleries, measured_by))

    def searches(self, catalogue: Catalogue) -> list[Search]:
        return self.found
