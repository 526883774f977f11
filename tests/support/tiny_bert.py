"""A two-layer BERT with random weights, as transformers saves it, and how sentence-transformers is told to pool."""

from __future__ import annotations

import json
from pathlib import Path
from string import ascii_lowercase

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel

VOCABULARY = 96
MAX_LENGTH = 32
MEAN, FIRST = "pooling_mode_mean_tokens", "pooling_mode_cls_token"


def tiny_bert(folder: Path) -> None:
    """Write the model's files; the same bytes each time."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=80,
        max_position_embeddings=MAX_LENGTH,
    )
    BertModel(config).save_pretrained(folder)


def tiny_tokenizer() -> Tokenizer:
    """Letters, as BERT's tokenizers cut and frame texts; saved as one that cuts and fills up, as published ones are."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *ascii_lowercase, *(f"##{letter}" for letter in ascii_lowercase)]
    tokenizer = Tokenizer(models.WordPiece({piece: number for number, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=8)
    return tokenizer


def use_modules(folder: Path, *kinds: str, **pooling: bool) -> None:
    """Have vectors made by these modules of sentence-transformers."""
    modules = [{"idx": number, "type": f"sentence_transformers.models.{kind}"} for number, kind in enumerate(kinds)]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))


def token_vectors(folder: Path, tokens: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What transformers computes: float32[texts, tokens, hidden size], and which tokens count: bool[..., 1]."""
    mask = torch.arange(tokens.shape[1]) < lengths.unsqueeze(1)
    with torch.no_grad():
        found = BertModel.from_pretrained(folder).eval()(input_ids=tokens, attention_mask=mask.long())
    return found.last_hidden_state, mask.unsqueeze(-1)


def mean_vectors(folder: Path, tokens: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Their means, each of length 1."""
    hidden, mask = token_vectors(folder, tokens, lengths)
    return torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)
