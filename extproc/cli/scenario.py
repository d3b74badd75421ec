"""The scenario that the arguments of `plan` and `simulate` describe (`extproc.cli.scenario_arguments`)."""

import argparse
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeVar

from extproc.config import Config
from extproc.config_file import ConfigError, load
from extproc.planning import cdf, tables, text, throughput, trace
from extproc.planning.catalog import MOST_FIGURE, Gpu, Model, find_gpu, find_model
from extproc.planning.engine import build_engine
from extproc.planning.errors import PlanError
from extproc.planning.estimates import exact, settled
from extproc.planning.scenario import LENGTHS, Scenario
from extproc.planning.sizing import Objective
from extproc.planning.text import TextModel
from extproc.planning.throughput import Measured
from extproc.planning.trace import Trace
from extproc.planning.workload import Floats, Workload, merge, with_caps

N = TypeVar("N", int, float)

LEAST_CONTEXT = 16
"""Tokens: one KV block."""

MOST_SPREAD = 100
"""Times the spread of real text: beyond it nothing can be estimated."""

OUTPUT_SHARES = (0.1, 0.25, 0.5, 0.75)

TOKENS = "tok"
"""Ends a throughput in tokens/s."""

FINITE = ("rate", "price", "ttft", "utilisation", "output_share", "bytes_per_token", "text_spread")
"""Options that take any number argparse can read, which includes nan and inf."""


def traces(args: argparse.Namespace) -> list[Trace]:
    """Open those sources that are traces of single requests. Raises `PlanError`."""
    return [_trace(name, args) for name in args.source if _kind(name) == "trace"]


def _kind(source: str) -> Literal["metrics", "cdf", "trace"]:
    if source.startswith(("http://", "https://")) or source.endswith((".prom", ".txt")):
        return "metrics"
    return "cdf" if source.endswith(".json") else "trace"


def _trace(name: str, args: argparse.Namespace) -> Trace:
    return trace.open_trace(Path(name), _columns(args.columns), args.bytes_per_token)


def _columns(text: str) -> dict[str, str]:
    if not text:
        return {}
    pairs = [part.partition("=") for part in text.split(",")]
    for key, _, value in pairs:
        if key not in tables.COLUMNS or not value:
            raise PlanError(
                f"--columns: {key}={value}: must be pairs of {', '.join(tables.COLUMNS)} and a column name"
            )
    return {key: value for key, _, value in pairs}


def workload(args: argparse.Namespace) -> Workload:
    """Read every source and return the traffic described. Raises `PlanError`."""
    if args.bytes_per_token <= 0:
        raise PlanError(f"--bytes-per-token: {args.bytes_per_token:g}: must be above 0")
    traffic = merge([_read(name, args) for name in args.source])
    if args.rate is not None:
        traffic = traffic.with_rate(args.rate)
    return with_caps(traffic, args.caps)


def _read(name: str, args: argparse.Namespace) -> Workload:
    match _kind(name):
        case "metrics":
            return cdf.read_metrics(name, args.output_share)
        case "cdf":
            return cdf.read_cdf(Path(name), args.output_share)
        case "trace":
            return trace.workload(_trace(name, args))


def scenario(args: argparse.Namespace) -> tuple[Scenario, Gpu, Model]:
    """Build the scenario of `args`. Raises `PlanError` for whatever is wrong with it."""
    for name in FINITE:
        value = getattr(args, name)
        if value is not None and not math.isfinite(value):
            raise PlanError(f"--{name.replace('_', '-')}: {value}: must be a finite number")
    gpu, model = find_gpu(args.gpu), find_model(args.model)
    if args.max_model_len > model.context:
        raise PlanError(f"--max-model-len: {args.max_model_len}: the context of {model.name} is {model.context}")
    engine = build_engine(
        gpu,
        model,
        tp=args.tp,
        max_model_len=args.max_model_len,
        concurrency=args.concurrency,
        dtype=args.dtype,
        kv_dtype=args.kv_dtype,
        max_num_seqs=args.max_num_seqs,
        batched_tokens=args.max_num_batched_tokens,
        price_per_gpu=args.price,
    )
    rates, lengths = _rates(args.throughput), _lengths(args.lengths, args.max_model_len)
    for length in rates:
        if length not in (*lengths, args.threshold, args.max_model_len):
            raise PlanError(f"--throughput: {length}: no pool with this max_model_len is looked at")
    traffic = workload(args)
    if args.spare < 0:
        raise PlanError(f"--spare: {args.spare}: must not be negative")
    if not 0 <= args.text_spread <= MOST_SPREAD:
        raise PlanError(f"--text-spread: {args.text_spread:g}: must be 0 to {MOST_SPREAD}")
    if args.price is not None and not 0 < args.price <= MOST_FIGURE:
        rule = f"must be above 0 dollars per GPU and hour and at most {MOST_FIGURE:g}"
        raise PlanError(f"--price: {args.price:g}: {rule}")
    return (
        Scenario(
            workload=traffic,
            engine=engine,
            objective=Objective(args.ttft, args.utilisation, args.spare),
            lengths=lengths,
            threshold=args.threshold,
            config=config(args),
            estimated=exact if args.estimates == "exact" else _learned(args, traffic),
            rates=rates,
            poisson=args.poisson,
        ),
        gpu,
        model,
    )


