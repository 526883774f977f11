"""What is planned for a model: shapes, memory, and when the answer is no."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_operator.planning.encoder_facts import EncoderFacts, encoder_facts
from neuron_operator.planning.model_facts import ModelFacts, model_facts
from neuron_operator.planning.planner import Plan, Wishes, plan
from neuron_operator.planning.refusal import DoesNotFit, UnsupportedModel
from neuron_runtime.contract.request import DType, Engine, Quantization, Target

# config.json of HuggingFaceTB/SmolLM2-135M-Instruct, as far as it is read.
SMOLLM2: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 576,
    "intermediate_size": 1536,
    "max_position_embeddings": 8192,
    "num_attention_heads": 9,
    "num_hidden_layers": 30,
    "num_key_value_heads": 3,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "vocab_size": 49152,
}
LLAMA_3_1_8B: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "max_position_embeddings": 131072,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
}

# config.json of sentence-transformers/all-MiniLM-L6-v2, as far as it is read.
MINILM: dict[str, Any] = {
    "architectures": ["BertModel"],
    "hidden_size": 384,
    "intermediate_size": 1536,
    "max_position_embeddings": 512,
    "num_attention_heads": 12,
    "num_hidden_layers": 6,
    "type_vocab_size": 2,
    "vocab_size": 30522,
}


def planned(config: dict[str, Any] = SMOLLM2, length: int | None = None, slots: int = 4) -> Plan:
    return plan(model_facts(config), Wishes(length, slots, DType.FLOAT32))


def test_parameters_of_published_models() -> None:
    assert model_facts(SMOLLM2).parameters == 134_515_008
    assert model_facts(SMOLLM2 | {"tie_word_embeddings": False}).parameters == 134_515_008 + 576 * 49152
    assert model_facts(LLAMA_3_1_8B).parameters == 8_030_261_248


def test_the_plan_of_smollm2() -> None:
    found = planned()
    assert (found.engine, found.target, found.dtype) == (Engine.CPU, Target.CPU, DType.FLOAT32)
    assert found.shapes.max_model_length == 512
    assert found.shapes.context_lengths == (64,)
    assert found.shapes.token_generation_batches == (1, 4, 12)
    assert found.memory.weights == 4 * 134_515_008
    # Keys and values, layers, sequences, tokens, heads, head size, bytes.
    assert found.memory.kv_cache == 2 * 30 * 4 * 512 * 3 * 64 * 4
    assert found.memory.total == found.memory.weights + found.memory.kv_cache + found.memory.workspace
    assert found.compile_memory > 2 * found.memory.weights
    assert "135M parameters" in found.explanation


@pytest.mark.parametrize(
    ("slots", "batches"),
    [
        (1, (1,)),
        (2, (1, 2, 10)),
        (4, (1, 4, 12)),
        (5, (1, 4, 5, 13)),
        (8, (1, 4, 8, 16)),
        (16, (1, 4, 16, 24)),
        (256, (1, 4, 16, 64, 256, 384)),
    ],
)
def test_few_sequences_have_graphs_of_their_own_and_prompts_go_beside_all_slots(
    slots: int, batches: tuple[int, ...]
) -> None:
    assert planned(slots=slots).shapes.token_generation_batches == batches


def test_a_short_model_is_planned_at_its_own_length() -> None:
    found = planned(SMOLLM2 | {"max_position_embeddings": 32})
    assert found.shapes.max_model_length == 32
    assert found.shapes.context_lengths == (32,)


def test_lengths_of_prompts_are_as_wished() -> None:
    wishes = Wishes(256, 4, DType.FLOAT32, context_lengths=(16, 256))
    assert plan(model_facts(SMOLLM2), wishes).shapes.context_lengths == (16, 256)


@pytest.mark.parametrize(("wished", "lengths"), [((64,), (64, 128)), ((64, 128), (64, 128))])
def test_lengths_of_texts_are_completed_by_the_longest(wished: tuple[int, ...], lengths: tuple[int, ...]) -> None:
    wishes = Wishes(128, 4, DType.FLOAT32, context_lengths=wished)
    assert plan(encoder_facts(MINILM), wishes).shapes.context_lengths == lengths


def test_a_bucket_beyond_the_planned_length_names_the_field() -> None:
    wishes = Wishes(None, 4, DType.FLOAT32, context_lengths=(64, 1024))
    with pytest.raises(DoesNotFit, match=r"beyond 512 out of shapes\.buckets\.contextLengths") as caught:
        plan(model_facts(SMOLLM2), wishes)
    assert "raise shapes.maxModelLength" in caught.value.remedy
    # Where the model is no longer, that would not help.
    with pytest.raises(DoesNotFit) as caught:
        plan(encoder_facts(MINILM), wishes)
    assert "raise" not in caught.value.remedy


def test_long_steps_of_prompts_need_memory_for_what_they_compute() -> None:
    def memory(longest: int) -> int:
        wishes = Wishes(8192, 1, DType.FLOAT32, context_lengths=(longest,))
        return plan(model_facts(SMOLLM2), wishes).memory.workspace

    # Twice the feed-forward's width and its product, and some residuals.
    assert memory(8192) - memory(4096) == 4096 * (3 * 1536 + 4 * 576) * 4


def test_a_length_beyond_the_model_names_field_and_limit() -> None:
    with pytest.raises(DoesNotFit, match=r"shapes\.maxModelLength to 8192 or less"):
        planned(length=8193)
    assert planned(length=8192).shapes.max_model_length == 8192


def test_a_boundless_model_is_refused_before_its_size_reaches_a_status() -> None:
    huge = SMOLLM2 | {"hidden_size": 10**9, "intermediate_size": 10**9, "num_hidden_layers": 10**9}
    with pytest.raises(DoesNotFit, match=r"model\.huggingFace\.repo"):
        planned(huge)


UNSUPPORTED: dict[str, dict[str, Any]] = {
    "another architecture": {"architectures": ["GPT2LMHeadModel"]},
    "an encoder": {"architectures": ["BertModel"]},
    "no architecture": {"architectures": []},
    "architectures of another type": {"architectures": {"0": "LlamaForCausalLM"}},
    "a missing number": {"hidden_size": None},
    "text": {"num_hidden_layers": "30"},
    "true": {"vocab_size": True},
    "zero": {"num_attention_heads": 0},
    "negative": {"intermediate_size": -1},
    "a fraction": {"max_position_embeddings": 0.5},
    "more heads than width": {"num_attention_heads": 1000},
}


@pytest.mark.parametrize("case", UNSUPPORTED)
def test_a_configuration_that_cannot_be_used_names_its_field(case: str) -> None:
    ((field, _),) = UNSUPPORTED[case].items()
    named = {"architectures": "architecture", "num_attention_heads": "head"}.get(field, field)
    with pytest.raises(UnsupportedModel, match=named):
        model_facts(SMOLLM2 | UNSUPPORTED[case])


def test_defaults_of_the_configuration() -> None:
    found = model_facts({key: value for key, value in SMOLLM2.items() if key != "num_key_value_heads"})
    assert found.kv_heads == 9
    assert model_facts(SMOLLM2 | {"head_dim": 128}).head_dim == 128
    assert found.head_dim == 64


FACTS = st.builds(
    ModelFacts,
    architecture=st.just("LlamaForCausalLM"),
    hidden_size=st.integers(1, 8192),
    intermediate_size=st.integers(1, 32768),
    layers=st.integers(1, 128),
    heads=st.integers(1, 128),
    kv_heads=st.integers(1, 128),
    head_dim=st.integers(1, 256),
    vocabulary=st.integers(1, 300_000),
    max_position=st.integers(2048, 1_048_576),
    tied_embeddings=st.booleans(),
)


@given(facts=FACTS, lengths=st.tuples(st.integers(16, 2048), st.integers(16, 2048)), slots=st.integers(1, 256))
def test_a_longer_context_needs_no_less_memory(facts: ModelFacts, lengths: tuple[int, int], slots: int) -> None:
    shorter, longer = (plan(facts, Wishes(length, slots, DType.FLOAT32)).memory for length in sorted(lengths))
    assert longer.total >= shorter.total
    assert longer.weights == shorter.weights


@given(facts=FACTS, slots=st.tuples(st.integers(1, 256), st.integers(1, 256)))
def test_memory_of_the_cache_is_in_proportion_to_the_slots(facts: ModelFacts, slots: tuple[int, int]) -> None:
    few, many = (plan(facts, Wishes(512, count, DType.FLOAT32)).memory.kv_cache for count in slots)
    assert few * slots[1] == many * slots[0]


@given(facts=FACTS, length=st.none() | st.integers(16, 2048), slots=st.integers(1, 256))
def test_a_plan_is_whole(facts: ModelFacts, length: int | None, slots: int) -> None:
    found = plan(facts, Wishes(length, slots, DType.FLOAT32))
    assert found.shapes.max_model_length == (length or min(512, facts.max_position))
    assert max(found.shapes.context_lengths) <= found.shapes.max_model_length
    assert found.shapes.token_generation_batches == tuple(sorted({1, slots, *found.shapes.token_generation_batches}))
    assert (max(found.shapes.token_generation_batches) > slots) == (slots > 1)
    assert found.memory.total < 2**63
    assert len(found.explanation) <= 1024
    assert plan(facts, Wishes(length, slots, DType.FLOAT32)) == found


def planned_encoder(config: dict[str, Any] = MINILM, length: int | None = None, texts: int = 4) -> Plan:
    return plan(encoder_facts(config), Wishes(length, texts, DType.FLOAT32))


def test_parameters_of_a_published_encoder() -> None:
    # Its safetensors have 22,713,216 parameters; the pooler's are not used.
    assert encoder_facts(MINILM).parameters == 22_713_216 - (384 * 384 + 384)


def test_the_plan_of_an_encoder() -> None:
    found = planned_encoder(length=256)
    assert (found.engine, found.target, found.dtype) == (Engine.CPU, Target.CPU, DType.FLOAT32)
    assert (found.shapes.max_model_length, found.shapes.max_batch_size) == (256, 4)
    assert found.shapes.context_lengths == (32, 64, 128, 256)
    assert found.shapes.token_generation_batches == ()
    assert (found.memory.weights, found.memory.kv_cache) == (4 * encoder_facts(MINILM).parameters, 0)
    assert found.memory.workspace > 1024 * 2**20
    assert "23M parameters" in found.explanation
    assert "4 texts of 256 tokens" in found.explanation
    assert "KV cache" not in found.explanation


@pytest.mark.parametrize(
    ("length", "lengths"),
    [(None, (32, 64, 128, 256, 512)), (16, (16,)), (32, (32,)), (33, (32, 33)), (200, (32, 64, 128, 200))],
)
def test_short_texts_have_graphs_of_their_own_and_the_longest_has_one(
    length: int | None, lengths: tuple[int, ...]
) -> None:
    assert planned_encoder(length=length).shapes.context_lengths == lengths


def test_an_encoders_length_is_bounded_by_its_positions() -> None:
    assert planned_encoder(MINILM | {"max_position_embeddings": 128}).shapes.max_model_length == 128
    with pytest.raises(DoesNotFit, match=r"shapes\.maxModelLength to 512 or less"):
        planned_encoder(length=513)


def test_a_task_that_the_architecture_has_not_names_the_one_that_it_has() -> None:
    with pytest.raises(UnsupportedModel) as refused:
        model_facts(MINILM)
    assert "BertModel, an encoder" in refused.value.cause
    assert "spec.model.task: Embedding" in refused.value.remedy
    with pytest.raises(UnsupportedModel) as refused:
        encoder_facts(SMOLLM2)
    assert "LlamaForCausalLM, which generates text" in refused.value.cause
    assert "spec.model.task: TextGeneration" in refused.value.remedy


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"architectures": ["RobertaModel"]}, "RobertaModel; for embeddings BertModel"),
        ({"architectures": None}, r"\(none\)"),
        ({"hidden_size": None}, "hidden_size"),
        ({"num_attention_heads": 0}, "num_attention_heads"),
        ({"type_vocab_size": "2"}, "type_vocab_size"),
    ],
)
def test_an_encoders_configuration_that_cannot_be_used_names_its_field(change: dict[str, Any], named: str) -> None:
    with pytest.raises(UnsupportedModel, match=named):
        encoder_facts(MINILM | change)


ENCODERS = st.builds(
    EncoderFacts,
    architecture=st.just("BertModel"),
    hidden_size=st.integers(1, 4096),
    intermediate_size=st.integers(1, 16384),
    layers=st.integers(1, 64),
    heads=st.integers(1, 64),
    vocabulary=st.integers(1, 300_000),
    max_position=st.integers(16, 8192),
    token_types=st.integers(1, 4),
)


@given(facts=ENCODERS, length=st.none() | st.integers(16, 8192), texts=st.integers(1, 256))
def test_an_encoders_plan_is_whole(facts: EncoderFacts, length: int | None, texts: int) -> None:
    length = None if length is None else min(length, facts.max_position)
    found = plan(facts, Wishes(length, texts, DType.FLOAT32))
    lengths = found.shapes.context_lengths
    assert lengths == tuple(sorted(set(lengths)))
    assert lengths[-1] == found.shapes.max_model_length == (length or min(512, facts.max_position))
    assert len(found.explanation) <= 1024
    fewer = plan(facts, Wishes(length, 1, DType.FLOAT32))
    assert fewer.memory.total <= found.memory.total


WISHES = {
    "both are left to the planner": (None, None),
    "an engine": (Engine.CPU, None),
    "a target": (None, Target.CPU),
    "both": (Engine.CPU, Target.CPU),
}


def test_int8_weights_take_a_byte_each_and_their_outputs_a_scale() -> None:
    found, float32 = plan(model_facts(SMOLLM2), Wishes(None, 4, DType.FLOAT32, Quantization.INT8)), planned()
    assert (found.quantization, float32.quantization) == (Quantization.INT8, Quantization.NONE)
    # As the weight file holds them: 30 layers of qkv, output, gate with up, and down; the embedding, which is the head.
    matrices = 30 * (576 * 960 + 576 * 576 + 576 * 3072 + 1536 * 576) + 49152 * 576
    scales = 30 * (960 + 576 + 3072 + 576) + 49152
    norms = (2 * 30 + 1) * 576
    assert found.memory.weights == matrices + 4 * (scales + norms)
    assert matrices + norms == model_facts(SMOLLM2).parameters
    assert (found.memory.kv_cache, found.compile_memory) == (float32.memory.kv_cache, float32.compile_memory)
    assert "135M parameters in Int8 on CPU: 130 MiB of weights" in found.explanation


def test_an_encoder_is_not_quantized() -> None:
    with pytest.raises(DoesNotFit) as refused:
        plan(encoder_facts(MINILM), Wishes(None, 4, DType.FLOAT32, Quantization.INT8))
    assert refused.value.cause == "shapes.quantization is Int8, but encoders are compiled without"
    assert refused.value.remedy == "Set shapes.quantization to None"


@pytest.mark.parametrize("case", WISHES)
def test_engine_and_target_are_as_asked_for(case: str) -> None:
    engine, target = WISHES[case]
    chosen = plan(model_facts(SMOLLM2), Wishes(None, 4, DType.FLOAT32, engine=engine, target=target))
    assert (chosen.engine, chosen.target) == (Engine.CPU, Target.CPU)


def test_an_engine_that_does_not_run_on_the_target_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neuron_operator.planning.planner._COMBINATIONS", ())
    with pytest.raises(DoesNotFit) as refused:
        plan(model_facts(SMOLLM2), Wishes(None, 4, DType.FLOAT32, engine=Engine.CPU))
    assert refused.value.cause == "runtime.engine CPU does not run on hardware.target Auto"
    assert refused.value.remedy == "Set runtime.engine or hardware.target to Auto"
