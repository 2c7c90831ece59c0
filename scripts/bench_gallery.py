"""A gallery's speeds, each beside its limit: embed, exact search, Milvus, export, serve.

    python scripts/bench_gallery.py            1 000 × 10^6 × 512 searched, 100 000 rows in Milvus, 50 clients
    python scripts/bench_gallery.py --short    a minute or two of all of it, at sizes that tell nothing of speed

An untrained ResNet-50 MPANet stands for a trained one: nothing here depends on what it has learnt.
"""

import argparse
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.client import HTTPConnection
from importlib.metadata import version
from pathlib import Path
from statistics import mean, median

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch.nn.functional import normalize

from mpanet_pl.gallery.building import embed_images
from mpanet_pl.gallery.embedder import Embedder, load
from mpanet_pl.gallery.searching import Queries, search
from mpanet_pl.gallery.shards import COLUMNS, COMPARABLE, write_shard
from mpanet_pl.gallery.store import Gallery, write_record
from mpanet_pl.module import MPANetModule
from mpanet_pl.world import Synthetic

Row = tuple[str, str, str]
TURNS, CLIENTS = 4, 50
SHORT = {
    "images": 64,
    "rows": 20_000,
    "milvus_rows": 2_000,
    "width": 64,
    "milvus_width": 16,
    "requests": 1,
    "trunk": "resnet18",
    "size": (96, 48),
}


def network(folder: Path, trunk: str, height: int, width: int) -> Path:
    """A checkpoint, as training leaves one."""
    torch.manual_seed(0)
    module = MPANetModule(
        4, network={"trunk": trunk, "pretrained": False}, criterion={}, optimizer={}, schedule={"milestones": [1]}
    )
    content = {
        "state_dict": module.state_dict(),
        "hyper_parameters": dict(module.hparams),
        "pytorch-lightning_version": version("pytorch-lightning"),
        "config": {"dataset": "synthetic", "data": {"height": height, "width": width}},
    }
    torch.save(content, folder / "untrained.ckpt")
    return folder / "untrained.ckpt"


