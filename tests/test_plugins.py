"""How parts of a user's own become known: entry points, modules that are named, and files that need them."""

import functools
import itertools
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

import hstnn_deploy as hd
from hstnn_deploy import checkpoint
from hstnn_deploy.plugins import registry as plugins
from hstnn_deploy.recipe import parts
from tests import own_parts
from tests.conftest import in_part

SOURCE = Path(own_parts.__file__).read_text(encoding="utf-8")
Offer = Callable[..., Path]

pytestmark = pytest.mark.usefixtures("no_parts")


@pytest.fixture
def offer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Offer:
    """Install a distribution with one module: what `pip` leaves, without pip."""

    def install(code: str = SOURCE + "\nregister()\n", points: str = "", name: str = "own-plugin") -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        module = name.replace("-", "_")
        (folder / f"{module}.py").write_text(code, encoding="utf-8")
        told = folder / f"{module}-1.2.dist-info"
        told.mkdir(exist_ok=True)
        (told / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n", encoding="utf-8")
        (told / "RECORD").write_text(f"{module}.py,,\n{told.name}/METADATA,,\n", encoding="utf-8")
        (told / "top_level.txt").write_text(f"{module}\n", encoding="utf-8")
        usual = f"[hstnn.neurons]\nquadratic = {module}:Quadratic\n[hstnn.layers]\ngated = {module}:Gated\n"
        (told / "entry_points.txt").write_text(points or usual, encoding="utf-8")
        monkeypatch.syspath_prepend(str(folder))
        return folder

    return install


def stack() -> hd.Stack:
    torch.manual_seed(0)
    return hd.Stack([{"linear": 4}, "quadratic", {"gated": {"units": 2}}], input=[3])


def test_an_entry_point_is_imported_when_its_name_is_asked_for(offer: Offer) -> None:
    offer()
    hd.Stack([{"linear": 4}, "lif"], input=[3])
    assert "own_plugin" not in sys.modules
    assert {"quadratic"} <= set(plugins.names("neurons"))
    assert "own_plugin" not in sys.modules
    assert [each.kind for each in stack().leaves()] == ["linear", "quadratic", "gated"]
    assert "own_plugin" in sys.modules
    part = plugins.find("neurons", "quadratic")
    assert part is not None
    assert part.provider == "own-plugin 1.2"


BROKEN: dict[str, tuple[str, str, str]] = {
    "it does not import": (
        "import nowhere_at_all",
        "own-plugin 1.2 provides the neuron quadratic, but importing it fails: ModuleNotFoundError",
        "update it or uninstall it",
    ),
    "it leaves": ("raise SystemExit(3)", "importing it fails: SystemExit", ""),
    "it registers nothing": (
        "class Quadratic: pass",
        "says that own_plugin:Quadratic is the neuron quadratic, but that registers nothing",
        "@hstnn_deploy.custom.neuron('quadratic')",
    ),
    "it takes a built-in name": (
        "import hstnn_deploy as hd\n@hd.custom.neuron('lif')\nclass Quadratic(hd.custom.Neuron):\n"
        "    states = {'v': 'membrane'}\n    def step(self, o, drive, state, own): ...",
        "own-plugin 1.2: lif is built in",
        "my-lif",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_plug_in_that_is_broken_is_one_line_that_names_it(name: str, offer: Offer) -> None:
    code, said, hint = BROKEN[name]
    offer(code)
    with pytest.raises(hd.HstnnError) as found:
        stack()
    assert said in found.value.message
    assert hint in found.value.hint
    assert "\n" not in found.value.message


def test_two_distributions_with_one_name_are_refused(offer: Offer) -> None:
    offer()
    offer(points="[hstnn.neurons]\nquadratic = other_plugin:Quadratic\n", name="other-plugin")
    with pytest.raises(hd.HstnnError, match="both provide a neuron quadratic"):
        stack()
    assert not {"own_plugin", "other_plugin"} & set(sys.modules)


def test_a_checkpoint_says_which_distribution_it_needs(offer: Offer, tmp_path: Path) -> None:
    folder = offer()
    file = tmp_path / "net.pt"
    network = stack()
    hd.Checkpoint.of_network(network).save(file)
    assert str(hd.load_network(file)) == str(network)
    for entry in folder.glob("*.dist-info/entry_points.txt"):
        entry.unlink()
    plugins._parts.clear()
    with pytest.raises(hd.HstnnError) as found:
        hd.load_network(file)
    assert "net.pt needs the layer gated from own-plugin 1.2, which is not available" in found.value.message
    assert found.value.hint == "pip install own-plugin==1.2"


def test_a_definition_that_was_altered_after_training_is_found(offer: Offer, tmp_path: Path) -> None:
    offer()
    file, x = tmp_path / "net.pt", torch.rand(12, 5, 3)
    network = stack()
    hd.Checkpoint.of_network(network).save(file)
    hd.export_bundle(network, tmp_path / "bundle")
    assert not hd.verify_bundle(tmp_path / "bundle").failed
    # A comment and a name change nothing; the numbers in an equation do.
    again(SOURCE.replace("grown", "risen") + "\n# more\n")
    assert torch.equal(hd.load_network(file)(x)[0], network.eval()(x)[0])
    again(SOURCE.replace("o.mul(m, o.sub(1.0, s))", "o.mul(m, o.sub(0.9, s))"))
    with pytest.raises(hd.HstnnError) as found:
        hd.load_network(file)
    assert "the neuron quadratic computes something else than when this network was trained" in found.value.message
    assert "own-plugin==1.2" in found.value.hint
    failed = hd.verify_bundle(tmp_path / "bundle").failed
    assert failed, "a bundle is proved against the definition that is here"


def again(code: str) -> None:
    """Define all parts anew in the module of the plug-in."""
    module: Any = sys.modules["own_plugin"]
    plugins._parts.clear()
    exec(compile(code + "\nregister()\n", module.__file__, "exec"), module.__dict__)


def test_a_file_can_only_name_a_part(tmp_path: Path) -> None:
    """What a checkpoint says of a module is never imported."""
    own_parts.register()
    file = tmp_path / "net.pt"
    hd.Checkpoint.of_network(stack()).save(file)
    data = checkpoint.load(file, "network")
    for each in data["environment"]["parts"]:
        each["module"], each["from"] = "antigravity", "antigravity 1.0\nrm -rf"
    checkpoint.save(file, "network", data)
    plugins._parts.clear()
    with pytest.raises(hd.HstnnError) as found:
        hd.load_network(file)
    assert "\n" not in found.value.message + found.value.hint
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize(
    "recorded", [3, [3], [{}], [{"group": ["neurons"], "name": {}}], [{"group": "neurons", "name": "../x"}], None]
)
def test_what_is_recorded_may_be_anything(recorded: Any, tmp_path: Path) -> None:
    own_parts.register()
    file = tmp_path / "net.pt"
    hd.Checkpoint.of_network(stack()).save(file)
    data = checkpoint.load(file, "network")
    data["environment"]["parts"] = recorded
    checkpoint.save(file, "network", data)
    if recorded == [{"group": "neurons", "name": "../x"}]:
        with pytest.raises(hd.HstnnError, match=r"needs the neuron \.\./x"):
            hd.load_network(file)
    else:
        assert hd.load_network(file).outputs == 2


@pytest.mark.parametrize(
    ("loss", "metrics"),
    in_part(itertools.product([[], {"name": []}, {"name": {"a": 1}}, 3], [3, [["accuracy"]], "accuracy", {"a": 1}]), 3),
)
def test_a_recipe_in_a_file_may_be_anything(loss: Any, metrics: Any, tmp_path: Path) -> None:
    own_parts.register()
    file = tmp_path / "net.pt"
    hd.Checkpoint.of_network(stack()).save(file)
    data = checkpoint.load(file, "network")
    data["recipe"] = {"loss": loss, "metrics": metrics, "data": {"name": []}}
    data["environment"]["parts"] = [{"group": "losses", "name": "gone", "asks": loss}]
    checkpoint.save(file, "network", data)
    assert hd.load_network(file).values is False
    assert parts.recorded(data["recipe"], None) == []


def test_a_plug_in_that_asks_for_a_part_while_it_is_imported(offer: Offer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not import itself again, and another thread waits until it is whole."""
    code = "import time\nfrom hstnn_deploy.plugins import registry\nassert registry.find('neurons', 'nobody') is None\n"
    offer(code + "time.sleep(0.3)\n" + SOURCE + "\nregister()\n", "[console_scripts]\n")
    monkeypatch.setenv("HSTNN_PLUGINS", "own_plugin")
    with ThreadPoolExecutor(3) as pool:
        found = [each.result() for each in [pool.submit(plugins.find, "neurons", "quadratic") for _ in range(3)]]
    assert all(each is not None and each.name == "quadratic" for each in found)


def test_what_is_no_plain_function_may_be_a_part() -> None:
    hd.custom.loss("focal-3")(functools.partial(own_parts.focal, gamma=3.0))
    space: dict[str, Any] = {"__name__": None}
    exec("def nowhere(outputs, targets): return 1.0", space)
    hd.custom.metric("nowhere")(space["nowhere"])
    told = [each for each in plugins.survey() if each["group"] in ("losses", "metrics")]
    assert [(each["name"], each["problem"]) for each in told] == [("focal-3", ""), ("nowhere", "")]
    assert all(each["from"] for each in told)


def test_modules_that_the_environment_names_are_imported(offer: Offer, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(points="[console_scripts]\n")
    with pytest.raises(hd.HstnnError, match="'quadratic' is not a layer"):
        stack()
    monkeypatch.setenv("HSTNN_PLUGINS", "own_plugin")
    assert stack().outputs == 2
    monkeypatch.setenv("HSTNN_PLUGINS", "nowhere")
    with pytest.raises(hd.HstnnError, match="plug-in there is no module nowhere"):
        hd.Stack(["quadratics"], input=[3])
