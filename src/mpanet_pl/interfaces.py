"""The sockets: what a part must be, so that the package takes it without knowing its name.

A part is a class of this package or of anybody's, named by `_target_` in a configuration or given as an object.
Nothing has to be inherited: a part has what its Protocol lists, and what it leaves out is as the Protocol says.
"""

import inspect
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, Protocol, Self, TypeAlias, TypedDict

from torch import Tensor

from mpanet_pl.errors import UserError

CMC = Literal["deduplicated", "plain"]
Similarity = Literal["cosine", "euclidean", "product"]
Catalogue: TypeAlias = Any  # `mpanet_pl.data.Catalogue`, which stands above this file
Dataset: TypeAlias = Any  # likewise


class Embedding(NamedTuple):
    """What a network makes of B images.

    A network may give a NamedTuple of its own that has these three fields first and more tensors behind them, a row an
    image each; they are gathered over ranks, and reach the criterion, like these.
    """

    maps: Tensor  # (B, P, h, w) from 0 to 1: where each of P patterns looks; P may be 0
    descriptor: Tensor  # (B, D): what metric losses see
    embedding: Tensor  # (B, D): the descriptor behind the neck, what classifiers and the ranking see


class Network(Protocol):
    """Images to embeddings: a `torch.nn.Module` with `dimension`.

    Its constructor takes its own keywords. Where it names `height` and `width`, it gets the images' size.
    """

    dimension: int
    """Width of the descriptor and the embedding in training; in evaluation they may be wider."""

    branches: int = 1
    """Rows an image in training, branch by branch: row r shows image r mod B. Labels are repeated likewise."""

    asks: tuple[str, ...] = ()
    """What it cannot do without. `infrared`: streams or necks of each modality, so that whoever embeds has to say it.
    `cameras`: it is also called with the keyword `cameras` (B,). `frames`: likewise with T, how many images after one
    another are of one tracklet; it still gives a row an image, where a vector of the tracklet stands T times."""

    def __call__(self, images: Tensor, infrared: Tensor | None = None) -> Embedding:
        """Normalised images (B, 3, H, W), infrared (B,) bool; one row an image in evaluation."""
        ...

    def looks(self, images: Tensor, infrared: Tensor | None = None) -> Tensor:
        """The maps (B, P, h, w) alone, where that costs less than a whole pass."""
        ...

    def shows(self, images: Tensor, infrared: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Features (B, C, h, w) and maps (B, P, h, w), for pictures. By default the maps stand for both."""
        ...


class Criterion(Protocol):
    """Embeddings to named loss terms: a `torch.nn.Module`, made of (dimension, num_identities, …).

    Whatever its forward, or its attribute `asks`, names of `Step`'s fields it gets by keyword.
    `mpanet_pl.losses.Terms` is a base that adds up terms.
    """

    classifies: bool = True
    """Whether any term looks behind the neck; where none does, the neck does not learn."""

    def __call__(self, embedding: Embedding, identities: Tensor, infrared: Tensor, **step: Any) -> dict[str, Tensor]:
        """Scalar terms by name, before their weights, and their weighted sum `total`.

        Rows are those of every rank, branch by branch; identities (N,) count from 0, infrared (N,) is bool.
        """
        ...

    def follow(self, epoch: int) -> None:
        """Called before each step of the optimiser, in an epoch counted from 1. By default nothing moves."""
        ...

    def follow_rate(self, epoch: int) -> float:
        """The rate of what `follow` moves, for the log as `alpha`. By default it is not logged."""
        ...

    def accuracy(self, embedding: Tensor, identities: Tensor) -> Tensor | None:
        """Share of rows that a classifier gets right, for the log; None where there is no classifier, by default."""
        ...


class Term(Protocol):
    """A loss beside a criterion's own: a `torch.nn.Module`, under `model.criterion.extra` or by `Terms.add_term`.

    Its constructor gets `dimension` and `num_identities` where it names them. It has what it gets in float32 or better,
    and of every rank but for `images`; what it draws for these it gathers (`mpanet_pl.system.collective.gather`).
    """

    classifies: bool = False
    """Whether it looks behind the neck, which then learns its scale."""

    def __call__(self, embedding: Embedding, identities: Tensor, infrared: Tensor, **step: Any) -> Tensor:
        """A scalar. What its forward names of `Step`'s fields it gets by keyword, and `criterion`: the one it is in."""
        ...


class Step(TypedDict):
    """What criteria and terms may ask of a training step, by keyword."""

    cameras: Tensor  # (N,), every rank's
    index: Tensor  # (N,) rows of the training catalogue, every rank's
    epoch: int  # counted from 1
    progress: float  # share of the run's optimiser steps that are done, from 0
    images: Tensor  # (B, 3, H, W), this rank's alone
    look: Callable[[Tensor], Tensor]  # this rank's images (B, 3, H, W) to every rank's maps (N, P, h, w)


class Search(NamedTuple):
    """Queries and the galleries that they meet: per setting, one gallery a trial. All are rows of the catalogue."""

    queries: Tensor  # (Q,) int64
    galleries: dict[str, list[Tensor]]  # setting -> trials x (G,) int64
    measured_by: Any = None  # the protocol that says how, where it is not the one that was asked


class RetrievalProtocol(Protocol):
    """Which query meets which gallery. A protocol of one's own inherits this class, for its defaults.

    A protocol of one gallery for all:

        class OneGallery(RetrievalProtocol):
            draw = "visible images are the gallery"

            def searches(self, catalogue):
                infrared, visible = rows_of(catalogue, infrared=True), rows_of(catalogue, infrared=False)
                return [Search(infrared, {"infrared_to_visible": [visible]})]

    `rows_of` is `mpanet_pl.evaluation.rows_of`. Rows come from the catalogue's content, never from its order: the same
    images in another order score the same. Of a dataset's settings a class gets those that its constructor names.
    """

    version: str = "1"
    """Goes up when the protocol measures something else. Every result names it."""

    cmc: CMC = "deduplicated"
    """`deduplicated` counts each identity once, at its best image; `plain` counts images."""

    similarity: Similarity = "cosine"
    """What ranks a gallery: the cosine, the negative Euclidean distance or the inner product of two embeddings."""

    draw: str
    """How the galleries were chosen, in words."""

    gallery: str | None = None
    """The same as a keyword: official permutations, random.seed, all images."""

    trials: int | None = None
    """Galleries of a setting, where there are several."""

    title: str = ""
    """Its name in results; by default the class's."""

    published: Mapping[str, Mapping[str, float]] = {}
    """Setting -> score -> percent, of MPANet's paper, where the paper measured alike."""

    def __init__(self) -> None:  # without it, a Protocol's classes seem to take any keyword
        super().__init__()

    @classmethod
    def of(cls, dataset: Dataset, **settings: Any) -> Self:
        """The protocol for the test images of this dataset, with the keywords that were given."""
        return cls(**settings)

    def elsewhere(self) -> Self:
        """The same protocol for other people than the test's, who are in no official draw."""
        return self

    @abstractmethod
    def searches(self, catalogue: Catalogue) -> list[Search]:
        """Who searches whom. A setting with several galleries is scored on each gallery, then averaged."""
        ...

    def ignored(self, queries: Catalogue, gallery: Catalogue) -> Tensor | None:
        """Pairs that do not meet, (Q, G) bool. None: all pairs meet."""
        return None

    @property
    def normalise(self) -> bool:
        """Whether cosines rank: the name that releases before 0.3 had for `similarity`."""
        return self.similarity == "cosine"

    @normalise.setter
    def normalise(self, value: bool) -> None:
        self.similarity = "cosine" if value else "euclidean"

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if isinstance(value := cls.__dict__.get("normalise"), bool):
            cls.similarity = "cosine" if value else "euclidean"
            del cls.normalise


class Reranker(Protocol):
    """Similarities that look beyond a pair: a class named by `rerank._target_`, or an object.

    Its `str` describes it in every result that it made.
    """

    name: str
    """Follows the setting's name in every table."""

    compares_directions: bool = False
    """True: embeddings come as the network gave them, whatever similarity the protocol ranks by."""

    @abstractmethod
    def __call__(self, queries: Tensor, gallery: Tensor) -> Tensor:
        """Queries (Q, D) and a trial's gallery (G, D), as the protocol compares them, to similarities (Q, G)."""
        ...


STEP = tuple(Step.__annotations__)


def asked_by(network: Any) -> tuple[str, ...]:
    """What a network, or a trunk, cannot do without (see `Network.asks`)."""
    return tuple(getattr(network, "asks", Network.asks))


def branches_of(network: Any) -> int:
    return int(getattr(network, "branches", Network.branches))


def looks(network: Any, images: Tensor, infrared: Tensor | None = None) -> Tensor:
    """The maps (B, P, h, w) of images."""
    own = getattr(network, "looks", None)
    return own(images, infrared) if own else network(images, infrared).maps


def shows(network: Any, images: Tensor, infrared: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Features (B, C, h, w) and maps (B, P, h, w) of images; a network without maps is even everywhere."""
    if own := getattr(network, "shows", None):
        features, maps = own(images, infrared)
        return features, maps
    maps = network(images, infrared).maps
    return maps if maps.shape[1] else maps.new_ones(len(maps), 1, *maps.shape[2:]), maps


def checked(made: Any, key: str) -> Any:
    """A network or criterion of somebody's own; a UserError says what of the contract it lacks."""
    if not callable(getattr(made, "forward", None)):
        raise UserError(f"{key}: {type(made).__name__} is no torch.nn.Module.")
    if key.endswith("network"):
        if not isinstance(getattr(made, "dimension", None), int):
            raise UserError(f"{key}: {type(made).__name__} has no `dimension`, the width of its embeddings.")
        try:
            named = {name: name for name in asked_by(made) if name != "infrared"}
            inspect.signature(made.forward).bind("images", "infrared", **named)
        except TypeError as error:
            raise UserError(f"{key}: {type(made).__name__} is called with (images, infrared): {error}.") from error
    return made


def named_by(callee: Callable[..., Any], offered: tuple[str, ...]) -> tuple[str, ...]:
    """Which of the offered keywords a signature names; what is built in may have none.

    >>> named_by(lambda embedding, *, epoch: None, ("cameras", "epoch"))
    ('epoch',)
    """
    try:
        parameters = inspect.signature(callee).parameters
    except ValueError:
        return ()
    return tuple(word for word in offered if word in parameters)
