import numpy as np
import torch
from scipy.stats import kstest

from mpanet_pl.data.randomness import GOLDEN, uniforms

WORD = 1 << 64


def mixed(x: int) -> int:
    """splitmix64's finaliser, in Python's unbounded integers."""
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % WORD
    x = (x ^ x >> 27) * 0x94D049BB133111EB % WORD
    return x ^ x >> 31


def test_products_wrap_as_in_unsigned_arithmetic():
    seed, epoch, index, count = 2**63 - 5, 139, 34_166, 5
    image = mixed((mixed((mixed(seed) + epoch) % WORD) + index) % WORD)
    truth = [(mixed((image + column * GOLDEN) % WORD) >> 11) * 2.0**-53 for column in range(1, count + 1)]
    assert uniforms(seed, epoch, torch.tensor([index]), count)[0].tolist() == truth


def test_columns_rows_and_epochs_are_uniform_and_independent():
    drawn = torch.stack([uniforms(seed, epoch, torch.arange(500), 8) for seed in (1, 2) for epoch in (0, 1)], 1)
    columns = drawn.view(500, -1).T.numpy()  # (2 * 2 * 8, 500)
    assert all(kstest(column, "uniform").pvalue > 1e-4 for column in columns)
    correlation = np.corrcoef(columns) - np.eye(len(columns))
    assert abs(correlation).max() < 4.5 / np.sqrt(500)
