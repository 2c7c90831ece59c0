"""Whose tree a folder looks like: what to say of a folder that is one level off, or another dataset's."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

MARKS: dict[str, tuple[tuple[str, ...], ...]] = {  # of each dataset, what lies in its folder: one of these sets
    "sysu": (("exp", "cam1", "cam3"),),
    "regdb": (("idx", "Visible", "Thermal"),),
    "llcm": (("idx", "test_vis"), ("idx", "test_nir")),
    "mars": (("info/tracks_train_info.mat", "bbox_train"), ("tracks_train_info.mat", "bbox_train")),
    "mevid": (("mevid-v1-annotation-data",), ("track_train_info.txt", "bbox_train")),
    "vcm": (("info/track_train_info.txt",), *(("track_train_info.txt", place) for place in ("Train", "data", "0*"))),
    "buptcampus": (("data_paths.json", "query.txt"),),
    "orbench": (("train_annos.json", "test_gallery_and_queries.json"),),
    "mp_reid": (("exp_*/train_id.txt",), ("split/exp_*/train_id.txt",)),
    "folder": (("visible", "infrared"), ("train/visible", "train/infrared")),
}
LOOKED_AT = 200  # entries of a folder


def looks_like(folder: Path) -> str | None:
    """What `dataset=` calls it, if anything."""
    found = (name for name, sets in MARKS.items() if any(all(any(folder.glob(one)) for one in own) for own in sets))
    return next(found, None)


def hints(root: Path, dataset: str) -> Iterator[str]:
    """What a user may have meant by `root`, of which the `dataset` cannot be read."""
    own = looks_like(root)
    if own and own != dataset:
        yield f"{root} looks like another dataset: dataset={own}."
    if own or dataset not in MARKS:
        return
    near = [*_folders(root), *list(root.parents)[:2], *_folders(root.parent)]
    meant = next((folder for folder in near if looks_like(folder) == dataset), None)
    if meant:
        yield f"{meant} looks like it: data_dir={meant}."


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(one for one in islice(folder.iterdir(), LOOKED_AT) if one.is_dir())
    except OSError:
        return []
