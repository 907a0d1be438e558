"""Plots that targets write and the report shows. Every plot takes an Axes and returns it; no torch here.

Colours and letters are the same in all of them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reproduce.errors import InputError
from reproduce.records import RunRecord, number

if TYPE_CHECKING:  # matplotlib takes a second to import, and tables do without it
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito's blue and orange: told apart in every common colour blindness, and by lightness in grey.
COLOURS = {"ast": "#0072B2", "mast": "#E69F00"}
LABELS = {"ast": "AST", "mast": "MAST"}
MARKERS = {"ast": "o", "mast": "s"}
STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "legend.frameon": False,
    "svg.hashsalt": "mast-vs-ast",  # ids drawn from a clock otherwise: the same records should give the same bytes
    "svg.fonttype": "path",
}
DPI = 160

SCALING_RATIOS = {  # metric -> label and dashes
    "latency_s": ("time, measured", "-"),
    "macs_full": ("MACs, full", "--"),
    "macs_module_only": ("MACs, module-only", ":"),
    "peak_memory_bytes": ("peak memory, measured", "-."),
}


def write_scaling_figure(records: Sequence[RunRecord], out: Path) -> list[Path]:
    """Cost against clip length as `out/scaling.png` and `out/scaling.svg`; the same records give the same bytes.

    Args:
        records: of kind "scaling", on one device, of one pair of models.
        out: folder, made where it is absent.

    Returns:
        The paths; none where no record holds a latency.

    Raises:
        InputError: the folder cannot be written.
    """
    if not any(record.metrics["latency_s"] is not None for record in records):
        return []
    import matplotlib

    matplotlib.use("Agg")
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        from matplotlib import pyplot

        figure, (left, right) = pyplot.subplots(1, 2, figsize=(10.5, 4.2), width_ratios=(3, 2), layout="constrained")
        plot_scaling(left, records)
        plot_scaling_ratio(right, records)
        right.spines["right"].set_visible(False)
        environment, models = records[0].environment, sorted({record.experiment["model"] for record in records})
        figure.suptitle(
            f"{' and '.join(models)}, inference, batch 1: {environment['device']}, "
            f"{environment['torch_threads']} threads, {environment['precision']}",
            fontsize=9,
        )
        try:
            return save_figure(figure, out, "scaling")
        finally:
            pyplot.close(figure)


def save_figure(figure: Figure, out: Path, name: str) -> list[Path]:
    """`out/NAME.png` and `out/NAME.svg`, each whole or not at all. InputError where they cannot be written."""
    paths = []
    for suffix, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
        path = out / f"{name}.{suffix}"
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            out.mkdir(parents=True, exist_ok=True)
            figure.savefig(part, format=suffix, dpi=DPI, metadata=metadata)
            os.replace(part, path)
        except OSError as error:
            raise InputError(f"{path}: cannot be written ({error.strerror}): choose another folder") from None
        finally:
            part.unlink(missing_ok=True)
        paths.append(path)
    return paths


def plot_scaling(axes: Axes, records: Sequence[RunRecord]) -> Axes:
    """Latency (solid, left axis) and full MACs (dashed, right axis) against clip length, all logarithmic.

    The right axis is the left one times a constant, chosen so that AST's two lines meet in the middle: where a solid
    line leaves its dashed one, time does not follow MACs. Shades span the quartiles.
    """
    right = axes.twinx()
    for family, series in by_family(records).items():
        colour, marker = COLOURS[family], MARKERS[family]
        timed = [record for record in series if record.metrics["latency_s"] is not None]
        seconds = [_seconds(record) for record in timed]
        q1, median, q3 = (
            [1e3 * number(record.metrics[key]) for record in timed]
            for key in ("latency_s_q1", "latency_s", "latency_s_q3")
        )
        axes.plot(seconds, median, color=colour, marker=marker, label=f"{LABELS[family]}, time")
        axes.fill_between(seconds, q1, q3, color=colour, alpha=0.2, linewidth=0)
        macs = [number(record.metrics["macs_full"]) / 1e9 for record in series]
        label = f"{LABELS[family]}, MACs"
        right.plot([_seconds(r) for r in series], macs, color=colour, linestyle="--", linewidth=1.2, label=label)
    _log_seconds(axes, records)
    axes.set(ylabel="ms a clip (solid)", yscale="log")
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    factor = _macs_per_ms(records)
    low, high = axes.get_ylim()
    right.set(ylabel="G MACs a clip, full rule (dashed)", yscale="log", ylim=(low * factor, high * factor))
    handles, labels = (
        a + b for a, b in zip(axes.get_legend_handles_labels(), right.get_legend_handles_labels(), strict=True)
    )
    axes.legend(handles, labels, loc="upper left", fontsize=9)
    return axes


def plot_scaling_ratio(axes: Axes, records: Sequence[RunRecord]) -> Axes:
    """AST : MAST against clip length: measured time and memory, and MACs by both rules. Above 1 MAST is cheaper."""
    series = by_family(records)
    pairs = [(a, m) for a in series.get("ast", []) for m in series.get("mast", []) if _seconds(a) == _seconds(m)]
    for key, (label, dashes) in SCALING_RATIOS.items():
        points = [
            (_seconds(a), number(a.metrics[key]) / number(m.metrics[key]))
            for a, m in pairs
            if a.metrics[key] is not None and m.metrics[key] is not None
        ]
        measured = key in ("latency_s", "peak_memory_bytes")
        if points:
            marker = "D" if key == "latency_s" else ""
            colour = "0.1" if measured else "0.5"
            axes.plot(
                *zip(*points, strict=True), color=colour, linestyle=dashes, marker=marker, markersize=4, label=label
            )
    axes.axhline(1, color="0.7", linewidth=0.8)
    _log_seconds(axes, records)
    axes.set_ylabel("AST : MAST")
    axes.set_ylim(bottom=0)
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(loc="lower right", fontsize=9)
    return axes


def by_family(records: Sequence[RunRecord]) -> dict[str, list[RunRecord]]:
    """Records of "ast" and of "mast", each by clip length."""
    families: dict[str, list[RunRecord]] = {}
    for record in sorted(records, key=lambda r: (r.experiment["model"], _seconds(r))):
        families.setdefault(record.experiment["model"].partition("_")[0], []).append(record)
    return families


def _seconds(record: RunRecord) -> float:
    return float(record.experiment["seconds"])


def _log_seconds(axes: Axes, records: Sequence[RunRecord]) -> None:
    lengths = sorted({_seconds(record) for record in records})
    ticks = [length for length in lengths if length != 10.24]  # its label would lie on that of 10
    axes.set(xlabel="clip length (s)", xscale="log")
    axes.set_xticks(ticks, labels=[f"{length:g}" for length in ticks])
    axes.set_xticks([], minor=True)


def _macs_per_ms(records: Sequence[RunRecord]) -> float:
    """GMACs a millisecond of AST (of what there is, without one) at the middle length."""
    families = by_family(records)
    series = [r for r in families.get("ast", []) if r.metrics["latency_s"] is not None]
    series = series or [r for r in records if r.metrics["latency_s"] is not None]
    middle = series[len(series) // 2]
    return number(middle.metrics["macs_full"]) / 1e9 / (1e3 * number(middle.metrics["latency_s"]))
