"""How fast tokens are decoded, and what the client costs on top of the model's forward pass.

Ways that are compared take turns within one run, and the ratios are medians over the
turns: those carry over to other machines, the absolute figures do not. Not a test, not
a measure of answers or of the page: torch, transformers, sentencepiece and what those
need are enough to run it. It prints Markdown tables.
"""

import argparse
import math
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, cast

import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from benchmarks.clock import Clock
from benchmarks.growth import growth
from benchmarks.subject import GREEDY, Subject, describe, load
from benchmarks.timing import Work, ratio, table, take_turns
from chatglm3.attention import NAME as GROUPED
from chatglm3.events import Finished, Started, TextDelta
from client import LocalClient
from conversation import Conversation, Role

HISTORY_TOKENS = 1500
ANSWER_TOKENS = 16  # of the turns whose first token is timed
COPY_BYTES = 2**29  # beyond any processor's cache

SAMPLING: dict[str, Any] = {"do_sample": True, "top_p": 0.8, "temperature": 0.8}

# The ways of decoding. All read the same short prompt first.


@torch.inference_mode()
def bare_loop(subject: Subject) -> Iterator[None]:
    """The forward pass and its best token, and nothing else, token by token."""
    ids = torch.tensor([subject.prompt_ids], device=subject.model.device)
    cache = DynamicCache(config=subject.model.config)
    while True:
        logits = subject.model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
        ids = logits[:, -1].argmax(dim=-1, keepdim=True)
        yield


def run_bare(subject: Subject, tokens: int) -> None:
    for _ in islice(bare_loop(subject), tokens):
        pass


def run_generate(subject: Subject, tokens: int) -> None:
    """Transformers' own loop, greedy."""
    ids = torch.tensor([subject.prompt_ids], device=subject.model.device)
    made = subject.model.generate(  # type: ignore[operator]
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=tokens, pad_token_id=0
    )
    if made.shape[1] - ids.shape[1] != tokens:
        raise RuntimeError(f"generate decoded {made.shape[1] - ids.shape[1]} tokens, not {tokens}.")


def decoding_ways(subject: Subject, tokens: int) -> dict[str, Work]:
    return {
        "bare forward loop": lambda: run_bare(subject, tokens),
        "`generate`, greedy": lambda: run_generate(subject, tokens),
        "client, greedy": lambda: subject.run_client(tokens, **GREEDY),
        "client, sampling": lambda: subject.run_client(tokens, **SAMPLING),
    }


def pair_tokens(subject: Subject, tokens: int, rounds: int) -> float:
    """The client's speed as a part of the bare loop's, where the two take turns token by token."""
    numbers = range(2, tokens + 1)  # the first reads the prompt
    pairs: list[tuple[float, float]] = []
    for _ in range(rounds):
        bare = bare_loop(subject)
        next(bare)
        clock = Clock({numbers: partial(next, bare)})
        subject.run_client(tokens, cancellation=clock, **GREEDY)
        pairs += clock.pairs[numbers]
    return ratio((step for _, step in pairs), (token for token, _ in pairs))


# The measurements. Each prints its table; those with a bar return what it is for.


def decoding(subject: Subject, tokens: int, rounds: int) -> float:
    """The client's speed, as a part of the bare loop's."""
    times = take_turns(decoding_ways(subject, tokens), rounds)
    bandwidth, weights = copy_bandwidth(subject.model.device), weight_bytes_per_token(subject.model)
    limit = bandwidth / weights  # tokens/s
    rows = []
    for name, taken in times.items():
        speed = tokens / statistics.median(taken)
        to_bare = ratio(times["bare forward loop"], taken)
        rows.append((name, f"{to_bare:.3f}", f"{speed / limit:.0%}", f"{speed:.1f}"))
    table((f"{tokens} tokens", "speed to bare", "of the limit", "tokens/s"), *rows)
    paired = pair_tokens(subject, tokens, rounds)
    print(f"\nWhere client and bare loop take turns token by token: {paired:.3f}.")
    print(
        f"\nThe limit: {weights / 1e9:.3f} GB of weights are read for each token, and a copy moves "
        f"{bandwidth / 1e9:.1f} GB/s (read and written), which makes {limit:.1f} tokens/s."
    )
    return paired


