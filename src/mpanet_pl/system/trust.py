"""Whom a file may make this process call: classes of this package, and of those packages that its reader trusts.

What a user ran on this machine he typed himself. His runs' folders carry a seal, the names that they call under a key
that only he can read, so that they go on without a word; a folder that was handed over has none that fits.
"""

import hashlib
import hmac
import json
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mpanet_pl.errors import UserError
from mpanet_pl.system.files import written_aside
from mpanet_pl.system.targets import TARGET, named

PACKAGE = __name__.partition(".")[0]
SEAL = ".ran_here"  # in a run's folder
NOTHING: frozenset[str] = frozenset()


def targets(tree: Any) -> Iterator[str]:
    """Whatever plain containers name to be called, anywhere in them.

    >>> list(targets({"network": {"_target_": "my_lab.Net", "blocks": [{"_target_": "my_lab.Block"}]}}))
    ['my_lab.Net', 'my_lab.Block']
    """
    if isinstance(tree, Mapping):
        if TARGET in tree:
            yield str(tree[TARGET])
        tree = list(tree.values())
    if isinstance(tree, list | tuple):
        for branch in tree:
            yield from targets(branch)


def check(tree: Any, source: str, trust: str | Sequence[str] | None = (), known: Iterable[str] = NOTHING) -> None:
    """Refuse plain containers out of a file that name anybody's classes but this package's and trusted packages'.

    `known` are names that the user typed himself, or ran before.
    """
    trusted = (PACKAGE, *packages(trust))
    asked = sorted(set(targets(tree)) - set(known))
    if foreign := [target for target in asked if _package(target) not in trusted]:
        theirs = sorted({_package(target) for target in foreign})
        typed = theirs[0] if len(theirs) == 1 else f"[{','.join(theirs)}]"
        raise UserError(
            f"{source} is refused: its configuration would call {', '.join(foreign)}. "
            f"If you trust whoever made it, say trust={typed} (in Python, trust={json.dumps(theirs)})."
        )
    for target in asked:
        found = named(target, source)
        if not (isinstance(found, type) and _package(found.__module__) in trusted):
            whose = f"which is no class of {_package(target)}'s own"
            raise UserError(f"{source} is refused: its configuration would call {target}, {whose}.")


def check_targets(
    cfg: DictConfig, source: str, trust: str | Sequence[str] | None = (), known: Iterable[str] = ()
) -> None:
    """Refuse a configuration that would call anything but classes of this package, or of those that its reader trusts.

    Looked at with everything resolved, as it will be used: an interpolation can hide a call.
    """
    if calls := sorted(set(_calling(OmegaConf.to_container(cfg)))):
        raise UserError(f"{source} is refused: its configuration would look up {', '.join(calls)} on this machine.")
    check(OmegaConf.to_container(cfg, resolve=True), source, trust, known)


def packages(trust: str | Sequence[str] | None) -> list[str]:
    """One or several, as they were typed."""
    return [trust] if isinstance(trust, str) else [str(name) for name in trust or ()]


def _calling(tree: Any) -> Iterator[str]:
    """Interpolations that run a resolver (`${oc.env:HOME}`) rather than name another key."""
    if isinstance(tree, str):
        yield from re.findall(r"\$\{[^${}]*:[^{}]*\}?", tree)
    for branch in tree.values() if isinstance(tree, Mapping) else tree if isinstance(tree, list) else ():
        yield from _calling(branch)


def _package(name: str) -> str:
    return name.partition(".")[0]


def seal(folder: Path, tree: Any) -> None:
    """Mark a run's folder as this user's own, where its configuration names more than this package's classes."""
    names = sorted({target for target in targets(tree) if _package(target) != PACKAGE})
    if names and (sealed := signature(names)):
        with written_aside(folder / SEAL) as aside:
            aside.write_text(json.dumps({"names": names, "seal": sealed}))


def ran_here(folder: Path) -> frozenset[str]:
    """The names that this user himself ran in a run's folder."""
    try:
        stored = json.loads((folder / SEAL).read_text())
        names = [str(name) for name in stored["names"]]
        return frozenset(names) if is_signed(names, stored["seal"]) else NOTHING
    except (OSError, ValueError, TypeError, KeyError):
        return NOTHING


def signature(content: Any) -> str | None:
    """This user's, of plain values; None where he has no home to keep a key in."""
    key = _key(make=True)
    return _sealed(content, key) if key else None


def is_signed(content: Any, given: object) -> bool:
    """Whether this user signed these values, on this machine."""
    key = _key(make=False)
    if key is None or not isinstance(given, str):
        return False
    return hmac.compare_digest(given.encode(), _sealed(content, key).encode())


def _sealed(names: Any, key: bytes) -> str:
    return hmac.new(key, json.dumps(names).encode(), hashlib.sha256).hexdigest()


def _key(*, make: bool) -> bytes | None:
    """This user's, made when first needed; None where he has no home to keep it in."""
    state = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local/state")
    path = Path(state, PACKAGE, "key")
    try:
        if make and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with written_aside(path) as aside:
                aside.touch(mode=0o600)
                aside.write_bytes(secrets.token_bytes(32))
        return path.read_bytes() or None
    except OSError:
        return None
