"""`python -m mpanet_pl.evaluate`: test a checkpoint, this package's or a released one, or embeddings saved before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NamedTuple

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from mpanet_pl.data.seen import check_told, check_unseen
from mpanet_pl.errors import UserError
from mpanet_pl.evaluation import Scores, check_matches
from mpanet_pl.evaluation import evaluate as score
from mpanet_pl.evaluation.callback import RetrievalScoring
from mpanet_pl.evaluation.digests import digest_of
from mpanet_pl.evaluation.published import others
from mpanet_pl.evaluation.rerank import RERANKERS
from mpanet_pl.evaluation.slices import REMARK as FEW_PEOPLE
from mpanet_pl.evaluation.slices import Labels, check_kinds, slices
from mpanet_pl.evaluation.slices import table as slice_table
from mpanet_pl.evaluation.tables import Results, print_tables
from mpanet_pl.features.queries import QUERIES, write_queries
from mpanet_pl.interfaces import Reranker, RetrievalProtocol
from mpanet_pl.run.calibrating import cut_of
from mpanet_pl.run.corrupting import Asked, corrupted_scores, report_corrupted
from mpanet_pl.run.datasets import alone, build_data, build_protocol, settle_trial
from mpanet_pl.run.examination import Examiner, Know, Tested, know_nothing
from mpanet_pl.run.logbook import logged
from mpanet_pl.run.measures import MEASURES, Further, Material, Measure
from mpanet_pl.run.pictures import draw_cmc
from mpanet_pl.run.pictures.rank_list import CHOICES
from mpanet_pl.run.record import Record
from mpanet_pl.run.report import draw_pictures
from mpanet_pl.run.run_folder import check_free, run_folder
from mpanet_pl.run.run_page import write_run_page
from mpanet_pl.run.settings import NOTHING_TYPED, Request, plain
from mpanet_pl.run.subject_settings import settings_for
from mpanet_pl.run.subjects import Saved, Subject, read_subject, save_features
from mpanet_pl.run.trainer import build_trainer, exact_where_narrow, isolated, quiet
from mpanet_pl.system.files import sha256
from mpanet_pl.system.processes import is_child_rank, rank_of_outer_launcher
from mpanet_pl.system.targets import build


def evaluate(cfg: DictConfig, request: Request = NOTHING_TYPED, know: Know = know_nothing) -> None:
    subject = read_subject(cfg)
    if not is_child_rank():
        cfg = settings_for(cfg, request, subject)
    _check_settings(cfg)
    check_free(cfg, request)
    with quiet(), isolated():
        if subject.saved:
            measure_saved(cfg, request, subject, subject.saved)
        else:
            measure_network(cfg, request, subject, know)


def _check_settings(cfg: DictConfig) -> None:
    if cfg.protocol is None:
        raise UserError("protocol=null leaves nothing to measure by: leave it out.")
    _measure(cfg)
    if Asked.of(cfg) and cfg.features:
        raise UserError("corrupt needs a checkpoint: features are of the images as they were.")
    if not isinstance(cfg.rank_list, int) and cfg.rank_list not in CHOICES:
        raise UserError(f"rank_list is {', '.join(CHOICES)} or a person's number, got '{cfg.rank_list}'.")
    if not cfg.save_features:
        return
    place = Path(cfg.save_features)
    if place.suffix != ".npz":
        raise UserError(f"save_features is the path of an .npz file, got {place}.")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=place.parent).close()
    except OSError as error:
        raise UserError(f"save_features={place} cannot be written: {error.strerror}.") from error


def _measure(cfg: DictConfig) -> Measure | None:
    """What is measured besides: one of the package's by its name, or one's own by `_target_` with its keywords."""
    if isinstance(cfg.measure, DictConfig):
        asked = OmegaConf.to_container(cfg.measure)
        assert isinstance(asked, dict)
        made: Measure = build({str(key): value for key, value in asked.items()}, "measure")
        return made
    if cfg.measure is not None and cfg.measure not in MEASURES:
        raise UserError(f"measure is one of {', '.join(MEASURES)}, or {{_target_: my_lab.Mine}}; got '{cfg.measure}'.")
    return MEASURES[cfg.measure] if cfg.measure else None


def _slices_of(cfg: DictConfig) -> list[str]:
    asked = cfg.get("slices") or []
    return [str(kind) for kind in ([asked] if isinstance(asked, str) else asked)]


def measure_saved(cfg: DictConfig, request: Request, subject: Subject, saved: Saved) -> None:
    """Embeddings meet the protocol again, without the network that made them; one process is enough."""
    if rank_of_outer_launcher():
        return
    check_told(saved.notes, str(cfg.features), allowed=cfg.allow_trained_people)
    check_kinds(_slices_of(cfg), {}, saved.catalogue)
    protocol, scores = _scored(cfg, saved)
    record = Record.here(torch.device("cpu"), str(saved.embeddings.dtype), **_of_run(cfg))
    with run_folder(cfg, request) as folder, logged(folder):
        if cfg.pictures:
            draw_cmc(scores, folder / "cmc.png")
        origin = _provenance(cfg, request, record)
        material = Material(saved.embeddings, saved.catalogue, protocol)
        results = report(folder, cfg, saved, material, Tested(scores, saved.embeddings), origin, subject.root)
        write_run_page(folder, results)


def _scored(cfg: DictConfig, saved: Saved) -> tuple[RetrievalProtocol, dict[str, Scores]]:
    protocol = build_protocol(cfg.protocol, instantiate(cfg.data.dataset))
    return protocol, score(saved.embeddings, saved.catalogue, protocol, rerank=_reranker(cfg))


class ScoredFeatures(NamedTuple):
    row: str
    scores: Mapping[str, Scores]
    paths: Sequence[str]
    network: str  # a digest; likewise the next
    images: str | None


def score_features(cfg: DictConfig, request: Request) -> ScoredFeatures:
    """The scores of features alone: nothing is written or printed."""
    subject = read_subject(cfg)
    cfg = settings_for(cfg, request, subject)
    _check_settings(cfg)
    assert subject.saved
    saved = subject.saved
    network = saved.network or digest_of([saved.embeddings])
    scores = _scored(cfg, saved)[1]
    return ScoredFeatures(str(cfg.name or saved.name), scores, saved.catalogue.paths, network, saved.images)


def measure_network(cfg: DictConfig, request: Request, subject: Subject, know: Know) -> None:
    """Every rank embeds its share of the test images; the first tells the scores."""
    assert subject.module
    subject.module.score_by(cfg.embedding)
    settle_trial(cfg)
    calibrates = cfg.measure == "open_set" and _held_out(subject.root, cfg) and not cfg.flip
    data = build_data(cfg.data, validation="held_out" if calibrates else "test")
    protocol = build_protocol(cfg.protocol, data.dataset)
    data.prepare_data()
    data.setup("test")
    check_matches(data.test, protocol)
    files = data.files(data.test) if subject.seen else []
    leaks = check_unseen(subject.seen, data.test, files, str(cfg.ckpt), allowed=cfg.allow_trained_people)
    examiner = Examiner(data, RetrievalScoring(protocol, flip=cfg.flip, rerank=_reranker(cfg)), know)
    labels = examiner.knowledge.labels if examiner.knowledge else {}
    check_kinds(_slices_of(cfg), labels, data.test)
    trainer = build_trainer(
        exact_where_narrow(cfg.trainer, subject.module, data.height, data.width), examiner.callbacks
    )
    with run_folder(cfg, request) as folder, logged(folder):
        if calibrates:
            trainer.validate(subject.module, datamodule=data, verbose=False)
        tested = examiner.test(trainer, subject.module)
        asked = Asked.of(cfg)
        embeds = examiner.embeds(trainer, subject.module)
        spoilt = corrupted_scores(asked, data, protocol, tested.embeddings, embeds) if asked else {}
        if not trainer.is_global_zero:
            return
        before = ["embeddings are descriptors, before the neck"] if cfg.embedding == "descriptor" else []
        corrupted = [str(data.corrupt)] if data.corrupt else []
        flipped = ["each embedding is the mean over image and mirror image"] if cfg.flip else []
        notes = (f"network: {cfg.ckpt}, in {trainer.precision}", *subject.notes, *before, *leaks, *flipped, *corrupted)
        saved = Saved(tested.embeddings, data.test, examiner.knowledge is not None, Path(cfg.ckpt).stem, notes)
        saved = saved._replace(network=tested.network, images=examiner.images)
        record = Record.of(trainer, subject.module.network, **_of_run(cfg))
        origin = _provenance(cfg, request, record) | {"network": sha256(cfg.ckpt)}
        descriptors = examiner.descriptors(trainer, subject.module) if cfg.measure == "mixed" else None
        material = Material(tested.embeddings, data.test, protocol, examiner.held_out(), descriptors)
        if asked:
            grid, remarks = report_corrupted(spoilt, tested.scores, asked, folder)
            tested = tested._replace(tables=[*tested.tables, grid], remarks=[*tested.remarks, *remarks])
            print_tables([grid], remarks)
        results = report(folder, cfg, saved, material, tested, origin, subject.root, labels)
        if cfg.pictures:
            cut = cut_of(results.threshold, examiner.data.test)
            draw_pictures(folder, tested, examiner, subject.module, cfg.rank_list, cut)
        write_run_page(folder, results)


def _held_out(trained: Mapping[str, Any] | None, cfg: DictConfig) -> bool:
    """Whether some of this dataset's training people were not trained on."""
    validation = (trained or {}).get("validation") or {}
    return validation.get("on") == "held_out" and trained is not None and trained.get("dataset") == cfg.dataset


