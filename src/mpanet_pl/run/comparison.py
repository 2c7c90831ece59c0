"""Results of several methods -> how much more each finds than the first, with intervals, p-values and power."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import takewhile
from pathlib import Path
from string import ascii_uppercase

from mpanet_pl.errors import UserError
from mpanet_pl.evaluation.differences import Difference, compare, holm
from mpanet_pl.evaluation.outcomes import NAMES
from mpanet_pl.evaluation.scoring import DISTANCES
from mpanet_pl.evaluation.tables import COLUMNS, HEADLINES, Grid, as_csv, latex, markdown, shown
from mpanet_pl.features import holds_features
from mpanet_pl.features.queries import QUERIES
from mpanet_pl.run.methods_compared import Method, read_method, with_and_without
from mpanet_pl.system.files import write_json, write_text

SIGNIFICANT = 0.05
IN_WORDS = ("r1", "mAP")  # the scores that get a sentence
PARTS = ("people", "runs", "galleries")  # what a difference varies with
OLDER = "some results kept no digests, as releases before 0.3: that they met the same images is not known"


@dataclass(frozen=True)
class ScoreDifference:
    """By how many percentage points one score of `method` is higher than the first's."""

    method: str
    setting: str
    score: str
    difference: float
    ci: tuple[float, float]
    p: float
    adjusted: float | None  # by Holm, over all that the table shows; None of a score that it does not show
    people: int
    about: str  # two networks, two recipes, two test ways
    tellable: float  # points that so many people and runs tell four times of five
    errors: Mapping[str, float]  # points by which other people, runs and galleries would move it, standard errors
    margin: float | None = None  # points, with which the next two come
    not_worse: float | None = None  # adjusted p of being worse by the margin
    as_good: float | None = None  # adjusted p of lying outside the margin, on either side

    @property
    def is_significant(self) -> bool:
        return self.adjusted is not None and self.adjusted <= SIGNIFICANT

    @property
    def sentence(self) -> str:
        low, high = self.ci
        what = f"{self.setting}, {COLUMNS[self.score]}"
        how_sure = f"p {chance(self.p)}"
        if self.adjusted is not None and chance(self.adjusted) != chance(self.p):
            how_sure += f", by Holm {chance(self.adjusted)}"
        if not self.is_significant:
            return (
                f"{what}: no difference between {self.about} can be told with these {self.people} people "
                f"({self.method} − A: {between(low, high)}; {how_sure})."
            )
        more = "more" if self.difference > 0 else "fewer"
        near, far = (low, high) if self.difference > 0 else (-high, -low)
        return (
            f"{what}: of {self.about}, {self.method} finds {abs(self.difference):.1f} points {more} than A "
            f"({near:.1f} to {far:.1f}; {how_sure})."
        )

    @property
    def margin_sentence(self) -> str:
        assert self.margin is not None
        assert self.not_worse is not None
        assert self.as_good is not None
        what, within = f"{self.setting}, {COLUMNS[self.score]}", f"{self.margin:g} points"
        if self.as_good <= SIGNIFICANT:
            return f"{what}: {self.method} is as good as A within {within} (p {chance(self.as_good)})."
        if self.not_worse <= SIGNIFICANT:
            return f"{what}: {self.method} is not worse than A by {within} (p {chance(self.not_worse)})."
        return f"{what}: {self.method} may be worse than A by {within} (p {chance(self.not_worse)} of that)."

    @property
    def cell(self) -> str:
        return f"{self.difference:+.1f} ({between(*self.ci)}), p {chance(self.p)}{'*' * self.is_significant}"


