"""paper.json says what the paper says: checked against its text, and against itself."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from reproduce.paper import MODELS, PAPER_JSON, ArchitectureRow, Claim, Layer, QuotedTable, load_paper

SHARED = Path(os.environ.get("MAST_SHARED", Path(__file__).resolve().parents[2] / "shared"))
PRINTED_TABLES = ("table2", "table3", "table4", "table5", "table6")
NUMBER_WORDS = {"two": "2"}
NUMBER_SCALES = {"K": 1e3, "M": 1e6, " million": 1e6}

paper = load_paper()


@pytest.fixture(scope="session")
def shared_paper() -> str:
    """The paper's text, every run of white space as one space."""
    return _one_line(_paper_markdown())


@pytest.fixture(scope="session")
def printed_tables() -> dict[str, list[list[str]]]:
    """The paper's tables as lists of stripped cells, header first, by key ("table2")."""
    tables: dict[str, list[list[str]]] = {}
    key = ""
    for line in _paper_markdown().splitlines():
        if caption := re.match(r"\**Table (\d)\.?\**\.? ", line):
            key = f"table{caption[1]}"
        elif line.startswith("|") and not set(line) <= set("|- "):
            tables.setdefault(key, []).append([_plain_math(cell.strip()) for cell in line.strip("|").split("|")])
    return tables


def _paper_markdown() -> str:
    path = SHARED / "paper" / "mast.md"
    if not path.exists():
        pytest.skip(f"needs {path} (the paper's text, which the repository does not ship; set MAST_SHARED)")
    return path.read_text(encoding="utf-8")


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def _plain_math(text: str) -> str:
    return text.replace("$", "").replace(r" \times ", "×")


def _numbers_in(text: str) -> set[float]:
    """Every number of a sentence: "22,914" -> 22914, "200K" -> 200000, "2 million" -> 2000000, "two" -> 2."""
    for word, digits in NUMBER_WORDS.items():
        text = re.sub(rf"\b{word}\b", digits, text)
    found = re.findall(r"(\d+(?:,\d{3})*(?:\.\d+)?)(K\b|M\b| million)?", text)
    return {float(digits.replace(",", "")) * NUMBER_SCALES.get(scale, 1) for digits, scale in found}


def _as_printed(table: QuotedTable, row: str, column: str) -> str:
    value = table.cell(row, column)
    return "-" if value is None else f"{value:.{table.column(column).decimals}f}"


def _implied(claim: Claim) -> float:
    value = claim.implied(paper.claim_values(claim))
    assert value is not None, claim.key
    return value


# --- against the paper's text ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", PRINTED_TABLES)
def test_every_cell_equals_the_printed_table(key: str, printed_tables: dict[str, list[list[str]]]) -> None:
    table = paper.table(key)
    ours = [["", *(column.title for column in table.columns)]]
    ours += [[row.label, *(_as_printed(table, row.key, column.key) for column in table.columns)] for row in table.rows]
    printed = printed_tables[key]
    if key == "table6":
        printed = [list(line) for line in zip(*printed, strict=True)]
    assert [ours[0][1:], *ours[1:]] == [printed[0][1:], *printed[1:]]


def test_every_line_of_the_architecture_table_equals_the_printed_one(
    printed_tables: dict[str, list[list[str]]],
) -> None:
    def printed_layer(layer: Layer | None) -> list[str]:
        return ["-", "-"] if layer is None else [layer.feature, layer.arch]

    ours = [[row.label, *printed_layer(row.ast), *printed_layer(row.mast)] for row in paper.architecture.rows]
    assert ours == printed_tables["table1"][2:]  # two header lines


def test_captions_are_quoted_word_for_word(shared_paper: str) -> None:
    captions = [paper.architecture.caption, *(paper.table(key).caption for key in PRINTED_TABLES)]
    assert [caption for caption in captions if caption not in shared_paper] == []


def test_title_and_authors_are_those_of_the_paper(shared_paper: str) -> None:
    assert shared_paper.startswith(f"# {paper.title.upper()} ")
    assert all(author in shared_paper for author in paper.authors)


