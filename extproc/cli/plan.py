"""`dualpool plan`: would two pools pay, where is the threshold, how many instances of each?"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

from extproc.cli import scenario as scenarios
from extproc.cli import tables
from extproc.planning.engine import Concurrency
from extproc.planning.errors import PlanError
from extproc.planning.nextsteps import vllm_commands, write_configuration
from extproc.planning.record import Record, plan_record
from extproc.planning.search import Planner, Scenario, best, verdict


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `plan`."""
    scenarios.add_arguments(parser)
    search = parser.add_argument_group("search")
    search.add_argument("--pools", type=int, default=2, choices=(2, 3, 4), help="pools to split into (default: 2)")
    search.add_argument("--threshold", type=int, help="size this threshold only, instead of searching")
    search.add_argument(
        "--objective", choices=("gpus", "cost"), default="gpus", help="what to minimise (default: gpus)"
    )
    search.add_argument("--present", type=int, metavar="INSTANCES", help="size of the fleet in use, as a baseline")
    output = parser.add_argument_group("output")
    output.add_argument("--json", action="store_true", help="print everything as JSON")
    output.add_argument("--write-config", type=Path, metavar="DIR", help="write a Dualpool configuration there")


def run(args: argparse.Namespace) -> int:
    """Plan and report; 0 when the fleet meets its objective, 1 when it does not, 2 for wrong input."""
    try:
        record = make(args)
        if args.write_config:
            path = write_configuration(record, args.write_config)
            print(f"wrote {path}", file=sys.stderr)
    except PlanError as error:
        print(error, file=sys.stderr)
        return 2
    if args.json:
        print(json.dumps(record, indent=1))
    else:
        tables.print_plan(record)
    return 1 if record["problems"] else 0


def make(args: argparse.Namespace) -> Record:
    """Return the record of the plan `args` asks for."""
    if args.present is not None and args.present < 1:
        raise PlanError(f"--present: {args.present}: must be at least 1 instance")
    if args.threshold is not None:
        args.lengths, args.pools = str(args.threshold), 2
    scenario, gpu, model = scenarios.scenario(args)
    planner = Planner(scenario)
    with tables.progress("thresholds") as report:
        curve = planner.curve(args.pools, report)
    record = plan_record(planner, curve, args.objective, args.present, gpu, model, scenarios.texts(args))
    record["other"] = _other(scenario, args)
    record["next"] = vllm_commands(record)
    return record


def _other(scenario: Scenario, args: argparse.Namespace) -> Record:
    """The headline under the other concurrency assumption, because the two differ more than anything else."""
    other: Concurrency = "paged" if scenario.engine.concurrency == "reserved" else "reserved"
    planner = Planner(replace(scenario, engine=replace(scenario.engine, concurrency=other)))
    chosen = best(planner.curve(args.pools), args.objective)
    return {"concurrency": other, "thresholds": list(chosen.thresholds), "headline": verdict(chosen, planner)}
