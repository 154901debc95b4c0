"""`stream_chat`, the guard against invalid logits, and the shared client, on a small real model."""

import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LogitsProcessor, PreTrainedModel

from chatglm3 import ChatGLM3Tokenizer
from chatglm3.errors import CheckpointError, GenerationError, PromptTooLongError
from chatglm3.events import Event, Finished, MessageStart, Queued, Started, TextDelta
from client import InvalidScoreLogitsProcessor, LocalClient, ModelInfo, load_client, stream_chat
from conversation import Conversation, Request, Role, to_messages
from runtime.jobs import Cancellation
from runtime.settings import Settings

Tiny = tuple[PreTrainedModel, ChatGLM3Tokenizer]
GREEDY: dict[str, Any] = {"do_sample": False, "max_new_tokens": 12}


class Forbid(LogitsProcessor):
    """Masks some tokens with -inf, as many processors do."""

    def __init__(self, *token_ids: int) -> None:
        self.token_ids = list(token_ids)

    def __call__(self, input_ids: torch.LongTensor, scores: torch.Tensor) -> torch.Tensor:
        scores = scores.clone()
        scores[:, self.token_ids] = -torch.inf
        return scores


def question(text: str) -> list[Conversation]:
    return [Conversation(Role.USER, text)]


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


@pytest.fixture
def client(tiny: Tiny) -> LocalClient:
    model, tokenizer = tiny
    return LocalClient(model, tokenizer, ModelInfo("tiny", "cpu", "float32", 0, 512, "Be kind."))


# The guard


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_an_invalid_row_becomes_token_5_and_the_others_stay(bad: float) -> None:
    scores = torch.randn(3, 100)
    broken = scores.clone()
    broken[1, 70] = bad
    guarded = InvalidScoreLogitsProcessor()(torch.zeros(3, 1, dtype=torch.long), broken)  # type: ignore[arg-type]
    assert torch.equal(guarded[[0, 2]], scores[[0, 2]])
    assert (guarded[1].argmax(), guarded[1, 5], guarded[1].sum()) == (5, 5e4, 5e4)


def test_the_masks_of_other_processors_are_valid() -> None:
    scores = Forbid(0, 3)(torch.zeros(1, 1, dtype=torch.long), torch.randn(1, 100))  # type: ignore[arg-type]
    guard = InvalidScoreLogitsProcessor()
    assert torch.equal(guard(torch.zeros(1, 1, dtype=torch.long), scores), scores)  # type: ignore[arg-type]
    assert guard.rows_replaced == 0


def test_a_row_without_any_possible_token_is_invalid() -> None:
    guard = InvalidScoreLogitsProcessor()
    scores = torch.full((1, 100), -torch.inf)
    assert guard(torch.zeros(1, 1, dtype=torch.long), scores).argmax() == 5  # type: ignore[arg-type]
    assert guard.rows_replaced == 1


def test_the_scores_it_was_given_are_not_changed() -> None:
    scores = torch.tensor([[torch.nan] * 10])
    InvalidScoreLogitsProcessor()(torch.zeros(1, 1, dtype=torch.long), scores)  # type: ignore[arg-type]
    assert scores.isnan().all()


# stream_chat


def test_it_streams_the_response_so_far_and_a_history_to_go_on_with(tiny: Tiny) -> None:
    results = list(stream_chat(*tiny, "What is the capital?", **GREEDY))
    responses = [response for response, _ in results]
    assert all(later.startswith(earlier) for earlier, later in pairwise(responses))
    assert results[-1][1] == [
        {"role": "user", "content": "What is the capital?"},
        {"role": "assistant", "metadata": "", "content": responses[-1]},
    ]


def test_the_callers_history_and_processors_are_not_changed(tiny: Tiny) -> None:
    history = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    processors = [Forbid(7)]
    for _ in stream_chat(*tiny, "again", history, logits_processor=processors, **GREEDY):
        pass
    assert len(history) == 2
    assert len(processors) == 1