@pytest.mark.parametrize("key", paper.facts)
def test_fact_quote_is_in_the_paper(key: str, shared_paper: str) -> None:
    assert paper.fact(key).quote in shared_paper


@pytest.mark.parametrize("claim", paper.claims, ids=lambda claim: claim.key)
def test_claim_quote_is_in_the_paper(claim: Claim, shared_paper: str) -> None:
    assert claim.quote in shared_paper


# --- against itself -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", paper.facts)
def test_fact_value_stands_in_its_quote(key: str) -> None:
    fact = paper.fact(key)
    if isinstance(fact.value, str):
        assert fact.value in fact.quote
    else:
        assert float(fact.value) in _numbers_in(fact.quote)


@pytest.mark.parametrize("model", MODELS)
def test_layer_numbers_agree_with_the_printed_feature(model: str) -> None:
    for row in paper.architecture.rows:
        layer = row.layer(model)
        if layer is None:
            continue
        expected = {
            "input": f"{layer.width}×{layer.freq}×{layer.time}",
            "head": f"{layer.width}",
        }.get(layer.kind, f"{layer.width}×{layer.tokens}")
        grid = f"{layer.width}×({layer.tokens}={layer.freq}×{layer.time})"
        assert layer.feature in (expected, grid), row.key
        if layer.tokens is not None:
            assert layer.freq is not None and layer.time is not None
            assert layer.tokens == layer.freq * layer.time, row.key


@pytest.mark.parametrize(("model", "depth"), [("ast", 12), ("mast", 24)])
def test_architecture_table_covers_each_block_once(model: str, depth: int) -> None:
    listed = [n for row in paper.architecture.rows for n in row.blocks]
    assert listed == list(range(25))  # 24 is MAST's head, called a block in Table 1
    assert list(paper.architecture.blocks(model)) == list(range(depth))


@pytest.mark.parametrize("row", paper.architecture.rows, ids=lambda row: row.key)
def test_block_numbers_agree_with_the_printed_label(row: ArchitectureRow) -> None:
    ends = [int(n) for n in re.findall(r"\d+", row.label)]
    assert row.blocks == (tuple(range(ends[0], ends[-1] + 1)) if ends else ())


def test_stated_gains_are_the_differences_of_the_tables() -> None:
    gains = [claim for claim in paper.claims if claim.kind == "accuracy_gain" and claim.stated]
    assert len(gains) == 3
    for claim in gains:
        assert _implied(claim) == pytest.approx(paper.stated(claim)), claim.key


@pytest.mark.parametrize(
    ("key", "implied", "agrees"),
    [
        ("macs_times_less", 103.4 / 25.6, False),  # "5x": 4.04
        ("macs_percent_of_ast", 2560 / 103.4, False),  # "24%": 24.8
        ("params_percent_of_ast", 5130 / 88.1, True),
        ("params_percent_less", 3680 / 88.1, True),
        ("missing_audioset_test", 100 * 4554 / 20372, False),  # "23%": 22.4
        ("missing_audioset_balanced", 100 * 4339 / 22162, True),
        ("missing_audioset_full", 100 * 407247 / 2e6, False),  # "about 25%": 20.4
        ("missing_audioset_at_least", 100 * (1 - 1_626_394 / 2_042_534), True),  # "over 20%": 20.4
    ],
)
def test_stated_ratio_against_the_papers_own_numbers(key: str, implied: float, agrees: bool) -> None:
    claim = paper.claim(key)
    assert _implied(claim) == pytest.approx(implied)
    assert (round(_implied(claim)) == paper.stated(claim)) is agrees


def test_orders_the_paper_claims_hold_in_its_own_tables() -> None:
    orders = [claim for claim in paper.claims if claim.relation in ("exceeds", "each_exceeds", "below")]
    assert len(orders) >= 10
    margins = {claim.key: _implied(claim) for claim in orders}
    assert {key: margin for key, margin in margins.items() if not margin > 0} == {}


def test_exceeds_fails_when_a_single_rival_is_better() -> None:
    claim = paper.claim("multiscale_pooling_helps")
    assert claim.implied([30.0, 29.0, 31.0, 28.0]) == pytest.approx(-1.0)


