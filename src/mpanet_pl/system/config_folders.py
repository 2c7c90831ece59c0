"""Where configuration files lie: `conf/` itself, a folder, or a package."""

from contextlib import suppress
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from mpanet_pl.errors import UserError


def config_folder() -> Path:
    """`mpanet_pl.conf`, which is `conf/` itself in a checkout."""
    return Path(str(files("mpanet_pl.conf")))


def folder_of(place: str) -> Path:
    """The folder of a path, of file://PATH or of pkg://PACKAGE."""
    if place.startswith("pkg://"):
        with suppress(ImportError):
            if (package := find_spec(place.removeprefix("pkg://"))) and package.submodule_search_locations:
                return Path(next(iter(package.submodule_search_locations)))
        raise UserError(f"There is no package {place} to search for configurations.")
    folder = Path(place.removeprefix("file://")).absolute()
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder} to search for configurations.")
    return folder
