"""Against torchvision's per-image transforms: equality where nothing is random, distributions where something is."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import ks_2samp, kstest
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torchvision import transforms
from torchvision.transforms import functional

from mpanet_pl.data.augment import Augmentation, Draws
from mpanet_pl.data.boxes import Boxes
from mpanet_pl.data.normalisation import IMAGENET_MEAN, IMAGENET_STD, Normalise, normalise, normalised
from mpanet_pl.data.randomness import image_keys, normals_at
from mpanet_pl.errors import UserError

HEIGHT, WIDTH = 48, 24
COLOURFUL = Augmentation(pad=6, grayscale=0.5, channel_exchange=0.5)
MIRRORING = Augmentation(pad=WIDTH, fill="mirror", single_channel=0.5)
STILL = Augmentation(flip=0, pad=0, erase=0)


def photographs(count: int = 32) -> Tensor:
    """uint8 (count, 3, H, W), channels last in memory."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, HEIGHT, WIDTH, 3), dtype=np.uint8)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def every_other(count: int) -> Tensor:
    return torch.arange(count) % 2 == 1


def augmented(augmentation: Augmentation, images: Tensor, *, seed: int = 1, epoch: int = 0) -> Tensor:
    return augmentation(images, torch.arange(len(images)), every_other(len(images)), seed=seed, epoch=epoch)


def draws_of(augmentation: Augmentation, count: int) -> Draws:
    return augmentation.draw(image_keys(1, 0, torch.arange(count)), every_other(count))


def erased_of(augmentation: Augmentation, count: int, height: int = 384, width: int = 128) -> Boxes:
    return augmentation.draw_erased(image_keys(1, 0, torch.arange(count)), height, width)


def by_torchvision(augmentation: Augmentation, image: Tensor, draw: Draws, erased: Boxes) -> Tensor:
    """One image (3, H, W), transformed as the release does it, with these decisions."""
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    if draw.grayscale:
        picture = functional.to_grayscale(picture, num_output_channels=3)
    if draw.channel >= 0:
        picture = Image.merge("RGB", [picture.split()[draw.channel]] * 3)
    if draw.flip:
        picture = functional.hflip(picture)
    if augmentation.fill == "mirror":
        picture = functional.pad(picture, augmentation.pad, padding_mode="symmetric")
    else:
        picture = functional.pad(picture, augmentation.pad, fill=augmentation.fill)
    picture = functional.crop(picture, draw.top, draw.left, HEIGHT, WIDTH)
    pixels = functional.normalize(functional.to_tensor(picture), IMAGENET_MEAN, IMAGENET_STD)
    return functional.erase(pixels, *erased, torch.zeros(1))


@pytest.mark.parametrize("augmentation", [COLOURFUL, MIRRORING])
def test_equals_torchvision_image_by_image_under_the_same_decisions(augmentation):
    images = photographs(64)
    draws, boxes = draws_of(augmentation, len(images)), erased_of(augmentation, len(images), HEIGHT, WIDTH)
    ours = augmented(augmentation, images)
    decided = zip(torch.stack(draws, 1).tolist(), torch.stack(boxes, 1).tolist(), strict=True)
    for image, result, (draw, erased) in zip(images, ours, decided, strict=True):
        assert torch.equal(result, by_torchvision(augmentation, image, Draws(*draw), Boxes(*erased)))


def test_infrared_images_turn_grey_by_a_probability_of_their_own():
    images, infrared = photographs(400), every_other(400)
    still = {"flip": 0, "pad": 0, "erase": 0}
    for augmentation in (
        Augmentation(**still, grayscale=0.3, grayscale_infrared=0.6),
        Augmentation(**still, grayscale_infrared=0.6),
    ):
        result = augmented(augmentation, images)
        scaled = result * torch.tensor(IMAGENET_STD)[:, None, None] + torch.tensor(IMAGENET_MEAN)[:, None, None]
        grey = (scaled - scaled[:, :1]).abs().amax((1, 2, 3)) < 1e-5
        assert grey[infrared].float().mean() == pytest.approx(0.6, abs=0.12)
        assert grey[~infrared].float().mean() == pytest.approx(float(augmentation.grayscale), abs=0.12)


