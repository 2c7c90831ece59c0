"""The dataset that docs/datasets.md shows is one."""

import re
import warnings
from pathlib import Path

from trees import draw_image

DOCS = Path(__file__).parents[2] / "docs"


def run(page: str) -> dict:
    """What a page's blocks leave."""
    names: dict = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice on a bare Trainer
        for block in re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL):
            exec(compile(block, page, "exec"), names)
    return names


def test_a_dataset_of_ones_own(tmp_path: Path) -> None:
    for person in (12, 14, 21, 23):
        for side in ("front", "back"):
            draw_image(tmp_path / f"{person:04d}_{side}_3.png", person, side == "back")
    splits = run("datasets.md")["Corridor"](tmp_path).read()
    assert splits.train.identities.unique().tolist() == [0, 1]
    assert splits.test.identities.unique().tolist() == [21, 23]
