"""What an open set measured, as tables and as plain values for results."""

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from mpanet_pl.evaluation.open_set import OpenSetScores
from mpanet_pl.evaluation.thresholds import FALSE_ALARMS, least_people, percent
from mpanet_pl.evaluation.verification import FALSE_ACCEPTS


def open_set_values(scores: Mapping[str, OpenSetScores]) -> dict[str, Any]:
    """What a file keeps: shares, by setting and promised rate."""
    return {
        setting: {
            "measured": score.measured,
            **{
                name: {str(rate): list(values) for rate, values in getattr(score, name).items()}
                for name in ("detected", "detected_as_calibrated", "real", "thresholds")
            },
            "intervals": {
                name: {str(rate): list(ends) for rate, ends in of.items()} for name, of in score.intervals.items()
            },
            "real_by_cameras": {
                str(rate): {f"{mine} in {theirs}": value for (mine, theirs), value in pairs.items()}
                for rate, pairs in score.by_cameras.items()
            },
            "verification": {str(rate): score.verification.at(rate) for rate in FALSE_ACCEPTS},
            "equal_error": score.verification.equal_error,
            "by_size": {str(size): trade._asdict() for size, trade in score.by_size.items()},
            "calibrating": score.calibrating,
            "enrolled": score.enrolled,
            "non_mated": score.non_mated,
        }
        for setting, score in scores.items()
    }


def open_set_tables(scores: Mapping[str, OpenSetScores]) -> list[tuple[Sequence[str], Sequence[Sequence[str]]]]:
    """Header and rows: how many are found, what thresholds keep (± over draws, 95 % intervals over people), and where
    false alarms come from."""
    found = [
        [setting, *(_spread(score.detected[rate]) for rate in FALSE_ALARMS), str(score.enrolled), str(score.non_mated)]
        for setting, score in scores.items()
    ]
    promises = [
        [
            setting if rate == FALSE_ALARMS[0] else "",
            percent(rate) if score.kept(rate) else f"{percent(rate)} ({least_people(rate)} people needed)",
            f"{fmean(score.thresholds[rate]):.4f}",
            _with_ends(score.real[rate], score.intervals["real"][rate]),
            _with_ends(score.detected_as_calibrated[rate], score.intervals["detected_as_calibrated"][rate]),
        ]
        for setting, score in scores.items()
        for rate in FALSE_ALARMS
    ]
    cameras = [
        [
            setting,
            f"{mine} in {theirs}",
            *(f"{100 * score.by_cameras[rate][mine, theirs]:.2f}" for rate in FALSE_ALARMS),
        ]
        for setting, score in scores.items()
        for mine, theirs in score.by_cameras[FALSE_ALARMS[0]]
    ]
    told_apart = [
        [
            setting,
            *(f"{100 * score.verification.at(rate):.2f}" for rate in FALSE_ACCEPTS),
            f"{100 * score.verification.equal_error:.2f}",
        ]
        for setting, score in scores.items()
    ]
    dir_at = [f"DIR at FAR {percent(rate)}" for rate in FALSE_ALARMS]
    promised = [f"real FAR at {percent(rate)}" for rate in FALSE_ALARMS]
    return [
        (["open set", *dir_at, "people enrolled", "non-mated searches"], found),
        (["threshold", "promised FAR", "similarity", "real FAR", "DIR"], promises),
        (["threshold", "query's camera in gallery's", *promised], cameras),
        (["verification", *(f"TAR at FAR {percent(rate)}" for rate in FALSE_ACCEPTS), "equal error"], told_apart),
    ]


def _spread(shares: Sequence[float]) -> str:
    percent = [100 * share for share in shares]
    return f"{fmean(percent):.2f}" + (f" ± {stdev(percent):.2f}" if len(percent) > 1 else "")


def _with_ends(shares: Sequence[float], ends: tuple[float, float]) -> str:
    return f"{_spread(shares)} ({100 * ends[0]:.1f}–{100 * ends[1]:.1f})"
