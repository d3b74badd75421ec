"""GPUs and models: the few figures a throughput estimate needs, each with its source."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from extproc.planning.errors import PlanError
from extproc.planning.json_file import read_json

BYTES = {"bfloat16": 2.0, "fp8": 1.0, "int4": 0.5}
"""Bytes of a weight or a KV entry by its type."""


@dataclass(frozen=True)
class Gpu:
    """One GPU. `memory`: bytes. `bandwidth`: bytes/s. `flops`: dense 16-bit operations/s. `price`: dollars an hour.

    `batched_tokens` and `max_seqs`: what `vllm serve` uses on it when nothing is said.
    """

    name: str
    memory: float
    bandwidth: float
    flops: float
    price: float
    batched_tokens: int
    max_seqs: int
    source: str


@dataclass(frozen=True)
class Model:
    """A decoder-only transformer. `parameters` are held in memory, `active` ones work on each token.

    `kv_heads`, `head_size`, `heads`, `layers`: of its attention. `context`: longest sequence it was made for.
    `native_context`: longest one that vLLM serves without being told how to scale positions, None for all of it.
    """

    name: str
    parameters: float
    active: float
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    context: int
    source: str
    native_context: int | None = None


_VLLM = "vLLM defaults of `vllm serve` by GPU memory and name (EngineArgs.get_batch_defaults)"
_A100 = "NVIDIA A100 80GB SXM datasheet; $2.21: the price in arXiv:2604.08075"
_H100 = "NVIDIA H100 SXM datasheet; $4.02: on-demand price of 2024 quoted in arXiv:2603.16054"
_MI300X = "AMD MI300X datasheet; $3.67: implied by arXiv:2604.08075 ($50.6M a year for 1,576 GPUs)"

GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu("A100-80G", 80e9, 2.039e12, 312e12, 2.21, 2048, 256, f"{_A100}; {_VLLM}"),
        Gpu("H100", 80e9, 3.35e12, 989e12, 4.02, 8192, 1024, f"{_H100}; {_VLLM}"),
        Gpu("MI300X", 192e9, 5.3e12, 1307e12, 3.67, 8192, 1024, f"{_MI300X}; {_VLLM}"),
    )
}

_LLAMA = "config.json and model card of Meta-Llama-3"
_QWEN = "config.json and model card of Qwen3-235B-A22B"

MODELS = {
    model.name: model
    for model in (
        Model("Llama-3-8B", 8.03e9, 8.03e9, 32, 32, 8, 128, 131_072, f"{_LLAMA}-8B; context of Llama 3.1"),
        Model("Llama-3-70B", 70.55e9, 70.55e9, 80, 64, 8, 128, 131_072, f"{_LLAMA}-70B; context of Llama 3.1"),
        Model("Qwen3-235B-A22B", 235e9, 22e9, 94, 64, 4, 128, 131_072, f"{_QWEN}; context with YaRN", 40_960),
    )
}


LARGE_MEMORY = 70 * 2**30
"""Bytes of a GPU from which on vLLM takes larger batches by default, unless it is an A100."""

MOST_WHOLE, MOST_FIGURE = 10**9, 1e18
"""No count of a model, and no figure of a GPU, is above it."""

NEEDED = ("num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size")
"""Keys a `config.json` must have."""

EXPERTS = ("num_experts", "num_local_experts", "num_experts_per_tok", "moe_intermediate_size")
"""Keys of a `config.json` that are absent, null or 0 where the model has one expert only."""

UNCOUNTED = {"kv_lora_rank": "latent attention (MLA)", "n_routed_experts": "routed beside shared experts"}
"""Keys of a `config.json` of models that `find_model` cannot count, and what they say of it."""


def find_gpu(name: str) -> Gpu:
    """Return a GPU of the catalog by name, or read one from a JSON file that ends in .json.

    Raises `PlanError` for an unknown name or a file that is not a GPU.
    """
    if name in GPUS:
        return GPUS[name]
    if not name.endswith(".json"):
        raise PlanError(f"--gpu: {name!r}: must be one of {', '.join(GPUS)}, or a JSON file of a GPU")
    record = _json(Path(name))
    values: dict[str, float] = {}
    for key in ("memory", "bandwidth", "flops", "price"):
        value: Any = record.get(key)
        if type(value) not in (int, float) or not 0 < value <= MOST_FIGURE:
            rule = f"must be a number above 0 and at most {MOST_FIGURE:g} (bytes, bytes/s, flop/s, $/h)"
            raise PlanError(f"{name}: {key}: {_shown(value)}: {rule}")
        values[key] = float(value)
    called = str(record.get("name") or Path(name).stem)
    large = values["memory"] >= LARGE_MEMORY and "a100" not in called.lower()
    return Gpu(
        called,
        **values,
        batched_tokens=_whole(name, record, "batched_tokens", 8192 if large else 2048),
        max_seqs=_whole(name, record, "max_seqs", 1024 if large else 256),
        source=name,
    )


def find_model(name: str) -> Model:
    """Return a model of the catalog by name, or read one from a Hugging Face `config.json`.

    Raises `PlanError` for an unknown name, a file without the keys of a decoder-only transformer, or one of a kind
    whose parameters are not counted.
    """
    if name in MODELS:
        return MODELS[name]
    if not name.endswith(".json"):
        raise PlanError(f"--model: {name!r}: must be one of {', '.join(MODELS)}, or a config.json")
    config = _json(Path(name))
    for key, what in UNCOUNTED.items():
        if config.get(key) is not None:
            rule = f"parameters and KV of {what} are not counted here and would be wrong"
            raise PlanError(f"{name}: {key}: {rule}: take a model of the catalog that is like it, and --throughput")
    shapes = _shapes(name, config)
    parameters, active = _parameters(shapes, tied=bool(config.get("tie_word_embeddings")))
    return Model(
        name=str(config.get("_name_or_path") or Path(name).parent.name or Path(name).stem),
        parameters=parameters,
        active=active,
        layers=shapes["num_hidden_layers"],
        heads=shapes["num_attention_heads"],
        kv_heads=shapes["num_key_value_heads"],
        head_size=shapes["head_dim"],
        context=shapes["max_position_embeddings"],
        source=f"{name} (parameters counted from its shapes)",
    )


def _json(path: Path) -> dict[str, Any]:
    record = read_json(path)
    if not isinstance(record, dict):
        raise PlanError(f"{path}: must be a JSON object")
    return record


def _whole(name: str, record: dict[str, Any], key: str, absent: int | None = None) -> int:
    """The whole number at `key`; `absent` where there is none, or null. Raises `PlanError`."""
    value: Any = record.get(key)
    if value is None and absent is not None:
        return absent
    if type(value) is not int or not 0 < value <= MOST_WHOLE:
        raise PlanError(f"{name}: {key}: {_shown(value)}: must be a whole number above 0 and at most {MOST_WHOLE}")
    return value


def _shown(value: object) -> str:
    return repr(value)[:60]


def _shapes(name: str, config: dict[str, Any]) -> dict[str, int]:
    """The whole numbers of a `config.json`, those it leaves out as Hugging Face has them. Raises `PlanError`."""
    config = {key: value for key, value in config.items() if value or key not in EXPERTS}
    shapes = {key: _whole(name, config, key) for key in NEEDED}
    hidden, heads = shapes["hidden_size"], shapes["num_attention_heads"]
    if hidden < heads:
        raise PlanError(f"{name}: hidden_size: {hidden}: must be at least num_attention_heads, {heads}")
    wide = _whole(name, config, "intermediate_size", 4 * hidden)
    defaults = {
        "num_key_value_heads": heads,
        "head_dim": hidden // heads,
        "max_position_embeddings": 8192,
        "intermediate_size": wide,
        "num_experts": _whole(name, config, "num_local_experts", 1),
        "num_experts_per_tok": 1,
        "moe_intermediate_size": wide,
    }
    return shapes | {key: _whole(name, config, key, absent) for key, absent in defaults.items()}


def _parameters(shapes: dict[str, int], *, tied: bool) -> tuple[float, float]:
    """Count weights: attention, three-matrix MLP (of each expert), and two embeddings (one if tied)."""
    hidden, layers, heads = shapes["hidden_size"], shapes["num_hidden_layers"], shapes["num_attention_heads"]
    attention = hidden * shapes["head_dim"] * (2 * heads + 2 * shapes["num_key_value_heads"])
    embedding = shapes["vocab_size"] * hidden * (1 if tied else 2)
    experts = shapes["num_experts"]
    used = shapes["num_experts_per_tok"] if experts > 1 else 1
    expert = 3 * hidden * shapes["moe_intermediate_size" if experts > 1 else "intermediate_size"]
    return (
        float(layers * (attention + experts * expert) + embedding),
        float(layers * (attention + used * expert) + embedding),
    )
