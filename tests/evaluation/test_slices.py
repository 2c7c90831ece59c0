"""Parts of a test score as if they had been the test."""

import dataclasses

import pytest
import torch
from evaluation import made

from mpanet_pl.data.catalogue import Catalogue
from mpanet_pl.errors import UserError
from mpanet_pl.evaluation import FolderProtocol, LLCMProtocol, SYSUProtocol, evaluate
from mpanet_pl.evaluation.slices import FEW, RANGES, slices, table


def test_a_pair_of_cameras_scores_as_if_there_were_no_others() -> None:
    embeddings, catalogue = made.small(4)
    found = slices(embeddings, catalogue, FolderProtocol(), ["camera"])
    assert {one.name for one in found} >= {"3 → 1", "1 → 3"}
    for one in found:
        asked, kept = map(int, one.name.split(" → "))
        alone = (catalogue.cameras == asked) | (catalogue.cameras == kept)
        expected = evaluate(embeddings[alone], catalogue[alone], FolderProtocol())[one.setting]
        for name, values in expected.trials.items():
            assert one.scores.trials[name] == pytest.approx(values)


def test_no_camera_meets_one_that_its_protocol_ignores() -> None:
    embeddings, catalogue = made.small(4)
    names = {one.name for one in slices(embeddings, catalogue, SYSUProtocol(trials=2), ["camera"])}
    assert "3 → 1" in names
    assert "6 → 2" in names
    assert "3 → 2" not in names
    assert not any(name.startswith(("1", "2", "4", "5")) for name in names)


@pytest.mark.parametrize(
    "protocol",
    [SYSUProtocol(trials=2), FolderProtocol(), LLCMProtocol(trials=2)],
    ids=lambda protocol: type(protocol).__name__,
)
def test_numbers_of_true_matches_part_the_queries(protocol: SYSUProtocol) -> None:
    embeddings, catalogue = made.small(6)
    whole = evaluate(embeddings, catalogue, protocol)
    found = slices(embeddings, catalogue, protocol, ["gallery"], scores=whole)
    for setting, scores in whole.items():
        parts = [one.scores for one in found if one.setting == setting]
        queries = [row for part in parts for row in part.outcomes.queries.tolist()]
        assert sorted(queries) == sorted(scores.outcomes.queries.tolist())
        mean = sum(part.mAP * len(part.outcomes.queries) for part in parts) / len(queries)
        assert mean == pytest.approx(scores.mAP)


def test_pairs_that_do_not_meet_are_no_true_matches() -> None:
    """Counted one by one; with those that are ignored, queries would be in other parts."""
    (embeddings, catalogue), protocol = made.small(6), SYSUProtocol(trials=1)
    found = slices(embeddings, catalogue, protocol, ["gallery"])
    rows = {(one.setting, one.name): set(one.scores.outcomes.queries.tolist()) for one in found}
    who, moved = catalogue.identities.tolist(), 0
    for search in protocol.searches(catalogue):
        for setting, (gallery, *_) in search.galleries.items():
            apart = protocol.ignored(catalogue[search.queries], catalogue[gallery])
            assert apart is not None
            for place, query in enumerate(search.queries.tolist()):
                own = [who[image] == who[query] for image in gallery.tolist()]
                never = apart[place].tolist()
                count = sum(same and not ignored for same, ignored in zip(own, never, strict=True))
                for name, (least, end) in RANGES["gallery"].items():
                    assert (query in rows.get((setting, name), ())) == (least <= count < end)
                    moved += (least <= count < end) != (least <= sum(own) < end)
    assert moved, "nothing was ignored: this tests nothing"


def test_time_is_how_far_the_nearest_true_match_is() -> None:
    embeddings, catalogue = made.small(6)
    times = torch.rand(len(catalogue), generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3 * 86400
    times[::7] = torch.nan
    catalogue = dataclasses.replace(catalogue, times=times)
    protocol = LLCMProtocol(trials=1)
    found = slices(embeddings, catalogue, protocol, ["time"])
    rows = {(one.setting, one.name): set(one.scores.outcomes.queries.tolist()) for one in found}
    expected: dict[tuple[str, str], set[int]] = {}
    for search in protocol.searches(catalogue):
        for setting, (gallery, *_) in search.galleries.items():
            for query in search.queries.tolist():
                apart = [
                    abs(float(times[query] - times[image]))
                    for image in gallery.tolist()
                    if catalogue.identities[image] == catalogue.identities[query]
                ]
                apart = [seconds for seconds in apart if seconds == seconds]
                if apart:
                    spans = ("under a minute", "a minute to an hour", "an hour to a day", "a day or more")
                    name = spans[sum(min(apart) >= limit for limit in (60, 3600, 86400))]
                    expected.setdefault((setting, name), set()).add(query)
    assert rows == expected
    assert len({name for _, name in rows}) == 3


def test_labels_choose_the_queries_and_leave_the_gallery() -> None:
    embeddings, catalogue = made.small(6)
    night = catalogue.cameras == 6
    whole = evaluate(embeddings, catalogue, FolderProtocol())["infrared_to_visible"]
    found = slices(
        embeddings, catalogue, FolderProtocol(), ["light"], {"light": {"night": night, "never": night & ~night}}
    )
    assert [(one.name, one.setting) for one in found] == [("night", "infrared_to_visible")]
    rows = night[whole.outcomes.queries]
    assert found[0].scores.mAP == pytest.approx(100 * whole.outcomes.average_precision[0, rows].mean().item())


def test_small_parts_say_so_and_each_has_its_interval() -> None:
    rows = [
        (f"{modality}/{person}.png", person, camera, modality == "b")
        for person in range(FEW + 2)
        for camera, modality in ((1 if person else 3, "a"), (2, "b"))
    ]
    catalogue = Catalogue.from_rows(rows)
    embeddings = torch.randn(len(rows), 8, generator=torch.Generator().manual_seed(0))
    header, lines = table(slices(embeddings, catalogue, FolderProtocol(), ["camera"]))
    people = {line[0]: line[2] for line in lines}
    assert people["camera: 2 → 1"] == str(FEW + 1)
    assert people["camera: 2 → 3"] == "1 (few)"
    assert header[4:] == ["R1", "mAP", "mINP"]
    assert all("–" in cell for line in lines for cell in line[4:])


def test_an_unknown_kind_is_a_sentence() -> None:
    embeddings, catalogue = made.small(6)
    with pytest.raises(UserError, match="slices are camera, gallery of these images, got time, weather"):
        slices(embeddings, catalogue, FolderProtocol(), ["camera", "time", "weather"])
