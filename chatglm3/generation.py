"""The token loop: prompt ids in, token ids out, then their text.

Two of the three generators of a stream, each consuming the one below:
`iter_tokens` (ids), `iter_text` (ids with the text they complete), and
`protocol.iter_events` (what the text means). Nothing here knows of messages.
"""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from transformers import LogitsProcessorList, PreTrainedModel

from chatglm3.kv_cache import KVCache
from chatglm3.prompt import ChatTokenizer
from chatglm3.sampling import Sampling, choose, logits_processors

# A long prompt is read in pieces of this many tokens, so that it can be
# cancelled in between and its attention mask stays small.
PREFILL_CHUNK = 512


@dataclass(frozen=True, slots=True)
class Token:
    """One token, and the text that it completes ("" for half a character).

    The id is None for the rest of a stream that ended within a character.
    """

    id: int | None
    text: str


def never() -> bool:
    """The `cancelled` of a stream that nobody cancels."""
    return False


@torch.inference_mode()
def iter_tokens(
    model: PreTrainedModel,
    prompt_ids: Sequence[int],
    sampling: Sampling,
    *,
    stop_token_ids: Collection[int],
    cache: KVCache,
    processors: LogitsProcessorList,
    cancelled: Callable[[], bool] = never,
) -> Iterator[int]:
    """Generate token ids until a stop token (which is yielded too), the length limit, or a cancel.

    `cache` holds the keys and values of a proper prefix of the prompt, and
    afterwards those of all tokens that the model has read. `processors` see
    the raw logits, before those of `sampling`.
    """
    chooser = LogitsProcessorList([*processors, *logits_processors(sampling)])
    known = list(prompt_ids)
    end = len(known) + sampling.max_new_tokens
    # The same ids on the device, written in place, for the model and for processors that look back.
    ids = torch.empty(1, end, dtype=torch.long, device=model.device)
    ids[0, : len(known)] = torch.tensor(known)
    while len(known) < end:
        while len(known) - len(cache.token_ids) > PREFILL_CHUNK and not cancelled():
            _read(model, ids, known, cache, len(cache.token_ids) + PREFILL_CHUNK)
        if cancelled():
            return
        logits = _read(model, ids, known, cache, len(known))  # [1, vocabulary]
        next_id = choose(
            chooser(cast(torch.LongTensor, ids[:, : len(known)]), logits.float()), sampling.greedy
        )
        ids[0, len(known)] = next_id[0]
        known.append(int(next_id))
        yield known[-1]
        if known[-1] in stop_token_ids:
            return


def _read(
    model: PreTrainedModel, ids: torch.Tensor, known: list[int], cache: KVCache, end: int
) -> torch.Tensor:
    """Run the model over what the cache lacks of ids[:end]; the logits after the last of them."""
    start = len(cache.token_ids)
    output = model(ids[:, start:end], past_key_values=cache, use_cache=True, logits_to_keep=1)
    cache.token_ids.extend(known[start:end])
    logits: torch.Tensor = output.logits[:, -1]
    return logits


def iter_text(token_ids: Iterable[int], tokenizer: ChatTokenizer) -> Iterator[Token]:
    """Each token with the text that it completes; a special token completes the text before it."""
    decoder = tokenizer.incremental_decoder()
    silent = tokenizer.special_token_ids | tokenizer.stop_token_ids
    for token_id in token_ids:
        yield Token(token_id, decoder.flush() if token_id in silent else decoder.decode(token_id))
    if rest := decoder.flush():
        yield Token(None, rest)


@torch.inference_mode()
def beam_search(
    model: PreTrainedModel,
    tokenizer: ChatTokenizer,
    prompt_ids: Sequence[int],
    sampling: Sampling,
    processors: LogitsProcessorList,
    beams: dict[str, Any],
) -> list[int]:
    """The whole answer by Transformers' own beam search; `beams` are further options of `generate`."""
    input_ids = torch.tensor([list(prompt_ids)], device=model.device)
    sampled = {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": sampling.top_k}
    output = model.generate(  # type: ignore[operator]
        input_ids,
        attention_mask=torch.ones_like(input_ids),
        max_new_tokens=sampling.max_new_tokens,
        do_sample=not sampling.greedy,
        repetition_penalty=sampling.repetition_penalty,
        eos_token_id=sorted(tokenizer.stop_token_ids),
        logits_processor=processors,
        **({} if sampling.greedy else sampled),
        **beams,
    )
    return [int(token_id) for token_id in output[0, len(prompt_ids) :]]


class TokenMeter:
    """Counts and times the tokens that pass, from its making on."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self.count = 0
        self.last_id: int | None = None
        self.first_token_seconds = 0.0
        self.seconds = 0.0

    def watch(self, token_ids: Iterable[int]) -> Iterator[int]:
        for token_id in token_ids:
            self.seconds = time.perf_counter() - self._started
            self.first_token_seconds = self.first_token_seconds or self.seconds
            self.count += 1
            self.last_id = token_id
            yield token_id
