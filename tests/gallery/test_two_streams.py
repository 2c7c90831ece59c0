"""A network with weights of its own for each modality, in use: whoever embeds says the modality, or is asked."""

from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import HEIGHT, WIDTH, draw_crops, drawn_people, save_checkpoint
from gallery.served import client_of

from mpanet_pl.errors import UserError
from mpanet_pl.gallery.building import embed_images
from mpanet_pl.gallery.embedder import Embedder, load
from mpanet_pl.gallery.exporting import SUFFIXES, export
from mpanet_pl.gallery.graphs import metadata_of
from mpanet_pl.gallery.searching import open_queries
from mpanet_pl.gallery.store import Gallery

TWO = {"_target_": "mpanet_pl.trunks.two_streams.TwoStreams", "name": "resnet18_thin"}
ASKS = "two streams: it has to be told which images are infrared"


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    ckpt = save_checkpoint(tmp_path_factory.mktemp("ckpt") / "two.ckpt", trunk=TWO)
    content = torch.load(ckpt, weights_only=True)
    content["state_dict"]["network.trunk.infrared.conv1.weight"] *= -1  # streams that differ
    torch.save(content, ckpt)
    return load(ckpt, device="cpu")


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crops") / "crops"
    for modality in ("ir", "rgb"):
        draw_crops(folder / modality, 4)
    return folder


def test_an_image_goes_through_the_weights_of_its_modality(two: Embedder) -> None:
    images = torch.randint(256, (3, 3, HEIGHT, WIDTH), dtype=torch.uint8)
    with pytest.raises(UserError, match=ASKS):
        two.embed(images)
    with pytest.raises(UserError, match="one for each of 3 images"):
        two.embed(images, infrared=[True])
    infrared, visible = two.embed(images, infrared=True), two.embed(images, infrared=False, batch_size=2)
    assert not torch.allclose(infrared, visible, atol=1e-3)
    mixed = two.embed(images, infrared=[True, False, True], batch_size=2)
    torch.testing.assert_close(mixed, torch.stack([infrared[0], visible[1], infrared[2]]))


def test_a_gallery_knows_each_images_modality(two: Embedder, crops: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"{ASKS}, and of 8 of 8 it is not known. Add a column"):
        embed_images(two, crops, tmp_path / "g")
    assert not (tmp_path / "g").exists()
    embed_images(two, crops, tmp_path / "g", name="(?P<modality>ir|rgb)/", batch_size=3)
    gallery = Gallery(tmp_path / "g")
    paths = gallery.columns("path")["path"].to_pylist()
    vectors = torch.from_numpy(np.concatenate([block.vectors for block in gallery.blocks()]))
    expected = two.embed([crops / path for path in paths], infrared=[path.startswith("ir/") for path in paths])
    torch.testing.assert_close(vectors, expected)

    refused = pytest.raises(UserError, match=ASKS)
    with refused, open_queries(gallery, crops / "ir", device="cpu"):
        pass


def test_an_upload_says_its_modality(two: Embedder, crops: Path, tmp_path: Path) -> None:
    """As infrared and as visible it is another vector."""
    embed_images(two, crops, tmp_path / "g", name="(?P<modality>ir|rgb)/")
    crop = sorted((crops / "ir").iterdir())[0]
    with client_of(tmp_path / "g", two) as client:
        assert client.get("/about").json()["asks"] == ["infrared"]
        refused = client.post("/search", content=crop.read_bytes())
        assert (refused.status_code, "infrared=true" in refused.json()["detail"]) == (400, True)
        for infrared, folder in ((True, "ir"), (False, "rgb")):  # the same pixels lie in both
            found = client.post("/search", params={"infrared": infrared, "k": 1}, content=crop.read_bytes())
            (answer,) = found.json()["answers"]
            assert (answer["path"], answer["score"]) == (f"{folder}/{crop.name}", pytest.approx(1, abs=1e-4))
        assert client.post("/search", params={"id": f"ir/{crop.name}"}).status_code == 200


@pytest.mark.slow
@pytest.mark.parametrize("format", SUFFIXES)
def test_a_graph_asks_for_the_modality(format: str, two: Embedder, tmp_path: Path) -> None:
    path = tmp_path / f"two{SUFFIXES[format]}"
    parity = export(two, path, format=format, people=drawn_people)
    assert parity.identical == parity.lists
    assert metadata_of(path)["second input"] == "infrared, bool (batch,): which images are"
    images = torch.randint(256, (5, 3, HEIGHT, WIDTH), dtype=torch.uint8)
    infrared = torch.tensor([True, False, False, True, False])
    if format == "torch":
        given = torch.export.load(path).module()(images, infrared)
    else:
        import onnxruntime

        session = onnxruntime.InferenceSession(path)
        given = torch.from_numpy(session.run(None, {"images": images.numpy(), "infrared": infrared.numpy()})[0])
    torch.testing.assert_close(given, two.embed(images, infrared=infrared), atol=1e-5, rtol=1e-4)
