import pytest
import torch

from mpanet_pl.trunks.gem import GeneralisedMean


@pytest.mark.parametrize("half", [torch.float32, torch.float16])
def test_the_generalised_mean_is_that_of_the_definition(half: torch.dtype) -> None:
    torch.manual_seed(0)
    features, maps = (100 * torch.randn(2, 5, 4, 3)).to(half), torch.rand(2, 2, 4, 3).to(half)
    with torch.autocast("cpu", torch.float16, enabled=half != torch.float32):
        described = GeneralisedMean()(features, maps)
    cubes = features.double().clamp(min=1e-6) ** 3
    for image in range(2):
        expected = []
        for weight in [*maps[image].double(), torch.ones(4, 3)]:
            expected += [(weight * cube).mean() ** (1 / 3) for cube in cubes[image]]
        torch.testing.assert_close(described[image].double(), torch.stack(expected), rtol=1e-5, atol=1e-5)


def test_where_nothing_is_seen_the_generalised_mean_has_a_slope() -> None:
    features, pooling = torch.full((1, 2, 3, 3), -1.0, requires_grad=True), GeneralisedMean()
    pooling(features, torch.zeros(1, 1, 3, 3)).sum().backward()
    assert features.grad is not None
    assert features.grad.isfinite().all()
    assert pooling.p.grad is not None
    assert pooling.p.grad.isfinite()


def test_p_learns_by_the_gradient_of_the_definition() -> None:
    """Of both the power and the root: dropping p from either changes where p goes."""
    torch.manual_seed(0)
    features, maps = torch.rand(2, 3, 4, 3) + 0.1, torch.rand(2, 1, 4, 3)

    def total(p: torch.Tensor) -> torch.Tensor:
        powers = features.double() ** p
        return sum(((weight * powers).mean((2, 3)) ** (1 / p)).sum() for weight in (maps[:, :1].double(), 1.0))

    pooling = GeneralisedMean()
    pooling(features, maps).sum().backward()
    p, step = torch.tensor(3.0, dtype=torch.float64), 1e-5
    slope = (total(p + step) - total(p - step)) / (2 * step)
    torch.testing.assert_close(pooling.p.grad.double(), slope, rtol=1e-4, atol=1e-6)
