"""The one client that the three modes share, and `stream_chat` for everybody else.

Not the model: `chatglm3` is. This puts a conversation in and gets events out, one
answer at a time per model, first come first served.
"""

import logging
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Protocol

import torch
from transformers import LogitsProcessor, LogitsProcessorList, PreTrainedModel

import chatglm3
from chatglm3.embedded import NAME as EMBEDDED_NAME
from chatglm3.embedded import load_embedded
from chatglm3.errors import ChatGLM3Error, CheckpointError, GenerationError, PromptTooLongError
from chatglm3.events import Event, Finished, FinishReason, MessageStart, Queued, Started, TextDelta, Usage
from chatglm3.generation import TokenMeter, beam_search, iter_text, iter_tokens
from chatglm3.kv_cache import KVCache, PrefixCaches
from chatglm3.loading import OFFICIAL_REPOSITORY, Progress, cuda_has_room_for_official_model
from chatglm3.prompt import ChatTokenizer, Prompt, build_prompt, encode_conversation
from chatglm3.protocol import iter_events
from chatglm3.sampling import Sampling
from conversation import Conversation, Request, to_messages
from runtime.fifo import FifoLock
from runtime.jobs import Cancellation, Job

if TYPE_CHECKING:
    from runtime.settings import Settings

EMBEDDED = "embedded"  # as MODEL_PATH

logger = logging.getLogger(__name__)


class InvalidScoreLogitsProcessor(LogitsProcessor):
    """Makes a row of logits that cannot be sampled choose token 5, as the original does.

    Such a row has NaN, +inf, or nothing but -inf. The -inf of masks is valid, so
    this may stand anywhere in a list; standing first it sees what the model gave.
    Scores: [batch, vocabulary]. Nothing is copied to the host.
    """

    TOKEN_ID = 5
    SCORE = 5e4

    def __init__(self) -> None:
        self._rows_replaced: torch.Tensor | int = 0

    def __call__(self, input_ids: torch.LongTensor, scores: torch.Tensor) -> torch.Tensor:
        # NaN and +inf are their row's maximum, and so is -inf where there is nothing else.
        invalid = ~scores.amax(dim=-1, keepdim=True).isfinite()  # [batch, 1]
        self._rows_replaced = self._rows_replaced + invalid.sum()
        scores = scores.masked_fill(invalid, 0.0)
        scores[:, self.TOKEN_ID].masked_fill_(invalid[:, 0], self.SCORE)
        return scores

    @property
    def rows_replaced(self) -> int:
        """How many rows were invalid so far; waits for the device."""
        return int(self._rows_replaced)


def stream_chat(
    model: PreTrainedModel,
    tokenizer: ChatTokenizer,
    query: str,
    history: Sequence[dict[str, Any]] | None = None,
    role: str = "user",
    past_key_values: KVCache | None = None,
    max_new_tokens: int = 256,
    do_sample: bool = True,
    top_p: float = 0.8,
    temperature: float = 0.8,
    repetition_penalty: float = 1.0,
    length_penalty: float = 1.0,
    num_beams: int = 1,
    logits_processor: Iterable[LogitsProcessor] | None = None,
    return_past_key_values: bool = False,
    **kwargs: Any,
) -> Iterator[tuple[Any, ...]]:
    """Answer a query, streaming: the original's function, for a model and tokenizer of `chatglm3.load`.

    Yields `(response, history)` for each piece of text: the last message's content
    so far, and a new history that ends with the query and the answer so far; with
    `return_past_key_values` also the cache, to be passed back as `past_key_values`
    with that history. Its tokens need not be read again.

    With `num_beams` above 1 there is nothing to stream, and it yields once. `kwargs`
    may have `top_k`; for beams, anything that `generate` takes.

    Raises ValueError for a parameter out of range, PromptTooLongError when the
    prompt leaves no room for an answer.
    """
    before = [*(dict(message) for message in history or ()), {"role": role, "content": query}]
    prompt_ids = encode_conversation(tokenizer, before)
    room = model.config.max_position_embeddings - len(prompt_ids)
    if room < 1:
        raise PromptTooLongError(
            f"The prompt has {len(prompt_ids):,} tokens; the model's context is "
            f"{model.config.max_position_embeddings:,}. Shorten the query or the history."
        )
    sampling = Sampling(
        max_new_tokens=min(max_new_tokens, room),
        do_sample=do_sample,
        top_p=top_p,
        temperature=temperature,
        repetition_penalty=repetition_penalty,
        top_k=kwargs.pop("top_k", 0),
    )
    processors = LogitsProcessorList([InvalidScoreLogitsProcessor(), *(logits_processor or ())])
    cache = KVCache() if past_key_values is None else past_key_values
    if num_beams > 1:
        beams = {"num_beams": num_beams, "length_penalty": length_penalty, **kwargs}
        token_ids: Iterable[int] = beam_search(model, tokenizer, prompt_ids, sampling, processors, beams)
    elif kwargs:
        raise TypeError(f"stream_chat does not know {', '.join(sorted(kwargs))}.")
    else:
        cache.keep_prefix_of(prompt_ids)
        token_ids = iter_tokens(
            model,
            prompt_ids,
            sampling,
            stop_token_ids=tokenizer.stop_token_ids,
            cache=cache,
            processors=processors,
        )
    last: tuple[Any, ...] | None = None
    for answer in _answers_so_far(iter_events(iter_text(token_ids, tokenizer), tokenizer)):
        last = (answer[-1]["content"], before + answer, *([cache] if return_past_key_values else []))
        if num_beams == 1:
            yield last
    if num_beams > 1 and last:
        yield last