@pytest.mark.parametrize(("area", "ratio"), [((0.02, 0.4), (0.3, 1 / 0.3)), ((0.2, 0.8), (0.3, 1 / 0.3))])
def test_boxes_of_a_uniform_aspect_are_drawn_as_most_releases_draw_them(area, ratio):
    """By rejection: an area and an aspect, both uniform, until the box is strictly smaller than the image."""
    height, width, rng = 384, 144, np.random.default_rng(5)
    expected = []
    while len(expected) < 4000:
        size, aspect = height * width * rng.uniform(*area), rng.uniform(*ratio)
        box = round(np.sqrt(size * aspect)), round(np.sqrt(size / aspect))
        if box[0] < height and box[1] < width:
            expected.append(box)
    law = Augmentation(erase=1, erase_area=area, erase_ratio=ratio, erase_aspect="uniform")
    boxes = erased_of(law, 4000, height, width)
    for ours, theirs in zip((boxes.height, boxes.width), zip(*expected, strict=True), strict=True):
        assert ks_2samp(ours.numpy(), theirs).pvalue > 0.001
    logarithmic = erased_of(Augmentation(erase=1, erase_area=area, erase_ratio=ratio), 4000, height, width)
    assert ks_2samp(logarithmic.width.numpy(), boxes.width.numpy()).pvalue < 1e-6


