"""The log of accesses: what its reader learns, and what a reader of its hashed form does not."""

import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mpanet_pl.errors import RunStopped, UserError
from mpanet_pl.gallery.access_log import AccessLog

ANSWER: dict[str, Any] = {
    "client": "192.0.2.1",
    "user": "Anna",
    "query": ["7/näht\n.png"],
    "only": {"cameras": ["2"], "after": None, "not_cameras": [], "other_camera": False},
    "generation": "abc",
    "shown": ["1.png", "2.png"],
}


def test_a_line_says_who_asked_when_for_whom_and_what_was_shown(tmp_path: Path) -> None:
    log = AccessLog("on", tmp_path / "log")
    log.write("search", **ANSWER)
    (tmp_path / "log").rename(tmp_path / "log.1")  # rotated
    log.write("browse", **ANSWER)
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600
    (line,) = (json.loads(line) for line in (tmp_path / "log.1").read_text().splitlines())
    assert abs(datetime.fromisoformat(line.pop("time")) - datetime.now(UTC)) < timedelta(minutes=2)
    assert line == ANSWER | {"asked": "search", "only": {"cameras": ["2"]}}
    assert not (tmp_path / "log.key").exists()


def test_hashed_its_owner_alone_can_ask_for_a_person(tmp_path: Path) -> None:
    AccessLog("hashed", tmp_path / "log").write("search", **ANSWER)
    AccessLog("hashed", tmp_path / "log").write("search", **ANSWER)  # of another start, with the same key
    text = (tmp_path / "log").read_text()
    assert not any(word in text for word in ("192.0", "Anna", "7/", "1.png"))
    first, second = map(json.loads, text.splitlines())
    assert first["shown"] == second["shown"]
    key = (tmp_path / "log.key").read_bytes().strip()
    assert (tmp_path / "log.key").stat().st_mode & 0o777 == 0o600
    assert first["shown"] == [hmac.new(key, name, hashlib.sha256).hexdigest() for name in (b"1.png", b"2.png")]
    AccessLog("hashed", tmp_path / "other").write("search", **ANSWER)
    assert json.loads((tmp_path / "other").read_text())["shown"] != first["shown"]


def test_off_nothing_is_written_and_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    AccessLog().write("search", **ANSWER)
    AccessLog("off", tmp_path / "log").write("search", **ANSWER)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="access_file"):
        AccessLog("on")
    with pytest.raises(UserError, match="off, on, hashed"):
        AccessLog("yes", tmp_path / "log")
    with pytest.raises(RunStopped, match="cannot be logged"):
        AccessLog("on", tmp_path / "gone/log")


def test_it_lies_where_a_shell_would_put_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    AccessLog("on", "~/log").write("search", **ANSWER)
    assert (tmp_path / "log").stat().st_size


def test_a_name_that_is_no_text_is_kept_by_its_bytes(tmp_path: Path) -> None:
    name = b"n\xff.png".decode("utf-8", "surrogateescape")
    AccessLog("on", tmp_path / "on").write("search", **ANSWER | {"shown": [name]})
    assert b"n\xff.png" in (tmp_path / "on").read_bytes()
    log = AccessLog("hashed", tmp_path / "log")
    key = (tmp_path / "log.key").read_bytes().strip()
    assert log.name(name) == hmac.new(key, b"n\xff.png", hashlib.sha256).hexdigest()


def test_a_key_that_was_not_written_is_no_key(tmp_path: Path) -> None:
    for short in (b"", b"a" * 31):
        (tmp_path / "log.key").write_bytes(short)
        with pytest.raises(UserError, match=r"log\.key holds no key"):
            AccessLog("hashed", tmp_path / "log")
    (tmp_path / "log.key").write_bytes(b"a" * 32)
    AccessLog("hashed", tmp_path / "log")
    (tmp_path / "log.key").unlink()
    (tmp_path / "log.key").mkdir()
    with pytest.raises(UserError, match="cannot be read"):
        AccessLog("hashed", tmp_path / "log")
