"""What `evaluate` measures: a checkpoint, embeddings that it saved before, or embeddings of anyone's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile, ZipFile

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from mpanet_pl.checkpoint import open_checkpoint
from mpanet_pl.data import Catalogue
from mpanet_pl.data.catalogue import COLUMNS
from mpanet_pl.data.seen import Seen
from mpanet_pl.errors import UserError
from mpanet_pl.evaluation.digests import digest_of
from mpanet_pl.module import MPANetModule
from mpanet_pl.run.external_features import external_features
from mpanet_pl.run.old_names import translated
from mpanet_pl.run.record import Record
from mpanet_pl.run.settings import plain
from mpanet_pl.system.files import written_aside
from mpanet_pl.system.hub import local
from mpanet_pl.system.trust import packages

OF_TRAINING = ("dataset", "data_dir", "trial", "seed", "data", "protocol")  # taken from the checkpoint unless given
OF_JOINT = ("train_on", "test_on", "data_dirs")  # likewise, of several datasets
DIGESTS = ("network", "images")  # that features keep


class EvaluationInput(NamedTuple):
    """What is to be measured, and the configuration that it was trained with (None where it is not known)."""

    trained: DictConfig | None
    root: Mapping[str, Any] | None = None  # of the training itself, where an evaluation of it is measured again
    module: MPANetModule | None = None
    saved: SavedFeatures | None = None
    notes: tuple[str, ...] = ()
    size: tuple[int, int] | None = None  # of the images that it was trained on
    seen: Seen | None = None  # whom it was trained on, where that is known
    exact: bool = False  # trained in float32, hence tested in float32 unless another precision is asked for


class SavedFeatures(NamedTuple):
    """Embeddings of test images, on disk with all that a protocol needs to know of them."""

    embeddings: Tensor  # (N, D)
    catalogue: Catalogue
    drawn: bool  # drawn people have no published numbers to stand beside
    name: str  # of the checkpoint that made them: "last" or "best"
    notes: tuple[str, ...]  # how
    network: str | None = None  # its digest; None: not known
    images: str | None = None  # digest of the test images, likewise

    @property
    def digest(self) -> str:
        """Of the network, where it is known, else of the embeddings: by which comparisons know equal features."""
        return self.network or digest_of([self.embeddings])


def read_input(cfg: DictConfig) -> EvaluationInput:
    """What `ckpt` or `features` names."""
    if not cfg.features:
        cfg.ckpt = str(local(cfg.ckpt))
        size = {name: cfg.data[name] for name in ("height", "width")}
        of_release = {name: cfg[name] for name in ("method", "last_stride")}
        return read_checkpoint(Path(cfg.ckpt), trust=packages(cfg.trust), **of_release, **size)
    path = Path(cfg.features)
    if saved_here(path):
        return read_features(path)
    embeddings, catalogue = external_features(cfg)
    notes = (f"embeddings: {path}",)
    return EvaluationInput(
        None, None, saved=SavedFeatures(embeddings, catalogue, cfg.dataset == "synthetic", path.stem, notes)
    )


def saved_here(path: Path) -> bool:
    """Whether `evaluate` saved it, which keeps the configuration with it."""
    try:
        with ZipFile(path) as file:
            return "config.npy" in file.namelist()
    except BadZipFile:
        return path.suffix == ".npz"  # then it is said to be none
    except OSError:
        return False


def read_checkpoint(path: Path, *, trust: Sequence[str] = (), **of_release: Any) -> EvaluationInput:
    """A checkpoint of this package, or a released state dict, of which `of_release` says what the file does not."""
    opened = open_checkpoint(path, trust=trust, **of_release)
    content = opened.content
    if opened.is_released:
        notes = (f"{opened.method}, last stride {opened.last_stride}, which a released file does not say",)
        return EvaluationInput(None, None, opened.module, notes=notes)
    trained = configuration_of(content["config"], path) if "config" in content else None
    changes = trained.get("changes", []) if trained else []
    root = plain(trained) if trained else None
    exact = "record" in content and Record.read(content["record"], str(path)).precision == "32-true"
    seen = Seen.read(content.get("seen"))
    return EvaluationInput(trained, root, opened.module, notes=tuple(changes), size=opened.size, seen=seen, exact=exact)


def configuration_of(stored: object, path: Path) -> DictConfig:
    cfg = OmegaConf.create(stored) if isinstance(stored, dict | str) else None
    if not isinstance(cfg, DictConfig):
        raise UserError(f"{path} has a configuration that is no mapping.")
    if missing := [key for key in OF_TRAINING if key not in cfg]:
        raise UserError(f"{path} has a configuration without {', '.join(missing)}.")
    return OmegaConf.create(translated(plain(cfg)))


def save_features(path: Path, saved: SavedFeatures, cfg: DictConfig, trained: Mapping[str, Any] | None) -> None:
    catalogue = saved.catalogue
    arrays = {name: column.numpy() for name in COLUMNS if (column := getattr(catalogue, name)) is not None}
    texts: dict[str, Any] = {name: value for name in DIGESTS if (value := getattr(saved, name))}
    if catalogue.sources is not None:
        texts["sources"] = catalogue.sources
    texts |= {"paths": catalogue.paths, "drawn": saved.drawn, "name": saved.name, "notes": saved.notes}
    texts |= {"config": OmegaConf.to_yaml(cfg), "trained": OmegaConf.to_yaml(OmegaConf.create(dict(trained or {})))}
    arrays |= {name: np.array(text) for name, text in texts.items()}
    with written_aside(path) as aside, aside.open("wb") as file:
        np.savez(file, embeddings=saved.embeddings.cpu().numpy(), **arrays)


def read_features(path: Path) -> EvaluationInput:
    if not path.is_file():
        raise UserError(f"{path} does not exist.")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            columns = {name: torch.from_numpy(stored[name]) for name in COLUMNS if name in stored}
            sources = tuple(stored["sources"].tolist()) if "sources" in stored else None
            catalogue = Catalogue(tuple(stored["paths"].tolist()), **columns, sources=sources)
            embeddings = torch.from_numpy(stored["embeddings"])
            if embeddings.ndim != 2 or len(embeddings) != len(catalogue) or not embeddings.is_floating_point():
                raise ValueError(f"{tuple(embeddings.shape)} {embeddings.dtype} for {len(catalogue)} images")
            notes = (f"embeddings: {path}", *stored["notes"].tolist())
            digests = [str(stored[name]) if name in stored else None for name in DIGESTS]
            saved = SavedFeatures(embeddings, catalogue, bool(stored["drawn"]), str(stored["name"]), notes, *digests)
            measured = configuration_of(str(stored["config"]), path)
            kept = OmegaConf.create(str(stored["trained"])) if "trained" in stored else measured.pop("trained", None)
            root = translated(plain(kept)) if isinstance(kept, DictConfig) else None
            return EvaluationInput(measured, root, saved=saved)
    except Exception as error:  # whatever a parser of garbage stumbles over: there is no end to the kinds
        raise UserError(f"{path} is no file of embeddings saved by mpanet_pl.evaluate ({error}).") from error
