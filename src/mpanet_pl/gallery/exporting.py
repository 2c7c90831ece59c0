"""A network as a graph for other programs: uint8 images of the training size in, embeddings of length one out.

Normalisation, the mirror image and the projection are inside, so nobody normalises twice. Resizing stays outside, and
the file says how. A file that does not answer as the network does is not left behind. One in int8 does not: it says
how much it loses.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from mpanet_pl.data import Catalogue, open_images
from mpanet_pl.data.augment import IMAGENET_MEAN, IMAGENET_STD
from mpanet_pl.errors import RunStopped, UserError
from mpanet_pl.evaluation import RetrievalProtocol, evaluate, protocol_of
from mpanet_pl.gallery.embedder import Embedder
from mpanet_pl.gallery.extras import need
from mpanet_pl.system.files import written_aside
from mpanet_pl.world import Synthetic

SUFFIXES = {"onnx": ".onnx", "torch": ".pt2"}
TOLERANCE = 1e-4  # of an embedding's numbers, whose squares sum to one
INT8 = "int8"
FEW, MANY = 10, 40  # drawn people: to compare a graph with its network, to score it
CALIBRATING = 64  # images of the others
METADATA = "metadata.json"  # within a torch file
Answer = Callable[..., Tensor]  # of the graph's inputs


class Graph(nn.Module):
    """All that `Embedder` does, as one module whose constants are buffers."""

    mean: Tensor
    std: Tensor
    centre: Tensor | None
    components: Tensor | None

    def __init__(self, embedder: Embedder) -> None:
        super().__init__()
        self.network, self.flip = embedder.network, embedder.flip
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1))
        projection = embedder.projection
        self.register_buffer("centre", projection.mean if projection else None)
        self.register_buffer("components", projection.components if projection else None)

    def forward(self, images: Tensor, told: Tensor | None = None) -> Tensor:
        seen = (images.float() / 255 - self.mean) / self.std
        if self.flip:  # in one batch: exporters stumble over weights that are used twice
            seen = torch.cat([seen, seen.flip(-1)])
            told = None if told is None else torch.cat([told, told])
        embeddings = self.network(seen) if told is None else self.network(seen, told)
        if self.flip:
            embeddings = embeddings.unflatten(0, (2, -1)).mean(0)
        embeddings = normalize(embeddings)
        if self.centre is not None and self.components is not None:
            embeddings = normalize((embeddings - self.centre) @ self.components)
        return embeddings


class Parity(NamedTuple):
    largest: float  # difference of any number of any embedding
    identical: int  # rank lists
    lists: int

    def __str__(self) -> str:
        return (
            f"largest difference {self.largest:.1e}, {self.identical} of {self.lists} rank lists of the drawn test "
            "people identical"
        )


class Loss(NamedTuple):
    """What int8 costs on drawn test people, whom neither the network nor the calibration has seen."""

    largest: float  # difference of any number of any embedding
    r1: tuple[float, float]  # percent, before and after
    mAP: tuple[float, float]
    setting: str
    people: int

    def __str__(self) -> str:
        told = ", ".join(
            f"{name} {before:.2f} → {after:.2f} ({after - before:+.2f})"
            for name, (before, after) in (("R1", self.r1), ("mAP", self.mAP))
        )
        return f"int8: largest difference {self.largest:.1e}; {told} on {self.people} drawn test people, {self.setting}"


class Drawn(NamedTuple):
    """People whom the network has not seen."""

    images: Tensor  # of the test people
    catalogue: Catalogue
    others: Tensor  # images of other people
    others_infrared: Tensor
    protocol: RetrievalProtocol


def export(embedder: Embedder, out: str | Path, *, format: str = "onnx", quantize: str | None = None) -> Parity | Loss:
    """Write the graph of a float32 embedder on the CPU, once it has answered as the embedder does.

    quantize: "int8", convolutions in eight bits, whose ranges are those of drawn people; of format onnx alone.
    """
    path = Path(out).expanduser()
    if format not in SUFFIXES:
        raise UserError(f"format is one of {', '.join(SUFFIXES)}, got {format}.")
    if path.suffix != SUFFIXES[format]:
        raise UserError(f"A file of format={format} ends in {SUFFIXES[format]}, got {path}.")
    if embedder.device.type != "cpu" or embedder.precision != "float32":
        raise UserError("A graph is made from a float32 network on the CPU.")
    if quantize is not None and (quantize, format) != (INT8, "onnx"):
        raise UserError(f"quantize={INT8} is for format=onnx, got quantize={quantize} and format={format}.")
    people = _drawn_people(embedder.height, embedder.width, MANY if quantize else FEW)
    metadata = _metadata(embedder)
    with written_aside(path) as aside:
        answer = _write_onnx(embedder, aside, metadata) if format == "onnx" else _write_torch(embedder, aside, metadata)
        parity = _compare(embedder, answer, people)
        if parity.largest > TOLERANCE or parity.identical < parity.lists:
            raise RunStopped(f"{path} is not kept: it does not answer as the network does ({parity}).")
        if quantize:
            return _quantised(embedder, aside, people)
    return parity


def _quantised(embedder: Embedder, path: Path, people: Drawn) -> Loss:
    """Put the graph at `path` into int8."""
    onnx, quantization = need("onnx", "export"), need("onnxruntime.quantization", "export")
    some = torch.linspace(0, len(people.others) - 1, CALIBRATING).long()
    batches = _parts(embedder, people.others[some], people.others_infrared[some], 16)

    class Reader(quantization.CalibrationDataReader):  # type: ignore[name-defined]
        def get_next(self) -> dict[str, Any] | None:
            batch = next(batches, None)
            return None if batch is None else _arrays(_examples(embedder), batch)

    with TemporaryDirectory() as folder, _quiet():
        small = Path(folder) / "int8.onnx"
        quantization.quantize_static(str(path), str(small), Reader(), op_types_to_quantize=["Conv"], per_channel=True)
        model = onnx.load(small)
    answer = _session(model.SerializeToString())
    infrared = people.catalogue.infrared
    theirs = torch.cat([answer(*part) for part in _parts(embedder, people.images, infrared, 16)])
    ours = embedder.embed(people.images, infrared=infrared)
    setting, before = next(iter(evaluate(ours, people.catalogue, people.protocol).items()))
    after = evaluate(theirs, people.catalogue, people.protocol)[setting]
    count = len(people.catalogue.identities.unique())
    largest = float((ours - theirs).abs().max())
    loss = Loss(largest, (before.r1, after.r1), (before.mAP, after.mAP), setting, count)
    told = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(model, told | {"quantized": str(loss)})
    onnx.save(model, path)
    return loss


@contextmanager
def _quiet() -> Iterator[None]:
    """The quantiser warns that a graph could have been prepared, which this one's exporter has done."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(before)


