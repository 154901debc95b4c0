"""`load`: from a folder or a hub id to a model that can answer, and its tokenizer.

No code of the checkpoint is run: the architecture is Transformers' own GLM, and
pickled weights are read with `weights_only=True` (Transformers' default).
"""

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, cast

import psutil
import torch
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import RepositoryNotFoundError
from transformers import GlmConfig, GlmForCausalLM, PreTrainedModel
from transformers.utils import logging as transformers_logging

from chatglm3.architecture import IGNORED_WEIGHTS, glm_config, native_config, register_weight_names
from chatglm3.attention import use_grouped_attention
from chatglm3.checkpoint import Checkpoint, open_checkpoint
from chatglm3.errors import CheckpointError
from chatglm3.tokenizer import ChatGLM3Tokenizer

# Called with what is being done and how much of it is done, 0 to 1.
Progress = Callable[[str, float], None]

OFFICIAL_REPOSITORY = "zai-org/chatglm3-6b"

# 6.24 billion parameters in half precision, and room for the KV cache.
OFFICIAL_BYTES_ON_GPU = 14 * 10**9

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def load(
    path_or_repo: str | PathLike[str],
    *,
    device: str | None = None,
    dtype: torch.dtype | None = None,
    tokenizer_path: str | PathLike[str] | None = None,
    progress: Progress | None = None,
) -> tuple[PreTrainedModel, ChatGLM3Tokenizer]:
    """Load a ChatGLM3 checkpoint: official (`chatglm`) or native (`glm`).

    `path_or_repo` is a local folder or a hub id such as "zai-org/chatglm3-6b".
    Without `device`: all CUDA devices, else MPS, else the CPU. Without `dtype`:
    half precision, or float32 on a CPU without bfloat16 instructions.
    `tokenizer_path` is a `tokenizer.model` or a folder with one, if not the
    checkpoint's own.

    Raises CheckpointError, whose sentence says what is wrong and with which file.
    """
    register_weight_names()
    report = progress or (lambda _what, _fraction: None)
    checkpoint = open_checkpoint(find_folder(path_or_repo, report))
    tokenizer = ChatGLM3Tokenizer(_vocab_file(Path(tokenizer_path or checkpoint.folder)))
    config = _config(checkpoint, tokenizer)
    model = load_weights(GlmForCausalLM, checkpoint.folder, config, device, dtype, report)
    return model, tokenizer


def find_folder(path_or_repo: str | PathLike[str], report: Progress) -> Path:
    """The local folder of a path or hub id; what the hub has is fetched once."""
    path = Path(path_or_repo).expanduser()
    if path.exists() or not _HUB_ID.fullmatch(str(path_or_repo)):
        return path
    return _download(str(path_or_repo), report)


def _download(repository: str, report: Progress) -> Path:
    report(f"Downloading {repository}", 0.0)
    try:
        names = HfApi().list_repo_files(repository)
        weights = "*.safetensors" if any(name.endswith(".safetensors") for name in names) else "*.bin"
        return Path(snapshot_download(repository, allow_patterns=["*.json", weights, "tokenizer.model"]))
    except RepositoryNotFoundError:
        raise CheckpointError(
            f"{repository} is neither a folder here nor a repository on the Hugging Face hub."
        ) from None
    except Exception as error:  # the hub's client lets its HTTP library's own errors through
        return _downloaded_before(repository, error)


def _downloaded_before(repository: str, error: Exception) -> Path:
    try:
        return Path(snapshot_download(repository, local_files_only=True))
    except Exception:
        raise CheckpointError(
            f"{repository} cannot be downloaded: the Hugging Face hub is not reachable "
            f"({type(error).__name__}). Set MODEL_PATH to a folder with the model."
        ) from error


def _vocab_file(path: Path) -> Path:
    file = path / "tokenizer.model" if path.is_dir() else path
    if not file.is_file():
        raise CheckpointError(f"There is no {file}; set TOKENIZER_PATH to the model's tokenizer.model.")
    return file


def _config(checkpoint: Checkpoint, tokenizer: ChatGLM3Tokenizer) -> GlmConfig:
    try:
        if checkpoint.is_official:
            config = glm_config(checkpoint.config, sorted(tokenizer.stop_token_ids))
        else:
            config = native_config(checkpoint.config)
        with torch.device("meta"):
            GlmForCausalLM(config)  # whatever is wrong with the values shows here, at no cost
    except CheckpointError:
        raise
    except Exception as error:  # values of the wrong type or size fail anywhere in Transformers
        file = checkpoint.folder / "config.json"
        raise CheckpointError(f"{file} is not usable: {_first_line(error)}") from error
    if config.vocab_size < tokenizer.vocab_size:
        raise CheckpointError(
            f"The tokenizer has {tokenizer.vocab_size:,} tokens and the model in {checkpoint.folder} only "
            f"{config.vocab_size:,}: they do not belong together."
        )
    return config


