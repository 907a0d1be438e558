"""Measured speed-up beside the ratio of MACs: how much of MAST's saving each machine turns into time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle

from matplotlib.axes import Axes

from reports.plots.base import PAGE_WIDTH, Drawn, finish, label_of, legend_above, plain, tip
from reproduce.experiments.families import family
from reproduce.records.contests import SQUARE, candidate_name, speed_runs, time_ratio
from reproduce.records.measured_runs import SpeedRun
from reproduce.tables import TableInputs
from reproduce.tables.speed import EXPECTED

FULL, SEEN = "macs_full", "macs_module_only"
RULES = {FULL: "full rule", SEEN: "module-only rule"}
MARKS = "Dos^vP"
COMMAND = "pytest bench/ --benchmark-only"


@dataclass(frozen=True, kw_only=True)
class SpeedUp:
    """AST's cost divided by MAST's under one set of conditions.

    Args:
        label: the conditions.
        run: AST's timing.
        times: lower quartile, median and upper quartile over rounds.
        macs: ratio by rule.
    """

    label: str
    run: SpeedRun
    times: tuple[float, float, float]
    macs: Mapping[str, float]

    @property
    def row(self) -> str:
        """The label without the precision, which has a panel."""
        return self.label.replace(f", {self.run.precision}", "")


def draw_speed(inputs: TableInputs) -> Drawn | None:
    """A panel per precision, a row per set of conditions and a mark per machine; None without a timed pair."""
    found = sorted(speed_ups(run for run in speed_runs(inputs.records) if run.bench in EXPECTED), key=_order)
    if not found:
        return None
    from matplotlib import pyplot
    from matplotlib.lines import Line2D

    machines = sorted({speed_up.run.environment.machine for speed_up in found})
    marks = dict(zip(machines, cycle(MARKS), strict=False))
    precisions = sorted({speed_up.run.precision for speed_up in found}, reverse=True)
    rows = list(dict.fromkeys(speed_up.row for speed_up in found))
    height = len(rows) * (0.16 + 0.07 * len(machines)) + 1.0
    figure, panels = pyplot.subplots(
        1, len(precisions), figsize=(PAGE_WIDTH, height), sharex=True, sharey=True, layout="constrained", squeeze=False
    )
    for axes, precision in zip(panels[0], precisions, strict=True):
        plot_speed_ups(axes, [s for s in found if s.run.precision == precision], rows, marks)
        axes.set_title(precision or "float32")
    legend_above(
        figure, [Line2D([], [], linestyle="", color="0.1", marker=marks[name], label=plain(name)) for name in machines]
    )
    medians = [speed_up.times[1] for speed_up in found]
    return finish(
        figure,
        "AST's time and MACs divided by MAST's. Marks: time on each machine, median of the rounds' ratios with their "
        "quartiles; strokes: ratio of MACs by the full rule (solid) and the module-only rule (dotted). Right of 1, "
        "MAST is faster; a mark left of the strokes shows that MAST's saving in MACs is not fully a saving in time.",
        f"MAST is {min(medians):.2f} to {max(medians):.2f} times as fast as AST in {len(medians)} timings.",
    )


def _order(speed_up: SpeedUp) -> tuple[object, ...]:
    """The largest models first, inference before training, float32 before bfloat16."""
    run = speed_up.run
    return -run.metric(FULL), run.mode, run.batch or 0, run.precision != "float32"


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
        speed_up = SpeedUp(label=conditions_label(ast), run=ast, times=times, macs=macs)
        place = ast.environment.machine, speed_up.label
        if place not in newest or ast.created >= newest[place].run.created:
            newest[place] = speed_up
    return list(newest.values())


def conditions_label(run: SpeedRun) -> str:
    """ "training, base, batch 4, bfloat16": what differs between the rows of one machine."""
    preset = str(run.conditions.get("preset", ""))
    batch = f"batch {run.batch}" if run.batch else ""
    precision = run.precision if run.precision != "float32" else ""
    compiled = "compiled" if run.conditions.get("compile") else ""
    return ", ".join(filter(None, (run.mode, preset, batch, precision, compiled)))


def plot_speed_ups(axes: Axes, speed_ups: Sequence[SpeedUp], rows: Sequence[str], marks: Mapping[str, str]) -> Axes:
    """Every measured ratio with its quartiles, and the ratios of MACs as strokes.

    Args:
        axes: is drawn on.
        speed_ups: of one precision.
        rows: their conditions, from the top.
        marks: machine -> marker; machines stand below each other within a row.
    """
    machines = list(marks)
    for speed_up in speed_ups:
        row, machine = rows.index(speed_up.row), speed_up.run.environment.machine
        for rule, dashes in ((FULL, "-"), (SEEN, ":")):
            ratio = speed_up.macs[rule]
            (stroke,) = axes.plot([ratio, ratio], [row - 0.4, row + 0.4], color="0.45", linestyle=dashes, zorder=1)
            tip(stroke, speed_up.label, f"MACs, {RULES[rule]}: {ratio:.2f}×")
        place = row + 0.7 * ((machines.index(machine) + 0.5) / len(machines) - 0.5)
        low, middle, high = speed_up.times
        axes.plot([low, high], [place, place], color="0.1", linewidth=1.0)
        (mark,) = axes.plot(middle, place, marker=marks[machine], color="0.1", markersize=4)
        names = " : ".join(label_of(name) for name in sorted(speed_up.run.candidates)[:2])
        quartiles = f"{middle:.2f}× [{low:.2f}, {high:.2f}]"
        tip(mark, machine, speed_up.label, f"time, {names}: {quartiles}", f"record {speed_up.run.key}")
    axes.axvline(1, color="0.75", linewidth=0.8)
    axes.set_yticks(range(len(rows)), labels=[plain(row) for row in rows], fontsize=7.5)
    axes.set(xlabel="AST's cost divided by MAST's", xlim=(0, None), ylim=(len(rows) - 0.4, -0.6))
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    return axes
