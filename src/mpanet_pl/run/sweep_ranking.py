"""Which configuration of a sweep comes first, by the score that each run monitored, and among how many it is chosen.

The best of many is flattered by the score that chose it: so what it was chosen on stands beside it.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mpanet_pl.evaluation.callback import setting_and_score
from mpanet_pl.evaluation.tables import SELECTED_ON, Grid, Value, shown
from mpanet_pl.run.finished_run import Run
from mpanet_pl.run.repeats import Group, spread


@dataclass(frozen=True)
class Ranking:
    monitor: str  # which scores
    on: str  # test, held_out
    places: Sequence[tuple[str, Value]]  # the groups' names with their scores in percent, best first

    @property
    def runs(self) -> int:
        return sum(len(value["runs"]) for _, value in self.places)

    def table(self) -> Grid:
        rows = [
            [str(place), name, str(len(value["runs"])), shown(value)]
            for place, (name, value) in enumerate(self.places, 1)
        ]
        return ["place", "runs", "n", f"{self.monitor} on {SELECTED_ON.get(self.on, '?')}"], rows

    def remark(self) -> str:
        among = f"among {len(self.places)} configurations ({self.runs} runs)"
        chosen = f"the first place is chosen {among}, by {self.monitor}"
        if self.on == "test":
            return f"{chosen} on the test set itself, which flatters its scores: validation.on=held_out would not"
        return f"{chosen} on {SELECTED_ON.get(self.on, '?')}: that flatters this score, and not those on the test set"

    def plain(self) -> dict[str, Any]:
        places = [{"name": name, **value} for name, value in self.places]
        return {"monitor": self.monitor, "on": self.on, "places": places}


def rankings(groups: Sequence[Group]) -> list[Ranking]:
    """One for each kind of runs, and each score that they monitored, of at least two groups."""
    scored: dict[tuple[str, str, str], list[tuple[str, Value]]] = defaultdict(list)
    for group in groups:
        monitored = [run.results.monitored for run in group.runs]
        if values := [value for value in monitored if value is not None]:
            first = group.runs[0]
            on = str(first.provenance.get("validation", "test"))
            scored[first.kind, _monitor(first), on].append((group.name, spread(values)))
    return [
        Ranking(monitor, on, sorted(places, key=lambda place: -place[1]["mean"]))
        for (_, monitor, on), places in scored.items()
        if len(places) > 1
    ]


def _monitor(run: Run) -> str:
    named = (run.config.get("validation") or {}).get("monitor") or run.results.measured
    names = ["/".join(setting_and_score(str(name))) for name in named]
    return names[0] if len(names) == 1 else f"the mean of {', '.join(names)}"