def draw(folder: Path, count: int) -> Path:
    """Crops of a camera's usual size and compression."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (24, 10, 3), dtype=np.uint8))
        coarse.resize((110, 260), Image.Resampling.BICUBIC).save(folder / f"{number % 8}_{number}.jpg", quality=90)
    return folder


def best(run: Callable[[], object], times: int) -> float:
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def by_turns(bare: Callable[[], float], work: Callable[[int], float]) -> tuple[float, float, float]:
    """The median rates of both, and of their ratio: each to the bare rates just before and after, for speeds drift."""
    limits, rates = [bare()], []
    for turn in range(TURNS):
        rates.append(work(turn))
        limits.append(bare())
    ratios = [rate / mean(limits[turn : turn + 2]) for turn, rate in enumerate(rates)]
    return median(limits), median(rates), median(ratios)


def bench_embed(folder: Path, embedder: Embedder, count: int) -> list[Row]:
    crops = sorted(draw(folder / "crops", count).iterdir())
    batches = -(-count // TURNS // 64)
    batch = torch.randint(256, (64, 3, embedder.height, embedder.width), dtype=torch.uint8)
    waited = []

    def bare() -> float:
        return batches * 64 / best(lambda: [embedder(batch).cpu() for _ in range(batches)], 1)

    def embed(turn: int) -> float:
        (folder / "some.txt").write_text("".join(f"{path}\n" for path in crops[turn::TURNS]))
        done = embed_images(embedder, folder / "some.txt", folder / "people", name=r"(?P<camera>\d)_(?P<time>\d+)")
        waited.append(done.waited)
        return done.images / done.seconds

    embedder(batch)  # untimed: the first batch chooses its kernels
    limit, speed, ratio = by_turns(bare, embed)
    size = sum(path.stat().st_size for path in (folder / "people").glob("*.parquet")) / count
    return [
        (f"the bare network on resident images, median of {TURNS + 1}", f"{limit:.1f} images/s", "1.00"),
        (f"`embed` from JPEG files, median of {TURNS} by turns with it", f"{speed:.1f} images/s", f"{ratio:.3f}"),
        ("the network waited for images", f"{100 * median(waited):.1f} %", ""),
        (f"a row on disk, {embedder.dimension} × float32", f"{size:.0f} bytes", ""),
    ]


def make_gallery(folder: Path, rows: int, width: int, dtype: str, people: int | None = None) -> Gallery:
    """Of random vectors, or of so many people whose images are alike: the nearest of random vectors are all as far."""
    record = dict.fromkeys(COMPARABLE) | {"dimension": width, "dtype": dtype, "group": None, "root": "/crops"}
    folder.mkdir()
    write_record(folder, record | {"trained_on": "nothing"})
    torch.manual_seed(0)
    centres = normalize(torch.randn(people, width)) if people else None
    for number, start in enumerate(range(0, rows, 50_000)):
        count = min(50_000, rows - start)
        paths = pa.array([f"{start + row}.jpg" for row in range(count)])
        cameras = pa.array([str(row % 8) for row in range(count)])
        spread = torch.randn(count, width)
        if centres is not None:
            spread = centres[torch.arange(start, start + count) % len(centres)] + 0.7 * normalize(spread)
        vectors = normalize(spread).numpy()
        write_shard(folder / f"part-{number:06d}.parquet", {"path": paths, "camera": cameras}, vectors, record, [])
    return Gallery(folder)


def bench_search(folder: Path, rows: int, width: int, device: str) -> list[Row]:
    gallery = make_gallery(folder / "made", rows, width, "float16")
    count = 1000
    columns = pa.table({name: pa.nulls(count, kind) for name, kind in COLUMNS.items()})
    queries = Queries(columns, normalize(torch.randn(count, width)))
    block, vectors = torch.randn(min(rows, 16384), width, device=device), queries.vectors.to(device)

    def product() -> None:
        for _ in range(rows // len(block)):
            similarity = vectors @ block.T
        similarity.sum().item()

    limit = best(product, 3) * rows / (rows // len(block) * len(block))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = best(lambda: search(gallery, queries, device=device), 3)
    above = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e6
    size = sum(path.stat().st_size for path in gallery.shards) / rows
    return [
        (f"the bare float32 product, {count} × {rows:,} × {width}", f"{limit:.2f} s", "1.00"),
        ("`search`, 10 answers, from the disk; at most 2.0", f"{seconds:.2f} s", f"{seconds / limit:.2f}"),
        ("memory above what there was before; at most 2 GB above the mapped gallery", f"{above:.2f} GB", ""),
        (f"a row on disk, {width} × float16", f"{size:.0f} bytes", ""),
    ]


def bench_milvus(folder: Path, rows: int, width: int) -> list[Row]:
    from mpanet_pl.gallery.milvus import Collection, connected

    gallery = make_gallery(folder / "alike", rows, width, "float32", people=max(10, rows // 20))
    chosen = torch.linspace(0, rows - 1, 200).long()
    names = pa.array([f"query {row}" for row in chosen.tolist()])
    columns = gallery.rows(chosen.numpy()).set_column(0, "path", names)
    every = torch.cat([torch.tensor(block.vectors) for block in gallery.blocks()])
    queries = Queries(columns, normalize(every[chosen] + 0.3 * normalize(torch.randn(len(chosen), width))))
    answers = gallery.columns("path")["path"].take(pa.array(search(gallery, queries).rows.ravel())).to_pylist()
    true = [set(answers[start : start + 10]) for start in range(0, len(answers), 10)]
    told: list[Row] = []
    with connected(str(folder / "people.db")) as client:
        for index in ("FLAT", "HNSW", "IVF_FLAT"):
            collection = Collection(client, gallery, f"bench_{index}", index=index)
            filling = rows / best(collection.fill, 1)

            def rate(ask: Callable[[Queries], object]) -> float:
                return len(queries) / best(lambda: ask(queries), 1)

            exact, theirs, ratio = by_turns(
                lambda: rate(partial(search, gallery)),
                lambda turn: rate(collection.search),  # noqa: B023
            )
            found: dict[str, set[str]] = {}
            for hit in collection.search(queries).to_pylist():
                found.setdefault(hit["query"], set()).add(hit["path"])
            recall = sum(len(found[path] & own) for path, own in zip(columns["path"].to_pylist(), true, strict=True))
            told += [
                (f"Milvus, {index}, filled", f"{filling:.0f} rows/s", f"{filling / 5000:.2f} of 5 000"),
                (f"exact `search`, {len(queries)} × {rows:,} × {width}", f"{exact:.0f} queries/s", "1.00"),
                (
                    f"Milvus, {index}; recall {recall / 10 / len(queries):.3f}",
                    f"{theirs:.0f} queries/s",
                    f"{ratio:.2f}",
                ),
            ]
    place = folder / "people.db"
    size = sum(path.stat().st_size for path in [place, *place.rglob("*")] if path.is_file()) / rows / 3
    return [*told, ("a row of the three on disk", f"{size:.0f} bytes", f"{size / 4 / width:.2f} of its vector")]


def bench_export(folder: Path, embedder: Embedder) -> list[Row]:
    import onnxruntime

    from mpanet_pl.gallery.exporting import export

    people = partial(Synthetic, images_per_camera=2, hardness=0.5)
    parity = export(embedder, folder / "graph.onnx", people=lambda place, count: people(place, identities=count))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(folder / "graph.onnx", options, providers=["CPUExecutionProvider"])
    images = torch.randint(256, (16, 3, embedder.height, embedder.width), dtype=torch.uint8)
    array = images.numpy()
    eager, runtime = [], []
    for _ in range(3):  # by turns, on a machine that others use, too
        eager.append(best(lambda: embedder(images), 1))
        runtime.append(best(lambda: session.run(None, {"images": array}), 1))
    eagerly, exported = 16 / min(eager), 16 / min(runtime)
    return [
        ("eager torch, CPU", f"{eagerly:.1f} images/s", "1.00"),
        ("ONNX Runtime, CPU; at least 1.0", f"{exported:.1f} images/s", f"{exported / eagerly:.2f}"),
        ("parity", str(parity), ""),
    ]


def bench_serve(folder: Path, embedder: Embedder, requests: int) -> list[Row]:
    """Of the command itself: its processes, its lock on the interpreter, its bounds but the rate."""
    crops = [path.read_bytes() for path in sorted((folder / "crops").iterdir())[:CLIENTS]]
    batch = torch.zeros(32, 3, embedder.height, embedder.width, dtype=torch.uint8)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = [f"gallery={folder}/people", f"port={port}", "rate=null", f"device={embedder.device}"]
    server = subprocess.Popen([sys.executable, "-m", "mpanet_pl.serve", *words], stdout=subprocess.DEVNULL)
    told: list[Row] = []
    try:
        for pictures in ("true", "false"):
            times: list[float] = []

            def client(number: int, pictures: str = pictures, times: list[float] = times) -> None:
                connection = HTTPConnection("127.0.0.1", port, timeout=120)
                for _ in range(requests):
                    began = time.perf_counter()
                    connection.request("POST", f"/search?k=10&thumbnails={pictures}", crops[number % len(crops)])
                    response = connection.getresponse()
                    response.read()
                    if response.status != 200:
                        raise RuntimeError(f"the server answered {response.status}")
                    times.append(time.perf_counter() - began)

            def ask(turn: int, client: Callable[[int], None] = client) -> float:
                with ThreadPoolExecutor(CLIENTS) as pool:
                    return CLIENTS * requests / best(lambda: list(pool.map(client, range(CLIENTS))), 1)

            def bare() -> float:
                return len(batch) / best(lambda: embedder(batch).cpu(), 1)

            until_served(server, port)
            ask(0)  # untimed: processes that decode start with the first pictures
            times.clear()
            limit, rate, ratio = by_turns(bare, ask)
            what = "with ten pictures each" if pictures == "true" else "without pictures"
            told += [
                (f"the bare network on resident images, median of {TURNS + 1}", f"{limit:.1f} images/s", "1.00"),
                (f"{CLIENTS} clients, {len(times)} requests, {what}", f"{rate:.1f} requests/s", f"{ratio:.3f}"),
                ("their median, 95th percentile", f"{median(times):.2f} s, {np.percentile(times, 95):.2f} s", ""),
            ]
    finally:
        server.terminate()
        server.wait()
    return told


def until_served(server: subprocess.Popen[bytes], port: int) -> None:
    while server.poll() is None:
        try:
            HTTPConnection("127.0.0.1", port).request("GET", "/healthz")
            return
        except ConnectionRefusedError:
            time.sleep(0.2)
    raise RuntimeError("the server has ended")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="*", default=["embed", "search", "milvus", "export", "serve"])
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--milvus-rows", type=int, default=100_000)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--milvus-width", type=int, default=128)
    parser.add_argument("--requests", type=int, default=4, help="of each client, each turn")
    parser.add_argument("--trunk", default="resnet50")
    parser.add_argument("--size", type=int, nargs=2, default=(384, 128), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.set_defaults(**SHORT if "--short" in sys.argv else {})
    asked = parser.parse_args()
    began = time.perf_counter()
    print(f"torch {torch.__version__}, {asked.device}, {torch.get_num_threads()} threads, {asked.trunk}, {asked.size}")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        ckpt = network(place, asked.trunk, *asked.size)
        embedder = load(ckpt, device=asked.device)
        benches: dict[str, Callable[[], list[Row]]] = {
            "embed": lambda: bench_embed(place, embedder, asked.images),
            "search": lambda: bench_search(place, asked.rows, asked.width, asked.device),
            "milvus": lambda: bench_milvus(place, asked.milvus_rows, asked.milvus_width),
            "export": lambda: bench_export(place, load(ckpt, device="cpu")),
            "serve": lambda: bench_serve(place, embedder, asked.requests),
        }
        for part in asked.parts:
            print(f"\n| {part} | | of the limit |\n|---|---|---|")
            for row in benches[part]():
                print(f"| {' | '.join(row)} |")
            sys.stdout.flush()
    print(f"\n{time.perf_counter() - began:.0f} s in all")


if __name__ == "__main__":
    main()
