"""`python -m mpanet_pl.evaluate`: test a checkpoint, this package's or a released one, or embeddings saved before."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console

from mpanet_pl.data import ReIDDataModule
from mpanet_pl.data.seen import check_notes, check_unseen
from mpanet_pl.errors import UserError
from mpanet_pl.evaluation import Scores, check_matches
from mpanet_pl.evaluation import evaluate as score
from mpanet_pl.evaluation.callback import RetrievalScoring
from mpanet_pl.evaluation.published import others
from mpanet_pl.evaluation.rerank import RERANKERS
from mpanet_pl.evaluation.slices import REMARK as FEW_PEOPLE
from mpanet_pl.evaluation.slices import Labels, check_kinds, slices
from mpanet_pl.evaluation.slices import table as slice_table
from mpanet_pl.evaluation.tables import Results, print_tables
from mpanet_pl.features.queries import QUERIES, write_queries
from mpanet_pl.interfaces import Reranker, RetrievalProtocol
from mpanet_pl.run.calibrating import cut_of
from mpanet_pl.run.corrupting import CorruptionRequest, corrupted_scores, report_corrupted
from mpanet_pl.run.datasets import build_data, build_protocol, foresee, make_ready, set_trial, unpublished
from mpanet_pl.run.evaluation_inputs import EvaluationInput, SavedFeatures, read_input, save_features
from mpanet_pl.run.evaluation_settings import settings_for
from mpanet_pl.run.examination import Examiner, GroundTruthOf, Tested, no_ground_truth
from mpanet_pl.run.logbook import logged
from mpanet_pl.run.measures import MEASURES, Measure, MeasureInput, MeasureResult
from mpanet_pl.run.pictures.curves import draw_cmc
from mpanet_pl.run.pictures.rank_list import CHOICES
from mpanet_pl.run.record import Record
from mpanet_pl.run.report import draw_pictures
from mpanet_pl.run.request import NOTHING_TYPED, Request
from mpanet_pl.run.run_folder import check_free, run_folder
from mpanet_pl.run.run_page import write_run_page
from mpanet_pl.run.settings import plain
from mpanet_pl.run.trainer import build_trainer, exact_where_narrow
from mpanet_pl.system.files import sha256
from mpanet_pl.system.lightning import isolated, quiet
from mpanet_pl.system.processes import is_child_rank, rank_of_outer_launcher
from mpanet_pl.system.targets import build


def evaluate(
    cfg: DictConfig, request: Request = NOTHING_TYPED, ground_truth_of: GroundTruthOf = no_ground_truth
) -> None:
    given = read_input(cfg)
    if not is_child_rank():
        cfg = settings_for(cfg, request, given)
    _check_settings(cfg)
    check_free(cfg, request)
    with quiet(), isolated():
        if given.saved:
            measure_saved(cfg, request, given, given.saved)
        else:
            measure_network(cfg, request, given, ground_truth_of)


def _check_settings(cfg: DictConfig) -> None:
    if cfg.protocol is None:
        raise UserError("protocol=null leaves nothing to measure by: leave it out.")
    _measure(cfg)
    _reranker(cfg)
    if CorruptionRequest.of(cfg) and cfg.features:
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
        own: Measure = build(plain(cfg.measure), "measure")
        return own
    if cfg.measure is not None and cfg.measure not in MEASURES:
        raise UserError(f"measure is one of {', '.join(MEASURES)}, or {{_target_: my_lab.Mine}}; got '{cfg.measure}'.")
    return MEASURES[cfg.measure] if cfg.measure else None


def _slices_of(cfg: DictConfig) -> list[str]:
    asked = cfg.get("slices") or []
    return [str(kind) for kind in ([asked] if isinstance(asked, str) else asked)]


def _check_parts(cfg: DictConfig, data: ReIDDataModule, ground_truth_of: GroundTruthOf) -> None:
    """Refuse slices and a person that the test does not have, before anything is drawn or cached."""
    if kinds := _slices_of(cfg):
        truth = ground_truth_of(data)
        labels = truth.labels if truth else getattr(data.dataset, "slices", ())
        check_kinds(kinds, labels, data.test)
    people = data.test.identities.unique()
    if isinstance(cfg.rank_list, int) and cfg.rank_list not in people:
        few = ", ".join(map(str, people[:3].tolist()))
        raise UserError(f"rank_list={cfg.rank_list}: the test has no person {cfg.rank_list}; it has {few}, …")


def measure_saved(cfg: DictConfig, request: Request, given: EvaluationInput, saved: SavedFeatures) -> None:
    """Embeddings meet the protocol again, without the network that made them; one process is enough."""
    if rank_of_outer_launcher():
        return
    check_notes(saved.notes, str(cfg.features), allowed=cfg.allow_trained_people)
    check_kinds(_slices_of(cfg), {}, saved.catalogue)
    protocol, scores = _scored(cfg, saved)
    record = Record.here(torch.device("cpu"), str(saved.embeddings.dtype), **_of_run(cfg))
    with run_folder(cfg, request) as folder, logged(folder):
        if cfg.pictures:
            draw_cmc(scores, folder / "cmc.png")
        origin = _provenance(cfg, request, record)
        measure_input = MeasureInput(saved.embeddings, saved.catalogue, protocol)
        results = report(folder, cfg, saved, measure_input, Tested(scores, saved.embeddings), origin, given.root)
        write_run_page(folder, results)


def _scored(cfg: DictConfig, saved: SavedFeatures) -> tuple[RetrievalProtocol, dict[str, Scores]]:
    protocol = build_protocol(cfg.protocol, instantiate(cfg.data.dataset))
    return protocol, score(saved.embeddings, saved.catalogue, protocol, rerank=_reranker(cfg))


def score_features(cfg: DictConfig, request: Request) -> tuple[str, SavedFeatures, dict[str, Scores]]:
    """Features, what they are called, and their scores: nothing is written or printed."""
    given = read_input(cfg)
    cfg = settings_for(cfg, request, given)
    _check_settings(cfg)
    assert given.saved
    return str(cfg.name or given.saved.name), given.saved, _scored(cfg, given.saved)[1]


def measure_network(cfg: DictConfig, request: Request, given: EvaluationInput, ground_truth_of: GroundTruthOf) -> None:
    """Every rank embeds its share of the test images; the first writes the scores."""
    assert given.module
    given.module.score_by(cfg.embedding)
    set_trial(cfg)
    calibrates = cfg.measure == "open_set" and _held_out(given.root, cfg) and not cfg.flip
    data = build_data(cfg.data, validation="held_out" if calibrates else "test")
    protocol = build_protocol(cfg.protocol, data.dataset)
    foresee(data)
    check_matches(data.test, protocol)
    _check_parts(cfg, data, ground_truth_of)
    make_ready(data, "test")
    protocol = build_protocol(cfg.protocol, data.dataset)  # a world that was drawn only now brings permutations
    files = data.files(data.test) if given.seen else []
    leaks = check_unseen(given.seen, data.test, files, str(cfg.ckpt), allowed=cfg.allow_trained_people)
    examiner = Examiner(data, RetrievalScoring(protocol, flip=cfg.flip, rerank=_reranker(cfg)), ground_truth_of)
    labels = examiner.ground_truth.labels if examiner.ground_truth else {}
    trainer = build_trainer(exact_where_narrow(cfg.trainer, given.module, data.height, data.width), examiner.callbacks)
    with run_folder(cfg, request) as folder, logged(folder):
        if calibrates:
            trainer.validate(given.module, datamodule=data, verbose=False)
        tested = examiner.test(trainer, given.module)
        asked = CorruptionRequest.of(cfg)
        embed = partial(examiner.embed, trainer, given.module)
        corrupted = corrupted_scores(asked, data, protocol, tested.embeddings, embed) if asked else {}
        descriptors = examiner.descriptors(trainer, given.module) if cfg.measure == "mixed" else None
        if not trainer.is_global_zero:
            return
        saved = SavedFeatures(
            tested.embeddings,
            data.test,
            drawn=examiner.ground_truth is not None,
            name=Path(cfg.ckpt).stem,
            notes=(f"network: {cfg.ckpt}, in {trainer.precision}", *given.notes, *leaks, *_test_ways(cfg, data)),
            network=tested.network,
            images=examiner.images,
        )
        record = Record.of(trainer, given.module.network, **_of_run(cfg))
        origin = _provenance(cfg, request, record) | {"network": sha256(cfg.ckpt)}
        measure_input = MeasureInput(tested.embeddings, data.test, protocol, examiner.held_out(), descriptors)
        if asked:
            grid, remarks = report_corrupted(corrupted, tested.scores, asked, folder)
            tested = tested._replace(tables=[*tested.tables, grid], remarks=[*tested.remarks, *remarks])
            print_tables([grid], remarks)
        results = report(folder, cfg, saved, measure_input, tested, origin, given.root, labels)
        if cfg.pictures:
            cut = cut_of(results.threshold, examiner.data.test)
            draw_pictures(folder, tested, examiner, given.module, cfg.rank_list, cut)
        write_run_page(folder, results)


def _test_ways(cfg: DictConfig, data: ReIDDataModule) -> list[str]:
    """What of the test itself a reader of its scores has to know."""
    ways = ["embeddings are descriptors, before the neck"] if cfg.embedding == "descriptor" else []
    ways += ["each embedding is the mean over image and mirror image"] if cfg.flip else []
    return ways + ([str(data.corrupt)] if data.corrupt else [])


def _held_out(trained: Mapping[str, Any] | None, cfg: DictConfig) -> bool:
    """Whether some of this dataset's training people were not trained on."""
    trained = trained or {}
    return trained.get("dataset") == cfg.dataset and (trained.get("validation") or {}).get("on") == "held_out"


