"""Checkpoints load with the same logits from every layout, run no code, and fail in a sentence."""

import json
import logging
import os
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import PreTrainedModel
from transformers.utils import logging as transformers_logging

import chatglm3
from chatglm3 import ChatGLM3Tokenizer, CheckpointError
from chatglm3.architecture import glm_config
from chatglm3.attention import NAME as GROUPED
from chatglm3.checkpoint import open_checkpoint
from chatglm3.loading import choose_device_map, choose_dtype, find_folder
from tests.conftest import RELEASED
from tests.tiny import CONFIG, weights

Tensors = dict[str, torch.Tensor]

OUTPUT = "transformer.output_layer.weight"
FUSED = "transformer.encoder.layers.1.self_attention.query_key_value.weight"


def load(folder: Path | str, **options: Any) -> tuple[PreTrainedModel, ChatGLM3Tokenizer]:
    return chatglm3.load(folder, **{"device": "cpu", "dtype": torch.float32, **options})


@torch.inference_mode()
def logits(model: PreTrainedModel) -> torch.Tensor:
    result: torch.Tensor = model(torch.arange(20, 60)[None]).logits
    return result


def refused(folder: Path, *words: str, **options: Any) -> str:
    """Loading raises a sentence with these words."""
    with pytest.raises(CheckpointError, match=".*".join(map(re.escape, words))) as caught:
        load(folder, **options)
    return str(caught.value)


def configure(folder: Path, **changes: Any) -> None:
    (folder / "config.json").write_text(json.dumps(CONFIG | changes))


# Layouts. Each rewrites the weights of a folder.


def as_safetensors(folder: Path) -> None:
    (folder / "pytorch_model.bin").unlink()
    save_file(weights(CONFIG), folder / "model.safetensors", metadata={"format": "pt"})


def as_old_pickle(folder: Path) -> None:
    torch.save(weights(CONFIG), folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)


def as_shards(folder: Path, name: str, save: Callable[[Tensors, Path], None]) -> None:
    (folder / "pytorch_model.bin").unlink()
    stem, suffix = name.split(".")
    weight_map: dict[str, str] = {}
    tensors = weights(CONFIG)
    for number in range(3):
        shard = dict([*tensors.items()][number::3])
        file = f"{stem}-{number + 1:05}-of-00003.{suffix}"
        save(shard, folder / file)
        weight_map |= dict.fromkeys(shard, file)
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (folder / f"{name}.index.json").write_text(json.dumps(index))


def as_bin_shards(folder: Path) -> None:
    as_shards(folder, "pytorch_model.bin", torch.save)


def as_safetensors_shards(folder: Path) -> None:
    as_shards(folder, "model.safetensors", lambda shard, file: save_file(shard, file, {"format": "pt"}))


@pytest.fixture
def native(tiny: tuple[PreTrainedModel, ChatGLM3Tokenizer], tiny_folder: Path, tmp_path: Path) -> Path:
    """The small model as Transformers' own GLM."""
    folder = tmp_path / "native"
    tiny[0].save_pretrained(folder, save_original_format=False)
    shutil.copy(tiny_folder / "tokenizer.model", folder)
    return folder


@pytest.mark.parametrize(
    "rewrite", [as_safetensors, as_old_pickle, as_bin_shards, as_safetensors_shards], ids=lambda f: f.__name__
)
def test_every_layout_gives_the_same_logits(
    tiny: tuple[PreTrainedModel, ChatGLM3Tokenizer], checkpoint: Path, rewrite: Callable[[Path], None]
) -> None:
    rewrite(checkpoint)
    assert torch.equal(logits(load(checkpoint)[0]), logits(tiny[0]))


def test_a_native_checkpoint_gives_the_same_logits(
    tiny: tuple[PreTrainedModel, ChatGLM3Tokenizer], native: Path
) -> None:
    assert json.loads((native / "config.json").read_text())["model_type"] == "glm"
    assert torch.equal(logits(load(native)[0]), logits(tiny[0]))


