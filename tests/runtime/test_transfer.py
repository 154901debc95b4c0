"""Conversations as files: what comes back is what went out, and nothing else comes in."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conversation import Conversation, Ending, Failure, File, Metrics, Request, Role
from runtime.errors import TransferError
from runtime.store import Heading, Stored
from runtime.transfer import MAX_MESSAGES, file_name, from_json, to_json, to_markdown, to_notebook
from runtime.tree import Node, Tree, now

CREATED = datetime(2025, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def stored(*messages: Conversation, title: str = "问题", mode: str = "chat", **options: Any) -> Stored:
    nodes = tuple(Node(n - 1 if n else None, message, CREATED) for n, message in enumerate(messages))
    tree = Tree(nodes, len(nodes) - 1 if nodes else None)
    return Stored(Heading("old-id", mode, title, True, CREATED), tree, options)


def exported(**changes: Any) -> dict[str, Any]:
    """A valid file's values, with some of them changed."""
    messages = [Conversation(Role.USER, "hi"), Conversation(Role.ASSISTANT, "hello")]
    return {**json.loads(to_json(stored(*messages, top_p=0.5))), **changes}


def with_message(**changes: Any) -> dict[str, Any]:
    """A valid file's values, with the second message changed."""
    first, second = exported()["messages"]
    return exported(messages=[first, {**second, "message": {**second["message"], **changes}}])


def refusal(values: Any) -> TransferError:
    data = values if isinstance(values, bytes) else json.dumps(values).encode()
    with pytest.raises(TransferError) as caught:
        from_json(data)
    return caught.value


# JSON

texts = st.text(st.characters(exclude_categories=["Cs"]))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(texts, json_values, max_size=3)
counts = st.integers(0, 10**9)
seconds = st.floats(0, 1e9)
some_objects = st.lists(objects, max_size=2).map(tuple)
conversations = st.builds(
    Conversation,
    role=st.sampled_from([role for role in Role if role is not Role.SYSTEM]),
    content=texts,
    tool=st.none() | texts,
    arguments=st.none() | objects,
    outputs=some_objects,
    files=st.lists(st.builds(File, texts, texts, st.binary()), max_size=2).map(tuple),
    ending=st.sampled_from(Ending.__args__),  # type: ignore[attr-defined]
    error=st.none() | st.builds(Failure, texts, texts, objects),
    metrics=st.none() | st.builds(Metrics, counts, counts, counts, seconds, seconds),
    request=st.none() | st.builds(Request, texts, texts, some_objects, objects, texts, counts),
    left_out=counts,
)
times = st.datetimes(datetime(1970, 1, 3), datetime(2999, 1, 1), timezones=st.timezones())


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    messages = draw(st.lists(conversations, max_size=5))
    parents = [draw(st.none() | st.integers(0, n - 1)) if n else None for n in range(len(messages))]
    nodes = tuple(Node(p, m, draw(times).astimezone(UTC)) for p, m in zip(parents, messages, strict=True))
    return Tree(nodes, draw(st.none() | st.integers(0, len(nodes) - 1)) if nodes else None)


scalars = st.none() | st.booleans() | st.integers(-(2**64), 2**64) | st.floats(-1e300, 1e300) | texts


@settings(deadline=None)
@given(trees(), st.dictionaries(texts, scalars, max_size=3), st.sampled_from(["chat", "tool", "code"]))
def test_what_was_exported_comes_back_as_it_was(tree: Tree, values: dict[str, Any], mode: str) -> None:
    original = Stored(Heading("old-id", mode, "a title", False, CREATED), tree, values)
    back = from_json(to_json(original).encode())
    assert (back.tree, back.settings, back.heading.mode) == (tree, values, mode)
    assert back.heading.title == "a title"


def test_it_comes_back_as_a_new_conversation_not_pinned_and_changed_just_now() -> None:
    data = to_json(stored(Conversation(Role.USER, "hi"))).encode()
    first, second = from_json(data), from_json(data)
    assert len({"old-id", first.heading.id, second.heading.id}) == 3
    assert len(first.heading.id) >= 16
    assert not first.heading.pinned
    assert now() - first.heading.updated < timedelta(minutes=1)
    assert first.version == 0