def _write_torch(embedder: Embedder, path: Path, metadata: dict[str, str]) -> Answer:
    batch, inputs = torch.export.Dim("batch", min=1, max=65536), _examples(embedder)
    with torch.no_grad():
        shapes = tuple({0: batch} for _ in inputs)
        program = torch.export.export(Graph(embedder).eval(), tuple(inputs.values()), dynamic_shapes=shapes)
    with path.open("wb") as file:
        torch.export.save(program, file, extra_files={METADATA: json.dumps(metadata)})
    with path.open("rb") as file:
        module = torch.export.load(file).module()
    return lambda *inputs: module(*inputs)


def _write_onnx(embedder: Embedder, path: Path, metadata: dict[str, str]) -> Answer:
    onnx = need("onnx", "export")
    need("onnxruntime", "export")
    need("onnxscript", "export")
    batch, inputs = torch.export.Dim("batch", min=1, max=65536), _examples(embedder)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own, of functions that it is about to give up
        program = torch.onnx.export(
            Graph(embedder).eval(),
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=["embeddings"],
            dynamic_shapes=tuple({0: batch} for _ in inputs),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    onnx.helper.set_model_props(model, metadata)
    onnx.save(model, path)
    return _session(path)


def _session(model: Path | bytes) -> Answer:
    session = need("onnxruntime", "export").InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [part.name for part in session.get_inputs()]
    return lambda *given: torch.from_numpy(session.run(None, _arrays(names, given))[0])


def _arrays(names: Iterable[str], given: Sequence[Tensor]) -> dict[str, Any]:
    return {name: part.contiguous().numpy() for name, part in zip(names, given, strict=True)}


def _examples(embedder: Embedder) -> dict[str, Tensor]:
    """The graph's inputs by name."""
    images = {"images": torch.zeros(2, 3, embedder.height, embedder.width, dtype=torch.uint8)}
    return images | ({"infrared": torch.tensor([False, True])} if embedder.two_stream else {})


def _metadata(embedder: Embedder) -> dict[str, str]:
    """What a reader has to know, as texts."""
    record = {key: value for key, value in embedder.record.items() if key not in ("ckpt", "precision")}
    record |= {
        "input": f"uint8 (batch, 3, {embedder.height}, {embedder.width}); normalisation is inside",
        **({"second input": "infrared, bool (batch,): which images are"} if embedder.two_stream else {}),
        "output": f"float32 (batch, {embedder.dimension}) of length one: products are cosine similarities",
        "terms": embedder.origin.terms("this file"),
        **{f"version of {name}": version(name) for name in ("mpanet_pl", "torch", "pillow")},
    }
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in record.items()}


