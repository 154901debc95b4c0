"""ChatGLM3 as Transformers' GLM: the configuration and the weight names, as data.

ChatGLM3-6B is `GlmForCausalLM` under other names, with query, key and value
fused. The table follows zai-org/chatglm3-6b's `modeling_chatglm.py` and
`configuration_chatglm.py`; with it the logits equal the original's.
"""

import math
from typing import Any

from transformers import GlmConfig
from transformers.conversion_mapping import register_checkpoint_conversion_mapping
from transformers.core_model_loading import Split, WeightConverter, WeightRenaming

from chatglm3.errors import CheckpointError

# The original's rotary base, which `rope_ratio` multiplies in the long-context models.
ROPE_THETA = 10_000.0

# The original's name of each field of GlmConfig that it has.
_CONFIG_NAMES = {
    "vocab_size": "padded_vocab_size",
    "hidden_size": "hidden_size",
    "intermediate_size": "ffn_hidden_size",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_attention_heads",
    "num_key_value_heads": "multi_query_group_num",
    "head_dim": "kv_channels",
    "max_position_embeddings": "seq_length",
    "rms_norm_eps": "layernorm_epsilon",
    "attention_bias": "add_qkv_bias",
}

# What GlmForCausalLM computes; another value means other mathematics.
_CONFIG_REQUIRED = {
    "rmsnorm": True,
    "post_layer_norm": True,
    "original_rope": True,
    "multi_query_attention": True,
    "add_bias_linear": False,
    "apply_residual_connection_post_layernorm": False,
}

# What a native config.json may say: sizes and numbers. Other fields of Transformers'
# configurations can name code on the hub, so they are not read.
_NATIVE_FIELDS = (
    *_CONFIG_NAMES,
    "attention_dropout",
    "bos_token_id",
    "dtype",
    "eos_token_id",
    "hidden_act",
    "pad_token_id",
    "partial_rotary_factor",
    "rope_parameters",
    "rope_theta",
    "tie_word_embeddings",
    "torch_dtype",
)

_RENAMED = {
    r"^transformer\.embedding\.word_embeddings\.": r"model.embed_tokens.",
    r"^transformer\.encoder\.final_layernorm\.": r"model.norm.",
    r"^transformer\.output_layer\.": r"lm_head.",
    r"\.self_attention\.dense\.": r".self_attn.o_proj.",
    r"\.mlp\.dense_h_to_4h\.": r".mlp.gate_up_proj.",
    r"\.mlp\.dense_4h_to_h\.": r".mlp.down_proj.",
    r"^transformer\.encoder\.layers\.": r"model.layers.",
}

# Held by the original checkpoints, computed here.
IGNORED_WEIGHTS = ("transformer.rotary_pos_emb.inv_freq",)


def register_weight_names() -> None:
    """Let `GlmForCausalLM.from_pretrained` read the original's weight names.

    Native checkpoints have none of these names and load as before.
    """
    register_checkpoint_conversion_mapping(
        "glm",
        [
            *(WeightRenaming(source, target) for source, target in _RENAMED.items()),
            WeightConverter(
                ".self_attention.query_key_value.",
                [f".self_attn.{name}_proj." for name in "qkv"],
                operations=[Split(dim=0)],
            ),
        ],
        overwrite=True,
    )


def glm_config(original: dict[str, Any], stop_token_ids: list[int]) -> GlmConfig:
    """The native configuration of an official `config.json`.

    Raises CheckpointError when a field is missing, or when the model is not a
    ChatGLM3 (the first ChatGLM-6B and GLM-4 use the same `model_type`).
    """
    missing = sorted(name for name in _CONFIG_NAMES.values() if name not in original)
    if missing:
        raise CheckpointError(
            f"config.json is not that of a ChatGLM3 model: it lacks {', '.join(missing)}. "
            "(The first ChatGLM-6B has another architecture.)"
        )
    for name, value in _CONFIG_REQUIRED.items():
        if original.get(name, value) != value:
            raise CheckpointError(
                f"config.json is not that of a ChatGLM3 model: {name} is {original[name]!r}."
            )
    ratio, length = float(original.get("rope_ratio", 1.0)), int(original["seq_length"])
    if not (0 < ratio < math.inf and length > 0):
        raise CheckpointError(
            f"config.json has rope_ratio {ratio} and seq_length {length}; both must be positive."
        )
    return GlmConfig(
        **{name: original[theirs] for name, theirs in _CONFIG_NAMES.items()},
        rope_parameters={
            "rope_type": "default",
            "rope_theta": ROPE_THETA * ratio,
            "partial_rotary_factor": 0.5,
        },
        tie_word_embeddings=bool(original.get("tie_word_embeddings", False)),
        pad_token_id=original.get("pad_token_id", 0),
        eos_token_id=stop_token_ids,
        bos_token_id=None,
    )


def native_config(config: dict[str, Any]) -> GlmConfig:
    """The configuration of a checkpoint in Transformers' own format."""
    return GlmConfig(**{name: config[name] for name in _NATIVE_FIELDS if name in config})
