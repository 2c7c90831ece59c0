"""Both modalities in one gallery, against the definition."""

import json

import pytest
import torch
from torch import Tensor

from mpanet_pl.data.catalogue import Catalogue
from mpanet_pl.errors import UserError
from mpanet_pl.evaluation import FolderProtocol, RegDBProtocol, RetrievalProtocol, SYSUProtocol
from mpanet_pl.evaluation.mixed import (
    BINS,
    KINDS,
    evaluate_mixed,
    mixed_tables,
    mixed_values,
    probe,
    similarities,
)


def people(gap: float, count: int = 12, seed: int = 0) -> tuple[Tensor, Catalogue]:
    """Each person twice under each of five cameras, 3 and 6 infrared; `gap` moves infrared embeddings one way."""
    draw = torch.Generator().manual_seed(seed)
    rows = [
        (f"c{camera}/{person}/{k}.jpg", person, camera, camera in (3, 6))
        for person in range(count)
        for camera in (1, 2, 3, 4, 6)
        for k in range(2)
    ]
    catalogue = Catalogue.from_rows(rows)
    embeddings = torch.randn(count, 16, generator=draw)[catalogue.identities]
    embeddings = embeddings + 0.7 * torch.randn(len(rows), 16, generator=draw)
    return (embeddings + gap * catalogue.infrared[:, None]).double(), catalogue


@pytest.mark.parametrize("protocol", [FolderProtocol(), RegDBProtocol(), SYSUProtocol(trials=2)])
@pytest.mark.parametrize("gap", [0.0, 0.5])
def test_who_is_overtaken_equals_the_definition(protocol: RetrievalProtocol, gap: float) -> None:
    embeddings, catalogue = people(gap)
    unit = embeddings / embeddings.norm(dim=1, keepdim=True)
    near = unit @ unit.T if protocol.normalise else -torch.cdist(embeddings, embeddings)
    who, apart = catalogue.identities.tolist(), never_meet(protocol, catalogue)
    found = evaluate_mixed(embeddings, catalogue, protocol).overtaken
    for search in protocol.searches(catalogue):
        for setting, trials in search.galleries.items():
            shares = []
            for gallery in trials:
                beaten = []
                for query in search.queries.tolist():
                    mine = [
                        float(near[query, image])
                        for image in gallery.tolist()
                        if who[image] == who[query] and not apart[query][image]
                    ]
                    strangers = [
                        float(near[query, image])
                        for image in range(len(who))
                        if who[image] != who[query] and catalogue.infrared[image] == catalogue.infrared[query]
                    ]
                    if mine:
                        beaten.append(max(strangers) >= max(mine))
                shares.append(sum(beaten) / len(beaten))
            assert found[setting] == pytest.approx(sum(shares) / len(shares))


def test_a_stranger_as_similar_as_the_best_true_match_overtakes_it() -> None:
    """Equal similarities count against the query, here as in every ranking; embeddings of ±1 have many."""
    rows = [(f"c{camera}/{person}.jpg", person, camera, camera == 3) for person in range(1, 4) for camera in (1, 3)]
    catalogue = Catalogue.from_rows(rows)
    one, other = [1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, -1.0]
    # Infrared 1: own visible 0.5, infrared strangers 0.5 (a tie) and -0.5. Infrared 2: own 1, strangers 0.5.
    embeddings = torch.tensor([other, one, other, other, [-1.0, 1, 1, -1], [-1.0, 1, -1, -1]]).double()
    embeddings[5] = torch.tensor([-1.0, -1.0, 1.0, -1.0])
    found = evaluate_mixed(embeddings, catalogue, FolderProtocol()).overtaken["infrared_to_visible"]
    unit = embeddings / 2
    infrared = unit[[1, 3, 5]]
    own = (infrared * unit[[0, 2, 4]]).sum(1)
    others = (infrared @ infrared.T).fill_diagonal_(-9).amax(1)
    assert (others == own).any()
    assert found == pytest.approx(float((others >= own).double().mean())) != float((others > own).double().mean())


