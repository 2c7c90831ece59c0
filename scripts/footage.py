"""How many people are found across cameras, from videos to answers: `embed`, `search` and a table with intervals.

`python scripts/footage.py VIDEOS CKPT [OUT]` takes a folder as `synthesize layout=video` makes it. Each tracklet is
searched among the other cameras' tracklets. People are the units of the interval, each with all searches.
"""

from __future__ import annotations

import csv
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import torch

from mpanet_pl.embed import main as embed
from mpanet_pl.evaluation.intervals import ratio_interval
from mpanet_pl.gallery.searching import Filter, queries_of, search, table_of
from mpanet_pl.gallery.store import Gallery

Found = dict[str, list[bool]]  # of each person: whether each search names the same person


def fill(videos: Path, ckpt: Path, out: Path, *more: str) -> Gallery:
    for video in sorted(videos.glob("*.mp4")):
        embed([f"ckpt={ckpt}", f"video={video}", f"tracks={video.with_suffix('.txt')}", f"out={out}", *more])
    return Gallery(out)


def scored(gallery: Gallery, truth: Path) -> Iterator[tuple[str, Found]]:
    """Of searches from each kind of camera to the other, and of all."""
    with truth.open(newline="") as file:
        who = {(row["camera"], row["track"]): row["identity"] for row in csv.DictReader(file)}
    asked = queries_of(gallery, gallery)
    rows = {row["path"]: row for row in asked.columns.to_pylist()}

    def person(row: dict) -> str:
        return who[row["camera"], row["track"].rpartition(":")[2]]

    found: dict[str, Found] = defaultdict(lambda: defaultdict(list))
    hits = search(gallery, asked, k=1, only=Filter(other_camera=True))
    for answer in table_of(gallery, asked, hits).to_pylist():
        query = rows[answer["query"]]
        ways = "night → any" if query["modality"] == "infrared" else "day → any"
        for way in (ways, "all"):
            found[way][person(query)].append(person(query) == person(answer))
    yield from found.items()


def line(way: str, found: Found) -> str:
    sums = torch.tensor([[float(sum(right))] for right in found.values()])
    sizes = torch.tensor([float(len(right)) for right in found.values()])
    low, high = ratio_interval(sums, sizes)
    share = 100 * float(sums.sum() / sizes.sum())
    cells = [
        way,
        str(len(sizes)),
        str(int(sizes.sum())),
        f"{share:.1f} ({100 * low.item():.1f}–{100 * high.item():.1f})",
    ]
    return f"| {' | '.join(cells)} |"


def main(videos: Path, ckpt: Path, out: Path) -> None:
    gallery = fill(videos, ckpt, out)
    print("| searches | people | tracklets | the first answer is the person, % |\n|---|---|---|---|")
    for way, found in scored(gallery, videos / "truth.csv"):
        print(line(way, found))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3] if len(sys.argv) > 3 else f"{scratch}/people"))
