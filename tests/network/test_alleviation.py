import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mpanet_pl.network import alleviation as room
from mpanet_pl.network.alleviation import Alleviation, _Moments, _ScaleAndShift


def by_definition(alleviation: Alleviation, features: Tensor) -> Tensor:
    pooled = F.adaptive_avg_pool2d(features, 1)
    gate = torch.sigmoid(alleviation.excite(torch.relu(alleviation.squeeze(pooled))))
    return gate * features + (1 - gate) * F.instance_norm(features)


@pytest.fixture
def alleviation() -> Alleviation:
    torch.manual_seed(0)
    return Alleviation(32).double()


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_values_and_gradients_are_those_of_the_definition(
    alleviation: Alleviation, memory_format: torch.memory_format
) -> None:
    features = torch.randn(3, 32, 5, 4, dtype=torch.float64).to(memory_format=memory_format).requires_grad_()
    direction = torch.randn_like(features)
    inputs = [features, alleviation.squeeze.weight, alleviation.excite.weight]

    results = [layer(features) for layer in (alleviation, lambda x: by_definition(alleviation, x))]
    torch.testing.assert_close(*results)
    gradients = [torch.autograd.grad((result * direction).sum(), inputs) for result in results]
    torch.testing.assert_close(*gradients)


def test_gradient_is_that_of_finite_differences(alleviation: Alleviation) -> None:
    features = torch.randn(2, 32, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(alleviation, features)


def test_another_style_of_an_image_vanishes_where_the_gate_is_closed(alleviation: Alleviation) -> None:
    """Contrast and brightness of a channel are what instance normalisation takes out."""
    alleviation.squeeze.weight.data.fill_(1)
    alleviation.excite.weight.data.fill_(-100)  # the gate is 0 for every image
    features = torch.rand(2, 32, 5, 4, dtype=torch.float64)
    torch.testing.assert_close(alleviation(3 * features + 2), alleviation(features), rtol=0, atol=1e-3)


def test_layout_is_kept(alleviation: Alleviation) -> None:
    features = torch.randn(2, 32, 5, 4, dtype=torch.float64).to(memory_format=torch.channels_last).requires_grad_()
    result = alleviation(features)
    result.backward(torch.ones_like(result))
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert features.grad is not None
    assert features.grad.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_statistics_do_not_lose_digits_in_half_precision(alleviation: Alleviation, half: torch.dtype) -> None:
    features = (torch.randn(2, 32, 16, 8).relu() * 100).to(half)  # squares beyond float16's range
    with torch.autocast("cpu", half):
        result = alleviation.float()(features)
    assert result.dtype == half
    expected = by_definition(alleviation.double(), features.double())
    torch.testing.assert_close(result.double(), expected, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("images", [0, 1, 5])
def test_images_widened_a_few_at_a_time_give_what_all_at_once_do(
    alleviation: Alleviation, images: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = torch.randn(images, 32, 4, 3, dtype=torch.bfloat16)
    direction, results, parts = torch.randn_like(features), [], []
    widened = torch.Tensor.split
    monkeypatch.setattr(torch.Tensor, "split", lambda *of: parts.append(widened(*of)) or parts[-1])
    for at_once in (5, 2):
        monkeypatch.setattr(room, "WIDENED", at_once * features.shape[1:].numel())
        seen = features.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            result = alleviation.float()(seen)
        results.append((result, *torch.autograd.grad((result * direction).sum(), seen)))
    torch.testing.assert_close(*results, rtol=0, atol=0)
    assert [len(one) for one in parts] == [max(1, -(-images // 5))] * 3 + [max(1, -(-images // 2))] * 3


def test_a_constant_channel_stays_finite(alleviation: Alleviation) -> None:
    features = torch.ones(2, 32, 5, 4, dtype=torch.float64, requires_grad=True)
    alleviation(features).sum().backward()
    assert features.grad is not None
    assert features.grad.isfinite().all()


def test_it_begins_with_kaiming_weights_by_fan_out() -> None:
    alleviation = Alleviation(512)
    assert alleviation.squeeze.weight.std().item() == pytest.approx((2 / 32) ** 0.5, rel=0.05)
    assert alleviation.excite.weight.std().item() == pytest.approx((2 / 512) ** 0.5, rel=0.05)


def test_plain_operations_where_no_gradient_is_wanted(
    alleviation: Alleviation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What exporters understand; with the same result."""
    features = torch.randn(2, 32, 4, 3, dtype=torch.float64)
    trained = alleviation(features).detach()

    def refused(*_: object) -> None:
        raise AssertionError("a function with a gradient of its own")

    for function in (_Moments, _ScaleAndShift):
        monkeypatch.setattr(function, "apply", refused)
    with torch.no_grad():
        torch.testing.assert_close(alleviation(features), trained)
