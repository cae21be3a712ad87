"""Disturbances of values against closed forms: what each changes, how much of it, and that it is the same anywhere."""

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hstnn_deploy.data.splits import ArraySplit
from hstnn_deploy.disturbances.disturbance import Array, Disturbance, parse, stream
from hstnn_deploy.disturbances.inputs import DisturbedValues, range_of
from hstnn_deploy.disturbances.table import DISTURBANCES
from hstnn_deploy.disturbances.values import VALUES, Range
from hstnn_deploy.errors import UsageError

SPAN = Range(-1.0, 3.0)


def _apply(name: str, x: Array, level: float, draw: int = 0, number: int = 0) -> Array:
    return VALUES[name][1](x, level, SPAN, stream(name, draw, number))


def _sample(*shape: int) -> Array:
    return np.random.default_rng(5).uniform(-1, 3, shape).astype(np.float32)


def test_gaussian_noise_has_the_deviation_that_its_level_says() -> None:
    x = _sample(50, 400)
    noise = _apply("gaussian", x, 0.1) - x
    assert abs(noise.std() - 0.4) < 0.01
    assert abs(noise.mean()) < 0.01


def test_salt_and_pepper_sets_its_share_to_both_ends_evenly() -> None:
    x = np.full((50, 400), 1.0, np.float32)
    found = _apply("salt-pepper", x, 0.3)
    assert abs((found == -1).mean() - 0.15) < 0.01
    assert abs((found == 3).mean() - 0.15) < 0.01
    assert set(np.unique(found)) == {-1.0, 1.0, 3.0}


def test_lost_frames_are_zero_and_the_others_as_they_were() -> None:
    x = _sample(4000, 3)
    found = _apply("frame-loss", x, 0.25)
    lost = (found == 0).all(1)
    assert abs(lost.mean() - 0.25) < 0.03
    np.testing.assert_array_equal(found[~lost], x[~lost])


def test_a_repeated_frame_is_the_one_that_was_shown_before_it() -> None:
    x = np.arange(4000, dtype=np.float32)[:, None]
    found = _apply("frame-repeat", x, 0.4)[:, 0]
    repeats = found[1:] == found[:-1]
    assert abs(repeats.mean() - 0.4) < 0.03
    # What is fresh is the frame of its own time.
    np.testing.assert_array_equal(found[1:][~repeats], np.arange(1, 4000)[~repeats])


def test_jittered_frames_are_all_there_and_near_their_places() -> None:
    x = np.arange(1000, dtype=np.float32)[:, None]
    found = _apply("frame-jitter", x, 2.0)[:, 0]
    np.testing.assert_array_equal(np.sort(found), np.arange(1000))
    assert 0 < np.abs(found - np.arange(1000)).max() < 20


