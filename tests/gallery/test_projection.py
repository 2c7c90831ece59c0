from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from mpanet_pl.errors import UserError
from mpanet_pl.gallery.projection import Projection, learn


@pytest.mark.parametrize("count", [20, 60])  # fewer and more rows than columns
def test_principal_components_are_those_of_the_covariance(count: int) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = normalize(torch.randn(count, 40, generator=generator) * torch.linspace(3, 0.1, 40))
    covariance = torch.cov(rows.double().T)
    expected = torch.linalg.eigh(covariance).eigenvalues.flip(0)[:8]
    projection = learn(rows, 8)
    projected = (rows.double() - rows.double().mean(0)) @ projection.components.double()
    torch.testing.assert_close(torch.cov(projected.T), torch.diag(expected), rtol=1e-4, atol=1e-7)
    white = (rows.double() - rows.double().mean(0)) @ learn(rows, 8, whiten=True).components.double()
    torch.testing.assert_close(torch.cov(white.T), torch.eye(8, dtype=torch.float64), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(projection(rows).norm(dim=1), torch.ones(count))


def test_as_many_dimensions_as_there_are_keep_every_distance() -> None:
    rows = torch.randn(30, 10, generator=torch.Generator().manual_seed(1))
    projection = learn(rows, 10)
    kept = (rows - projection.mean) @ projection.components
    torch.testing.assert_close(torch.pdist(kept), torch.pdist(rows))


def test_it_is_read_back_the_same_and_damage_is_named(tmp_path: Path) -> None:
    projection = learn(torch.randn(9, 12, generator=torch.Generator().manual_seed(2)), 4)
    projection.save(tmp_path / "projection.npz")
    assert Projection.read(tmp_path / "projection.npz").digest == projection.digest
    (tmp_path / "projection.npz").write_bytes(b"half")
    with pytest.raises(UserError, match=r"projection\.npz is no projection"):
        Projection.read(tmp_path / "projection.npz")


def test_cosines_of_whole_and_small_vectors_are_translated_both_ways() -> None:
    rows = torch.randn(30, 12, generator=torch.Generator().manual_seed(3))
    projection = learn(rows, 4)
    assert projection.dimension == 4
    pairs = [normalize(rows), projection(rows)]
    largest = [float((pair @ pair.T).fill_diagonal_(-1).max()) for pair in pairs]
    assert projection.translated(float(projection.cosines[0, -1])) == projection.cosines[1, -1]
    np.testing.assert_allclose(projection.cosines[:, -1], largest, atol=1e-2)
    for cosine in (-0.2, 0.0, 0.3):
        there = projection.translated(cosine)
        assert projection.translated(there, back=True) == pytest.approx(cosine, abs=1e-6)
        reached = [
            float((pair @ pair.T >= bound).float().mean()) for pair, bound in zip(pairs, (cosine, there), strict=True)
        ]
        assert reached[0] == pytest.approx(reached[1], abs=0.01), "as many pairs reach it"
    for unknown in (projection, Projection(projection.mean, projection.components)):
        with pytest.raises(UserError, match="above all"):
            unknown.translated(0.999)


def test_more_than_the_training_embeddings_span_is_refused() -> None:
    with pytest.raises(UserError, match="1 to 8 can"):
        learn(torch.randn(9, 12), 9)
