"""Every test set of several scores what it scores alone."""

from pathlib import Path

import pytest
import torch

from mpanet_pl.data import LLCM, SYSU, Joint, RegDB
from mpanet_pl.evaluation import JointProtocol, evaluate, protocol_of


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
