"""A network as a graph for other programs: uint8 images of the training size in, embeddings of length one out.

Normalisation, the mirror image and the projection are inside, so nobody normalises twice. Resizing stays outside, and
the file says how. A file that does not answer as the network does is not left behind. One in int8 does not: it says
how much it loses.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mpanet_pl.data import Catalogue, open_images
from mpanet_pl.errors import RunStopped, UserError
from mpanet_pl.evaluation import RetrievalProtocol, evaluate, protocol_of
from mpanet_pl.gallery.embedder import Embedder
from mpanet_pl.gallery.extras import need
from mpanet_pl.gallery.graphs import (
    Answer,
    arrays,
    check_batches,
    examples,
    metadata,
    parts,
    session,
    write_onnx,
    write_torch,
)
from mpanet_pl.system.files import written_aside

SUFFIXES = {"onnx": ".onnx", "torch": ".pt2"}
TOLERANCE = 1e-4  # of an embedding's numbers, whose squares sum to one
INT8 = "int8"
FEW, MANY = 10, 40  # drawn people: to compare a graph with its network, to score it
CALIBRATING = 64  # images of the others
Draw = Callable[[Path, int], Any]  # a folder and a number of people: a dataset


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
        scores = ", ".join(
            f"{name} {before:.2f} → {after:.2f} ({after - before:+.2f})"
            for name, (before, after) in (("R1", self.r1), ("mAP", self.mAP))
        )
        return (
            f"int8: largest difference {self.largest:.1e}; {scores} on {self.people} drawn test people, {self.setting}"
        )


class Drawn(NamedTuple):
    """People whom the network has not seen."""

    images: Tensor  # of the test people
    catalogue: Catalogue
    others: Tensor  # images of other people
    others_infrared: Tensor
    protocol: RetrievalProtocol


def export(
    embedder: Embedder, out: str | Path, *, people: Draw, format: str = "onnx", quantize: str | None = None
) -> Parity | Loss:
    """Write the graph of a float32 embedder on the CPU, once it has answered as the embedder does.

    people: a dataset of so many drawn people in a folder, on whom the two are compared.
    quantize: "int8", convolutions in eight bits, whose ranges are those of drawn people; of format onnx alone.
    """
    path = checked_path(out, format, quantize)
    if embedder.device.type != "cpu" or embedder.precision != "float32":
        raise UserError("A graph is made from a float32 network on the CPU.")
    check_batches(embedder)
    drawn = _drawn(people, embedder, MANY if quantize else FEW)
    facts = metadata(embedder)
    with written_aside(path) as aside:
        answer = write_onnx(embedder, aside, facts) if format == "onnx" else write_torch(embedder, aside, facts)
        parity = _compare(embedder, answer, drawn)
        if parity.largest > TOLERANCE or parity.identical < parity.lists:
            raise RunStopped(f"{path} is not kept: it does not answer as the network does ({parity}).")
        if quantize:
            return _quantised(embedder, aside, drawn)
    return parity


def checked_path(out: str | Path, format: str, quantize: str | None) -> Path:
    """Where the file goes; what cannot be written is told before anything is computed."""
    path = Path(out).expanduser()
    if format not in SUFFIXES:
        raise UserError(f"format is one of {', '.join(SUFFIXES)}, got {format}.")
    if path.suffix != SUFFIXES[format]:
        raise UserError(f"A file of format={format} ends in {SUFFIXES[format]}, got {path}.")
    if quantize is not None and (quantize, format) != (INT8, "onnx"):
        raise UserError(f"quantize={INT8} is for format=onnx, got quantize={quantize} and format={format}.")
    return path


def _quantised(embedder: Embedder, path: Path, people: Drawn) -> Loss:
    """Put the graph at `path` into int8."""
    onnx, quantization = need("onnx", "export"), need("onnxruntime.quantization", "export")
    some = torch.linspace(0, len(people.others) - 1, CALIBRATING).long()
    batches = parts(embedder, people.others[some], people.others_infrared[some], 16)

    class Reader(quantization.CalibrationDataReader):  # type: ignore[name-defined]
        def get_next(self) -> dict[str, Any] | None:
            batch = next(batches, None)
            return None if batch is None else arrays(examples(embedder), batch)

    with TemporaryDirectory() as folder, _quiet():
        small = Path(folder) / "int8.onnx"
        quantization.quantize_static(str(path), str(small), Reader(), op_types_to_quantize=["Conv"], per_channel=True)
        model = onnx.load(small)
    answer = session(model.SerializeToString())
    infrared = people.catalogue.infrared
    theirs = torch.cat([answer(*part) for part in parts(embedder, people.images, infrared, 16)])
    ours = embedder.embed(people.images, infrared=infrared)
    setting, before = next(iter(evaluate(ours, people.catalogue, people.protocol).items()))
    after = evaluate(theirs, people.catalogue, people.protocol)[setting]
    count = len(people.catalogue.identities.unique())
    largest = float((ours - theirs).abs().max())
    loss = Loss(largest, (before.r1, after.r1), (before.mAP, after.mAP), setting, count)
    facts = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(model, facts | {"quantized": str(loss)})
    onnx.save(model, path)
    return loss


@contextmanager
def _quiet() -> Iterator[None]:
    """The quantiser warns that a graph could have been prepared, which this one's exporter has done."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _drawn(people: Draw, embedder: Embedder, identities: int) -> Drawn:
    with TemporaryDirectory() as folder:
        dataset = people(Path(folder), identities)
        dataset.prepare()
        splits = dataset.read()
        test, others = (
            open_images(dataset.root, split.paths, embedder.height, embedder.width, cache=False)[
                torch.arange(len(split))
            ]
            for split in (splits.test, splits.train)
        )
        return Drawn(test, splits.test, others, splits.train.infrared, protocol_of(dataset))


def _compare(embedder: Embedder, answer: Answer, people: Drawn) -> Parity:
    """In batches of several sizes, one among them; neighbours in a list may change where they are as good as equal."""
    infrared = people.catalogue.infrared  # their cameras' images are the queries
    ours = embedder.embed(people.images, infrared=infrared)
    sizes = [1, 3, len(people.images) - 4]
    theirs = torch.cat([answer(*part) for part in parts(embedder, people.images, infrared, sizes)])
    if theirs.shape != ours.shape or not theirs.isfinite().all():
        return Parity(float("inf"), 0, int(infrared.sum()))
    similarity = ours[infrared] @ ours[~infrared].T
    order = similarity.argsort(1, descending=True)
    along = (theirs[infrared] @ theirs[~infrared].T).gather(1, order)
    kept = (along.diff(dim=1) <= TOLERANCE / 10).all(1)
    return Parity(float((ours - theirs).abs().max()), int(kept.sum()), len(kept))
