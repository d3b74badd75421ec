"""`dualpool simulate`: run the planned fleets against the traffic, policy by policy, on the same arrivals."""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import replace

from extproc.cli import scenario as scenarios
from extproc.cli import simulation_tables, tables
from extproc.cli.scenario_arguments import Group, add_scenario_arguments
from extproc.planning import arrivals, compare
from extproc.planning.compare import POLICIES, Setting, missed, simulate, simulated, unsettled
from extproc.planning.errors import PlanError
from extproc.planning.record import Record, assumptions, workload_record
from extproc.planning.scenario import Scenario
from extproc.planning.search import Planner
from extproc.planning.simulator import SimulatedPool
from extproc.planning.trace import Batch, recorded
from extproc.planning.workload import superpose

DEFAULT_REQUESTS = 100_000
DEFAULT_SEED = 1

LEARNED = "learned"
"""Begins the names of the policies that are the service's own, which must meet the objective."""

MOST_CV = 100
"""Beyond it nearly all requests of a simulation arrive at once."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `simulate`."""
    add_scenario_arguments(parser)
    parser.set_defaults(price=None, spare=0)  # what a fleet costs is not simulated, nor instances that are to fail
    run = parser.add_argument_group("simulation")
    add_simulation_arguments(run)
    run.add_argument("--threshold", type=int, default=8192, help="max_model_len of the short pool (default: 8192)")
    run.add_argument(
        "--instances",
        metavar="SHORT,LONG,ONE",
        help="instances of the two pools and of the homogeneous fleet (default: as the closed form sizes them)",
    )
    run.add_argument(
        "--replay",
        action="store_true",
        help="send the trace's own requests at their own times, instead of drawn ones",
    )
    run.add_argument(
        "--cv",
        type=float,
        default=1.0,
        help="coefficient of variation of the times between drawn arrivals (default: 1, Poisson)",
    )
    run.add_argument(
        "--cold",
        action="store_true",
        help="begin with a service that has learned nothing, as --replay does (default: it has learned from 3,000 "
        "answers)",
    )
    run.add_argument(
        "--policies", default=",".join(POLICIES), help="routing policies, comma-separated (default: %(default)s)"
    )
    run.add_argument(
        "--smallest",
        action="store_true",
        help="also find by simulation the smallest pools that meet the objective, and compare with the closed form",
    )
    run.add_argument("--json", action="store_true", help="print everything as JSON")


def add_simulation_arguments(group: Group) -> None:
    """Declare what every simulation needs, here and in `plan --check`, which draws Poisson arrivals."""
    group.add_argument(
        "--requests", type=int, default=DEFAULT_REQUESTS, help="requests to simulate (default: %(default)s)"
    )
    group.add_argument(
        "--seed", type=int, default=DEFAULT_SEED, help="seed of all that is random (default: %(default)s)"
    )
    group.set_defaults(replay=False, cv=1.0, cold=False)


def run(args: argparse.Namespace) -> int:
    """Simulate and report; 0, 1 when a learned policy misses the objective, or 2 for wrong input."""
    try:
        record = make(args)
    except PlanError as error:
        print(error, file=sys.stderr)
        return 2
    if args.json:
        print(json.dumps(record, indent=1))
    else:
        simulation_tables.print_simulation(record)
    return 1 if record["problems"] else 0


def make(args: argparse.Namespace) -> Record:
    """Return the record of every policy `args` asks for. Raises `PlanError`."""
    scenarios.check_threshold(args)
    args.lengths = str(args.threshold)
    if not 0 < args.cv <= MOST_CV:
        raise PlanError(f"--cv: {args.cv:g}: must be above 0 and at most {MOST_CV}")
    if args.replay and args.cv != 1:
        raise PlanError("--cv: goes with drawn arrivals, not with --replay, which has those of the trace")
    policies = compare.named(args.policies)
    scenario, _, _ = scenarios.scenario(args)
    planner = Planner(scenario)
    one, two = simulated(planner.homogeneous), simulated(planner.split((args.threshold,)).fleet)
    if args.instances:
        one, two = _sized(args.instances, one, two)
    stream = setting(args, scenario, args.threshold)
    results = []
    for policy in policies:
        pools = one if policy == "homogeneous" else two
        with tables.progress(policy, args.requests) as report:
            results.append(simulate(policy, pools, stream, report))
    sizes = []
    if args.smallest:
        for policy in ("homogeneous", "oracle", "learned"):
            sizes.append(compare.sizes(policy, one if policy == "homogeneous" else two, stream))
    misses = [(r["policy"], words) for r in results if (words := missed(r))]
    return {
        "workload": workload_record(scenario, args.threshold),
        "threshold": args.threshold,
        "concurrency": scenario.engine.concurrency,
        "seed": args.seed,
        "policies": results,
        "smallest": sizes,
        "assumptions": [*assumptions(scenario, args.threshold), *text_assumptions(stream)],
        "remarks": [words for r in results if (words := unsettled(r))]
        + [words for policy, words in misses if not policy.startswith(LEARNED)],
        "problems": [words for policy, words in misses if policy.startswith(LEARNED)],
    }


def setting(args: argparse.Namespace, scenario: Scenario, smallest: int) -> Setting:
    """What every policy of this run shares. `smallest`: capacity of the smallest pool. Raises `PlanError`."""
    if args.seed < 0:
        raise PlanError(f"--seed: {args.seed}: must not be negative")
    if args.requests < 2:
        raise PlanError(f"--requests: {args.requests}: must be at least 2")
    return Setting(
        arrivals=lambda: _arrivals(args, scenario),
        texts=scenarios.texts(args),
        seed=args.seed,
        config=scenarios.config(args),
        reserve=scenario.reserve(smallest),
        ttft=scenario.objective.ttft,
        before=None if args.cold or args.replay else scenario.workload,
    )


def _arrivals(args: argparse.Namespace, scenario: Scenario) -> Iterator[Batch]:
    """Draw or replay. Drawn traffic comes at the rate the fleet is sized for."""
    traffic = scenario.workload
    if not args.replay:
        return arrivals.drawn(traffic.with_rate(scenario.load), args.requests, args.seed, args.cv)
    opened = scenarios.traces(args)
    if len(opened) < len(args.source):
        raise PlanError("--replay: every source must be a trace of single requests with times")
    own = [a for t in opened if (a := recorded(t.summary))]
    factor = args.rate / superpose(own).rate if args.rate is not None and own else 1.0
    return arrivals.capped(arrivals.replayed(opened, factor, args.requests), args.caps)


def _sized(
    option: str, one: list[SimulatedPool], two: list[SimulatedPool]
) -> tuple[list[SimulatedPool], list[SimulatedPool]]:
    try:
        counts = [int(part) for part in option.split(",")]
    except ValueError:
        counts = []
    if len(counts) != len(two) + 1 or min(counts) < 1:
        raise PlanError(f"--instances: {option!r}: must be {len(two) + 1} numbers of at least 1")
    sized = [replace(pool, instances=count) for pool, count in zip(two, counts[:-1], strict=True)]
    return [replace(one[0], instances=counts[-1])], sized


def text_assumptions(stream: Setting) -> list[str]:
    """How text was made up, in words."""
    kinds = ", ".join(f"{k.name} {k.share:.0%} at {k.ratio:.2f} ± {k.spread:.0%}" for k in stream.texts)
    return [
        f"bytes per token of made-up text (category, share, mean, relative deviation): {kinds}",
        f"the static policy divides bytes by {compare.STATIC_RATIO:g}, without a margin",
        "requests go to the instance of their pool with the fewest; a rejected one is retried on the longest pool",
    ]