def _answers_so_far(events: Iterable[MessageStart | TextDelta]) -> Iterator[list[dict[str, str]]]:
    """The assistant's messages after each piece of text; at least once, if only an empty one."""
    messages: list[dict[str, str]] = []
    for event in events:
        match event:
            case MessageStart(metadata):
                messages.append({"role": "assistant", "metadata": metadata, "content": ""})
            case TextDelta(text):
                content = messages[-1]["content"] + text
                messages[-1] = messages[-1] | {"content": content}
                yield list(messages)
    if not messages:
        yield [{"role": "assistant", "metadata": "", "content": ""}]


@dataclass(frozen=True)
class ModelInfo:
    """Which model answers, for people."""

    name: str
    device: str
    dtype: str
    parameters: int
    context_length: int  # tokens
    default_system_prompt: str
    default_temperature: float = 0.95
    default_top_p: float = 0.8
    embedded: bool = False


class Client(Protocol):
    """What the three modes ask of a model, wherever it runs."""

    @property
    def info(self) -> ModelInfo: ...

    def generate_stream(
        self,
        system: str | None,
        tools: list[dict[str, Any]] | None,
        history: Sequence[Conversation],
        *,
        cancellation: Cancellation | None = None,
        **parameters: Any,
    ) -> Iterator[Event]: ...

    def count_tokens(
        self, system: str | None, tools: list[dict[str, Any]] | None, history: Sequence[Conversation]
    ) -> int: ...

    def inspect_prompt(self, request: Request, history: Sequence[Conversation]) -> "InspectedPrompt": ...


@dataclass(frozen=True)
class InspectedPrompt:
    """A prompt for people to look at."""

    token_ids: list[int]
    pieces: list[str]  # each token's text; special tokens as their names
    left_out: list[dict[str, Any]]  # the messages that did not fit
    exact: bool  # whether these are the very tokens that the model was given

    @property
    def text(self) -> str:
        return "".join(self.pieces)


@dataclass(frozen=True)
class BoundClient:
    """A client with the settings of one answer filled in."""

    client: Client
    request: Request

    def __call__(self, history: Sequence[Conversation], /, *, cancellation: Cancellation) -> Iterator[Event]:
        request = self.request
        return self.client.generate_stream(
            request.system, list(request.tools), history, cancellation=cancellation, **request.parameters
        )


