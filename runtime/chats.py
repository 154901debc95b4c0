"""The conversations that are open in this process."""

import threading
from collections import OrderedDict

from runtime.chat import Chat
from runtime.errors import StoreError
from runtime.store import Heading, Store, Stored
from runtime.tree import now


class Chats:
    """The conversations that are open in this process, of all owners.

    The least recently used ones beyond `limit` are let go, but for those of which
    something is only in memory.
    """

    def __init__(self, store: Store, limit: int = 1000) -> None:
        self.store = store
        self._limit = limit
        self._lock = threading.Lock()
        self._chats: OrderedDict[tuple[str, str], Chat] = OrderedDict()

    def new(self, owner: str, mode: str, temporary: bool = False) -> Chat:
        """An empty conversation; it is stored, and found again, once a question was asked in it."""
        return Chat(owner, mode, None if temporary else self.store)

    def keep(self, chat: Chat) -> None:
        """Keep the conversation open."""
        with self._lock:
            self._keep(chat)

    def _keep(self, chat: Chat) -> None:
        self._chats[chat.owner, chat.id] = chat
        self._chats.move_to_end((chat.owner, chat.id))
        idle = [key for key, each in self._chats.items() if each is not chat and not each.unsaved]
        for key in idle[: max(0, len(self._chats) - self._limit)]:
            del self._chats[key]

    def open(self, owner: str, chat_id: str) -> Chat | None:
        """The owner's conversation with this id, as it is stored now; None if there is none (any more)."""
        with self._lock:
            chat = self._chats.get((owner, chat_id))
            if chat is not None:
                self._chats.move_to_end((owner, chat_id))
        if chat is not None and not chat.deleted:
            ahead = chat.temporary or chat.unsaved
            if ahead or chat.is_version(self.store.version(owner, chat_id)):
                return chat
        stored = self.store.load(owner, chat_id)
        if stored is None:
            return None
        with self._lock:
            other = self._chats.get((owner, chat_id))
            if other is not None and not other.deleted and (other is not chat or chat.answering):
                return other  # another tab was quicker
            chat = Chat(owner, stored.heading.mode, self.store, stored)
            self._keep(chat)
        return chat

    def stored(self, owner: str, chat_id: str) -> Stored | None:
        """The whole conversation as of now, with what is not yet saved; None if there is none."""
        chat = self.open(owner, chat_id)
        if chat is None:
            return None
        heading = Heading(chat.id, chat.mode, chat.title, False, now())
        return Stored(heading, chat.tree, chat.settings)

    def rename(self, owner: str, chat_id: str, title: str) -> None:
        self.store.rename(owner, chat_id, title)
        chat = self._chats.get((owner, chat_id))
        if chat is not None and title.strip():
            chat.title = title

    def delete(self, owner: str, chat_id: str) -> None:
        """Stop its answer and take it off the list; a temporary one is gone at once."""
        with self._lock:
            chat = self._chats.get((owner, chat_id))
            if chat is not None and chat.temporary:
                del self._chats[owner, chat_id]
        if chat is not None:
            chat.discard()
            if chat.temporary:
                return
        try:
            self.store.delete(owner, chat_id)
        except StoreError:
            if chat is not None:
                chat.deleted = False
            raise

    def restore(self, owner: str, chat_id: str) -> None:
        """Undo the deletion."""
        self.store.restore(owner, chat_id)
        with self._lock:
            chat = self._chats.get((owner, chat_id))
        if chat is not None:
            chat.deleted = False
