"""Measured speed-up beside the ratio of MACs: what of MAST's saving arrives on a machine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from reports.plots.base import Drawn, finish, label_of, tip
from reproduce.records.runs import SpeedRun
from reproduce.tables import TableInputs
from reproduce.tables.speed import MODELS

FULL, SEEN = "macs_full", "macs_module_only"
COMMAND = "pytest bench/ --benchmark-only"
# In the row's label already, the same in every row, or the panel's.
UNSAID = ("bench", "contender", "contenders", "device", "input_size", "compile")


@dataclass(frozen=True)
class SpeedUp:
    """How many times as long, or as many MACs, as its rival a model takes a clip, under one set of conditions.

    Args:
        label: the conditions. record: of the slower rival, which holds the ratio.
        times: lower quartile, median and upper quartile over rounds. macs: ratio by rule.
    """

    label: str
    record: RunRecord
    times: tuple[float, float, float]
    macs: dict[str, float]


def draw_speed(inputs: TableInputs) -> Drawn | None:
    """A panel a machine; None without a timed pair of models."""
    timed = [r for r in inputs.records.newest(SpeedRun) if r.bench == MODELS]
    panels = {
        place: speed_ups([r for r in timed if r.environment.machine == place])
        for place in sorted({*map(machine, timed)})
    }
    panels = {place: found for place, found in panels.items() if found}
    if not panels:
        return None
    from matplotlib import pyplot

    heights = [0.24 * len(found) + 0.9 for found in panels.values()]
    figure, rows = pyplot.subplots(
        len(panels), 1, figsize=(6.6, sum(heights)), height_ratios=heights, layout="constrained", squeeze=False
    )
    for axes, (place, found) in zip(rows[:, 0], panels.items(), strict=True):
        plot_speed_ups(axes, found)
        axes.set_title(place, fontsize=8)
    return finish(
        figure,
        "AST : MAST in time and in MACs. Diamonds: measured, median of the rounds' ratios with their quartiles; "
        "strokes: what the MACs alone would give, full rule (solid) and module-only (dotted). Right of 1 MAST is "
        "faster; a diamond left of its strokes is a saving in MACs that time does not follow.",
    )


def speed_ups(records: Records) -> list[SpeedUp]:
    """AST over MAST for every set of conditions that both were timed under; failures are left out."""
    contests: dict[str, dict[str, RunRecord]] = {}
    for record in records:
        shared = {name: value for name, value in record.experiment.items() if name != "contender"}
        contests.setdefault(json.dumps(shared, sort_keys=True), {})[record.candidate] = record
    found = []
    for contest in contests.values():
        ast = next((r for name, r in contest.items() if name.startswith("ast")), None)
        mast = next((r for name, r in contest.items() if name.startswith("mast")), None)
        if ast is None or mast is None or ast.metrics["latency_s"] is None or mast.metrics["latency_s"] is None:
            continue
        # The first contender is the reference; its rival's record holds the ratio.
        first = ast.candidates[0]
        rival = ast if first == mast.candidate else mast
        q1, median, q3 = (rival.metric(f"time_ratio{which}") for which in ("_q1", "", "_q3"))
        times = (q1, median, q3) if rival is ast else (1 / q3, 1 / median, 1 / q1)
        macs = {rule: ast.metric(rule) / mast.metric(rule) for rule in (FULL, SEEN)}
        found.append(SpeedUp(_label(ast), ast, times, macs))
    return found


def _label(record: RunRecord) -> str:
    words = []
    for name, value in record.experiment.items():
        if name not in UNSAID and (name, value) != ("precision", "float32"):
            words.append(f"{name} {value}" if name == "batch" else str(value))
    return ", ".join([*words, *(["compiled"] if record.experiment.get("compile") else [])])


def plot_speed_ups(axes: Axes, found: Sequence[SpeedUp]) -> Axes:
    """A row a set of conditions: the measured ratio with its quartiles, and the MACs' ratios as strokes."""
    for place, speed_up in enumerate(found):
        low, middle, high = speed_up.times
        for rule, dashes in ((FULL, "-"), (SEEN, ":")):
            ratio = speed_up.macs[rule]
            (stroke,) = axes.plot([ratio, ratio], [place - 0.35, place + 0.35], color="0.45", linestyle=dashes)
            tip(stroke, speed_up.label, f"MACs, {rule.removeprefix('macs_').replace('_', '-')}: {ratio:.2f}×")
        axes.plot([low, high], [place, place], color="0.1", linewidth=1.2)
        (mark,) = axes.plot(middle, place, "D", color="0.1", markersize=4.5)
        names = " : ".join(label_of(name) for name in sorted(speed_up.record.candidates)[:2])
        quartiles = f"{middle:.2f}× [{low:.2f}, {high:.2f}]"
        tip(mark, speed_up.label, f"time, {names}: {quartiles}", f"record {speed_up.record.key}")
    axes.axvline(1, color="0.75", linewidth=0.8)
    axes.set_yticks(range(len(found)), labels=[speed_up.label for speed_up in found], fontsize=7.5)
    axes.set(xlabel="AST : MAST (times)", xlim=(0, None), ylim=(len(found) - 0.4, -0.6))
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    return axes
