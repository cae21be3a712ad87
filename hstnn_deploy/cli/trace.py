"""`hstnn profile --trace`: a Chrome trace of one training step and one inference."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hstnn_deploy.cli import console
from hstnn_deploy.cli.imports import import_torch
from hstnn_deploy.errors import UsageError
from hstnn_deploy.profile.foreign.names import is_foreign

_OPTIONS = {
    *("recipes", "ckpt", "kinds", "ratios", "precisions", "modes", "train_batches", "steps", "gpus", "threads"),
    *("data", "data_dir"),
}
"""Options that select what is traced."""


def write_trace(path: Path, options: dict[str, Any], other: Sequence[str], as_json: bool) -> None:
    """Trace the requested configuration, and describe the written file.

    Args:
        path: the file.
        options: the options of `hstnn profile`, as `plan` calls them.
        other: further options that were given, which a trace does not have.
        as_json: whether to print JSON.

    Raises:
        UsageError: an option that a trace does not have, a file of another format, or several configurations.
    """
    if not path.name.endswith((".json", ".json.gz")):
        raise UsageError(f"--trace {path} does not end in .json or .json.gz", "for example --trace trace.json")
    if idle := [*(f"--{name.replace('_', '-')}" for name in options if name not in _OPTIONS), *other]:
        raise UsageError(f"--trace does not measure, so {idle[0]} has no effect", f"leave {', '.join(idle)} out")
    if any(map(is_foreign, options.get("recipes", []))):
        raise UsageError("--trace works only for hstnn's own networks", "give a recipe or a checkpoint")
    if not options.get("recipes") and not options.get("ckpt"):
        raise UsageError("--trace needs one network", "for example hstnn profile digits --trace trace.json")
    import_torch()
    from hstnn_deploy.profile.phases.trace import INFERENCE, TRAINING, trace
    from hstnn_deploy.profile.plan.plan import plan

    found = plan(**options, phases=["train"])
    if len(found) != 1:
        asked = console.counted(len(found), "configuration")
        raise UsageError(f"--trace traces one configuration, and there are {asked}", "give one value per option")
    with console.err.status("tracing"):
        traced = trace(found[0], path)
    if as_json:
        console.emit({"trace": str(path), **traced._asdict()})
        return
    counts = traced.operations
    console.out.print(
        f"written: {path}\n"
        f"one training step ({counts[TRAINING]} torch operations) and one inference ({counts[INFERENCE]}), batch "
        f"{traced.batch}, {traced.steps} time steps, {traced.device}, {traced.data}\n"
        "open it in chrome://tracing or https://ui.perfetto.dev; times under the profiler are longer than without it",
        soft_wrap=True,
        markup=False,
    )
