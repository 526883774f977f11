"""Llama as a static graph: a fixed number of tokens, each of any slot, over caches of a fixed length.

One module serves all kinds of graph: prefill is many tokens of one slot, decode one token each of many. A step may have
both, for nothing but its slot and its position tells what a token belongs to. Nothing is exported or compiled here.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from .llama_config import LlamaConfig
from .packed_linear import packed_columns, packed_linear, packed_shape
from .slot_attention import slot_attention


class Llama(nn.Module):
    """The model with weights of undefined content: matrices in panels, as the products read them.

    Caches have one position more than the context: what pads write goes there, and nothing that counts reads it.
    """

    cosine: Tensor
    embedding: Tensor
    head: Tensor
    norm: Tensor
    sine: Tensor

    def __init__(self, config: LlamaConfig, context_length: int) -> None:
        super().__init__()
        self.config = config
        positions = context_length + 1
        if not config.tied_embeddings:
            _register(self, "embedding", config.vocabulary, config.hidden_size)
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.layers))
        _register(self, "norm", config.hidden_size)
        _register(self, "head", *packed_shape(config.hidden_size, config.vocabulary))
        _register(self, "cosine", positions, config.head_size // 2)
        _register(self, "sine", positions, config.head_size // 2)

    def forward(
        self,
        tokens: Tensor,
        slots: Tensor,
        positions: Tensor,
        last: Tensor,
        keys: list[Tensor],
        values: list[Tensor],
    ) -> Tensor:
        """Advance sequences, writing their keys and values into the caches; logits[results, vocabulary].

        tokens and slots: int64[tokens]; positions: int64[tokens], the context length for pads; last: int64[results],
        the tokens whose logits are wanted; keys and values: for each layer float32[slots, context + 1, key-value heads,
        head size].
        """
        x = self._embed(tokens)
        cosine, sine = self.cosine[positions].unsqueeze(1), self.sine[positions].unsqueeze(1)
        for layer, cached_keys, cached_values in zip(self.layers, keys, values, strict=True):
            x = layer(x, (cosine, sine), slots, positions, cached_keys, cached_values)
        x = x[last]
        x = _rms_norm(x, self.norm, self.config.norm_epsilon)
        return packed_linear(x, self.head, self.config.vocabulary)

    def _embed(self, tokens: Tensor) -> Tensor:
        if self.config.tied_embeddings:
            return packed_columns(self.head, tokens)
        return functional.embedding(tokens, self.embedding)


class _Layer(nn.Module):
    attention_norm: Tensor
    down: Tensor
    gate_up: Tensor
    mlp_norm: Tensor
    output: Tensor
    qkv: Tensor

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.config = config
        hidden, queries = config.hidden_size, config.heads * config.head_size
        self.fused = queries + 2 * config.key_value_heads * config.head_size
        _register(self, "attention_norm", hidden)
        _register(self, "qkv", *packed_shape(hidden, self.fused))
        _register(self, "output", *packed_shape(queries, hidden))
        _register(self, "mlp_norm", hidden)
        _register(self, "gate_up", *packed_shape(hidden, 2 * config.intermediate_size))
        _register(self, "down", *packed_shape(config.intermediate_size, hidden))

    def forward(
        self,
        x: Tensor,
        rotation: tuple[Tensor, Tensor],
        slots: Tensor,
        positions: Tensor,
        keys: Tensor,
        values: Tensor,
    ) -> Tensor:
        config = self.config
        fused = packed_linear(_rms_norm(x, self.attention_norm, config.norm_epsilon), self.qkv, self.fused)
        attention = self._attention(fused, rotation, slots, positions, keys, values)
        x = x + packed_linear(attention, self.output, config.hidden_size)
        normed = _rms_norm(x, self.mlp_norm, config.norm_epsilon)
        gate, up = packed_linear(normed, self.gate_up, 2 * config.intermediate_size).chunk(2, dim=-1)
        return x + packed_linear(functional.silu(gate) * up, self.down, config.hidden_size)

    def _attention(
        self,
        fused: Tensor,
        rotation: tuple[Tensor, Tensor],
        slots: Tensor,
        positions: Tensor,
        keys: Tensor,
        values: Tensor,
    ) -> Tensor:
        config = self.config
        shared = config.key_value_heads
        heads = fused.view(fused.shape[0], -1, config.head_size)
        query, key, value = torch.split(heads, [config.heads, shared, shared], dim=1)
        keys.index_put_((slots, positions), _rotate(key, rotation))
        values.index_put_((slots, positions), value)
        attended: Tensor = slot_attention(_rotate(query, rotation), keys, values, slots, positions)
        return attended.flatten(1)


def rotation_tables(config: LlamaConfig, context_length: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the rotary embedding: float32[context + 1, head size / 2] each."""
    exponents = torch.arange(0, config.head_size, 2, dtype=torch.float32) / config.head_size
    angles = torch.outer(torch.arange(context_length + 1, dtype=torch.float32), 1.0 / config.rope_theta**exponents)
    return angles.cos(), angles.sin()


def _register(module: nn.Module, name: str, *shape: int) -> None:
    module.register_buffer(name, torch.empty(shape, dtype=torch.float32))


def _rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + epsilon) * weight


def _rotate(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """x[tokens, heads, head size], turned by its position; halves are paired as the checkpoints have them."""
    cosine, sine = rotation
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)