@dataclass(frozen=True)
class Comparison:
    methods: Sequence[Method]
    differences: Sequence[ScoreDifference]
    left_out: Sequence[str]  # settings that not all of them have

    def table(self) -> Grid:
        """Each method's scores, and below the first's what the others find more, in one table."""
        header = ["setting", "result", *(f"{COLUMNS[name]} (95 %)" for name in HEADLINES)]
        cells = {(one.setting, one.method, one.score): one.cell for one in self.differences}
        rows = []
        for setting in dict.fromkeys(one.setting for one in self.differences):
            for method in self.methods:
                own = [shown(method.value(setting, name)) for name in HEADLINES]
                rows.append([setting, method.letter, *own])
            for method in self.methods[1:]:
                more = [cells[setting, method.letter, name] for name in HEADLINES]
                rows.append([setting, f"{method.letter} − {self.methods[0].letter}", *more])
        return header, rows

    def remarks(self) -> list[str]:
        shown_ones = [one for one in self.differences if one.adjusted is not None]
        several = [
            f"each cell's interval and p are its own; *: p below {SIGNIFICANT} by Holm, over all {len(shown_ones)} "
            "comparisons of the table"
        ]
        repeats = [
            "intervals and p are of both levels, people and runs"
            if any(len(method.runs) > 1 for method in self.methods)
            else "one run each: how far other runs of the same would lie is not in these intervals"
        ]
        missing = [f"not compared, for not all have it: {', '.join(self.left_out)}"] if self.left_out else []
        margins = [one.margin_sentence for one in shown_ones if one.margin is not None and one.score in IN_WORDS]
        older = [] if all(method.has_digests for method in self.methods) else [OLDER]
        copies = [line for method in self.methods for line in method.copies]
        ways = _by_their_own(self.methods)
        lines = [*map(str, self.methods), *copies, *ways, *self.sentences(), *margins, *several, *repeats]
        return [*lines, self.power(), self.moves(), *older, *missing]

    def power(self) -> str:
        """What difference would have been told."""
        of_score = {score: [one.tellable for one in self.differences if one.score == score] for score in IN_WORDS}
        sizes = [f"{COLUMNS[score]} {_range(sizes)}" for score, sizes in of_score.items()]
        return (
            f"with these people and runs a difference of {' and '.join(sizes)} points would be told four times of five"
        )

    def moves(self) -> str:
        """What a difference's uncertainty comes from."""
        errors = [one.errors for one in self.differences if one.score == "r1"]
        parts = [f"{_range([error[of] for error in errors])} points of {of}" for of in PARTS]
        return f"a difference of R1 has standard errors of {', '.join(parts)} (the galleries' is not in the intervals)"

    def sentences(self) -> list[str]:
        return [one.sentence for one in self.differences if one.score in IN_WORDS]

    def write(self, folder: Path) -> None:
        methods = {m.letter: {"path": str(m.path), "result": m.row, "runs": len(m.runs)} for m in self.methods}
        plain = {"methods": methods, "differences": [asdict(one) for one in self.differences]}
        write_json(folder / "comparison.json", plain)
        write_text(folder / "comparison.md", markdown([self.table()], self.remarks()))
        write_text(folder / "comparison.csv", as_csv(self.table()))
        write_text(folder / "comparison.tex", latex(self.table()))
        self.draw(folder / "comparison.png")

    def draw(self, path: Path) -> None:
        from mpanet_pl.run.pictures.forest import draw_differences

        letters = [method.letter for method in self.methods]
        names = dict(zip(letters, without_common_start(letters), strict=True))
        rows: dict[str, dict[str, tuple[float, float, float]]] = {}
        for one in self.differences:
            if one.score in IN_WORDS:
                label = f"{one.setting.replace('_', ' ')}\n{names[one.method]} − {names[letters[0]]}"
                rows.setdefault(label, {})[COLUMNS[one.score]] = (one.difference, *one.ci)
        draw_differences(rows, path)


def without_common_start(names: Sequence[str]) -> list[str]:
    """Names without the words, and groups of a key, that all of them begin with; each keeps one.

    >>> without_common_start(["synthetic agw", "synthetic mpanet"]), without_common_start(["A", "B"])
    (['agw', 'mpanet'], ['A', 'B'])
    >>> without_common_start(["sysu model.network.patterns=4", "sysu model.network.patterns=6"])
    ['patterns=4', 'patterns=6']
    """
    parts = [re.findall(r"[^ .=]+\.(?=[^ ]*=)|\S+ ?", name) for name in names]
    alike = takewhile(lambda place: len(set(place)) == 1, zip(*parts, strict=False))
    common = min(len(list(alike)), *(len(own) - 1 for own in parts))
    return ["".join(own[common:]) for own in parts]


def compare_methods(
    paths: Sequence[Path],
    result: str | None = None,
    measured: Callable[[str, Path], Method] | None = None,
    margin: float | None = None,
) -> Comparison:
    """Everything after the first path against the first, or of one path what is re-ranked against what is not.

    `measured` makes a method of features.
    """
    if len(paths) == 1 and not holds_features(*paths):
        return comparison(with_and_without(read_method("A", paths[0], result)), margin)
    if len(paths) < 2:
        raise UserError("Name two results or more to compare: runs, evaluations, or folders of repeated runs.")
    if len(paths) > len(ascii_uppercase):
        raise UserError(f"{len(paths)} results are more than there are letters for them: compare fewer at once.")
    methods = [
        measured(letter, path)
        if measured and path.name != QUERIES and holds_features(path)
        else read_method(letter, path, result)
        for letter, path in zip(ascii_uppercase, paths, strict=False)
    ]
    return comparison(methods, margin)


