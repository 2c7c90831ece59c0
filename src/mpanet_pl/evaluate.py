"""`python -m mpanet_pl.evaluate`: test a checkpoint, this package's or a released one, or embeddings saved before."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from mpanet_pl import official, weights
from mpanet_pl.callbacks import RetrievalScoring
from mpanet_pl.command import is_child_rank, overrides_given, run_command
from mpanet_pl.configuration import check_targets, plain, with_overrides
from mpanet_pl.data import Catalogue
from mpanet_pl.engine import build_trainer, own_ranks, quiet
from mpanet_pl.errors import UserError
from mpanet_pl.evaluation import RetrievalMetric
from mpanet_pl.evaluation import evaluate as score
from mpanet_pl.evaluation.published import Published
from mpanet_pl.evaluation.rerank import RERANKERS, Reranker
from mpanet_pl.evaluation.tables import Results
from mpanet_pl.files import written_aside
from mpanet_pl.module import MPANetModule
from mpanet_pl.pictures import draw_cmc
from mpanet_pl.report import draw_pictures
from mpanet_pl.runs import make_folder, provenance
from mpanet_pl.testing import Examiner, Tested

OF_TRAINING = ("dataset", "data_dir", "trial", "seed", "data", "protocol")  # taken from the checkpoint unless given

OF_A_CHECKPOINT = {"state_dict", "hyper_parameters", "pytorch-lightning_version"}


class Subject(NamedTuple):
    """What is to be measured, and the configuration that it was trained with (None where it is not known)."""

    trained: DictConfig | None
    module: MPANetModule | None = None
    saved: Saved | None = None


class Saved(NamedTuple):
    """Embeddings of test images, on disk with all that a protocol needs to know of them."""

    embeddings: Tensor  # (N, D)
    catalogue: Catalogue
    drawn: bool  # drawn people have no published numbers to stand beside
    notes: tuple[str, ...]  # how they were made


def evaluate(cfg: DictConfig) -> None:
    path = Path(cfg.ckpt)
    subject = read_subject(path)
    if not is_child_rank():
        cfg = settings(cfg, subject.trained)
    if cfg.embeddings and not str(cfg.embeddings).endswith(".npz"):
        raise UserError(f"embeddings is the path of an .npz file, got {cfg.embeddings}.")
    rerank, protocol = _reranker(cfg.rerank), instantiate(cfg.protocol)
    with quiet(), own_ranks():
        if subject.saved:
            if cfg.flip:
                raise UserError(f"flip=true needs the network, and {cfg.ckpt} holds embeddings: give a checkpoint.")
            folder, saved, device = make_folder(cfg), subject.saved, torch.device("cpu")
            tested = Tested(score(saved.embeddings, saved.catalogue, protocol, rerank=rerank), {}, saved.embeddings)
        else:
            assert subject.module
            data = instantiate(cfg.data)
            data.prepare_data()
            data.setup("test")
            metric = RetrievalMetric(data.test, protocol, rerank=rerank)
            examiner = Examiner(data, RetrievalScoring(metric, flip=cfg.flip))
            trainer = build_trainer(cfg.trainer, examiner.callbacks)
            folder = make_folder(cfg)
            tested, device = examiner.test(trainer, subject.module), trainer.strategy.root_device
            if not trainer.is_global_zero:
                return
            draw_pictures(folder, tested, examiner, subject.module)
            flipped = ["each embedding is the mean over image and mirror image"] if cfg.flip else []
            notes = (f"network: {cfg.ckpt}", *flipped)
            saved = Saved(tested.embeddings, data.test, examiner.annotations is not None, notes)
        conclude(cfg, folder, tested, saved, {} if saved.drawn else protocol.published, device)
        if cfg.embeddings:
            save_embeddings(Path(cfg.embeddings), saved, cfg)


def conclude(
    cfg: DictConfig, folder: Path, tested: Tested, saved: Saved, published: Published, device: torch.device
) -> None:
    results = Results.of(
        {Path(cfg.ckpt).stem: tested.scores},
        published,
        provenance(cfg, device),
        nuances=tested.nuances,
        notes=saved.notes,
    )
    draw_cmc({setting: result.cmc for setting, result in tested.scores.items()}, folder / "cmc.png")
    results.write(folder)
    results.print()
    print(f"\nFiles: {folder}")


def read_subject(path: Path) -> Subject:
    """A file of saved embeddings, a checkpoint of this package, or a released state dict."""
    if path.suffix == ".npz":
        return read_embeddings(path)
    content = weights.read(path)
    if official.is_official(content):
        return Subject(None, official.module_from_official(content))
    if not isinstance(content.get("config"), dict) or not content.keys() >= OF_A_CHECKPOINT:
        raise UserError(f"{path} is neither a checkpoint of mpanet_pl.train nor a released MPANet state dict.")
    return Subject(OmegaConf.create(content["config"]), MPANetModule.load_from_checkpoint(path))


def settings(cfg: DictConfig, trained: DictConfig | None) -> DictConfig:
    """The configuration of the dataset asked for, or the trained one's with what was typed on top."""
    typed = [text for text in overrides_given() if text.split("=")[0].split(".")[0] in OF_TRAINING]
    if cfg.dataset is None:
        if trained is None:
            raise UserError(f"{cfg.ckpt} does not say what it was trained on: add dataset=… and data_dir=….")
        kept = plain(trained)
        OmegaConf.set_struct(cfg, False)  # a dataset brings keys of its own
        cfg = with_overrides(OmegaConf.merge(cfg, {key: kept[key] for key in OF_TRAINING}), typed)  # type: ignore[arg-type]
    elif trained is not None:
        for key in ("height", "width"):
            if not any(text.startswith(f"data.{key}=") for text in typed):
                cfg.data[key] = trained.data[key]
    if trained is not None:
        check_targets(cfg, str(cfg.ckpt))
    _check_trial(cfg, trained)
    return cfg


