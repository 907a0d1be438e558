"""Select the training runs of Table 6 and Figure 2, name their protocols, and list the clusterings without a record.

The paper states about Table 6 only that silhouette, ARI and homogeneity are computed with scikit-learn. Its numbers
suggest protocol P1 (RECIPES, section 6); P2 to P4 are the other readings. This module needs no torch, UMAP or features.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from reproduce.datasets.registry import dataset_spec
from reproduce.experiments.families import PAPER_MODELS
from reproduce.experiments.paper_recipes import AST_RECIPES
from reproduce.paper import MODELS, load_paper
from reproduce.records.pairs import compared_runs
from reproduce.records.predictions import has_second_last
from reproduce.records.reading import clustering_identity
from reproduce.records.records import Records, latest
from reproduce.records.runs import ClusteringRun, TrainedRun
from reproduce.records.selection import comparisons, demo_groups, paper_runs

DATASET = "vggsound"
CLUSTERING_SEEDS = (0, 1, 2, 3, 4)
KMEANS_N_INIT = 10
PROTOCOLS: Mapping[str, str] = {
    "P1": "KMeans in UMAP's plane; silhouette of its clusters there",
    "P2": "KMeans on the raw features; silhouette of its clusters there",
    "P3": "KMeans on the features at unit length; silhouette of its clusters there",
    "P4": "silhouette of the true labels in UMAP's plane; no clusters",
}
PRIMARY = "P1"
# Two readings of the paper's "second last layer": record name -> what the features are.
INPUT, BLOCK = "classifier input", "second-last block"
READINGS: Mapping[str, str] = {
    INPUT: "the input of the final linear layer (AST: mean of both prefix tokens; MAST: mean over tokens)",
    BLOCK: "the output of the second-last block, pooled alike, before any norm",
}
PROBE = "probe"  # `protocol` in the record of kNN and linear probe
PROBE_SEED, PROBE_FOLDS, PROBE_NEIGHBOURS, PROBE_C = 0, 5, 15, 0.1
ON_UMAP = ("P1", "P4")
WITH_KMEANS = ("P1", "P2", "P3")
FIGURE = "figure2"  # `protocol` in the record of a panel of Figure 2
FIGURE_SEED = 0
SCALES = ("paper", "demo")  # of Table 6: on VGGSound, or on its stand-in
REAL, REAL_DATASET = "real", "esc50"  # Figure 2 on real recordings, by the models that were trained on them
FIGURES = (*SCALES, REAL)


@dataclass(frozen=True)
class Job:
    """Clusterings without a record that share one UMAP.

    Args:
        run: training run whose embeddings are clustered.
        seed: seed of UMAP and KMeans.
        protocols: keys of PROTOCOLS.
        reading: of the features, a key of READINGS.
    """

    run: TrainedRun
    seed: int
    protocols: tuple[str, ...]
    reading: str = INPUT


def umap_params() -> dict[str, Any]:
    """Return UMAP's parameters as the paper states them, for two dimensions."""
    paper = load_paper()
    return {
        "n_components": 2,
        "n_neighbors": int(paper.fact("umap_n_neighbors").value),
        "min_dist": float(paper.fact("umap_min_dist").value),
        "metric": "euclidean",
    }


def figure_classes() -> int:
    """Return the number of classes in Figure 2: it shows the first ones in sorted order."""
    return int(load_paper().fact("umap_classes").value)


def clustering_experiment(run: TrainedRun, protocol: str, seed: int, reading: str = INPUT) -> dict[str, Any]:
    """Return what defines one clustering before its features are read.

    It includes the file of the stored predictions: a run that is repeated under the same key has other features. The
    first reading of the features is not named: records from before the second have it.

    Raises:
        ValueError: an unknown protocol.
    """
    if protocol not in (*PROTOCOLS, FIGURE, PROBE):
        raise ValueError(f"unknown protocol {protocol!r}; known: {', '.join(PROTOCOLS)}, {FIGURE}, {PROBE}")
    how: dict[str, Any] = {} if reading == INPUT else {"features": reading}
    if protocol == PROBE:
        how |= {"folds": PROBE_FOLDS, "neighbours": PROBE_NEIGHBOURS, "c": PROBE_C}
    if protocol in (*ON_UMAP, FIGURE):
        how["umap"] = umap_params()
    if protocol in WITH_KMEANS:
        how["kmeans"] = {"n_init": KMEANS_N_INIT}
    if protocol == FIGURE:
        how["first_classes"] = figure_classes()
    return {
        "of": run.key,
        "predictions": None if run.predictions is None else Path(run.predictions).name,
        "model": run.model,
        "model_config": dict(run.model_config),
        "dataset": run.dataset,
        "dataset_protocol": run.variant,
        "recipe_name": run.recipe_name,
        "protocol": protocol,
        "seed": seed,
        **how,
    }


def runs_to_cluster(records: Records, scale: str) -> dict[str, list[TrainedRun]]:
    """Select the runs on VGGSound whose clustering Table 6 shows.

    At the paper's scale these are the runs that may fill a paper cell, for AST those of the recipe with the higher mean
    top-1; at demo scale, those of the newest comparison.

    Returns:
        Model ("ast", "mast") -> runs in the order of their training seeds; an empty list for a model without runs.
    """
    if scale == "paper":
        by_recipe = [paper_runs(records, PAPER_MODELS["ast"], DATASET, recipe_name=recipe) for recipe in AST_RECIPES]
        ast = max(by_recipe, key=_mean_top1)
        return {model: ast if model == "ast" else paper_runs(records, PAPER_MODELS[model], DATASET) for model in MODELS}
    groups = demo_groups(records, DATASET)
    group = max(groups, key=lambda runs: max(run.created for run in runs), default=[])
    plain = [run for run in group if run.config_key == "{}"]
    return {model: sorted((r for r in plain if r.family == model), key=lambda run: run.seed) for model in MODELS}


