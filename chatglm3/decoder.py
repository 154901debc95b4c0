"""Token ids to text, one token at a time.

Not a tokenizer: it needs only each token's bytes. The work per token does not
depend on how much came before, and a character whose bytes are spread over
several tokens is shown when its last byte has come, never in part.
"""

import codecs
from collections.abc import Callable


class IncrementalDecoder:
    """Decodes a stream of token ids into text.

    The texts that `decode` returned, joined, followed by `flush()`, are the
    text of all ids; bytes that are no UTF-8 become U+FFFD.
    """

    def __init__(self, token_bytes: Callable[[int], bytes]) -> None:
        self._token_bytes = token_bytes
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def decode(self, token_id: int) -> str:
        """The text that this token completes; "" while a character is incomplete."""
        return self._utf8.decode(self._token_bytes(token_id))

    def flush(self) -> str:
        """The text of what is still held back, and a fresh start."""
        text = self._utf8.decode(b"", final=True)
        self._utf8.reset()
        return text