def _check_trial(cfg: DictConfig, trained: DictConfig | None) -> None:
    """RegDB's trials exchange training and test people: another trial than the trained one measures memory."""
    if cfg.dataset != "regdb":
        return
    knows_trial = trained is not None and trained.dataset == "regdb"
    if cfg.trial is None:
        if not knows_trial:
            raise UserError(f"{cfg.ckpt} does not say which RegDB trial it was trained on: add trial=1 … 10.")
        cfg.trial = trained.trial  # type: ignore[union-attr]
    if knows_trial and cfg.trial != trained.trial and not cfg.other_trial:  # type: ignore[union-attr]
        raise UserError(
            f"{cfg.ckpt} was trained on RegDB trial {trained.trial}; half of trial {cfg.trial}'s test people were "  # type: ignore[union-attr]
            "trained on. Test its own trial, or say other_trial=true."
        )


def save_embeddings(path: Path, saved: Saved, cfg: DictConfig) -> None:
    catalogue = saved.catalogue
    with written_aside(path) as aside, aside.open("wb") as file:
        np.savez(
            file,
            embeddings=saved.embeddings.cpu().numpy(),
            paths=np.array(catalogue.paths),
            identities=catalogue.identities.numpy(),
            cameras=catalogue.cameras.numpy(),
            infrared=catalogue.infrared.numpy(),
            drawn=np.array(saved.drawn),
            notes=np.array(saved.notes),
            config=np.array(OmegaConf.to_yaml(cfg)),
        )


def read_embeddings(path: Path) -> Subject:
    if not path.is_file():
        raise UserError(f"{path} does not exist.")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            columns = (torch.from_numpy(stored[name]) for name in ("identities", "cameras", "infrared"))
            catalogue = Catalogue(tuple(stored["paths"].tolist()), *columns)
            notes = (f"embeddings: {path}", *stored["notes"].tolist())
            saved = Saved(torch.from_numpy(stored["embeddings"]), catalogue, bool(stored["drawn"]), notes)
            return Subject(OmegaConf.create(str(stored["config"])), saved=saved)  # type: ignore[arg-type]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is no file of embeddings saved by mpanet_pl.evaluate ({error}).") from error


def _reranker(name: str | None) -> Reranker | None:
    if name is None:
        return None
    if name not in RERANKERS:
        raise UserError(f"rerank is one of {', '.join(RERANKERS)}, got '{name}'.")
    return RERANKERS[name]()


def main() -> None:
    run_command("evaluate", evaluate)


if __name__ == "__main__":
    main()