def _mean_top1(runs: Sequence[TrainedRun]) -> float:
    scores = [run.metrics.get("top1", math.nan) for run in runs]
    return fmean(scores) if scores and not any(map(math.isnan, scores)) else -math.inf


def figure_runs(records: Records, figure: str) -> dict[str, TrainedRun]:
    """Return model -> run that Figure 2 shows; a model without runs is absent.

    It is the run with the lowest training seed. On real recordings both runs tested the same fold: the first that both
    models have, in the widest comparison.

    Args:
        records: all runs.
        figure: one of FIGURES.
    """
    if figure == REAL:
        return _real_runs(records)
    return {model: runs[0] for model, runs in runs_to_cluster(records, figure).items() if runs}


def _real_runs(records: Records) -> dict[str, TrainedRun]:
    for group in comparisons(records, REAL_DATASET):
        runs = compared_runs([run for run in group if run.standin is None and run.family in MODELS])
        first = {of_model[0].family: of_model[0] for of_model in runs.values()}
        if set(first) == set(MODELS):
            return {model: first[model] for model in MODELS}
    return {}


def tested_on(run: TrainedRun) -> str:
    """Return the clips that a run was tested on: "VGGSound", its "synthetic STAND-IN", or a fold of a data set."""
    title = dataset_spec(run.dataset).title + (f", fold {run.fold}" if run.is_cross_validation else "")
    return f"synthetic STAND-IN of {title}" if run.standin else title


def clustering_of(
    records: Records, run: TrainedRun, protocol: str, seed: int, reading: str = INPUT
) -> ClusteringRun | None:
    """Return the newest record of exactly this clustering of the run's stored predictions, None if there is none."""
    wanted = clustering_identity(clustering_experiment(run, protocol, seed, reading))
    return latest(clustering for clustering in records.of_kind(ClusteringRun) if clustering.identity == wanted)


def clusterings_of(records: Records, run: TrainedRun, protocol: str, reading: str = INPUT) -> list[ClusteringRun]:
    """Return the recorded clusterings of one protocol and reading, in the order of CLUSTERING_SEEDS."""
    clusterings = (clustering_of(records, run, protocol, seed, reading) for seed in CLUSTERING_SEEDS)
    return [record for record in clusterings if record is not None]


def missing_clusterings(records: Records, records_dir: Path) -> list[Job]:
    """List what Table 6 lacks: one job per run, reading and seed, for runs whose stored predictions exist."""
    recorded = {clustering.identity for clustering in records.of_kind(ClusteringRun)}
    jobs = []
    for run in _all_runs(records):
        for reading in stored_readings(run, records_dir):
            for seed in CLUSTERING_SEEDS:
                wanted = {
                    protocol: clustering_identity(clustering_experiment(run, protocol, seed, reading))
                    for protocol in PROTOCOLS
                }
                protocols = tuple(name for name, identity in wanted.items() if identity not in recorded)
                if protocols:
                    jobs.append(Job(run, seed, protocols, reading))
    return jobs


def missing_probes(records: Records, records_dir: Path) -> list[Job]:
    """List the runs and readings whose kNN and linear probe have no record."""
    return [
        Job(run, PROBE_SEED, (PROBE,), reading)
        for run in _all_runs(records)
        for reading in stored_readings(run, records_dir)
        if probe_of(records, run, reading) is None
    ]


def probe_of(records: Records, run: TrainedRun, reading: str) -> ClusteringRun | None:
    """Return the record of kNN and linear probe on the run's features, None if there is none."""
    return clustering_of(records, run, PROBE, PROBE_SEED, reading)


def stored_readings(run: TrainedRun, records_dir: Path) -> tuple[str, ...]:
    """Return the readings whose features the run stored; runs from before the second have the first alone."""
    if not has_predictions(run, records_dir):
        return ()
    return (INPUT, BLOCK) if has_second_last(records_dir, run) else (INPUT,)


def _all_runs(records: Records) -> list[TrainedRun]:
    return [run for scale in SCALES for runs in runs_to_cluster(records, scale).values() for run in runs]


def missing_projections(records: Records, records_dir: Path) -> list[Job]:
    """List the runs and readings whose panel of Figure 2 has no record or no file of coordinates."""
    missing = []
    for run in (run for figure in FIGURES for run in figure_runs(records, figure).values()):
        for reading in stored_readings(run, records_dir):
            projection = projection_of(records, run, reading)
            drawn = (
                projection is not None
                and projection.coordinates is not None
                and (records_dir / projection.coordinates).is_file()
            )
            if not drawn:
                missing.append(Job(run, FIGURE_SEED, (FIGURE,), reading))
    return missing


def projection_of(records: Records, run: TrainedRun, reading: str = INPUT) -> ClusteringRun | None:
    """Return the record of this run's panel of Figure 2, None if there is none; its `coordinates` name the file."""
    return clustering_of(records, run, FIGURE, FIGURE_SEED, reading)


def has_predictions(run: TrainedRun, records_dir: Path) -> bool:
    """Whether the file of the run's per-clip predictions and embeddings exists."""
    return run.predictions is not None and (records_dir / run.predictions).is_file()
