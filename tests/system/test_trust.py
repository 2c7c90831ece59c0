"""Who may be called: what was typed or ran here without a word, what was handed over with its reader's."""

import json
import os
from pathlib import Path

import pytest
from lab import stand_in_a_lab
from omegaconf import OmegaConf

from mpanet_pl.errors import UserError
from mpanet_pl.system.trust import SEAL, check, check_targets, is_signed, ran_here, seal, signature

OWN = {"network": {"_target_": "my_lab.Net"}, "data": {"_target_": "mpanet_pl.data.ReIDDataModule"}}


@pytest.fixture(autouse=True)
def _in_a_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in_a_lab(tmp_path, monkeypatch)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def test_the_refusal_says_what_would_trust_it() -> None:
    with pytest.raises(UserError) as refusal:
        check(OWN, "gift.ckpt")
    for words in ("gift.ckpt", "would call my_lab.Net", "trust=my_lab", 'trust=["my_lab"]'):
        assert words in str(refusal.value)
    with pytest.raises(UserError, match=r"say trust=\[my_lab,other\]"):
        check([OWN, {"_target_": "other.Thing"}], "gift.ckpt")


@pytest.mark.parametrize("trust", ["my_lab", ["my_lab"], ["other", "my_lab"]])
def test_a_trusted_package_is_called(trust: str | list[str]) -> None:
    check(OWN, "gift.ckpt", trust)


@pytest.mark.parametrize("trust", ["my_lab", OmegaConf.create(["other", "my_lab"])])
def test_trust_is_the_readers_and_never_the_files(trust: str | list[str]) -> None:
    gift = OmegaConf.create({**OWN, "trust": "my_lab"})
    check_targets(gift, "gift", trust)
    for asked in (None, [], "other"):
        with pytest.raises(UserError, match=r"would call my_lab\.Net"):
            check_targets(gift, "gift", asked)


def test_whoever_has_signed_nothing_has_no_key(tmp_path: Path) -> None:
    assert not is_signed(["a"], "seal")
    assert not (tmp_path / "state").exists()
    assert is_signed(["a"], given := signature(["a"]))
    assert not is_signed(["b"], given)
    assert not is_signed(["a"], None)


def test_what_was_typed_is_called() -> None:
    check(OWN, "gift.ckpt", known=["my_lab.Net"])


@pytest.mark.parametrize(
    "target", ["my_lab.nn.Linear", "my_lab.torch.load", "my_lab.MPANetModule.load_from_checkpoint", "my_lab.os.system"]
)
def test_trust_is_in_a_packages_own_classes(target: str) -> None:
    """What it imports may be anybody's, and a function may do anything with its arguments."""
    with pytest.raises(UserError, match=r"would call|cannot be found"):
        check({"_target_": target}, "gift.ckpt", ["my_lab"])


@pytest.mark.parametrize("target", ["mpanet_pl.train.main", "mpanet_pl.system.files.os.remove", "builtins.eval"])
def test_this_package_is_trusted_with_its_classes_alone(target: str) -> None:
    with pytest.raises(UserError, match=f"would call {target}"):
        check({"a": [{"b": {"_target_": target}}]}, "gift.ckpt")


def test_a_run_of_ones_own_is_known(tmp_path: Path) -> None:
    run = tmp_path / "run"
    seal(run, OWN)
    assert ran_here(run) == {"my_lab.Net"}
    assert (tmp_path / "state/mpanet_pl/key").stat().st_mode & 0o077 == 0


def test_of_a_run_that_calls_this_package_alone_nothing_is_kept(tmp_path: Path) -> None:
    seal(tmp_path / "run", OWN["data"])
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "state").exists()


def test_a_seal_is_no_ones_to_make_or_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    seal(run, OWN)
    sealed = json.loads((run / SEAL).read_text())
    (run / SEAL).write_text(json.dumps({**sealed, "names": ["os.system"]}))
    assert not ran_here(run)
    for broken in ("", "[]", "{}", '{"names": 3, "seal": 3}', "\x00"):
        (run / SEAL).write_text(broken)
        assert not ran_here(run)
    (run / SEAL).write_text(json.dumps(sealed))
    assert ran_here(run)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another user's"))
    assert not ran_here(run), "handed over"
    seal(tmp_path / "theirs", OWN)
    assert not ran_here(run)
    assert not ran_here(tmp_path / "nowhere")


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_without_a_home_nothing_is_sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/nowhere")
    seal(tmp_path / "run", OWN)
    assert not ran_here(tmp_path / "run")