def test_weights_in_half_precision_load_in_the_precision_asked_for(checkpoint: Path) -> None:
    halves = {name: tensor.half() for name, tensor in weights(CONFIG).items()}
    torch.save(halves, checkpoint / "pytorch_model.bin")
    assert load(checkpoint, dtype=torch.bfloat16)[0].dtype == torch.bfloat16
    assert load(checkpoint)[0].lm_head.weight.equal(halves[OUTPUT].float())


def test_a_loaded_model_is_ready_to_answer(tiny: tuple[PreTrainedModel, ChatGLM3Tokenizer]) -> None:
    model, tokenizer = tiny
    assert not model.training
    assert model.config.eos_token_id == sorted(tokenizer.stop_token_ids)


# The configuration


@pytest.mark.parametrize(
    ("changes", "theta", "length"),
    [
        ({}, 10_000, 512),
        ({"rope_ratio": 1, "seq_length": 8192}, 10_000, 8192),
        ({"rope_ratio": 50, "seq_length": 32_768}, 500_000, 32_768),  # -32K
        ({"rope_ratio": 500, "seq_length": 131_072}, 5_000_000, 131_072),  # -128K
    ],
)
def test_long_context_models_turn_slower(
    checkpoint: Path, changes: dict[str, Any], theta: float, length: int
) -> None:
    configure(checkpoint, **changes)
    model, _ = load(checkpoint)
    assert model.config.max_position_embeddings == length
    frequencies = theta ** -torch.arange(0, 1, 0.25)  # half of a head of 16, in pairs
    torch.testing.assert_close(model.model.rotary_emb.inv_freq, frequencies)


def test_the_released_configuration_is_understood(released_tokenizer: ChatGLM3Tokenizer) -> None:
    config = glm_config(json.loads((RELEASED / "config.json").read_text()), [2])
    assert (config.vocab_size, config.num_hidden_layers, config.hidden_size) == (65024, 28, 4096)
    assert (config.num_attention_heads, config.num_key_value_heads, config.head_dim) == (32, 2, 128)


@pytest.mark.parametrize(
    ("name", "value"), [("hidden_size", "64"), ("num_attention_heads", 0), ("hidden_act", "wave")]
)
def test_an_unusable_native_value_is_refused(native: Path, name: str, value: Any) -> None:
    config = json.loads((native / "config.json").read_text())
    (native / "config.json").write_text(json.dumps(config | {name: value}))
    refused(native, str(native))


def test_the_first_chatglm_is_told_apart(checkpoint: Path) -> None:
    first = {"model_type": "chatglm", "hidden_size": 64, "inner_hidden_size": 96, "max_sequence_length": 2048}
    (checkpoint / "config.json").write_text(json.dumps(first | {"num_layers": 3, "vocab_size": 640}))
    refused(checkpoint, "config.json", "ffn_hidden_size", "The first ChatGLM-6B")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rmsnorm", False),
        ("post_layer_norm", False),
        ("original_rope", False),
        ("multi_query_attention", False),
        ("add_bias_linear", True),
        ("apply_residual_connection_post_layernorm", True),
    ],
)
def test_other_mathematics_are_refused_by_name(checkpoint: Path, name: str, value: bool) -> None:
    configure(checkpoint, **{name: value})
    refused(checkpoint, "config.json", f"{name} is {value}")


@pytest.mark.parametrize("name", ["hidden_size", "seq_length", "padded_vocab_size", "kv_channels"])
def test_a_missing_field_is_named(checkpoint: Path, name: str) -> None:
    without = {key: value for key, value in CONFIG.items() if key != name}
    (checkpoint / "config.json").write_text(json.dumps(without))
    refused(checkpoint, "config.json", name)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rope_ratio", "x"),
        ("rope_ratio", []),
        ("hidden_size", "64"),
        ("hidden_size", -64),
        ("num_layers", 2.5),
        ("num_attention_heads", 0),
        ("multi_query_group_num", 0),
        ("kv_channels", 0),
        ("padded_vocab_size", None),
        ("layernorm_epsilon", "x"),
        ("pad_token_id", 10**6),
    ],
)
def test_an_unusable_value_is_refused_with_the_files_name(checkpoint: Path, name: str, value: Any) -> None:
    configure(checkpoint, **{name: value})
    refused(checkpoint, "config.json")


# The tensors


