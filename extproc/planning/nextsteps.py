"""What to do with a plan: `vllm serve` flags for each pool, and the configuration of Dualpool and of Envoy."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from extproc.config_file import ConfigError, load
from extproc.planning.engine import MEMORY_UTILISATION
from extproc.planning.errors import PlanError
from extproc.planning.record import Record
from extproc.render.layout import Options, RenderError
from extproc.render.target import render
from extproc.render.text import comment_lines

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
        f" --max-model-len {pool['max_model_len']} --max-num-seqs {_sequences(pool, instance)}"
        f" --max-num-batched-tokens {instance['max_num_batched_tokens']}{_types(instance)}"
        f" --gpu-memory-utilization {MEMORY_UTILISATION:g}"
        f"  # {_instances(pool['instances'])}: {name}{_scaling(pool, instance)}"
        for name, pool in zip(pool_names(len(record["chosen"]["pools"])), record["chosen"]["pools"], strict=True)
    ]


def _instances(count: int) -> str:
    return f"{count} instance" if count == 1 else f"{count} instances"


def _sequences(pool: Record, instance: Record) -> int:
    """Under *reserved* the slots are the flag; under *paged* vLLM limits by blocks itself."""
    return int(pool["sequences"] if instance["concurrency"] == "reserved" else instance["max_num_seqs"])


def _types(instance: Record) -> str:
    """Flags for FP8; the other types are the checkpoint's own."""
    weights = " --quantization fp8" if instance["dtype"] == "fp8" else ""
    return weights + (" --kv-cache-dtype fp8" if instance["kv_dtype"] == "fp8" else "")


def _scaling(pool: Record, instance: Record) -> str:
    native = instance["native_context"]
    if native is None or pool["max_model_len"] <= native:
        return ""
    return f"; needs --hf-overrides with YaRN rope scaling above {native}"


def configuration(record: Record, endpoints: Mapping[str, list[str]]) -> dict[str, Any]:
    """The Dualpool settings of the chosen fleet: its pools, everything else at its default.

    Raises `PlanError` for servers of a pool that is not in the fleet.
    """
    pools = record["chosen"]["pools"]
    names = pool_names(len(pools))
    unknown = [name for name in endpoints if name not in names]
    if unknown:
        raise PlanError(f"--endpoints: {unknown[0]!r}: no such pool; there are {', '.join(names)}")
    return {
        "pools": {
            "default": [
                {
                    "name": name,
                    "capacity": pool["max_model_len"],
                    "endpoints": endpoints.get(name, [f"{name}.vllm.internal:8000"]),
                }
                for name, pool in zip(names, pools, strict=True)
            ]
        }
    }


def write_configuration(record: Record, endpoints: Mapping[str, list[str]], directory: Path) -> list[Path]:
    """Write `dualpool.yaml` and Envoy's configuration to `directory` (made when absent); return the files.

    `endpoints`: servers (HOST:PORT) of each pool; a pool without any gets an address to replace.
    Raises `PlanError` when they cannot be written or would not be valid.
    """
    path = directory / CONFIG_NAME
    header = comment_lines(record["headline"])
    if not endpoints:
        header.append("# Replace the endpoints with your vLLM servers, here and in envoy.yaml.")
    text = "\n".join([*header, yaml.safe_dump(configuration(record, endpoints), sort_keys=False)])
    try:
        directory.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        files = {
            directory / name: rendered for name, rendered in render("envoy", load(path, {}), Options()).items()
        }
        for file, rendered in files.items():
            file.write_text(rendered, "utf-8")
    except OSError as error:
        raise PlanError(f"--write-config: {error.filename}: cannot be written: {error.strerror}") from None
    except (ConfigError, RenderError) as error:
        raise PlanError(f"--endpoints: {'; '.join(error.problems)}") from None
    return [path, *files]