class LocalClient:
    """A model in this process.

    Any thread may call it. One answer is generated at a time; whoever holds the
    queue's lock owns the model and the kept KV caches.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: ChatTokenizer, info: ModelInfo, kv_cache_bytes: int = 10**9
    ) -> None:
        self.info = info
        self._model = model
        self._tokenizer = tokenizer
        self._lock = FifoLock()
        self._caches = PrefixCaches(kv_cache_bytes)

    def count_tokens(
        self, system: str | None, tools: list[dict[str, Any]] | None, history: Sequence[Conversation]
    ) -> int:
        """How many tokens the model would read, were nothing left out."""
        return len(encode_conversation(self._tokenizer, to_messages(system, tools, history)))

    def generate_stream(
        self,
        system: str | None,
        tools: list[dict[str, Any]] | None,
        history: Sequence[Conversation],
        *,
        cancellation: Cancellation | None = None,
        **parameters: Any,
    ) -> Iterator[Event]:
        """Answer the history's last message, or go on with it if it is the model's own.

        `parameters` are those of `Sampling`. Raises ValueError for a parameter out of
        range, PromptTooLongError for a message that does not fit, GenerationError when
        the model fails.
        """
        cancellation = cancellation or Cancellation()
        sampling = Sampling(**parameters)
        prompt = self._build_prompt(to_messages(system, tools, history), sampling, _goes_on(history))
        going_on_with = history[-1].metadata if _goes_on(history) else None
        with self._lock.queue(cancellation) as places:
            for place in places:
                yield Queued(place)
            if cancellation():  # perhaps while others were still before us
                yield Finished("cancelled", Usage(len(prompt.token_ids), 0, 0, 0.0, 0.0))
            else:
                yield from self._generate(prompt, sampling, cancellation, going_on_with)

    def _build_prompt(self, messages: list[dict[str, Any]], sampling: Sampling, go_on: bool) -> Prompt:
        context = self.info.context_length
        # An answer may take a quarter of the context from the history, and more only if it is free.
        reserved = min(sampling.max_new_tokens, context // 4)
        return build_prompt(self._tokenizer, messages, context - reserved, go_on)

    def inspect_prompt(self, request: Request, history: Sequence[Conversation]) -> InspectedPrompt:
        """The prompt of an answer, built again from its request and the history before it.

        Raises what `generate_stream` raises for it.
        """
        messages = to_messages(request.system, list(request.tools), history)
        prompt = self._build_prompt(messages, Sampling(**request.parameters), _goes_on(history))
        first = int(bool(messages) and messages[0]["role"] == "system")
        decoder = self._tokenizer.incremental_decoder()
        return InspectedPrompt(
            token_ids=prompt.token_ids,
            pieces=[*map(decoder.decode, prompt.token_ids)],
            left_out=messages[first : first + prompt.left_out],
            exact=prompt.digest == request.prompt_digest,
        )

    def _generate(
        self, prompt: Prompt, sampling: Sampling, cancellation: Cancellation, going_on_with: str | None
    ) -> Iterator[Event]:
        cache = self._caches.take(prompt.token_ids)
        cached = len(cache.token_ids)
        yield Started(len(prompt.token_ids), cached, prompt.left_out, prompt.digest)
        room = self.info.context_length - len(prompt.token_ids)
        meter = TokenMeter()
        try:
            yield from iter_events(
                iter_text(
                    meter.watch(self._iter_tokens(prompt.token_ids, sampling, room, cache, cancellation)),
                    self._tokenizer,
                ),
                self._tokenizer,
                going_on_with,
            )
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            self._caches.clear()
            raise GenerationError(
                "There was not enough memory to go on. The memory of earlier conversations has been freed; "
                "try again, with a shorter conversation or a smaller output length.",
                key="out_of_memory",
            ) from error
        self._caches.keep(cache)
        usage = Usage(len(prompt.token_ids), cached, meter.count, meter.first_token_seconds, meter.seconds)
        yield Finished(self._reason(meter, sampling, cancellation), usage)

    def _iter_tokens(
        self, prompt_ids: list[int], sampling: Sampling, room: int, cache: KVCache, cancellation: Cancellation
    ) -> Iterator[int]:
        guard = InvalidScoreLogitsProcessor()
        for token_id in iter_tokens(
            self._model,
            prompt_ids,
            replace(sampling, max_new_tokens=min(sampling.max_new_tokens, room)),
            stop_token_ids=self._tokenizer.stop_token_ids,
            cache=cache,
            processors=LogitsProcessorList([guard]),
            cancelled=cancellation,
        ):
            # Only for the token that it puts in is the guard asked, since asking waits for the device.
            if token_id == guard.TOKEN_ID and guard.rows_replaced:
                raise GenerationError(
                    f"The model computed invalid values (NaN or infinity) in {self.info.dtype}. "
                    "If this happens again, set DTYPE to bfloat16 or float32, or check the weights.",
                    key="invalid_values",
                    dtype=self.info.dtype,
                )
            yield token_id

    def _reason(self, meter: TokenMeter, sampling: Sampling, cancellation: Cancellation) -> FinishReason:
        if meter.last_id in self._tokenizer.stop_token_ids:
            return "stop"
        if cancellation():
            return "cancelled"
        return "length" if meter.count >= sampling.max_new_tokens else "context"


def _goes_on(history: Sequence[Conversation]) -> bool:
    """Whether the model spoke last, and is to go on."""
    return bool(history) and bool(history[-1].content) and history[-1].role.speaker == "assistant"


def _is_out_of_memory(error: Exception) -> bool:
    # PyTorch's allocator on the CPU raises a plain RuntimeError.
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "allocate memory" in str(error)


# Loading. It runs as a job, so that no rerun of a page interrupts or repeats it.


@dataclass(frozen=True)
class Loading:
    """How far the model has been loaded; at the end either a client or an error's sentence."""

    what: str = "Starting"
    fraction: float = 0.0
    client: Client | None = None
    error: str = ""