@pytest.mark.parametrize("name", [OUTPUT, FUSED], ids=["output", "fused"])
def test_a_missing_tensor_is_refused(checkpoint: Path, name: str) -> None:
    tensors = weights(CONFIG)
    del tensors[name]
    torch.save(tensors, checkpoint / "pytorch_model.bin")
    refused(checkpoint, str(checkpoint), "lack", "weight")


@pytest.mark.parametrize("name", ["transformer.prefix_encoder.embedding.weight", "hello"])
def test_an_unknown_tensor_is_named(checkpoint: Path, name: str) -> None:
    torch.save(weights(CONFIG) | {name: torch.zeros(2)}, checkpoint / "pytorch_model.bin")
    refused(checkpoint, str(checkpoint), "unknown tensors", name)


each_wrong_shape = pytest.mark.parametrize(
    ("name", "shape", "part"),
    [
        (OUTPUT, (3, 64), "lm_head"),
        (OUTPUT, (), "lm_head"),
        (FUSED, (100, 64), "query_key_value"),
        (FUSED, (129, 64), "query_key_value"),
        (FUSED, (128, 60), "layers.1.self_attn"),
    ],
    ids=["output", "output, a number", "fused, fewer rows", "fused, a row more", "fused, fewer columns"],
)


@each_wrong_shape
def test_a_tensor_of_the_wrong_shape_is_refused(
    checkpoint: Path, name: str, shape: tuple[int, ...], part: str
) -> None:
    torch.save(weights(CONFIG) | {name: torch.zeros(shape)}, checkpoint / "pytorch_model.bin")
    refused(checkpoint, str(checkpoint))


@each_wrong_shape
def test_a_tensor_of_the_wrong_shape_is_named(
    checkpoint: Path, name: str, shape: tuple[int, ...], part: str
) -> None:
    torch.save(weights(CONFIG) | {name: torch.zeros(shape)}, checkpoint / "pytorch_model.bin")
    sentence = refused(checkpoint, str(checkpoint))
    assert part in sentence
    assert "above report" not in sentence  # which nobody sees


@pytest.mark.parametrize("content", [[1, 2], {OUTPUT: "hello"}, 3], ids=["list", "text", "number"])
def test_a_pickle_of_something_else_is_refused(checkpoint: Path, content: Any) -> None:
    torch.save(content, checkpoint / "pytorch_model.bin")
    refused(checkpoint, str(checkpoint), "cannot be loaded")


def test_a_damaged_bin_is_refused(checkpoint: Path) -> None:
    file = checkpoint / "pytorch_model.bin"
    content = file.read_bytes()
    file.write_bytes(content[:2000] + b"x" * 5000 + content[7000:])
    refused(checkpoint, str(checkpoint), "cannot be loaded")


def test_a_truncated_old_pickle_is_refused(checkpoint: Path) -> None:
    as_old_pickle(checkpoint)
    file = checkpoint / "pytorch_model.bin"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    refused(checkpoint, str(checkpoint), "cannot be loaded")


