"""The graph of jobs: each once, after what it needs, known by what its result depends on."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hstnn_deploy.errors import RunError, UsageError
from hstnn_deploy.models.sizes import KINDS
from hstnn_deploy.recipe.load import load_recipe
from hstnn_deploy.runs import RunFolder
from hstnn_deploy.train.sweep.plan import Job, chains, check_runs, plan
from tests.conftest import TINY, settings

OUT = Path("never-written")
kinds = st.lists(st.sampled_from(KINDS), min_size=1, unique=True)
ratios = st.lists(st.sampled_from([0.2, 0.25, 0.5, 0.75]), min_size=1, unique=True)
seeds = st.lists(st.integers(0, 99), min_size=1, max_size=3, unique=True)


def jobs_of(kinds: list[str], ratios: list[float], seeds: list[int], *changes: str) -> list[Job]:
    return plan(
        [
            load_recipe("digits", [*settings(TINY), *changes, f"kind={kind}", f"ratio={ratio}", f"seed={seed}"])
            for kind in kinds
            for ratio in ratios
            for seed in seeds
        ],
        OUT,
    )


@given(kinds, ratios, seeds)
def test_the_graph_is_what_a_sweep_means(kinds: list[str], ratios: list[float], seeds: list[int]) -> None:
    jobs = jobs_of(kinds, ratios, seeds)
    pure = len({"rnn", "lstm", "snn"} & set(kinds))
    ffs, hybrid = "ffs" in kinds, "hybrid" in kinds
    assert len(jobs) == len(seeds) * (pure + ffs * len(ratios) + hybrid * (2 + len(ratios)))
    assert len({job.identity for job in jobs}) == len({job.run.path for job in jobs}) == len(jobs)
    before: dict[str, Job] = {}
    for job in jobs:
        needed = [before[need] for need in job.needs]  # all of them stand before it
        assert {each.recipe.seed for each in needed} <= {job.recipe.seed}
        wanted = {"train": [], "adapt": [], "traces": ["adapt"], "restore": ["adapt", "traces"]}[job.stage]
        assert [each.stage for each in needed] == wanted
        before[job.identity] = job
    assert not OUT.exists()


@given(kinds, ratios, seeds)
def test_a_chain_is_as_long_as_what_hangs_on_it(kinds: list[str], ratios: list[float], seeds: list[int]) -> None:
    jobs = jobs_of(kinds, ratios, seeds)
    lengths = chains(jobs)
    for job in jobs:
        assert lengths[job.identity] == {"adapt": 3, "traces": 2, "restore": 1, "train": 1}[job.stage]


def test_identity_is_that_of_what_the_result_depends_on() -> None:
    def identities(*changes: str) -> dict[str, str]:
        return {job.stage: job.identity for job in jobs_of(["hybrid"], [0.5], [1], *changes)}

    plain = identities()
    for change, changed in {
        "about=other": set(),
        "restore.lr=0.5": {"restore"},
        "selection.bootstraps=11": {"restore"},
        "selection.probes=5": {"traces", "restore"},
        "adapt.lr=0.5": {"adapt", "traces", "restore"},
        "network.units=[6, 6]": {"adapt", "traces", "restore"},
    }.items():
        assert {stage for stage, identity in identities(change).items() if identity != plain[stage]} == changed


def test_a_ratio_that_cannot_split_is_refused_before_anything_starts() -> None:
    for kind in ("ffs", "hybrid"):
        with pytest.raises(UsageError, match=r"ratio 0\.05 leaves"):
            jobs_of([kind], [0.5, 0.05], [1])


def test_two_jobs_never_share_a_folder() -> None:
    recipes = [load_recipe("digits", [*settings(TINY), f"adapt.lr={lr}", "kind=rnn"]) for lr in (0.1, 0.2)]
    with pytest.raises(UsageError, match=re.escape("adapt.lr was 0.1, is 0.2")):
        plan(recipes, OUT)


def test_a_folder_of_another_recipe_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    (job,) = plan([load_recipe("digits", [*settings(TINY), "kind=rnn"])], tmp_path)
    check_runs([job])
    with job.run.open(job.recipe.for_stage("train"), {}, resume=False):
        pass
    check_runs([job])
    (other,) = plan([load_recipe("digits", [*settings(TINY), "kind=rnn", "batch=7"])], tmp_path)
    with pytest.raises(RunError, match="batch was 200, is 7"):
        check_runs([other])
    (RunFolder(job.run.path).path / "status.json").write_text("{")
    with pytest.raises(RunError, match=r"status\.json is damaged"):
        check_runs([job])


def test_a_run_of_another_version_is_said_to_be_so(tmp_path: Path) -> None:
    (job,) = plan([load_recipe("digits", [*settings(TINY), "kind=rnn"])], tmp_path)
    with job.run.open({**job.recipe.for_stage("train"), "encoder": "x"}, {"versions": {"hstnn-deploy": "9"}}, False):
        pass
    with pytest.raises(RunError, match=r"encoder was x, is None \(hstnn-deploy 9 wrote it, this is "):
        check_runs([job])
