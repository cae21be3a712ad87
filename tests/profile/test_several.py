"""Several processes of one configuration: their median in tables, how far they lie apart, and their doubts."""

from dataclasses import replace

import pytest

from hstnn_deploy.errors import UsageError
from hstnn_deploy.profile import caveats
from hstnn_deploy.profile.plan.plan import plan
from hstnn_deploy.profile.record import Record
from hstnn_deploy.profile.run import launch
from hstnn_deploy.profile.show import report, several
from hstnn_deploy.profile.values import Measured, NotMeasured
from hstnn_deploy.recipe.recipe import Recipe
from tests.profile.conftest import changed, configured, measured


def processes(recipe: Recipe, *medians: float) -> list[Record]:
    """Return records of one configuration, a process for each median in seconds."""
    asked = configured(recipe, "infer")
    return [
        measured(replace(asked, repeat=number), latency_p50=level, latency_p99=2 * level)
        for number, level in enumerate(medians, 1)
    ]


def shown(records: list[Record], width: int = 80) -> str:
    return report.text(records, width)


def test_a_plan_is_repeated_in_turns_and_what_is_counted_once(tiny: Recipe) -> None:
    planned = plan([tiny], phases=["work", "infer"], engines=["fused"], batches=[1, 2], gpus=[None], repeats=3)
    asked = [(each.phase, each.batch, each.repeat) for each in planned]
    assert asked == [
        ("work", 200 if tiny.batch == 200 else 100, 1),
        *(("infer", batch, number) for number in (1, 2, 3) for batch in (1, 2)),
    ]
    assert (
        planned == plan([tiny], phases=["work", "infer"], engines=["fused"], batches=[1, 2], gpus=[None]) + planned[3:]
    )
    with pytest.raises(UsageError, match="--repeats 0 is not a positive number"):
        plan([tiny], repeats=0, gpus=[None])


def test_instances_of_a_repeat_stay_together(tiny: Recipe) -> None:
    planned = plan([tiny], phases=["infer"], engines=["fused"], batches=[1], gpus=[None], repeats=2, instances=2)
    assert [(each.repeat, each.instance) for each in planned] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert planned[0].together == planned[1].together != planned[2].together


def test_more_repeats_are_measured_besides_those_that_are_there(tiny: Recipe) -> None:
    asked = {"phases": ["infer"], "engines": ["fused"], "batches": [1], "gpus": [None]}
    old = [measured(each) for each in plan([tiny], repeats=2, **asked)]  # type: ignore[arg-type]
    fresh: list[int] = []

    def measure(rest: object) -> object:
        for each in rest:  # type: ignore[attr-defined]
            fresh.append(each.repeat)
            yield measured(each)

    again = list(launch.resumed(plan([tiny], repeats=4, **asked), old, measure))  # type: ignore[arg-type]
    assert [each.configuration.repeat for each in again] == [1, 2, 3, 4]
    assert fresh == [3, 4]


def test_a_table_gives_the_median_over_processes(tiny: Recipe) -> None:
    (one,) = several.middle(processes(tiny, 0.001, 0.009, 0.002))
    value = one.value("latency_p50")
    assert isinstance(value, Measured)
    assert value.number == 0.002
    assert value.source == "a test; median of 3 processes"
    assert one.configuration.repeat == 1
    assert isinstance(one.value("cuda_process"), NotMeasured)


def test_a_value_that_one_process_lacks_has_no_median(tiny: Recipe) -> None:
    first, second = processes(tiny, 0.001, 0.002)
    values = [NotMeasured("latency_p50", "why not") if v.name == "latency_p50" else v for v in second.values]
    (one,) = several.middle([first, replace(second, values=values)])
    assert one.value("latency_p50") == NotMeasured("latency_p50", "why not")


def test_a_process_that_failed_is_left_out_and_counted(tiny: Recipe) -> None:
    first, second, third = processes(tiny, 0.001, 0.002, 0.003)
    failed = replace(second, status="failed", reason="killed", values=[])
    (one,) = several.middle([failed, first, third])
    assert one.status == "measured"
    assert one.value("latency_p50").plain()["value"] == 0.002
    assert "2 of 3" in shown([failed, first, third])
    (none,) = several.middle([failed])
    assert none.status == "failed"


@pytest.mark.parametrize("width", [60, 80, 100])
def test_how_far_processes_lie_apart_is_shown_whole(tiny: Recipe, width: int) -> None:
    text = shown(processes(tiny, 0.0123, 0.0098, 0.0456), width)
    for figure in ("12.3 ms", "9.80 ms", "45.6 ms"):
        assert figure in text
    assert "Each configuration ran in 3 processes" in " ".join(text.split())
    assert several.spread(processes(tiny, 0.1)) is None


def test_what_was_measured_twice_is_not_mixed(tiny: Recipe) -> None:
    before, after = processes(tiny, 0.001, 0.002), processes(tiny, 0.003, 0.004, 0.005)
    groups = several.grouped([*before, *after])
    assert [[each.configuration.repeat for each in group] for group in groups] == [[1, 2], [1, 2, 3]]
    assert [one.value("latency_p50").plain()["value"] for one in several.middle([*before, *after])] == [0.0015, 0.004]


def test_of_one_process_the_report_says_what_a_comparison_needs(tiny: Recipe) -> None:
    said = " ".join(shown(processes(tiny, 0.001)).split())
    assert "a comparison needs several processes (--repeats 5)" in said
    assert "Spread over processes" not in said
    counted = shown([measured(configured(tiny, "select"))])
    assert "the tables give their" not in counted


def test_doubts_of_a_measurement_are_named(tiny: Recipe) -> None:
    (calm,) = processes(tiny, 0.001)
    assert caveats.of(calm) == {}
    busy = measured(configured(tiny, "infer"), cpu_cores=1.0, cpu_cores_others=0.9)
    assert caveats.of(busy) == {"busy machine": "other processes used 0.9 of 2 cores"}
    idle_cores = measured(configured(tiny, "infer"), cpu_cores=1.0, cpu_cores_others=0.5)
    assert caveats.of(idle_cores) == {}
    unsteady = changed(calm, warm_up={"steady": False})
    assert list(caveats.of(unsteady)) == ["not steady"]
    held = replace(calm, values=[*calm.values, Measured("cpu_throttled", 1.5, "s", "cgroup")])
    assert caveats.of(held) == {"throttled": "the container's CPU limit paused it for 1.5 s"}
    clock = replace(
        calm, values=[v for v in calm.values if v.name != "gpu_clock"] + [Measured("gpu_clock", 9, "MHz", "", "held")]
    )
    assert caveats.of(clock) == {"throttled GPU": "clock held"}


@pytest.mark.parametrize(
    ("unit", "expected"), [("s", True), ("samples/s", True), ("cores", True), ("J", True), ("B", False), ("MAC", False)]
)
def test_memory_and_counts_do_not_depend_on_time(unit: str, expected: bool) -> None:
    assert caveats.depends_on_time(unit) is expected
