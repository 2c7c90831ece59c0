from pathlib import Path

import pytest
from checkpoints import draw_crops
from trees import write

from mpanet_pl.errors import UserError
from mpanet_pl.gallery.image_table import list_images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return draw_crops(tmp_path / "crops", 4)


def test_a_folder_a_list_and_a_table_list_the_same(folder: Path, tmp_path: Path) -> None:
    names = sorted(path.name for path in folder.iterdir())
    write(tmp_path / "list.txt", "\n".join(f"crops/{name}" for name in names) + "\n\n")
    write(tmp_path / "table.csv", "camera,path\n" + "".join(f"0{name[0]},{folder}/{name}\n" for name in names))
    pattern = r"(?P<camera>\d+)_"
    expected = list_images(folder, name=pattern, root=folder)
    assert expected["path"].to_pylist() == names
    assert list_images(tmp_path / "list.txt", name=pattern, root=folder).equals(expected)
    assert list_images(tmp_path / "table.csv", root=folder).equals(expected)
    assert list_images(folder / names[0])["path"].to_pylist() == [str(folder / names[0])]


def test_columns_mean_what_they_say(tmp_path: Path) -> None:
    digits = "0" * 5000 + "9" * 5000  # Python's own int refuses so many
    assert list_images(write(tmp_path / "d.csv", f"path,camera\na.png,{digits}\n"))["camera"].to_pylist() == [
        "9" * 5000
    ]
    text = "path,time,modality,identity,door\na.png,2026-01-31T00:00:01,NIR,0007,front\nb.png,,,,back\n"
    table = list_images(write(tmp_path / "t.csv", text), group="door").to_pydict()
    assert table["time"] == [None, 1769817601.0]
    assert table["modality"] == [None, "infrared"]
    assert table["identity"] == [None, "7"]
    assert table["track"] == ["back", "front"]


@pytest.mark.parametrize(
    ("text", "keywords", "message"),
    [
        ("path\n", {}, "0 rows"),
        ("file\na.png\n", {}, "no path"),
        ("path,camera\na.png\n", {}, "no table of images"),
        ("path,camera\n,3\n", {}, "1 rows without a path"),
        ("path\na.png\na.png\n", {}, "listed twice"),
        ("path,modality\na.png,radar\n", {}, "got radar"),
        ("path,time\na.png,yesterday\n", {}, "yesterday"),
        ("path,time\na.png,nan\n", {}, "a finite number of seconds or an ISO date, got nan"),
        ("path,time\na.png,5\nb.png,-inf\n", {}, "a finite number of seconds or an ISO date, got -inf"),
        ("path\na.png\n", {"group": "track"}, "no column"),
        ("path,track\na.png,\n", {"group": "track"}, "have no track"),
        ("path\na.png\n", {"name": "("}, "no regular expression"),
        ("path\na.png\n", {"name": "a"}, "no named group"),
        ("path\na.png\n", {"name": r"(?P<camera>\d)z"}, "matches none"),
    ],
)
def test_mistakes_are_sentences(tmp_path: Path, text: str, keywords: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        list_images(write(tmp_path / "t.csv", text), **keywords)
    for missing in ("nowhere", "nowhere.csv"):
        with pytest.raises(UserError, match="does not exist"):
            list_images(tmp_path / missing)
