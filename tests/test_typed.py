"""What a type checker sees of the public names: no `Any`, and every mistake of a user's script."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import hstnn_deploy
from tests.conftest import PATIENCE

ROOT = Path(__file__).parent.parent
SOURCE = ast.parse((ROOT / "hstnn_deploy" / "__init__.py").read_text(encoding="utf-8"))

SCRIPT = '''\
"""A user's script, as docs/python.md has it."""

from pathlib import Path

import numpy as np
import torch

import hstnn_deploy as hd

draw = np.random.default_rng(0)
y = draw.integers(0, 4, 200)
x = np.eye(4, dtype=np.float32)[y][:, None, :] + 0.2 * draw.random((200, 5, 4), dtype=np.float32)
L = hd.layers
layers = [L.linear(16), L.lif(tau=2.0, threshold=0.5), "lif", {"linear": 4}]
net = hd.Stack(layers, input=[4], readout="sum")
history = hd.fit(net, (x[:160], y[:160]), test=(x[160:], y[160:]), epochs=4, lr=0.02, batch=20, progress=False)
data = torch.utils.data.TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
loader = torch.utils.data.DataLoader(data, batch_size=20)
more = hd.fit(history.network, loader, valid=data, epochs=1, progress=False)
bundle = hd.export_bundle(more, Path("bundle"), test=(x[160:], y[160:]))
verified = hd.verify_bundle("bundle", test=data)
session = hd.Session("bundle")
scores = session.run(x[160:].swapaxes(0, 1))
profile = hd.profile_network(more.network, torch.rand(5, 2, 4), seconds=0.05)
answer, state = more.network(torch.rand(5, 2, 4))
with hd.measure() as ledger:
    score = hd.evaluate(more.network, (x, y)).score
try:
    hd.load_network("missing.pt")
except hd.HstnnError as error:
    hint = error.hint
print(history, bundle, verified, profile, ledger, score, hint, scores.shape, sep="\\n")
assert not bundle.failed
assert not verified.failed
assert score > 50
'''

REVEALED = {
    "net": "Stack",
    "net.config": "StackConfig",
    "history": "History",
    "history.network": "Network",
    "history.curves": "dict[str, list[float]]",
    "history.best": "dict[str, float]",
    "history.test": "Evaluation | None",
    "history.folder": "Path | None",
    "bundle": "Bundle",
    "bundle.failed": "list[hstnn_deploy.export.proof.comparisons.Check]",
    "verified": "Verification",
    "session": "Session",
    "session.classes": "int",
    "profile": "NetworkProfile",
    "profile.latency": "Measured | hstnn_deploy.profile.values.NotMeasured",
    "answer": "Tensor",
    "state": "dict[str, torch._tensor.Tensor]",
    "ledger": "Ledger",
    'ledger["seconds"]': "Measured | hstnn_deploy.profile.values.NotMeasured",
    "score": "float",
    "hint": "str",
    "L.lif(tau=2.0)": "dict[str, object]",
    'hd.load_recipe("digits")': "Recipe",
    'hd.load_network("best.pt")': "Network",
    'hd.read_nir("net.nir")': "Stack",
    "hd.from_torch(torch.nn.Linear(2, 2), torch.rand(1, 2))": "Stack",
    'hd.train_recipe(hd.load_recipe("digits"))': "list[hstnn_deploy.runs.RunFolder]",
    'hd.Checkpoint.load(Path("best.pt"))': "Checkpoint",
    "hd.Observer()": "Observer",
}

WRONG = {
    "hd.frob": "has no attribute",
    "hd.fit(net, 3)": "incompatible type",
    "hd.fit(net, (x, y), epoch=3)": "Unexpected keyword",
    'hd.fit("net", (x, y))': "incompatible type",
    "L.lif(taus=2.0)": "Unexpected keyword",
    'L.lif(reset="hard")': "incompatible type",
    'hd.Stack([L.linear(4)], input=[4], readout="total")': "incompatible type",
    "history.curve": "has no attribute",
    'hd.export_bundle(net, "out", tests=(x, y))': "Unexpected keyword",
}


def checked(path: Path) -> list[str]:
    """Return what mypy --strict says of a file; the repository's configuration shares its cache.

    The file is told by its name: where the same text was checked before, mypy says what it remembers, with the folder
    that it lay in then.
    """
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", "pyproject.toml", str(path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert not result.stderr, result.stderr
    lines = result.stdout.splitlines()
    assert lines[-1].startswith(("Success: no issues", "Found ")), result.stdout
    return [line for line in lines if Path(line.partition(":")[0]).name == path.name]


def test_a_users_script_is_typed_without_any(tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT + "".join(f"reveal_type({each})\n" for each in REVEALED), encoding="utf-8")
    lines = checked(path)
    assert not [line for line in lines if ": error:" in line], lines
    told = [found[1] for line in lines if (found := re.search(r'Revealed type is "(.*)"$', line))]
    assert len(told) == len(REVEALED)
    for each, wanted in zip(told, REVEALED.values(), strict=True):
        assert each.endswith(wanted)
        assert "Any" not in each


def test_every_mistake_of_a_script_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "wrong.py"
    path.write_text(SCRIPT + "".join(f"{each}\n" for each in WRONG), encoding="utf-8")
    lines, first = checked(path), SCRIPT.count("\n") + 1
    for number, (code, words) in enumerate(WRONG.items(), first):
        assert any(f":{number}: error:" in line and words in line for line in lines), (code, lines)


def test_the_script_runs(tmp_path: Path) -> None:
    import os

    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    assert len(SCRIPT.splitlines()) <= 40
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "History" in result.stdout


def test_what_a_type_checker_sees_is_what_there_is() -> None:
    """The names under TYPE_CHECKING are those that are imported on first use, from the same places."""
    seen = {}
    for node in ast.walk(SOURCE):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("hstnn_deploy"):
            for each in node.names:
                place = importlib.import_module(node.module)
                found = getattr(place, each.name, None) or importlib.import_module(f"{node.module}.{each.name}")
                seen[each.asname] = found
    assert seen.keys() == set(hstnn_deploy.__all__) - {"__version__"}
    for name, found in seen.items():
        assert getattr(hstnn_deploy, str(name)) is found, name
