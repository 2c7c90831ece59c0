"""Values, read as a command's schema says: of the type and range of their keys, or a sentence why not."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import Field, fields, is_dataclass
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ValidationError

from mpanet_pl.cli.schema import COMMANDS
from mpanet_pl.errors import UserError
from mpanet_pl.run.configuration import plain

WORDS = {float: "a number", int: "a whole number", bool: "true or false", str: "a word"}


class Faults:
    """Several mistakes, told together."""

    def __init__(self) -> None:
        self.sentences: dict[str, None] = {}

    @contextmanager
    def gathered(self) -> Iterator[None]:
        try:
            yield
        except UserError as fault:
            self.sentences[str(fault)] = None

    def tell(self) -> None:
        if len(self.sentences) > 1:
            raise UserError("\n  ".join([f"{len(self.sentences)} mistakes:", *self.sentences]))
        for sentence in self.sentences:
            raise UserError(sentence)


class Typed:
    """A command's schema, unfolded for what its groups compose, `tree`: what each key may be."""

    def __init__(self, name: str, tree: Mapping[str, Any]) -> None:
        self.tree = tree
        self.groups: set[str] = set()
        self.free: set[str] = set()  # groups of a class that the schema does not know: whatever that takes
        self.passengers: set[str] = set()
        self.keys: dict[str, tuple[type, Field[Any]]] = {}
        self.nodes: dict[type, DictConfig] = {}
        self._unfold(COMMANDS[name], "", tree)

    def _unfold(self, schema: type, prefix: str, tree: Any) -> None:
        hints = get_type_hints(schema)
        for field in fields(schema):
            key, below = prefix + field.name, tree.get(field.name) if isinstance(tree, Mapping) else None
            schemas, its_schema = field.metadata.get("schemas"), hints[field.name]
            if schemas is not None:
                its_schema = schemas.get(below.get("_target_")) if isinstance(below, Mapping) else None
            if is_dataclass(its_schema):
                self.groups.add(key)
                self._unfold(its_schema, f"{key}.", below)  # type: ignore[arg-type]
            elif "passenger" in field.metadata:
                self.passengers.add(key)
            elif schemas is not None:
                self.free.add(key)
            else:
                self.keys[key] = (schema, field)

    def read(self, key: str, value: Any) -> Any:
        """A value as its key's type has it; a UserError where it is none, or there is no such key."""
        if is_within(key, self.free) or (key in self.groups and value == {}):
            return value
        if key in self.groups:
            raise UserError(f"{key} must be a group of keys, not a single value, got '{value}'.")
        if key not in self.keys:
            names = [
                *self.keys,
                *self.groups,
                *self.free,
                *(its for its, _ in leaves(self.tree) if is_within(its, self.free)),
            ]
            raise UserError(f"There is no key '{key}'.{nearest(key, names)} --help lists the keys.")
        schema, field = self.keys[key]
        if schema not in self.nodes:
            self.nodes[schema] = OmegaConf.structured(schema)
        node = self.nodes[schema]
        try:
            node[field.name] = value
            if OmegaConf.is_missing(node, field.name) or OmegaConf.is_interpolation(node, field.name):
                return value
            read = node[field.name]
            read = OmegaConf.to_container(read) if OmegaConf.is_config(read) else read
            if isinstance(read, bool) and not isinstance(value, bool | str):
                raise ValidationError
        except ValidationError:
            raise UserError(f"{key} must be {self._words(key)}, got '{value}'.") from None
        fits, words = field.metadata.get("fits"), field.metadata.get("range") or field.metadata.get("words")
        if fits and read is not None and not fits(read):
            raise UserError(f"{key} must be {words}, got {value!r}.")
        return read

    def is_text(self, key: str) -> bool:
        """Whether a value is to be taken as it stands, also where it looks like a number."""
        return key in self.keys and self._kinds(key) == {str}

    def _kinds(self, key: str) -> set[Any]:
        """The types that are allowed beside None."""
        schema, field = self.keys[key]
        hint = get_type_hints(schema)[field.name]
        return {hint} if get_origin(hint) is list else set(get_args(hint) or [hint]) - {NoneType}

    def _words(self, key: str) -> str:
        """What a value has to be, as its type says."""
        if words := self.keys[key][1].metadata.get("words"):
            return words
        kinds = self._kinds(key)
        if any(get_origin(kind) is list for kind in kinds):
            example = OmegaConf.select(OmegaConf.create(dict(self.tree)), key) or ["…"]
            return f"a list such as [{','.join(map(str, example))}]"
        return next(words for kind, words in WORDS.items() if kind in kinds)


def conformed(name: str, cfg: DictConfig) -> DictConfig:
    """A composed configuration, every value as its key's type has it; a UserError tells all that do not fit."""
    tree = plain(cfg)
    typed, read, faults = Typed(name, tree), OmegaConf.create(tree), Faults()
    for key, value in leaves(tree):
        if not is_within(key, typed.passengers):
            with faults.gathered():
                OmegaConf.update(read, key, typed.read(key, value), merge=False)
    faults.tell()
    OmegaConf.set_struct(read, True)
    return read


def leaves(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every dotted key with its value.

    >>> list(leaves({"data": {"height": 128, "augment": {}}, "seed": [1]}))
    [('data.height', 128), ('data.augment', {}), ('seed', [1])]
    """
    if isinstance(tree, Mapping) and (tree or not prefix):
        for name, below in tree.items():
            yield from leaves(below, f"{prefix}.{name}".lstrip("."))
    else:
        yield prefix, tree


def is_within(key: str, groups: Iterable[str]) -> bool:
    return any(f"{key}.".startswith(f"{group}.") for group in groups)


def nearest(word: str, words: Iterable[str]) -> str:
    """
    >>> nearest("height", ["data.height", "data.width"]), nearest("sede", ["seed"])
    (" Did you mean 'data.height'?", " Did you mean 'seed'?")
    """
    words = list(words)
    same_leaf = [key for key in words if key.rpartition(".")[2] == word.rpartition(".")[2]]
    near = difflib.get_close_matches(word, same_leaf or words, n=1, cutoff=0 if same_leaf else 0.5)
    return f" Did you mean '{near[0]}'?" if near else ""
