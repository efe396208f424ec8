"""Threads are known by their descent, whatever the order in which they are started."""

from __future__ import annotations

from scheduler.descent import Descent


def test_a_thread_has_one_number_whoever_asks_first() -> None:
    descent = Descent()
    second = descent.number_of_child(0, 1)
    grandchild = descent.number_of("2.1")
    assert descent.number_of_child(second, 0) == grandchild
    assert descent.number_of_child(0, 1) == descent.number_of("2") == second


def test_numbers_and_paths_are_one_another_s_inverse() -> None:
    descent = Descent()
    paths = ["0", "3", "1", "3.1", "3.1.2", "1.10"]
    numbers = [descent.number_of(path) for path in paths]
    assert [descent.path_of(number) for number in numbers] == paths
    assert numbers[0] == 0
    assert len(set(numbers)) == len(paths)


def test_who_was_only_named_is_no_path_of_another() -> None:
    descent = Descent()
    assert descent.path_of(descent.number_of_child(0, 0)) == "1"
    assert descent.path_of(descent.number_of_child(0, 9)) == "10"
