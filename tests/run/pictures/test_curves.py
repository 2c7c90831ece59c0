import csv

import pytest
import torch
from PIL import Image

from mpanet_pl.evaluation.gallery_sizes import Trade
from mpanet_pl.evaluation.outcomes import Outcomes
from mpanet_pl.evaluation.scoring import Scores
from mpanet_pl.evaluation.verification import Verification
from mpanet_pl.run.pictures import curves
from mpanet_pl.run.pictures.curves import draw_cmc, draw_curves, draw_roc, draw_trades, read_epochs
from mpanet_pl.run.pictures.diagram import spread

ROWS = [
    {"epoch": 1, "step": 10, "train/identity": 6.0, "train/mutual": 0.0, "train/total": 6.0, "train/lr": 1e-3},
    {"epoch": 1, "step": 20, "train/identity": 4.0, "train/mutual": 0.1, "train/total": 5.0, "train/lr": 1e-3},
    {"epoch": 1, "step": 20, "val/all/single/r1": 30.0, "val/all/single/mAP": 25.0, "val/monitor": 30.0},
    {"epoch": 2, "step": 30, "train/identity": 2.0, "train/mutual": 0.2, "train/total": 3.0, "train/lr": 1e-4},
    {"epoch": 2, "step": 40, "val/all/single/r1": 40.0, "val/all/single/mAP": 35.0, "val/monitor": 40.0},
]


def write(path, rows):
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_an_epochs_rows_are_averaged_and_blanks_skipped(tmp_path):
    epochs = read_epochs(write(tmp_path / "metrics.csv", ROWS))
    assert epochs["train/identity"] == ([1, 2], [5.0, 2.0])
    assert epochs["val/all/single/r1"] == ([1, 2], [30.0, 40.0])
    assert "step" not in epochs


@pytest.mark.parametrize("wanted", ["", "train", "val", "train/lr"])
def test_curves_show_what_was_logged(tmp_path, wanted):
    rows = [{k: v for k, v in row.items() if k in ("epoch", "step") or k.startswith(wanted)} for row in ROWS]
    draw_curves(write(tmp_path / "metrics.csv", rows), tmp_path / "curves.png")
    panels = {"": 3, "train": 2, "val": 1, "train/lr": 1}[wanted]
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.width == pytest.approx(150 * (1 + 3.6 * panels), abs=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.png", "metrics.csv"]


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are not saved."""
    figures = []
    monkeypatch.setattr(curves, "save", lambda figure, path: figures.append(figure))
    return figures


def test_losses_and_rates_are_logarithmic_and_scores_percent(tmp_path, drawn):
    draw_curves(write(tmp_path / "metrics.csv", ROWS), tmp_path / "curves.png")
    assert [axes.get_yscale() for axes in drawn[0].axes] == ["log", "linear", "log"]
    assert drawn[0].axes[1].get_ylim() == (0, 100)


def test_a_roc_curve_goes_from_one_wrong_pair_in_ten_thousand_to_all(drawn):
    same, different = torch.linspace(0.4, 1, 50), torch.linspace(0, 0.6, 40)
    pairs = Verification.of(same, different)
    draw_roc({"one": pairs, "other_way": pairs}, "roc.png")
    (axes,) = drawn[0].axes
    rates, accepted = (list(axes.lines[1].get_data()[side]) for side in (0, 1))
    assert (rates[0], rates[-1], accepted[-1]) == pytest.approx((0.01, 100, 100))
    assert accepted == sorted(accepted) == pytest.approx([100 * pairs.at(rate / 100) for rate in rates])
    assert (axes.get_xscale(), axes.get_ylim()) == ("log", (0, 100))
    assert axes.lines[1].get_label().startswith("other way, ")


def test_open_set_trades_have_a_panel_a_setting_a_line_a_size(drawn):
    sizes = {2: Trade([0.0, 0.5, 1.0], [1.0, 0.4, 0.1]), 9: Trade([0.0, 1.0], [1.0, 0.2])}
    draw_trades({"nobody": {}}, "det.png")
    assert drawn == []
    draw_trades({"one": sizes, "nobody": {}, "other": sizes}, "det.png")
    draw_trades({"one": sizes}, "det.png")
    assert [[line.get_label() for line in axes.lines] for axes in drawn[0].axes] == [["2 enrolled", "9 enrolled"]] * 2
    assert list(drawn[0].axes[0].lines[0].get_ydata()) == pytest.approx([100, 40, 10])
    assert (drawn[0].axes[0].get_xscale(), drawn[0].axes[0].get_ylim()) == ("log", (0, 100))
    for figure in drawn:
        width, height = figure.get_size_inches() / (len(figure.axes), 1)
        assert 1 <= width / height < 1.25, "panels are about as wide as high, however many"


def test_a_run_of_one_epoch_has_curves_too(tmp_path):
    draw_curves(write(tmp_path / "metrics.csv", ROWS[:3]), tmp_path / "curves.png")


def test_a_run_too_short_to_log_has_no_curves(tmp_path):
    draw_curves(write(tmp_path / "metrics.csv", [{"epoch": 1, "step": 10}]), tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()


@pytest.mark.parametrize("ranks", [1, 12, 300])
def test_cmc_of_galleries_of_any_size(tmp_path, ranks):
    curve = torch.linspace(0.6, 1, ranks)[None]
    one, other = (Scores(curve - less, torch.ones(1), torch.ones(1), "made up") for less in (0, 0.05))
    draw_cmc({"visible_to_thermal": one, "thermal_to_visible": other}, tmp_path / "cmc.png")
    with Image.open(tmp_path / "cmc.png") as picture:
        picture.load()


def test_bars_of_the_cmc_are_the_intervals(tmp_path, drawn):
    people = torch.arange(30)
    first = (people % 7 * 2 + 1)[None]  # places 1 … 13
    share = torch.full((1, 30), 0.5, dtype=torch.float64)
    scores = Scores.of(Outcomes(people, people, first, share, share), "made up")
    draw_cmc({"one": scores, "other": scores}, tmp_path / "cmc.png")
    bars = [bar for lines in drawn[0].axes[0].collections for bar in lines.get_segments()]
    assert [bar[:, 1].tolist() for bar in bars] == [list(scores.ci[name]) for name in ("r1", "r5", "r10", "r20")] * 2
    assert [round(bar[0, 0]) for bar in bars] == [1, 5, 10, 20] * 2
    assert bars[0][0, 0] != bars[4][0, 0], "one above the other would hide it"
    assert drawn[0].axes[0].get_xticks().tolist() == [1, 5, 10, 15, 20]
    lines = drawn[0].axes[0].lines
    assert [line.get_xdata()[-1] for line in lines] == [20, 20], "the curve reaches 100 at 13 and stays there"
    assert lines[0].get_marker() != lines[1].get_marker()


def test_labels_keep_their_order_and_distance():
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        wanted = torch.rand(8, generator=generator)
        placed = torch.tensor(spread(wanted.tolist(), gap=0.1))
        assert placed.argsort().equal(wanted.argsort())
        assert placed.sort().values.diff().min() > 0.0999
        assert placed.mean().item() == pytest.approx(wanted.mean().item(), abs=1e-5)
    assert spread([0.9, 0.1], gap=0.1) == [0.9, 0.1]