def test_erased_boxes_have_the_colour_that_is_asked_for():
    colour = (0.485, 0.456, 0.406)
    erasing = Augmentation(flip=0, pad=0, erase=1, erase_area=(0.9, 0.9), erase_ratio=(2, 2), erase_fill=colour)
    erased = augmented(erasing, photographs(3))[:, :, HEIGHT // 2, WIDTH // 2]
    assert torch.equal(erased, torch.tensor(colour).expand(3, 3))


def test_without_randomness_it_is_normalisation():
    images = photographs()
    theirs = torch.stack([functional.normalize(image / 255, IMAGENET_MEAN, IMAGENET_STD) for image in images])
    assert torch.equal(augmented(STILL, images), theirs)
    assert torch.equal(normalise(images), theirs)


@pytest.mark.parametrize("augmentation", [Augmentation(), COLOURFUL, Augmentation(grayscale=True), MIRRORING, STILL])
def test_the_accelerators_way_is_the_processors_bit_for_bit(augmentation):
    images = photographs()
    draws, boxes = draws_of(augmentation, len(images)), erased_of(augmentation, len(images), HEIGHT, WIDTH)
    pixels = images.permute(0, 2, 3, 1)
    moved = augmentation._by_slicing(pixels, draws)
    assert torch.equal(augmentation._by_gathering(pixels, draws), moved)
    masked = torch.where(boxes.mask(HEIGHT, WIDTH), torch.tensor(0.0), normalised(moved))
    assert torch.equal(boxes.fill_(normalised(moved), (0.0, 0.0, 0.0)), masked)


@pytest.mark.gpu
@pytest.mark.parametrize("augmentation", [COLOURFUL, Augmentation(tone=0.8), Augmentation(caj=True)])
def test_a_gpu_augments_as_the_processor_does(augmentation):
    images, index = photographs(), torch.arange(32)
    on_gpu = augmentation(images.cuda(), index.cuda(), every_other(32).cuda(), seed=1, epoch=3)
    assert torch.equal(on_gpu.cpu(), augmentation(images, index, every_other(32), seed=1, epoch=3))
    assert torch.equal(normalise(images.cuda()).cpu(), normalise(images))


@pytest.mark.gpu
def test_a_gpu_enhances_as_the_processor_does():
    """Up to the last digits of the powers that Beta draws are made of."""
    images, index, enhancing = photographs(), torch.arange(32), Augmentation(rle=True)
    on_gpu = enhancing(images.cuda(), index.cuda(), every_other(32).cuda(), seed=1, epoch=3)
    assert torch.allclose(on_gpu.cpu(), enhancing(images, index, every_other(32), seed=1, epoch=3), atol=1e-5)


def test_what_comes_out():
    images = photographs()
    for result in (augmented(COLOURFUL, images), augmented(COLOURFUL, images.contiguous()), normalise(images)):
        assert result.dtype == torch.float32
        assert result.shape == images.shape
        assert result.is_contiguous(memory_format=torch.channels_last)


def test_an_images_draws_are_its_own():
    images, index = photographs(), torch.arange(100, 132)
    infrared = every_other(32)
    whole = COLOURFUL(images, index, infrared, seed=1, epoch=4)
    order = torch.from_numpy(np.random.default_rng(0).permutation(32))[:20]
    part = COLOURFUL(images[order], index[order], infrared[order], seed=1, epoch=4)
    assert torch.equal(part, whole[order])
    for seed, epoch in ((1, 5), (2, 4)):
        again = COLOURFUL(images, index, infrared, seed=seed, epoch=epoch)
        assert (again != whole).flatten(1).any(1).float().mean() > 0.9


def test_an_image_that_comes_again_is_augmented_anew():
    images, index, infrared = photographs(8), torch.arange(8), every_other(8)
    first, second = (
        COLOURFUL(images, index, infrared, seed=1, epoch=0, occurrence=torch.full((8,), times)) for times in (0, 1)
    )
    other = COLOURFUL(images, index, infrared, seed=1, epoch=0, view=1)
    assert torch.equal(first, COLOURFUL(images, index, infrared, seed=1, epoch=0, view=0))
    for one, two in ((first, second), (first, other), (second, other)):
        assert (one != two).flatten(1).any(1).all()


def test_what_was_normalised_is_refused():
    with pytest.raises(UserError, match=r"normalise takes uint8 pixels of 0 to 255, got torch.float32"):
        normalise(normalise(photographs()))


def test_normalisation_knows_no_mode():
    """A tensor made in inference mode, or a fake one, would spoil what comes after it."""
    images = photographs(2)
    with torch.inference_mode():
        normalise(images)
    with FakeTensorMode() as mode:
        fake = normalise(mode.from_tensor(images))
    assert fake.shape == images.shape
    assert not normalise(images).is_inference()
    weight = torch.ones((), requires_grad=True)
    (augmented(COLOURFUL, images) * weight).sum().backward()


@pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node")  # torch 2.7's own exporter
def test_normalisation_is_exported():
    class Function(torch.nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return normalise(images)

    for module in (Function(), Normalise()):
        program = torch.export.export(module, (photographs(3),), dynamic_shapes=({0: torch.export.Dim("b", min=1)},))
        assert torch.equal(program.module()(photographs(5)), normalise(photographs(5)))
    assert torch.equal(Normalise()(photographs()), normalise(photographs()))


def test_flips_and_crops_are_torchvisions():
    draws = draws_of(Augmentation(flip=0.3), 20_000)
    assert draws.flip.float().mean() == pytest.approx(0.3, abs=0.015)
    for corner in (draws.top, draws.left):  # each of the 21 corners, the last one too
        assert corner.bincount().float() == pytest.approx(20_000 / 21, rel=0.15)
        assert len(corner.bincount()) == 21


def test_erased_rectangles_are_torchvisions():
    image, erasing = torch.zeros(3, 384, 128), transforms.RandomErasing()
    torch.manual_seed(0)
    theirs = np.array([erasing.get_params(image, erasing.scale, erasing.ratio, [0.0])[:4] for _ in range(4000)])
    boxes = erased_of(Augmentation(), 8000)
    erased = boxes.height > 0
    assert erased.float().mean() == pytest.approx(0.5, abs=0.02)
    for mine, other in zip(boxes, theirs.T, strict=True):
        assert ks_2samp(mine[erased].numpy(), other).pvalue > 0.01
    shape = boxes.height.double() / boxes.width
    assert ks_2samp(shape[erased].numpy(), theirs[:, 2] / theirs[:, 3]).pvalue > 0.01


def test_an_erased_rectangle_reaches_every_border_and_no_further():
    boxes = erased_of(Augmentation(erase=1), 20_000, 20, 12)
    bottom, right = boxes.top + boxes.height, boxes.left + boxes.width
    assert (boxes.top.min(), boxes.left.min()) == (0, 0)
    assert (bottom.max(), right.max()) == (20, 12)


def test_where_no_try_fits_nothing_is_erased():
    assert not erased_of(Augmentation(erase=1, erase_area=(1, 1), erase_ratio=(3, 3)), 10).height.any()
    assert torch.equal(
        augmented(Augmentation(0, 0, erase=1, erase_area=(1, 1)), photographs()), normalise(photographs())
    )


def test_one_channel_is_shown_in_either_modality():
    draws = draws_of(Augmentation(single_channel=3 / 11), 20_000)
    for rows in (every_other(20_000), ~every_other(20_000)):
        shares = (draws.channel[rows] + 1).bincount().float() / 10_000
        assert shares == pytest.approx(torch.tensor([8, 1, 1, 1]) / 11, abs=0.01)


def test_an_erased_rectangle_may_be_noise():
    images, noisy = photographs(), Augmentation(flip=0, pad=0, erase=1, erase_fill="noise")
    result, boxes = augmented(noisy, images), erased_of(noisy, len(images), HEIGHT, WIDTH)
    inside = boxes.mask(HEIGHT, WIDTH).permute(0, 3, 1, 2).expand_as(images)
    assert torch.equal(result[~inside], normalise(images)[~inside])
    assert kstest(result[inside].numpy(), "norm").pvalue > 0.01
    assert len(result[inside].unique()) > 0.99 * inside.sum()  # each channel and image by itself
    keys = image_keys(1, 0, torch.arange(len(images)))
    everywhere = normals_at(keys, torch.arange(HEIGHT * WIDTH * 3), 5).view(-1, HEIGHT, WIDTH, 3).permute(0, 3, 1, 2)
    assert torch.equal(result[inside], everywhere[inside].float())  # the accelerator's way


def test_colours_change_on_visible_images_alone():
    draws = draws_of(Augmentation(grayscale=True, channel_exchange=0.2), 20_000)
    infrared = every_other(20_000)
    assert not draws.grayscale[infrared].any()
    assert (draws.channel[infrared] == -1).all()
    assert draws.grayscale[~infrared].float().mean() == pytest.approx(0.5, abs=0.02)
    assert (draws.channel[~infrared] + 1).bincount().float() / 10_000 == pytest.approx(
        torch.tensor([0.8, 0.2 / 3, 0.2 / 3, 0.2 / 3]), abs=0.01
    )


def test_colours_stay_by_default():
    draws = draws_of(Augmentation(), 1000)
    assert not draws.grayscale.any()
    assert (draws.channel == -1).all()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"flip": 1.5}, "flip must be between 0 and 1, got 1.5"),
        ({"grayscale": -0.1}, "grayscale must be between 0 and 1, got -0.1"),
        ({"pad": -1}, "pad must be at least 0, got -1"),
        ({"fill": 256}, "fill must be between 0 and 255, got 256"),
        ({"erase_area": (0.5, 0.2)}, "erase_area and augment.erase_ratio are"),
        ({"erase_ratio": (0, 1)}, r"got \(0.02, 0.33\) and \(0, 1\)"),
        ({"tone": 2}, "tone must be between 0 and 1, got 2"),
        ({"tone_knots": 1}, "tone_knots must be between 2 and 256, got 1"),
        ({"tone_knots": 257}, "tone_knots must be between 2 and 256, got 257"),
        ({"erase_area": (0.2, 1.1)}, r"the area within 0 to 1, got \(0.2, 1.1\)"),
        ({"fill": "grey"}, "fill must be a whole number or mirror, got 'grey'"),
        ({"erase_fill": "grey"}, r"erase_fill must be a list such as \[1,2\] or noise, got 'grey'"),
        ({"single_channel": 2}, "single_channel must be between 0 and 1, got 2"),
        ({"fill": -1}, "fill must be between 0 and 255, got -1"),
        ({"caj": True, "rle": True}, "switch one of them off"),
    ],
)
def test_what_cannot_be_is_refused(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        Augmentation(**settings)


def test_no_more_is_mirrored_than_there_is():
    with pytest.raises(UserError, match="fill=mirror has no 25 pixels to mirror in images of 48 x 24"):
        augmented(Augmentation(pad=25, fill="mirror"), photographs())


def test_the_edges_of_what_can_be():
    Augmentation(flip=0, erase=1, pad=0, fill=255, erase_area=(0, 1), erase_ratio=(2, 2), tone=1, tone_knots=256)
    Augmentation(flip=1, erase=0, fill=0, erase_area=(1, 1), grayscale=1, channel_exchange=0, tone_knots=2)
