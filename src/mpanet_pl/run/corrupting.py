"""`evaluate corrupt=…`: a network's scores on corrupted test images, beside those on clean ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

from omegaconf import DictConfig, ListConfig
from torch import Tensor

from mpanet_pl.data import ReIDDataModule
from mpanet_pl.data.corruptions import ALL, CORRUPTIONS, Corrupt, Side
from mpanet_pl.errors import UserError
from mpanet_pl.evaluation import RetrievalProtocol, Scores
from mpanet_pl.evaluation import evaluate as score
from mpanet_pl.evaluation.outcomes import NAMES
from mpanet_pl.evaluation.roles import ROLES, evaluate_by_role, over_draws
from mpanet_pl.evaluation.tables import Grid, as_csv, headline, score_values
from mpanet_pl.run.pictures.corrupted import draw_corrupted
from mpanet_pl.system.files import write_text

EACH = "each"  # of the corruptions, at every severity
DRAWS = {ALL: 10}  # a corruption of its own for each image is drawn so often, one for all images once
TABLE, PICTURE = "corruptions.csv", "corruptions.png"
REMARK = "corrupted: R1 (95 % interval over other people) / mAP, percent, means over draws; the first row is clean"

Found = dict[tuple[str, int], dict[str, Scores]]  # (corruption, severity; 0: clean; -1: drawn) -> setting -> scores


class CorruptionRequest(NamedTuple):
    """Which corruptions are asked for, how strong, on whose images, and how often each is drawn."""

    names: list[str]
    severities: list[int | None]
    whose: str
    draws: int

    @classmethod
    def of(cls, cfg: DictConfig) -> CorruptionRequest | None:
        """What is typed; None where nothing is to be corrupted."""
        if cfg.corrupt is None:
            if cfg.severity is not None or cfg.draws is not None:
                raise UserError("severity and draws are of corruptions: add corrupt=all, corrupt=each or a name.")
            return None
        if cfg.data.corrupt is not None:
            raise UserError("data.corrupt corrupts what corrupt=… would call clean: give one of them.")
        asked = list(cfg.corrupt) if isinstance(cfg.corrupt, ListConfig) else [cfg.corrupt]
        names = [*CORRUPTIONS] if asked == [EACH] else asked
        if unknown := [name for name in names if name != ALL and name not in CORRUPTIONS]:
            raise UserError(f"corrupt is all, each, or of {', '.join(CORRUPTIONS)}; got {', '.join(unknown)}.")
        whose = cfg.corrupted
        if whose not in (known := (*get_args(Side), *ROLES)):
            raise UserError(f"corrupted is one of {', '.join(known)}, got {whose!r}.")
        severities: list[int | None] = [cfg.severity] if cfg.severity else [None] if names == [ALL] else [1, 2, 3, 4, 5]
        return cls(names, severities, whose, cfg.draws or DRAWS.get(names[0], 1))


def corrupted_scores(
    asked: CorruptionRequest,
    data: ReIDDataModule,
    protocol: RetrievalProtocol,
    clean: Tensor,
    embed: Callable[[], Tensor | None],
) -> Found:
    """Scores by corruption and severity. `embed` embeds the test images as `data` corrupts them."""
    found: Found = {}
    side: Any = "both" if asked.whose in ROLES else asked.whose
    for name in asked.names:
        for severity in [None] if name == ALL and len(asked.names) > 1 else asked.severities:
            draws = []
            for draw in range(1, asked.draws + 1):
                data.corrupt = Corrupt(name, severity=severity, of=side, seed=draw)
                embeddings = embed()
                if embeddings is None:  # another rank scores
                    continue
                if asked.whose in ROLES:
                    draws.append(evaluate_by_role(clean, embeddings, data.test, protocol, asked.whose))
                else:
                    draws.append(score(embeddings, data.test, protocol))
            if draws:
                found[name, -1 if severity is None else severity] = over_draws(draws)
    data.corrupt = None
    if len(asked.names) > 1 and found:
        for severity in dict.fromkeys(severity for name, severity in found if name != ALL):
            every = [scores for (name, of), scores in found.items() if of == severity and name != ALL]
            found[f"mean of {len(every)}", severity] = over_draws(every)
    return found


def report_corrupted(
    found: Found, clean: Mapping[str, Scores], asked: CorruptionRequest, folder: Path
) -> tuple[Grid, list[str]]:
    """The table and its remarks; `corruptions.csv` and `corruptions.png` beside them."""
    rows: Found = {("clean", 0): dict(clean), **found}
    _write_csv(rows, folder / TABLE)
    draw_corrupted(found, clean, folder / PICTURE)
    settings = [*clean]
    grid: Grid = (
        ["corruption", "severity", *settings],
        [
            [name, _in_words(severity), *(headline(score_values(scores[one])) for one in settings)]
            for (name, severity), scores in rows.items()
        ],
    )
    draws = f"{asked.draws} draw{'s' if asked.draws > 1 else ''}"
    whose = f"corrupted are {asked.whose if asked.whose in ROLES else f'{asked.whose} test images'}, {draws}"
    return grid, [REMARK, f"{whose}, this package's own code: not equal to SYSU-MM01-C and RegDB-C bit by bit"]


def _in_words(severity: int) -> str:
    return {0: "", -1: "1 to 5, drawn"}.get(severity, str(severity))


def _write_csv(rows: Found, path: Path) -> None:
    lines = [
        [name, _in_words(severity), setting, kind, scores.means[kind], *scores.ci[kind]]
        for (name, severity), settings in rows.items()
        for setting, scores in settings.items()
        for kind in NAMES
    ]
    write_text(path, as_csv((["corruption", "severity", "setting", "score", "mean", "low", "high"], lines)))
