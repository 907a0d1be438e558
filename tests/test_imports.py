"""Imports run one way, as in DESIGN: models <- reproduce <- bench, and the torch-free part of reproduce <- reports."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("models", "reproduce", "bench", "reports")

MODELS_LIBRARIES = {"torch", "numpy", "timm", "transformers", "safetensors", "huggingface_hub"}
COUNTING_LIBRARIES = {"fvcore", "ptflops"}  # in complexity.py alone
# The rooms of reproduce, bottom first: a room may import those before it, never those after it.
ROOMS = (
    "errors",
    "shadowing",
    "blas",
    "broken_pipe",
    "collector",
    "keys",
    "pool",
    "files",
    "machine",
    "precision",
    "environment",
    "paper",
    "audio",
    "datasets",
    "metrics",
    "experiments",
    "records",
    "data",
    "efficiency",
    "tables",
    "figures",
    "evaluation",
    "hear",
    "training",
    "cli",
    "__main__",
)
BENCH_MAY_USE = {
    "audio",
    "data",
    "datasets",
    "environment",
    "efficiency",
    "evaluation",
    "experiments",
    "machine",
    "records",
}
# No file here imports torch, neither itself nor by what it imports. A folder stands for all of its files.
TORCH_FREE = (
    "errors.py",
    "blas.py",
    "collector.py",
    "shadowing.py",
    "keys.py",
    "pool.py",
    "files.py",
    "machine.py",
    "precision.py",
    "paper.py",
    "audio/spec.py",
    "audio/errors.py",
    "audio/blocks.py",
    "audio/flac_tail.py",
    "audio/headers.py",
    "audio/libsndfile.py",
    "audio/ffmpeg.py",
    "audio/decoding.py",
    "audio/packs.py",
    "audio/waveforms.py",
    "datasets",
    "metrics",
    "experiments",
    "records",
    "tables",
    "figures",
    "data/audit.py",
    "data/audit_examine.py",
    "data/audit_journal.py",
    "data/audit_report.py",
    "data/audit_summary.py",
    "data/clip_problems.py",
    "data/content.py",
    "data/group_hints.py",
    "data/same_sound.py",
    "data/shard_codec.py",
    "data/shard_index.py",
    "data/shard_journal.py",
    "data/shard_plan.py",
    "data/shard_writer.py",
    "data/survey.py",
    "efficiency/clip_counts.py",
    "efficiency/cost_identity.py",
    "efficiency/energy.py",
    "efficiency/plan.py",
    "efficiency/stopping.py",
    "efficiency/training_speed.py",
)
REPORTS_MAY_USE = {
    "datasets",
    "errors",
    "experiments",
    "figures",
    "files",
    "metrics",
    "paper",
    "blas",
    "broken_pipe",
    "collector",
    "records",
    "tables",
}
NO_TORCH = {"torch", "timm", "torchvision", "models"}


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@cache
def imports_of(path: Path) -> tuple[str, ...]:
    """Dotted names that a file imports anywhere in it; `from a import b` counts as a.b, for b may be a module."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: relative import"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return tuple(names)


def top_level(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports_of(path)}


def parts_of_reproduce(path: Path) -> set[str]:
    """Modules of reproduce that a file imports: the second word of each name."""
    return {name.split(".")[1] for name in imports_of(path) if name.startswith("reproduce.")}


def room_of(path: Path) -> str:
    """The folder below reproduce/, or the module in it."""
    return path.relative_to(ROOT / "reproduce").with_suffix("").parts[0]


@cache
def files_imported_by(path: Path) -> tuple[Path, ...]:
    """Files of reproduce that a file imports anywhere in it, the packages on the way to them included."""
    found = set()
    for name in imports_of(path):
        parts = name.split(".")
        if parts[0] == "reproduce":
            places = [ROOT.joinpath(*parts[:n]) for n in range(1, len(parts) + 1)]
            found |= {file for p in places for file in (p.with_suffix(".py"), p / "__init__.py") if file.is_file()}
    return tuple(sorted(found))


def torch_free_files() -> list[Path]:
    places = [ROOT / "reproduce" / name for name in TORCH_FREE]
    assert all(place.exists() for place in places)
    return sorted(file for place in places for file in ([place] if place.is_file() else place.rglob("*.py")))


def offenders(package: str, forbidden: set[str]) -> Iterator[str]:
    for path in sources(package):
        for name in sorted(top_level(path) & forbidden):
            yield f"{path.relative_to(ROOT)} imports {name}"


def test_the_packages_are_read_at_all() -> None:
    assert "torch" in top_level(ROOT / "models/ast_model.py")
    assert "experiments" in parts_of_reproduce(ROOT / "reproduce/records/selection.py")
    assert all(sources(package) for package in PACKAGES)


def test_models_import_nothing_of_ours_and_few_libraries() -> None:
    for path in sources("models"):
        allowed = {"models", *MODELS_LIBRARIES, *sys.stdlib_module_names}
        if path.name == "complexity.py":
            allowed |= COUNTING_LIBRARIES
        assert top_level(path) <= allowed, path


def test_reproduce_imports_neither_bench_nor_reports() -> None:
    assert list(offenders("reproduce", {"bench", "reports", "tests"})) == []


def test_bench_uses_models_and_a_few_parts_of_reproduce() -> None:
    assert list(offenders("bench", {"reports", "tests"})) == []
    for path in sources("bench"):
        assert parts_of_reproduce(path) <= BENCH_MAY_USE, path


def test_reports_use_the_part_of_reproduce_that_needs_no_torch() -> None:
    assert list(offenders("reports", {"bench", "tests", *NO_TORCH})) == []
    for path in sources("reports"):
        assert parts_of_reproduce(path) <= REPORTS_MAY_USE, path


@pytest.mark.parametrize("path", sources("reproduce"), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_room_imports_only_the_rooms_below_it(path: Path) -> None:
    if path.parent == ROOT / "reproduce" and path.name == "__init__.py":
        return
    allowed = ROOMS[: ROOMS.index(room_of(path)) + 1]
    assert parts_of_reproduce(path) <= set(allowed), path


@pytest.mark.parametrize("path", torch_free_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_torch_free_file_leads_to_no_torch(path: Path) -> None:
    seen: set[Path] = set()
    waiting = [path]
    while waiting:
        current = waiting.pop()
        if current not in seen:
            seen.add(current)
            assert not top_level(current) & NO_TORCH, current
            waiting += files_imported_by(current)


def test_files_import_each_other_without_a_cycle() -> None:
    graph = {path: set(files_imported_by(path)) - {path} for path in sources("reproduce") if path.name != "__init__.py"}
    list(TopologicalSorter(graph).static_order())  # CycleError names a cycle


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_is_named_like_one_of_pythons_own(package: str) -> None:
    names = {package, *(path.stem for path in sources(package)), *(path.parent.name for path in sources(package))}
    assert not names & set(sys.stdlib_module_names)


def test_tests_are_flat_but_for_the_fuzzer_and_no_package() -> None:
    folders = {path.parent for path in (ROOT / "tests").rglob("*.py")}
    assert folders == {ROOT / "tests", ROOT / "tests/fuzz"}
    assert not (ROOT / "tests/__init__.py").exists()