def output_shares(args: argparse.Namespace, scenario: Scenario) -> list[tuple[str, Scenario]]:
    """The scenario with other shares of output, where only totals are known."""
    if any(_kind(name) == "trace" for name in args.source):
        return []
    cases = []
    for share in OUTPUT_SHARES:
        other = workload(argparse.Namespace(**{**vars(args), "output_share": share}))
        cases.append((f"output {share:.0%} of totals", replace(scenario, workload=other)))
    return cases


def check_threshold(args: argparse.Namespace) -> None:
    """Raise `PlanError` for a threshold that leaves no short or no long pool."""
    if not LEAST_CONTEXT <= args.threshold < args.max_model_len:
        rule = f"must be at least {LEAST_CONTEXT} and below --max-model-len {args.max_model_len}"
        raise PlanError(f"--threshold: {args.threshold}: {rule}")


def texts(args: argparse.Namespace) -> TextModel:
    """The text model of `args`: measured from a file, or the built-in one. Raises `PlanError`."""
    measured = text.measure(args.texts) if args.texts else text.MEASURED
    return text.spread(measured, args.text_spread)


def config(args: argparse.Namespace) -> Config:
    """The estimator settings of `args`. Raises `PlanError` for a configuration that cannot be used."""
    try:
        return load(args.config) if args.config else Config()
    except ConfigError as error:
        raise PlanError(str(error)) from None


def _learned(args: argparse.Namespace, traffic: Workload) -> Callable[[Floats], Floats]:
    return settled(config(args), texts(args), traffic).below


def _lengths(text: str, full: int) -> tuple[int, ...]:
    values = sorted({_number(int, part, "--lengths") for part in text.split(",")})
    if text != ",".join(map(str, LENGTHS)):
        above = [v for v in values if v >= full]
        if above:
            raise PlanError(f"--lengths: {above[0]}: a threshold must be below --max-model-len {full}")
    if values[0] < LEAST_CONTEXT:
        raise PlanError(f"--lengths: {values[0]}: must be at least {LEAST_CONTEXT} tokens")
    return tuple(v for v in values if v < full)


def _rates(options: list[str]) -> dict[int, Measured]:
    """What was measured, by max_model_len. Raises `PlanError`."""
    found: dict[int, Measured] = {}
    for length, given in map(_rate, options):
        if length in found:
            raise PlanError(f"--throughput: {length}: is there twice")
        found[length] = given
    return found


def _rate(text: str) -> tuple[int, Measured]:
    name, _, value = text.partition("=")
    if not value:
        raise PlanError(f"--throughput: {text!r}: must be MAX_MODEL_LEN=RATE, as 8192=8.5")
    length = _number(int, name, "--throughput")
    if value.endswith(".json"):
        return length, throughput.read_bench(Path(value))
    if value.endswith(TOKENS):
        return length, Measured(_number(float, value.removesuffix(TOKENS), "--throughput"), "tokens")
    return length, Measured(_number(float, value, "--throughput"))


def _number(kind: Callable[[str], N], text: str, option: str) -> N:
    try:
        return kind(text)
    except ValueError:
        raise PlanError(f"{option}: {text!r}: must be a number") from None
