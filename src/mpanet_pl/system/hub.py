"""Files of a hub by their address, hf://OWNER/NAME, by its own client (extra `hub`); HF_ENDPOINT names another."""

import os
import re
from pathlib import Path
from typing import Any

from mpanet_pl.errors import RunStopped, UserError

SCHEME = "hf://"
WEIGHTS = "model.safetensors"
ADDRESS = re.compile(r"hf://([\w.-]+/[\w.-]+?)(?:@([\w./-]+))?/?")
REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


def client() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise UserError('huggingface_hub is not installed: pip install "mpanet_pl[hub]"') from error
    return huggingface_hub


def local(path: str | Path) -> str | Path:
    """A path as it is; of hf://OWNER/NAME, or hf://OWNER/NAME@REVISION, the weights' file, fetched unless it is there.

    >>> local("best.ckpt")
    'best.ckpt'
    """
    if not str(path).startswith(SCHEME):
        return path
    if not (parts := ADDRESS.fullmatch(str(path))):
        raise UserError(f"{path} is no address of a hub: say hf://OWNER/NAME, or hf://OWNER/NAME@REVISION.")
    repo, revision = parts.groups()
    hub = client()
    try:
        return str(hub.hf_hub_download(repo, WEIGHTS, revision=revision, endpoint=_endpoint()))
    except Exception as error:  # the client's kinds of errors are many, and change
        raise RunStopped(f"{path} cannot be fetched: {_first_line(error)}") from error


def check_repository(repo: str) -> None:
    if not REPOSITORY.fullmatch(repo):
        raise UserError(f"repo is OWNER/NAME, got {repo}.")
    client()


def upload(folder: Path, repo: str, *, private: bool) -> str:
    """The folder's files become the repository's; what it is called on the hub."""
    api = client().HfApi(endpoint=_endpoint())
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        return str(api.upload_folder(repo_id=repo, folder_path=folder, commit_message="A trained network").commit_url)
    except Exception as error:  # as above
        hint = "" if os.environ.get("HF_TOKEN") else " (A token is asked for: `hf auth login`, or HF_TOKEN.)"
        raise RunStopped(f"{repo} cannot be written: {_first_line(error)}{hint}") from error


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
