"""Imports without the search for garbage: what is imported stays out of later searches, and the search comes back."""

import gc

import pytest

from hstnn_deploy.cli.imports import unsearched


def test_what_is_imported_is_left_out_of_later_searches() -> None:
    before = gc.get_freeze_count()
    try:
        with unsearched():
            assert not gc.isenabled()
            held: list[list[int]] = [[] for _ in range(1000)]
        assert gc.isenabled()
        assert gc.get_freeze_count() >= before + len(held)
    finally:
        gc.unfreeze()


@pytest.mark.parametrize("on", [True, False])
def test_the_search_is_as_before_also_after_a_failed_import(on: bool) -> None:
    if not on:
        gc.disable()
    try:
        with pytest.raises(ImportError), unsearched():
            raise ImportError
        assert gc.isenabled() is on
    finally:
        gc.unfreeze()
        gc.enable()