def _of_run(cfg: DictConfig) -> dict[str, Any]:
    return {key: cfg[key] for key in ("dataset", "trial", "seed")}


def _provenance(cfg: DictConfig, request: Request, record: Record) -> dict[str, Any]:
    return record.plain() | {"overrides": list(request.overrides), "config": plain(cfg)}


def report(
    folder: Path,
    cfg: DictConfig,
    saved: SavedFeatures,
    measure_input: MeasureInput,
    tested: Tested,
    origin: Mapping[str, Any],
    trained: Mapping[str, Any] | None,
    labels: Labels | None = None,
) -> Results:
    row, kinds, protocol = str(cfg.name or saved.name), _slices_of(cfg), measure_input.protocol
    found = slices(saved.embeddings, saved.catalogue, protocol, kinds, labels, tested.scores) if kinds else []
    elsewhere = trained is not None and trained.get("dataset") != cfg.dataset
    unlike = unpublished(instantiate(cfg.data.dataset), saved.catalogue)
    beside = not (saved.drawn or elsewhere or unlike)
    table = beside and others(
        cfg.dataset,
        tested.scores,
        similarity=protocol.similarity,
        gallery=protocol.gallery,
        trials=protocol.trials,
        flip=cfg.flip,
    )
    other = [f"trained on {trained.get('dataset')}, not on {cfg.dataset}"] if trained and elsewhere else []
    unknown = ["what it was trained on is not known"] if beside and not trained else []
    measured = measure(measure_input, folder) if (measure := _measure(cfg)) else MeasureResult()
    tables = [*([table] if table else []), *measured.tables]
    results = Results.of(
        {row: tested.scores},
        protocol.published if beside and not cfg.flip else {},
        {**origin, "trained": trained},
        nuances=tested.nuances,
        tables=[*tested.tables, *tables, *([slice_table(found)] if found else [])],
        table_notes=[*tested.remarks, *([FEW_PEOPLE] if found else [])],
        notes=[*saved.notes, *other, *unlike, *measured.notes, *unknown, *([str(cfg.notes)] if cfg.notes else [])],
    )
    results = replace(results, **measured.values)
    queries, networks = folder / QUERIES, {row: saved.digest}
    write_queries(queries, {row: tested.scores}, saved.catalogue.paths, networks=networks, images=saved.images)
    results.write(folder)
    results.print()
    if tables:
        print_tables(tables, [])
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
    if cfg.rerank is None:
        if sizes:
            raise UserError(f"{' and '.join(sizes)} needs rerank=k_reciprocal or another re-ranking.")
        return None
    if isinstance(cfg.rerank, DictConfig):
        own: Reranker = build(plain(cfg.rerank) | sizes, "rerank")
        return own
    if cfg.rerank not in RERANKERS:
        raise UserError(f"rerank is one of {', '.join(RERANKERS)}, or {{_target_: my_lab.Mine}}; got '{cfg.rerank}'.")
    try:
        return RERANKERS[cfg.rerank](**sizes)
    except TypeError:
        raise UserError(f"rerank={cfg.rerank} has no {' and no '.join(sizes)}.") from None