def copy_bandwidth(device: torch.device) -> float:
    """Bytes per second, read and written."""
    source = torch.ones(COPY_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * COPY_BYTES / statistics.median(take_turns({"": lambda: target.copy_(source)}, 9)[""])


def weight_bytes_per_token(model: PreTrainedModel) -> int:
    """All weights; but of an input embedding that is not the output's as well only a row is read."""
    embedding: Any = model.get_input_embeddings()
    output: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    unread = 0 if output.weight is embedding.weight else int(embedding.weight.nbytes)
    return sum(parameter.nbytes for parameter in model.parameters()) - unread


class FreeModel:
    """A model whose forward pass costs nothing: it has the same logits every time."""

    def __init__(self, like: PreTrainedModel) -> None:
        self.device, self.config = like.device, like.config
        logits = torch.randn(1, 1, like.config.vocab_size, dtype=like.dtype, device=like.device)
        self._output = CausalLMOutputWithPast(logits=cast(torch.FloatTensor, logits))

    def __call__(self, *_args: Any, **_kwargs: Any) -> CausalLMOutputWithPast:
        return self._output


def overhead(subject: Subject, tokens: int, rounds: int) -> None:
    """What is spent above the forward pass."""
    free = Subject(cast(PreTrainedModel, FreeModel(subject.model)), subject.tokenizer)
    ways = decoding_ways(free, tokens)
    del ways["`generate`, greedy"]  # it asks more of a model than a forward pass
    times = take_turns(ways, rounds)
    rows = [(name, f"{1e6 * statistics.median(taken) / tokens:.0f}") for name, taken in times.items()]
    table(("over a forward pass that costs nothing", "µs per token"), *rows)


@dataclass(frozen=True)
class Turn:
    """One answer: what was seen of it."""

    wait: float  # seconds from the question to the first token
    prompt: int  # tokens
    read: int  # of them, those that were not kept from before
    text: str


def answer(client: LocalClient, history: Sequence[Conversation]) -> Turn:
    began, wait, text = time.perf_counter(), 0.0, ""
    for event in client.generate_stream(None, None, history, max_new_tokens=ANSWER_TOKENS, **GREEDY):
        match event:
            case Started():
                wait = time.perf_counter() - began
            case TextDelta(piece):
                text += piece
            case Finished(usage=usage):
                read = usage.prompt_tokens - usage.cached_tokens
                return Turn(wait + usage.first_token_seconds, usage.prompt_tokens, read, text)
    raise AssertionError("a stream ends with Finished")


def first_token(subject: Subject, rounds: int) -> float:
    """How many times sooner the second turn begins when the first one's tokens are not read again."""
    sentence = "The lamp is lit at dusk, and the ships go by. "
    hundred = subject.client().count_tokens(None, None, [Conversation(Role.USER, sentence * 100)])
    turns: dict[str, list[Turn]] = {}
    for round_ in range(rounds):
        for name, kept in (("with reuse", 10**9), ("without reuse", 0)):
            client = subject.client(kept)
            story = f"Night {round_}, {name}. " + sentence * math.ceil(100 * HISTORY_TOKENS / hundred)
            history = [Conversation(Role.USER, story)]
            first = answer(client, history)
            history += [Conversation(Role.ASSISTANT, first.text), Conversation(Role.USER, "Is that true?")]
            turns.setdefault(f"1, {name}", []).append(first)
            turns.setdefault(f"2, {name}", []).append(answer(client, history))
    rows = []
    for name, made in sorted(turns.items()):
        wait = statistics.median(turn.wait for turn in made)
        rows.append((name, made[0].prompt, made[0].read, f"{1e3 * wait:.0f}"))
    table(("turn", "tokens of prompt", "of them read", "ms to the first token"), *rows)
    return ratio(*([turn.wait for turn in turns[f"2, {name}"]] for name in ("without reuse", "with reuse")))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.decode", description=(__doc__ or "").partition("\n")[0]
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("model", nargs="?", help='a folder or hub id with ChatGLM3, or "embedded"')
    which.add_argument("--random-6b", action="store_true", help="random weights of ChatGLM3-6B's size")
    which.add_argument("--small-random", action="store_true", help="a small random model: a quick check")
    parser.add_argument(
        "--device", help='where it runs, such as "cpu" or "cuda:1"; as in the app if not given'
    )
    parser.add_argument(
        "--dtype", choices=["float16", "bfloat16", "float32"], help="as in the app if not given"
    )
    parser.add_argument(
        "--attention",
        choices=["sdpa", GROUPED],
        help="which implementation; as in the app if not given",
    )
    parser.add_argument("--tokenizer", type=Path, help="a tokenizer.model, if not the model's own")
    parser.add_argument(
        "--cache", type=Path, help="where the embedded model is kept; as in the app if not given"
    )
    parser.add_argument("--tokens", type=int, default=200, help="how many to decode each time (%(default)s)")
    parser.add_argument(
        "--rounds", type=int, default=7, help="how often each way takes its turn (%(default)s)"
    )
    parser.add_argument("--threads", type=int, help="PyTorch's on the CPU; as in the app if not given")
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    subject = load(arguments)
    print(describe(subject.model))
    speed = decoding(subject, arguments.tokens, arguments.rounds)
    overhead(subject, arguments.tokens, arguments.rounds)
    sooner = first_token(subject, arguments.rounds)
    grown = growth(subject, max(1, arguments.rounds // 3))
    table(
        ("what", "bar", "measured", "holds"),
        ("the client's speed to the bare loop's", "≥ 0.95 on CPU", f"{speed:.3f}", speed >= 0.95),
        ("turn 2 begins sooner with reuse, times", "≥ 10", f"{sooner:.1f}", sooner >= 10),
        ("the client's growth to attention's", "≤ 1.3", f"{grown:.2f}", grown <= 1.3),
    )


if __name__ == "__main__":
    main()
