"""Who asked, when, for whom, and what was shown: a line of JSON an answer, for whoever answers for the gallery.

Hashed, addresses, users, images and rows are HMACs under a key that lies beside the log, so that its owner can ask
whether a person was shown, and a reader of the log alone cannot.
"""

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mpanet_pl.errors import RunStopped, UserError

MODES = ("off", "on", "hashed")
SHORTEST = 32  # characters of a key


class AccessLog:
    """mode: off, on, or hashed. Each line is written whole, to the file that has the name then (logs are rotated)."""

    def __init__(self, mode: str = "off", path: str | Path | None = None) -> None:
        if mode not in MODES:
            raise UserError(f"access_log is one of {', '.join(MODES)}, got {mode}.")
        if mode != "off" and path is None:
            raise UserError(f"access_log={mode} needs a file: access_file=FILE.")
        self.mode, self.path = mode, Path(path or os.devnull).expanduser().absolute()
        self._key = _key(self.path.with_name(f"{self.path.name}.key")) if mode == "hashed" else b""
        if mode != "off":
            self._append("")  # what cannot be written is known before anybody asks

    def write(
        self,
        asked: str,
        *,
        client: str,
        user: str,
        query: Sequence[str],
        only: Mapping[str, Any],
        generation: str,
        shown: Sequence[str],
    ) -> None:
        """query: rows' names, and of uploads `sha256:` and their digest. shown: rows' names."""
        if self.mode == "off":
            return
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "asked": asked,
            "client": self.name(client),
            "user": self.name(user),
            "query": [self.name(one) for one in query],
            "only": {key: value for key, value in only.items() if value not in (None, [], (), False)},
            "generation": generation,
            "shown": [self.name(one) for one in shown],
        }
        self._append(json.dumps(line, ensure_ascii=False) + "\n")

    def name(self, text: str) -> str:
        if self.mode != "hashed" or not text:
            return text
        return hmac.new(self._key, text.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()

    def _append(self, line: str) -> None:
        try:
            handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(handle, line.encode("utf-8", "surrogateescape"))
            finally:
                os.close(handle)
        except OSError as error:
            raise RunStopped(f"Nothing is answered that cannot be logged: {self.path}: {error.strerror}.") from error


def _key(path: Path) -> bytes:
    """The key's text, made where there is none; nobody else may read it."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return _read_key(path)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}.") from error
    key = secrets.token_hex(32).encode()
    with os.fdopen(handle, "wb") as file:
        file.write(key + b"\n")
    return key


def _read_key(path: Path) -> bytes:
    try:
        key = path.read_bytes().strip()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    if len(key) < SHORTEST:  # a process was killed before it had written the key, and anybody can guess none
        raise UserError(f"{path} holds no key of at least {SHORTEST} characters: remove it, and another one is made.")
    return key
