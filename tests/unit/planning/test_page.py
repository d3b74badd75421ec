"""Rules of `extproc.planning.page` and `charts`."""

import re
from html.parser import HTMLParser
from typing import Any

import pytest

from extproc.planning.charts import HEIGHT, WIDTH, Lines, bars, dollars, percent, short, tokens
from extproc.planning.page import page

VOID = {"meta"}


class Balance(HTMLParser):
    """Collects tags that are closed out of order, and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002 - the parser's
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """A tag that closes itself opens nothing."""

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def record(**changes: Any) -> dict[str, Any]:
    pool = {
        "max_model_len": 4096,
        "instances": 3,
        "gpus": 24,
        "share": 0.9,
        "requests_per_second_per_instance": 5.0,
        "measured": True,
        "sequences": 16.0,
        "utilisation": 0.8,
        "ttft_p99": 0.7,
    }
    split = {
        "label": "2 pools cut at 4096",
        "thresholds": [4096],
        "instances": 5,
        "gpus": 40,
        "cost_per_year": 2e6,
        "saved": 0.3,
        "predicted": 0.31,
        "alpha": 0.9,
        "rho": 1.5,
        "sigma": 0.4,
        "problems": [],
        "pools": [pool],
    }
    base = {"label": "one pool", "instances": 9, "gpus": 72, "cost_per_year": 3e6, "saved": 0.3, "problems": []}
    fleet = {"ttft": {"p50": 0.1, "p99": 1.0}, "preemptions_per_1000": 2.5}
    return {
        "remarks": [],
        "headline": "Splitting saves 30.0%.",
        "workload": {
            "name": "<trace> & co",
            "rows": 10,
            "bad_rows": 1,
            "sized_for": 100.0,
            "notes": ["a note"],
            "cdf": [[10, 0.0], [1000, 0.5], [9000, 1.0]],
            "budget_cdf": [[20, 0.0], [2000, 0.5], [9000, 1.0]],
        },
        "instance": {
            "model": "M",
            "gpu": "G",
            "gpus_per_instance": 8,
            "price_per_gpu_hour": 2.0,
            "concurrency": "paged",
        },
        "other": {"concurrency": "reserved", "headline": "Splitting saves 40.0%."},
        "baselines": [base],
        "chosen": split,
        "curve": [split, {**split, "thresholds": [8192], "gpus": 44}],
        "sensitivity": [{"what": "rate x 2", "gpus": 80, "saved": 0.31, "met": False}],
        "assumptions": ["an assumption"],
        "sources": ["a source"],
        "next": ["vllm serve M"],
        "problems": [],
        "simulation": [{"policy": "learned", "requests": 1000, "fleet": fleet}],
    } | changes


def parsed(document: str) -> Balance:
    parser = Balance()
    parser.feed(document)
    parser.close()
    return parser


def test_page_is_well_formed() -> None:
    """Every tag is closed in order."""
    result = parsed(page(record()))
    assert (result.wrong, result.open) == ([], [])


def test_page_loads_nothing() -> None:
    """The page is self-contained: no script, no address of anything."""
    document = page(record())
    assert not re.search(r"<script|https?://|src=|@import|url\(", document)


def test_page_escapes_what_it_shows() -> None:
    """Names from files are text, not markup."""
    document = page(record())
    assert "<trace>" not in document
    assert "<trace> & co" in parsed(document).text


@pytest.mark.parametrize(
    "words",
    [
        "Splitting saves 30.0%.",
        "Under reserved concurrency instead",
        "an assumption",
        "a note",
        "a source",
        "vllm serve M",
    ],
)
def test_page_says(words: str) -> None:
    """Headline, the other assumption, assumptions, notes, sources and next steps are on the page."""
    assert words in parsed(page(record())).text


def test_page_has_a_chart_of_each_kind() -> None:
    """Lengths, thresholds, the closed form, cost, TTFT and preemptions are drawn."""
    assert page(record()).count("<svg") == 6


def test_page_without_simulation() -> None:
    """Without a simulation there are no charts of policies."""
    assert page(record(simulation=None)).count("<svg") == 4


def test_problems_lead() -> None:
    """What is not met stands before every chart."""
    document = page(record(problems=["too slow"]))
    assert document.index("Not met: too slow") < document.index("<svg")


def test_pairs_of_thresholds_are_bars() -> None:
    """With three pools there is no curve over one threshold."""
    curve = [{**record()["chosen"], "thresholds": [1024, 4096]}]
    assert "1024, 4096" in parsed(page(record(curve=curve))).text


def test_lines_stay_inside_the_frame() -> None:
    """Every point of a chart lies within its frame."""
    svg = Lines("x", "y", [("a", [(1.0, 0.0), (1000.0, 5.0)])], x_log=True, marks=[(30.0, "m")]).svg("chart")
    points = re.findall(r"([\d.]+),([\d.]+)", re.search(r'points="([^"]+)"', svg)[1])  # type: ignore[index]
    assert len(points) == 2
    assert all(0 <= float(x) <= WIDTH and 0 <= float(y) <= HEIGHT for x, y in points)


def test_a_single_threshold_is_drawn() -> None:
    """An axis from one place to the same place is not divided by zero."""
    assert "<polyline" in Lines("x", "y", [("a", [(4096.0, 40.0)])], x_log=True).svg("chart")


def test_bars_of_nothing() -> None:
    """Bars without length are drawn as a hairline with their value."""
    assert "0.00" in bars("b", "y", [("g", [("n", 0.0)])], lambda v: f"{v:.2f}")


def test_numbers_in_few_characters() -> None:
    """Numbers are shortened by thousands, tokens by 1,024."""
    assert [short(v) for v in (12, 1500, 2.5e6, 3e9)] == ["12", "1.5k", "2.5M", "3B"]
    assert (dollars(2e6), percent(0.25), tokens(512), tokens(8192)) == ("$2M", "25%", "512", "8K")
