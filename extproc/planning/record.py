"""A plan as plain values: what `--json` prints and what the terminal and HTML reports are drawn from."""

from typing import Any

import numpy as np

from extproc.planning import engine as engines
from extproc.planning.catalog import Gpu, Model
from extproc.planning.latency import LATE
from extproc.planning.scenario import Scenario
from extproc.planning.search import Cost, Planner, Split, against_present, best, saved, verdict
from extproc.planning.sensitivity import Cases, variations
from extproc.planning.sizing import HOURS_A_YEAR, FleetPlan
from extproc.planning.workload import MOST_TOKENS, NO_CAP, Workload

Record = dict[str, Any]

CDF_POINTS = 60
FROM_CHECKPOINT = {"int4": " (a checkpoint of such weights: no flag of vLLM makes them)"}
"""What is said of weights whose type the `vllm serve` line cannot ask for."""

QUANTILES = (0.5, 0.9, 0.95, 0.99, 1.0)


def plan_record(
    planner: Planner,
    curve: list[Split],
    by: Cost,
    present: int | None,
    gpu: Gpu,
    model: Model,
    cases: Cases,
) -> Record:
    """Return everything a plan says, as JSON-compatible values.

    `curve`: every split that was looked at, of which the best `by` GPUs or cost is chosen. `present`: instances in
    use today, None where that is not known. `cases`: what is changed to see what the answer depends on.
    """
    scenario = planner.scenario
    chosen = best(curve, by)
    baselines = [
        fleet_record(fleet) | {"saved": saved(chosen.fleet, fleet)}
        for fleet in (planner.homogeneous, planner.smallest)
    ]
    headline = verdict(chosen, planner)
    if present is not None:
        baselines.append(_present(present, scenario, chosen.fleet))
        headline += f" {against_present(baselines[-1]['saved'], present)}"
    return {
        "workload": workload_record(scenario, chosen.thresholds[0]),
        "instance": instance_record(scenario, gpu, model),
        "headline": headline,
        "baselines": baselines,
        "chosen": split_record(chosen, planner),
        "curve": [split_record(s, planner) for s in curve],
        "sensitivity": [vars(v) for v in variations(chosen, scenario, cases)],
        "assumptions": assumptions(scenario, chosen.thresholds[0]),
        "sources": [f"{gpu.name}: {gpu.source}", f"{model.name}: {model.source}"],
        "problems": chosen.fleet.problems + ([_refused(scenario)] if scenario.refused >= LATE else []),
    }


def workload_record(scenario: Scenario, smallest: int) -> Record:
    """What the traffic looks like. `smallest`: capacity of the smallest pool, which the reserve depends on."""
    workload, arrivals = scenario.workload, scenario.workload.needs_rate()
    budgets = workload.budgets(scenario.reserve(smallest))
    return {
        "name": workload.name,
        "rows": workload.rows,
        "bad_rows": workload.bad,
        "notes": list(workload.notes),
        "mean_rate": arrivals.rate,
        "peak_rate": arrivals.peak,
        "cv": arrivals.cv,
        "by_minute": list(arrivals.by_minute),
        "sized_for": scenario.load,
        "refused": scenario.refused,
        "mean_input": workload.mean(workload.inputs),
        "mean_output": workload.mean(workload.outputs),
        "totals": {f"p{q * 100:g}": workload.quantile(workload.totals, q) for q in QUANTILES},
        "budgets": {f"p{q * 100:g}": workload.quantile(budgets, q) for q in QUANTILES},
        "cdf": _cdf(workload, workload.totals),
        "budget_cdf": _cdf(workload, budgets),
    }


def _cdf(workload: Workload, values: np.ndarray[Any, Any]) -> list[list[float]]:
    """Points evenly spread over the logarithm of `values`."""
    low, high = max(1, int(values.min())), int(values.max())
    grid = np.unique(np.rint(np.geomspace(low, high, CDF_POINTS)).astype(int))
    order = np.argsort(values)
    cumulative = np.cumsum(workload.weights[order]) / workload.weights.sum()
    at = np.searchsorted(values[order], grid, side="right")
    return [[int(x), float(cumulative[i - 1]) if i else 0.0] for x, i in zip(grid, at, strict=True)]


def instance_record(scenario: Scenario, gpu: Gpu, model: Model) -> Record:
    """The instance every pool is made of, at full context."""
    engine = scenario.engine
    return {
        "gpu": gpu.name,
        "model": model.name,
        "native_context": model.native_context,
        "dtype": engine.dtype,
        "kv_dtype": engine.kv_dtype,
        "gpus_per_instance": engine.tp,
        "price_per_gpu_hour": engine.price / engine.tp,
        "price_per_instance_hour": engine.price,
        "concurrency": engine.concurrency,
        "max_model_len": engine.max_model_len,
        "max_num_seqs": engine.max_num_seqs,
        "max_num_batched_tokens": engine.batched_tokens,
        "kv_tokens": engine.kv_tokens,
        "weights_ms": engine.weights_time * 1e3,
        "ms_per_1000_tokens": engine.token_time * 1e6,
        "ms_per_1000_kv_tokens_read": engine.kv_time * 1e6,
    }