def load_client(settings: "Settings", progress: Progress) -> LocalClient:
    """Load the model that the settings name; raises CheckpointError."""
    if settings.pt_path is not None:
        raise CheckpointError("PT_PATH is set, but prefix-tuned models cannot be loaded yet; unset it.")
    dtype = getattr(torch, settings.dtype) if settings.dtype else None
    path = settings.model_path or _default_model()
    model: PreTrainedModel
    tokenizer: ChatTokenizer
    if path == EMBEDDED:
        model, tokenizer = load_embedded(
            settings.cache_path, device=settings.device, dtype=dtype, progress=progress
        )
    else:
        model, tokenizer = chatglm3.load(
            path,
            device=settings.device,
            dtype=dtype,
            tokenizer_path=settings.tokenizer_path,
            progress=progress,
        )
    embedded: dict[str, Any] = {
        "embedded": True,
        "default_temperature": 0.2,
        "default_top_p": 0.9,
    }  # as its makers advise
    info = ModelInfo(
        name=EMBEDDED_NAME if path == EMBEDDED else PurePath(path).name,
        device=_device_name(model.device),
        dtype=str(model.dtype).removeprefix("torch."),
        parameters=model.num_parameters(),
        context_length=model.config.max_position_embeddings,
        default_system_prompt=tokenizer.default_system_prompt,
        **(embedded if path == EMBEDDED else {}),
    )
    return LocalClient(model, tokenizer, info, int(settings.kv_cache_gb * 10**9))


def _default_model() -> str:
    return OFFICIAL_REPOSITORY if cuda_has_room_for_official_model() else EMBEDDED


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return "Apple GPU" if device.type == "mps" else f"CPU, {torch.get_num_threads()} threads"


def _load(job: Job[Loading]) -> None:
    from runtime.settings import read_settings  # stream_chat and the benchmarks do without pydantic

    try:
        client = load_client(read_settings(), lambda what, done: job.publish(Loading(what, done)))
        job.publish(Loading("Ready", 1.0, client=client))
    except (ChatGLM3Error, ValueError) as error:
        job.publish(Loading("Failed", error=str(error)))
    except Exception as error:  # whatever else is wrong with the machine, the page says it
        logger.exception("The model could not be loaded")
        sentence = f"The model could not be loaded ({type(error).__name__}: {error})."
        job.publish(Loading("Failed", error=sentence))


def _start_loading() -> Job[Loading]:
    return Job[Loading](_load, Loading(), "load-model").start()


_starting = threading.Lock()


def start_loading(again: bool = False) -> Job[Loading]:
    """Begin to load the process's model, or watch the loading that has begun; returns at once.

    `again` begins anew, after a failure.
    """
    import streamlit as st  # stream_chat and the benchmarks do without Streamlit

    cached = st.cache_resource(show_spinner=False)(_start_loading)
    with _starting:  # the cache's own lock is new with each wrapper
        if again:
            cached.clear()
        return cached()


def get_client() -> Client:
    """The shared client, once it is loaded; raises CheckpointError when it cannot be."""
    job = start_loading()
    job.wait()
    if job.state.client is None:
        raise CheckpointError(job.state.error)
    return job.state.client
