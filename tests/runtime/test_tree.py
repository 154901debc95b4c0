"""The branches of a conversation, as values."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC

import pytest

from conversation import Conversation, Role
from runtime.tree import Tree


def said(*contents: str) -> list[Conversation]:
    """Messages with these contents: the user's and the assistant's in turn."""
    return [
        Conversation(Role.ASSISTANT if place % 2 else Role.USER, text) for place, text in enumerate(contents)
    ]


def contents(tree: Tree, to: int | None = None) -> list[str]:
    return [message.content for message in tree.messages(to)]


@pytest.fixture
def tree() -> Tree:
    """0 one ─ 1 first ─ 2 two ─ 3 second, and beside 2 and 3 the branch 4 other ─ 5 third."""
    straight = Tree().add(None, said("one", "first", "two", "second"))
    return straight.add(1, said("other", "third"))


def test_an_empty_tree_has_no_path() -> None:
    assert Tree().path() == ()
    assert Tree().messages() == ()


def test_messages_that_are_added_follow_one_another_and_the_last_is_shown(tree: Tree) -> None:
    assert tree.head == 5
    assert tree.path() == (0, 1, 4, 5)
    assert contents(tree) == ["one", "first", "other", "third"]
    assert [node.parent for node in tree.nodes] == [None, 0, 1, 2, 1, 4]


def test_a_path_leads_to_any_message_of_any_branch(tree: Tree) -> None:
    assert tree.path(3) == (0, 1, 2, 3)
    assert contents(tree, 2) == ["one", "first", "two"]
    assert contents(tree, 0) == ["one"]


def test_nothing_added_shows_the_message_that_it_would_have_followed(tree: Tree) -> None:
    assert tree.add(3, []) == replace(tree, head=3)


def test_the_branches_of_a_message_are_those_with_the_same_parent(tree: Tree) -> None:
    assert tree.branches(2) == tree.branches(4) == (2, 4)
    assert tree.branches(3) == (3,)
    assert tree.branches(0) == (0,)
    assert tree.add(None, said("anew")).branches(0) == (0, 6)


def test_the_question_of_a_message_is_the_last_one_on_the_way_to_it(tree: Tree) -> None:
    assert [tree.question(number) for number in range(6)] == [0, 0, 2, 2, 4, 4]
    assert Tree().add(None, [Conversation(Role.ASSISTANT, "hello")]).question(0) is None


def test_a_message_is_replaced_in_its_place(tree: Tree) -> None:
    longer = tree.put(3, said("longer"))
    assert contents(longer) == ["one", "first", "two", "longer"]
    assert longer.nodes[3].created == tree.nodes[3].created
    assert longer.nodes[:3] == tree.nodes[:3]
    assert longer.nodes[4:] == tree.nodes[4:]


def test_of_several_messages_put_in_a_place_the_others_are_added_after_the_first(tree: Tree) -> None:
    more = tree.put(5, said("a", "b", "c"))
    assert contents(more) == ["one", "first", "other", "a", "b", "c"]
    assert more.path() == (0, 1, 4, 5, 6, 7)


def test_choosing_a_message_shows_the_newest_branch_that_leads_through_it(tree: Tree) -> None:
    assert tree.choose(2).path() == (0, 1, 2, 3)
    assert tree.choose(2).choose(4) == tree
    assert tree.choose(0) == tree
    assert tree.add(2, said("newest")).choose(4).choose(2).path() == (0, 1, 2, 6)


def test_a_tree_is_not_changed_by_what_is_made_of_it(tree: Tree) -> None:
    nodes, head = tree.nodes, tree.head
    tree.add(0, said("x"))
    tree.put(1, said("y"))
    tree.choose(2)
    assert (tree.nodes, tree.head) == (nodes, head)


def test_messages_carry_the_time_of_their_creation_in_utc(tree: Tree) -> None:
    times = [node.created for node in tree.nodes]
    assert times == sorted(times)
    assert all(time.tzinfo is UTC for time in times)


# Two that have grown out of one


def test_messages_added_in_two_trees_are_all_in_the_one_that_is_made_of_both(tree: Tree) -> None:
    here, there = tree.add(5, said("mine", "my answer")), tree.add(5, said("yours", "your answer"))
    both, places = here.rebased([6, 7], tree, there)
    assert both.nodes[: len(there.nodes)] == there.nodes
    assert places == {6: 8, 7: 9}
    assert contents(both) == ["one", "first", "other", "third", "mine", "my answer"]
    assert contents(both, 7) == ["one", "first", "other", "third", "yours", "your answer"]


def test_a_message_changed_in_only_one_of_two_trees_stays_in_its_place(tree: Tree) -> None:
    here, there = tree.put(5, said("longer")), tree.add(3, said("yours"))
    both, places = here.rebased([5], tree, there)
    assert places == {5: 5}
    assert contents(both) == ["one", "first", "other", "longer"]
    assert contents(both, 6) == ["one", "first", "two", "second", "yours"]


@pytest.mark.parametrize("change", [lambda tree: tree.put(5, said("x")), lambda tree: tree.add(5, said("x"))])
def test_a_message_changed_here_and_changed_or_answered_there_becomes_a_branch(
    tree: Tree, change: Callable[[Tree], Tree]
) -> None:
    there = change(tree)
    both, places = tree.put(5, said("longer")).rebased([5], tree, there)
    assert places == {5: len(there.nodes)}
    assert both.nodes[: len(there.nodes)] == there.nodes
    assert contents(both) == ["one", "first", "other", "longer"]
    assert both.branches(5) == (5, len(there.nodes))


def test_of_two_trees_the_branch_is_shown_that_was_chosen_here_or_else_the_one_there(tree: Tree) -> None:
    there = tree.add(3, said("yours"))
    assert tree.rebased([], tree, there) == (there, {})
    assert tree.choose(2).rebased([], tree, there)[0].head == 3
