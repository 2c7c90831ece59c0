import math

import numpy as np
import pytest
import torch

from mpanet_pl.data.catalogue import Catalogue
from mpanet_pl.world import NUANCES, Look
from mpanet_pl.world.annotations import Annotations
from mpanet_pl.world.occlusion import OcclusionScore, elsewhere, hide
from mpanet_pl.world.parts import box_around
from mpanet_pl.world.people import populate, siblings_of
from mpanet_pl.world.shot import Shot

LOOK = Look(seed=3, height=64, width=32)
PEOPLE = populate(3, [range(1, 49)], siblings=1.0)  # each nuance tells two pairs apart
NOWHERE = [math.nan] * 4


@pytest.fixture(scope="module")
def drawn():
    """Pictures (N, 3, H, W) of siblings under one visible and one infrared camera, and what is known of them."""
    cameras = [(1, False), (3, True)]
    shots = [Shot("", person, *camera, number) for person in PEOPLE for camera in cameras for number in range(1, 3)]
    siblings, pictures, differences = siblings_of(PEOPLE), [], []
    for shot in shots:
        person = PEOPLE[shot.identity]
        inks = LOOK.inks(shot, person)
        pictures.append(torch.from_numpy(LOOK.picture(shot, person, inks)).permute(2, 0, 1))
        differences.append(torch.from_numpy(box_around(inks != LOOK.inks(shot, siblings[shot.identity]))))
    catalogue = Catalogue.from_rows([(str(n), s.identity, s.camera, s.infrared) for n, s in enumerate(shots)])
    family = torch.tensor([PEOPLE[shot.identity].siblings for shot in shots])
    differs = torch.tensor([list(NUANCES).index(PEOPLE[shot.identity].differs) for shot in shots])
    boxes = torch.full((len(shots), len(NUANCES), 4), math.nan)
    annotations = Annotations(tuple(NUANCES), boxes, family, differs, torch.stack(differences))
    return torch.stack(pictures).float(), catalogue, annotations, shots


def test_pictures_of_siblings_in_one_pose_are_equal_once_their_difference_is_hidden(drawn):
    pictures, _, annotations, shots = drawn
    siblings = siblings_of(PEOPLE)
    others = [LOOK.picture(s, siblings[s.identity], LOOK.inks(s, siblings[s.identity])) for s in shots]
    others = torch.from_numpy(np.stack(others)).permute(0, 3, 1, 2).float()
    hidden = [hide(images, annotations.differences) for images in (pictures, others)]
    apart = [(one - other).abs().amax(dim=(1, 2, 3)) for one, other in (hidden, (pictures, others))]
    assert (apart[1] > 30).float().mean() > 0.8  # glasses do not show from behind
    assert (apart[0] > 30).float().mean() < 0.05  # a blur reaches further than the pixel around the box


def test_who_sees_only_the_difference_falls_to_chance_and_keeps_it_elsewhere(drawn):
    pictures, catalogue, annotations, _ = drawn
    boxes, rows = annotations.differences, torch.arange(len(catalogue))

    def look(images):
        """An embedding that knows who it is wherever the box of the difference is not hidden, as of no picture else."""
        seen = (hide(images, boxes) != images).flatten(1).any(dim=1)
        return torch.where(seen[:, None], torch.eye(49)[catalogue.identities], 1.0)

    score = OcclusionScore(annotations, catalogue)
    for half in (rows[::2], rows[1::2]):  # in batches of any order
        score.update(look(hide(pictures, boxes))[half], look(hide(pictures, elsewhere(boxes)))[half], half)
    scores = score.compute()
    assert scores["siblings_hidden/mean"] == pytest.approx(50)
    assert scores["siblings_elsewhere/mean"] > 90
    assert set(scores) == {
        f"siblings_{where}/{name}" for where in ("hidden", "elsewhere") for name in (*NUANCES, "mean")
    }


def test_what_shows_nowhere_is_not_hidden():
    images = torch.ones(2, 3, 8, 4)
    boxes = torch.tensor([NOWHERE, [0.0, 0.5, 1.0, 1.0]])
    assert hide(images, boxes)[0].eq(1).all()
    assert hide(images, boxes)[1, 0, :, 0].tolist() == [1, 1, 1, 0, 0, 0, 0, 0]
    assert hide(images, elsewhere(boxes))[0].eq(1).all()


def test_elsewhere_is_as_large_inside_the_image_and_apart_where_there_is_room():
    top = torch.rand(200, generator=torch.Generator().manual_seed(0)) * 0.7
    boxes = torch.stack([torch.full_like(top, 0.3), top, torch.full_like(top, 0.6), top + 0.3], dim=1)
    boxes[0] = torch.tensor([0.1, 0.1, 0.9, 0.9])  # no room
    other = elsewhere(boxes)
    assert torch.allclose(other[:, 3] - other[:, 1], boxes[:, 3] - boxes[:, 1])
    assert torch.equal(other[:, [0, 2]], boxes[:, [0, 2]])
    assert other.min() >= 0
    assert other.max() <= 1 + 1e-6
    apart = (other[:, 1] >= boxes[:, 3] - 1e-6) | (other[:, 3] <= boxes[:, 1] + 1e-6)
    assert apart[1:].all()
