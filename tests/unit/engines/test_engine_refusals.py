"""What the CPU engine refuses before it compiles anything, and what it says about it."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from neuron_runtime.contract.artifact import ArtifactManifest
from neuron_runtime.contract.outcome import ContainerFailure, FailureCode
from neuron_runtime.contract.request import CompileRequest, DType, Engine, Quantization, Shapes, Target, Task
from neuron_runtime.contract.source import StoredFile
from neuron_runtime.engines import cpu_toolchain, open_engine
from neuron_runtime.engines.cpu_jobs import expected_share
from neuron_runtime.engines.llama_config import parse_llama_config

_ROOT = Path(__file__).parents[3]
_CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_act": "silu",
    "hidden_size": 64,
    "intermediate_size": 128,
    "max_position_embeddings": 512,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5,
    "vocab_size": 256,
}


def _request(**changes: Any) -> CompileRequest:
    toolchain = {**open_engine(Engine.CPU).toolchain(), "march": "x86-64-v3"}
    shapes = Shapes(max_model_length=128, max_batch_size=2, context_lengths=(32, 64), token_generation_batches=(1, 2))
    fields: dict[str, Any] = {
        "engine": Engine.CPU,
        "toolchain": {**toolchain, **changes.pop("toolchain", {})},
        "source_digest": f"sha256:{'5' * 64}",
        "shapes": shapes,
        "dtype": DType.FLOAT32,
        "target": Target.CPU,
    }
    return CompileRequest(**{**fields, **changes})


def test_each_bucket_is_a_graph() -> None:
    graphs = open_engine(Engine.CPU).describe(_request(), _CONFIG)
    assert [(graph.name, graph.batch_size, graph.tokens, graph.context_length) for graph in graphs] == [
        ("prefill-32x128", 1, 32, 128),
        ("prefill-64x128", 1, 64, 128),
        ("decode-1x128", 1, 1, 128),
        ("decode-2x128", 2, 1, 128),
    ]
    assert len({graph.path for graph in graphs}) == 4


@pytest.mark.parametrize(
    ("toolchain", "named"),
    [
        ({"torch": "1.0.0"}, ["not 1.0.0"]),
        ({"cxx": "g++-99"}, ["not g++-99"]),
        ({"march": "x86-64-v9"}, ["no march x86-64-v9", "x86-64-v3"]),
        ({"torch": "1.0.0", "cxx": "g++-99"}, ["not 1.0.0", "not g++-99"]),
        ({"mkl": "2024"}, ["nothing called mkl"]),
        ({"graphs": "0"}, ["graphs ", "not 0"]),
    ],
)
def test_a_toolchain_that_is_not_here_is_refused_entry_by_entry(
    tmp_path: Path, toolchain: dict[str, str], named: list[str]
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(_CONFIG))
    with pytest.raises(ContainerFailure) as caught:
        open_engine(Engine.CPU).compile(
            _request(toolchain=toolchain), tmp_path, tmp_path / "out", threads=1, workers=1, report=lambda _: None
        )
    assert caught.value.code is FailureCode.TOOLCHAIN_MISMATCH
    assert all(text in caught.value.message for text in named)


def test_a_machine_without_the_instructions_compiles_nothing_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu_toolchain, "_cpu_flags", lambda: frozenset({"avx"}))
    with pytest.raises(ContainerFailure, match=r"a CPU without avx2, .*x86-64-v3") as caught:
        open_engine(Engine.CPU).compile(
            _request(), tmp_path, tmp_path / "out", threads=1, workers=1, report=lambda _: None
        )
    assert caught.value.code is FailureCode.TOOLCHAIN_MISMATCH


def test_the_chart_names_the_graphs_that_its_images_make() -> None:
    values = yaml.safe_load((_ROOT / "charts" / "neuron-operator" / "values.yaml").read_text())
    assert values["platform"]["cpu"]["toolchain"]["graphs"] == cpu_toolchain.GRAPHS


def _manifest(**changes: Any) -> ArtifactManifest:
    request = _request()
    return ArtifactManifest(
        **{
            "digest": request.digest,
            "request": request,
            "source_commit": "c",
            "graphs": (),
            "files": (StoredFile(path="weights.safetensors", size=1, sha256="0" * 64),),
            "tools": {},
            "timings": {},
            "created_at": "2026-01-01T00:00:00Z",
            **changes,
        }
    )


@pytest.mark.parametrize("toolchain", [{"graphs": "0"}, {"torch": "1.0.0"}, {"march": "x86-64-v9"}])
def test_machine_code_that_cannot_run_here_is_refused(toolchain: dict[str, str]) -> None:
    engine = open_engine(Engine.CPU)
    engine.check(_manifest())
    with pytest.raises(ContainerFailure, match=next(iter(toolchain.values()))) as caught:
        engine.check(_manifest(request=_request(toolchain=toolchain)))
    assert caught.value.code is FailureCode.ARTIFACT_INCOMPATIBLE


def test_an_artifact_without_weights_is_refused() -> None:
    with pytest.raises(ContainerFailure, match=r"no weights\.safetensors") as caught:
        open_engine(Engine.CPU).check(_manifest(files=()))
    assert caught.value.code is FailureCode.ARTIFACT_DAMAGED


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"architectures": ["MistralForCausalLM"]}, "MistralForCausalLM"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ({"attention_bias": True}, "attention_bias True"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantization_config"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "rope_type 'llama3'"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope_type 'yarn'"),
        ({"num_key_value_heads": 3}, "3 key-value heads"),
        ({"vocab_size": None}, "vocab_size None"),
        ({"vocab_size": "256"}, "vocab_size '256'"),
        ({"num_hidden_layers": True}, "num_hidden_layers True"),
        ({"num_attention_heads": 0}, "num_attention_heads 0"),
        ({"num_attention_heads": 65}, "head_dim 0"),
        ({"num_key_value_heads": -1}, "num_key_value_heads -1"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps nan"),
        ({"rope_theta": "1e4"}, "rope_theta '1e4'"),
        ({"rope_scaling": "linear"}, "rope_scaling 'linear'"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5"),
        ({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, "partial_rotary_factor 0.5"),
        ({"tie_word_embeddings": "false"}, "tie_word_embeddings 'false'"),
        ({"max_position_embeddings": 64}, "64 positions"),
    ],
)
def test_a_model_that_would_be_computed_wrongly_is_refused_by_name(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ContainerFailure, match=named) as caught:
        open_engine(Engine.CPU).describe(_request(), {**_CONFIG, **change})
    assert caught.value.code is FailureCode.UNSUPPORTED_MODEL


@pytest.mark.parametrize("change", [{"tensor_parallel_size": 2}, {"flags": ("--fast",)}])
def test_what_a_cpu_does_not_have_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ContainerFailure, match=next(iter(change))) as caught:
        open_engine(Engine.CPU).describe(_request(**change), _CONFIG)
    assert caught.value.code is FailureCode.UNSUPPORTED_MODEL


def test_encoders_are_not_quantized() -> None:
    encoder = {
        "architectures": ["BertModel"],
        "hidden_act": "gelu",
        "hidden_size": 32,
        "intermediate_size": 64,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": 128,
        "num_attention_heads": 2,
        "num_hidden_layers": 2,
        "vocab_size": 64,
    }
    shapes = Shapes(max_model_length=128, max_batch_size=1, context_lengths=(128,), token_generation_batches=())
    request = _request(task=Task.EMBEDDING, shapes=shapes)
    assert open_engine(Engine.CPU).describe(request, encoder)
    with pytest.raises(ContainerFailure, match="quantization Int8: encoders are compiled without") as caught:
        open_engine(Engine.CPU).describe(request.model_copy(update={"quantization": Quantization.INT8}), encoder)
    assert caught.value.code is FailureCode.UNSUPPORTED_MODEL


def test_rope_theta_is_read_from_where_either_transformers_writes_it() -> None:
    old = parse_llama_config({**_CONFIG, "rope_theta": 5e5, "rope_scaling": None})
    new = parse_llama_config({**_CONFIG, "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}})
    assert old.rope_theta == new.rope_theta == 5e5


def test_numbers_that_old_models_leave_out_are_those_of_transformers() -> None:
    """Llama 2 was published without rope_theta and num_key_value_heads."""
    left_out = {"num_key_value_heads", "rope_theta"}
    config = parse_llama_config({name: value for name, value in _CONFIG.items() if name not in left_out})
    assert (config.rope_theta, config.key_value_heads, config.head_size) == (10000.0, 4, 16)


def test_an_estimated_share_rises_without_reaching_the_end() -> None:
    shares = [expected_share(age, 10.0) for age in range(0, 100, 2)]
    assert shares[0] == 0
    assert all(earlier < later < 1 for earlier, later in itertools.pairwise(shares))
