"""Measured speed-up beside the ratio of MACs: how much of MAST's saving each machine turns into time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports.plots.base import PAGE_WIDTH, Drawn, finish, label_of, legend_above, plain, tip
from reproduce.experiments.families import family
from reproduce.records.contests import SQUARE, candidate_name, speed_runs, time_ratio
from reproduce.records.measured_runs import SpeedRun
from reproduce.tables import TableInputs
from reproduce.tables.speed import EXPECTED

FULL, SEEN = "macs_full", "macs_module_only"
RULES = {FULL: "full rule", SEEN: "module-only rule"}
MARKS = "Dos^vPX<>p*h"
COMMAND = "pytest bench/ --benchmark-only"


@dataclass(frozen=True, kw_only=True)
class SpeedUp:
    """AST's cost divided by MAST's under one set of conditions.

    Args:
        label: the conditions.
        row: the conditions without the precision.
        run: AST's timing.
        mast: MAST's.
        times: lower quartile, median and upper quartile over rounds.
        macs: ratio by rule.
    """

    label: str
    row: str
    run: SpeedRun
    mast: SpeedRun
    times: tuple[float, float, float]
    macs: Mapping[str, float]


def draw_speed(inputs: TableInputs) -> Drawn | None:
    """The speed-ups of every machine; None without a timed pair of models."""
    found = speed_ups(run for run in speed_runs(inputs.records) if run.bench in EXPECTED)
    if not found:
        return None
    medians = [speed_up.times[1] for speed_up in found]
    return finish(
        plot_speed_ups(found),
        "AST's time and MACs divided by MAST's, by precision. Marks: time on each machine, at its own commit, "
        "median of the rounds' ratios with their quartiles; strokes: ratio of MACs by the full rule (solid) and the "
        "module-only rule (dotted). Right of 1, MAST is faster; a mark left of the strokes shows that MAST's saving in "
        "MACs is not fully a saving in time.",
        f"MAST is {min(medians):.2f} to {max(medians):.2f} times as fast as AST in {len(medians)} timings.",
    )


def plot_speed_ups(timed: Sequence[SpeedUp]) -> Figure:
    """A panel per precision, a row per set of conditions and a mark per machine."""
    from matplotlib import pyplot
    from matplotlib.lines import Line2D

    found = sorted(timed, key=_order)
    machines = sorted({speed_up.run.environment.machine for speed_up in found})
    marks = dict(zip(machines, cycle(MARKS), strict=False))
    precisions = sorted({speed_up.run.precision for speed_up in found}, reverse=True)
    rows = list(dict.fromkeys(speed_up.row for speed_up in found))
    height = len(rows) * (0.16 + 0.07 * len(machines)) + 1.0
    figure, panels = pyplot.subplots(
        1, len(precisions), figsize=(PAGE_WIDTH, height), sharex=True, sharey=True, layout="constrained", squeeze=False
    )
    for axes, precision in zip(panels[0], precisions, strict=True):
        plot_panel(axes, [s for s in found if s.run.precision == precision], rows, marks)
        axes.set_title(precision, loc="left")
    panels[0, 0].set_xlim(0)  # all panels share it
    legend_above(
        figure, [Line2D([], [], linestyle="", color="0.1", marker=marks[name], label=plain(name)) for name in machines]
    )
    return figure


def _order(speed_up: SpeedUp) -> tuple[object, ...]:
    """The largest models first, inference before training, float32 before bfloat16."""
    run = speed_up.run
    return -run.metric(FULL), run.mode, run.batch, run.precision != "float32"


def speed_ups(runs: Iterable[SpeedRun]) -> list[SpeedUp]:
    """AST over MAST for every set of conditions under which both were timed; failures are left out.

    Of contests under the same conditions in several benches the newest counts.
    """
    contests: dict[tuple[str, ...], dict[str, SpeedRun]] = {}
    for run in runs:
        if (name := candidate_name(run)).split(" ")[-1] != SQUARE:
            key = run.environment.machine, run.conditions_key, run.precision
            contests.setdefault(key, {})[family(name)] = run
    newest: dict[tuple[str, str], SpeedUp] = {}
    for contest in contests.values():
        ast, mast = contest.get("ast"), contest.get("mast")
        if ast is None or mast is None or ast.failure or mast.failure:
            continue
        times = time_ratio(ast, mast)
        if times is None:
            continue
        macs = {rule: ast.metric(rule) / mast.metric(rule) for rule in RULES}
        label, row = conditions_label(ast), conditions_label(ast, precision=False)
        speed_up = SpeedUp(label=label, row=row, run=ast, mast=mast, times=times, macs=macs)
        place = ast.environment.machine, speed_up.label
        if place not in newest or ast.created >= newest[place].run.created:
            newest[place] = speed_up
    return list(newest.values())


def conditions_label(run: SpeedRun, precision: bool = True) -> str:
    """ "training, base, batch 4, bfloat16": the conditions that differ between contests, float32 unnamed."""
    preset = str(run.conditions.get("preset", ""))
    batch = f"batch {run.batch}" if run.batch else ""
    narrow = run.precision if precision and run.precision != "float32" else ""
    compiled = "compiled" if run.conditions.get("compile") else ""
    return ", ".join(filter(None, (run.mode, preset, batch, narrow, compiled)))


def plot_panel(axes: Axes, timed: Sequence[SpeedUp], rows: Sequence[str], marks: Mapping[str, str]) -> None:
    """Draw every measured ratio with its quartiles, and the ratios of MACs as strokes.

    Args:
        axes: is drawn on.
        timed: of one precision.
        rows: conditions without the precision, from the top.
        marks: machine -> marker; machines stand below each other within a row.
    """
    strokes = dict.fromkeys((s.row, rule, s.macs[rule]) for s in timed for rule in RULES)
    for row, rule, ratio in strokes:
        middle = rows.index(row)
        dashes = "-" if rule == FULL else ":"
        (stroke,) = axes.plot([ratio, ratio], [middle - 0.4, middle + 0.4], color="0.45", linestyle=dashes, zorder=1)
        tip(stroke, row, f"MACs, {RULES[rule]}: {ratio:.2f}×")
    machines = list(marks)
    for speed_up in timed:
        machine = speed_up.run.environment.machine
        place = rows.index(speed_up.row) + 0.7 * ((machines.index(machine) + 0.5) / len(machines) - 0.5)
        low, median, high = speed_up.times
        axes.plot([low, high], [place, place], color="0.1", linewidth=1.0)
        (mark,) = axes.plot(median, place, marker=marks[machine], color="0.1", markersize=4)
        names = " : ".join(label_of(candidate_name(run)) for run in (speed_up.run, speed_up.mast))
        quartiles = f"{median:.2f}× [{low:.2f}, {high:.2f}]"
        tip(mark, machine, speed_up.label, f"time, {names}: {quartiles}", f"record {speed_up.run.key}")
    axes.axvline(1, color="0.75", linewidth=0.8)
    axes.set_yticks(range(len(rows)), labels=[plain(row) for row in rows], fontsize=7.5)
    axes.set(xlabel="AST's cost divided by MAST's", ylim=(len(rows) - 0.4, -0.6))
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
