import pytest
import torch
from torch.nn.functional import affine_grid, grid_sample

from mpanet_pl.losses.motion import draw_motions, move


@pytest.mark.parametrize(("continued", "padding"), [(False, "zeros"), (True, "border")])
def test_moving_is_bilinear_sampling(continued: bool, padding: str) -> None:
    """Against torch's, which has no deterministic gradient on a GPU."""
    torch.manual_seed(0)
    motions, pictures = draw_motions(6, torch.device("cpu")).double(), torch.rand(6, 3, 12, 7, dtype=torch.float64)
    affine = torch.zeros(6, 2, 3, dtype=torch.float64)
    affine[:, 0, 0], affine[:, 0, 2] = motions[:, 1].T  # across comes first there
    affine[:, 1, 1], affine[:, 1, 2] = motions[:, 0].T
    grid = affine_grid(affine, [6, 3, 12, 7], align_corners=False)
    expected = grid_sample(pictures, grid, padding_mode=padding, align_corners=False)
    torch.testing.assert_close(move(pictures, motions, continued=continued), expected)


def test_motions_keep_their_bounds_and_half_of_them_mirror() -> None:
    torch.manual_seed(0)
    motions = draw_motions(4000, torch.device("cpu"))
    scale, shift = 1 / motions[:, :, 0], motions[:, :, 1] / 2  # of the image's side
    torch.testing.assert_close(scale[:, 0], scale[:, 1].abs())
    assert 0.8 <= scale[:, 0].min() < 0.81
    assert 1.19 < scale[:, 0].max() <= 1.2
    assert 0.14 < shift.max() <= 0.15
    assert -0.15 <= shift.min() < -0.14
    assert 0.45 < (scale[:, 1] < 0).float().mean() < 0.55


def test_no_motion_leaves_a_picture() -> None:
    pictures = torch.rand(2, 1, 5, 3)
    torch.testing.assert_close(move(pictures, torch.tensor([[1.0, 0.0], [1.0, 0.0]]).expand(2, 2, 2)), pictures)