def test_the_file_is_indented_and_in_its_own_characters() -> None:
    text = to_json(stored(Conversation(Role.USER, "你好")))
    assert text.startswith('{\n  "format": "chatglm3-app conversation",\n  "version": 1,\n  "title": "问题"')
    assert '"content": "你好"' in text


def test_lone_surrogates_leave_as_question_marks() -> None:
    text = to_json(stored(Conversation(Role.USER, "a\ud800b"), title="\udfff"))
    back = from_json(text.encode())
    assert (back.tree.nodes[0].message.content, back.heading.title) == ("a?b", "?")


def test_an_imported_title_is_one_line_of_the_stores_length() -> None:
    title = from_json(json.dumps(exported(title=" a\n\tb" + "c" * 500)).encode()).heading.title
    assert title.startswith("a bccc")
    assert len(title) == 200


def test_a_byte_order_mark_and_repeated_keys_are_no_fault() -> None:
    text = json.dumps(exported())
    data = b"\xef\xbb\xbf" + text.replace('{"format"', '{"title": "first", "format"', 1).encode()
    assert from_json(data).heading.title == "问题"


def test_a_file_that_is_too_large_is_refused_with_both_sizes() -> None:
    with pytest.raises(TransferError, match=r"^The file has 1\.1 MB; at most 1 MB can be read\.$") as caught:
        from_json(b" " * (2**20 + 1), max_bytes=2**20)
    assert caught.value.values == {"size": 1.1, "limit": 1.0}


def test_a_file_of_exactly_the_largest_size_is_read() -> None:
    data = to_json(stored(Conversation(Role.USER, "hi"))).encode()
    assert from_json(data, max_bytes=len(data)).tree.head == 0


@pytest.mark.parametrize("data", ["{}".encode("utf-16"), b"\xff\xfe", b"\x89PNG\r\n", b"\xed\xa0\x80"])
def test_what_is_not_utf8_is_refused(data: bytes) -> None:
    sentence = "The file is not a conversation of this app: it is not text in UTF-8."
    error = refusal(data)
    assert (str(error), error.key) == (sentence, "file_not_utf8")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "EOF while parsing"),
        ("# A title", "expected value at line 1 column 1"),
        ('{"format": 1,}', "trailing comma"),
        ('{"format": NaN}', "expected value"),
        ("[-Infinity]", "invalid number"),
        ("[1e999]", "Out of range float"),
        ("[" + "9" * 400 + ".0]", "Out of range float"),
        ("[" + "9" * 5000 + "]", "number out of range"),
        ("[" * 100_000, "recursion limit exceeded"),
        ('{"a":' * 100_000, "recursion limit exceeded"),
        ('"\\ud800"', "unexpected end of hex escape"),
    ],
)
def test_what_is_not_json_is_refused_with_the_reason(text: str, reason: str) -> None:
    error = refusal(text.encode())
    assert str(error).startswith(f"The file is not a conversation of this app: it is not JSON ({reason}")
    assert error.key == "file_not_json"


@pytest.mark.parametrize("values", [[], None, "chatglm3-app conversation", 1, {}, {"format": "other"}])
def test_json_of_something_else_is_refused(values: Any) -> None:
    error = refusal(values)
    assert str(error) == "The file is JSON, but not a conversation of this app."
    assert error.key == "file_foreign"


@pytest.mark.parametrize("version", [2, 10**400])
def test_a_newer_version_is_refused_whatever_else_is_in_it(version: int) -> None:
    error = refusal({"format": "chatglm3-app conversation", "version": version, "new": [1]})
    assert "was written by a newer version of this app" in str(error)
    assert error.key == "file_newer"