def test_the_cache_that_it_returns_spares_the_next_turn_its_history(tiny: Tiny) -> None:
    *_, (_, history, cache) = stream_chat(*tiny, "one", return_past_key_values=True, **GREEDY)
    read = len(cache.token_ids)
    with_cache = list(stream_chat(*tiny, "two", history, past_key_values=cache, **GREEDY))
    without = list(stream_chat(*tiny, "two", history, **GREEDY))
    assert with_cache == without
    assert read > 5


def test_beams_yield_once(tiny: Tiny) -> None:
    results = list(stream_chat(*tiny, "hi", num_beams=3, length_penalty=0.5, **GREEDY))
    assert len(results) == 1
    assert results[0][1][-1]["content"] == results[0][0]


def test_a_logits_processor_of_the_caller_is_obeyed(tiny: Tiny) -> None:
    model, tokenizer = tiny
    only = 300
    forbid = Forbid(*(i for i in range(model.config.vocab_size) if i != only))
    *_, (response, _) = stream_chat(*tiny, "hi", logits_processor=[forbid], max_new_tokens=3)
    assert response == tokenizer.decode([only] * 3).strip()


def test_a_prompt_longer_than_the_context_is_refused_with_its_size(tiny: Tiny) -> None:
    with pytest.raises(PromptTooLongError, match="context is 512"):
        next(stream_chat(*tiny, "x" * 5000))


def test_an_unknown_option_is_refused(tiny: Tiny) -> None:
    with pytest.raises(TypeError, match="wizardry"):
        next(stream_chat(*tiny, "hi", wizardry=1))


def test_an_empty_query_is_answered(tiny: Tiny) -> None:
    assert list(stream_chat(*tiny, "", **GREEDY))


# The shared client


def test_an_answer_is_a_stream_of_events_with_its_usage_at_the_end(client: LocalClient) -> None:
    events = list(client.generate_stream("Be kind.", None, question("hello"), **GREEDY))
    assert isinstance(events[0], Started)
    assert isinstance(events[1], MessageStart)
    assert isinstance(events[-1], Finished)
    assert events[-1].usage.prompt_tokens == client.count_tokens("Be kind.", None, question("hello"))
    assert events[-1].usage.new_tokens <= 12


def test_the_client_and_stream_chat_say_the_same(client: LocalClient, tiny: Tiny) -> None:
    *_, (response, _) = stream_chat(*tiny, "hello", [{"role": "system", "content": "Be kind."}], **GREEDY)
    assert text_of(list(client.generate_stream("Be kind.", None, question("hello"), **GREEDY))) == response


def test_the_next_turn_reads_only_what_is_new_and_says_the_same(client: LocalClient, tiny: Tiny) -> None:
    history = question("hello " * 20)
    answer = text_of(list(client.generate_stream(None, None, history, **GREEDY)))
    history += [Conversation(Role.ASSISTANT, answer), *question("and now?")]
    reused = list(client.generate_stream(None, None, history, **GREEDY))
    fresh = list(LocalClient(*tiny, client.info, 0).generate_stream(None, None, history, **GREEDY))
    assert isinstance(reused[0], Started)
    assert reused[0].cached_tokens > 0.8 * client.count_tokens(None, None, history[:1])
    assert text_of(reused) == text_of(fresh)
    assert isinstance(fresh[0], Started)
    assert fresh[0].cached_tokens == 0


def test_a_temperature_of_zero_is_greedy(client: LocalClient) -> None:
    zero = list(client.generate_stream(None, None, question("hi"), temperature=0, max_new_tokens=12))
    assert text_of(zero) == text_of(list(client.generate_stream(None, None, question("hi"), **GREEDY)))


def test_the_output_length_ends_an_answer(client: LocalClient) -> None:
    *_, finished = client.generate_stream(None, None, question("hi"), do_sample=False, max_new_tokens=2)
    assert isinstance(finished, Finished)
    assert (finished.reason, finished.usage.new_tokens) == ("length", 2)


def test_old_turns_are_left_out_when_the_context_is_full(client: LocalClient) -> None:
    history = [message for i in range(30) for message in (*question(f"{i} hello"), answer("fine " * 5))]
    events = list(client.generate_stream("Be kind.", None, [*history, *question("last")], **GREEDY))
    assert isinstance(events[0], Started)
    assert events[0].left_out > 0
    assert events[0].left_out % 2 == 0  # whole turns
    assert events[0].prompt_tokens <= 512 - 12


