"""One sound as a model's input, and how a trained MAST's relative positions weigh distance. From `inspect`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.image import AxesImage

from reports.plots.base import GREY, PAGE_WIDTH, Drawn, finish, label_of
from reproduce.records.inspections import Inspection, Profile, load_inspection, newest_inspection
from reproduce.tables import TableInputs

WAVEFORM_COLUMNS = 1200  # bars from lowest to highest sample
DIVERGING = "PuOr_r"  # readable with every kind of colour vision; light in the middle


def draw_log_mel(inputs: TableInputs) -> Drawn | None:
    """Waveform above log-mel."""
    from matplotlib import pyplot

    run = newest_inspection(inputs.records, "mast") or newest_inspection(inputs.records, "ast")
    inspection = load_inspection(inputs.records_dir, run) if run is not None else None
    if run is None or inspection is None:
        return None
    figure, (top, bottom) = pyplot.subplots(
        2, 1, figsize=(PAGE_WIDTH, 2.9), height_ratios=(1, 2.4), sharex=True, layout="constrained"
    )
    plot_waveform(top, inspection)
    image = plot_log_mel(bottom, inspection)
    figure.colorbar(image, ax=bottom, label="normalised log energy", pad=0.01)
    mels, frames = inspection.log_mel.shape
    spec = run.front_end
    return finish(
        figure,
        f"{run.sound} as the input of {label_of(run.model)}: {mels} mel bands, {frames} frames of "
        f"{spec.frame_length_ms:g} ms every {spec.frame_shift_ms:g} ms, minus {spec.mean:.2f} and divided by twice "
        f"{spec.std:.2f}. Frames after the end of the clip are padded with zeros before normalisation, as in AST's "
        "loader, so they look louder than silence.",
        f"Waveform and log-mel spectrogram of {run.sound}.",
    )


def plot_waveform(axes: Axes, inspection: Inspection) -> Axes:
    """Lowest to highest sample of every short stretch."""
    samples = inspection.waveform
    step = max(1, len(samples) // WAVEFORM_COLUMNS)
    rows = samples[: len(samples) // step * step].reshape(-1, step)
    seconds = np.arange(len(rows)) * step / inspection.sample_rate
    axes.fill_between(seconds, rows.min(axis=1), rows.max(axis=1), color=GREY, linewidth=0, step="post")
    axes.set(ylabel="amplitude")
    return axes


def plot_log_mel(axes: Axes, inspection: Inspection) -> AxesImage:
    """Time across, low frequencies at the bottom; returns the image."""
    mels, frames = inspection.log_mel.shape
    extent = (0.0, frames * inspection.frame_shift_s, 0.0, float(mels))
    image = axes.imshow(inspection.log_mel, origin="lower", aspect="auto", extent=extent, cmap="magma")
    axes.set(xlabel="time (s)", ylabel="mel band", xlim=extent[:2])
    return image


def draw_relative_positions(inputs: TableInputs) -> Drawn | None:
    """The bias of every block by distance: frequency left, time right."""
    from matplotlib import pyplot

    run = newest_inspection(inputs.records, "mast")
    inspection = load_inspection(inputs.records_dir, run) if run is not None else None
    if run is None or inspection is None or not inspection.freq:
        return None
    figure, axes = pyplot.subplots(1, 2, figsize=(PAGE_WIDTH, 3.1), sharey=True, layout="constrained")
    limit = max(float(np.abs(_centred(profile)).max()) for profile in (*inspection.freq, *inspection.time))
    labels = ("key above query by (mel bands)", "key after query by (s)")
    for projection, profiles, label in zip(axes, (inspection.freq, inspection.time), labels, strict=True):
        image = plot_profiles(projection, profiles, limit)
        projection.set_xlabel(label)
    axes[0].set_ylabel("block")
    figure.colorbar(image, ax=axes, label="bias of the score minus the block's mean", pad=0.01)
    return finish(
        figure,
        f"What the relative positions of a trained {label_of(run.model)} add to the attention scores, by the distance "
        f"of key and query: mean over heads and over the queries of {run.sound}. Each block's mean, which has no "
        "effect after the softmax, is subtracted. A dark column at 0 means that a query prefers nearby keys.",
        "Heat maps of the relative-position bias by block: frequency on the left, time on the right.",
    )


def plot_profiles(axes: Axes, profiles: Sequence[Profile], limit: float) -> QuadMesh:
    """A row per block, the first on top; returns the last image. Colours span -limit to limit."""
    furthest = max(float(np.abs(profile.offsets).max()) for profile in profiles)
    for number, profile in enumerate(profiles):
        step = float(np.diff(profile.offsets).min()) if len(profile.offsets) > 1 else 2 * furthest
        edges = np.append(profile.offsets - step / 2, profile.offsets[-1] + step / 2)
        image = axes.pcolormesh(
            edges,
            (number + 0.5, number + 1.5),
            _centred(profile)[None],
            cmap=DIVERGING,
            vmin=-limit,
            vmax=limit,
            rasterized=True,
        )
    axes.set(xlim=(-furthest, furthest), ylim=(len(profiles) + 0.5, 0.5))
    axes.axvline(0, color=GREY, linewidth=0.6)
    return image


def _centred(profile: Profile) -> np.ndarray:
    return profile.bias - profile.bias.mean()