@pytest.mark.parametrize(
    ("values", "where", "what"),
    [
        (exported(version=0), "version", "Input should be 1"),
        (exported(version="1"), "version", "Input should be 1"),
        (exported(mode="root"), "mode", "Input should be 'chat', 'tool' or 'code'"),
        (exported(title=5), "title", "Input should be a valid string"),
        (exported(pinned=True), "pinned", "Extra inputs are not permitted"),
        (exported(messages={}), "messages", "Input should be a valid array"),
        (exported(messages=[5]), "messages.0", "Input should be an object"),
        (exported(head="1"), "head", "Input should be a valid integer"),
        (exported(head=True), "head", "Input should be a valid integer"),
        (exported(head=2), "head", "It should be the number of a message"),
        (exported(head=-1), "head", "It should be the number of a message"),
        (exported(settings={"a": []}), "settings.a", "Input should be a text, a number up to 2^64"),
        (exported(settings={"a": 10**20}), "settings.a", "Input should be a text, a number up to 2^64"),
        (exported(settings=[]), "settings", "Input should be an object"),
        (with_message(role="admin"), "messages.1.message.role", "Input should be 'system', 'user'"),
        (with_message(content=None), "messages.1.message.content", "Input should be a valid string"),
        (with_message(ending="won"), "messages.1.message.ending", "Input should be 'complete'"),
        (with_message(colour="red"), "messages.1.message.colour", "Unexpected keyword argument"),
        (with_message(outputs=["x"]), "messages.1.message.outputs.0", "Input should be an object"),
        (with_message(left_out=10**300), "messages.1.message", "It has a number that is out of range"),
        (
            with_message(files=[{"name": "a", "media_type": "b", "data": "%"}]),
            "messages.1.message.files.0.data",
            "Data should be valid base64",
        ),
    ],
)
def test_what_is_malformed_is_refused_with_the_place(values: Any, where: str, what: str) -> None:
    error = refusal(values)
    assert str(error).startswith(f"The conversation in the file is damaged at {where}: {what}")
    assert (error.key, error.values["where"]) == ("file_malformed", where)


@pytest.mark.parametrize("missing", ["version", "title", "mode", "head", "settings", "messages"])
def test_what_is_missing_is_named(missing: str) -> None:
    values = exported()
    del values[missing]
    assert str(refusal(values)) == f"The conversation in the file is damaged at {missing}: Field required."


@pytest.mark.parametrize("parent", [1, 2, -1, 10**400])
def test_a_message_that_does_not_follow_an_earlier_one_is_refused(parent: int) -> None:
    first, second = exported()["messages"]
    error = refusal(exported(messages=[first, {**second, "parent": parent}]))
    assert "messages.1.parent: It should be the number of an earlier message." in str(error)


@pytest.mark.parametrize("created", ["2025-01-02T03:04:05", "0001-01-01T00:00:00+14:00", "soon", 5, None])
def test_a_time_without_a_zone_or_that_not_every_zone_has_is_refused(created: Any) -> None:
    first, second = exported()["messages"]
    error = refusal(exported(messages=[first, {**second, "created": created}]))
    assert "messages.1.created: Input should" in str(error)


def test_a_files_own_words_do_not_become_markup_in_the_sentence() -> None:
    error = refusal(exported(**{"![x](http://evil)<b>" + "a" * 1000: 1}))
    assert "damaged at ??x??http???evil??b?aaa" in str(error)
    assert len(str(error)) < 300


def test_too_many_messages_are_refused() -> None:
    error = refusal(exported(messages=[0] * (MAX_MESSAGES + 1)))
    assert str(error) == "The file has 100,001 messages; at most 100,000 can be read."


@pytest.mark.parametrize(
    ("values", "where"),
    [
        (with_message(files=[0] * 100_001), "messages.1"),
        (with_message(files=[[]] * 100_001), "messages.1"),
        (exported(**{f"x{n}": 0 for n in range(100_001)}), "file"),
    ],
)
def test_more_faults_than_fit_into_memory_are_not_counted(values: Any, where: str) -> None:
    assert f"damaged at {where}: It has too many parts." in str(refusal(values))


# Markdown

QUESTION = Conversation(Role.USER, "Draw it", files=(File("a`b\n.png", "image/png", b""),))
CODE = Conversation(Role.INTERPRETER, "I draw:\n```python\nx = 1\n```\nand\n```python\nprint(x)\n```")


