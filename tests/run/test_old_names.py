"""What 0.1 wrote fits today's schema, its keys and classes translated."""

from pathlib import Path

from omegaconf import OmegaConf

from mpanet_pl.cli.conforming import conformed
from mpanet_pl.run.old_names import translated
from mpanet_pl.run.settings import plain

OLD = Path(__file__).parents[1] / "golden/config_0.1.yaml"  # composed by 0.1, as its runs keep it


def test_a_configuration_of_0_1_is_one_of_today() -> None:
    old = OmegaConf.load(OLD)
    now = conformed("train", OmegaConf.create(translated(plain(old))))
    assert now.run_dir == "runs/synthetic/2026-01-31_12-00-00"
    assert now.data.dataset._target_ == "mpanet_pl.world.Synthetic"
    assert now.model.network.patterns == 4
    assert now.trial is None
    assert now.trainer.check_val_every_n_epoch == old.validation.every


def test_the_draw_that_0_1_looked_for_is_the_datasets_own() -> None:
    def now(permutations: str | None) -> object:
        return translated({"protocol": {"permutations": permutations}})["protocol"]["permutations"]

    assert now("${existing:${data_dir}/exp/rand_perm_cam.mat}") == "auto"
    assert now("mine.mat") == "mine.mat"
    assert now(None) is None
