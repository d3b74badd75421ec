"""`dualpool calibrate`: learn from a log of requests before the first one is routed."""

import argparse
import statistics
import sys
import time
from collections import defaultdict
from pathlib import Path

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from extproc.body.facts import PromptFacts
from extproc.body.usage import Usage
from extproc.budget.learner import Learner, new_budgeter, new_learner
from extproc.budget.sums import Table as Figures
from extproc.cli.console import Report
from extproc.config import Config
from extproc.config_file import ConfigError, load
from extproc.planning.request_log import LogError, Logged, RequestLog
from extproc.state.codec import BadStateError, faded
from extproc.state.file import load as load_state
from extproc.state.file import save

EPILOG = """\
A log holds a JSON object a line, gzipped or not:
  {"path": "/v1/chat/completions", "body": {...}, "prompt_tokens": 123}
  {"request": {...}, "response": {"usage": {"prompt_tokens": 123, "completion_tokens": 45}}}
Set state.file to the file that is written, and `dualpool serve` starts with what it holds. If FILE exists, its
figures are added to, so the same log given twice counts twice: delete FILE to start afresh. First stop any service
that uses FILE as its state.file: it may not see what is added while it runs, and what it writes meanwhile is lost.
"""

Errors = dict[str, list[tuple[float, float]]]
"""By kind of body: relative error of what was known at first, and of what had been learned at a request."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `calibrate`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("logs", type=Path, nargs="+", metavar="LOG", help="request logs, oldest first")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="YAML configuration (default: built-in defaults)"
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="state file to write or add to (default: state.file)"
    )
    parser.add_argument(
        "--model", metavar="NAME", help="model that all requests are counted as, whatever their bodies say"
    )
    parser.add_argument(
        "--tokenizer", metavar="NAME", help="the model's own tokenizer, where the log has token counts of several"
    )


def run(args: argparse.Namespace) -> int:
    """Learn and write the state; 0 when it is written, 2 when the configuration or a log cannot be used."""
    try:
        config = load(args.config)
        output = args.output or config.state.file
        if output is None:
            raise LogError("--output: needed, since no state.file is configured")
        kept = _kept(config, output)
        learner = _starting(config, kept)
        errors = _learn(config, _starting(config, kept), learner, args)
        save(output, learner.export())
    except (ConfigError, LogError) as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"--output: {output}: cannot be written: {error.strerror}", file=sys.stderr)
        return 2
    Report().print(_table(errors))
    added = "are added to what it held" if kept else "are in it"
    print(f"{output}: figures of {sum(map(len, errors.values()))} requests {added}; set state.file to it")
    return 0


def _kept(config: Config, output: Path) -> Figures:
    """Return what `output` holds, as sure as a start would take it. Raises `LogError` when it is no state."""
    try:
        stored = load_state(output)
    except BadStateError as error:
        raise LogError(f"--output: {output}: {error}: delete it, or name another file") from None
    except OSError as error:
        raise LogError(f"--output: {output}: cannot be read: {error.strerror}") from None
    return {} if stored is None else faded(stored, time.time(), config.state.half_life_seconds)


def _starting(config: Config, kept: Figures) -> Learner:
    learner = new_learner(config)
    learner.adopt(kept)
    return learner


def _learn(config: Config, known: Learner, learner: Learner, args: argparse.Namespace) -> Errors:
    """Teach `learner` every request; return its errors on the way beside those of `known`. Raises `LogError`."""
    knowing, learning = (new_budgeter(config, each) for each in (known, learner))
    largest = max((pools[-1] for pools in config.pools.values()), key=lambda pool: pool.capacity)
    errors: Errors = defaultdict(list)
    skipped = 0
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        for path in args.logs:
            log = RequestLog(path)
            task = progress.add_task(escape(path.name), total=log.size)
            for logged in log:
                progress.update(task, completed=log.position)
                facts = _named(logged.facts, args.model)
                tokens = _tokens(path, logged, args.tokenizer)
                before, budget = knowing.budget(facts), learning.budget(facts)
                if budget.teaches and budget.basis == "text" and tokens > 0:
                    error = before.expected / tokens - 1, budget.expected / tokens - 1
                    errors[logged.kind or budget.category].append(error)
                usage = Usage(tokens, logged.completion_tokens)
                learner.learn(msgspec.structs.replace(budget.sent_to(largest, facts, True), usage=usage))
            progress.update(task, completed=log.size)
            skipped += log.skipped
    if not errors:
        raise LogError(f"{args.logs[0]}: holds no request with text and prompt tokens ({skipped} lines without)")
    if skipped:
        print(f"{skipped} lines held nothing to learn from", file=sys.stderr)
    return errors


def _named(facts: PromptFacts, model: str | None) -> PromptFacts:
    return facts if model is None else msgspec.structs.replace(facts, model=model)


def _tokens(path: Path, logged: Logged, tokenizer: str | None) -> int:
    """Return the true prompt tokens. Raises `LogError` when the log has several and none of them was asked for."""
    if tokenizer is None and len(logged.tokens) == 1:
        return next(iter(logged.tokens.values()))
    found = logged.tokens.get(tokenizer or "", logged.tokens.get(""))
    if found is None:
        raise LogError(f"{path}: prompt_tokens: {sorted(logged.tokens)}: name one of them with --tokenizer")
    return found


def _table(errors: Errors) -> Table:
    """Median absolute error by kind: of what was known at first, and of what had been learned at a request."""
    columns = ("kind of body", "requests", "error before", "error after")
    table = Table(*columns, title="Median error of prompt tokens")
    for kind, found in sorted(errors.items()):
        table.add_row(escape(kind), str(len(found)), *_medians(found))
    table.add_section()
    every = [pair for found in errors.values() for pair in found]
    table.add_row("all", str(len(every)), *_medians(every))
    return table


def _medians(found: list[tuple[float, float]]) -> tuple[str, str]:
    """The second is that of the later half: the first half teaches."""
    before = statistics.median(abs(prior) for prior, _ in found)
    after = statistics.median(abs(learned) for _, learned in found[len(found) // 2 :])
    return f"{100 * before:.1f} %", f"{100 * after:.1f} %"
