"""BERT as a static graph: a fixed number of texts of a fixed number of tokens, to one vector each.

Nothing is exported or compiled here.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from .bert_config import BertConfig, Pooling, VectorSettings


class Bert(nn.Module):
    """The model with weights of undefined content: stored [inputs, outputs] each, as the products take them."""

    embedding: Tensor
    norm_bias: Tensor
    norm_weight: Tensor
    positions: Tensor

    def __init__(self, config: BertConfig, vectors: VectorSettings) -> None:
        super().__init__()
        self.config = config
        self.vectors = vectors
        hidden = config.hidden_size
        _register(self, "embedding", config.vocabulary, hidden)
        # The vector of the only token type in use is added to those of the positions, once for all.
        _register(self, "positions", config.max_positions, hidden)
        _register(self, "norm_weight", hidden)
        _register(self, "norm_bias", hidden)
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.layers))

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Vectors of texts: float32[batch, hidden size].

        tokens: int64[batch, tokens], padded at their ends with any token; lengths: int64[batch], at least 1 each.
        """
        count = tokens.shape[1]
        x = functional.embedding(tokens, self.embedding) + self.positions[:count]
        x = _layer_norm(x, self.norm_weight, self.norm_bias, self.config.norm_epsilon)
        is_text = torch.arange(count) < lengths.unsqueeze(1)
        mask = torch.where(is_text, 0.0, float("-inf"))[:, None, None, :]
        for layer in self.layers:
            x = layer(x, mask)
        pooled = self._pool(x, is_text, lengths)
        return functional.normalize(pooled, dim=-1) if self.vectors.normalized else pooled

    def _pool(self, x: Tensor, is_text: Tensor, lengths: Tensor) -> Tensor:
        if self.vectors.pooling is Pooling.FIRST:
            return x[:, 0]
        return (x * is_text.unsqueeze(-1)).sum(1) / lengths.unsqueeze(1)


class _Layer(nn.Module):
    attention_norm_bias: Tensor
    attention_norm_weight: Tensor
    down: Tensor
    down_bias: Tensor
    norm_bias: Tensor
    norm_weight: Tensor
    output: Tensor
    output_bias: Tensor
    qkv: Tensor
    qkv_bias: Tensor
    up: Tensor
    up_bias: Tensor

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config
        hidden, intermediate = config.hidden_size, config.intermediate_size
        for name, inputs, outputs in (
            ("qkv", hidden, 3 * hidden),
            ("output", hidden, hidden),
            ("up", hidden, intermediate),
            ("down", intermediate, hidden),
        ):
            _register(self, name, inputs, outputs)
            _register(self, f"{name}_bias", outputs)
        for name in ("attention_norm", "norm"):
            _register(self, f"{name}_weight", hidden)
            _register(self, f"{name}_bias", hidden)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        epsilon = self.config.norm_epsilon
        attended = self._attention(x, mask) @ self.output + self.output_bias
        x = _layer_norm(x + attended, self.attention_norm_weight, self.attention_norm_bias, epsilon)
        widened = functional.gelu(x @ self.up + self.up_bias)
        return _layer_norm(x + widened @ self.down + self.down_bias, self.norm_weight, self.norm_bias, epsilon)

    def _attention(self, x: Tensor, mask: Tensor) -> Tensor:
        batch, count, hidden = x.shape
        heads = (x @ self.qkv + self.qkv_bias).view(batch, count, 3, self.config.heads, self.config.head_size)
        query, key, value = heads.permute(2, 0, 3, 1, 4).unbind(0)
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return attended.transpose(1, 2).reshape(batch, count, hidden)


def _register(module: nn.Module, name: str, *shape: int) -> None:
    module.register_buffer(name, torch.empty(shape, dtype=torch.float32))


def _layer_norm(x: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
    return functional.layer_norm(x, weight.shape, weight, bias, epsilon)
