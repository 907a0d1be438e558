"""The margins behind verdicts: single runs decide by their test clips, clusterings by their stored clips."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from make_records import make_clustering, make_run, ranked

from reproduce.evaluation.clustering import agreement
from reproduce.paper import load_paper
from reproduce.records.clustered_clips import ClusteredClips, save_clustered_clips
from reproduce.records.predictions import StoredPredictions
from reproduce.records.record import RunRecord
from reproduce.records.records import Records
from reproduce.tables import TableInputs
from reproduce.tables.claims import claims
from reproduce.tables.scores import RunScores
from reproduce.tables.verdicts import BY_CONVENTION, HOLDS, NOT_CONFIRMED, UNDECIDED, Judgement, judge_claims

paper = load_paper()


def judge(*records: RunRecord, folder: Path) -> dict[str, Judgement]:
    return {j.claim.key: j for j in judge_claims(paper, Records.of(records), RunScores(folder))}


ALL_FOUR = (("kinetics_sounds", "ks32"), ("vggsound", ""), ("epic_kitchens", ""))


def predictions(dataset: str, right: float, clips: int = 120) -> StoredPredictions:
    """Predictions of which a share of the clips is right, the first ones; mAP falls with it."""
    ranks = "".join("0" if i < right * clips else "1" for i in range(clips))
    ids = " ".join(f"c{i:03d}" for i in range(clips))
    if dataset == "epic_kitchens":
        return ranked(ids, verb=ranks, noun=ranks)
    if dataset != "audioset":
        return ranked(ids, label=ranks)
    targets = np.eye(2)[np.arange(clips) % 2]
    noise = np.random.default_rng(0).standard_normal(targets.shape)
    return StoredPredictions(np.array(ids.split()), {"label": 4 * right * targets + noise}, {"label": targets}, noise)


def single_runs(folder: Path, mast: float, ast: float) -> list[RunRecord]:
    """One run per model and study, with its predictions stored."""
    return [
        make_run(folder, f"{family}_base", dataset, predictions(dataset, right), variant=variant, recipe_name=recipe)
        for family, right in (("mast", mast), ("ast", ast))
        for dataset, variant in (*ALL_FOUR, ("audioset", "balanced"), ("audioset", "full"))
        for recipe in (("mast", "ast") if family == "ast" else ("mast",))
    ]


DECIDABLE = {"gain_audioset_balanced": HOLDS, "gain_audioset_full": HOLDS, "outperforms_on_all_four": BY_CONVENTION,
             "large_margin": BY_CONVENTION}  # fmt: skip


@pytest.mark.parametrize("key", DECIDABLE)
def test_single_runs_with_stored_predictions_decide_an_order_either_way(key: str, tmp_path: Path) -> None:
    ahead = judge(*single_runs(tmp_path / "ahead", 0.8, 0.4), folder=tmp_path / "ahead")[key]
    behind = judge(*single_runs(tmp_path / "behind", 0.4, 0.8), folder=tmp_path / "behind")[key]
    assert (ahead.verdict, behind.verdict) == (DECIDABLE[key], NOT_CONFIRMED)
    assert any("paired, over test clips, of single runs" in why for why in ahead.why)


def test_one_pair_of_several_that_is_behind_refutes_an_order_of_all(tmp_path: Path) -> None:
    mixed = [r for r in single_runs(tmp_path, 0.8, 0.4) if r.dataset["name"] != "vggsound"]
    mixed += [
        make_run(tmp_path, f"{family}_base", "vggsound", predictions("vggsound", right), seed=1)
        for family, right in (("mast", 0.4), ("ast", 0.8))
    ]
    judged = judge(*mixed, folder=tmp_path)["outperforms_on_all_four"]
    assert judged.verdict == NOT_CONFIRMED
    assert any("table3.mast.top1 over table3.ast.top1, one of 5 pairs" in why for why in judged.why)


def with_clusters(folder: Path, mast_is_right: bool) -> list[RunRecord]:
    """One run and one clustering per model on 120 clips of three classes: one model's clusters are the classes."""
    labels, rng, made = np.arange(120) % 3, np.random.default_rng(0), []
    for family in ("mast", "ast"):
        right = (family == "mast") is mast_is_right
        clusters = labels if right else rng.permutation(labels)
        of_clips = rng.normal(0.6 if right else 0.3, 0.1, 120)
        name = save_clustered_clips(
            folder, family, ClusteredClips(np.array([f"c{i:03d}" for i in range(120)]), labels, clusters, of_clips)
        )
        trained = make_run(folder, f"{family}_base", "vggsound", predictions("vggsound", 0.5))
        scores = {"silhouette": float(of_clips.mean()), **agreement(clusters, labels)}
        made += [trained, replace(make_clustering(trained, scores), details={"clips": name})]
    return [*made, make_run(folder, "ast_base", "vggsound", predictions("vggsound", 0.2), recipe_name="ast")]


@pytest.mark.parametrize("key", ["higher_silhouette", "higher_ari", "higher_homogeneity"])
def test_single_clusterings_with_stored_clips_decide_table6_either_way(key: str, tmp_path: Path) -> None:
    ahead, behind = (judge(*with_clusters(tmp_path, right), folder=tmp_path)[key] for right in (True, False))
    assert ahead.verdict == BY_CONVENTION  # the paper does not say how it clusters
    assert behind.verdict == NOT_CONFIRMED


def test_without_stored_clips_of_single_clusterings_the_reason_names_the_remedy(tmp_path: Path) -> None:
    bare = [replace(r, details={}) for r in with_clusters(tmp_path, True)]
    judged = judge(*bare, folder=tmp_path)["higher_ari"]
    assert judged.verdict == UNDECIDED
    assert any("run `table6` again" in why for why in judged.why)


@pytest.mark.parametrize(
    ("key", "chance"),
    [
        ("gain_kinetics_sounds", "22.2 ± 3.3"),
        ("gain_vggsound", "4.7 ± 1.2"),
        ("gain_epic_kitchens_100", "4.4 ± 1.0"),
        ("gain_audioset_full", "0.1 (16 seeds)"),
        ("large_margin", "22.2 ± 3.3, 4.4 ± 1.0, 4.7 ± 1.2"),
    ],
)
def test_the_size_of_the_papers_test_sets_bounds_its_margins(key: str, chance: str) -> None:
    table = claims(TableInputs(paper, Records(), Path("records")))
    (row,) = (row for row in table.rows if row.key == key)
    assert row.cells["chance"].text == chance
