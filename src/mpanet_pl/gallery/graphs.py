"""A network as a module for exporters, and the files that they write of it."""

import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from mpanet_pl.data.normalisation import IMAGENET_MEAN, IMAGENET_STD
from mpanet_pl.errors import UserError
from mpanet_pl.gallery.embedder import Embedder
from mpanet_pl.gallery.extras import need
from mpanet_pl.gallery.known import threshold_of

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

    def forward(self, images: Tensor, infrared: Tensor | None = None) -> Tensor:
        seen = (images.float() / 255 - self.mean) / self.std
        if self.flip:  # in one batch: exporters stumble over weights that are used twice
            seen = torch.cat([seen, seen.flip(-1)])
            infrared = None if infrared is None else torch.cat([infrared, infrared])
        embeddings = self.network(seen) if infrared is None else self.network(seen, infrared)
        if self.flip:
            embeddings = embeddings.unflatten(0, (2, -1)).mean(0)
        embeddings = normalize(embeddings)
        if self.centre is not None and self.components is not None:
            embeddings = normalize((embeddings - self.centre) @ self.components)
        return embeddings


def write_torch(embedder: Embedder, path: Path, facts: Mapping[str, str]) -> Answer:
    batch, inputs = torch.export.Dim("batch", min=1, max=65536), examples(embedder)
    with torch.no_grad():
        shapes, graph = tuple({0: batch} for _ in inputs), Graph(embedder).eval()
        program = traced(embedder, lambda: torch.export.export(graph, tuple(inputs.values()), dynamic_shapes=shapes))
    with path.open("wb") as file:
        torch.export.save(program, file, extra_files={METADATA: json.dumps(facts)})
    with path.open("rb") as file:
        module = torch.export.load(file).module()
    return lambda *inputs: module(*inputs)


def write_onnx(embedder: Embedder, path: Path, facts: Mapping[str, str]) -> Answer:
    onnx = need("onnx", "export")
    need("onnxruntime", "export")
    need("onnxscript", "export")
    batch, inputs = torch.export.Dim("batch", min=1, max=65536), examples(embedder)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own, of functions that it is about to give up
        program = traced(
            embedder,
            lambda: torch.onnx.export(
                Graph(embedder).eval(),
                tuple(inputs.values()),
                input_names=list(inputs),
                output_names=["embeddings"],
                dynamic_shapes=tuple({0: batch} for _ in inputs),
                dynamo=True,
                verbose=False,
            ),
        )
    assert program is not None
    model = program.model_proto
    onnx.helper.set_model_props(model, dict(facts))
    onnx.save(model, path)
    return session(path)


def check_batches(embedder: Embedder) -> None:
    """Whoever uses a graph chooses the size of a batch; a network that does not take any is told at once."""
    for count in (1, 3):
        images = torch.zeros(count, 3, embedder.height, embedder.width, dtype=torch.uint8)
        infrared = torch.zeros(count, dtype=torch.bool)
        try:
            rows = len(embedder(images, infrared))
        except Exception as error:  # whatever a network of anybody's raises
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(
                f"The network cannot be exported: it takes no batch of {count} images ({reason})."
            ) from error
        if rows != count:
            raise UserError(f"The network cannot be exported: of {count} images it makes {rows} embeddings.")


def traced(embedder: Embedder, trace: Callable[[], Any]) -> Any:
    """What an exporter makes of a network; one that it cannot trace for batches of any size is a sentence."""
    try:
        return trace()
    except Exception as error:  # exporters raise kinds of their own, each with pages of advice
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = next((line for line in lines if "batch" in line), lines[0] if lines else type(error).__name__)
        raise UserError(
            f"torch cannot trace the network for batches of any size: {reason}. A forward must not turn shapes into "
            "numbers (int, len, .item())."
        ) from error


def session(model: Path | bytes) -> Answer:
    session = need("onnxruntime", "export").InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [part.name for part in session.get_inputs()]
    return lambda *given: torch.from_numpy(session.run(None, arrays(names, given))[0])


def arrays(names: Iterable[str], given: Sequence[Tensor]) -> dict[str, Any]:
    return {name: part.contiguous().numpy() for name, part in zip(names, given, strict=True)}


def examples(embedder: Embedder) -> dict[str, Tensor]:
    """The graph's inputs by name."""
    images = {"images": torch.zeros(2, 3, embedder.height, embedder.width, dtype=torch.uint8)}
    return images | ({"infrared": torch.tensor([False, True])} if embedder.two_stream else {})


def metadata(embedder: Embedder) -> dict[str, str]:
    """What a reader has to know, as texts."""
    record = {key: value for key, value in embedder.record.items() if key not in ("ckpt", "precision")}
    record |= {
        "input": f"uint8 (batch, 3, {embedder.height}, {embedder.width}); normalisation is inside",
        **({"second input": "infrared, bool (batch,): which images are"} if embedder.two_stream else {}),
        "output": f"float32 (batch, {embedder.dimension}) of length one: products are cosine similarities",
        "terms": embedder.origin.terms("this file"),
        "threshold": threshold_of(embedder),
        **{f"version of {name}": version(name) for name in ("mpanet_pl", "torch", "pillow")},
    }
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in record.items()}


def parts(embedder: Embedder, images: Tensor, infrared: Tensor, sizes: int | list[int]) -> Iterator[tuple[Tensor, ...]]:
    """The graph's inputs, batch by batch."""
    inputs = (images, infrared) if embedder.two_stream else (images,)
    return zip(*(part.split(sizes) for part in inputs), strict=True)


def metadata_of(path: Path) -> dict[str, Any]:
    """What an exported file says of itself."""
    if path.suffix == ".onnx":
        model = need("onnx", "export").load(path, load_external_data=False)
        return {entry.key: entry.value for entry in model.metadata_props}
    extra = {METADATA: ""}
    with path.open("rb") as file:
        torch.export.load(file, extra_files=extra)
    return dict(json.loads(extra[METADATA]))