def test_each_exceeds_fails_when_a_single_pair_is_the_other_way_round() -> None:
    claim = paper.claim("outperforms_on_all_four")
    assert claim.implied([2, 1, 4, 1, 5, 3, 9, 8.5, 6, 2]) == pytest.approx(0.5)
    assert claim.implied([2, 1, 4, 1, 3, 5, 9, 8, 6, 2]) == pytest.approx(-2)


def test_bounds_are_stated_in_the_words_of_their_sentences() -> None:
    words = {claim.key: claim.stated_as for claim in paper.claims if claim.stated_as != "number"}
    assert words == {
        "missing_audioset_full": "about",
        "missing_audioset_at_least": "over",
        "missing_audioset_balanced_at_least": "over",
    }
    for key, word in words.items():
        assert word in paper.claim(key).quote.lower()


def test_below_fails_when_a_single_rival_is_lower() -> None:
    assert paper.claim("fewer_tokens").implied([2048, 1212]) == -836


def test_ablations_start_from_the_balanced_audioset_result() -> None:
    assert paper.cell("ablations", "mast", "map") == paper.cell("table5", "mast", "balanced")


@pytest.mark.parametrize("claim", paper.claims, ids=lambda claim: claim.key)
def test_every_ref_of_a_claim_resolves(claim: Claim) -> None:
    assert len(paper.claim_values(claim)) == len(claim.refs) > 0
    assert (paper.stated(claim) is None) == (claim.stated is None)


def test_no_key_is_listed_twice() -> None:
    def refuse_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
        keys = [key for key, _ in pairs]
        assert len(keys) == len(set(keys)), keys
        return dict(pairs)

    json.loads(PAPER_JSON.read_text(encoding="utf-8"), object_pairs_hook=refuse_repeats)
    listed = {key: [row.key for row in table.rows] for key, table in paper.tables.items()}
    listed["table1"] = [row.key for row in paper.architecture.rows]
    listed["claims"] = [claim.key for claim in paper.claims]
    assert {where: keys for where, keys in listed.items() if len(keys) != len(set(keys))} == {}


# --- what callers rely on -------------------------------------------------------------------------------------------


def test_cell_is_none_where_the_paper_prints_a_dash() -> None:
    assert paper.cell("table5", "panns", "macs") is None
    assert paper.resolve("table5.panns.macs") is None


def test_measurements_stand_in_the_rows_the_authors_ran() -> None:
    measurable = [
        (table.key, row.key, row.measured_as)
        for table in paper.tables.values()
        for row in table.rows
        if row.measured_as and table.key != "ablations"
    ]
    assert measurable == [
        ("table2", "mast", "mast"),
        ("table3", "mast", "mast"),
        ("table4", "mast", "mast"),
        ("table5", "ast_our_as", "ast"),
        ("table5", "mast", "mast"),
        ("table6", "ast", "ast"),
        ("table6", "mast", "mast"),
    ]


@pytest.mark.parametrize(
    ("call", "known"),
    [
        (lambda: paper.cell("table9", "mast", "macs"), "table5"),
        (lambda: paper.cell("table5", "masst", "macs"), "ast_our_as"),
        (lambda: paper.cell("table5", "mast", "flops"), "params"),
        (lambda: paper.fact("epochs"), "epochs_kinetics_sounds"),
        (lambda: paper.claim("faster"), "macs_times_less"),
        (lambda: paper.architecture.row("block_99"), "block_21"),
        (lambda: paper.architecture.blocks("vit"), "mast"),
        (lambda: paper.resolve("facts.epochs"), "epochs_kinetics_sounds"),
        (lambda: paper.resolve("table1.block_21.mast.height"), "freq"),
        (lambda: paper.resolve("table5.mast"), "TABLE.ROW.COLUMN"),
    ],
)
def test_unknown_key_is_an_error_that_lists_the_known_ones(call: Callable[[], object], known: str) -> None:
    with pytest.raises(KeyError, match=f"unknown .*known: .*{known}"):
        call()


def test_claim_refuses_a_wrong_number_of_values() -> None:
    with pytest.raises(ValueError, match="multiscale_pooling_helps"):
        paper.claim("multiscale_pooling_helps").implied([31.4, 28.8])
