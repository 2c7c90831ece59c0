"""An exported file answers as the network does, says what it takes, and is not there where it does not."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from checkpoints import HEIGHT, WIDTH, drawn_people, save_checkpoint
from commands import compose, type_in
from torch import Tensor

from mpanet_pl.errors import UserError
from mpanet_pl.export import export as door
from mpanet_pl.gallery import exporting, graphs
from mpanet_pl.gallery.embedder import Embedder, load
from mpanet_pl.gallery.graphs import Graph, metadata, metadata_of
from mpanet_pl.gallery.projection import learn

export = partial(exporting.export, people=drawn_people)


@pytest.fixture(scope="module")
def small(ckpt: Path) -> Embedder:
    projection = learn(torch.randn(40, 256, generator=torch.Generator().manual_seed(0)), 32)
    return load(ckpt, device="cpu", flip=True, projection=projection)


def test_the_graph_is_the_embedder(embedder: Embedder, small: Embedder) -> None:
    images = torch.randint(256, (5, 3, HEIGHT, WIDTH), dtype=torch.uint8)
    for one in (embedder, small):
        with torch.no_grad():
            torch.testing.assert_close(Graph(one)(images), one.embed(images))


def test_what_embed_and_export_make_by_default_can_be_compared() -> None:
    made = [
        compose(command, ["ckpt=a.ckpt", "out=b", *more]) for command, *more in (("embed", "images=c"), ("export",))
    ]
    for key in ("compact", "whiten", "embedding", "flip"):
        assert made[0][key] == made[1][key], key


def test_a_files_metadata_hold_the_threshold_of_its_checkpoint(
    embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert metadata(embedder)["threshold"] == "null"
    monkeypatch.setattr(graphs, "threshold_of", lambda asked: {"value": 0.5, "of": asked.origin.digest})
    assert json.loads(metadata(embedder)["threshold"]) == {"value": 0.5, "of": embedder.origin.digest}


@pytest.mark.slow
@pytest.mark.parametrize("format", ["onnx", "torch"])
def test_local_maps_are_exported_too(format: str, tmp_path: Path) -> None:
    embedder = load(
        save_checkpoint(tmp_path / "local.ckpt", patterns=2, target="mpanet_pl.methods.local_maps.LocalMPANet"),
        device="cpu",
    )
    assert export(embedder, tmp_path / f"local{exporting.SUFFIXES[format]}", format=format).largest < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("format", ["onnx", "torch"])
def test_a_file_answers_as_the_network_does(format: str, small: Embedder, tmp_path: Path) -> None:
    path = tmp_path / f"small{exporting.SUFFIXES[format]}"
    parity = export(small, path, format=format)
    assert parity.largest < 1e-5
    assert parity.identical == parity.lists == 16  # 4 drawn people, 2 infrared cameras, 2 images
    images = torch.randint(256, (5, 3, HEIGHT, WIDTH), dtype=torch.uint8)
    torch.testing.assert_close(_run(path, images), small.embed(images), atol=1e-5, rtol=1e-4)
    said = metadata_of(path)
    assert said["checkpoint"] == small.origin.digest
    assert said["resize"] == "bilinear, as Pillow does it"
    assert "uint8 (batch, 3, 32, 16)" in said["input"]
    assert "synthetic" in said["terms"]
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def _run(path: Path, images: Tensor) -> Tensor:
    if path.suffix == ".pt2":
        return torch.export.load(path).module()(images)
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument):  # normalised twice
        session.run(None, {"images": images.float().numpy()})
    return torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


@pytest.mark.slow
def test_eight_bits_say_what_they_lose(small: Embedder, tmp_path: Path) -> None:
    path, whole = tmp_path / "small.onnx", tmp_path / "whole.onnx"
    loss = export(small, path, quantize="int8")
    export(small, whole)
    assert path.stat().st_size < 0.35 * whole.stat().st_size
    said = metadata_of(path)
    assert said["quantized"] == str(loss)
    assert said.items() >= metadata_of(whole).items()
    images = torch.randint(256, (5, 3, HEIGHT, WIDTH), dtype=torch.uint8)
    largest = float((_run(path, images) - small.embed(images)).abs().max())
    assert isinstance(loss, exporting.Loss)
    assert loss.people == 16
    assert min(largest, loss.largest) > 1e-4
    assert max(largest, loss.largest) < 0.25
    assert abs(loss.mAP[1] - loss.mAP[0]) < 10


def test_what_answers_otherwise_is_not_kept(
    ckpt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def wrong(embedder: Embedder, path: Path, metadata: dict[str, str]) -> exporting.Answer:
        path.write_bytes(b"graph")
        return lambda images: embedder.embed(images.flip(-1))

    monkeypatch.setattr(exporting, "write_torch", wrong)
    out = tmp_path / "wrong.pt2"
    assert type_in("export", door, [f"ckpt={ckpt}", f"out={out}", "format=torch"], monkeypatch) == 1
    assert "is not kept: it does not answer as the network does" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


class Fixed(torch.nn.Module):
    """A network that takes batches of one size alone."""

    def forward(self, images: Tensor, infrared: Tensor | None = None) -> Tensor:
        return images.reshape(2, 3, HEIGHT, WIDTH).flatten(1)[:, :8]


class Shaped(torch.nn.Module):
    """A network whose forward turns its batch into a number."""

    def forward(self, images: Tensor, infrared: Tensor | None = None) -> Tensor:
        return torch.cat([images.flatten(1)[:, :8]] + [images.flatten(1)[:, :8]] * (len(images) > 3), dim=1)


class Merging(torch.nn.Module):
    """A network that makes one embedding of a batch."""

    def forward(self, images: Tensor, infrared: Tensor | None = None) -> Tensor:
        return images.flatten(1)[:1, :8]


def test_a_network_that_takes_no_batch_of_any_size_is_told_before_anything_is_drawn(
    embedder: Embedder, tmp_path: Path
) -> None:
    for network, message in ((Fixed(), "no batch of 1 images"), (Merging(), "of 3 images it makes 1 embeddings")):
        odd = Embedder(network, height=HEIGHT, width=WIDTH, origin=embedder.origin)
        with pytest.raises(UserError, match=message):
            exporting.export(odd, tmp_path / "a.pt2", format="torch", people=lambda *_: pytest.fail("people are drawn"))


def test_rank_lists_are_compared_and_what_is_no_number_is_no_list(embedder: Embedder) -> None:
    people = exporting._drawn(drawn_people, embedder, 4)
    lists = int(people.catalogue.infrared.sum())
    same = exporting._compare(embedder, embedder, people)
    assert same.largest < 1e-5
    assert same.identical == same.lists == lists
    width = embedder.dimension
    for answer in (
        lambda images: torch.zeros(len(images), 1),
        lambda images: torch.full((len(images), width), torch.nan),
    ):
        assert exporting._compare(embedder, answer, people) == (float("inf"), 0, lists)
    other = exporting._compare(embedder, lambda images: torch.randn(len(images), width), people)
    assert other.largest > exporting.TOLERANCE
    assert other.identical < lists


@pytest.mark.slow
def test_a_network_that_fixes_its_batch_is_a_sentence(embedder: Embedder, tmp_path: Path) -> None:
    fixed = Embedder(Fixed(), height=HEIGHT, width=WIDTH, origin=embedder.origin)
    with pytest.raises(UserError, match="takes no batch of 1 images"):
        export(fixed, tmp_path / "a.pt2", format="torch")
    shaped = Embedder(Shaped(), height=HEIGHT, width=WIDTH, origin=embedder.origin)
    with pytest.raises(UserError, match="cannot trace the network for batches of any size"):
        export(shaped, tmp_path / "a.pt2", format="torch")
    assert not list(tmp_path.iterdir())


def test_a_name_that_does_not_fit_is_told_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.ckpt").write_bytes(b"")
    assert type_in("export", door, [f"ckpt={tmp_path}/a.ckpt", f"out={tmp_path}/a.txt"], monkeypatch) == 2
    assert "A file of format=onnx ends in .onnx" in capsys.readouterr().err


def test_mistakes_are_sentences(ckpt: Path, embedder: Embedder, tmp_path: Path) -> None:
    for format, name, message in (("onnx", "a.pt2", "ends in .onnx"), ("tf", "a.tf", "format is one of onnx, torch")):
        with pytest.raises(UserError, match=message):
            export(embedder, tmp_path / name, format=format)
    with pytest.raises(UserError, match="quantize=int8 is for format=onnx"):
        export(embedder, tmp_path / "a.pt2", format="torch", quantize="int8")
    with pytest.raises(UserError, match="float32 network on the CPU"):
        export(load(ckpt, device="cpu", precision="bfloat16"), tmp_path / "a.onnx")
