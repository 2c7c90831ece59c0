"""A run's own page: its scores, every picture with how to read it, configuration, cost and files."""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mpanet_pl.evaluation.tables import ORIGIN, Grid, Results
from mpanet_pl.run.logbook import LOG
from mpanet_pl.run.pages import PAGE, folded, link, pictures, remarks, section, table, write_page
from mpanet_pl.run.run_folder import CONFIG
from mpanet_pl.stored import terms_of

PICTURES = {  # file -> title, how to read it; in the page's order
    "rank_list": ("Rank lists", "Each row is a query, then the gallery's most similar images: ✓ in a broad frame shows "
    "the query's person, ✗ in a narrow one somebody else."),
    "rank_list_worst": ("Worst failures", "Each row is a query whose true matches come late, then the images that came "
    "first: look for what the wrong ones share with the query. This picture says nothing of the score."),
    "cmc": ("Cumulative matches", "The height at k is the share of queries whose person is among the first k; a bar is "
    "the 95 % interval over other people like these."),
    "curves": ("Training", "Losses should fall and scores rise; scores that fall while losses fall are overfitting."),
    "similarities": ("Similarities", "The less the two hills overlap, the better; the line is the cosine from which on "
    "two images are taken for one person, and the legend says both errors at that cosine."),
    "embeddings": ("Embedding space", "A person's circles (visible) and triangles (infrared) should lie together and "
    "apart from other people's; t-SNE keeps neighbours, and distances between clusters mean nothing."),
    "patterns": ("Pattern maps", "A map should look at the same part of each person in both modalities; where "
    "the cross lies on the background, the map sees nothing of the person."),
    "roc": ("Verification", "The higher a curve lies at a small share of wrong acceptances, the better pairs are told "
    "apart."),
    "det": ("Open set", "Missed people over false alarms, the lower the better; more people enrolled cost more."),
    "similarity_by_modality": ("Similarities by modality", "One person across modalities should be more alike than two "
    "people within one."),
}  # fmt: skip
FILES = {
    LOG: "what happened, line by line",
    "results.md": "the tables as text",
    "results.json": "all numbers, and the run and checkpoint that they come from",
    "queries.npz": "the rank of every query's person, for compare",
    "metrics.csv": "losses and scores by step",
    "timing.csv": "seconds of each epoch",
    CONFIG: "the configuration",
    "record.json": "devices, precision, versions and epochs done",
    "checkpoints/last.ckpt": "the network after the last epoch",
    "checkpoints/best.ckpt": "the network of the best epoch",
}
FACTS = [key for key in ORIGIN if key != "overrides"]


class Cost(NamedTuple):
    """What a run's epochs took."""

    seconds: float
    images_per_second: float
    gib: float
    processor: float = 0.0  # seconds of all cores; 0: not known

    def __str__(self) -> str:
        """
        >>> str(Cost(5400, 812.3, 11.2)), str(Cost(89, 3000, 0))
        ('1.5 h, 812 images/s, 11.2 GiB', '89 s, 3000 images/s')
        """
        memory = f", {self.gib:.1f} GiB" if self.gib else ""
        return f"{duration(self.seconds)}, {self.images_per_second:.0f} images/s{memory}"


def duration(seconds: float) -> str:
    """
    >>> duration(89), duration(600), duration(54000)
    ('89 s', '10 min', '15.0 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def cost_of(folder: Path) -> Cost | None:
    """From timing.csv; None of a folder without, as an evaluation's."""
    try:
        with (folder / "timing.csv").open(newline="") as file:
            rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
        trained = sum(row["train_seconds"] for row in rows)
        images = sum(row["images_per_second"] * row["train_seconds"] for row in rows)
        seconds = trained + sum(row["validation_seconds"] for row in rows)
        processor = sum(row.get("processor_seconds", 0.0) for row in rows)
        return Cost(seconds, images / trained, max(row["gpu_memory_gib"] for row in rows), processor)
    except (OSError, ValueError, TypeError, KeyError, ZeroDivisionError, csv.Error):
        return None