def comparison(methods: Sequence[Method], margin: float | None = None) -> Comparison:
    first, *others = methods
    settings = [name for name in first.settings if all(name in method.settings for method in others)]
    known = dict.fromkeys(name for method in methods for name in method.settings)
    if not settings:
        listed = "; ".join(f"{method.letter}: {', '.join(method.settings)}" for method in methods)
        raise UserError(f"They have no setting in common, so another protocol measured each ({listed}).")
    found = []
    for setting in settings:
        for method in others:
            _check_same_conditions(first, method, setting)
            try:
                difference = compare(*([run[setting] for run in one.answers] for one in (first, method)))
            except UserError as why:
                raise UserError(f"{first.path} and {method.path} cannot be compared in {setting}. {why}") from why
            found.append((method.letter, setting, difference))
    return Comparison(
        methods, list(_score_differences(found, margin)), [name for name in known if name not in settings]
    )


def _check_same_conditions(first: Method, other: Method, setting: str) -> None:
    """How embeddings are compared is a method's own; everything else has to be the same."""
    ours, theirs = (_conditions(method, setting) for method in (first, other))
    if len(ours | theirs) > 1:
        parts = [min(ways).split("; ") for ways in (ours, theirs)]
        apart = [[part for part in own if part not in others] for own, others in (parts, parts[::-1])]
        differ = "; ".join(
            f"{method.letter}: {', '.join(own)}" for method, own in zip((first, other), apart, strict=True)
        )
        raise UserError(
            f"{first.path} and {other.path} were measured in two ways, and cannot be compared in {setting}. "
            f"{differ or 'Runs of one method differ among themselves.'}"
        )


def _conditions(method: Method, setting: str) -> set[str]:
    ways = (way.split("; ") for way in method.measured(setting))
    return {"; ".join(part for part in way if part not in DISTANCES.values()) for way in ways}


def _by_their_own(methods: Sequence[Method]) -> list[str]:
    """Which method's embeddings are compared how, where that is not the same."""
    parts = {method.letter: [part for way in method.ways for part in way.split("; ")] for method in methods}
    own = {letter: ", ".join(way for way in DISTANCES.values() if way in ways) for letter, ways in parts.items()}
    if len(set(own.values())) < 2:
        return []
    return ["each method's embeddings are compared its own way: " + "; ".join(map(": ".join, own.items()))]


def _score_differences(found: Sequence[tuple[str, str, Difference]], margin: float | None) -> Iterator[ScoreDifference]:
    """One of each score, adjusted over all that a table shows."""
    places = [NAMES.index(name) for name in HEADLINES]
    shown_ones = [(number, place) for number in range(len(found)) for place in places]
    families = [holm([float(found[number][2].p[place]) for number, place in shown_ones])]
    if margin is not None:
        beyond = [difference.beyond(margin) for _, _, difference in found]
        families.append(holm([float(beyond[number][0][place]) for number, place in shown_ones]))
        families.append(holm([max(float(one[place]) for one in beyond[number]) for number, place in shown_ones]))
    adjusted = {key: values for key, *values in zip(shown_ones, *families, strict=True)}
    for place, name in enumerate(NAMES):
        for number, (method, setting, difference) in enumerate(found):
            mean, low, high, p = (float(column[place]) for column in difference[:4])
            own, *margins = adjusted.get((number, place), [None])
            plain = method, setting, name, mean, (low, high), p, own, difference.people, difference.about
            with_margin = (margin, *margins) if margins else ()
            errors = dict(zip(PARTS, difference.parts[:, place].tolist(), strict=True))
            yield ScoreDifference(*plain, float(difference.tellable[place]), errors, *with_margin)


def _range(sizes: Sequence[float]) -> str:
    least, most = f"{min(sizes):.1f}", f"{max(sizes):.1f}"
    return least if least == most else f"{least} to {most}"


def between(low: float, high: float) -> str:
    return f"{low:+.1f} to {high:+.1f}"


def chance(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"
