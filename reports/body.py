"""The body of the report: at most ten printed pages. What only a few readers need is in the appendices."""

from __future__ import annotations

from collections.abc import Iterable

from reports.commands import command_of
from reports.conditions import joined
from reports.document import Block, Bullets, Grid, Paragraph, Section, Words, code, reference, words
from reports.figures import drawn_figures, figure_blocks
from reports.findings import components_finding, real_audio_findings
from reports.grids import grid_of, with_blocks
from reports.own import own_parts
from reports.plots.base import first_of_corpora
from reports.plots.comparisons import by_width
from reports.source import Source
from reproduce.records.runs import TrainedRun
from reproduce.tables import Table
from reproduce.tables.speed import is_main_part, ratios_by_machine, ratios_of

REAL_AUDIO = ("esc50", "equal_macs", "components", "pooling")
PAPER_TABLES = ("table2", "table3", "table4", "table5", "ablations", "table6")
# Table -> what to see in it.
SEE = {
    "esc50": "Both models on the same folds, by the same recipe.",
    "equal_macs": "Both models trained for equal epochs, and longer, until MAST has cost as many MACs as AST at first "
    "(AST for as many epochs); on the folds and seeds that all rows have. Times of different machines are not "
    "comparable.",
    "components": "Each row adds one component of MAST to the row above.",
    "pooling": "MAST with the paper's five poolings, trained on the same folds.",
    "costs": "The ratio depends on what is counted: compare the last column.",
    "speed": "The rows of one mode and batch in a column are one session at one commit: compare within them. "
    "Spreads are in an appendix.",
    "table5": "MACs and parameters are counted live; mAP needs AudioSet.",
    "claims": "The sentence of each claim and the reasons of its verdict are in an appendix.",
}


def body_sections(source: Source) -> tuple[Section, ...]:
    """The sections after the contents."""
    return (
        Section(key="how-to-read", title="How to read this report", blocks=(_how_to_read(),)),
        Section(key="real-audio", title="Evidence on real audio", blocks=_real_audio(source)),
        Section(key="costs", title="Cost of one clip", blocks=_costs(source)),
        Section(key="time", title="Time and memory", blocks=_time(source)),
        Section(key="paper", title="The paper's results", blocks=_paper(source)),
        Section(key="claims", title="The paper's claims, one by one", blocks=_claims(source)),
    )


def main_part(table: Table) -> Table | None:
    """The table itself, or its first block with rows; None where nothing was measured."""
    return next((part for part in with_blocks(table) if part.rows), None)


def body_grid(source: Source, name: str) -> Grid | Paragraph:
    """The main part of the registered table `name`, without its notes, which an appendix has."""
    table = source.table(name)
    part = main_part(table)
    command = command_of(name, part.runs if part is not None else ())
    if part is None:
        return Paragraph(text=words(f"{table.title}: not run; ", code(command), " makes it."))
    return grid_of(part, see=SEE.get(name, ""), command=command, notes=False)


def body_tables(source: Source) -> tuple[tuple[str, Table], ...]:
    """Key in the report and table of everything that the body shows without its notes."""
    names = (*REAL_AUDIO, "costs", *PAPER_TABLES, "claims")
    grids = [(body_grid(source, name), main_part(source.table(name))) for name in names]
    grids[1:1] = [(grid_of(part), part) for part in split_own(source)[0]]
    return tuple((grid.key, part) for grid, part in grids if isinstance(grid, Grid) and part is not None)


def split_own(source: Source) -> tuple[list[Table], list[Table]]:
    """Tables of runs on own recordings: the first of every corpus, for the body, and all others."""
    return first_of_corpora(
        own_parts(source),
        lambda part: next((run.corpus_key for run in part.runs if isinstance(run, TrainedRun)), None),
    )


