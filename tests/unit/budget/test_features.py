"""The feature vector counts what its layout says, at any length."""

import pytest

from extproc.body.facts import Item
from extproc.budget.features import EXACT_BYTES, NAMES, features, text_bytes
from extproc.budget.least_squares import inputs
from extproc.budget.pairs import COUNTED, tables
from extproc.budget.prior import PRIOR

MIXED = "def total(rows):\n    return 10 + 2 * len(rows)  # Größe, «цена», カ格 — מחיר, سعر, giá trị, 42 가격 🎉\n"


def named(text: str, tools: bytes = b"", messages: int = 0) -> dict[str, float]:
    """The features that are not 0, by name."""
    vector = features(Item(text=text.encode(), tools=tools, messages=messages))
    return {name: count for name, count in zip(NAMES, vector, strict=True) if count}


def test_an_empty_prompt_has_no_features() -> None:
    """Nothing is counted where there is nothing."""
    assert named("") == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ab1 \n.", {"upper": 1, "lower": 1, "digit": 1, "space": 1, "line": 1, "prose_punctuation": 1}),
        ("é", {"latin_lead": 1}),
        ("ж", {"cyrillic_lead": 1}),
        ("λ", {"two_byte_lead": 1}),
        ("ש", {"two_byte_lead": 1, "hebrew": 1}),
        ("م", {"two_byte_lead": 1, "arabic": 1}),
        ("ế", {"indic_lead": 1, "vietnamese": 1}),
        ("ᓺ", {"indic_lead": 1, "rare_script": 1}),  # Canadian syllabics
        ("㨉", {"cjk_lead": 1, "rare_script": 1}),  # Han beyond the usual
        ("ქ", {"indic_lead": 1, "rare_script": None}),
        ("カ", {"cjk_lead": 1, "kana": 1}),
        ("ก", {"indic_lead": 1}),
        ("—", {"symbol_lead": 1}),
        ("語", {"cjk_lead": 1}),
        ("한", {"hangul_lead": 1}),
        ("🎉", {"four_byte_lead": 1}),
        ("\x00\x7f", {"line": 2}),
    ],
)
def test_a_character_counts_once_in_its_class(text: str, expected: dict[str, float]) -> None:
    """A character beyond ASCII is one lead byte; its continuation bytes are no feature."""
    found = named(text)
    assert {name: found.get(name) for name in expected} == expected


@pytest.mark.parametrize(
    ("feature", "first", "last"),
    [
        ("latin_lead", 0x80, 0x37F),
        ("cyrillic_lead", 0x400, 0x4FF),
        ("two_byte_lead", 0x380, 0x3FF),
        ("two_byte_lead", 0x500, 0x7FF),
        ("hebrew", 0x5C0, 0x5FF),
        ("arabic", 0x600, 0x67F),
        ("indic_lead", 0x800, 0x1FFF),
        ("symbol_lead", 0x2000, 0x2FFF),
        ("cjk_lead", 0x3000, 0x9FFF),
        ("cjk_lead", 0xE000, 0xFFFF),
        ("kana", 0x3000, 0x3FFF),
        ("hangul_lead", 0xA000, 0xD7FF),
        ("four_byte_lead", 0x10000, 0x10FFFF),
        ("rare_script", 0x1380, 0x177F),
        ("rare_script", 0x1800, 0x1DFF),
        ("rare_script", 0x3400, 0x4DBF),
        ("rare_script", 0xA000, 0xABFF),
    ],
)
def test_a_script_is_known_from_its_first_to_its_last_character(feature: str, first: int, last: int) -> None:
    """A block of UTF-8 bytes is a range of characters: none before it and none behind it counts for the feature."""
    assert [named(chr(code)).get(feature) for code in (first, last)] == [1, 1]
    near = [chr(code) for code in (first - 1, last + 1) if code not in (0xD800, 0xDFFF, 0x110000)]
    assert [named(text).get(feature) for text in near] == [None] * len(near)