def test_safetensors_of_an_unknown_type_are_refused(checkpoint: Path) -> None:
    header = b'{"a":{"dtype":"X","shape":[1],"data_offsets":[0,0]}}'
    (checkpoint / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    refused(checkpoint, str(checkpoint), "cannot be loaded")


# No code is run


class Payload:
    """An object whose unpickling creates a file."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self._file), "w")


def raw_pickle(content: Any, file: Path) -> None:
    file.write_bytes(pickle.dumps(content, protocol=2))


def newer_raw_pickle(content: Any, file: Path) -> None:
    file.write_bytes(pickle.dumps(content, protocol=5))


def old_torch_save(content: Any, file: Path) -> None:
    torch.save(content, file, _use_new_zipfile_serialization=False)


each_pickle = pytest.mark.parametrize(
    "save", [raw_pickle, newer_raw_pickle, torch.save, old_torch_save], ids=lambda save: save.__name__
)


@each_pickle
def test_a_pickle_that_would_run_code_is_refused_and_does_not(
    checkpoint: Path, tmp_path: Path, save: Callable[[Any, Path], None]
) -> None:
    save(weights(CONFIG) | {OUTPUT: Payload(tmp_path / "executed")}, checkpoint / "pytorch_model.bin")
    refused(checkpoint, str(checkpoint))
    assert not (tmp_path / "executed").exists()


@each_pickle
def test_a_refused_pickle_comes_without_advice_to_run_it_after_all(
    checkpoint: Path, tmp_path: Path, save: Callable[[Any, Path], None]
) -> None:
    save({OUTPUT: Payload(tmp_path / "executed")}, checkpoint / "pytorch_model.bin")
    sentence = refused(checkpoint, str(checkpoint))
    assert "can still be loaded" not in sentence
    assert sentence.isprintable()  # no colours of a terminal


def test_the_payload_of_these_tests_would_run(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Payload(tmp_path / "executed"))).close()
    assert (tmp_path / "executed").exists()


@pytest.mark.parametrize("layout", ["checkpoint", "native"])
def test_code_in_the_folder_is_not_run(request: pytest.FixtureRequest, tmp_path: Path, layout: str) -> None:
    folder = request.getfixturevalue(layout)
    config = json.loads((folder / "config.json").read_text())
    names = ["configuration_chatglm.ChatGLMConfig", "modeling_chatglm.ChatGLMForConditionalGeneration"]
    auto_map = dict(zip(["AutoConfig", "AutoModelForCausalLM"], names, strict=True))
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": auto_map}))
    for name in names:
        code = f"open({str(tmp_path / 'executed')!r}, 'w')\nclass {name.split('.')[1]}: pass\n"
        (folder / f"{name.split('.')[0]}.py").write_text(code)
    load(folder)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("name", ["attn_implementation", "_attn_implementation"])
def test_code_on_the_hub_is_not_named_by_a_configuration(native: Path, name: str) -> None:
    config = json.loads((native / "config.json").read_text())
    (native / "config.json").write_text(json.dumps(config | {name: "nobody/attention"}))
    try:
        model, _ = load(native)
    except CheckpointError:
        return
    assert model.config._attn_implementation == GROUPED  # what loading chooses on the CPU


# The tokenizer


def test_a_missing_tokenizer_is_named(checkpoint: Path) -> None:
    (checkpoint / "tokenizer.model").unlink()
    refused(checkpoint, str(checkpoint / "tokenizer.model"), "TOKENIZER_PATH")


@pytest.mark.parametrize("content", [b"", b"nonsense"], ids=["empty", "nonsense"])
def test_a_broken_tokenizer_is_named(checkpoint: Path, content: bytes) -> None:
    (checkpoint / "tokenizer.model").write_bytes(content)
    refused(checkpoint, str(checkpoint / "tokenizer.model"))


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(checkpoint: Path) -> None:
    configure(checkpoint, padded_vocab_size=600)
    refused(checkpoint, "609 tokens", str(checkpoint), "600")


@pytest.mark.parametrize("name", ["", "tokenizer.model"])
def test_a_tokenizer_elsewhere_is_a_file_or_a_folder(checkpoint: Path, tiny_folder: Path, name: str) -> None:
    (checkpoint / "tokenizer.model").unlink()
    assert load(checkpoint, tokenizer_path=tiny_folder / name)[1].vocab_size == 609


def test_a_tokenizer_elsewhere_that_is_missing_is_named(checkpoint: Path, tmp_path: Path) -> None:
    refused(checkpoint, str(tmp_path / "nowhere"), tokenizer_path=tmp_path / "nowhere")


# Devices, memory, progress


@pytest.mark.parametrize("device", ["cpu", "cuda:1", "mps"])
def test_a_device_that_was_asked_for_gets_the_whole_model(device: str) -> None:
    assert choose_device_map(device) == {"": device}


@pytest.mark.parametrize(
    ("device_map", "stored", "chosen"),
    [
        ({"": "cuda:0"}, torch.float16, torch.float16),
        ({"": "cuda:0"}, torch.bfloat16, torch.bfloat16),
        ({"": "mps"}, torch.float32, torch.float16),
        ("auto", None, torch.float16),
    ],
)
def test_half_precision_is_chosen_on_an_accelerator(
    device_map: Any, stored: torch.dtype | None, chosen: torch.dtype
) -> None:
    assert choose_dtype(device_map, stored) == chosen


def test_a_model_larger_than_the_memory_is_refused_before_it_is_loaded(checkpoint: Path) -> None:
    configure(checkpoint, padded_vocab_size=10**12)
    refused(checkpoint, "needs 512000.0 GB", "GB are free", "MODEL_PATH")


@pytest.mark.parametrize("layout", ["checkpoint", "native"])
def test_progress_goes_from_nothing_to_all_and_never_back(
    request: pytest.FixtureRequest, layout: str
) -> None:
    reports: list[tuple[str, float]] = []
    load(request.getfixturevalue(layout), progress=lambda what, fraction: reports.append((what, fraction)))
    assert {what for what, _ in reports} == {"Loading weights"}
    assert (reports[0][1], reports[-1][1]) == (0, 1)
    assert all(before[1] <= after[1] for before, after in pairwise(reports))


def test_nothing_is_printed(checkpoint: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load(checkpoint)
    torch.save({}, checkpoint / "pytorch_model.bin")
    refused(checkpoint, "lack")
    assert capfd.readouterr() == ("", "")


def test_transformers_own_reports_are_only_quiet_meanwhile(tiny_folder: Path) -> None:
    transformers_logging.set_verbosity(logging.INFO)
    try:
        load(tiny_folder)
        assert transformers_logging.get_verbosity() == logging.INFO
    finally:
        transformers_logging.set_verbosity_warning()


# The hub


def test_a_folder_here_comes_before_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "owner" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert find_folder("owner/model", lambda _what, _fraction: None) == Path("owner/model")


LOAD_FROM_HUB = """
import time
time.sleep = lambda seconds: None  # between attempts
import chatglm3
try:
    chatglm3.load("nobody/nothing")
except chatglm3.CheckpointError as error:
    print(error)
"""


@pytest.mark.parametrize(
    "network",
    [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}],
    ids=["offline", "unreachable"],
)
def test_a_hub_that_cannot_be_reached_is_told_with_a_way_out(tmp_path: Path, network: dict[str, str]) -> None:
    # A process of its own, since the hub's client reads the environment when it is imported.
    environment = os.environ | network | {"HF_HOME": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", LOAD_FROM_HUB], env=environment, capture_output=True, text=True, check=False
    )
    assert result.stdout.startswith("nobody/nothing cannot be downloaded"), result.stderr[-300:]
    assert "MODEL_PATH" in result.stdout


# Memory

MEASURE = """
import sys, threading
from pathlib import Path
import torch
import chatglm3
from chatglm3.tokenizer import ChatGLM3Tokenizer

def anonymous():
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) * 1024

