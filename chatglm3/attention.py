"""Attention of one token over its KV cache, on the CPU.

Where several query heads share a key and value head, PyTorch's CPU kernel reads
the keys and values again for each of them. For a single new token the heads of a
group can stand as positions of one head instead: the same sums, read once.
"""

from typing import Any

import torch
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

NAME = "grouped_sdpa"


def use_grouped_attention(model: PreTrainedModel) -> None:
    """Let a model on the CPU decode with `grouped_attention`; everything else stays SDPA's."""
    AttentionInterface.register(NAME, grouped_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)


def grouped_attention(
    module: torch.nn.Module,
    query: torch.Tensor,  # [batch, heads, length, head_dim]
    key: torch.Tensor,  # [batch, groups, cached, head_dim]
    value: torch.Tensor,  # [batch, groups, cached, head_dim]
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Transformers' attention interface; returns [batch, length, heads, head_dim]."""
    batch, heads, length, head_dim = query.shape
    if length > 1 or attention_mask is not None or module.training:
        options["scaling"] = scaling
        attended, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return attended, None
    groups = key.shape[1]
    grouped = query.reshape(batch, groups, heads // groups, head_dim)
    attended = torch.nn.functional.scaled_dot_product_attention(grouped, key, value, scale=scaling)
    return attended.reshape(batch, 1, heads, head_dim), None
