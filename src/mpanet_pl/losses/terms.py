"""A criterion as a weighted sum of named terms: what MPANet's objective, the guests' and your own have in common."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from mpanet_pl.errors import UserError
from mpanet_pl.interfaces import STEP, Embedding, named_by
from mpanet_pl.system.hints import Part
from mpanet_pl.system.precision import precise
from mpanet_pl.system.ranges import Count, Weight, checked, read_all
from mpanet_pl.system.targets import TARGET, build, named

SIZES = ("dimension", "num_identities")  # what a term's constructor may name
TAKEN = ("total", "accuracy", "alpha", "lr")  # names of other columns in the log
Extra = Mapping[str, Annotated[Mapping[str, Any], Part(besides={"weight": Weight})]]
OFFERED = (*STEP, "criterion")


@checked
class Terms(nn.Module):
    """Named terms of a batch and their weighted `total`; a weight of 0 removes a term.

    A subclass computes terms of its own in `own_terms`, weighs them in `weights`, and takes others by `add_term`.
    `extra` describes terms by name: `_target_` for a class of modules, a `weight`, and the class's keywords.

    Examples:
        >>> class Spread(nn.Module):
        ...     def forward(self, embedding, identities, infrared, *, epoch):
        ...         return embedding.descriptor.var() / epoch
        >>> criterion = Terms(8, 3)
        >>> criterion.add_term("spread", Spread(), weight=0.5)
        >>> criterion.asks
        ('epoch',)
    """

    classifies = False
    extra: nn.ModuleDict

    def __init__(self, dimension: int, num_identities: Count, extra: Extra | None = None) -> None:
        super().__init__()
        self.weights: dict[str, float] = {}
        self.asks: tuple[str, ...] = ()
        self._asked: dict[str, tuple[str, ...]] = {}
        self._given, self._sizes = dict(extra or {}), dict(zip(SIZES, (dimension, num_identities), strict=True))

    def add_extra(self) -> None:
        """Add the terms that `extra` describes; a subclass calls it once its own weights stand."""
        for name, settings in self._given.items():
            key = f"model.criterion.extra.{name}"
            if not isinstance(settings, Mapping) or not {"weight", TARGET} <= settings.keys():
                raise UserError(f"{key} is {{_target_: CLASS, weight: NUMBER, …}}, got {settings}.")
            keywords = {word: value for word, value in settings.items() if word != "weight"}
            needed = named_by(named(settings[TARGET], key), SIZES)
            if settings["weight"] != 0:
                term = build({**{word: self._sizes[word] for word in needed}, **keywords}, key)
                self.add_term(name, term, settings["weight"])

    def add_term(self, name: str, term: nn.Module, weight: float) -> None:
        """Add a term (see `mpanet_pl.interfaces.Term`) that `weight` multiplies in the total."""
        key = f"model.criterion.extra.{name}"
        if not str(name).isidentifier() or name in (*self.weights, *TAKEN):
            taken = ", ".join((*self.weights, *TAKEN))
            raise UserError(f"{key}: choose another name, a word that is none of {taken}.")
        if not isinstance(term, nn.Module):
            raise UserError(f"{key}: {type(term).__name__} is no torch.nn.Module.")
        check_amounts({name: weight})
        if not hasattr(self, "extra"):
            self.extra = nn.ModuleDict()  # only then do state dicts have such keys
        self.extra[name], self.weights[name] = term, weight
        self._asked[name] = named_by(term.forward, OFFERED)
        self.asks = tuple(field for field in STEP if any(field in asked for asked in self._asked.values()))
        self.classifies = self.classifies or bool(getattr(term, "classifies", False))

    def own_terms(self, seen: Embedding, identities: Tensor, infrared: Tensor) -> dict[str, Tensor]:
        """The terms that share computations, each a scalar before its weight."""
        return {}

    def forward(self, embedding: Embedding, identities: Tensor, infrared: Tensor, **step: Any) -> dict[str, Tensor]:
        """Identities (B,) int64, infrared (B,) bool; each term is a scalar before its weight."""
        with torch.autocast(embedding.embedding.device.type, enabled=False):
            seen: Embedding = type(embedding)(*map(precise, embedding))
            terms = self.own_terms(seen, identities, infrared)
            offered = {**step, "criterion": self}
            for name, asked in self._asked.items():
                if absent := [word for word in asked if word not in offered]:
                    raise UserError(f"The term {name} asks for {', '.join(absent)}, which this step does not give.")
                term = self.extra[name](seen, identities, infrared, **{word: offered[word] for word in asked})
                terms[name] = _scalar(term, name)
            total = torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()
        return {**terms, "total": total}

    def follow(self, epoch: int) -> None:
        """Nothing follows anything."""


def check_amounts(amounts: Mapping[str, Any]) -> None:
    """Loss weights and margins are finite numbers from 0."""
    read_all(dict.fromkeys(amounts, Weight), dict(amounts))


def top_choice(classifier: Callable[[Tensor], Tensor], embedding: Tensor, identities: Tensor) -> Tensor:
    """Share of rows (B, D) whose identity a classifier ranks first."""
    with torch.no_grad():
        return (classifier(embedding).argmax(1) == identities).float().mean()


def _scalar(term: object, name: str) -> Tensor:
    if isinstance(term, Tensor) and not term.ndim:
        return term
    kind = f"a tensor of shape {tuple(term.shape)}" if isinstance(term, Tensor) else f"a {type(term).__name__}"
    raise UserError(f"model.criterion.extra.{name} gives {kind}: a loss is a tensor of shape ().")