def fleet_record(fleet: FleetPlan) -> Record:
    """A sized fleet."""
    return {
        "label": fleet.label,
        "instances": fleet.instances,
        "gpus": fleet.gpus,
        "cost_per_hour": fleet.cost,
        "cost_per_year": fleet.cost_year,
        "late": fleet.late,
        "problems": fleet.problems,
        "pools": [
            {
                "name": p.name,
                "max_model_len": p.engine.max_model_len,
                "share": p.share,
                "requests_per_second": p.rate,
                "instances": p.instances,
                "spare": p.spare,
                "gpus": p.gpus,
                "requests_per_second_per_instance": p.throughput.rate,
                "measured": p.throughput.measured,
                "sequences": p.throughput.slots,
                "utilisation": p.utilisation,
                "wait_p99": p.wait,
                "ttft_p99": p.ttft,
                "problem": p.problem,
            }
            for p in fleet.pools
        ],
    }


def split_record(split: Split, planner: Planner) -> Record:
    """One point of the curve."""
    return fleet_record(split.fleet) | {
        "thresholds": list(split.thresholds),
        "alpha": split.alpha,
        "rho": split.rho,
        "sigma": split.sigma,
        "predicted": split.predicted,
        "misrouted": split.missent.refused,
        "cut": split.missent.cut,
        "cautious": split.missent.cautious,
        "saved": saved(split.fleet, planner.homogeneous),
    }


def _present(instances: int, scenario: Scenario, chosen: FleetPlan) -> Record:
    cost = instances * scenario.engine.price
    return {
        "label": f"the present fleet of {instances} instances",
        "instances": instances,
        "gpus": instances * scenario.engine.tp,
        "cost_per_hour": cost,
        "cost_per_year": cost * HOURS_A_YEAR,
        "problems": [],
        "pools": [],
        "saved": 1 - chosen.cost / cost,
    }


def assumptions(scenario: Scenario, smallest: int) -> list[str]:
    """What the figures rest on, in words. `smallest`: capacity of the smallest pool."""
    engine, objective = scenario.engine, scenario.objective
    held = (
        "max_model_len of KV is set aside for each sequence"
        if engine.concurrency == "reserved"
        else "KV blocks are allocated on demand, as vLLM does"
    )
    words = [
        f"{engine.concurrency} concurrency: {held}, at most {engine.max_num_seqs} sequences an instance",
        f"{scenario.load:g} requests/s: {_load_source(scenario)}",
        f"at most {objective.utilisation:.0%} of an instance's throughput is used",
        f"weights in {engine.dtype}{FROM_CHECKPOINT.get(engine.dtype, '')}, KV cache in {engine.kv_dtype}",
        f"{engine.tp} GPUs an instance; throughput is per instance, prices are per GPU and hour",
        f"{engines.MEMORY_UTILISATION:.0%} of GPU memory used, {engines.WORKSPACE / 1e9:g} GB a GPU for buffers",
        f"{engines.BANDWIDTH_EFFICIENCY:.0%} of peak bandwidth, {engines.COMPUTE_EFFICIENCY:.0%} of peak compute",
        "not modelled: prefix caching (a pool change loses the cached prefix), speculative decoding, CPU time, "
        "several models on one instance",
        "P99 TTFT of the closed form: mostly within a factor of 2 of the simulated one, for Poisson arrivals",
    ]
    if (scenario.workload.caps == NO_CAP).any():
        words.append(f"{_set_aside(scenario.reserve(smallest))}, as the service does when it knows their answers")
    for length, given in sorted(scenario.rates.items()):
        words.append(f"max_model_len {length}: measured, {given} per instance; other lengths are estimated")
    if scenario.refused:
        words.append(_refused(scenario))
    words.append(f"99 % of all requests get their first token within {objective.ttft:g} s")
    return words


def _load_source(scenario: Scenario) -> str:
    if scenario.poisson:
        return "Poisson at the mean rate"
    return "the busiest minute" if scenario.workload.needs_rate().by_minute else "Poisson at the rate given"


def _refused(scenario: Scenario) -> str:
    longer = f"{100 * scenario.refused:.3g} % of requests need more than the full context of {scenario.full}"
    return f"{longer}: every pool refuses them; raise --max-model-len"


def _set_aside(reserve: int) -> str:
    if reserve == MOST_TOKENS:
        return "requests without a cap go to the largest pool"
    return f"{reserve} output tokens are set aside for a request without a cap"
