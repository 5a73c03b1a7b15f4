"""What the journal makes of workers that die: whom it blames, and whom not."""

from __future__ import annotations

import pytest

from stages.engine.journal import DEATHS_BETWEEN, Journal, Lost


@pytest.fixture
def nodes() -> set[str]:
    return {"a", "b"}


@pytest.fixture
def journal(nodes: set[str]) -> Journal:
    return Journal(lambda: nodes)


def test_a_first_worker_knows_nothing_and_its_death_blames_nobody(journal: Journal) -> None:
    assert journal.begin("unit", "a").number == 1
    second = journal.begin("unit", "a")
    assert (second.number, second.lost, second.suspect, second.results) == (2, {}, None, {})


def test_an_item_that_ends_two_workers_alone_is_given_up_and_no_other(journal: Journal) -> None:
    journal.begin("unit", "a")
    journal.begin("unit", "a")
    journal.at("unit", 0)
    journal.keep("unit", 0, b"zero")
    journal.at("unit", 1)
    third = journal.begin("unit", "b")
    assert (third.lost, third.suspect, third.results) == ({}, 1, {0: b"zero"})
    journal.at("unit", 1)
    fourth = journal.begin("unit", "a")
    assert (fourth.lost, fourth.suspect, fourth.results) == ({1: Lost.DIED}, None, {0: b"zero"})


def test_an_item_that_does_well_the_second_time_is_no_suspect(journal: Journal) -> None:
    for _ in range(2):
        journal.begin("unit", "a")
    journal.at("unit", 3)
    assert journal.begin("unit", "a").suspect == 3
    journal.at("unit", 3)
    journal.keep("unit", 3, b"three")
    again = journal.begin("unit", "a")
    assert (again.lost, again.suspect, again.results) == ({}, None, {3: b"three"})


def test_who_goes_with_its_node_is_not_to_blame(journal: Journal, nodes: set[str]) -> None:
    for node in ("a", "b"):
        journal.begin("unit", node)
        journal.at("unit", 0)
        nodes.remove(node)
    last = journal.begin("unit", "c")
    assert (last.lost, last.suspect) == ({}, None)


def test_a_slow_item_is_given_up_the_first_time(journal: Journal) -> None:
    journal.begin("unit", "a")
    journal.begin("unit", "a")
    journal.at("unit", 2)
    journal.slow("unit")
    assert journal.begin("unit", "a").lost == {2: Lost.SLOW}


def test_a_unit_that_ends_workers_between_its_items_is_an_error_in_the_end(journal: Journal) -> None:
    for _ in range(1 + DEATHS_BETWEEN):
        journal.begin("unit", "a")
    with pytest.raises(RuntimeError, match=f"{DEATHS_BETWEEN} workers died one after another"):
        journal.begin("unit", "a")


def test_a_unit_that_is_done_is_forgotten_and_others_are_not(journal: Journal) -> None:
    for unit in ("one", "two"):
        journal.begin(unit, "a")
    journal.end("one")
    assert journal.begin("one", "a").number == 1
    assert journal.begin("two", "a").number == 2


def test_a_journal_that_began_anew_goes_on(journal: Journal) -> None:
    """Its actor may be restarted with nothing in it, in the middle of a unit."""
    journal.at("unit", 1)
    assert journal.begin("unit", "a").number == 2
    journal.keep("other", 0, b"zero")
    assert journal.begin("other", "a").results == {0: b"zero"}