@pytest.mark.parametrize("protocol", [FolderProtocol(), RegDBProtocol(), SYSUProtocol(trials=2)])
def test_both_modalities_in_one_gallery_are_ranked_as_a_loop_does(protocol: RetrievalProtocol) -> None:
    """R1 of the first image that may answer: of either modality, but not the query's person by the query's camera."""
    embeddings, catalogue = people(0.5)
    unit = embeddings / embeddings.norm(dim=1, keepdim=True)
    near = unit @ unit.T if protocol.normalise else -torch.cdist(embeddings, embeddings)
    who, cameras, infrared = (
        column.tolist() for column in (catalogue.identities, catalogue.cameras, catalogue.infrared)
    )
    apart = never_meet(protocol, catalogue)
    found = evaluate_mixed(embeddings, catalogue, protocol).retrieval
    for search in protocol.searches(catalogue):
        for setting, trials in search.galleries.items():
            right = []
            for gallery in trials:
                for query in search.queries.tolist():
                    rows = {row for row in range(len(who)) if infrared[row] == infrared[query]} | set(gallery.tolist())
                    rows = {
                        row
                        for row in rows
                        if not (who[row] == who[query] and cameras[row] == cameras[query]) and not apart[query][row]
                    }
                    if any(who[row] == who[query] for row in rows):
                        right.append(who[max(rows, key=lambda row: float(near[query, row]))] == who[query])
            assert found[setting].r1 == pytest.approx(100 * sum(right) / len(right))
            assert 0 < found[setting].mAP < 100


def never_meet(protocol: RetrievalProtocol, catalogue: Catalogue) -> list[list[bool]]:
    ignored = protocol.ignored(catalogue, catalogue)
    return [[False] * len(catalogue)] * len(catalogue) if ignored is None else ignored.tolist()


def test_similarities_are_counted_by_kind() -> None:
    embeddings, catalogue = people(0.3, count=4)
    unit = embeddings / embeddings.norm(dim=1, keepdim=True)
    expected = torch.zeros(len(KINDS), BINS, dtype=torch.float64)
    for one in range(len(unit)):
        for other in range(one):
            kind = 2 * int(catalogue.identities[one] != catalogue.identities[other])
            kind += int(catalogue.infrared[one] != catalogue.infrared[other])
            expected[kind, int((float(unit[one] @ unit[other]) + 1) / 2 * BINS)] += 1
    assert torch.equal(similarities(unit, catalogue), expected)


def test_the_probe_finds_a_gap_and_only_where_there_is_one() -> None:
    told = {}
    for gap in (0.0, 0.4, 3.0):
        embeddings, catalogue = people(gap, count=120)
        told[gap] = probe(torch.nn.functional.normalize(embeddings), catalogue)
    assert told[0.0] == pytest.approx(0.5, abs=0.06)
    assert told[0.0] + 0.1 < told[0.4] < told[3.0]
    assert told[3.0] > 0.97


def test_the_probe_sees_a_gap_between_columns_that_vary_together() -> None:
    """The mean over each modality does not tell it: neither column alone does."""
    _, catalogue = people(0.0, count=40)
    draw = torch.Generator().manual_seed(1)
    both = 10 * torch.randn(len(catalogue), 1, generator=draw)
    columns = torch.cat([both + catalogue.infrared[:, None], both], dim=1)
    columns += 0.05 * torch.randn(columns.shape, generator=draw)
    assert probe(columns.double(), catalogue) > 0.97


def test_the_neck_is_told_where_it_is_known() -> None:
    embeddings, catalogue = people(0.5)
    for descriptors in (None, embeddings + 3 * catalogue.infrared[:, None]):
        scores = evaluate_mixed(embeddings, catalogue, FolderProtocol(), descriptors=descriptors)
        values, (_, rows) = mixed_values(scores), mixed_tables(scores)[-1]
        assert json.loads(json.dumps(values)) == values
        assert ("probe_before_neck" in values) == (descriptors is not None)
        told = [scores.probe] if descriptors is None else [values["probe_before_neck"], scores.probe]
        assert [row[1] for row in rows] == [f"{100 * share:.2f}" for share in told]


def test_a_gap_lets_strangers_overtake_and_lowers_similarity_across() -> None:
    closed, apart = (evaluate_mixed(*people(gap, count=40), FolderProtocol()) for gap in (0.0, 2.0))
    for setting in closed.overtaken:
        assert apart.overtaken[setting] > closed.overtaken[setting] + 0.3
    assert apart.mean_similarity(1) < closed.mean_similarity(1) - 0.1


def test_one_person_is_too_few() -> None:
    with pytest.raises(UserError, match="too few people"):
        evaluate_mixed(*people(0.0, count=1), FolderProtocol())


def test_what_is_no_number_is_named() -> None:
    embeddings, catalogue = people(0.0)
    embeddings[3] = torch.nan
    with pytest.raises(UserError, match=r"1 of .* not finite numbers.*row 3 \("):
        evaluate_mixed(embeddings, catalogue, FolderProtocol())