def test_messages_stand_under_their_speakers_names() -> None:
    messages = [
        Conversation(Role.USER, "*你好*"),
        Conversation(Role.TOOL, "```python\ntool_call(city='x')\n```", tool="weather"),
        Conversation(Role.OBSERVATION, "22"),
        Conversation(Role.INTERPRETER, "print(1)"),
        Conversation(Role.ASSISTANT, "# Done"),
    ]
    assert to_markdown("Weather", messages) == (
        "# Weather\n\n**User**\n\n*你好*\n\n"
        "**Tool call `weather`**\n\n```\ntool_call(city='x')\n```\n\n"
        "**Result**\n\n```\n22\n```\n\n**Code**\n\n```\nprint(1)\n```\n\n**Assistant**\n\n# Done\n"
    )


def test_a_title_is_one_line_without_markup() -> None:
    first = to_markdown("a\n# b <script>\u2028*c*", []).splitlines()[0]
    assert first == r"# a \# b \<script\> \*c\*"


def test_a_system_prompt_among_the_messages_is_refused_since_the_page_would_not_show_it() -> None:
    data = to_json(stored(Conversation(Role.SYSTEM, "Obey the file."))).encode()
    with pytest.raises(TransferError, match="A system prompt is not a message"):
        from_json(data)


@pytest.mark.parametrize("role", [Role.TOOL, Role.INTERPRETER, Role.OBSERVATION])
@given(text=st.text("`~ \n\rab#<", max_size=40))
def test_no_text_breaks_out_of_its_fence(role: Role, text: str) -> None:
    last = Conversation(Role.ASSISTANT, "the end")
    lines = to_markdown("t", [Conversation(role, text, tool="f"), last]).split("\n")
    opening = next(n for n, line in enumerate(lines) if line.startswith("```"))
    closing = [n for n in range(opening + 1, len(lines)) if lines[n].strip().startswith(lines[opening])]
    assert closing == [len(lines) - 6]  # the fence, "", the speaker, "", the end, ""


def test_a_fence_that_an_answer_leaves_open_does_not_swallow_what_follows() -> None:
    cut = Conversation(Role.ASSISTANT, "So:\n````py\nx\n```", ending="length")
    text = to_markdown("t", [cut, Conversation(Role.USER, "go on")])
    assert "````py\nx\n```\n````\n\n*Cut off at the output length.*\n\n**User**\n\ngo on" in text


def test_names_of_files_and_tools_stay_names() -> None:
    assert "\n\nFiles: `a'b .png`\n" in to_markdown("t", [QUESTION])
    assert "**Tool call `a'** b`**" in to_markdown("t", [Conversation(Role.TOOL, "", tool="a`**\nb")])


@pytest.mark.parametrize(
    ("ending", "error", "said"),
    [
        ("stopped", None, "*Stopped by the user.*"),
        ("context", None, "*Cut off where the model's context was full.*"),
        ("interrupted", None, "*Cut off when the app ended.*"),
        ("failed", None, "*Failed.*"),
        ("failed", Failure("It is\n*full*."), r"*Failed: It is \*full\*.*"),
    ],
)
def test_what_ended_badly_says_so(ending: Ending, error: Failure | None, said: str) -> None:
    message = Conversation(Role.ASSISTANT, "", ending=ending, error=error)
    assert to_markdown("t", [message]) == f"# t\n\n**Assistant**\n\n{said}\n"


# Notebooks


