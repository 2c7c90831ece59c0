from inspect import signature
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import HEIGHT, WIDTH, draw_crops, save_checkpoint
from PIL import Image

from mpanet_pl.data import open_images
from mpanet_pl.data.augment import normalise
from mpanet_pl.errors import UserError
from mpanet_pl.gallery.embedder import OF_A_CHECKPOINT, PRECISIONS, Embedder, load
from mpanet_pl.gallery.shards import COMPARABLE
from mpanet_pl.module import MPANetModule
from mpanet_pl.official import to_official


def by_hand(ckpt: Path, images: torch.Tensor) -> torch.Tensor:
    """What `docs` and `evaluate` do, step by step."""
    module = MPANetModule.load_from_checkpoint(ckpt).eval()
    with torch.no_grad():
        return torch.nn.functional.normalize(module(normalise(images)))


def test_paths_pil_images_and_tensors_give_what_the_module_gives(
    ckpt: Path, embedder: Embedder, tmp_path: Path
) -> None:
    folder = draw_crops(tmp_path, 5)
    names = sorted(path.name for path in folder.iterdir())
    images = open_images(folder, names, HEIGHT, WIDTH, cache=False)[torch.arange(5)]
    expected = by_hand(ckpt, images)
    assert embedder.dimension == expected.shape[1] == 256
    torch.testing.assert_close(embedder.embed(images, batch_size=2), expected)
    torch.testing.assert_close(embedder.embed([folder / name for name in names], batch_size=2), expected)
    torch.testing.assert_close(embedder.embed([Image.open(folder / name) for name in names]), expected)
    assert embedder.embed([]).shape == (0, 256)


def test_flip_is_the_mean_over_both(ckpt: Path) -> None:
    images = torch.randint(256, (3, 3, HEIGHT, WIDTH), dtype=torch.uint8)
    module = MPANetModule.load_from_checkpoint(ckpt).eval()
    with torch.no_grad():
        mean = (module(normalise(images)) + module(normalise(images.flip(-1)))) / 2
    flipped = load(ckpt, device="cpu", flip=True).embed(images)
    torch.testing.assert_close(flipped, torch.nn.functional.normalize(mean))
    torch.testing.assert_close(flipped, load(ckpt, device="cpu", flip=True).embed(images.flip(-1)))


def test_a_released_checkpoint_needs_its_size(tmp_path: Path) -> None:
    ckpt = save_checkpoint(tmp_path / "whole.ckpt", trunk="resnet18")  # files are released of whole trunks alone
    released = tmp_path / "released.pth"
    torch.save(to_official(torch.load(ckpt, weights_only=True)["state_dict"]), released)
    with pytest.raises(UserError, match="give height, width"):
        load(released)
    images = torch.randint(256, (2, 3, HEIGHT, WIDTH), dtype=torch.uint8)
    theirs = load(released, device="cpu", height=HEIGHT, width=WIDTH)
    assert torch.equal(theirs.embed(images), load(ckpt, device="cpu").embed(images))
    assert "released" in theirs.origin.trained_on
    with pytest.raises(UserError, match="says its own"):
        load(ckpt, height=HEIGHT, width=WIDTH)


def test_the_record_knows_another_checkpoint(ckpt: Path, embedder: Embedder, tmp_path: Path) -> None:
    other = load(save_checkpoint(tmp_path / "other.ckpt", seed=1), device="cpu")
    assert load(ckpt, device="cpu").record == embedder.record
    assert other.record["checkpoint"] != embedder.record["checkpoint"]
    assert embedder.record["trained_on"] == "synthetic"


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(1, 3, HEIGHT, WIDTH), "uint8"),
        (torch.zeros(1, 3, WIDTH, HEIGHT, dtype=torch.uint8), "uint8"),
        (["nowhere.png"], "nowhere.png cannot be read: no such file"),
    ],
)
def test_what_is_no_image_is_refused(embedder: Embedder, images: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        embedder.embed(images)  # type: ignore[arg-type]


def test_animations_floods_garbage_and_programs_are_refused(
    embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = [Image.new("RGB", (8, 16), colour) for colour in ("red", "green")]
    frames[0].save(tmp_path / "moving.webp", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    Image.new("1", (8000, 8000)).save(tmp_path / "flood.png")
    (tmp_path / "garbage.png").write_bytes(b"no image")
    frames[0].save(tmp_path / "ghost.eps")  # for which Pillow starts Ghostscript, whatever it is called
    (tmp_path / "ghost.eps").rename(tmp_path / "ghost.jpg")
    reasons = {"moving.webp": "several frames", "flood.png": "64 megapixels"}
    for name in ("moving.gif", "garbage.png", "ghost.jpg"):
        reasons[name] = "it is no JPEG, PNG, WEBP, BMP, TIFF or PPM image"
    for name, reason in reasons.items():
        with pytest.raises(UserError, match=rf"{name} cannot be read: .*{reason}"):
            embedder.embed([tmp_path / name])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # of which Pillow refuses the double by itself
    with pytest.raises(UserError, match="more than the 50 megapixels"):
        embedder.embed([tmp_path / "flood.png"])


def test_a_phones_photograph_stands_upright_and_is_one_image(embedder: Embedder, tmp_path: Path) -> None:
    crop = Image.fromarray(np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter
    crop.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "lying.png", exif=exif)
    crop.save(tmp_path / "phone.jpg", "MPO", quality=100, save_all=True, append_images=[crop.resize((4, 8))])
    crop.save(tmp_path / "plain.jpg", quality=100)
    standing, lying, phone, plain = embedder.embed(
        [crop, *(tmp_path / f"{n}" for n in ("lying.png", "phone.jpg", "plain.jpg"))]
    )
    torch.testing.assert_close(lying, standing)
    torch.testing.assert_close(phone, plain)


@pytest.mark.parametrize("config", [None, {"data": 3}, {"data": {"height": True, "width": 16}}])
def test_a_checkpoint_that_does_not_say_its_size_is_refused(ckpt: Path, tmp_path: Path, config: object) -> None:
    content = {**torch.load(ckpt, weights_only=True), "config": config}
    torch.save(content, tmp_path / "odd.ckpt")
    with pytest.raises(UserError, match=r"odd\.ckpt"):
        load(tmp_path / "odd.ckpt")
    with pytest.raises(UserError, match="not there"):
        load(ckpt, device="nowhere")


def test_precisions_are_those_of_their_names(ckpt: Path, embedder: Embedder) -> None:
    images = torch.randint(256, (2, 3, HEIGHT, WIDTH), dtype=torch.uint8)
    found = {name: load(ckpt, device="cpu", precision=name).embed(images) for name in PRECISIONS}
    assert torch.equal(found["float32"], embedder.embed(images))
    errors = {name: (vectors - found["float32"]).abs().max() for name, vectors in found.items()}
    assert 0 == errors["float32"] < errors["float16"] < errors["bfloat16"] < 0.1


def test_what_makes_an_embedder_is_what_its_record_and_its_keys_say(embedder: Embedder) -> None:
    own = Embedder(embedder.network, height=HEIGHT, width=WIDTH, origin=embedder.origin)
    assert own.record == embedder.record
    assert {*COMPARABLE} <= own.record.keys()
    assert {*OF_A_CHECKPOINT} == signature(load).parameters.keys() - {"device", "precision", "projection"}
