"""Keys and values of tokens that the model has read, kept so that it need not read them again.

A `KVCache` knows its tokens, so a new prompt can take over the longest prefix
that it shares with one. `PrefixCaches` keeps several, within a bound of memory.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from transformers.cache_utils import Cache, DynamicLayer

# A layer grows by this many tokens at the least, and by a quarter of its length.
GROWTH = 256


class GrowingLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """A DynamicLayer that writes in place into spare room.

    DynamicLayer concatenates, that is, copies all keys and values for each new
    token. Shape of keys and values: [batch, heads, length, head_dim].
    """

    keys: torch.Tensor
    values: torch.Tensor

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._key_room, self._value_room = _room_for(key_states, 0), _room_for(value_states, 0)
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        if end > self._key_room.shape[-2]:
            self._key_room = _copied(self.keys, _room_for(key_states, start))
            self._value_room = _copied(self.values, _room_for(value_states, start))
        self._key_room[..., start:end, :] = key_states
        self._value_room[..., start:end, :] = value_states
        self.keys = self._key_room[..., :end, :]
        self.values = self._value_room[..., :end, :]
        return self.keys, self.values

    @property
    def nbytes(self) -> int:
        return self._key_room.nbytes + self._value_room.nbytes if self.is_initialized else 0

    def copy(self, length: int) -> "GrowingLayer":
        """A layer of its own with the first `length` tokens."""
        layer = GrowingLayer()  # type: ignore[no-untyped-call]
        if self.is_initialized and length:
            layer.update(self.keys[..., :length, :], self.values[..., :length, :])
        return layer


def _room_for(new_states: torch.Tensor, length: int) -> torch.Tensor:
    batch, heads, new, head_dim = new_states.shape
    needed = length + new
    return new_states.new_empty(batch, heads, needed + max(GROWTH, needed // 4), head_dim)


def _copied(states: torch.Tensor, room: torch.Tensor) -> torch.Tensor:
    room[..., : states.shape[-2], :] = states
    return room


class KVCache(Cache):
    """The keys and values of `token_ids`, for one sequence; passed as `past_key_values`."""

    def __init__(self) -> None:
        super().__init__(layer_class_to_replicate=GrowingLayer)
        self.token_ids: list[int] = []

    @property
    def growing_layers(self) -> list[GrowingLayer]:
        return cast(list[GrowingLayer], self.layers)

    def keep_prefix_of(self, prompt_ids: Sequence[int]) -> int:
        """Cut back to what it shares with a prompt; returns how many tokens that is.

        The prompt's last token is never counted: its logits are needed.
        """
        shared = shared_prefix(self.token_ids, prompt_ids[:-1])
        self.crop(shared - self.get_seq_length())  # a negative number removes that many
        self.token_ids = self.token_ids[:shared]
        return shared

    def copy(self, length: int) -> "KVCache":
        """A cache of its own with the first `length` tokens."""
        copy = KVCache()
        copy.layers = [layer.copy(length) for layer in self.growing_layers]
        copy.token_ids = self.token_ids[:length]
        return copy

    @property
    def nbytes(self) -> int:
        return sum(layer.nbytes for layer in self.growing_layers)


def shared_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """How many leading tokens two sequences share."""
    shorter = min(len(first), len(second))
    return next((i for i in range(shorter) if first[i] != second[i]), shorter)


class PrefixCaches:
    """The KV caches of recent prompts, least recently used first, of at most `max_bytes`.

    Owned by whoever generates: not for use from two threads at once.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._kept: list[KVCache] = []

    def take(self, prompt_ids: Sequence[int]) -> KVCache:
        """A cache that begins like the prompt, cut back to what they share.

        The caller owns it, until it is given back by `keep`.
        """
        best = max(self._kept, key=lambda cache: shared_prefix(cache.token_ids, prompt_ids), default=None)
        shared = shared_prefix(best.token_ids, prompt_ids) if best else 0
        if best is None or shared == 0:
            return KVCache()
        if 2 * shared < len(best.token_ids):  # another conversation with the same beginning
            cache = best.copy(shared)
        else:
            self._kept.remove(best)
            cache = best
        cache.keep_prefix_of(prompt_ids)
        return cache

    def keep(self, cache: KVCache) -> None:
        """Keep a cache as the most recent, and let go of the oldest beyond the bound.

        One that is larger than the bound is not kept, and displaces no other.
        """
        if not cache.token_ids or cache.nbytes > self._max_bytes:
            return
        self._kept.append(cache)
        while self.nbytes > self._max_bytes:
            self._kept.pop(0)

    def clear(self) -> None:
        self._kept.clear()

    @property
    def nbytes(self) -> int:
        return sum(cache.nbytes for cache in self._kept)