def answer(text: str) -> Conversation:
    return Conversation(Role.ASSISTANT, text)


def test_an_answer_may_fill_the_context_and_then_ends(client: LocalClient) -> None:
    history = question("hello " * 40)
    *_, finished = client.generate_stream(
        None, None, history, max_new_tokens=512, do_sample=True, temperature=5.0, top_p=1.0
    )
    assert isinstance(finished, Finished)
    assert finished.usage.prompt_tokens + finished.usage.new_tokens <= 512
    assert finished.reason in ("context", "stop")


@pytest.mark.parametrize(
    "text",
    ["\x00\x1b[31m\x07 control", "<|user|> <|assistant|>get_weather\n [gMASK] sop", "\ud800"],
    ids=["control characters", "special tokens as text", "a lone surrogate"],
)
def test_hostile_questions_are_answered_as_text(client: LocalClient, text: str) -> None:
    assert isinstance(list(client.generate_stream(None, None, question(text), **GREEDY))[-1], Finished)


def test_a_question_of_100_000_characters_is_refused_in_a_sentence(client: LocalClient) -> None:
    with pytest.raises(PromptTooLongError, match="too long"):
        next(client.generate_stream(None, None, question("x" * 100_000), **GREEDY))


@pytest.mark.parametrize(
    ("parameter", "value"),
    [("top_p", 0.0), ("temperature", -1.0), ("repetition_penalty", 0.0), ("max_new_tokens", 0)],
)
def test_sampling_values_are_checked_here_too(client: LocalClient, parameter: str, value: float) -> None:
    with pytest.raises(ValueError, match=parameter):
        next(client.generate_stream(None, None, question("hi"), **{parameter: value}))


def test_a_cancelled_answer_ends_after_the_token_that_is_being_made(client: LocalClient) -> None:
    cancellation = Cancellation()
    events = []
    for event in client.generate_stream(
        None, None, question("hi"), cancellation=cancellation, max_new_tokens=400, temperature=5.0, top_p=1.0
    ):
        events.append(event)
        if isinstance(event, MessageStart):
            cancellation.request()
    assert isinstance(events[-1], Finished)
    assert events[-1].reason in ("cancelled", "stop")
    assert events[-1].usage.new_tokens < 400


def test_a_second_question_waits_its_turn_and_is_told_its_place(client: LocalClient) -> None:
    first = client.generate_stream(None, None, question("one"), **GREEDY)
    next(first)  # holds the model now
    places: list[Event] = []
    told = threading.Event()

    def ask() -> None:
        for event in client.generate_stream(None, None, question("two"), **GREEDY):
            places.append(event)
            told.set()

    second = threading.Thread(target=ask)
    second.start()
    assert told.wait(10)
    assert places == [Queued(1)]
    assert isinstance(list(first)[-1], Finished)
    second.join(10)
    assert isinstance(places[-1], Finished)


def test_one_that_is_cancelled_while_it_waits_never_touches_the_model(client: LocalClient) -> None:
    first = client.generate_stream(None, None, question("one"), **GREEDY)
    next(first)
    cancellation = Cancellation()
    second = client.generate_stream(None, None, question("two"), cancellation=cancellation, **GREEDY)
    assert next(second) == Queued(1)
    cancellation.request()
    finished = next(second)
    assert isinstance(finished, Finished)
    assert (finished.reason, finished.usage.new_tokens) == ("cancelled", 0)
    first.close()  # type: ignore[attr-defined]


def test_an_abandoned_answer_lets_the_next_one_in(client: LocalClient) -> None:
    abandoned = client.generate_stream(None, None, question("one"), **GREEDY)
    next(abandoned)
    abandoned.close()  # type: ignore[attr-defined]
    assert not any(
        isinstance(event, Queued) for event in client.generate_stream(None, None, question("two"), **GREEDY)
    )