@pytest.mark.parametrize(
    ("text", "feature", "count"),
    [
        ("two words", "word", 2),
        ("two words", "word_in_run", 1),  # the first has no space before it
        ("f(x, y)", "word_in_run", 2),
        ("    indented", "blank_in_run", 3),
        ("camelCaseName", "camel", 2),
        ("v1 b2", "letter_digit", 2),
        ("3d 4 K", "digit_letter", 1),
        ("20250101", "digit_in_run", 7),
        ("a, b...", "punctuation", 2),
        ("это 日本", "script", 2),
        ("f(x), g[y]; (z", "closed", 2),
        ("one\ntwo;\n", "line_after_letter", 1),
        ("2025-11-24 at 1.5", "decimal", 3),
        ("__name__ a_b", "snake", 2),
        ("# ---- //\n", "repeated", 4),
    ],
)
def test_a_run_counts_where_it_begins(text: str, feature: str, count: int) -> None:
    """Neighbours of different classes mark the beginning of a run."""
    assert named(text)[feature] == count


def test_tool_definitions_count_as_text_and_as_tool_bytes() -> None:
    """Their classes add to those of the text; their length stands for how the chat template prints them."""
    found = named("12", tools=b"345", messages=3)
    assert found == {"digit": 5, "digit_in_run": 3, "line": 1, "tool_bytes": 3, "messages": 3}


def test_letters_cost_more_the_less_they_follow_each_other_in_english() -> None:
    """English, Dutch and random letters cost ever more a letter, in either case."""
    english = named("the weather that they were thinking of when it started raining there again")
    dutch = named("het zou wel kunnen zijn dat jullie vrijwel zeker volgende week gelijk krijgen")
    random = named("qzj xkv pgw bdf yhj tcm vwx zqk jfp gbn xyw kqd hvz mjt wpx")
    costs = [text["letter_pairs"] / text["lower"] for text in (english, dutch, random)]
    assert costs == sorted(costs)
    assert costs[2] > 2 * costs[0]
    assert named("pj")["letter_pairs"] == pytest.approx(0.7)
    assert named("THE WEATHER")["letter_pairs"] == named("the weather")["letter_pairs"]


def test_few_cells_hold_all_pairs() -> None:
    """A histogram has a place for every cell, and no pair is without one."""
    cells, all_pairs, half = tables()
    assert all_pairs.shape == half.shape == (len(COUNTED), cells.max() + 1)
    assert all_pairs.shape[1] <= 256
    assert len(cells) == 1 << 16


@pytest.mark.parametrize("size", [EXACT_BYTES // 2, EXACT_BYTES * 3, EXACT_BYTES * 32])
def test_text_bytes_are_those_of_the_text(size: int) -> None:
    """Classes sum to the bytes of valid text, within 1 % where a sample is counted."""
    text = (MIXED * (size // len(MIXED.encode()) + 1)).encode()
    assert text_bytes(features(Item(text=text))) == pytest.approx(len(text), rel=0.01)


def test_every_byte_of_a_short_text_is_counted() -> None:
    """Those of each script, to the byte."""
    assert text_bytes(features(Item(text=MIXED.encode()))) == len(MIXED.encode())


@pytest.mark.parametrize("size", [EXACT_BYTES * 3, EXACT_BYTES * 32])
def test_a_sample_counts_like_the_whole(size: int) -> None:
    """Beyond `EXACT_BYTES` tokens stay within 3 %, every figure within 25 %, of what counting all gives."""
    part = EXACT_BYTES // 2
    repeats = size // part
    block = (MIXED * (part // len(MIXED.encode()))).encode()
    sampled = features(Item(text=block * repeats))
    whole = tuple(n * repeats for n in features(Item(text=block)))
    assert sampled == pytest.approx(whole, rel=0.25, abs=repeats)
    assert inputs(sampled).dot(PRIOR) == pytest.approx(inputs(whole).dot(PRIOR), rel=0.03)


def test_text_of_an_even_period_is_seen_from_both_sides() -> None:
    """Every second pair of a two-byte pattern shows both of its faces."""
    found = named("a1" * EXACT_BYTES)
    assert found["letter_digit"] == pytest.approx(EXACT_BYTES, rel=0.05)
    assert found["word_in_run"] == pytest.approx(EXACT_BYTES, rel=0.05)
