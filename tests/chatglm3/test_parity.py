"""The logits and greedy tokens are those of the original modelling code, on weights made by a formula."""

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LogitsProcessorList, PreTrainedModel

import chatglm3
from chatglm3.generation import iter_tokens
from chatglm3.kv_cache import KVCache
from chatglm3.sampling import Sampling
from tests.tiny import train_tokenizer, weights

REFERENCE: dict[str, Any] = json.loads((Path(__file__).parent / "chatglm3_small.json").read_text())
PLAIN = [case for case in REFERENCE["cases"] if case["name"] == "plain"]


def splitmix64(x: np.ndarray) -> np.ndarray:
    """Of uint64, which wraps around."""
    z = x + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def formula(key: str, shape: torch.Size) -> torch.Tensor:
    """A tensor by the reference's `weights_recipe`."""
    indices = np.arange(shape.numel(), dtype=np.uint64) + np.uint64(zlib.crc32(key.encode()) << 32)
    unit = (splitmix64(indices) >> np.uint64(11)).astype(np.float64) / 2**53
    offset = 1.0 if key.endswith("layernorm.weight") else 0.0
    amplitude = 0.1 if len(shape) == 1 else 0.15
    values = (2 * unit - 1) * amplitude + offset
    return torch.from_numpy(values.astype(np.float32)).reshape(shape)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedModel:
    """The reference's model, loaded from the official layout."""
    folder = tmp_path_factory.mktemp("reference")
    (folder / "config.json").write_text(json.dumps(REFERENCE["config"]))
    tensors = {key: formula(key, tensor.shape) for key, tensor in weights(REFERENCE["config"]).items()}
    torch.save(tensors, folder / "pytorch_model.bin")
    train_tokenizer(folder / "tokenizer.model")  # not the released one, but the ids are given
    return chatglm3.load(folder, device="cpu", dtype=torch.float32)[0]


@pytest.mark.parametrize("case", PLAIN, ids=lambda case: case["query"])
def test_the_logits_are_the_originals(model: PreTrainedModel, case: dict[str, Any]) -> None:
    with torch.inference_mode():
        logits = model(torch.tensor([case["input_ids"]])).logits[0, -1]
    expected = torch.tensor(case["last_logits_first16"])
    torch.testing.assert_close(logits[:16], expected, atol=1e-4, rtol=0)
    assert float(logits.logsumexp(0)) == pytest.approx(case["last_logits_logsumexp"], abs=1e-4)
    assert int(logits.argmax()) == case["argmax"]


@pytest.mark.parametrize("case", PLAIN, ids=lambda case: case["query"])
def test_the_greedy_tokens_are_the_originals(model: PreTrainedModel, case: dict[str, Any]) -> None:
    tokens = iter_tokens(
        model,
        case["input_ids"],
        Sampling(do_sample=False, max_new_tokens=len(case["greedy_token_ids"])),
        stop_token_ids=(),
        cache=KVCache(),
        processors=LogitsProcessorList(),
    )
    assert list(tokens) == case["greedy_token_ids"]
