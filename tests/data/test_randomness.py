import numpy as np
import pytest
import torch
from scipy import stats
from scipy.stats import kstest

from mpanet_pl.data.randomness import GOLDEN, betas, image_keys, uniforms

WORD = 1 << 64


def mixed(x: int) -> int:
    """splitmix64's finaliser, in Python's unbounded integers."""
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % WORD
    x = (x ^ x >> 27) * 0x94D049BB133111EB % WORD
    return x ^ x >> 31


def test_products_wrap_as_in_unsigned_arithmetic():
    seed, epoch, index, occurrence, view, count, purpose = 2**63 - 5, 139, 34_166, 3, 1, 5, 7
    image = mixed(seed)
    for number in (epoch, index, occurrence, view):
        image = mixed((image + number) % WORD)
    columns = [column + (purpose << 32) for column in range(1, count + 1)]
    truth = [(mixed((image + column * GOLDEN) % WORD) >> 11) * 2.0**-53 for column in columns]
    keys = image_keys(seed, epoch, torch.tensor([index]), torch.tensor([occurrence]), view)
    assert uniforms(keys, count, purpose)[0].tolist() == truth


def test_no_occurrence_is_the_first():
    index = torch.arange(9)
    assert torch.equal(image_keys(1, 2, index), image_keys(1, 2, index, torch.zeros_like(index)))


@pytest.mark.parametrize("beta", [0.3, 0.5, 1.0])
def test_betas_are_betas(beta):
    drawn = betas(image_keys(1, 0, torch.arange(3000)), 2, beta, purpose=3)
    for column in drawn.T.numpy():
        assert kstest(column, stats.beta(beta, beta).cdf).pvalue > 1e-3
    assert abs(np.corrcoef(drawn.T)[0, 1]) < 0.08


def test_columns_rows_epochs_occurrences_views_and_purposes_are_uniform_and_independent():
    drawn = torch.stack(
        [
            uniforms(image_keys(seed, epoch, torch.arange(500), torch.full((500,), times), view), 4, purpose)
            for seed in (1, 2)
            for epoch, times, view, purpose in ((0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1))
        ],
        1,
    )
    columns = drawn.view(500, -1).T.numpy()  # (2 * 5 * 4, 500)
    assert all(kstest(column, "uniform").pvalue > 1e-4 for column in columns)
    correlation = np.corrcoef(columns) - np.eye(len(columns))
    assert abs(correlation).max() < 4.5 / np.sqrt(500)


def test_numbers_are_those_of_splitmix64():
    """In whole numbers, from the definition: a run continued by a later release draws what it would have drawn."""

    def mix(x: int) -> int:
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
        return x ^ (x >> 31)

    seed, epoch, row, again, view, purpose = 3, 2, 7, 1, 1, 16
    key = mix((mix((mix((mix(mix(seed) + epoch) + row) % 2**64) + again) % 2**64) + view) % 2**64)
    expected = [
        (mix((key + (column + (purpose << 32)) * 0x9E3779B97F4A7C15) % 2**64) >> 11) / 2**53 for column in (1, 2, 3)
    ]
    keys = image_keys(seed, epoch, torch.tensor([row]), torch.tensor([again]), view)
    assert uniforms(keys, 3, purpose)[0].tolist() == expected
