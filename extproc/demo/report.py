"""What the demo shows: where requests went, how good the estimates became, what the retry saved."""

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from extproc.demo.load import Outcome

START = 10
"""Requests of a kind that count as its start."""

END = 50
"""Requests of a kind, at most, that count as its end."""


def by_kind(outcomes: Sequence[Outcome]) -> Table:
    """A row a kind of text, and their sum."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("kind of text", no_wrap=True)
    table.add_column("taken for", no_wrap=True)
    for name in ("sent", "short", "long", "retried", "error:\nstart", "error:\nend"):
        table.add_column(name, justify="right", no_wrap=True)
    for kind in sorted({o.kind for o in outcomes}, key=str.lower):
        of_kind = [o for o in outcomes if o.kind == kind]
        table.add_row(kind, Counter(o.category for o in of_kind).most_common(1)[0][0], *_cells(of_kind))
    table.add_section()
    table.add_row("all", "", *_cells(outcomes), style="bold")
    return table


def _cells(outcomes: Sequence[Outcome]) -> list[str]:
    pools = Counter(o.pool for o in outcomes)
    start, end = errors(outcomes)
    counts = [len(outcomes), pools["short"], pools["long"], sum(o.attempts > 1 for o in outcomes)]
    return [*(str(c) for c in counts), _percent(start), _percent(end)]


def errors(outcomes: Iterable[Outcome]) -> tuple[float | None, float | None]:
    """Median absolute relative error of the first `START` and the last `END` estimates; None with too few."""
    known = [abs(o.error) for o in outcomes if o.error is not None]
    if len(known) < 2 * START:
        return None, None
    return statistics.median(known[:START]), statistics.median(known[START:][-END:])


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"


def summary(outcomes: Sequence[Outcome], seconds: float, with_filter: float, without: float) -> Table:
    """What happened on the whole. `with_filter`, `without`: median seconds of a small request."""
    refused = [o for o in outcomes if o.attempts > 1]
    saved = sum(o.status == 200 for o in refused)
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    answered = sum(o.status == 200 for o in outcomes)
    table.add_row("answered with 200", f"{answered} of {len(outcomes)}, in {seconds:.1f} s")
    table.add_row("refused by the short pool", f"{len(refused)}, of which the retry saved {saved}")
    table.add_row("cut at the short pool's end", str(sum(o.truncated and o.pool == "short" for o in outcomes)))
    reasons = Counter(o.reason for o in outcomes)
    table.add_row("reasons", ", ".join(f"{reason} {count}" for reason, count in reasons.most_common()))
    added = f"{1e3 * (with_filter - without):.2f} ms"
    table.add_row("added latency", f"{added} at the median ({1e3 * without:.2f} without Dualpool)")
    return table
