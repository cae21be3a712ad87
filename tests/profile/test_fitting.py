"""The search for the largest batch that fits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hstnn_deploy.profile.plan.plan import plan
from hstnn_deploy.profile.record import Configuration, Record
from hstnn_deploy.profile.run import fitting
from hstnn_deploy.profile.values import Measured, NotMeasured
from hstnn_deploy.recipe.recipe import Recipe


@given(st.integers(0, 70_000), st.integers(1, 65_536))
def test_the_search_ends_close_below_what_does_not_fit(largest: int, most: int) -> None:
    tried: list[int] = []

    def fits(batch: int) -> bool:
        tried.append(batch)
        return batch <= largest

    found, not_any_more = fitting.search(fits, most)
    assert len(tried) == len(set(tried)) <= 24
    assert max(tried) <= most
    if largest >= most:
        assert (found, not_any_more) == (most, None)
    else:
        assert found <= largest
        assert not_any_more is not None
        assert largest < not_any_more <= found + max(1, found // 16)


def test_where_not_even_one_fits_no_other_is_tried() -> None:
    tried: list[int] = []

    def fits(batch: int) -> bool:
        tried.append(batch)
        return False

    assert fitting.search(fits, 1000) == (0, 1)
    assert tried == [64, 1]


def test_batches_are_no_axis_of_a_search_and_every_way_of_running_is_searched_once(tiny: Recipe) -> None:
    planned = plan([tiny], gpus=[None], engines=["fused", "onnxruntime"], batches=[1, 10], train_batches=[5, 50])
    searched = fitting.searches(planned)
    assert [(each.phase, each.engine) for each in searched] == [
        ("train", "fused"),
        ("infer", "fused"),
        ("infer", "onnxruntime"),
    ]
    assert all(each.find_batch and each.batch == 1 for each in searched)


@pytest.mark.parametrize("fitting_batches", [0, 10**9])
def test_a_search_without_an_end_says_so(tiny: Recipe, monkeypatch: pytest.MonkeyPatch, fitting_batches: int) -> None:
    def run(asked: list[Configuration], *_: object) -> list[Record]:
        fits = asked[0].batch <= fitting_batches
        return [Record(asked[0], "measured" if fits else "failed", reason="" if fits else "no device")]

    monkeypatch.setattr("hstnn_deploy.profile.run.launch.run", run)
    (search,) = fitting.searches(plan([tiny], phases=["train"], gpus=[None]))
    (record,) = fitting.run([search])
    if not fitting_batches:
        assert (record.status, record.reason) == ("failed", "no device")
        return
    largest = record.value("largest_batch")
    assert isinstance(largest, Measured)
    # 1437 samples, of which a tenth is held out.
    assert largest.number == 1293
    assert largest.note == "larger batches were not tried: there are 1293 samples to train on"
    assert isinstance(record.value("smallest_batch_not"), NotMeasured)