def test_many_at_once_get_the_answers_that_they_would_get_alone(client: LocalClient) -> None:
    questions = [f"question {i}" for i in range(8)]
    alone = [
        text_of(list(client.generate_stream(None, None, question(each), **GREEDY))) for each in questions
    ]
    together = [""] * len(questions)

    def ask(i: int) -> None:
        together[i] = text_of(list(client.generate_stream(None, None, question(questions[i]), **GREEDY)))

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(questions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert together == alone


def test_invalid_logits_end_the_answer_with_a_sentence(tiny_folder: Path) -> None:
    client = load_client(Settings(model_path=str(tiny_folder), device="cpu", dtype="float32"), no_progress)
    with torch.no_grad():
        client._model.lm_head.weight.fill_(torch.nan)
    with pytest.raises(GenerationError, match="DTYPE"):
        list(client.generate_stream(None, None, question("hi"), **GREEDY))


def test_it_goes_on_with_its_own_message_and_begins_no_other(client: LocalClient) -> None:
    whole = text_of(
        list(client.generate_stream("", None, question("你好"), temperature=0, max_new_tokens=12))
    )
    begun = [*question("你好"), Conversation(Role.ASSISTANT, whole[:1])]
    events = list(client.generate_stream("", None, begun, temperature=0, max_new_tokens=2))
    assert not any(isinstance(event, MessageStart) for event in events)
    assert isinstance(events[-1], Finished)


def test_a_prompt_is_built_again_exactly(client: LocalClient) -> None:
    history = question("你好 <|user|>")
    started = next(iter(client.generate_stream("Be kind.", None, history, max_new_tokens=3)))
    assert isinstance(started, Started)
    request = Request("tiny", "Be kind.", (), {"max_new_tokens": 3}, started.prompt_digest)
    prompt = client.inspect_prompt(request, history)
    assert prompt.exact
    assert len(prompt.token_ids) == len(prompt.pieces) == started.prompt_tokens
    assert "<|system|>" in prompt.text
    assert prompt.text.rstrip().endswith("你好 <|user|><|assistant|>")
    assert not client.inspect_prompt(request, question("something else")).exact


def test_the_inspector_shows_what_was_left_out(client: LocalClient) -> None:
    turns = [Conversation(role, "word " * 15) for _ in range(4) for role in (Role.USER, Role.ASSISTANT)]
    prompt = client.inspect_prompt(
        Request("tiny", "Be kind.", parameters={"max_new_tokens": 8}), [*turns, *question("last")]
    )
    assert prompt.left_out == to_messages(None, None, turns)[: len(prompt.left_out)]
    assert 0 < len(prompt.left_out) < 8


def test_memory_that_runs_out_is_told_and_the_client_goes_on(client: LocalClient, tiny: Tiny) -> None:
    exhausted = tiny[0].register_forward_pre_hook(lambda *_: torch.empty(2**50))  # more than any machine has
    with pytest.raises(GenerationError, match="not enough memory"):
        list(client.generate_stream(None, None, question("hi"), **GREEDY))
    exhausted.remove()
    assert isinstance(list(client.generate_stream(None, None, question("hi"), **GREEDY))[-1], Finished)


# Loading


def no_progress(_what: str, _fraction: float) -> None:
    """Watches nothing."""


def test_the_client_tells_which_model_runs_and_on_what(tiny_folder: Path) -> None:
    client = load_client(Settings(model_path=str(tiny_folder), device="cpu", dtype="float32"), no_progress)
    assert client.info.name == tiny_folder.name
    assert (client.info.dtype, client.info.context_length, client.info.embedded) == ("float32", 512, False)
    assert client.info.device.startswith("CPU")


def test_a_tokenizer_elsewhere_is_used(tiny_folder: Path, tmp_path: Path) -> None:
    for file in tiny_folder.iterdir():
        (tmp_path / file.name.replace("tokenizer", "moved")).write_bytes(file.read_bytes())
    settings = Settings(model_path=str(tmp_path), device="cpu", tokenizer_path=tmp_path / "moved.model")
    assert load_client(settings, no_progress).info.context_length == 512


def test_a_prefix_tuned_model_is_refused_rather_than_run_without_its_prefix(tiny_folder: Path) -> None:
    with pytest.raises(CheckpointError, match="PT_PATH"):
        load_client(Settings(model_path=str(tiny_folder), pt_path=tiny_folder), no_progress)