def load_weights(
    model_class: type[PreTrainedModel],
    folder: Path,
    config: Any,
    device: str | None,
    dtype: torch.dtype | None,
    report: Progress,
) -> PreTrainedModel:
    """The model of a configuration with all its weights from a folder, ready to run.

    The weights go to their device one by one; no second copy of them is held.
    """
    device_map = choose_device_map(device)
    dtype = dtype or choose_dtype(device_map, getattr(config, "dtype", None))
    _check_memory(model_class, config, dtype, device_map)
    try:
        with reporting("Loading weights", report):
            loaded: Any = model_class.from_pretrained(
                folder,
                config=config,
                dtype=dtype,
                device_map=device_map,
                ignore_mismatched_sizes=True,  # they are refused below, by name
                output_loading_info=True,
            )
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise CheckpointError(
            f"There is no memory left for the model in {folder}: {_first_line(error)}"
        ) from error
    except UnpicklingError as error:
        raise CheckpointError(
            f"The weights in {folder} contain pickled objects that are not tensors; they are not loaded."
        ) from error
    except Exception as error:  # a damaged or hostile file fails in as many ways as there are libraries
        reason = _first_line(error)
        if "automatic conversion" in reason:  # Transformers' words for the one conversion that can fail
            reason = "an attention's query_key_value has another size than config.json says."
        raise CheckpointError(f"The weights in {folder} cannot be loaded: {reason}") from error
    model, info = cast(tuple[PreTrainedModel, dict[str, Any]], loaded)
    _check_complete(folder, info)
    model.train(False)
    if model.device.type == "cpu":
        use_grouped_attention(model)
    return model


def _check_complete(folder: Path, info: dict[str, Any]) -> None:
    for name, stored, expected in sorted(info["mismatched_keys"]):
        raise CheckpointError(
            f"The weights in {folder} do not fit their config.json: {name} has the shape {list(stored)} "
            f"instead of {list(expected)}."
        )
    missing = sorted(info["missing_keys"])
    unknown = sorted(set(info["unexpected_keys"]) - set(IGNORED_WEIGHTS))
    if missing or unknown:
        what, names = ("lack", missing) if missing else ("have unknown tensors:", unknown)
        raise CheckpointError(f"The weights in {folder} {what} {names[0]} ({len(names)} in all).")


def choose_device_map(device: str | None) -> Any:
    """Where the model goes, in the form of accelerate's `device_map`."""
    if device:
        return {"": device}
    if torch.cuda.is_available():
        return {"": "cuda:0"} if torch.cuda.device_count() == 1 else "auto"
    return {"": "mps" if torch.backends.mps.is_available() else "cpu"}


def choose_dtype(device_map: Any, stored: torch.dtype | None) -> torch.dtype:
    """Half precision wherever the device computes in it."""
    place = device_map if isinstance(device_map, str) else str(device_map[""])
    if place == "cpu":
        return torch.bfloat16 if torch.cpu.get_capabilities().get("avx512_bf16") else torch.float32
    return torch.bfloat16 if stored == torch.bfloat16 else torch.float16


def cuda_has_room_for_official_model() -> bool:
    """Whether the free memory of all CUDA devices takes ChatGLM3-6B in half precision."""
    free = (torch.cuda.mem_get_info(i)[0] for i in range(torch.cuda.device_count()))
    return sum(free) >= OFFICIAL_BYTES_ON_GPU


def _check_memory(
    model_class: type[PreTrainedModel], config: Any, dtype: torch.dtype, device_map: Any
) -> None:
    """Say so at once when the weights cannot fit; a system out of memory just kills."""
    with torch.device("meta"):
        parameters = sum(p.numel() for p in model_class(config).parameters())
    needed = parameters * dtype.itemsize
    place = "auto" if isinstance(device_map, str) else str(device_map[""])
    if place.startswith("cuda"):
        free = torch.cuda.mem_get_info(place)[0]
    elif place == "cpu":
        free = psutil.virtual_memory().available
    else:
        return
    if needed > free:
        raise CheckpointError(
            f"The model needs {needed / 1e9:.1f} GB of memory on {place}, and {free / 1e9:.1f} GB are free. "
            "Free some, choose another device with DEVICE, or unset MODEL_PATH for the small embedded model."
        )


@contextmanager
def reporting(what: str, report: Progress) -> Iterator[None]:
    """Tell Transformers' progress to `report`, and print neither its bars nor its load report."""

    def bar(factory: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        items = args[0] if args else kwargs.get("iterable")
        return factory(*args, **kwargs) if items is None else _reported(list(items), what, report)

    previous_hook = transformers_logging.set_tqdm_hook(bar)
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        transformers_logging.set_tqdm_hook(previous_hook)


def _reported(items: list[Any], what: str, report: Progress) -> Iterator[Any]:
    for done, item in enumerate(items):
        report(what, done / len(items))
        yield item
    report(what, 1.0)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
