"""`python -m benchmarks.accuracy [FILE.jsonl.gz]`: errors of every estimator, and what they do to routing."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.accuracy import measure
from benchmarks.accuracy.data import STAND_IN, Row, read
from benchmarks.accuracy.estimate import LINEAR, METHODS, RAW, Estimates, Method, estimate
from benchmarks.accuracy.plot import draw
from extproc.planning.request_log import LogError

HEADS = ("median", "p95", "p99", "bias", "under by > 10 %", "under by > 25 %")


def main() -> int:
    """Print every table; 2 when the file cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__)
    parser.add_argument("file", type=Path, nargs="?", help="requests with true token counts (default: a stand-in)")
    parser.add_argument("--shuffles", type=int, default=20, help="random orders for routing (default: 20)")
    parser.add_argument("--plot", type=Path, default=Path("accuracy.svg"), help="where to draw (accuracy.svg)")
    args = parser.parse_args()
    try:
        rows = read(args.file)
    except LogError as error:
        print(error, file=sys.stderr)
        return 2
    if args.file is None:
        print(
            f"No file given: {len(rows)} requests of text from this Python installation, counted by {STAND_IN}.\n"
        )
    tokenizers = list(rows[0].tokens)
    curves = {}
    for tokenizer in tokenizers:
        _errors(rows, tokenizer)
        curves[tokenizer] = _routing(rows, tokenizer, args.shuffles)
    _kinds(rows, tokenizers)
    _changes(rows, tokenizers)
    _time(rows)
    args.plot.write_text(draw(measure.STEPS, curves), "utf-8")
    print(f"\nLearning curves are drawn in {args.plot}.")
    return 0


def _head(title: str, columns: Sequence[str]) -> None:
    print(f"\n### {title}\n\n| | {' | '.join(columns)} |\n|---{'|---' * len(columns)}|")


def _row(name: str, values: Sequence[float]) -> None:
    print(f"| {name} | {' | '.join(f'{value:.1f} %' for value in values)} |", flush=True)


def _errors(rows: Sequence[Row], tokenizer: str) -> None:
    order = range(len(rows))
    found = {m.name: estimate(m, rows, [tokenizer] * len(rows), order) for m in METHODS}
    for least in (1, measure.LARGE):
        _head(f"{tokenizer}: prompts of {least} tokens and more, in the order of the file", HEADS)
        for name, estimates in found.items():
            _row(name, measure.errors(estimates, least))


def _routing(rows: Sequence[Row], tokenizer: str, shuffles: int) -> list[float]:
    """Print routing tables, and return the learning curve."""
    _routed(RAW, measure.shuffled(RAW, rows, tokenizer, shuffles), tokenizer)
    runs = measure.shuffled(LINEAR, rows, tokenizer, shuffles)
    _routed(LINEAR, runs, tokenizer)
    found = measure.curve(runs)
    _head(
        f"{tokenizer}: median error after so many observations", [str(step) for step in measure.STEPS[: len(found)]]
    )
    _row("linear", found)
    return found


def _routed(method: Method, runs: Sequence[Estimates], tokenizer: str) -> None:
    columns = ("false short", "false long", "wrong within ± 25 %")
    _head(f"{tokenizer}: routing, {method.name}, mean of {len(runs)} shuffles [95 % bootstrap interval]", columns)
    for threshold in measure.THRESHOLDS:
        for name, margin in (("0", 0.0), ("10 %", measure.FIXED_MARGIN), ("learned", None)):
            shares = zip(*(measure.routing(run, threshold, margin) for run in runs), strict=True)
            cells = (measure.interval(share) for share in shares)
            text = " | ".join(f"{mean:.3f} % [{low:.3f}, {high:.3f}]" for mean, low, high in cells)
            print(f"| {threshold}, margin {name} | {text} |", flush=True)


def _kinds(rows: Sequence[Row], tokenizers: Sequence[str]) -> None:
    _head("median / p95 error by kind of body, linear", tokenizers)
    runs: list[Estimates] = [estimate(LINEAR, rows, [name] * len(rows), range(len(rows))) for name in tokenizers]
    for kind in sorted({row.kind for row in rows}):
        chosen = [number for number, row in enumerate(rows) if row.kind == kind]
        cells = []
        for run in runs:
            size = abs(run.error[chosen])
            size.sort()
            cells.append(f"{100 * size[len(size) // 2]:.1f} / {100 * size[int(0.95 * len(size))]:.1f} %")
        print(f"| {kind} | {' | '.join(cells)} |")


def _changes(rows: Sequence[Row], tokenizers: Sequence[str]) -> None:
    """Each tokenizer replaced by the next in the middle of the stream."""
    if len(tokenizers) < 2:
        return
    _head("the tokenizer replaced in the middle: median error by hundreds", ("0", "100", "200", "300", "final"))
    for before, after in zip(tokenizers, (*tokenizers[1:], tokenizers[0]), strict=True):
        hundreds, final = measure.change(rows, before, after)
        _row(f"{before} to {after}", [*hundreds.tolist(), final])


def _time(rows: Sequence[Row]) -> None:
    """CPU time of one estimate and one update, features not included (`python -m benchmarks` has those)."""
    start = time.thread_time()
    estimate(LINEAR, rows, [next(iter(rows[0].tokens))] * len(rows), range(len(rows)))
    print(f"\nEstimate and update together: {1e6 * (time.thread_time() - start) / len(rows):.0f} µs of CPU time.")


if __name__ == "__main__":
    sys.exit(main())
