"""A conversation that is open, and the answer that is being written to it.

Pages (several tabs, several reruns) call a `Chat` from their threads. The job that
answers runs on a thread of its own, whether or not any page is still there; beside it
a second one saves, at most once a second, what has come. All state is immutable
values, swapped under the chat's lock; whoever saves holds its other lock, `_saving`,
so that versions follow each other. That one is taken first.
"""

import logging
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from chatglm3.errors import ChatGLM3Error
from chatglm3.events import Finished
from conversation import Conversation, Ending, Failure, Metrics, Role
from runtime.answers import ENDINGS, Answer, Generate, advance, metrics_of
from runtime.errors import BusyError, ConflictError, DeletedError, StoreError
from runtime.jobs import Job
from runtime.store import Heading, Store, Stored
from runtime.tree import Tree, now

SECONDS_BETWEEN_SAVES = 1.0

TITLE_LENGTH = 60  # characters, of a title made from the first question

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shown:
    """A message of the branch that is shown; `branches` are the numbers that stand in its place."""

    number: int
    message: Conversation
    branches: tuple[int, ...]


@dataclass(frozen=True)
class Snapshot:
    """A conversation at one moment: what is finished, and the answer being written, if one is."""

    messages: tuple[Shown, ...] = ()
    answer: Answer | None = None
    save_failure: Failure | None = None  # why the newest part of it is only in memory

    @property
    def history(self) -> tuple[Conversation, ...]:
        return tuple(shown.message for shown in self.messages)


