"""MPANet's objective: the classifiers, their mean twins, and the weight of every term."""

import copy
import inspect
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mpanet_pl.errors import UserError
from mpanet_pl.losses import functional
from mpanet_pl.network import Embedding
from mpanet_pl.system.precision import precise
from mpanet_pl.system.targets import build, named

CONTEXT = ("cameras", "epoch", "index")  # what a term of the user's own may ask for
SIZES = ("dimension", "num_identities")  # likewise, when it is made
TAKEN = ("total", "accuracy", "alpha", "lr")  # names of other columns in the log


class MPANetLoss(nn.Module):
    """Named terms of a batch and their weighted `total`; a weight of 0 removes its term and what only it needs.

    `mean_rate` is the rate at which the mean twins follow the modality classifiers at first, `margin` what the
    centre-cluster term wants between two identities' centres. Identities are numbers below `num_identities`.

    Three terms are not the paper's and off at first, all about the maps: `overlap`, the cosine between an image's maps
    in place of `separation`; `concentration`, a map's variance in place; `equivariance`, by which a map goes with a
    moved image: it needs the maps of images moved by a motion, `moved` (see `motion.py`).

    `extra` has terms of the user's own by name: a `_target_` that names a class of modules, a `weight`, and the class's
    keywords; `dimension` and `num_identities` are added where its constructor takes them. A term is called with an
    `Embedding`, identities and infrared, all in float32 and of every rank, and gives a scalar. Where its forward takes
    them by name, it also gets the `cameras` of the images, their rows (`index`) in the training catalogue, and the
    `epoch`, counted from 1. One that sets `classifies = True` looks behind the neck and trains its scale.

    Examples:
        >>> criterion = MPANetLoss(8, 3, mutual=0, separation=0)
        >>> seen = Embedding(torch.rand(4, 0, 2, 2), torch.rand(4, 8), torch.rand(4, 8))
        >>> terms = criterion(seen, torch.tensor([0, 0, 2, 2]), torch.tensor([True, False, True, False]))
        >>> list(terms)
        ['identity', 'identity_visible', 'identity_infrared', 'center_cluster', 'total']
    """

    def __init__(
        self,
        dimension: int,
        num_identities: int,
        *,
        identity: float = 1.0,
        modality_identity: float = 1.0,
        mutual: float = 2.5,
        mean_rate: float = 0.2,
        center_cluster: float = 1.0,
        margin: float = 0.7,
        separation: float = 0.5,
        overlap: float = 0.0,
        concentration: float = 0.0,
        equivariance: float = 0.0,
        triplet: float = 0.0,
        triplet_margin: float = 0.3,
        extra: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__()
        self.weights = {
            "identity": identity,
            "identity_visible": modality_identity,
            "identity_infrared": modality_identity,
            "mutual": mutual,
            "center_cluster": center_cluster,
            "separation": separation,
            "overlap": overlap,
            "concentration": concentration,
            "equivariance": equivariance,
            "triplet": triplet,
        }
        self.weights |= _weights_of(extra or {}, taken=(*self.weights, *TAKEN))
        if not any(self.weights.values()):
            raise UserError("every loss weight is 0: there is nothing to learn from")
        amounts = self.weights | {"margin": margin, "triplet_margin": triplet_margin}
        if wrong := [f"{name}={amount}" for name, amount in amounts.items() if not 0 <= amount < math.inf]:
            raise UserError(f"loss weights and margins are 0 or more, got {', '.join(wrong)}")
        if num_identities < 1:
            raise UserError(f"num_identities is at least 1, got {num_identities}")
        if not 0 <= mean_rate <= 1:
            raise UserError(f"mean_rate is between 0 and 1, got {mean_rate}")
        self.mean_rate, self.margin, self.triplet_margin = mean_rate, margin, triplet_margin
        if identity:
            self.identity_classifier = nn.Linear(dimension, num_identities, bias=False)
        if modality_identity or mutual:
            self.visible_classifier = nn.Linear(dimension, num_identities, bias=False)
            self.infrared_classifier = nn.Linear(dimension, num_identities, bias=False)
        if mutual:
            self.visible_twin = _twin(self.visible_classifier)
            self.infrared_twin = _twin(self.infrared_classifier)
        sizes = dict(zip(SIZES, (dimension, num_identities), strict=True))
        own = {name: _own(name, settings, sizes) for name, settings in (extra or {}).items() if self.weights[name]}
        if own:
            self.extra = nn.ModuleDict(own)
        self._asked = {name: _asked_by(term.forward, CONTEXT) for name, term in own.items()}

    @property
    def classifies(self) -> bool:
        """Whether any term looks behind the neck."""
        own = any(getattr(self.extra[name], "classifies", False) for name in self._asked)
        return own or any(self.weights[name] for name in ("identity", "identity_visible", "mutual"))

    @property
    def wants(self) -> tuple[str, ...]:
        """Which of `forward`'s keywords are needed: by the user's own terms, and `moved` by equivariance."""
        asked = tuple(name for name in CONTEXT if any(name in asked for asked in self._asked.values()))
        return (*asked, "moved") if self.weights["equivariance"] else asked

    def forward(
        self,
        embedding: Embedding,
        identities: Tensor,
        infrared: Tensor,
        *,
        cameras: Tensor | None = None,
        epoch: int | None = None,
        index: Tensor | None = None,
        moved: tuple[Tensor, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Identities (B,) int64, infrared (B,) bool; each term is a scalar before its weight.

        `moved` are the maps (B, P, h, w) of the images moved by motions (B, 2, 2), and those.
        """
        with torch.autocast(embedding.embedding.device.type, enabled=False):
            seen = Embedding(*map(precise, embedding))
            terms = self._terms(seen, identities, infrared, moved)
            context = {"cameras": cameras, "epoch": epoch, "index": index}
            for name, asked in self._asked.items():
                term = self.extra[name](seen, identities, infrared, **{word: context[word] for word in asked})
                if not isinstance(term, Tensor) or term.ndim:
                    raise UserError(
                        f"model.criterion.extra.{name} gives {_kind(term)}: a loss is a tensor of shape ()."
                    )
                terms[name] = term
            total = torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()
        return {**terms, "total": total}

    def _terms(
        self, seen: Embedding, identities: Tensor, infrared: Tensor, moved: tuple[Tensor, Tensor] | None
    ) -> dict[str, Tensor]:
        weights, z, terms = self.weights, seen.embedding, {}
        if weights["identity"]:
            terms["identity"] = nn.functional.cross_entropy(self.identity_classifier(z), identities)
        if weights["identity_visible"] or weights["mutual"]:
            of_visible, of_infrared = self.visible_classifier(z), self.infrared_classifier(z)
        if weights["identity_visible"]:
            terms["identity_visible"] = functional.cross_entropy_where(of_visible, identities, ~infrared)
            terms["identity_infrared"] = functional.cross_entropy_where(of_infrared, identities, infrared)
        if weights["mutual"]:
            own = torch.where(infrared[:, None], of_infrared, of_visible)
            terms["mutual"] = functional.divergence(own, self._other_modality(z.detach(), infrared))
        if weights["center_cluster"]:
            terms["center_cluster"] = functional.center_cluster(seen.descriptor, identities, self.margin)
        if weights["separation"]:
            terms["separation"] = functional.separation(seen.maps)
        if weights["overlap"]:
            terms["overlap"] = functional.overlap(seen.maps)
        if weights["concentration"]:
            terms["concentration"] = functional.concentration(seen.maps)
        if weights["equivariance"]:
            if moved is None:
                raise UserError("equivariance is about moved images: give `moved`, their maps and motions")
            terms["equivariance"] = functional.equivariance(seen.maps, precise(moved[0]), moved[1])
        if weights["triplet"]:
            terms["triplet"] = functional.triplet(seen.descriptor, identities, self.triplet_margin)
        return terms

    def _other_modality(self, z: Tensor, infrared: Tensor) -> Tensor:
        """What the mean twin of the other modality's classifier says of each row: (B, C), without gradient."""
        return torch.where(infrared[:, None], self.visible_twin(z), self.infrared_twin(z))

    @torch.no_grad()
    def follow(self, epoch: int) -> None:
        """Move the mean twins towards their classifiers: once before each optimiser step, epochs counted from 1."""
        if self.weights["mutual"]:
            rate = self.follow_rate(epoch)
            self.visible_twin.weight.lerp_(self.visible_classifier.weight, rate)
            self.infrared_twin.weight.lerp_(self.infrared_classifier.weight, rate)

    def follow_rate(self, epoch: int) -> float:
        """The rate at which the twins follow in an epoch, counted from 1.

        Examples:
            >>> [MPANetLoss(8, 3).follow_rate(epoch) for epoch in (1, 99, 199)]
            [0.2, 0.2, 0.1]
        """
        return self.mean_rate * min(100 / (epoch + 1), 1)

    @torch.no_grad()
    def accuracy(self, embedding: Tensor, identities: Tensor) -> Tensor:
        """Share of rows (B, D) whose identity the identity classifier ranks first."""
        return (self.identity_classifier(embedding).argmax(1) == identities).float().mean()


def _twin(classifier: nn.Linear) -> nn.Linear:
    """A copy that no gradient reaches."""
    return copy.deepcopy(classifier).requires_grad_(False)


def _weights_of(extra: Mapping[str, Any], taken: tuple[str, ...]) -> dict[str, float]:
    for name, settings in extra.items():
        if (
            not isinstance(settings, Mapping)
            or not isinstance(settings.get("weight"), int | float)
            or "_target_" not in settings
        ):
            raise UserError(f"model.criterion.extra.{name} is {{_target_: CLASS, weight: NUMBER, …}}, got {settings}.")
        if name in taken or not str(name).isidentifier():
            raise UserError(
                f"model.criterion.extra.{name}: choose another name, a word that is none of {', '.join(taken)}."
            )
    return {name: settings["weight"] for name, settings in extra.items()}


def _own(name: str, settings: Mapping[str, Any], sizes: Mapping[str, int]) -> nn.Module:
    """A term of the user's own, made of its settings."""
    key = f"model.criterion.extra.{name}"
    keywords = {word: value for word, value in settings.items() if word != "weight"}
    needed = _asked_by(named(settings["_target_"], key), SIZES)
    term = build({**{word: sizes[word] for word in needed}, **keywords}, key)
    if not isinstance(term, nn.Module):
        raise UserError(f"{key}: {settings['_target_']} is no torch.nn.Module.")
    return term


def _asked_by(callee: Any, offered: tuple[str, ...]) -> list[str]:
    """Which of the offered keywords its signature names; what is built in may have none."""
    try:
        named_there = inspect.signature(callee).parameters
    except ValueError:
        return []
    return [word for word in offered if word in named_there]


def _kind(result: object) -> str:
    return f"a tensor of shape {tuple(result.shape)}" if isinstance(result, Tensor) else f"a {type(result).__name__}"
