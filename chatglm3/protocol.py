"""ChatGLM3's output protocol: the text of an answer to its messages.

The model writes `metadata\\n content`, and may begin a further message with
`<|assistant|>`. Format: ChatGLM3's PROMPT.md, as its `process_response` reads it.
Text is only sorted here, never interpreted.
"""

import re
from collections.abc import Iterable, Iterator

from chatglm3.events import MessageStart, TextDelta
from chatglm3.generation import Token
from chatglm3.prompt import ChatTokenizer

# A header line is a tool's name; what is longer, or has a space or other
# punctuation in it, is the answer itself, from a model that leaves the header out.
MAX_HEADER = 64
_NAME = re.compile(r"[\w./:-]*")


def iter_events(
    tokens: Iterable[Token], tokenizer: ChatTokenizer, going_on_with: str | None = None
) -> Iterator[MessageStart | TextDelta]:
    """The messages of an answer as they come.

    When the model goes on with a message that has begun, that one's metadata is given.
    """
    parser = MessageParser(going_on_with)
    for token in tokens:
        yield from parser.decode(token.text)
        if token.id == tokenizer.assistant_token_id:
            yield from parser.flush()
            parser = MessageParser()
    yield from parser.flush()


class MessageParser:
    """Splits one message's text into its header and content.

    Around the content of a plain answer white space is dropped; in that of a call
    only the space that SentencePiece puts before every text. The joined deltas are
    the same however the text was cut up.
    """

    def __init__(self, going_on_with: str | None = None) -> None:
        begun = going_on_with is not None
        self._header: str | None = None if begun else ""  # what may be the header line; None once it is over
        self._held = ""  # white space that is content only if more text follows
        self._at_start = not begun
        self._is_call = bool(going_on_with)

    def decode(self, text: str) -> Iterator[MessageStart | TextDelta]:
        """The events that this piece of text completes."""
        if self._header is None:
            yield from self._content(text)
            return
        self._header += text
        line, newline, rest = self._header.partition("\n")
        name = line.strip()
        if newline and _is_name(name):
            yield from self._start(name, rest)
        elif name and not _is_name(name):
            yield from self._start("", self._header)

    def flush(self) -> Iterator[MessageStart | TextDelta]:
        """The events at the message's end."""
        if self._header:
            yield from self._start("", self._header)

    def _start(self, metadata: str, rest: str) -> Iterator[MessageStart | TextDelta]:
        self._header = None
        self._is_call = bool(metadata)
        yield MessageStart(metadata)
        yield from self._content(rest)

    def _content(self, text: str) -> Iterator[TextDelta]:
        text = self._held + text
        self._held = ""
        if self._at_start and text:
            text = text.removeprefix(" ") if self._is_call else text.lstrip()
            self._at_start = not (text or self._is_call)
        if not self._is_call:
            shown = text.rstrip()
            self._held = text[len(shown) :]
            text = shown
        if text:
            yield TextDelta(text)


def _is_name(text: str) -> bool:
    return len(text) <= MAX_HEADER and _NAME.fullmatch(text) is not None
