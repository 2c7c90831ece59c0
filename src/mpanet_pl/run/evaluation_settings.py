"""By what a checkpoint or saved embeddings are measured: the trained configuration, and what was asked for besides."""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from mpanet_pl.errors import UserError
from mpanet_pl.run.datasets import dataset_class, trials_of
from mpanet_pl.run.evaluation_inputs import OF_JOINT, OF_TRAINING, EvaluationInput
from mpanet_pl.run.request import Request
from mpanet_pl.run.settings import plain
from mpanet_pl.system.trust import check_targets, ran_here, targets


def settings_for(cfg: DictConfig, request: Request, given: EvaluationInput) -> DictConfig:
    """The trained configuration with what was typed on top, or that of another dataset where one is asked for."""
    typed = [text.lstrip("+") for text in request.overrides]
    typed = [text for text in typed if text.split("=")[0].split(".")[0] in OF_TRAINING + OF_JOINT]
    trained = given.trained
    if given.exact and cfg.trainer.precision == "auto":
        cfg.trainer.precision = "32-true"
    if trained is None:
        if cfg.dataset is None:
            raise UserError(f"{source_of(cfg)} does not say what it was trained on: add dataset=… and data_dir=….")
        _check_trial_is_named(cfg)
        _keep_size(cfg, given, typed)
        return cfg
    chosen = set(targets(plain(cfg)))  # by who asks, not by the file
    OmegaConf.set_struct(cfg, False)  # a dataset brings keys of its own
    if cfg.dataset in (None, trained.dataset):
        for key, value in plain(trained).items():
            if key in OF_TRAINING + OF_JOINT:
                OmegaConf.update(cfg, key, value, merge=False)
        cfg = request.change(cfg, [text for text in typed if not text.startswith("dataset=")])
        OmegaConf.set_struct(cfg, False)
    else:
        _keep_size(cfg, given, typed)
        _check_trial_is_named(cfg, str(trained.dataset))
    ran = ran_here(Path(source_of(cfg)).absolute().parent.parent)
    check_targets(cfg, source_of(cfg), cfg.trust, known=chosen | ran)
    if given.saved:
        _check_unchanged(cfg, trained)
        cfg.flip = trained.flip
    _check_held_out(cfg, trained)
    return cfg


def _keep_size(cfg: DictConfig, given: EvaluationInput, typed: Sequence[str]) -> None:
    """Images are as large as those that the network was trained on, unless another size is typed."""
    for key, size in zip(("height", "width"), given.size or (), strict=False):
        if not any(text.startswith(f"data.{key}=") for text in typed):
            cfg.data[key] = size


def source_of(cfg: DictConfig) -> str:
    return str(cfg.ckpt or cfg.features)


def _check_trial_is_named(cfg: DictConfig, trained_on: str | None = None) -> None:
    if (trials := trials_of(cfg)) and cfg.trial is None:
        name, add = dataset_class(cfg).name, f"add trial={trials[0]} … {trials[-1]}."
        if trained_on:
            raise UserError(f"{source_of(cfg)} was trained on {trained_on}; say whose test people of {name}: {add}")
        raise UserError(f"{source_of(cfg)} does not say which {name} trial it was trained on: {add}")


def _check_unchanged(cfg: DictConfig, made: DictConfig) -> None:
    """Embeddings are of the images that they were made of, whatever is asked for."""
    asked, had = plain(cfg), plain(made)
    changed = [key for key in OF_TRAINING if key != "protocol" and asked[key] != had[key]]
    if changed := [*changed, *(["flip"] if cfg.flip and not made.flip else [])]:
        raise UserError(
            f"{source_of(cfg)} holds embeddings, whose {', '.join(changed)} cannot change: give a checkpoint."
        )


def _check_held_out(cfg: DictConfig, trained: DictConfig) -> None:
    """Another choice of test people than the trained one tests on people that were trained on: it measures memory."""
    if cfg.dataset != trained.dataset or cfg.allow_trained_people:
        return
    for name in dataset_class(cfg).chosen_by:
        was, asked = (OmegaConf.select(of, f"data.dataset.{name}") for of in (trained, cfg))
        is_key = plain(cfg)["data"]["dataset"].get(name) == f"${{{name}}}"
        key = name if is_key else f"data.dataset.{name}"
        if was != asked:
            raise UserError(
                f"{source_of(cfg)} was trained with {key}={was}: with {key}={asked}, people it was trained on are "
                "among the test people. Test its own, or say allow_trained_people=true."
            )