def _drawn_people(height: int, width: int, identities: int) -> Drawn:
    with TemporaryDirectory() as folder:
        dataset = Synthetic(folder, identities=identities, images_per_camera=2, hardness=0.5)
        dataset.prepare()
        splits = dataset.read()
        test, others = (
            open_images(dataset.root, split.paths, height, width, cache=False)[torch.arange(len(split))]
            for split in (splits.test, splits.train)
        )
        return Drawn(test, splits.test, others, splits.train.infrared, protocol_of(dataset))


def _parts(
    embedder: Embedder, images: Tensor, infrared: Tensor, sizes: int | list[int]
) -> Iterator[tuple[Tensor, ...]]:
    """The graph's inputs, batch by batch."""
    inputs = (images, infrared) if embedder.two_stream else (images,)
    return zip(*(part.split(sizes) for part in inputs), strict=True)


def _compare(embedder: Embedder, answer: Answer, people: Drawn) -> Parity:
    """In batches of several sizes, one among them; neighbours in a list may change where they are as good as equal."""
    infrared = people.catalogue.infrared  # their cameras' images are the queries
    ours = embedder.embed(people.images, infrared=infrared)
    sizes = [1, 3, len(people.images) - 4]
    theirs = torch.cat([answer(*part) for part in _parts(embedder, people.images, infrared, sizes)])
    if theirs.shape != ours.shape or not theirs.isfinite().all():
        return Parity(float("inf"), 0, int(infrared.sum()))
    similarity = ours[infrared] @ ours[~infrared].T
    order = similarity.argsort(1, descending=True)
    along = (theirs[infrared] @ theirs[~infrared].T).gather(1, order)
    kept = (along.diff(dim=1) <= TOLERANCE / 10).all(1)
    return Parity(float((ours - theirs).abs().max()), int(kept.sum()), len(kept))


def metadata_of(path: Path) -> dict[str, Any]:
    """What an exported file says of itself."""
    if path.suffix == ".onnx":
        model = need("onnx", "export").load(path, load_external_data=False)
        return {entry.key: entry.value for entry in model.metadata_props}
    extra = {METADATA: ""}
    with path.open("rb") as file:
        torch.export.load(file, extra_files=extra)
    return dict(json.loads(extra[METADATA]))
