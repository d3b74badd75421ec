"""`dualpool plan`: would two pools pay, where is the threshold, how many instances of each?"""

import argparse
import json
import sys
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from extproc.cli import plan_tables, tables
from extproc.cli import scenario as scenarios
from extproc.cli import simulate as simulations
from extproc.cli.scenario_arguments import add_scenario_arguments
from extproc.config_types import HostPort
from extproc.planning.compare import missed, simulate, simulated, unsettled
from extproc.planning.errors import PlanError
from extproc.planning.nextsteps import vllm_commands, write_configuration
from extproc.planning.page import page
from extproc.planning.record import Record, plan_record
from extproc.planning.scenario import LENGTHS, Scenario
from extproc.planning.search import Planner, best, verdict
from extproc.planning.sensitivity import changes

_HOST_PORT: TypeAdapter[str] = TypeAdapter(HostPort)

CHECKED = ("homogeneous", "oracle", "learned", "static")
"""Policies a check compares; the one the fleet was sized for must meet the objective."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `plan`."""
    add_scenario_arguments(parser)
    search = parser.add_argument_group("search")
    search.add_argument(
        "--pools", type=int, default=2, choices=(2, 3, 4), help="number of pools to split into (default: 2)"
    )
    search.add_argument(
        "--threshold", type=int, help="size two pools for this threshold instead of searching for the best"
    )
    search.add_argument(
        "--lengths",
        default=",".join(map(str, LENGTHS)),
        help="allowed max_model_len values of the smaller pools (default: %(default)s)",
    )
    search.add_argument(
        "--objective", choices=("gpus", "cost"), default="gpus", help="what to minimise (default: gpus)"
    )
    search.add_argument("--price", type=float, help="dollars per GPU and hour (default: the catalog's)")
    search.add_argument(
        "--spare",
        type=int,
        default=0,
        help="instances that each pool may lose, beyond those it needs: 1 for N+1 (default: %(default)s)",
    )
    search.add_argument(
        "--present", type=int, metavar="INSTANCES", help="size of your present fleet, as another baseline"
    )
    output = parser.add_argument_group("output")
    output.add_argument("--json", action="store_true", help="print everything as JSON")
    output.add_argument(
        "--html", type=Path, metavar="FILE", help="write the report as one HTML page; implies --check"
    )
    output.add_argument(
        "--write-config", type=Path, metavar="DIR", help="write the configuration of Dualpool and of Envoy there"
    )
    output.add_argument(
        "--endpoints",
        action="append",
        default=[],
        metavar="POOL=HOST:PORT,…",
        help="servers of a pool, for --write-config; once for each pool (default: POOL_NAME.vllm.internal:8000)",
    )
    check = parser.add_argument_group("check by simulation")
    check.add_argument(
        "--check",
        action="store_true",
        help="simulate the planned fleet and exit with 1 when it misses its objective",
    )
    simulations.add_simulation_arguments(check)


def run(args: argparse.Namespace) -> int:
    """Plan and report; 0 when the fleet meets its objective, 1 when it does not, 2 for wrong input."""
    try:
        record = make(args)
        _write(args, record)
    except PlanError as error:
        print(error, file=sys.stderr)
        return 2
    if args.json:
        print(json.dumps(record, indent=1))
    else:
        plan_tables.print_plan(record)
    return 1 if record["problems"] else 0


def make(args: argparse.Namespace) -> Record:
    """Return the record of the plan `args` asks for. Raises `PlanError`."""
    if args.endpoints and not args.write_config:
        raise PlanError("--endpoints: goes with --write-config, which is not given")
    for option, default in (("requests", simulations.DEFAULT_REQUESTS), ("seed", simulations.DEFAULT_SEED)):
        if getattr(args, option) != default and not (args.check or args.html):
            raise PlanError(f"--{option}: is of a simulation: add --check or --html")
    if args.present is not None and args.present < 1:
        raise PlanError(f"--present: {args.present}: must be at least 1 instance")
    if args.threshold is not None:
        scenarios.check_threshold(args)
        if args.pools != 2:
            raise PlanError(f"--pools: {args.pools}: with --threshold there are two pools: leave out one of them")
    scenario, gpu, model = scenarios.scenario(args)
    planner = Planner(scenario)
    with tables.progress("thresholds") as report:
        curve = planner.curve(args.pools, report)
    cases = [
        *changes(scenario, scenarios.config(args), scenarios.texts(args)),
        *scenarios.output_shares(args, scenario),
    ]
    record = plan_record(planner, curve, args.objective, args.present, gpu, model, cases)
    record["other"] = _other(scenario, args)
    record["remarks"] = []
    record["next"] = vllm_commands(record)
    if args.check or args.html:
        _check(args, scenario, planner, record)
    return record


def _check(args: argparse.Namespace, scenario: Scenario, planner: Planner, record: Record) -> None:
    """Simulate the homogeneous and the chosen fleet; what they miss becomes a problem of the plan."""
    stream = simulations.setting(args, scenario, record["chosen"]["thresholds"][0])
    one = simulated(planner.homogeneous)
    two = simulated(planner.split(tuple(record["chosen"]["thresholds"])).fleet)
    results = []
    for policy in CHECKED:
        with tables.progress(policy, args.requests) as report:
            results.append(simulate(policy, one if policy == "homogeneous" else two, stream, report))
    record["simulation"] = results
    record["remarks"] = [words for r in results if (words := unsettled(r))]
    record["assumptions"] += simulations.text_assumptions(stream)
    sized_for = "learned" if args.estimates == "learned" else "oracle"
    record["problems"] += [p for r in results if r["policy"] == sized_for and (p := missed(r))]
    if late := missed(results[0]):
        record["remarks"] += [f"What is saved is saved of a baseline that misses the objective itself: {late}"]


def _write(args: argparse.Namespace, record: Record) -> None:
    if args.html:
        try:
            args.html.write_text(page(record), "utf-8")
        except OSError as error:
            raise PlanError(f"--html: {args.html}: cannot be written: {error.strerror}") from None
    if args.write_config:
        write_configuration(record, _endpoints(args.endpoints), args.write_config)


def _endpoints(options: list[str]) -> dict[str, list[str]]:
    """Servers of each pool. Raises `PlanError`."""
    found: dict[str, list[str]] = {}
    for name, servers in map(_servers, options):
        if name in found:
            raise PlanError(f"--endpoints: {name}: is there twice; give all servers of a pool at once")
        found[name] = servers
    return found


def _servers(text: str) -> tuple[str, list[str]]:
    name, _, servers = text.partition("=")
    try:
        return name, [_HOST_PORT.validate_python(server) for server in servers.split(",")]
    except ValidationError:
        raise PlanError(
            f"--endpoints: {text!r}: must be a pool's name, = and HOST:PORT, several with commas between; give the "
            "option once for each pool"
        ) from None


def _other(scenario: Scenario, args: argparse.Namespace) -> Record:
    """The headline under the other concurrency assumption, because the two differ more than anything else."""
    planner = Planner(scenario.other_concurrency)
    chosen = best(planner.curve(args.pools), args.objective)
    return {
        "concurrency": planner.scenario.engine.concurrency,
        "thresholds": list(chosen.thresholds),
        "headline": verdict(chosen, planner),
    }
