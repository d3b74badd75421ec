"""Rules of `extproc.planning.engine` and `catalog`."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from extproc.planning.catalog import EXPERTS, GPUS, MODELS, find_gpu, find_model
from extproc.planning.engine import BLOCK, Engine, build_engine
from extproc.planning.errors import PlanError

LLAMA_8B = {
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
}

B200 = {"memory": 180e9, "bandwidth": 8e12, "flops": 2.25e15, "price": 6}

QWEN3_235B = {
    "hidden_size": 4096,
    "num_hidden_layers": 94,
    "num_attention_heads": 64,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "vocab_size": 151936,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "moe_intermediate_size": 1536,
}


def build(**changes: Any) -> Engine:
    options: dict[str, Any] = {
        "gpu": GPUS["A100-80G"],
        "model": MODELS["Llama-3-70B"],
        "tp": 8,
        "max_model_len": 65536,
        "concurrency": "reserved",
    }
    return build_engine(**(options | changes))


def test_kv_of_llama_3_70b_on_eight_a100() -> None:
    """What is left of memory after weights and buffers, divided by 320 KiB a token."""
    room = 8 * (80e9 * 0.9 - 3e9) - 70.55e9 * 2
    assert build().kv_tokens == int(room / (2 * 80 * 8 * 128 * 2)) // BLOCK * BLOCK


def test_kv_heads_are_repeated_when_there_are_fewer_than_gpus() -> None:
    """Four KV heads on eight GPUs are eight, one a GPU: a token takes as much as with eight KV heads."""
    four = replace(MODELS["Llama-3-70B"], kv_heads=4)
    assert build(model=four).kv_tokens == build().kv_tokens
    assert build(model=four).kv_time == build().kv_time
    assert build(model=four, tp=4).kv_tokens > build(tp=4).kv_tokens


def test_kv_heads_that_cannot_be_shared_out() -> None:
    """vLLM refuses KV heads that neither divide the GPUs nor are divided by them."""
    with pytest.raises(PlanError, match="--tp: 8: must divide the 12 KV heads of Llama-3-70B, or be a multiple"):
        build(model=replace(MODELS["Llama-3-70B"], kv_heads=12))


def test_reserved_slots_are_kv_over_context() -> None:
    """Reserved concurrency sets max_model_len aside for each sequence."""
    engine = build()
    assert engine.slots == engine.kv_tokens // 65536
    assert engine.at(8192).slots == engine.kv_tokens // 8192


def test_paged_slots_are_the_flag() -> None:
    """Paged concurrency is limited by max_num_seqs before blocks."""
    assert build(concurrency="paged").slots == GPUS["A100-80G"].max_seqs


def test_weights_that_do_not_fit() -> None:
    """A model that leaves no room for KV is an error that says what to change."""
    with pytest.raises(PlanError, match=r"--tp: 1: Llama-3-70B in bfloat16 needs 141 GB"):
        build(tp=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batched_tokens": 128}, "--max-num-seqs, 256, the default of A100-80G: give both"),
        ({"batched_tokens": 128, "max_num_seqs": 200}, "--max-num-batched-tokens: 128: must be at least .* 200$"),
    ],
)
def test_fewer_tokens_than_sequences(changes: dict[str, int], message: str) -> None:
    """vLLM refuses an iteration without a token for each sequence."""
    with pytest.raises(PlanError, match=message):
        build(**changes)


def test_price_is_per_gpu() -> None:
    """An instance costs its GPUs."""
    assert build(price_per_gpu=2.0).price == 16


@pytest.mark.parametrize(("config", "name"), [(LLAMA_8B, "Llama-3-8B"), (QWEN3_235B, "Qwen3-235B-A22B")])
def test_parameters_counted_from_a_config(tmp_path: Path, config: dict[str, int], name: str) -> None:
    """Parameters counted from a config.json are within 2 % of the model card's."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    model = find_model(str(path))
    assert model.parameters == pytest.approx(MODELS[name].parameters, rel=0.02)
    assert model.active == pytest.approx(MODELS[name].active, rel=0.02)
    assert model.kv_heads == MODELS[name].kv_heads


def test_config_without_a_key(tmp_path: Path) -> None:
    """A config.json without the shape of a transformer names the key."""
    path = tmp_path / "config.json"
    path.write_text("{}")
    with pytest.raises(PlanError, match="num_hidden_layers: None: must be a whole number above 0"):
        find_model(str(path))