peak, over = 0, threading.Event()

def watch():
    global peak
    while not over.wait(0.001):
        peak = max(peak, anonymous())

chatglm3.load(sys.argv[1], device="cpu", dtype=torch.float32)  # what libraries take once is no weights
before = anonymous()
watcher = threading.Thread(target=watch, daemon=True)
watcher.start()
kept = chatglm3.load(sys.argv[2], device="cpu", dtype=torch.float32)
over.set()
watcher.join()
print(max(peak, anonymous()) - before, sum(p.nbytes for p in kept[0].parameters()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_second_copy_of_the_weights_is_held(tiny_folder: Path, tmp_path: Path) -> None:
    sizes = {"hidden_size": 1024, "ffn_hidden_size": 2816, "num_attention_heads": 64, "num_layers": 5}
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "large"))
    configure(folder, **sizes)
    # In half precision, so that each weight has to be written anew.
    halves = {name: tensor.half() for name, tensor in weights(CONFIG | sizes).items()}
    torch.save(halves, folder / "pytorch_model.bin")
    result = subprocess.run(
        [sys.executable, "-c", MEASURE, tiny_folder, folder], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-500:]
    held, loaded = map(int, result.stdout.split())
    assert loaded > 190 * 10**6
    assert held < 1.4 * loaded


def test_a_checkpoint_is_opened_without_reading_the_weights(checkpoint: Path) -> None:
    with (checkpoint / "pytorch_model.bin").open("r+b") as file:
        file.seek(1000)
        file.write(b"x" * 1000)  # seen by whoever reads them
    assert open_checkpoint(checkpoint)