def _of_run(cfg: DictConfig) -> dict[str, Any]:
    return {key: cfg[key] for key in ("dataset", "trial", "seed")}


def _provenance(cfg: DictConfig, request: Request, record: Record) -> dict[str, Any]:
    return record.plain() | {"overrides": list(request.overrides), "config": plain(cfg)}


def report(
    folder: Path,
    cfg: DictConfig,
    saved: Saved,
    material: Material,
    tested: Tested,
    origin: Mapping[str, Any],
    trained: Mapping[str, Any] | None,
    labels: Labels | None = None,
) -> Results:
    row, kinds, protocol = str(cfg.name or saved.name), _slices_of(cfg), material.protocol
    found = slices(saved.embeddings, saved.catalogue, protocol, kinds, labels, tested.scores) if kinds else []
    elsewhere = trained is not None and trained.get("dataset") != cfg.dataset
    unlike = alone(instantiate(cfg.data.dataset), saved.catalogue)
    beside = not (saved.drawn or elsewhere or unlike)
    table = beside and others(
        cfg.dataset,
        tested.scores,
        similarity=protocol.similarity,
        gallery=protocol.gallery,
        trials=protocol.trials,
        flip=cfg.flip,
    )
    far = [f"trained on {trained.get('dataset')}, not on {cfg.dataset}"] if trained and elsewhere else []
    untold = ["what it was trained on is not known"] if beside and not trained else []
    more = measure(material, folder) if (measure := _measure(cfg)) else Further()
    further = [*([table] if table else []), *more.tables]
    results = Results.of(
        {row: tested.scores},
        protocol.published if beside and not cfg.flip else {},
        {**origin, "trained": trained},
        nuances=tested.nuances,
        tables=[*tested.tables, *further, *([slice_table(found)] if found else [])],
        table_notes=[*tested.remarks, *([FEW_PEOPLE] if found else [])],
        notes=[*saved.notes, *far, *unlike, *more.notes, *untold, *([str(cfg.notes)] if cfg.notes else [])],
    )
    results = replace(results, **more.values)
    networks = {row: saved.network or digest_of([saved.embeddings])}
    write_queries(folder / QUERIES, {row: tested.scores}, saved.catalogue.paths, networks=networks, images=saved.images)
    results.write(folder)
    results.print()
    if further:
        print_tables(further, [])
    if found:
        console = Console()
        print_tables([slice_table(found, narrow=console.is_terminal)], [FEW_PEOPLE], console)
    print(f"\nFiles: {folder}")
    if cfg.save_features:
        save_features(Path(cfg.save_features), saved, cfg, trained)
    return results


def _reranker(cfg: DictConfig) -> Reranker | None:
    """One of the package's by its name, or one's own by `_target_` with its keywords."""
    sizes = {key: cfg[key] for key in ("k1", "k2") if cfg[key] is not None}
    asked = OmegaConf.to_container(cfg.rerank) if isinstance(cfg.rerank, DictConfig) else cfg.rerank
    if asked is None:
        if sizes:
            raise UserError(f"{' and '.join(sizes)} needs rerank=k_reciprocal or another re-ranking.")
        return None
    if isinstance(asked, dict):
        made: Reranker = build({str(key): value for key, value in asked.items()} | sizes, "rerank")
        return made
    if not isinstance(asked, str) or asked not in RERANKERS:
        raise UserError(f"rerank is one of {', '.join(RERANKERS)}, or {{_target_: my_lab.Mine}}; got '{asked}'.")
    try:
        return RERANKERS[asked](**sizes)
    except TypeError:
        raise UserError(f"rerank={asked} has no {' and no '.join(sizes)}.") from None
