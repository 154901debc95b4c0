"""A small ChatGLM3 checkpoint in the official layout, made from a seed: nothing is downloaded or shipped."""

import io
import json
from pathlib import Path
from typing import Any

import sentencepiece
import torch

CORPUS = """The capital of France is Paris, and the capital of Japan is Tokyo.
People develop small language models; a language model predicts the next token.
What is 17 * 23? It is 391. The answer is in the second line of the table.
def add(first, second): return first + second
你好,请介绍一下你自己。我是一个人工智能助手,很高兴见到你!
今天北京的天气怎么样?北京今天晴,气温二十二度。
如何学习编程?先从简单的程序开始,然后多写多读。
"""

CONFIG: dict[str, Any] = {
    "model_type": "chatglm",
    "architectures": ["ChatGLMModel"],
    "auto_map": {"AutoModel": "modeling_chatglm.ChatGLMForConditionalGeneration"},
    "add_bias_linear": False,
    "add_qkv_bias": True,
    "apply_residual_connection_post_layernorm": False,
    "ffn_hidden_size": 96,
    "hidden_size": 64,
    "kv_channels": 16,
    "layernorm_epsilon": 1e-05,
    "multi_query_attention": True,
    "multi_query_group_num": 2,
    "num_attention_heads": 4,
    "num_layers": 3,
    "original_rope": True,
    "padded_vocab_size": 640,
    "post_layer_norm": True,
    "rmsnorm": True,
    "seq_length": 512,
    "torch_dtype": "float32",
    "tie_word_embeddings": False,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


def train_tokenizer(file: Path) -> None:
    """A SentencePiece model of ChatGLM3's kind: BPE, byte fallback, identity normalisation, dummy prefix."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS.splitlines()),
        model_writer=model,
        model_type="bpe",
        vocab_size=600,
        character_coverage=1.0,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    file.write_bytes(model.getvalue())


def weights(config: dict[str, Any], seed: int = 0) -> dict[str, torch.Tensor]:
    """Random weights under the official names."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * 0.15

    hidden, ffn, vocab = config["hidden_size"], config["ffn_hidden_size"], config["padded_vocab_size"]
    attention = config["num_attention_heads"] * config["kv_channels"]
    fused = attention + 2 * config["multi_query_group_num"] * config["kv_channels"]
    tensors = {
        "transformer.embedding.word_embeddings.weight": random(vocab, hidden),
        "transformer.rotary_pos_emb.inv_freq": torch.zeros(config["kv_channels"] // 4),
        "transformer.encoder.final_layernorm.weight": 1 + random(hidden),
        "transformer.output_layer.weight": random(vocab, hidden),
    }
    for layer in range(config["num_layers"]):
        prefix = f"transformer.encoder.layers.{layer}."
        tensors |= {
            prefix + "input_layernorm.weight": 1 + random(hidden),
            prefix + "self_attention.query_key_value.weight": random(fused, hidden),
            prefix + "self_attention.query_key_value.bias": random(fused),
            prefix + "self_attention.dense.weight": random(hidden, attention),
            prefix + "post_attention_layernorm.weight": 1 + random(hidden),
            prefix + "mlp.dense_h_to_4h.weight": random(2 * ffn, hidden),
            prefix + "mlp.dense_4h_to_h.weight": random(hidden, ffn),
        }
    return tensors


def make_checkpoint(folder: Path, **changes: Any) -> Path:
    """An unsharded `pytorch_model.bin` checkpoint with its tokenizer; `changes` go into the configuration."""
    config = CONFIG | changes
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    torch.save(weights(config), folder / "pytorch_model.bin")
    train_tokenizer(folder / "tokenizer.model")
    return folder
