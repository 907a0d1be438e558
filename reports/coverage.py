"""What the measurements rest on: the clips of every data set that was used, the machines, and the records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from reports.commands import command_of
from reports.markdown import bullets, code, escape, escape_note, table
from reproduce.paper import Paper
from reproduce.tables import TableInputs, TableSpec

NOTHING = "–"
PROBLEMS_NAMED = 5
# data set -> (part, clips the paper kept, clips listed), as facts of paper.json
PAPER_CLIPS = {
    "Kinetics-Sounds": (("training", "clips_kinetics_sounds_train", ""), ("test", "clips_kinetics_sounds_test", "")),
    "Epic-Kitchens-100": (("all", "", "clips_listed_epic_kitchens_100"),),
    "VGGSound": (("training", "clips_vggsound_train", ""), ("test", "clips_vggsound_test", "")),
    "AudioSet": (
        ("balanced training", "clips_audioset_balanced", "clips_listed_audioset_balanced"),
        ("full training", "clips_audioset_full", "clips_listed_audioset_unbalanced"),
        ("test", "clips_audioset_test", "clips_listed_audioset_test"),
    ),
}


def coverage_text(inputs: TableInputs) -> str:
    """Clips that the paper says it used, then those behind our records, with their problems."""
    return "\n".join((_paper_clips(inputs.paper), _record_clips(inputs)))


def _paper_clips(paper: Paper) -> str:
    rows = []
    for name, parts in PAPER_CLIPS.items():
        for part, kept, listed in parts:
            counts = [paper.fact(key).value if key else None for key in (kept, listed)]
            share = 100 * float(counts[0]) / float(counts[1]) if counts[0] and counts[1] else None
            rows.append([escape(name), part, *map(_count, counts), NOTHING if share is None else f"{share:.1f}"])
    header = ["Data set", "Part", "Clips used", "Clips listed", "Used (%)"]
    return "### Clips that the paper says it used\n\n" + table(header, rows, left=(0, 1))


def _count(value: int | float | str | None) -> str:
    return NOTHING if value is None else f"{value:,}"


def _record_clips(inputs: TableInputs) -> str:
    title = "### Clips behind the records\n"
    data = {_identity(r): r for r in inputs.records if r.kind in ("train", "search") and r.dataset}
    if not data:
        command = code("python -m reproduce data audit NAME --data NAME=DIR")
        return f"{title}\nNot run: no record of a trained model. {command} audits a copy of a data set.\n"
    runs = Counter(_identity(r) for r in inputs.records if r.kind in ("train", "search") and r.dataset)
    rows = []
    for identity, record in sorted(data.items()):
        found = record.dataset
        name = found["name"] + (f" ({found['protocol']})" if found.get("protocol") else "")
        kind = "synthetic stand-in" if found.get("standin") else "real recordings"
        kept = [f"{_count(found.get(key))}" for key in ("listed", "kept", "train_kept", "test_listed", "test_kept")]
        classes = " + ".join(str(len(names)) for names in found["classes"].values())
        problems = len(found.get("problems", ()))
        rows.append([escape(name), kind, classes, *kept, str(problems), str(runs[identity])])
    header = ["Data set", "Kind", "Classes", "Listed", "Usable", "Trained on", "Test, listed", "Test, used"]
    text = table([*header, "Problems", "Runs"], rows, left=(0, 1))
    command = code("python -m reproduce data audit NAME --data NAME=DIR")
    notes = [
        "A run's training and test clips are those of its splits or folds; clips that could not be read are left out, "
        "and counted as problems.",
        *map(escape_note, _problems(data.values())),
        f"{command} lists what is present, broken, silent or duplicate in a copy, beside the paper's counts.",
    ]
    return f"{title}\n{text}\n{bullets(notes)}"


def _identity(record: RunRecord) -> tuple[str, ...]:
    data = record.dataset
    counts = (str(data.get(key)) for key in ("listed", "kept", "train_kept", "test_listed", "test_kept"))
    return (data["name"], data.get("protocol", ""), str(bool(data.get("standin"))), *counts)


def _problems(records: Records) -> list[str]:
    """One note a data set that has problems, the first few named."""
    notes = []
    for record in records:
        problems = record.problems
        named = sorted(f"{clip} ({reason})" if clip else str(message) for clip, reason, _, message in problems)
        if named:
            more = f" and {len(named) - PROBLEMS_NAMED} more" if len(named) > PROBLEMS_NAMED else ""
            notes.append(f"{record.dataset}: {', '.join(named[:PROBLEMS_NAMED])}{more}.")
    return notes


def environment_text(inputs: TableInputs) -> str:
    """One row a machine and set of versions, with how many records were made on it."""
    if not inputs.records:
        return "No record: nothing was measured.\n"
    found = Counter((record.kind, *_machine(record.environment)) for record in inputs.records)
    rows = [[escape(kind), *map(escape, machine), str(count)] for (kind, *machine), count in sorted(found.items())]
    header = ["Records", "Device", "Threads", "Precision", "Attention", "torch", "timm", "Commit", "Count"]
    last = max(record.created for record in inputs.records)
    intro = f"{len(inputs.records)} records, the newest of {escape(last[:16].replace('T', ' '))} UTC.\n"
    return f"{intro}\n{table(header, rows, left=tuple(range(8)))}"


def _machine(environment: Mapping[str, object]) -> tuple[str, ...]:
    libraries = environment.get("libraries")
    versions = libraries if isinstance(libraries, Mapping) else {}
    fields = (environment.get(key) for key in ("device", "torch_threads", "precision", "attention"))
    commit = str(environment.get("commit") or NOTHING)
    return (
        *(str(field or NOTHING) for field in fields),
        *(str(versions.get(n, NOTHING)) for n in ("torch", "timm")),
        commit,
    )


def commands_text(specs: Iterable[TableSpec]) -> str:
    """One row a target: what it gives and the command that makes it."""
    rows = [[code(command_of(spec.name)), escape(spec.help)] for spec in specs]
    intro = (
        "Each table of this report, and each of its figures, is a function of the records and of the numbers quoted "
        f"from the paper. {code('python -m reports')} writes the report again from the records; the commands below "
        "print one table, after measuring or training what has no record yet. DIR is where a data set lies.\n"
    )
    return f"{intro}\n{table(['Command', 'What it gives'], rows, left=(0, 1))}"


def kinds_text(records: Records) -> str:
    """ "2 cost, 4 train"."""
    counts = {kind: len(of_kind(records, kind)) for kind in dict.fromkeys(record.kind for record in records)}
    return ", ".join(f"{count} {kind}" for kind, count in counts.items()) or "none"
