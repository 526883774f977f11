"""Llama as a static graph: a fixed number of tokens, each of any slot, over caches of a fixed length.

One module serves all kinds of graph: prefill is many tokens of one slot, decode one token each of many. A step may have
both, for nothing but its slot and its position tells what a token belongs to. Nothing is exported or compiled here.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from neuron_runtime.contract.request import Quantization

from .llama_config import LlamaConfig
from .packed_matrices import PackedMatrices
from .slot_attention import slot_attention


class Llama(PackedMatrices):
    """The model with weights of undefined content: matrices in panels, as the products read them.

    Caches have one position more than the context: what pads write goes there, and nothing that counts reads it.
    """

    cosine: Tensor
    norm: Tensor
    sine: Tensor

    def __init__(self, config: LlamaConfig, context_length: int, quantization: Quantization) -> None:
        super().__init__(quantization)
        self.config = config
        positions = context_length + 1
        if not config.tied_embeddings:
            self.add_matrix("embedding", config.hidden_size, config.vocabulary)
        self.layers = nn.ModuleList(_Layer(config, quantization) for _ in range(config.layers))
        _register(self, "norm", config.hidden_size)
        self.add_matrix("head", config.hidden_size, config.vocabulary)
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
        x = self.columns("head" if self.config.tied_embeddings else "embedding", tokens)
        cosine, sine = self.cosine[positions].unsqueeze(1), self.sine[positions].unsqueeze(1)
        for layer, cached_keys, cached_values in zip(self.layers, keys, values, strict=True):
            x = layer(x, (cosine, sine), slots, positions, cached_keys, cached_values)
        x = x[last]
        x = _rms_norm(x, self.norm, self.config.norm_epsilon)
        return self.times(x, "head")


class _Layer(PackedMatrices):
    attention_norm: Tensor
    mlp_norm: Tensor

    def __init__(self, config: LlamaConfig, quantization: Quantization) -> None:
        super().__init__(quantization)
        self.config = config
        hidden, queries = config.hidden_size, config.heads * config.head_size
        _register(self, "attention_norm", hidden)
        self.add_matrix("qkv", hidden, queries + 2 * config.key_value_heads * config.head_size)
        self.add_matrix("output", queries, hidden)
        _register(self, "mlp_norm", hidden)
        self.add_matrix("gate_up", hidden, 2 * config.intermediate_size)
        self.add_matrix("down", config.intermediate_size, hidden)

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
        fused = self.times(_rms_norm(x, self.attention_norm, config.norm_epsilon), "qkv")
        attention = self._attention(fused, rotation, slots, positions, keys, values)
        x = x + self.times(attention, "output")
        normed = _rms_norm(x, self.mlp_norm, config.norm_epsilon)
        gate, up = self.times(normed, "gate_up").chunk(2, dim=-1)
        return x + self.times(functional.silu(gate) * up, "down")

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
