"""What a gallery of many crops costs to open and to search, measured up to 10^7 rows and reckoned beyond.

`python scripts/gallery_scale.py [--rows N …] [--width D] [--folder F]` prints the table of docs/scaling.md. Vectors are
0 and their files have holes, so that 10^7 rows take little of a disk; what is read of them is as long as any vectors.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch.nn.functional import normalize

from mpanet_pl.gallery.searching import Queries, search
from mpanet_pl.gallery.shards import COLUMNS, COMPARABLE, write_shard
from mpanet_pl.gallery.store import Gallery, write_record

SHARD, QUERIES = 65_536, 16
BEYOND = (10**8, 10**9)


def make(folder: Path, rows: int, width: int) -> None:
    record = dict.fromkeys(COMPARABLE) | {"dimension": width, "dtype": "float16", "group": None, "root": "/crops"}
    write_record(folder, record | {"trained_on": "nothing"})
    for number, start in enumerate(range(0, rows, SHARD)):
        count = min(SHARD, rows - start)
        columns = {
            "path": pa.array([f"camera{row % 8}/2026-01-31/{row:010d}.jpg" for row in range(start, start + count)]),
            "camera": pa.array([str(row % 8) for row in range(count)]),
        }
        shard = folder / f"part-{number:06d}.parquet"
        write_shard(shard, columns, np.zeros((count, width), np.float32), record)
        subprocess.run(["fallocate", "--dig-holes", shard], check=True)


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    found = work()
    return time.perf_counter() - began, found


def measure(folder: Path, rows: int, width: int) -> tuple[float, float, float, float, int]:
    """Seconds to open, to find a row by its path and to search, GB of memory at most, bytes on the disk."""
    opening, gallery = seconds(lambda: Gallery(folder))
    assert len(gallery) == rows
    last = rows - 1
    name = f"camera{last % 8}/2026-01-31/{last:010d}.jpg"
    finding, number = seconds(lambda: pc.index(gallery.columns("path")["path"], name).as_py())
    assert number == last
    columns = pa.table({name: pa.nulls(QUERIES, kind) for name, kind in COLUMNS.items()})
    queries = Queries(columns, normalize(torch.ones(QUERIES, width)))
    searching, _ = seconds(lambda: search(gallery, queries))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return opening, finding, searching, memory, sum(path.stat().st_blocks * 512 for path in gallery.shards)


def line(rows: int, opening: float, finding: float, searching: float, memory: str, how: str) -> str:
    cells = [f"{rows:,}", f"{-(-rows // SHARD):,}", f"{opening:.2f} s", f"{finding:.2f} s", f"{searching:.1f} s"]
    return f"| {' | '.join([*cells, memory, how])} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10**5, 10**6, 10**7])
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--folder", type=Path, help="where the galleries are made, and removed again")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(f"| rows of {asked.width} × float16 | shards | opening | a row by its path | {QUERIES} queries | memory | |")
    print("|---|---|---|---|---|---|---|")
    for rows in asked.rows:
        with tempfile.TemporaryDirectory(dir=asked.folder) as made:
            make(Path(made), rows, asked.width)
            child = os.fork()  # memory is each size's own
            if not child:
                *times, memory, _ = measure(Path(made), rows, asked.width)
                print(line(rows, *times, f"{memory:.1f} GB", "measured"), flush=True)
                if rows == max(asked.rows):
                    for more in BEYOND:
                        grown = [time * more / rows for time in times]
                        print(line(more, *grown, "the same", "reckoned: in proportion"), flush=True)
                os._exit(0)
            if os.waitpid(child, 0)[1]:
                sys.exit(f"measuring {rows} rows failed")
    print("\nOne thread; files were in the page cache")


if __name__ == "__main__":
    main()
