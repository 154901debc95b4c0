"""Attention of one token over its cache: the same as the plain one."""

import pytest
import torch
from transformers import DynamicCache, PreTrainedModel

from chatglm3 import ChatGLM3Tokenizer
from chatglm3.attention import NAME, grouped_attention


class Layer(torch.nn.Module):
    """What the attention interface asks of the layer that calls it."""

    is_causal = True
    num_key_value_groups = 4


@pytest.mark.parametrize(("length", "cached"), [(1, 1), (1, 37), (5, 5)], ids=["first", "decode", "prefill"])
def test_it_gives_what_attention_over_repeated_heads_gives(length: int, cached: int) -> None:
    torch.manual_seed(0)
    query, key, value = (
        torch.randn(2, 8, length, 16),
        torch.randn(2, 2, cached, 16),
        torch.randn(2, 2, cached, 16),
    )
    attended, _ = grouped_attention(Layer().eval(), query, key, value, None, scaling=0.25)
    repeated = (states.repeat_interleave(4, dim=1) for states in (key, value))
    expected = torch.nn.functional.scaled_dot_product_attention(
        query, *repeated, scale=0.25, is_causal=length > 1
    )
    torch.testing.assert_close(attended, expected.transpose(1, 2))


@torch.inference_mode()
def test_a_model_on_the_cpu_decodes_with_it_to_the_same_logits(
    tiny: tuple[PreTrainedModel, ChatGLM3Tokenizer],
) -> None:
    model, _ = tiny
    assert model.config._attn_implementation == NAME
    ids = torch.arange(20, 60)[None]
    cache = DynamicCache(config=model.config)
    model(ids[:, :-1], past_key_values=cache)
    decoded = model(ids[:, -1:], past_key_values=cache).logits[0, -1]
    torch.testing.assert_close(decoded, model(ids).logits[0, -1], atol=1e-5, rtol=1e-5)
