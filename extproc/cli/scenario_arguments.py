"""Arguments that `plan` and `simulate` share; `extproc.cli.scenario` says what they describe."""

import argparse
from pathlib import Path
from typing import TypeAlias

from extproc.planning import cdf, tables
from extproc.planning.catalog import BYTES, GPUS, MODELS
from extproc.planning.workload import CAP_LAWS

Group: TypeAlias = "argparse._ArgumentGroup"  # argparse has no public name for it


def add_scenario_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what describes traffic, instances, objectives and the router's estimates."""
    _add_traffic(parser.add_argument_group("traffic"))
    _add_instances(parser.add_argument_group("instances"))
    _add_objective(parser.add_argument_group("objective"))
    _add_estimates(parser.add_argument_group("estimates of the router"))


def _add_traffic(traffic: Group) -> None:
    traffic.add_argument(
        "source",
        nargs="+",
        help="trace (.csv, .parquet, .jsonl, .log), CDF of total tokens (.json), or the metrics of a running "
        "Dualpool: their address, or the page saved as .prom; several traces are added up",
    )
    traffic.add_argument(
        "--columns",
        default="",
        metavar="input=A,output=B,time=C,cap=D,bytes=E",
        help="what a trace calls these columns, where their names are not known",
    )
    traffic.add_argument(
        "--bytes-per-token",
        type=float,
        default=tables.DEFAULT_BYTES_PER_TOKEN,
        help="to count tokens of traces that hold text, as LMSYS-Chat-1M does (default: %(default)g)",
    )
    traffic.add_argument(
        "--output-share",
        type=float,
        default=cdf.DEFAULT_OUTPUT_SHARE,
        help="output as a share of total tokens, where only totals are known (default: %(default)g)",
    )
    traffic.add_argument(
        "--caps",
        default="as logged",
        help=f"output caps that clients set: {', '.join(CAP_LAWS)}, or a number of tokens (default: %(default)s)",
    )
    traffic.add_argument("--rate", type=float, help="mean requests per second (default: the trace's own)")
    traffic.add_argument(
        "--poisson",
        action="store_true",
        help="size for Poisson arrivals at the mean rate, not for the busiest minute",
    )


def _add_instances(fleet: Group) -> None:
    fleet.add_argument(
        "--gpu", default="A100-80G", help=f"{', '.join(GPUS)}, or a JSON file (default: %(default)s)"
    )
    fleet.add_argument(
        "--model", default="Llama-3-70B", help=f"{', '.join(MODELS)}, or a config.json (default: %(default)s)"
    )
    fleet.add_argument("--tp", type=int, default=8, help="GPUs per instance (default: %(default)s)")
    fleet.add_argument(
        "--dtype",
        choices=tuple(BYTES),
        default="bfloat16",
        help="data type of the weights (default: %(default)s)",
    )
    fleet.add_argument(
        "--kv-dtype",
        choices=("bfloat16", "fp8"),
        default="bfloat16",
        help="data type of the KV cache (default: %(default)s)",
    )
    fleet.add_argument(
        "--max-model-len",
        type=int,
        default=65_536,
        help="full context, which the largest pool and a homogeneous fleet have (default: %(default)s)",
    )
    fleet.add_argument(
        "--max-num-seqs", type=int, help="most sequences running at once (default: vLLM's for the GPU)"
    )
    fleet.add_argument(
        "--max-num-batched-tokens", type=int, help="most tokens in an iteration (default: vLLM's for the GPU)"
    )
    fleet.add_argument(
        "--concurrency",
        choices=("paged", "reserved"),
        default="paged",
        help="paged: KV blocks on demand, as in vLLM; reserved: max_model_len set aside per sequence, as the paper "
        "assumes (default: %(default)s)",
    )
    fleet.add_argument(
        "--throughput",
        action="append",
        default=[],
        metavar="MAX_MODEL_LEN=RATE",
        help="throughput of one instance, as measured at that max_model_len: requests/s (8.5), input and output "
        "tokens/s (9000tok), or the JSON result of `vllm bench serve`; once for each max_model_len",
    )


def _add_objective(goal: Group) -> None:
    goal.add_argument(
        "--ttft", type=float, default=2.0, help="P99 time to first token in seconds (default: %(default)g)"
    )
    goal.add_argument(
        "--utilisation",
        type=float,
        default=0.85,
        help="highest share of its throughput that an instance may use (default: %(default)g)",
    )


def _add_estimates(router: Group) -> None:
    router.add_argument(
        "--estimates",
        choices=("learned", "exact"),
        default="learned",
        help="whether the router estimates lengths, as the service does, or knows them exactly (default: "
        "%(default)s)",
    )
    router.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="Dualpool configuration whose estimator settings are used (default: built-in defaults)",
    )
    router.add_argument(
        "--texts",
        type=Path,
        metavar="FILE",
        help="request bodies with token counts (.jsonl), from which bytes per token are measured (default: "
        "built-in figures)",
    )
    router.add_argument(
        "--text-spread",
        type=float,
        default=1.0,
        metavar="FACTOR",
        help="multiplies the spread of bytes per token (default: %(default)g)",
    )
