"""Each tracklet protocol against a loop over its definition."""

import numpy as np
import pytest
import torch

from mpanet_pl.data.catalogue import Catalogue
from mpanet_pl.errors import UserError
from mpanet_pl.evaluation import BUPTCampusProtocol, MPReIDProtocol, ORBenchProtocol, VCMProtocol, evaluate


def made(seed: int, count: int = 150) -> tuple[torch.Tensor, Catalogue]:
    rng = np.random.default_rng(seed)
    rows = [(f"{n:03}", int(rng.integers(6)), int(rng.integers(1, 4)), bool(rng.integers(2))) for n in range(count)]
    catalogue = Catalogue.from_rows(
        rows, tracks=rng.permutation(count).tolist(), queries=(rng.random(count) < 0.5).tolist()
    )
    return torch.from_numpy(rng.normal(size=(count, 5))), catalogue


def slow(embeddings: torch.Tensor, catalogue: Catalogue, queries: list[int], gallery: list[int], rule: bool) -> dict:
    unit = (embeddings / embeddings.norm(dim=1, keepdim=True)).numpy()
    who, where = catalogue.identities.tolist(), catalogue.cameras.tolist()
    first, ap, inp = [], [], []
    for q in queries:
        kept = [g for g in gallery if not (rule and who[g] == who[q] and where[g] == where[q])]
        order = sorted(kept, key=lambda g: -float(unit[q] @ unit[g]))
        hits = [place for place, g in enumerate(order, start=1) if who[g] == who[q]]
        if hits:
            first.append(hits[0] == 1)
            ap.append(np.mean([n / place for n, place in enumerate(hits, start=1)]))
            inp.append(len(hits) / hits[-1])
    return {"r1": 100 * np.mean(first), "mAP": 100 * np.mean(ap), "mINP": 100 * np.mean(inp)}


def rows(mask: torch.Tensor) -> list[int]:
    return mask.nonzero().flatten().tolist()


def check(scores: dict, setting: str, expected: dict) -> None:
    for name, value in expected.items():
        assert getattr(scores[setting], name) == pytest.approx(value), (setting, name)


def test_vcm() -> None:
    embeddings, catalogue = made(1)
    infrared, visible = rows(catalogue.infrared), rows(~catalogue.infrared)
    scores = evaluate(embeddings, catalogue, VCMProtocol())
    check(scores, "infrared_to_visible", slow(embeddings, catalogue, infrared, visible, rule=True))
    check(scores, "visible_to_infrared", slow(embeddings, catalogue, visible, infrared, rule=True))


@pytest.mark.parametrize("rules", ["official", "official_all", "m3"])
def test_buptcampus(rules: str) -> None:
    embeddings, catalogue = made(2, 400)

    def part(infrared: bool, asks: bool) -> list[int]:
        found = rows((catalogue.infrared == infrared) & (catalogue.queries == asks))
        found.sort(key=lambda row: int(catalogue.tracks[row]))
        if rules == "official" and not infrared:
            assert len(found) % 64
            found = found[: -(len(found) % 64)]
        return found

    scores = evaluate(embeddings, catalogue, BUPTCampusProtocol(rules))
    named = {False: "visible", True: "infrared"}
    for asking in (False, True):
        for asked in (False, True):
            setting = f"{named[asking]}_to_{named[asked]}"
            if asking == asked and rules == "m3":
                assert setting not in scores
                continue
            expected = slow(embeddings, catalogue, part(asking, True), part(asked, False), rule=rules == "m3")
            check(scores, setting, expected)
    if rules != "m3":
        every = [part(False, asks) + part(True, asks) for asks in (True, False)]
        check(scores, "all_to_all", slow(embeddings, catalogue, *every, rule=False))
    assert f"({rules})" in scores["infrared_to_visible"].measured


def test_orbench_and_mp_reid() -> None:
    embeddings, catalogue = made(3)
    scores = evaluate(embeddings, catalogue, ORBenchProtocol())
    expected = slow(embeddings, catalogue, rows(catalogue.infrared), rows(~catalogue.infrared), rule=False)
    check(scores, "infrared_to_visible", expected)
    scores = evaluate(embeddings, catalogue, MPReIDProtocol("cctv_ir_to_uav_rgb"))
    expected = slow(embeddings, catalogue, rows(catalogue.queries), rows(~catalogue.queries), rule=False)
    check(scores, "cctv_ir_to_uav_rgb", expected)


def test_rules_that_nobody_has() -> None:
    with pytest.raises(UserError, match="rules must be one of official, official_all, m3, got 'mine'"):
        BUPTCampusProtocol("mine")