class Chat:
    """One conversation of one owner. Without a store it is temporary: nothing of it is kept."""

    def __init__(self, owner: str, mode: str, store: Store | None = None, stored: Stored | None = None):
        self.owner = owner
        self.id = stored.heading.id if stored else secrets.token_urlsafe(12)  # cannot be guessed
        self.mode = mode
        self.title = ""
        self.deleted = False
        self._store = store
        self._lock = threading.Lock()
        self._saving = threading.Lock()
        self._tree = Tree()
        self._settings: dict[str, Any] = {}
        self._job: Job[Answer] | None = None
        self._start = 0  # the number of the answer's first message
        self._last_job: Job[Answer] | None = None
        self._version: int | None = None  # as stored; None before it is
        self._stored = Tree()  # as of that version
        self._unsaved: frozenset[int] = frozenset()
        self._save_failure: Failure | None = None
        if stored:
            self._tree, self._stored, self._version = stored.tree, stored.tree, stored.version
            self._settings, self.title = stored.settings, stored.heading.title

    @property
    def temporary(self) -> bool:
        return self._store is None

    @property
    def empty(self) -> bool:
        return not self._tree.nodes

    @property
    def answering(self) -> bool:
        return self._job is not None

    @property
    def unsaved(self) -> bool:
        """Whether something of it is only in memory that should be stored."""
        if self._store is None:
            return self.answering
        return self.answering or bool(self._unsaved) or self._saving.locked()

    @property
    def settings(self) -> dict[str, Any]:
        """The settings last used in it."""
        return self._settings

    @property
    def tree(self) -> Tree:
        """All its messages; an answer that is being written stands there as interrupted."""
        with self._lock:
            return self._grown_tree()

    def snapshot(self) -> Snapshot:
        with self._lock:
            tree, job = self._tree, self._job
            path = tree.path()
            if job:
                path = path[: path.index(self._start)]
            shown = tuple(Shown(n, tree.nodes[n].message, tree.branches(n)) for n in path)
            return Snapshot(shown, job.state if job else None, self._save_failure)

    # What a person does

    def ask(self, question: str, generate: Generate) -> None:
        """Add a question and answer it. This and what follows raise BusyError while another is answered."""
        self._begin(lambda tree: _asked(tree, tree.head, question), generate)

    def edit(self, number: int, question: str, generate: Generate) -> None:
        """Ask another question in the place of message `number`, as a branch of its own."""
        self._begin(lambda tree: _asked(tree, tree.nodes[number].parent, question), generate)

    def retry(self, generate: Generate) -> None:
        """Answer the last question again, as a branch of its own."""
        self._begin(_retried, generate)

    def go_on(self, generate: Generate) -> None:
        """Let the model go on with its last message."""
        self._begin(_continued, generate)

    def choose(self, number: int) -> None:
        """Show the branch that leads through this message."""
        with self._lock:
            self._check()
            self._tree = self._tree.choose(number)
        self._save()

    def configure(self, settings: dict[str, Any]) -> None:
        """Keep the settings for when the conversation is opened again."""
        if settings != self._settings:
            self._settings = dict(settings)
            if self._version is not None:
                self._save()

    def stop(self) -> None:
        """End the answer early; what was written stays."""
        job = self._job
        if job:
            job.stop()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing is being answered and all is saved; whether that came."""
        job = self._last_job
        return job is None or job.wait(timeout)

    def discard(self) -> None:
        """Stop the answer, and let nobody ask any more."""
        with self._saving, self._lock:  # a first save that has begun is over then
            self.deleted = True
        self.stop()

    def is_version(self, version: int | None) -> bool:
        """Whether this is what is stored under that version."""
        return self._version == version

    # Answering

    def _check(self) -> None:
        if self.deleted:
            raise DeletedError
        if self._job is not None:
            raise BusyError

    def _begin(self, prepare: Callable[[Tree], tuple[Tree, int | None]], generate: Generate) -> None:
        """Answer at the number that `prepare` names, in the tree that it makes."""
        with self._lock:
            self._check()  # without waiting for a save
        with self._saving:
            while True:
                with self._lock:
                    self._check()
                    before = self._tree, self._unsaved
                    tree, start = prepare(self._tree)
                    if start is None:  # nothing was asked yet
                        return
                    job = self._prepared(tree, start, generate)
                try:
                    self._write()
                    break
                except ConflictError:  # it grew elsewhere: ask in what it is now
                    self._take_back(*before)
                    self._rebase()
                except StoreError as error:
                    self._tell(error)
                    break
                except BaseException:
                    self._take_back(*before)
                    raise
            self._last_job = job.start()

    def _prepared(self, tree: Tree, start: int, generate: Generate) -> Job[Answer]:
        """The job that answers at this number of the tree, not yet started."""
        answered = tree.nodes[start].message
        going_on_with = answered if answered.content else None
        answer = Answer.begin(generate.request, going_on_with)
        history = tree.messages(start if going_on_with else tree.nodes[start].parent)
        job = Job[Answer](lambda job: self._answer(job, history, generate), answer, "answer")
        self._unsaved |= {start, *range(len(self._tree.nodes), len(tree.nodes))}
        self._tree, self._start, self._job = tree, start, job
        self.title = self.title or _title(tree)
        return job

    def _take_back(self, tree: Tree, unsaved: frozenset[int]) -> None:
        with self._lock:
            self._tree, self._unsaved, self._job = tree, unsaved, None

    def _answer(self, job: Job[Answer], history: tuple[Conversation, ...], generate: Generate) -> None:
        ending: Ending = "failed"
        error: Failure | None = None
        metrics: Metrics | None = None
        try:
            with self._saved_as_it_grows(job):
                for event in generate(history, cancellation=job.cancellation):
                    if isinstance(event, Finished):
                        ending, metrics = ENDINGS[event.reason], metrics_of(event.usage)
                    else:
                        job.publish(advance(job.state, event))
        except (ChatGLM3Error, ValueError) as expected:
            error = Failure.of(expected)
        except Exception as unexpected:  # the page must say something, whatever failed
            logger.exception("Answering failed")
            kind = type(unexpected).__name__
            sentence = f"Answering failed unexpectedly ({kind}); the log has the details."
            error = Failure(sentence, "unexpected", {"kind": kind})
        finally:
            self._finish(job.state.ended(ending, error, metrics))

    def _finish(self, messages: tuple[Conversation, ...]) -> None:
        with self._lock:
            before = len(self._tree.nodes)
            self._tree = self._tree.put(self._start, messages)
            self._unsaved |= {self._start, *range(before, len(self._tree.nodes))}
            self._job = None
        self._save()

    # Saving

    @contextmanager
    def _saved_as_it_grows(self, job: Job[Answer]) -> Iterator[None]:
        over = threading.Event()

        def save() -> None:
            saved = job.state.ended("interrupted")
            while not over.wait(SECONDS_BETWEEN_SAVES):
                if (grown := job.state.ended("interrupted")) != saved:
                    self._save()
                    saved = grown

        saver = threading.Thread(target=save, name="save", daemon=True)
        if self._store is not None:
            saver.start()
        try:
            yield
        finally:
            over.set()
            if self._store is not None:
                saver.join()

    def _grown_tree(self) -> Tree:
        if self._job is None:
            return self._tree
        return self._tree.put(self._start, self._job.state.ended("interrupted"))

    def _save(self) -> None:
        """Store what is not yet stored; what fails is told, and waits for the next time."""
        with self._saving, suppress(DeletedError):
            try:
                while not self._saved():
                    self._rebase()
            except StoreError as error:
                self._tell(error)

    def _saved(self) -> bool:
        """Whether it could be stored; not if another process has changed it."""
        try:
            self._write()
        except ConflictError:
            return False
        return True

    def _write(self) -> None:
        """Store what is not yet stored. Raises StoreError, and DeletedError if that is over."""
        if self._store is None or (self.deleted and self._version is None):
            return
        with self._lock:
            tree, version, settings = self._grown_tree(), self._version, self._settings
            unsaved, self._unsaved = self._unsaved, frozenset()
            answer = {self._start, *range(len(self._tree.nodes), len(tree.nodes))} if self._job else set()
        try:
            if version is None:
                heading = Heading(self.id, self.mode, self.title, False, now())
                version = self._store.create(self.owner, Stored(heading, tree, settings))
            else:
                changed = {number: tree.nodes[number] for number in sorted(unsaved | answer)}
                version = self._store.save(self.owner, self.id, version, changed, tree.head, settings)
        except LookupError:
            self.deleted = True
            raise DeletedError from None
        except BaseException:
            with self._lock:
                self._unsaved |= unsaved
            raise
        with self._lock:
            self._version, self._stored, self._save_failure = version, tree, None

    def _tell(self, error: StoreError) -> None:
        logger.error("A conversation could not be saved: %s", error)
        with self._lock:
            self._save_failure = Failure.of(error)

    def _rebase(self) -> None:
        """Put what is not stored yet on top of what another process has stored meanwhile."""
        assert self._store is not None
        stored = self._store.load(self.owner, self.id)
        with self._lock:
            if stored is None:
                self.deleted, self._unsaved = True, frozenset()
                raise DeletedError
            changed = self._unsaved | ({self._start} if self._job else set())
            self._tree, places = self._tree.rebased(changed, self._stored, stored.tree)
            self._start = places.get(self._start, self._start)
            self._unsaved = frozenset(places.values())
            self._stored, self._version = stored.tree, stored.version
            self.title = stored.heading.title


def _asked(tree: Tree, parent: int | None, question: str) -> tuple[Tree, int]:
    """The question added, and an empty answer; both are stored before the model begins."""
    return _awaiting(tree.add(parent, [Conversation(Role.USER, question)]))


def _retried(tree: Tree) -> tuple[Tree, int | None]:
    question = None if tree.head is None else tree.question(tree.head)
    if tree.head is None or question is None:
        return tree, None
    if not tree.nodes[tree.head].message.content and tree.nodes[tree.head].parent == question:
        return tree, tree.head  # an answer without a word needs no branch of its own
    return _awaiting(replace(tree, head=question))


def _continued(tree: Tree) -> tuple[Tree, int | None]:
    if tree.head is not None and tree.nodes[tree.head].message.role.speaker == "assistant":
        return tree, tree.head
    return _retried(tree)


def _awaiting(tree: Tree) -> tuple[Tree, int]:
    longer = tree.add(tree.head, [Conversation(Role.ASSISTANT, "", ending="interrupted")])
    return longer, len(tree.nodes)


def _title(tree: Tree) -> str:
    words = " ".join(tree.nodes[0].message.content.split())
    return words if len(words) <= TITLE_LENGTH else words[: TITLE_LENGTH - 1].rstrip() + "…"