def _how_to_read() -> Bullets:
    items: Iterable[Words] = (
        words(
            "A cell reads paper → measured here, ± the standard deviation over seeds, [the 95 % interval], where there "
            "are such. A measured number in bold differs from the paper's as printed; (quoted) marks a number of the "
            "paper that this suite does not measure."
        ),
        words(
            "Tables and figures of this report are numbered R1, R2, ...; numbers without R are the paper's. The "
            "caption says what to see; the first line under a table gives its conditions; the other notes are in ",
            reference("notes"),
            ".",
        ),
        words(
            "A measurement at a smaller scale or on other data never fills a cell of the paper: it has a table of its "
            "own. Results on synthetic stand-ins, which only show that every table can be filled, are in an appendix."
        ),
        words(
            "The interval of a score describes the trained models on clips like the test clips and excludes the spread "
            "over training runs. The interval of a difference over folds and seeds is corrected for overlapping "
            "training sets; a model is called ahead only where it excludes 0."
        ),
    )
    return Bullets(items=tuple(items))


def _real_audio(source: Source) -> tuple[Block, ...]:
    intro = (
        "Both models trained from scratch on the same real recordings, with the same clips, augmentation, schedule and "
        "seeds; the notes give the learning rate of each and the clips that it was chosen on. The paper has no such "
        "experiment: nothing here is quoted, and the models are smaller than the paper's."
    )
    widest, _ = by_width(source.inputs.records)
    findings = real_audio_findings(source, widest)
    return (
        Paragraph(text=words(intro)),
        *((Bullets(items=tuple(findings)),) if findings else ()),
        body_grid(source, "esc50"),
        *(grid_of(part, notes=False) for part in split_own(source)[0]),
        *figure_blocks(source, "training_curves"),
        body_grid(source, "equal_macs"),
        *drawn_figures(source, "longer_training"),
        body_grid(source, "components"),
        *components_finding(source),
        *drawn_figures(source, "components"),
        body_grid(source, "pooling"),
        *drawn_figures(source, "pooling_cost"),
    )


def _costs(source: Source) -> tuple[Block, ...]:
    intro = (
        "MACs are counted by two rules. The module-only rule is the paper's: it counts what modules such as Linear and "
        "Conv compute, and misses the products of two activations inside attention. The full rule adds these."
    )
    return (
        Paragraph(text=words(intro)),
        *figure_blocks(source, "architecture"),
        body_grid(source, "costs"),
    )


def _time(source: Source) -> tuple[Block, ...]:
    intro = (
        "Fewer MACs do not give proportionally less time. Both models are timed in turns in one process, so that their "
        "ratio is taken round by round. The times themselves are in an appendix."
    )
    main = [part for part in with_blocks(source.table("speed")) if part.rows and is_main_part(part)]
    # Of every machine the first table with ratios, which is its widest contest. The figure shows them all.
    ratios = [part for part in map(ratios_of, main) if part.rows]
    widest = {part.runs[0].environment.machine: part for part in reversed(ratios)}
    benches = [part for part in ratios if part is widest[part.runs[0].environment.machine]]
    shown = [ratios_by_machine(benches)] if len(benches) > 1 else benches or main
    by_onednn = {run.environment.device for part in main for run in part.runs if run.environment.onednn_float32}
    if by_onednn:
        intro += f" On {joined(sorted(by_onednn))} our models' large fp32 matrix products are oneDNN's."
    grids = (grid_of(part, see=SEE["speed"], command=command_of("speed"), notes=False) for part in shown)
    return (
        Paragraph(text=words(intro)),
        *figure_blocks(source, "speed"),
        *grids,
        *figure_blocks(source, "scaling"),
    )


def _paper(source: Source) -> tuple[Block, ...]:
    intro = (
        "Only runs at the paper's scale, on the paper's data and by the paper's recipe fill a cell beside its numbers. "
        'The row "AST [28]" of Tables 2 to 4 quotes another network, the audio branch of MBT. That network trained '
        "anew, and AST by MAST's protocol and by its authors' recipe, have rows of their own; claims compare MAST with "
        "the stronger AST, and hold only where both were run."
    )
    return (
        Paragraph(text=words(intro)),
        *(body_grid(source, name) for name in PAPER_TABLES[:5]),
        *figure_blocks(source, "ablations"),
        body_grid(source, "table6"),
        *drawn_figures(source, "figure2"),
    )


def _claims(source: Source) -> tuple[Block, ...]:
    return (body_grid(source, "claims"),)