@pytest.mark.parametrize("shape", [(8, 8), (28, 28), (5, 2, 34, 34), (7, 3, 16, 24)])
@pytest.mark.parametrize("level", [0.1, 0.25, 0.5, 1.0])
def test_an_occlusion_is_a_rectangle_of_its_share(shape: tuple[int, ...], level: float) -> None:
    x = np.full(shape, 2.0, np.float32)
    found = _apply("occlusion", x, level)
    covered = found == -1
    frames = covered if len(shape) > 2 else covered[None, None]
    assert (frames == frames[0, 0]).all()
    rows, columns = np.flatnonzero(frames[0, 0].any(1)), np.flatnonzero(frames[0, 0].any(0))
    assert frames[0, 0][rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    # Each side is rounded to whole values.
    assert abs(covered.mean() - level) <= 0.5 / columns.size + 0.1 / rows.size


def test_contrast_moves_values_to_the_mean_of_the_sample() -> None:
    x = _sample(10, 20)
    found = _apply("contrast", x, 0.75)
    assert found.mean() == pytest.approx(x.mean(), abs=1e-5)
    assert found.std() == pytest.approx(0.25 * x.std(), rel=1e-4)
    np.testing.assert_allclose(_apply("contrast", x, 1.0), x.mean(), atol=1e-6)


def test_time_is_stretched_and_compressed_by_whole_steps() -> None:
    x = np.arange(4, dtype=np.float32)[:, None]
    assert _apply("stretch", x, 1.0)[:, 0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert _apply("compress", x, 1.0)[:, 0].tolist() == [0, 2]
    assert _apply("stretch", x, 0.5)[:, 0].tolist() == [0, 0, 1, 2, 2, 3]


def test_sign_noise_moves_each_value_by_its_level_within_the_range() -> None:
    x = np.full((20, 20), 1.0, np.float32)
    moved = _apply("sign-noise", x, 0.1)
    np.testing.assert_allclose(np.unique(moved), [0.6, 1.4], rtol=1e-6)
    assert _apply("sign-noise", np.full((20, 20), 3.0, np.float32), 0.1).max() == 3.0


MONOTONE: dict[str, Callable[[Array, Array], float]] = {
    "gaussian": lambda x, y: float(np.abs(y - x).mean()),
    "salt-pepper": lambda x, y: float((y != x).mean()),
    "frame-loss": lambda x, y: float((y != x).mean()),
    "occlusion": lambda x, y: float((y != x).mean()),
    "contrast": lambda x, y: -float(y.std()),
    "sign-noise": lambda x, y: float(np.abs(y - x).mean()),
    "stretch": lambda x, y: float(len(y)),
    "compress": lambda x, y: -float(len(y)),
}


@pytest.mark.parametrize("name", MONOTONE)
def test_a_higher_level_changes_more(name: str) -> None:
    x = _sample(40, 50)
    found = [MONOTONE[name](x, _apply(name, x, level)) for level in VALUES[name][0].levels]
    assert found == sorted(found)
    assert found[0] < found[-1]


@settings(deadline=None, max_examples=25)
@given(name=st.sampled_from(sorted(VALUES)), order=st.permutations(range(6)), size=st.integers(1, 6))
def test_a_sample_is_disturbed_alike_in_any_batch(name: str, order: list[int], size: int) -> None:
    split = ArraySplit(torch.from_numpy(_sample(6, 8, 4)), torch.arange(6))
    disturbed = DisturbedValues(split, name, VALUES[name][0].levels[0], 3, SPAN)
    whole = disturbed.batch(torch.arange(6), torch.device("cpu")).x
    part = disturbed.batch(torch.tensor(order[:size]), torch.device("cpu"))
    assert torch.equal(part.x, whole[:, order[:size]])
    assert part.target.tolist() == order[:size]


def test_draws_differ_and_are_the_same_in_another_process() -> None:
    x = _sample(6, 5)
    here = _apply("gaussian", x, 0.1, draw=2, number=7)
    assert not np.array_equal(here, _apply("gaussian", x, 0.1, draw=3, number=7))
    assert not np.array_equal(here, _apply("gaussian", x, 0.1, draw=2, number=8))
    code = (
        "import numpy as np; from hstnn_deploy.disturbances.disturbance import stream;"
        "from hstnn_deploy.disturbances.values import VALUES, Range;"
        "x = np.random.default_rng(5).uniform(-1, 3, (6, 5)).astype(np.float32);"
        "print(VALUES['gaussian'][1](x, 0.1, Range(-1.0, 3.0), stream('gaussian', 2, 7)).tobytes().hex())"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert here.tobytes().hex() == there


def test_the_range_leaves_out_what_lies_past_a_samples_length() -> None:
    split = ArraySplit(torch.tensor([[[0.5], [1.5]], [[1.0], [0.75]]]), torch.zeros(2, dtype=torch.long))
    assert range_of(split, 1) == Range(0.5, 1.5)
    flat = ArraySplit(torch.ones(2, 3, 1), torch.zeros(2, dtype=torch.long))
    with pytest.raises(UsageError, match="all values of the split are 1"):
        range_of(flat, 2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gausian", "unknown disturbance 'gausian'"),
        ("gaussian=-0.1", "level -0.1 must be 0 or more"),
        ("gaussian=nan", "must be"),
        ("frame-loss=1.5", "must be from 0 to 1"),
        ("weight-bits=1", "must be a whole number 0 (none), or from 2 to 16"),
        ("weight-bits=3.5", "must be a whole number"),
        ("gaussian=high", "'high' is not a number"),
        ("gaussian=", "'' is not a number"),
    ],
)
def test_levels_and_names_that_cannot_be_are_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text, DISTURBANCES)
    assert said in caught.value.message
    if text == "gausian":
        assert "gaussian" in caught.value.hint


def test_levels_go_from_weak_to_strong_each_once() -> None:
    def levels(text: str) -> tuple[Disturbance, list[float]]:
        return parse(text, DISTURBANCES)

    assert levels("gaussian=0.4,0.1,0,0.1")[1] == [0.1, 0.4]
    assert levels("weight-bits=2,8,4")[1] == [8, 4, 2]


@pytest.mark.parametrize(("rows", "columns"), [(784, 1), (1, 784), (100, 2), (28, 28), (8, 8), (50, 20)])
@pytest.mark.parametrize("level", [0.05, 0.1, 0.2, 0.4, 1.0])
def test_a_rectangle_covers_its_share_however_narrow_a_sample_is(rows: int, columns: int, level: float) -> None:
    covered = (_apply("occlusion", np.ones((rows, columns), np.float32), level) == SPAN.low).mean()
    # What rounding to whole values leaves: half a value of the longer side.
    assert abs(covered - level) <= 0.5 * min(rows, columns) / (rows * columns) + 1e-6


def test_a_level_beyond_all_numbers_is_refused() -> None:
    for name in ("gaussian", "weight-gaussian", "event-jitter", "weight-lognormal"):
        for level in ("inf", "1e40", "nan", "-1"):
            with pytest.raises(UsageError, match=f"{name}: level"):
                parse(f"{name}={level}", DISTURBANCES)
