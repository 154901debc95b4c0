"""A conversation's messages in all their branches. Values only.

A message follows another; where two follow the same one, the conversation
branches. The head is the last message of the branch that is shown.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property

from conversation import Conversation, Role


def now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Node:
    """A message and the number of the one that it follows (None: it is a first one)."""

    parent: int | None
    message: Conversation
    created: datetime


@dataclass(frozen=True)
class Tree:
    """All messages, by their numbers 0, 1, …, in the order of their creation."""

    nodes: tuple[Node, ...] = ()
    head: int | None = None

    def path(self, to: int | None = None) -> tuple[int, ...]:
        """The messages from a first one to this one, or to the head."""
        number = self.head if to is None else to
        numbers = []
        while number is not None:
            numbers.append(number)
            number = self.nodes[number].parent
        return tuple(reversed(numbers))

    def messages(self, to: int | None = None) -> tuple[Conversation, ...]:
        """The messages of that path."""
        return tuple(self.nodes[number].message for number in self.path(to))

    def branches(self, number: int) -> tuple[int, ...]:
        """The messages that stand in the same place as this one, itself among them."""
        return tuple(self._followers[self.nodes[number].parent])

    @cached_property
    def _followers(self) -> dict[int | None, list[int]]:
        followers: dict[int | None, list[int]] = {}
        for number, node in enumerate(self.nodes):
            followers.setdefault(node.parent, []).append(number)
        return followers

    def question(self, number: int) -> int | None:
        """The last question on the way to this message."""
        questions = [each for each in self.path(number) if self.nodes[each].message.role is Role.USER]
        return questions[-1] if questions else None

    def add(self, parent: int | None, messages: Sequence[Conversation]) -> "Tree":
        """The messages added, one following the other, and the last shown."""
        nodes = list(self.nodes)
        for message in messages:
            nodes.append(Node(parent, message, now()))
            parent = len(nodes) - 1
        return Tree(tuple(nodes), parent)

    def put(self, number: int, messages: Sequence[Conversation]) -> "Tree":
        """The first message in the place of number `number`, the others added after it."""
        first, *others = messages
        nodes = list(self.nodes)
        nodes[number] = replace(nodes[number], message=first)
        return Tree(tuple(nodes)).add(number, others)

    def rebased(
        self, changed: Collection[int], before: "Tree", other: "Tree"
    ) -> tuple["Tree", dict[int, int]]:
        """The messages changed here put into another tree, and where they stand in it.

        Both trees have grown out of the one `before`. A message that has changed or was
        answered in the other one, too, becomes a branch there.
        """
        nodes, places = list(other.nodes), dict[int, int]()
        answered = {node.parent for node in other.nodes[len(before.nodes) :]}
        for number in sorted(changed):
            node, old = self.nodes[number], before.nodes[number : number + 1]
            if old and old == other.nodes[number : number + 1] and number not in answered:
                places[number] = number
                nodes[number] = node
            else:
                places[number] = len(nodes)
                parent = node.parent if node.parent is None else places.get(node.parent, node.parent)
                nodes.append(replace(node, parent=parent))
        head = other.head if self.head == before.head else self.head
        if self.head is not None and self.head in places:
            head = places[self.head]
        return Tree(tuple(nodes), head), places

    def choose(self, number: int) -> "Tree":
        """The branch shown that leads through this message: on from it, always the newest one."""
        children = {node.parent: child for child, node in enumerate(self.nodes)}
        while number in children:
            number = children[number]
        return replace(self, head=number)
