"""What a model folder holds, looked at before anything is loaded.

Not the loader: this reads names, sizes and headers, runs nothing, and turns
every fault that it can see into a sentence that names the file.
"""

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chatglm3.errors import CheckpointError

# In the order in which Transformers looks for them.
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")

_LFS_POINTER = b"version https://git-lfs"
_PICKLE_PROTOCOL_2 = b"\x80\x02"  # how torch.save began before PyTorch 1.6


@dataclass(frozen=True)
class Checkpoint:
    """A folder whose configuration and weight files are all there and whole."""

    folder: Path
    config: dict[str, Any]
    weight_files: tuple[Path, ...]

    @property
    def is_official(self) -> bool:
        """In the layout of the released ChatGLM3 models, not Transformers' own GLM."""
        return bool(self.config["model_type"] == "chatglm")


def open_checkpoint(folder: Path) -> Checkpoint:
    """Look into a model folder.

    Raises CheckpointError when it is missing, incomplete, truncated, quantized,
    or holds another architecture.
    """
    if not folder.is_dir():
        what = "is a file; give the folder that holds it" if folder.exists() else "does not exist"
        raise CheckpointError(f"The model folder {folder} {what}.")
    config = read_json(folder / "config.json")
    model_type = config.get("model_type")
    if model_type not in ("chatglm", "glm"):
        raise CheckpointError(
            f"{folder} holds a model of type {model_type!r}; this app runs ChatGLM3 ('chatglm' or 'glm')."
        )
    if config.get("quantization_bit"):
        raise CheckpointError(
            f"{folder} is quantized to {config['quantization_bit']} bits, which cannot be loaded yet; "
            "use the unquantized checkpoint."
        )
    weight_files = _find_weights(folder)
    for file in weight_files:
        _check_whole(file)
    return Checkpoint(folder, config, weight_files)


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object from a file of the checkpoint; raises CheckpointError."""
    try:
        content = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise CheckpointError(f"{file.parent} is not a model folder: it has no {file.name}.") from None
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} is not valid JSON: {error}.") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{file} is not a JSON object.")
    return content


def _find_weights(folder: Path) -> tuple[Path, ...]:
    for name in _WEIGHTS:
        if (folder / name).is_file():
            return (folder / name,)
        index = folder / f"{name}.index.json"
        if index.is_file():
            return _shards(index)
    raise CheckpointError(f"{folder} has no weights: neither *.safetensors nor pytorch_model*.bin.")


def _shards(index: Path) -> tuple[Path, ...]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index} has no weight_map, so the shards are not known.")
    names = sorted({str(name) for name in weight_map.values()})
    outside = [name for name in names if Path(name).name != name]
    if outside:
        raise CheckpointError(f"{index} names files outside its folder: {outside[0]!r}.")
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise CheckpointError(
            f"{index.parent} is incomplete: {len(missing)} of {len(names)} weight files are missing, "
            f"the first is {missing[0]}."
        )
    return tuple(index.parent / name for name in names)


def _check_whole(file: Path) -> None:
    with file.open("rb") as stream:
        start = stream.read(len(_LFS_POINTER))
    if start == _LFS_POINTER:
        raise CheckpointError(f"{file} is a Git LFS pointer, not the weights; run `git lfs pull` there.")
    whole = _safetensors_is_whole(file) if file.suffix == ".safetensors" else _bin_is_whole(file, start)
    if not whole:
        raise CheckpointError(
            f"{file} is truncated or damaged ({file.stat().st_size:,} bytes); download it again."
        )


def _bin_is_whole(file: Path, start: bytes) -> bool:
    # A zip archive's directory is at its end, so one that opens is complete.
    return zipfile.is_zipfile(file) or start.startswith(_PICKLE_PROTOCOL_2)


def _safetensors_is_whole(file: Path) -> bool:
    """Format: 8 bytes of header length (little-endian), the header as JSON, the data."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        header_size = int.from_bytes(stream.read(8), "little")
        if header_size > size:
            return False
        try:
            header = json.loads(stream.read(header_size))
            ends = [int(entry["data_offsets"][1]) for name, entry in header.items() if name != "__metadata__"]
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError):
            return False
    return 8 + header_size + max(ends, default=0) == size
