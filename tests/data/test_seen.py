"""Nobody is tested on whom the network saw, whatever the class that reads them is called."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from mpanet_pl.data import Catalogue, Folder, RegDB
from mpanet_pl.data.catalogue import Splits
from mpanet_pl.data.faults import Faults
from mpanet_pl.data.seen import Seen, check_unseen
from mpanet_pl.errors import UserError


class Mine(RegDB):
    """A class around RegDB that says nothing of its people."""

    config = ""

    def list_splits(self, faults: Faults) -> Splits:
        return super().list_splits(faults)


def files(dataset: RegDB | Folder, catalogue: Catalogue) -> list[Path]:
    return [dataset.root / path for path in catalogue.paths]


def seen_by_training_on(dataset: RegDB) -> Seen:
    train = dataset.read().train
    seen = Seen.of(train, files(dataset, train))
    return Seen.read(seen.plain())


@pytest.mark.parametrize("trained", [RegDB, Mine])
@pytest.mark.parametrize("tested", [RegDB, Mine])
def test_another_trial_is_refused_through_any_class(regdb: Path, trained: type, tested: type, tmp_path: Path) -> None:
    copy = shutil.copytree(regdb, tmp_path / "copy")
    seen = seen_by_training_on(trained(regdb, trial=1))
    own, other = tested(copy, trial=1).read().test, tested(copy, trial=2).read().test
    assert check_unseen(seen, own, files(tested(copy), own), "best.ckpt", allowed=False) == []
    both = {*RegDB(regdb, trial=1).read().train.sources} & {*RegDB(regdb, trial=2).read().test.sources}
    assert both
    by_name = trained is tested is RegDB
    count = len(both) if by_name else 4 * len(both)  # two images of each modality
    with pytest.raises(UserError, match=f"best.ckpt was trained on {count} of the test people or images: ") as told:
        check_unseen(seen, other, files(tested(copy), other), "best.ckpt", allowed=False)
    assert (sorted(both)[0] in str(told.value)) == by_name
    (note,) = check_unseen(seen, other, files(tested(copy), other), "best.ckpt", allowed=True)
    assert note == f"allow_trained_people: {count} of the test people or images were trained on"


def test_somebody_of_a_dataset_may_be_anybody(regdb: Path) -> None:
    seen = seen_by_training_on(RegDB(regdb))
    unknown = replace(Catalogue.from_rows([("a.jpg", 1, 1, False)]), sources=("regdb/?",))
    assert seen.among(unknown, []) == ["regdb/?"]


def test_a_checkpoint_that_does_not_say_is_believed() -> None:
    assert Seen.read(None) is None
    assert check_unseen(None, Catalogue.from_rows([]), [], "old.ckpt", allowed=False) == []