def write_run_page(folder: Path, results: Results) -> None:
    """index.html of a run or an evaluation, from its results and what else lies in its folder."""
    origin, config = results.provenance, results.provenance.get("config") or {}
    evaluated = config.get("ckpt") or config.get("features")
    what = Path(str(evaluated)).name if evaluated else _method(config)
    shown = ((folder / f"{stem}.png", *caption) for stem, caption in PICTURES.items())
    below = [line for line in [*results.how(), *results.notes] if line]
    write_page(
        folder,
        f"{what} on {_dataset(origin)}",
        _lead(origin, evaluated),
        [
            section("Scores", table(results.scores_table(narrow=True)), remarks(below)),
            section("Pictures", pictures(one for one in shown if one[0].is_file())),
            section("More tables", *map(table, results.tables), remarks(results.table_notes)),
            section("The run", table(_facts(origin, config, folder)), folded("Configuration", _config(folder))),
            section("Files", table(_files(folder))),
        ],
    )


def _dataset(origin: Mapping[str, Any]) -> str:
    trial = origin.get("trial")
    return f"{origin.get('dataset')}{f', trial {trial}' if trial is not None else ''}"


def _method(config: Mapping[str, Any]) -> str:
    chosen = [f"{key} {config[key]}" for key in ("rung", "experiment") if config.get(key) not in (None, "full", "none")]
    return str(config.get("method") or "a network") + (f" ({', '.join(chosen)})" if chosen else "")


def _lead(origin: Mapping[str, Any], evaluated: object) -> str:
    words = [f"seed {origin.get('seed')}", f"{origin.get('epochs')} epochs", str(origin.get("device") or "")]
    words = [str(origin.get("device") or "")] if evaluated else words
    return ", ".join(filter(None, [*words, str(origin.get("date") or "").replace("T", " ")]))


def _facts(origin: Mapping[str, Any], config: Mapping[str, Any], folder: Path) -> Grid:
    command = "evaluate" if "ckpt" in config else "train"
    facts = {"command": " ".join([f"python -m mpanet_pl.{command}", *map(str, origin.get("overrides") or ())])}
    facts |= {key: str(origin[key]) for key in FACTS if origin.get(key) not in (None, "", 0)}
    facts["versions"] = ", ".join(f"{name} {number}" for name, number in (origin.get("versions") or {}).items())
    if cost := cost_of(folder):
        facts["cost"] = str(cost)
    trained = origin.get("trained") if "ckpt" in config else config
    if isinstance(trained, Mapping):
        facts["terms"] = terms_of(str(trained.get("dataset")), trained, "this network")
    return ["", ""], [[key, value] for key, value in facts.items() if value]


def _config(folder: Path) -> str:
    file = folder / CONFIG
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def _files(folder: Path) -> Grid:
    """The files of every run first, then the rest, each with what it holds and its size."""
    there = {str(file.relative_to(folder)): file for file in _own_files(folder)}
    names = [name for name in FILES if name in there] + sorted(name for name in there if name not in FILES)
    holds = {f"{stem}.png": title for stem, (title, _) in PICTURES.items()} | FILES
    return ["", "", ""], [[link(name), holds.get(name, ""), _size(there[name])] for name in names]


def _own_files(folder: Path) -> Iterator[Path]:
    for file in [*folder.iterdir(), *(folder / "checkpoints").glob("*")]:
        if file.is_file() and not file.name.startswith(".") and file.name != PAGE:
            yield file


def _size(file: Path) -> str:
    """
    >>> _size(Path(__file__)).endswith("KB")
    True
    """
    kilobytes = file.stat().st_size / 1000
    if kilobytes < 1000:
        return f"{kilobytes:.1f} KB" if kilobytes < 10 else f"{kilobytes:.0f} KB"
    return f"{kilobytes / 1000:.1f} MB"
