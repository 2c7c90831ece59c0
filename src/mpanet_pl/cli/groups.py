"""The groups of a command's configuration, and their choices: files of `conf/`, of the user's folders, of packages."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override

from mpanet_pl.cli.overrides import runs
from mpanet_pl.system.config_folders import config_folder, folder_of
from mpanet_pl.system.keys import nearest


class Groups:
    """`chosen` is each group of a command with the choice that stands by default; `own` are the user's folders.

    `installed` are those that search path plugins of installed packages name. Hydra must be initialised.
    """

    def __init__(self, name: str, config_dir: str | None, overrides: Sequence[Override]) -> None:
        searched = [override.value() for override in overrides if override.key_or_group == "hydra.searchpath"]
        named = [str(folder) for value in searched if isinstance(value, list) for folder in value]
        self.own = [folder_of(place) for place in [*([config_dir] if config_dir else []), *named]]
        listed = yaml.safe_load((config_folder() / f"{name}.yaml").read_text("utf-8"))["defaults"]
        chosen = {group: choice for entry in listed if isinstance(entry, dict) for group, choice in entry.items()}
        self.chosen = {group: choice for group, choice in chosen.items() if not group.startswith("override ")}
        self.installed = [folder for folder in _installed() if any((folder / group).is_dir() for group in self.chosen)]

    def choices(self, group: str) -> list[str]:
        folders = (config_folder(), *self.installed, *self.own)
        return sorted({file.stem for folder in folders for file in (folder / group).glob("*.yaml")})

    def holds(self, override: Override) -> bool:
        is_value = override.is_delete() or isinstance(override.value(), dict)
        return not is_value and bool(self.choices(override.key_or_group))

    def runs(self, override: Override) -> list[Override]:
        return runs(override, self.choices)

    def faults(self, override: Override) -> Iterator[str]:
        """What is wrong with a choice."""
        group, choices = override.key_or_group, self.choices(override.key_or_group)
        if (group in self.chosen) == override.is_add():
            there = "a" if override.is_add() else "no"
            yield f"There is {there} group '{group}' here; its groups are {', '.join(self.chosen)}."
            return
        for run in self.runs(override):
            asked = run.value()
            for choice in asked if isinstance(asked, list) else [asked]:
                if not isinstance(choice, str) and not (choice is None and self.chosen.get(group, "") is None):
                    yield f"A group takes the name of one of its choices: {run.input_line}."
                elif choice is not None and choice not in choices:
                    yield f"{group} has no '{choice}'.{nearest(choice, choices)} It is one of: {', '.join(choices)}."


def _installed() -> Iterator[Path]:
    for element in GlobalHydra.instance().config_loader().get_search_path().get_path():
        if element.provider not in ("hydra", "main", "schema"):
            yield folder_of(element.path)