@pytest.mark.parametrize("key", ["kv_lora_rank", "n_routed_experts"])
def test_config_that_cannot_be_counted(tmp_path: Path, key: str) -> None:
    """Latent attention and shared experts are refused, for their parameters would be wrong; null is absent."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps(LLAMA_8B | {key: 512}))
    with pytest.raises(
        PlanError, match=f"{key}: parameters and KV of .* would be wrong: take a model of the catalog"
    ):
        find_model(str(path))
    path.write_text(json.dumps(LLAMA_8B | {key: None}))
    assert find_model(str(path)).kv_heads == 8


@pytest.mark.parametrize("value", [0, -1, 1.5, "8", [8], True, 10**400])
@pytest.mark.parametrize("key", ["num_key_value_heads", "max_position_embeddings", "intermediate_size", "head_dim"])
def test_config_with_a_wrong_shape(tmp_path: Path, key: str, value: object) -> None:
    """What may be absent must be a whole number when it is there; null is absent."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps(LLAMA_8B | {key: value}))
    with pytest.raises(PlanError, match=f"{key}: .*: must be a whole number above 0") as error:
        find_model(str(path))
    assert len(str(error.value)) < len(str(path)) + 150
    path.write_text(json.dumps(LLAMA_8B | {key: None}))
    assert find_model(str(path)).parameters > 0


@pytest.mark.parametrize("key", EXPERTS)
def test_config_with_experts(tmp_path: Path, key: str) -> None:
    """Experts are counted in whole numbers too; 0 of them is none."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps(LLAMA_8B | {key: "8"}))
    with pytest.raises(PlanError, match=f"{key}: '8': must be a whole number above 0"):
        find_model(str(path))
    path.write_text(json.dumps(LLAMA_8B | {key: 0}))
    assert find_model(str(path)).parameters == pytest.approx(8.03e9, rel=0.02)


def test_config_with_more_heads_than_it_is_wide(tmp_path: Path) -> None:
    """A head of no size is an error."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps(LLAMA_8B | {"hidden_size": 16}))
    with pytest.raises(PlanError, match="hidden_size: 16: must be at least num_attention_heads, 32"):
        find_model(str(path))


def test_gpu_of_ones_own(tmp_path: Path) -> None:
    """A GPU is four figures in a JSON file."""
    path = tmp_path / "b200.json"
    path.write_text(json.dumps(B200 | {"max_seqs": None}))
    assert (find_gpu(str(path)).memory, find_gpu(str(path)).max_seqs) == (180e9, 1024)


@pytest.mark.parametrize(
    ("name", "memory", "limits"),
    [
        ("H100", 75.2e9, (8192, 1024)),
        ("L40S", 75.1e9, (2048, 256)),
        ("NVIDIA A100-SXM4-80GB", 85e9, (2048, 256)),
    ],
)
def test_gpu_of_ones_own_has_the_defaults_of_vllm(
    tmp_path: Path, name: str, memory: float, limits: tuple[int, int]
) -> None:
    """vLLM has larger ones from 70 GiB of memory on, but not on an A100."""
    path = tmp_path / "gpu.json"
    path.write_text(json.dumps(B200 | {"name": name, "memory": memory}))
    gpu = find_gpu(str(path))
    assert (gpu.batched_tokens, gpu.max_seqs) == limits


@pytest.mark.parametrize("value", [0, -1, "80e9", None, True, math.inf, math.nan, 10**400])
@pytest.mark.parametrize("key", ["memory", "bandwidth", "flops", "price"])
def test_gpu_with_a_wrong_figure(tmp_path: Path, key: str, value: object) -> None:
    """A figure that is no finite number above 0 is an error that names it."""
    path = tmp_path / "gpu.json"
    path.write_text(json.dumps(B200 | {key: value}))
    with pytest.raises(PlanError, match=f"{key}: .*: must be a number above 0"):
        find_gpu(str(path))


@pytest.mark.parametrize("value", [0, -1, 1.5, "many", math.inf, 10**400])
@pytest.mark.parametrize("key", ["batched_tokens", "max_seqs"])
def test_gpu_with_a_wrong_limit(tmp_path: Path, key: str, value: object) -> None:
    """A default of vLLM's that is no whole number above 0 is an error that names it."""
    path = tmp_path / "gpu.json"
    path.write_text(json.dumps(B200 | {key: value}))
    with pytest.raises(PlanError, match=f"{key}: .*: must be a whole number above 0"):
        find_gpu(str(path))


@pytest.mark.parametrize(("find", "option"), [(find_gpu, "--gpu"), (find_model, "--model")])
def test_unknown_names(find: Any, option: str) -> None:
    """An unknown name is answered with the names there are."""
    with pytest.raises(PlanError, match=f"{option}: 'X': must be one of"):
        find("X")
