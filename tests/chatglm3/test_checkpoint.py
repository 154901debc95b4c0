"""A model folder's faults are seen before anything is loaded, and told with the file's name."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from chatglm3 import CheckpointError
from chatglm3.checkpoint import open_checkpoint
from tests.tiny import CONFIG

LFS_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:e7dc4c39\nsize 1827781090\n"
DEEP = b'{"a":' * 100_000  # deeper than any parser recurses


def refused(folder: Path, *words: str) -> None:
    """Opening it raises a sentence with these words."""
    with pytest.raises(CheckpointError, match=".*".join(map(re.escape, words))) as caught:
        open_checkpoint(folder)
    assert str(caught.value).endswith(".")


def configure(folder: Path, **changes: Any) -> None:
    (folder / "config.json").write_text(json.dumps(CONFIG | changes))


def write_index(folder: Path, weight_map: Any, weights: str = "pytorch_model.bin") -> None:
    """Turn the unsharded weights into "first.bin", with an index that says this."""
    (folder / "pytorch_model.bin").rename(folder / "first.bin")
    (folder / f"{weights}.index.json").write_text(json.dumps({"weight_map": weight_map}))


def write_safetensors(folder: Path, content: bytes) -> None:
    (folder / "pytorch_model.bin").unlink()
    (folder / "model.safetensors").write_bytes(content)


def safetensors(header: bytes, data: bytes = b"") -> bytes:
    return len(header).to_bytes(8, "little") + header + data


ONE_TENSOR = safetensors(b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', b"\0" * 8)


def test_a_whole_folder_is_described(checkpoint: Path) -> None:
    found = open_checkpoint(checkpoint)
    assert found.is_official
    assert found.config == CONFIG
    assert found.weight_files == (checkpoint / "pytorch_model.bin",)


def test_shards_are_found_by_their_index(checkpoint: Path) -> None:
    write_index(checkpoint, {"a": "first.bin", "b": "second.bin", "c": "first.bin"})
    (checkpoint / "second.bin").write_bytes((checkpoint / "first.bin").read_bytes())
    assert open_checkpoint(checkpoint).weight_files == (checkpoint / "first.bin", checkpoint / "second.bin")


def test_safetensors_come_first_as_in_transformers(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").write_bytes(ONE_TENSOR)
    assert open_checkpoint(checkpoint).weight_files == (checkpoint / "model.safetensors",)


def test_the_native_architecture_is_told_apart(checkpoint: Path) -> None:
    configure(checkpoint, model_type="glm")
    assert not open_checkpoint(checkpoint).is_official


# The folder and its configuration


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", str(tmp_path / "nowhere"), "does not exist")


def test_a_file_is_no_folder(checkpoint: Path) -> None:
    refused(checkpoint / "pytorch_model.bin", "pytorch_model.bin", "is a file; give the folder")


def test_a_folder_without_a_configuration_is_no_model(tmp_path: Path) -> None:
    refused(tmp_path, str(tmp_path), "no config.json")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe\x00", b'{"model_type": "chatglm",}', LFS_POINTER.encode(), DEEP],
    ids=["empty", "cut off", "no text", "a comma too many", "Git LFS pointer", "deep"],
)
def test_a_configuration_that_is_no_json_is_named(checkpoint: Path, content: bytes) -> None:
    (checkpoint / "config.json").write_bytes(content)
    refused(checkpoint, "config.json", "is not valid JSON")


@pytest.mark.parametrize("content", ["[]", "null", "3", '"chatglm"'])
def test_a_configuration_that_is_no_object_is_named(checkpoint: Path, content: str) -> None:
    (checkpoint / "config.json").write_text(content)
    refused(checkpoint, "config.json", "is not a JSON object")


def test_a_configuration_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").mkdir()
    refused(tmp_path, "config.json", "cannot be read")


@pytest.mark.parametrize("model_type", ["llama", "chatglm2", None, ["chatglm"], 3])
def test_another_architecture_is_refused_by_name(checkpoint: Path, model_type: Any) -> None:
    configure(checkpoint, model_type=model_type)
    refused(checkpoint, str(checkpoint), f"of type {model_type!r}")


@pytest.mark.parametrize("bits", [4, 8])
def test_a_quantized_checkpoint_is_refused(checkpoint: Path, bits: int) -> None:
    configure(checkpoint, quantization_bit=bits)
    refused(checkpoint, str(checkpoint), f"quantized to {bits} bits")


def test_quantization_to_zero_bits_is_none(checkpoint: Path) -> None:
    configure(checkpoint, quantization_bit=0)
    assert open_checkpoint(checkpoint)


# Which weight files there are


def test_a_folder_without_weights_is_refused(checkpoint: Path) -> None:
    (checkpoint / "pytorch_model.bin").unlink()
    refused(checkpoint, str(checkpoint), "has no weights")


@pytest.mark.parametrize("weights", ["pytorch_model.bin", "model.safetensors"])
def test_missing_shards_are_counted_and_the_first_is_named(checkpoint: Path, weights: str) -> None:
    write_index(checkpoint, {"a": "first.bin", "b": "second.bin", "c": "third.bin"}, weights)
    refused(checkpoint, str(checkpoint), "2 of 3 weight files are missing", "second.bin")


@pytest.mark.parametrize("name", ["../first.bin", "/etc/passwd", "sub/first.bin", "./first.bin"])
def test_shards_outside_the_folder_are_refused(checkpoint: Path, name: str) -> None:
    write_index(checkpoint, {"a": "first.bin", "b": name})
    refused(checkpoint, "pytorch_model.bin.index.json", "outside its folder", name)


@pytest.mark.parametrize("name", ["", "..", "a\0b", ["first.bin"], None], ids=repr)
def test_a_shard_whose_name_is_no_file_name_is_missing(checkpoint: Path, name: Any) -> None:
    write_index(checkpoint, {"a": "first.bin", "b": name})
    refused(checkpoint, str(checkpoint), "1 of 2 weight files are missing")


@pytest.mark.parametrize("weight_map", [None, {}, [], ["first.bin"], "first.bin"], ids=repr)
def test_an_index_without_a_map_is_named(checkpoint: Path, weight_map: Any) -> None:
    write_index(checkpoint, weight_map)
    refused(checkpoint, "pytorch_model.bin.index.json", "has no weight_map")


# Whether they are whole


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_bin_is_named(checkpoint: Path, kept: float) -> None:
    file = checkpoint / "pytorch_model.bin"
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * kept)])
    refused(checkpoint, "pytorch_model.bin", "is truncated or damaged", f"({file.stat().st_size:,} bytes)")


@pytest.mark.parametrize("size", [0, 4, 8, 20, len(ONE_TENSOR) - 1])
def test_truncated_safetensors_are_named(checkpoint: Path, size: int) -> None:
    write_safetensors(checkpoint, ONE_TENSOR[:size])
    refused(checkpoint, "model.safetensors", "is truncated or damaged", f"({size} bytes)")


def test_safetensors_with_something_after_the_data_are_damaged(checkpoint: Path) -> None:
    write_safetensors(checkpoint, ONE_TENSOR + b"\0")
    refused(checkpoint, "model.safetensors", "is truncated or damaged")


@pytest.mark.parametrize(
    "content",
    [
        b"\xff" * 100,
        safetensors(b"nonsense"),
        safetensors(b"[]"),
        safetensors(b'{"a":3}'),
        safetensors(b'{"a":{}}'),
        safetensors(b'{"a":{"data_offsets":[0]}}'),
        safetensors(b'{"a":{"data_offsets":[0,null]}}'),
        safetensors(b'{"a":{"data_offsets":[0,1e999]}}'),
        safetensors(b"\xff\xfe"),
        safetensors(DEEP),
    ],
    ids=[
        "size",
        "no JSON",
        "list",
        "number",
        "no offsets",
        "one offset",
        "null",
        "infinity",
        "no text",
        "deep",
    ],
)
def test_safetensors_with_a_garbage_header_are_damaged(checkpoint: Path, content: bytes) -> None:
    write_safetensors(checkpoint, content)
    refused(checkpoint, "model.safetensors", "is truncated or damaged")


def test_a_damaged_shard_is_named(checkpoint: Path) -> None:
    write_index(checkpoint, {"a": "first.bin", "b": "second.bin"})
    (checkpoint / "second.bin").write_bytes((checkpoint / "first.bin").read_bytes()[:-30])
    refused(checkpoint, "second.bin", "is truncated or damaged")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
def test_a_git_lfs_pointer_is_told_from_weights(checkpoint: Path, name: str) -> None:
    (checkpoint / name).write_text(LFS_POINTER)
    refused(checkpoint, name, "is a Git LFS pointer", "git lfs pull")
