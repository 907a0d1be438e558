"""The appendices: stand-ins, details of cost and time, further runs, quotations, data, recipes, and all notes."""

from __future__ import annotations

from collections.abc import Iterable

from reports.body import PAPER_TABLES, REAL_AUDIO, body_tables, main_part, split_own
from reports.commands import command_of
from reports.data import clip_blocks, environment_blocks, paper_clips
from reports.document import Block, Bullets, Grid, Paragraph, Section, Sounds, code, reference, strong, with_code, words
from reports.figures import drawn_figures
from reports.findings import real_audio_findings
from reports.grids import blocks_of, grid_of, notes_of, readable, with_blocks
from reports.plots import PLOTS
from reports.plots.comparisons import by_width
from reports.sounds import SECONDS
from reports.source import Source
from reproduce.records.clusterings import FIGURE, REAL
from reproduce.tables import Table, table_specs
from reproduce.tables.recipes import recipes_table

BEYOND = ("calibration", "classes", "robustness", "transfer", "data_efficiency")
FIGURES_OF = {"classes": "class_differences"}  # table -> its figure where the name differs


def appendices(source: Source, sounds: Iterable[tuple[str, str]]) -> tuple[Section, ...]:
    """Sections after the body; those that the records leave empty are left out.

    Args:
        source: tables and figures.
        sounds: label and path of the sounds of a stand-in.
    """
    sections = (
        Section(key="notes", title="Notes on the tables of the body", blocks=_notes(source)),
        Section(key="further-runs", title="Further runs on real audio", blocks=_further_runs(source)),
        Section(key="beyond", title="Beyond top-1", blocks=_beyond(source)),
        Section(key="cost-details", title="Cost in detail", blocks=_cost_details(source)),
        Section(key="time-details", title="Time and memory in detail", blocks=_time_details(source)),
        Section(key="stand-ins", title="Synthetic stand-ins", blocks=_stand_ins(source, tuple(sounds))),
        Section(key="claims-quoted", title="The claims, quoted", blocks=_claims_quoted(source)),
        Section(
            key="data", title="Data", blocks=(paper_clips(source.inputs.paper), *clip_blocks(source.inputs.records))
        ),
        Section(key="recipes", title="Recipes and deviations", blocks=_recipes()),
        Section(key="reproduce", title="How to reproduce each number", blocks=_commands()),
        Section(key="machines", title="Machines and versions", blocks=environment_blocks(source.inputs.records)),
    )
    return tuple(section for section in sections if section.blocks)


def _notes(source: Source) -> tuple[Block, ...]:
    blocks: list[Block] = []
    for key, table in body_tables(source):
        if table.notes:
            blocks += [Paragraph(text=words(reference(key))), Bullets(items=notes_of(table))]
    return tuple(blocks)


def _rest(table: Table) -> list[Table]:
    """Every part of a table that the body does not show."""
    main = main_part(table)
    return [part for part in with_blocks(table) if part.rows and part is not main]


def _further_runs(source: Source) -> tuple[Block, ...]:
    parts = [*(part for name in REAL_AUDIO for part in _rest(source.table(name))), *split_own(source)[1]]
    search = [part for part in with_blocks(source.table("tune")) if part.rows]
    _, narrower = by_width(source.inputs.records)
    findings = real_audio_findings(source, narrower)
    clustered = [part for part in _rest(source.table("figure2")) if _is_real(part)]
    return (
        *((Bullets(items=tuple(findings)),) if findings else ()),
        *(grid_of(part) for part in parts),
        *(grid_of(part, command=command_of("tune")) for part in search),
        *drawn_figures(source, "confusion", "figure2_real"),
        *(grid_of(part) for part in clustered),
        *drawn_figures(source, "log_mel", "relative_positions"),
    )


def _is_real(part: Table) -> bool:
    """Whether a block is Figure 2 on real recordings, and not on a stand-in."""
    return part.name.startswith(f"{FIGURE} {REAL}")


def _beyond(source: Source) -> tuple[Block, ...]:
    """Every part that was run, each table before its figure."""
    blocks: list[Block] = []
    for name in BEYOND:
        table = source.table(name)
        blocks += [grid_of(part, command=command_of(name)) for part in with_blocks(table) if part.rows]
        figure = FIGURES_OF.get(name, name)
        blocks += drawn_figures(source, figure) if figure in PLOTS else ()
    return tuple(blocks)


def _cost_details(source: Source) -> tuple[Block, ...]:
    return (
        grid_of(source.table("table1"), command=command_of("table1")),
        *(grid_of(part) for part in _rest(source.table("costs"))),
    )


def _time_details(source: Source) -> tuple[Block, ...]:
    table = source.table("speed")
    parts = [part for part in with_blocks(table) if part.rows and part.runs]
    return (
        *((Bullets(items=notes_of(table)),) if table.notes else ()),
        *(grid_of(part) for part in parts),
        *blocks_of(source.table("scaling")),
    )


def _stand_ins(source: Source, sounds: tuple[tuple[str, str], ...]) -> tuple[Block, ...]:
    intro = (
        "A stand-in is a small synthetic corpus in a data set's official layout. Its results show that every table can "
        "be filled by the same code; they say nothing about the paper's models."
    )
    parts = [part for name in (*PAPER_TABLES, "figure2") for part in _rest(source.table(name)) if not _is_real(part)]
    caption = (
        f"In a stand-in, an action excites a material; both are drawn anew for every clip. {SECONDS:g} seconds of "
        f"each of the {len(sounds)} classes of VGGSound's stand-in, from sources that are in no split:"
    )
    return (
        Paragraph(text=words(intro)),
        *(grid_of(part) for part in parts),
        *((Paragraph(text=words(caption)), Sounds(sounds=sounds)) if sounds else ()),
    )


def _claims_quoted(source: Source) -> tuple[Block, ...]:
    notes = [note for block in source.table("claims").blocks for note in block.notes]
    return (Bullets(items=tuple(map(with_code, notes))),) if notes else ()


def _recipes() -> tuple[Block, ...]:
    table = recipes_table()
    blocks: list[Block] = [Bullets(items=notes_of(table))] if table.notes else []
    for part in table.blocks:
        if not part.rows:
            blocks.append(Paragraph(text=words(strong(readable(part.title)))))
        blocks += blocks_of(part)
    return tuple(blocks)


def _commands() -> tuple[Block, ...]:
    intro = words(
        "Every table and figure is a function of the records and of the numbers quoted from the paper. ",
        code("python -m reports"),
        " writes this report again; each command below prints one table, after measuring or training what has no "
        "record yet. DIR is the folder of a data set.",
    )
    rows = tuple((words(code(command_of(spec.name))), with_code(spec.help)) for spec in table_specs().values())
    grid = Grid(
        key="commands",
        caption=words("The command behind each table."),
        header=("Command", "What it prints"),
        rows=rows,
        left=frozenset({0, 1}),
    )
    return (Paragraph(text=intro), grid)
