"""The keys of a configuration, each with the hint that its user's signature gives it.

A command's own keys stand in a table (`keys`). The keys of a part (a class) stand in its constructor, and are looked up
where the configuration names it.
"""

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union

from mpanet_pl.errors import UserError
from mpanet_pl.system.hints import Part, Range, Unfit, part_of, read, takes_keys, value_of
from mpanet_pl.system.ranges import Place, keys_of, parameters
from mpanet_pl.system.targets import TARGET, named

Hints = dict[str, Any]
PACKAGE = __name__.partition(".")[0]
HYDRAS: Hints = {
    TARGET: str,
    "_recursive_": bool,
    "_convert_": Literal["none", "partial", "object", "all"],
    "_partial_": bool,
    "_args_": list,
}


def keys(*bases: Hints, **hints: Any) -> Hints:
    """A table of keys, those of `bases` first; names that have one hint are parted by `__`.

    >>> keys({"seed": str}, seed=int, height__width=int)
    {'seed': <class 'int'>, 'height': <class 'int'>, 'width': <class 'int'>}
    """
    found = {name: hint for base in bases for name, hint in base.items()}
    return found | {name: hint for names, hint in hints.items() for name in names.split("__")}


def group(usual: str | Hints | None = None, **besides: Any) -> Any:
    """A group of keys: see `Part`. The dotted name of a class imports it only where one of its keys is typed."""
    return Annotated[Mapping[str, Any], Part(usual, besides=keys(**besides))]


def text(words: str) -> Range:
    return Range(words, lambda value: value != "", words)


def _checkpoints_in(folder: str) -> str:
    found = sorted((Path(folder).expanduser() / "checkpoints").glob("*.ckpt"))
    return f"a checkpoint (of this run {' or '.join(map(str, found))})"


def _is_no_run(path: str) -> bool:
    return not (Path(path).expanduser() / "checkpoints").is_dir()


def _run_of(path: str) -> str:
    return f"a run's folder (of this checkpoint {Path(path).parent.parent})"


ClassOrWord = Annotated[str | Mapping[str, Any], Part()]
WordOrList = Annotated[str | list[str], text("a word, or a list such as [a,b]")]
Checkpoint = Annotated[Place, Range(_checkpoints_in, _is_no_run)]
Run = Annotated[Place, Range(_run_of, lambda path: not Path(path).expanduser().is_file())]


class Keys:
    """What the keys of a configuration may be: the table `own`, unfolded for the parts that `tree` names.

    A part's class is imported where one of `looked_at` lies in it (None: all are). `strangers` is whether classes of
    other packages may be. `faults` are sentences about classes that cannot be found.
    """

    def __init__(
        self,
        own: Hints,
        tree: Mapping[str, Any],
        looked_at: Collection[str] | None = None,
        strangers: bool = True,
    ) -> None:
        self.tree, self.looked_at, self.strangers = tree, looked_at, strangers
        self.hints: Hints = {}
        self.groups: set[str] = set()
        self.unread: set[str] = set()
        self.faults: list[str] = []
        self._unfold("", own, tree)

    def _unfold(self, prefix: str, hints: Hints, tree: Mapping[str, Any]) -> None:
        for name, hint in hints.items():
            key, below = prefix + name, tree.get(name)
            if not (isinstance(below, Mapping) and takes_keys(hint)):
                self.hints[key] = hint
            elif self.looked_at is None or any(is_within(looked, [key]) for looked in self.looked_at):
                self.groups.add(key)
                self._unfold(f"{key}.", self._hints_of(key, hint, below), below)
            else:
                self.unread.add(key)

    def _hints_of(self, key: str, hint: Any, below: Mapping[str, Any]) -> Hints:
        """Those of the usual class, and of the one that `_target_` names; of nobody known, whatever is there."""
        part = part_of(hint)
        target, (hints, open_) = below.get(TARGET), keys_of(part, below)
        if target is not None and not (part and target == part.usual):
            open_ = True
            if self.strangers or str(target).startswith(f"{PACKAGE}."):
                try:
                    found = named(str(target), key)
                    its, open_ = parameters(found)
                    if hasattr(found, "of"):  # which decides what is `auto`
                        its = {word: Union[Literal["auto"], its[word]] for word in its}  # noqa: UP007
                    hints = hints | its
                except UserError as fault:
                    self.faults.append(str(fault))
        if target is not None or part is None or part.usual is None:
            hints = HYDRAS | hints
        return dict.fromkeys(below, value_of(hint)) | hints if open_ else hints

    def read(self, key: str, value: Any) -> Any:
        """A value as its key's type has it; a `UserError` where it is none, or there is no such key."""
        known = key in self.groups or key in self.hints
        if is_within(key, self.unread) or (known and ("${" in str(value) or value == "???")):
            return value
        if key in self.groups and value == {}:
            return value
        if key in self.groups:
            raise UserError(f"{key} must be a group of keys, got {value!r}.")
        if key not in self.hints:
            raise UserError(f"There is no key '{key}'.{nearest(key, self.names())} --help lists the keys.")
        try:
            return read(self.hints[key], value)
        except Unfit as unfit:
            raise UserError(f"{key} must be {unfit}, got {value!r}.") from None

    def names(self) -> list[str]:
        unread = (key for key, _ in leaves(self.tree) if is_within(key, self.unread))
        return [*self.hints, *self.groups, *self.unread, *unread]

    def is_text(self, key: str) -> bool:
        """Whether a value is to be taken as it stands, also where it looks like a number."""
        try:
            return key in self.hints and read(self.hints[key], 7) == "7"
        except Unfit:
            return False


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
    >>> nearest("height", ["data.height", "data.width"]), nearest("sede", ["seed"]), nearest("lr", ["model.lr"])
    (" Did you mean 'data.height'?", " Did you mean 'seed'?", " Did you mean 'model.lr'?")
    """
    words, last = list(words), word.rpartition(".")[2]
    same = [key for key in words if key.rpartition(".")[2] == last]
    same = same or [key for key in words if last in key.rpartition(".")[2].split("_")]
    near = difflib.get_close_matches(word, same or words, n=1, cutoff=0 if same else 0.5)
    return f" Did you mean '{near[0]}'?" if near else ""
