"""A trained network as a folder that a hub takes: weights without pickles, what they need to be used, and a card.

`model.safetensors` is a checkpoint: `load`, `evaluate` and `embed` read it as they read a .ckpt.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mpanet_pl.errors import UserError
from mpanet_pl.evaluation.tables import Results, markdown
from mpanet_pl.evaluation.thresholds import KEY, Threshold, percent
from mpanet_pl.stored import terms_of
from mpanet_pl.system import weights
from mpanet_pl.system.files import sha256, written_aside
from mpanet_pl.system.hub import WEIGHTS

CARD, CONFIG = "README.md", "config.json"
KEPT = ("pytorch-lightning_version", "hyper_parameters", "images", "config", "record", "seen", KEY)  # of a checkpoint
DRAWN = "synthetic"  # whose people nobody owns
ELSEWHERE = ("run_dir", "resume", "logger", "callbacks")  # of a run's configuration, nobody else's matter


def pack(ckpt: str | Path, folder: Path, *, repo: str = "OWNER/NAME", allowed_by: str | None = None) -> list[Path]:
    """Write the files of one of a run's checkpoints; `allowed_by` is who allowed it where a dataset's terms ask for it.

    The card's table is that of the run's results, which lie beside `checkpoints/`.
    """
    path = Path(ckpt).expanduser()
    content = weights.read(path)
    if missing := [key for key in ("state_dict", *KEPT[:5]) if key not in content]:
        raise UserError(f"{path} cannot be shared: it has no {', '.join(missing)}. Share a checkpoint of train's.")
    weights.check_numbers(content["state_dict"], path)
    config = content["config"]
    terms = _permitted(config, path, allowed_by)
    results, row = _results_of(path)
    kept = {key: content[key] for key in KEPT if key in content}
    kept["config"] = {key: value for key, value in config.items() if key not in ELSEWHERE}
    drawn = config["dataset"] == DRAWN
    kept["config"]["data_dir"] = None if drawn else f"data/{config['dataset']}"  # wherever it was on this machine
    kept["record"] = {key: value for key, value in kept["record"].items() if key != "loggers"} | {"terms": terms}
    folder.mkdir(parents=True, exist_ok=True)
    for name in (CONFIG, CARD):  # whoever is killed now leaves no card beside another's weights
        (folder / name).unlink(missing_ok=True)
    weights.write_safely(folder / WEIGHTS, content["state_dict"], kept)
    files = {CONFIG: json.dumps({**kept, "seen": "in the weights' file"}, indent=1, ensure_ascii=False) + "\n"}
    files[CARD] = card(repo, kept, results, row, terms, sha256(folder / WEIGHTS))
    for name, text in files.items():
        with written_aside(folder / name) as aside:
            aside.write_text(text, encoding="utf-8")
    return [folder / name for name in (WEIGHTS, *files)]


def _permitted(config: Mapping[str, Any], path: Path, allowed_by: str | None) -> str:
    """The terms in a sentence; a `UserError` where nobody has said that they allow it."""
    dataset = str(config.get("dataset"))
    sources = list(map(str, config.get("train_on") or ())) if dataset == "joint" else [dataset]
    terms = terms_of(dataset, config, "these weights")
    if set(sources) == {DRAWN}:
        return terms
    if not allowed_by:
        raise UserError(
            f"{path} was trained on {' and '.join(sources)}, whose owners' agreement decides whether weights may be "
            "handed on. Once somebody who may has allowed it, say who and when: allowed_by='NAME, DATE'."
        )
    return f"{terms} Sharing was allowed by {allowed_by}."


def _results_of(path: Path) -> tuple[Results, str]:
    """The run's results, and which of their rows the checkpoint is."""
    folder = path.absolute().parent.parent
    try:
        results = Results.read(folder)
    except UserError as why:
        raise UserError(f"{path} cannot be shared without its results, which its card shows: {why}.") from why
    named = results.provenance.get("rows") or {}
    rows = [row for row, of in named.items() if (folder / str(of.get("checkpoint"))) == path.absolute()]
    row = next((row for row in rows if row in results.scores), None)
    if row is None:
        raise UserError(f"{path} is none of the checkpoints that {folder} has results of: {', '.join(named)}.")
    return results, row


def card(repo: str, kept: Mapping[str, Any], results: Results, row: str, terms: str, digest: str) -> str:
    """A model card in Markdown, whose head is YAML."""
    config, record, images = kept["config"], kept["record"], kept["images"]
    method, dataset = str(config.get("method") or "mpanet"), str(record["dataset"])
    scores = Results(scores={row: results.scores[row]}, measured=results.measured, published=results.published,
                     provenance=results.provenance)  # fmt: skip
    trained = {
        "method": method,
        "dataset": dataset + (f", trial {record['trial']}" if record.get("trial") is not None else ""),
        "seed": record["seed"],
        "epochs": record["epochs"],
        "precision": record["precision"],
        "device": record["device"],
        "release": (record.get("versions") or {}).get("mpanet_pl"),
        "date": record["date"],
        "SHA-256 of the weights": digest,
    }
    head = ["---", "library_name: mpanet_pl", "pipeline_tag: image-feature-extraction", "license: other"]
    head += ["tags: [person-re-identification, visible-infrared]", "---", ""]
    lines = [
        f"# {method} on {dataset}",
        f"Embeddings of people in visible and infrared images, {images['height']} × {images['width']} pixels, by "
        "[mpanet_pl](https://pypi.org/project/mpanet-pl).",
        f'```python\nfrom mpanet_pl import load\n\nembedder = load("hf://{repo}")  # pip install "mpanet_pl[hub]"\n'
        'embeddings = embedder.embed(["night.jpg", "day.jpg"])  # (2, D), of length one\n```',
        "## Scores",
        markdown([scores.scores_table()], [*scores.how(), *results.notes]),
        "## Who is known",
        _thresholds(kept.get(KEY)),
        "## Training",
        markdown([(["", ""], [[key, str(value)] for key, value in trained.items()])], []),
        f"Images are normalised by mean {images['mean']} and standard deviation {images['std']} inside the network's "
        f"loader. The whole configuration is in `{CONFIG}`.",
        "## Terms",
        terms,
    ]
    return "\n".join(head) + "\n\n".join(lines) + "\n"


def _thresholds(plain: object) -> str:
    threshold = Threshold.of(plain, "the checkpoint")
    promises = threshold.promises() if threshold else []
    if not promises:
        return "Too few people calibrated a threshold."
    rows = [
        [str(one["enrolled"]), percent(one["rate"]), f"{one['value']:.3f}", percent(one["at_most"])] for one in promises
    ]
    assert threshold
    note = f"calibrated on {threshold.calibrated_on}; at most, with 90 % confidence"
    return markdown([(["people enrolled", "false alarms", "from cosine", "at most"], rows)], [note])
