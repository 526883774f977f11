"""Architectures that engines compile, as `config.json` names them, by what they do."""

LLAMA = "LlamaForCausalLM"
BERT = "BertModel"

GENERATORS = frozenset({LLAMA})
ENCODERS = frozenset({BERT})
