"""What to do with a plan: `vllm serve` flags for each pool, and a Dualpool configuration."""

from pathlib import Path
from typing import Any

import yaml

from extproc.planning.errors import PlanError
from extproc.planning.record import Record

CONFIG_NAME = "dualpool.yaml"


def pool_names(count: int) -> list[str]:
    """Names of pools by size: short and long, or short, medium … long."""
    middle = ["medium"] if count == 3 else [f"medium{n}" for n in range(1, count - 1)]
    return (["short", *middle, "long"] if count > 1 else ["long"])[:count]


def vllm_commands(record: Record) -> list[str]:
    """The command that starts one instance of each pool of the chosen fleet, smallest first."""
    instance = record["instance"]
    return [
        f"vllm serve {instance['model']} --tensor-parallel-size {instance['gpus_per_instance']}"
        f" --max-model-len {pool['max_model_len']} --max-num-seqs {int(_sequences(pool, instance))}"
        f" --max-num-batched-tokens {instance['max_num_batched_tokens']}  # {pool['instances']} instances: {name}"
        for name, pool in zip(pool_names(len(record["chosen"]["pools"])), record["chosen"]["pools"], strict=True)
    ]


def _sequences(pool: Record, instance: Record) -> float:
    """Under *reserved* the slots are the flag; under *paged* vLLM limits by blocks itself."""
    if instance["concurrency"] == "reserved":
        return max(1.0, float(pool["sequences"]))
    return float(instance["max_num_seqs"])


def configuration(record: Record) -> dict[str, Any]:
    """The Dualpool settings of the chosen fleet: its pools, everything else at its default."""
    pools = record["chosen"]["pools"]
    named = zip(pool_names(len(pools)), pools, strict=True)
    return {"pools": {"default": [{"name": name, "capacity": pool["max_model_len"]} for name, pool in named]}}


def write_configuration(record: Record, directory: Path) -> Path:
    """Write the Dualpool configuration to `directory` (made when absent) and return the file.

    Raises `PlanError` when it cannot be written.
    """
    path = directory / CONFIG_NAME
    text = f"# {record['headline']}\n" + yaml.safe_dump(configuration(record), sort_keys=False)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    except OSError as error:
        raise PlanError(f"--write-config: {path}: cannot be written: {error.strerror}") from None
    return path
