"""Where pattern maps look, as a table: a row for each nuance, chance in brackets."""

from collections.abc import Mapping

COLUMNS = {
    "pointing_some_map": "some map points",
    "pointing_one_map": "one map points",
    "pointing_activation": "activation points",
    "pointing_same_person": "same person's box points",
    "coverage_some_map": "some map covers",
    "coverage_one_map": "one map covers",
    "coverage_activation": "activation covers",
    "coverage_same_person": "same person's box covers",
    "siblings": "siblings told apart",
    "siblings_hidden": "with it hidden",
    "siblings_elsewhere": "with as much hidden elsewhere",
}


def nuance_table(scores: Mapping[str, float]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of flat scores, of which some may be missing: a row a nuance, the mean last."""
    shown = {column: title for column, title in COLUMNS.items() if f"{column}/mean" in scores}
    nuances = list(dict.fromkeys(key.split("/")[1] for key in scores if not key.startswith("overlap/")))
    rows = []
    for nuance in [name for name in nuances if name != "mean"] + ["mean"]:
        found = [
            _cell(scores, f"{column}/{nuance}") + _cell(scores, f"{column}_chance/{nuance}", " ({:.1f})")
            for column in shown
        ]
        images = _cell(scores, f"images/{nuance}", "{:.0f}")
        rows.append([nuance, images, *found])
    return ["nuance", "images", *shown.values()], rows


def nuance_line(scores: Mapping[str, float]) -> str:
    """The means over nuances in one line, or nothing where none was measured; the table has each of them."""
    parts = []
    for column, chance in (("pointing_some_map", scores.get("pointing_some_map_chance/mean")), ("siblings", 50.0)):
        if f"{column}/mean" in scores:
            parts.append(f"{COLUMNS[column]} {scores[f'{column}/mean']:.1f} % (chance {chance:.1f})")
    if "siblings_hidden/mean" in scores:
        parts[-1] += f", {COLUMNS['siblings_hidden']} {scores['siblings_hidden/mean']:.1f} %"
    return f"nuances: {'; '.join(parts)}" if parts else ""


def nuance_remarks(scores: Mapping[str, float]) -> list[str]:
    """What a reader of the table has to know."""
    remarks = [
        "nuances: percent; in brackets chance, the same with other images' maps; between siblings it is 50",
        "same person's box: what knowing the person but not the pose would score; in brackets another person's box",
    ]
    alike = [f"{key.split('/')[1]} {value:.1f}" for key, value in scores.items() if key.startswith("overlap/")]
    return remarks + ([f"overlap of an image's maps with one another, percent: {', '.join(alike)}"] if alike else [])


def _cell(scores: Mapping[str, float], key: str, form: str = "{:.1f}") -> str:
    return form.format(scores[key]) if key in scores else ""
