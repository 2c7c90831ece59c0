"""The numbers of README and docs: measured into `docs/results/`, and put from there into the pages.

    python scripts/measure_docs.py first_run      # measures into docs/results/first_run.json; started again, it goes on
    python scripts/measure_docs.py methods        # likewise, some hours each: scripts/studies.py has them
    python scripts/measure_docs.py --write        # the pages say what the files say
    python scripts/measure_docs.py --check        # do they? 1 where a page says something else

A page has `<!-- = NAME.KEY -->…<!-- / -->` around what comes from docs/results/NAME.json: a number, or a table. A file
says its command, machine, versions and date. A line `url=…` has the project's address, from pyproject.toml.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs/results"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "examples/tutorial/README.md"]
SPAN = re.compile(r"(<!-- = ([\w.]+) -->)(.*?)(<!-- / -->)", re.DOTALL)
WORLDS, SEEDS = (1, 2), (1, 2)
STUDIES = ("methods", "tracks", "joint", "claims", "pointing", "tutorial")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["first_run", *STUDIES])
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--folder", type=Path, default=Path("measured"), help="where runs go")
    typed = parser.parse_args()
    if typed.what == "first_run":
        measure_first_run(typed.folder)
    elif typed.what:
        measure(typed.what)
    differing = [
        page for page in PAGES if (said := rendered(page)) != page.read_text("utf-8") and put(page, said, typed)
    ]
    for page in differing:
        print(f"{page.relative_to(ROOT)} {'is rewritten' if typed.write else 'differs from docs/results'}")
    return 1 if typed.check and differing else 0


def put(page: Path, text: str, typed: argparse.Namespace) -> bool:
    if typed.write:
        page.write_text(text, "utf-8")
    return True


def rendered(page: Path) -> str:
    """A page with every marked span as the results say it."""
    text = re.sub(r"^url=\S+$", f"url={address()}", page.read_text("utf-8"), flags=re.MULTILINE)
    return SPAN.sub(lambda span: span[1] + shown(found(span[2])) + span[4], text)


def address() -> str:
    """The project's, which pyproject.toml has."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["urls"]["Source"])


def found(key: str) -> Any:
    name, *keys = key.split(".")
    value: Any = json.loads((RESULTS / f"{name}.json").read_text("utf-8"))
    for each in keys:
        value = value[int(each)] if isinstance(value, list) else value[each]
    return value


def shown(value: Any) -> str:
    """A table as Markdown; of scores "mean (low to high)"; any other value as it stands."""
    if isinstance(value, Mapping) and "rows" in value:
        head, *lines = (
            f"| {' | '.join(line)} |\n".replace("|  |", "| |") for line in [value["columns"], *value["rows"]]
        )
        return f"\n\n{head}|{'---|' * len(value['columns'])}\n{''.join(lines)}\n"
    return str(value)


def measure_first_run(folder: Path) -> None:
    """The first command on two worlds and two seeds: its scores, and seconds from command to table."""
    path = RESULTS / "first_run.json"
    release = version("mpanet_pl")
    old = json.loads(path.read_text("utf-8")) if path.exists() else {}
    runs = old["runs"] if old.get("release") == release and old.get("machine") == machine() else []
    for world, seed in ((world, seed) for world in WORLDS for seed in SEEDS):
        if any((run["world"], run["seed"]) == (world, seed) for run in runs):
            continue
        run = folder / f"world{world}_seed{seed}"
        line = [sys.executable, "-m", "mpanet_pl.train", f"data.dataset.seed={world}", f"seed={seed}", f"run_dir={run}"]
        line += [f"data_dir={folder}/world{world}"]
        start = time.perf_counter()
        subprocess.run(line, check=True)
        seconds = round(time.perf_counter() - start)
        scores = json.loads((run / "results.json").read_text("utf-8"))["scores"]["last"]["all/single"]
        runs.append({"world": world, "seed": seed, "seconds": seconds, **{key: cell(scores[key]) for key in SCORES}})
        write_first_run(path, runs)


SCORES = ("r1", "mAP", "mINP")


def cell(score: Mapping[str, Any]) -> str:
    low, high = score["ci"]
    return f"{score['mean']:.1f} ({low:.1f} to {high:.1f})"


def write_first_run(path: Path, runs: list[dict[str, Any]]) -> None:
    rows = [[f"{run['world']}, {run['seed']}", *(run[key] for key in SCORES), f"{run['seconds']} s"] for run in runs]
    result = {
        "command": "python scripts/measure_docs.py first_run",
        **where_and_when(),
        "runs": runs,
        "table": {
            "columns": ["world, seed", "R1 (95 % over people)", "mAP", "mINP", "from command to table"],
            "rows": rows,
        },
    }
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", "utf-8")


def measure(study: str) -> None:
    import studies

    result = {
        "command": f"python scripts/measure_docs.py {study}",
        **where_and_when(),
        **getattr(studies, study)(Path("runs")),
    }
    (RESULTS / f"{study}.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", "utf-8")


def where_and_when() -> dict[str, Any]:
    return {
        "release": version("mpanet_pl"),
        "machine": machine(),
        "versions": {name: version(name) for name in ("torch", "torchvision", "pytorch-lightning")},
        "date": time.strftime("%Y-%m-%d"),
    }


def machine() -> str:
    """The processor's name, how many of its cores, and what multiplies bfloat16."""
    info = Path("/proc/cpuinfo")
    text = info.read_text("utf-8") if info.exists() else ""
    name = re.search(r"model name\s*: (.*)", text)
    from mpanet_pl.system.cores import usable_cores

    native = next((word for word in ("AMX", "AVX512_BF16") if word.lower() in text), "no bfloat16")
    return f"{usable_cores()} cores of {name[1] if name else platform.processor()}, {native}"


if __name__ == "__main__":
    sys.exit(main())