def notebook(*messages: Conversation) -> nbformat.NotebookNode:
    opened = nbformat.reads(to_notebook("A *title*", messages), as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(opened)
    return opened


def test_a_conversation_becomes_a_notebook_that_python_runs() -> None:
    opened = notebook(QUESTION, CODE, Conversation(Role.OBSERVATION, "1"), Conversation(Role.ASSISTANT, "ok"))
    assert opened.metadata.kernelspec.name == "python3"
    assert [(cell.id, cell.cell_type, cell.source) for cell in opened.cells] == [
        ("cell-1", "markdown", r"# A \*title\*"),
        ("cell-2", "markdown", "**User**\n\nDraw it\n\nFiles: `a'b .png`"),
        ("cell-3", "code", "print(x)"),
        ("cell-4", "markdown", "**Assistant**\n\nok"),
    ]
    assert opened.cells[2].outputs == [{"output_type": "stream", "name": "stdout", "text": "1"}]


@pytest.mark.parametrize(
    ("content", "source"),
    [
        ("print(1)", "print(1)"),
        ("```python\nprint(1)\n```", "print(1)"),
        ("text\r\n```python\r\na\r\nb\r\n```\r\n", "a\nb"),
        ("```python\nprint('cut", "print('cut"),
        ("````\n```\n````", "```"),
        ("~~~\n    ~~~\n\u2028\x0c\n~~~", "    ~~~\n\u2028\x0c"),
        ("  ```\n  if x:\n      y\n z\n  ```", "if x:\n    y\nz"),
        ("say `x`", "say `x`"),
        ("", ""),
    ],
)
def test_the_code_is_that_of_the_last_fence_or_all(content: str, source: str) -> None:
    assert notebook(Conversation(Role.INTERPRETER, content)).cells[1].source == source


def test_outputs_are_kept_and_what_a_notebook_cannot_hold_becomes_text() -> None:
    valid = (
        {"output_type": "display_data", "data": {"image/png": "aGk="}, "metadata": {}},
        {"output_type": "error", "ename": "E", "evalue": "v", "traceback": ["t"]},
    )
    invalid = ({"output_type": "unknown", "名": 1}, {}, {"output_type": "stream", "name": "x", "text": 5})
    observation = Conversation(Role.OBSERVATION, "seen by the model", outputs=valid + invalid)
    kept = notebook(CODE, observation).cells[1].outputs
    assert kept[:2] == list(valid)
    assert kept[2] == {
        "output_type": "stream",
        "name": "stdout",
        "text": '{"output_type": "unknown", "名": 1}',
    }
    assert [output.output_type for output in kept[2:]] == ["stream"] * 3


def test_an_observation_of_a_tool_is_no_output_of_code() -> None:
    opened = notebook(
        CODE, Conversation(Role.TOOL, "call", tool="f"), Conversation(Role.OBSERVATION, "```\n22")
    )
    assert opened.cells[1].outputs == []
    assert opened.cells[3].source == "**Result**\n\n````\n```\n22\n````"


@settings(deadline=None)
@given(st.lists(conversations, max_size=4))
def test_any_conversation_makes_a_valid_notebook_and_always_the_same(messages: list[Conversation]) -> None:
    notebook(*messages)
    assert to_notebook("t", messages) == to_notebook("t", messages)


def test_every_export_can_be_encoded() -> None:
    messages = [replace(CODE, content="\ud800"), Conversation(Role.OBSERVATION, "\udfff")]
    to_markdown("\ud800", messages).encode()
    to_notebook("\ud800", messages).encode()


# File names


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("今天天气怎么样？", "今天天气怎么样？.md"),
        ("../../etc/passwd", "etc passwd.md"),
        ('a<b>:"c"|d?*\\e', "a b c d e.md"),
        ("..hidden. ", "hidden.md"),
        ("-rf /", "rf.md"),
        ("a\0\x1b[2J\u202egpj.exe\nb", "a[2Jgpj.exe b.md"),
        ("nul", "_nul.md"),
        ("Con.x", "_Con.x.md"),
        ("console", "console.md"),
        ("/.\\.", "conversation.md"),
        ("", "conversation.md"),
        ("\ud800", "conversation.md"),
    ],
)
def test_a_title_becomes_a_safe_file_name(title: str, name: str) -> None:
    assert file_name(title, ".md") == name


@given(st.text())
def test_no_file_name_is_too_long_hidden_or_a_path(title: str) -> None:
    name = file_name(title * 50, ".ipynb")
    assert len(name) <= 80
    assert len(name.encode()) <= 255
    assert name[0] not in ".- "
    assert not set('<>:"/\\|?*\n\0') & set(name)
