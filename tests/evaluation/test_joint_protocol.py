"""Every test set of several scores what it scores alone."""

from pathlib import Path

import pytest
import torch

from mpanet_pl.data import LLCM, SYSU, Catalogue, Joint, RegDB
from mpanet_pl.data.joint import CAMERAS, PEOPLE
from mpanet_pl.errors import UserError
from mpanet_pl.evaluation import FolderProtocol, JointProtocol, RegDBProtocol, evaluate, protocol_of
from mpanet_pl.evaluation.differences import compare
from mpanet_pl.evaluation.metric import ReIDMetric
from mpanet_pl.evaluation.mixed import evaluate_mixed
from mpanet_pl.evaluation.open_set import evaluate_open_set
from mpanet_pl.evaluation.outcomes import by_person
from mpanet_pl.evaluation.pairing import Answers, by_split
from mpanet_pl.evaluation.scoring import DISTANCES


@pytest.mark.parametrize("order", [["regdb", "sysu", "llcm"], ["llcm", "regdb", "sysu"]])
def test_each_dataset_scores_as_alone(sysu: Path, regdb: Path, llcm: Path, order: list[str]) -> None:
    members = {"sysu": SYSU(sysu), "regdb": RegDB(regdb), "llcm": LLCM(llcm)}
    train_on = {"regdb": "sysu", "llcm": "regdb"}[order[0]]
    joint = Joint(members=members, train_on=[train_on], test_on=order)
    catalogue = joint.read().test
    embeddings = torch.randn(len(catalogue), 8, generator=torch.Generator().manual_seed(1)) + 3
    together = evaluate(embeddings, catalogue, protocol_of(joint))
    row = {path: number for number, path in enumerate(catalogue.paths)}
    settings = set()
    for name, member in members.items():
        test = member.read().test
        own = embeddings[[row[f"{name}/{path}"] for path in test.paths]]
        for setting, scores in evaluate(own, test, protocol_of(member)).items():
            for score, trials in scores.trials.items():
                assert together[f"{name}/{setting}"].trials[score] == pytest.approx(trials), (setting, score)
            assert together[f"{name}/{setting}"].measured == scores.measured
            settings.add(f"{name}/{setting}")
    assert settings == together.keys()


def test_networks_trained_on_other_datasets_are_compared(sysu: Path, regdb: Path) -> None:
    """A person's number depends on the datasets that are joined, and still it is the same person."""
    members, made = {"sysu": SYSU(sysu), "regdb": RegDB(regdb)}, torch.Generator().manual_seed(1)
    sides = []
    for test_on in (["sysu", "regdb"], ["regdb", "sysu"]):
        joint = Joint(members=members, train_on=[], test_on=test_on)
        catalogue = joint.read().test
        found = evaluate(torch.randn(len(catalogue), 8, generator=made), catalogue, protocol_of(joint))
        one = found["sysu/all/single"]
        sides.append(Answers(one.outcomes, catalogue.paths, met=one.met))
    ours, theirs = (outcomes.identities for (outcomes,) in by_split(*([side] for side in sides))[0].sides)
    assert torch.equal(ours, theirs)
    mean = [100 * by_person(side.outcomes).sums.sum(0) for side in sides]
    assert torch.allclose(compare(*([side] for side in sides)).mean, mean[1] - mean[0])
    others = Answers(sides[1].outcomes, sides[1].paths, met=sides[1].met._replace(people="others"))
    with pytest.raises(UserError, match="show other people"):
        by_split([sides[0]], [others])


def test_what_else_is_measured_is_so_by_each_dataset_s_own_rules() -> None:
    """RegDB ranks by distances, folders by cosines: far from the origin the two differ."""
    members = {"regdb": RegDBProtocol(), "folder": FolderProtocol()}
    protocol = JointProtocol(members, {name: place for place, name in enumerate(members, start=1)})
    rows = [
        (f"{name}/{person:02d}_{shot}", place * PEOPLE + person, place * CAMERAS + 1 + shot % 2, shot % 2 == 1)
        for place, name in enumerate(members, start=1)
        for person in range(24)
        for shot in range(4)
    ]
    catalogue = Catalogue.from_rows(rows)
    embeddings = torch.randn(len(rows), 8, generator=torch.Generator().manual_seed(1)) * 3 + 3
    together = evaluate_mixed(embeddings, catalogue, protocol)
    opened = evaluate_open_set(embeddings, catalogue, protocol, draws=2)
    for name, member in members.items():
        chosen = torch.tensor([path.startswith(name) for path in catalogue.paths])
        alone = evaluate_mixed(embeddings[chosen], catalogue[chosen], member)
        for setting, share in alone.overtaken.items():
            assert together.overtaken[f"{name}/{setting}"] == pytest.approx(share)
            assert together.retrieval[f"{name}/{setting}"].mAP == pytest.approx(alone.retrieval[setting].mAP)
            how = opened[f"{name}/{setting}"].measured
            assert how.startswith(f"open set: {DISTANCES[member.similarity]}; ")
            assert how.endswith(f"; {type(member).__name__} version 1")
        metric = ReIDMetric(catalogue, protocol)
        metric.update(embeddings[chosen], chosen.nonzero().flatten())
        for scores in metric.scores(partial=True).values():
            assert ", of which 96 of 192 test images were seen; " in scores.measured


def test_those_of_two_datasets_never_meet(sysu: Path, llcm: Path) -> None:
    joint = Joint(members={"sysu": SYSU(sysu), "llcm": LLCM(llcm)}, train_on=["sysu"], test_on=["sysu", "llcm"])
    catalogue = joint.read().test
    ignored = JointProtocol.of(joint).ignored(catalogue, catalogue)
    names = [path.partition("/")[0] for path in catalogue.paths]
    alone = {name: protocol_of(member) for name, member in joint.members.items()}
    for name, member in joint.members.items():
        test = member.read().test
        rows = torch.tensor([row for row, one in enumerate(names) if one == name])
        assert torch.equal(ignored[rows[:, None], rows], alone[name].ignored(test, test))
        others = torch.tensor([row for row, one in enumerate(names) if one != name])
        assert ignored[rows[:, None], others].all()


def test_it_is_for_joint_datasets_alone(sysu: Path) -> None:
    with pytest.raises(UserError, match="dataset=joint"):
        JointProtocol.of(SYSU(sysu))
