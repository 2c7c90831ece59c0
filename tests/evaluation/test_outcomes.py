"""What became of each query, in memory and on disk."""

from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation import made

from mpanet_pl.errors import UserError
from mpanet_pl.evaluation import Scores, SYSUProtocol, evaluate
from mpanet_pl.evaluation.digests import Met
from mpanet_pl.evaluation.outcomes import NAMES, Outcomes
from mpanet_pl.features.queries import read_queries, write_queries

TWO_TRIALS = Outcomes(
    queries=torch.tensor([4, 2, 7]),
    identities=torch.tensor([1, 1, 5]),
    first=torch.tensor([[1, 6, 0], [2, 1, 11]]),
    average_precision=torch.tensor([[1.0, 0.25, 0.0], [0.5, 1.0, 0.125]]).double(),
    inverse_negative_penalty=torch.tensor([[1.0, 0.125, 0.0], [0.5, 1.0, 0.0625]]).double(),
)
SCORES = Scores.of(TWO_TRIALS, "cosine similarity")


def test_a_query_adds_to_each_rank_from_its_place_on() -> None:
    values = TWO_TRIALS.values()
    assert values[0, :, :4].tolist() == [[1, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0]]
    assert values[1, 2].tolist() == [0, 0, 0, 1, 0.125, 0.0625]


def test_each_rank_holds_as_many_places_as_its_name_says() -> None:
    first, shares = torch.arange(30)[None], torch.zeros(1, 30).double()
    found = Outcomes(torch.arange(30), torch.arange(30), first, shares, shares).values().sum((0, 1))
    for name, count in zip(NAMES, found.tolist(), strict=True):
        assert name in ("mAP", "mINP", f"r{count:.0f}")


def test_the_outcomes_of_some_queries_are_theirs() -> None:
    some = TWO_TRIALS.of(TWO_TRIALS.identities == 1)
    assert some.queries.tolist() == [4, 2]
    assert some.first.tolist() == [[1, 6], [2, 1]]


def test_outcomes_name_the_queries_whatever_the_order_of_the_catalogue() -> None:
    embeddings, catalogue = made.small(2)
    order = torch.randperm(len(catalogue), generator=torch.Generator().manual_seed(0))
    one = evaluate(embeddings, catalogue, SYSUProtocol(trials=2))["all/single"].outcomes
    other = evaluate(embeddings[order], catalogue[order], SYSUProtocol(trials=2))["all/single"].outcomes
    assert one is not None
    assert other is not None
    assert [catalogue.paths[row] for row in one.queries] == [catalogue[order].paths[row] for row in other.queries]
    assert torch.equal(one.first, other.first)
    assert torch.equal(one.identities, other.identities)


def test_queries_are_written_and_read_back(tmp_path: Path) -> None:
    path, paths = tmp_path / "queries.npz", tuple(f"cam3/{n}.jpg" for n in range(8))
    write_queries(path, {"last": {"all/single": SCORES, "a b + re-ranked": SCORES}}, paths)
    rows, known, *_ = read_queries(path)
    assert known == paths
    assert list(rows["last"]) == ["all/single", "a b + re-ranked"]
    for written, read in zip(TWO_TRIALS, rows["last"]["all/single"], strict=True):
        assert torch.equal(written, read)
        assert written.dtype == read.dtype
    with np.load(path) as stored:
        assert {stored[f"0.{field}"].dtype.itemsize for field in Outcomes._fields} == {4}


def test_digests_are_written_and_read_back(tmp_path: Path) -> None:
    met = Met("queries", "people", ("first gallery", "second gallery"))
    scores = {"last": {"all/single": Scores.of(TWO_TRIALS, "cosine", met), "indoor/single": SCORES}}
    paths = [f"cam3/{n}.jpg" for n in range(8)]
    write_queries(tmp_path / "with.npz", scores, paths, networks={"last": "abc"}, images="images")
    found = read_queries(tmp_path / "with.npz")
    assert found.met == {"last": {"all/single": met}}
    assert (found.networks, found.images) == ({"last": "abc"}, "images")
    write_queries(tmp_path / "without.npz", {"last": {"all/single": SCORES}}, paths)
    assert read_queries(tmp_path / "without.npz")[2:] == ({}, {}, None)


def test_what_no_run_wrote_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"tested before 0\.2"):
        read_queries(tmp_path / "absent.npz")
    (tmp_path / "garbage.npz").write_bytes(b"garbage")
    with pytest.raises(UserError, match="cannot be read as the queries of a run"):
        read_queries(tmp_path / "garbage.npz")
    path = tmp_path / "queries.npz"
    write_queries(path, {"last": {"all/single": SCORES}}, [f"{n}.jpg" for n in range(7)])  # query 7 is the eighth
    with pytest.raises(UserError, match="names queries that it does not list"):
        read_queries(path)
    with np.load(path) as stored:
        np.savez(path, **{**stored, "0.first": stored["0.first"][:, :2]})
    with pytest.raises(UserError, match="different lengths"):
        read_queries(path)
