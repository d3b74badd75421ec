"""One vLLM instance as a few times and sizes: what the closed form and the simulator both compute with.

An iteration of continuous batching takes

    W + token_time · tokens + kv_time · context + pair_time · pairs

W: reading the weights once. `tokens`: tokens worked on (prefill chunks and one a decoding sequence). `context`: KV
entries read by the scheduled sequences. `pairs`: query-key pairs of prefill attention. Memory and compute time are
added, not overlapped, which is pessimistic near the point where they are equal and exact away from it.
"""

from dataclasses import dataclass, replace
from typing import Literal

from extproc.planning.catalog import BYTES, Gpu, Model
from extproc.planning.errors import PlanError

Concurrency = Literal["reserved", "paged"]

BLOCK = 16
"""Tokens in a KV block (vLLM's default block size)."""

MEMORY_UTILISATION = 0.9
"""Share of GPU memory vLLM is told to use, --gpu-memory-utilization. vLLM 0.25 has 0.92 by default."""

WORKSPACE = 3e9
"""Bytes a GPU that are neither weights nor KV: activations, CUDA graphs, communication buffers. An assumption."""

BANDWIDTH_EFFICIENCY = 0.8
"""Share of peak memory bandwidth reached. An assumption (0.7 to 0.9 is usual)."""

COMPUTE_EFFICIENCY = 0.5
"""Share of peak 16-bit throughput reached in prefill. An assumption (0.4 to 0.6 is usual)."""


@dataclass(frozen=True)
class Engine:
    """One instance of `tp` GPUs. Times in seconds, sizes in tokens.

    `kv_tokens`: tokens its KV cache holds. `max_model_len`, `max_num_seqs`, `batched_tokens`: vLLM's flags.
    `concurrency`: *reserved* sets aside max_model_len of KV for each sequence (the paper's assumption), *paged*
    allocates blocks on demand, as vLLM does. `price`: dollars an hour for the whole instance. `dtype`, `kv_dtype`:
    of weights and KV cache.
    """

    weights_time: float
    token_time: float
    kv_time: float
    pair_time: float
    kv_tokens: int
    max_model_len: int
    max_num_seqs: int
    batched_tokens: int
    concurrency: Concurrency
    tp: int
    price: float
    dtype: str = "bfloat16"
    kv_dtype: str = "bfloat16"

    @property
    def slots(self) -> int:
        """Most sequences at once: max_num_seqs, and when reserved only those with room for max_model_len each."""
        if self.concurrency == "reserved":
            return min(self.max_num_seqs, self.kv_tokens // self.max_model_len)
        return self.max_num_seqs

    @property
    def fits(self) -> bool:
        """Whether one sequence of max_model_len fits the KV cache; vLLM refuses to start when it does not."""
        return self.kv_tokens >= self.max_model_len

    def at(self, max_model_len: int) -> "Engine":
        """Return the same instance started with another `max_model_len`."""
        return replace(self, max_model_len=max_model_len)


def build_engine(
    gpu: Gpu,
    model: Model,
    *,
    tp: int,
    max_model_len: int,
    concurrency: Concurrency,
    dtype: str = "bfloat16",
    kv_dtype: str = "bfloat16",
    max_num_seqs: int | None = None,
    batched_tokens: int | None = None,
    price_per_gpu: float | None = None,
) -> Engine:
    """Estimate an instance from a GPU and a model. Unset limits are vLLM's defaults for the GPU.

    Raises `PlanError` when the weights leave no room for KV, or vLLM would not start with these limits.
    """
    _positive(tp=tp, max_model_len=max_model_len, max_num_seqs=max_num_seqs, max_num_batched_tokens=batched_tokens)
    if model.heads % tp:
        raise PlanError(f"--tp: {tp}: must divide the {model.heads} attention heads of {model.name}")
    weights = model.parameters * BYTES[dtype]
    kv_bytes = 2 * model.layers * _kv_heads(model, tp) * model.head_size * BYTES[kv_dtype]
    room = tp * (gpu.memory * MEMORY_UTILISATION - WORKSPACE) - weights
    kv_tokens = int(room / kv_bytes) // BLOCK * BLOCK
    if kv_tokens < BLOCK:
        raise PlanError(
            f"--tp: {tp}: {model.name} in {dtype} needs {weights / 1e9:.0f} GB: no room for KV on {tp} "
            f"{gpu.name}; use more GPUs an instance"
        )
    seqs, batched = max_num_seqs or gpu.max_seqs, batched_tokens or gpu.batched_tokens
    if batched < seqs:
        default = "" if max_num_seqs else f", the default of {gpu.name}: give both"
        raise PlanError(f"--max-num-batched-tokens: {batched}: must be at least --max-num-seqs, {seqs}{default}")
    bandwidth = gpu.bandwidth * BANDWIDTH_EFFICIENCY * tp
    flops = gpu.flops * COMPUTE_EFFICIENCY * tp
    return Engine(
        weights_time=weights / bandwidth,
        token_time=2 * model.active / flops,
        kv_time=kv_bytes / bandwidth,
        pair_time=4 * model.layers * model.heads * model.head_size / flops,
        kv_tokens=kv_tokens,
        max_model_len=max_model_len,
        max_num_seqs=seqs,
        batched_tokens=batched,
        concurrency=concurrency,
        tp=tp,
        price=tp * (gpu.price if price_per_gpu is None else price_per_gpu),
        dtype=dtype,
        kv_dtype=kv_dtype,
    )


def _kv_heads(model: Model, tp: int) -> int:
    """KV heads on all `tp` GPUs: vLLM shares them out, and repeats them where there are fewer than GPUs."""
    if model.kv_heads % tp and tp % model.kv_heads:
        raise PlanError(f"--tp: {tp}: must divide the {model.kv_heads} KV heads of {model.name}, or be a multiple")
    return tp * max(1, model.kv_heads // tp)


def _positive(**limits: int | None) -> None:
    for name, value in limits.items():
        if value is not None and value < 1:
            raise PlanError(f"--{name.replace('_', '-')}: {value}: must be at least 1")
