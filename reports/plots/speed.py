"""Measured speed-up beside the ratio of MACs: how much of MAST's saving each machine turns into time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from reports.plots.base import PAGE_WIDTH, Drawn, finish, label_of, plain, tip
from reproduce.experiments.families import family
from reproduce.records.contests import SQUARE, candidate_name, speed_runs, time_ratio
from reproduce.records.measured_runs import SpeedRun
from reproduce.tables import TableInputs
from reproduce.tables.speed import EXPECTED

FULL, SEEN = "macs_full", "macs_module_only"
RULES = {FULL: "full rule", SEEN: "module-only rule"}
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


def draw_speed(inputs: TableInputs) -> Drawn | None:
    """A panel per machine; None without a timed pair of models."""
    timed = [run for run in speed_runs(inputs.records) if run.bench in EXPECTED]
    machines = sorted({run.environment.machine for run in timed})
    panels = {machine: speed_ups(run for run in timed if run.environment.machine == machine) for machine in machines}
    panels = {
        machine: sorted(timings, key=lambda speed_up: speed_up.run.precision != "float32")
        for machine, timings in panels.items()
        if timings
    }
    if not panels:
        return None
    from matplotlib import pyplot

    heights = [0.2 * len(timings) + 0.7 for timings in panels.values()]
    figure, rows = pyplot.subplots(
        len(panels), 1, figsize=(PAGE_WIDTH, sum(heights)), height_ratios=heights, layout="constrained", squeeze=False
    )
    for axes, (machine, timings) in zip(rows[:, 0], panels.items(), strict=True):
        plot_speed_ups(axes, timings)
        axes.set_title(plain(machine))
    medians = [speed_up.times[1] for timings in panels.values() for speed_up in timings]
    return finish(
        figure,
        "AST's time and MACs divided by MAST's. Diamonds: measured, median of the rounds' ratios with their quartiles; "
        "strokes: ratio of MACs by the full rule (solid) and the module-only rule (dotted). Right of 1, MAST is "
        "faster; a diamond left of its strokes shows that MAST's saving in MACs is not fully a saving in time.",
        f"MAST is {min(medians):.2f} to {max(medians):.2f} times as fast as AST in {len(medians)} conditions.",
    )


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


def plot_speed_ups(axes: Axes, speed_ups: Sequence[SpeedUp]) -> Axes:
    """A row per set of conditions: the measured ratio with its quartiles, and the ratios of MACs as strokes."""
    for row, speed_up in enumerate(speed_ups):
        low, middle, high = speed_up.times
        for rule, dashes in ((FULL, "-"), (SEEN, ":")):
            ratio = speed_up.macs[rule]
            (stroke,) = axes.plot([ratio, ratio], [row - 0.35, row + 0.35], color="0.45", linestyle=dashes)
            tip(stroke, speed_up.label, f"MACs, {RULES[rule]}: {ratio:.2f}×")
        axes.plot([low, high], [row, row], color="0.1", linewidth=1.2)
        (mark,) = axes.plot(middle, row, "D", color="0.1", markersize=4)
        names = " : ".join(label_of(name) for name in sorted(speed_up.run.candidates)[:2])
        quartiles = f"{middle:.2f}× [{low:.2f}, {high:.2f}]"
        tip(mark, speed_up.label, f"time, {names}: {quartiles}", f"record {speed_up.run.key}")
    axes.axvline(1, color="0.75", linewidth=0.8)
    axes.set_yticks(range(len(speed_ups)), labels=[plain(speed_up.label) for speed_up in speed_ups], fontsize=7.5)
    axes.set(xlabel="AST's cost divided by MAST's", xlim=(0, None), ylim=(len(speed_ups) - 0.4, -0.6))
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    return axes
