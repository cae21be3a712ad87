"""The fastest form: only among those that leave free what must be, and with its figures."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hstnn_deploy.errors import UsageError
from hstnn_deploy.export.bundle import choice as choice_module
from hstnn_deploy.export.bundle.choice import calling, check_dynamic, choose_form, in_turns, steps_of
from hstnn_deploy.export.graph.forms import Form, build
from hstnn_deploy.export.runtime.ort import Graph, open_graph
from tests.export.cases import Case


@pytest.mark.parametrize("fastest", ["window", "step", "unrolled"])
def test_the_fastest_that_leaves_the_wanted_axes_free_is_kept(fastest: Form, monkeypatch: pytest.MonkeyPatch) -> None:
    def told(calls: dict[Form, Callable[[], object]]) -> dict[Form, float]:
        for call in calls.values():
            call()
        return {form: 0.001 if form == fastest else 0.002 for form in calls}

    monkeypatch.setattr(choice_module, "in_turns", told)
    network = Case("sequence", "ffs").network()
    fixed = choose_form(network, "batch", 4, batch=2)
    assert fixed.form == fastest
    assert fixed.milliseconds == {form: 1.0 if form == fastest else 2.0 for form in ("window", "step", "unrolled")}
    assert f"kept {fastest}: " in str(fixed)
    assert f"{fastest} 1 ms" in str(fixed)
    free = choose_form(network, "time,batch", 4)
    assert free.form == (fastest if fastest != "unrolled" else "window")
    assert set(free.milliseconds) == {"window", "step"}
    assert "unrolled not measured: its time axis is fixed" in str(free)


def test_what_would_not_fit_into_a_file_is_not_unrolled() -> None:
    assert "too many to unroll" in choose_form(Case("sequence", "snn").network(), "batch", 201).left_out["unrolled"]


def test_an_unrolled_graph_is_refused_where_time_must_be_free() -> None:
    with pytest.raises(UsageError, match="its time axis is fixed"):
        check_dynamic("unrolled", "time,batch")
    for dynamic in ("batch", None):
        check_dynamic("unrolled", dynamic)
    check_dynamic("window", "time,batch")


@pytest.mark.parametrize(("family", "steps"), [("sequence", 8), ("language", 20), ("dvs", 12)])
def test_the_length_of_a_window_is_the_datas(family: str, steps: int) -> None:
    assert steps_of(Case(family, "ffs").recipe().data) == steps


def test_calls_are_timed_in_turns() -> None:
    order = []

    def slow() -> None:
        order.append("slow")
        time.sleep(0.002)

    spent = in_turns({"slow": slow, "quick": lambda: order.append("quick")})
    assert order[:4] == ["slow", "quick", "slow", "quick"]
    assert spent["slow"] >= 0.002


def test_a_step_graph_is_measured_over_the_whole_window(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = open_graph(build(Case("sequence", "ffs").network(), "step", {}).SerializeToString())
    seen = []
    whole = Graph.step

    def counted(self: Graph, x: Any, state: Any = None) -> Any:
        seen.append(state is None)
        return whole(self, x, state)

    monkeypatch.setattr(Graph, "step", counted)
    calling(graph, "step", np.zeros((5, 1, 8), np.float32))()
    assert seen == [True, False, False, False, False]
