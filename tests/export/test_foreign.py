"""Files of strangers: whatever in them could run code is refused, and nothing of it runs."""

import io
import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch

from hstnn_deploy import files
from hstnn_deploy.errors import BundleError, ExportError, HstnnError
from hstnn_deploy.export.bundle.description import write_manifest
from hstnn_deploy.export.bundle.export import export_bundle
from hstnn_deploy.export.bundle.verify import NOT_TRUSTED, verify_bundle
from hstnn_deploy.export.graph.interface import interface
from hstnn_deploy.export.graph.write import write_graphs
from hstnn_deploy.export.proof.checks import module_of
from hstnn_deploy.export.proof.programs import check_program, open_program, program_weights
from hstnn_deploy.export.runtime.manifest import read_manifest
from tests.conftest import Hstnn
from tests.export.cases import Case

MODEL, SAMPLES = "archive/models/model.json", "archive/data/sample_inputs/model.pt"
CONFIG, CONSTANTS = (
    "archive/data/weights/model_weights_config.json",
    "archive/data/constants/model_constants_config.json",
)

Members = dict[str, bytes]


@pytest.fixture(scope="module")
def bundle_made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("foreign")
    ckpt = Case("sequence", "hybrid").checkpoint(folder / "best.pt")
    return export_bundle(ckpt, folder / "bundle", ("onnx", "torchscript", "pt2"), forms=["step"], verify=False).folder


@pytest.fixture
def bundle(bundle_made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(bundle_made, tmp_path / "bundle")


@pytest.fixture
def proof(tmp_path: Path) -> Path:
    """The file that runs of foreign code would leave behind."""
    return tmp_path / "it-ran"


class Command:
    """Runs a command when it is unpickled."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.proof}",)


def rewrite(path: Path, change: Callable[[Members], object]) -> None:
    """Change the members of an archive, and write it as torch does: stored, one after the other."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def saved(value: object) -> bytes:
    content = io.BytesIO()
    torch.save(value, content)
    return content.getvalue()


def seal_again(bundle: Path) -> None:
    facts = read_manifest(bundle)
    facts.pop("seal")
    for name, each in facts["files"].items():
        each |= {"sha256": files.sha256(bundle / name), "bytes": (bundle / name).stat().st_size}
    write_manifest(bundle, facts)


def in_model(change: Callable[[Any], object]) -> Callable[[Members, Path], object]:
    def edit(members: Members, proof: Path) -> None:
        model = json.loads(members[MODEL])
        text = json.dumps(change(model) or model)
        members[MODEL] = text.replace("PROOF", str(proof)).encode()

    return edit


def in_config(name: str, change: Callable[[Any], object]) -> Callable[[Members, Path], object]:
    def edit(members: Members, proof: Path) -> None:
        config = json.loads(members[name])
        change(config["config"])
        members[name] = json.dumps(config).encode()

    return edit


def nodes(model: Any) -> list[Any]:
    found: list[Any] = model["graph_module"]["graph"]["nodes"]
    return found


def weights_by_pickle(members: Members, proof: Path) -> None:
    config = json.loads(members[CONFIG])
    first = next(iter(config["config"].values()))
    first["use_pickle"] = True
    members[f"archive/data/weights/{first['path_name']}"] = saved(Command(proof))
    members[CONFIG] = json.dumps(config).encode()


def constant(prefix: str) -> Callable[[Members, Path], object]:
    def edit(members: Members, proof: Path) -> None:
        entry = {"path_name": f"{prefix}0", "is_param": False, "use_pickle": True, "tensor_meta": None}
        members[CONSTANTS] = json.dumps({"config": {"c": entry}}).encode()
        members[f"archive/data/constants/{prefix}0"] = pickle.dumps(Command(proof))

    return edit


EVIL = "__import__('os').system('touch PROOF')"

ATTACKS: dict[str, Callable[[Members, Path], object]] = {
    "example, pickled": lambda m, proof: m.update({SAMPLES: saved(Command(proof))}),
    "example, bare pickle": lambda m, proof: m.update({SAMPLES: pickle.dumps(Command(proof))}),
    "example, of something else": lambda m, proof: m.update({SAMPLES: saved(({"a": 1}, {}))}),
    "weights, pickled": weights_by_pickle,
    "weights, legacy": lambda m, proof: m.update({"archive/data/weights/model.pt": saved(Command(proof))}),
    "constants, legacy": lambda m, proof: m.update({"archive/data/constants/model.pt": saved(Command(proof))}),
    "constants, tensor": constant("tensor_"),
    "constants, script object": constant("custom_obj_"),
    "constants, opaque": constant("opaque_obj_"),
    "compiled code": lambda m, proof: m.update({"archive/data/aotinductor/model/model.so": b"\x7fELF"}),
    "another model": lambda m, proof: m.update({"archive/models/other.json": m[MODEL]}),
    "size": in_model(
        lambda model: model["graph_module"]["graph"]["tensor_values"]["x"]["sizes"].__setitem__(
            0, {"as_expr": {"expr_str": EVIL, "hint": None}}
        )
    ),
    "guard": in_model(lambda model: model["guards_code"].append(EVIL)),
    "guard, joined on": in_model(
        lambda model: model["guards_code"].append(f"L['x'].size()[1] == L['state']['h1'].size()[0] or {EVIL}")
    ),
    "operator": in_model(lambda model: nodes(model)[-1].update(target="torch.os.system")),
    "operator that writes a file": in_model(
        lambda model: nodes(model)[-1].update(target="torch.ops.aten.from_file.default")
    ),
    "operator of python": in_model(lambda model: nodes(model)[-1].update(target="_operator.methodcaller")),
    "name as code": in_model(lambda model: nodes(model)[-1].update(name=f"a = {EVIL}; b")),
    "name with a dot": in_model(lambda model: nodes(model)[-1].update(name="torch.load")),
    "tree": in_model(
        lambda model: model["graph_module"]["module_call_graph"][0]["signature"].update(in_spec='[1, {"type": "os"}]')
    ),
    "text argument": in_model(
        lambda model: nodes(model)[-1]["inputs"].append({"name": "f", "arg": {"as_string": "x"}, "kind": 1})
    ),
    "operator argument": in_model(
        lambda model: nodes(model)[-1]["inputs"].append({"name": "f", "arg": {"as_operator": "torch.load"}, "kind": 1})
    ),
    "object": in_model(
        lambda model: nodes(model)[-1]["inputs"].append({"name": "f", "arg": {"as_custom_obj": {}}, "kind": 1})
    ),
    "zeros of any size": in_config(
        CONFIG, lambda config: next(iter(config.values()))["tensor_meta"].update(sizes=[{"as_int": 2**40}])
    ),
    "weights on a device": in_config(
        CONFIG, lambda config: next(iter(config.values()))["tensor_meta"].update(device={"type": "meta", "index": None})
    ),
    "a weight outside": in_config(CONFIG, lambda config: next(iter(config.values())).update(path_name="../../x")),
    "a weight of no name": lambda m, proof: m.update({"archive/data/weights/weight_99": b"0123"}),
    "name in capitals": lambda m, proof: m.update({SAMPLES.upper(): m[SAMPLES]}),
    "name twice": lambda m, proof: m.update({f"{SAMPLES}\0": saved(Command(proof))}),
    "big-endian": lambda m, proof: m.update({"archive/byteorder": b"big"}),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("attack", ATTACKS)
def test_what_could_run_code_is_refused_with_one_line_and_nothing_runs(bundle: Path, proof: Path, attack: str) -> None:
    path = bundle / "model.pt2"
    rewrite(path, lambda members: ATTACKS[attack](members, proof))
    seal_again(bundle)
    with pytest.raises(BundleError, match="could run code when opened, or is not as hstnn writes it") as refused:
        verify_bundle(bundle)
    assert "\n" not in refused.value.message
    assert "hstnn did not open it" in refused.value.message
    for read in (check_program, open_program, program_weights, module_of):
        with pytest.raises(BundleError):
            read(path)
    assert not proof.exists()


def _attack(name: str, proof: Path, members: Members) -> None:
    ATTACKS[name](members, proof)


def test_the_attacks_are_real(bundle: Path, tmp_path: Path) -> None:
    """torch itself runs what is refused here; in another process, and one of each kind."""
    kinds = ("example, pickled", "weights, pickled", "constants, opaque", "size")
    proofs, paths = [tmp_path / f"ran-{n}" for n in range(4)], [tmp_path / f"{n}.pt2" for n in range(4)]
    for attack, path, proof in zip(kinds, paths, proofs, strict=True):
        shutil.copy(bundle / "model.pt2", path)
        rewrite(path, partial(_attack, attack, proof))
    code = """
import sys, torch
for path in sys.argv[1:]:
    try:
        torch.export.load(path).module()
    except Exception as error:
        print(path, error)
"""
    subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, timeout=300, check=True)
    # torch 2.11 does not know the third kind.
    older = metadata.version("torch").startswith("2.11")
    expected = [kind for kind in kinds if not (older and kind == "constants, opaque")]
    assert [attack for attack, proof in zip(kinds, proofs, strict=True) if proof.exists()] == expected


def test_what_is_rewritten_unchanged_is_opened_and_computes_the_same(bundle: Path) -> None:
    """The attacks above are refused for what they are, not for how this test writes archives."""
    path, network = bundle / "model.pt2", Case("sequence", "hybrid").network()
    rewrite(path, lambda members: None)
    face = interface(network)
    x = face.example(5, 3)
    assert torch.equal(module_of(path)(x, face.zeros(3))[0], torch.export.load(path).module()(x, face.zeros(3))[0])
    weights = {name.removeprefix("frozen."): value for name, value in program_weights(path).items()}
    assert all(torch.equal(weights[name], value) for name, value in network.state_dict().items())


@pytest.mark.parametrize(
    "case", [Case("language", "hybrid-lstm"), Case("dvs", "ffs"), Case("nmnist", "rnn"), Case("sequence", "lstm")]
)
def test_every_family_that_is_written_can_be_opened(case: Case, tmp_path: Path) -> None:
    (path,) = write_graphs(case.network(), tmp_path, {"pt2"}, {"note": "of “quotes” & more"})
    assert open_program(path).graph_module.code == torch.export.load(path).graph_module.code


def doubled(content: bytes) -> bytes:
    """Let two members share their bytes."""
    at = content.index(b"PK\1\2")
    second = content.index(b"PK\1\2", at + 4)
    return content[: second + 42] + content[at + 42 : at + 46] + content[second + 46 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"MZ" + content,
        lambda content: content + b"behind",
        lambda content: content[:-2] + struct.pack("<H", 4) + b"note",
        lambda content: content[:-22] + content[-22:] + content[-22:],
        doubled,
        lambda content: content[:-12] + bytes(12),
    ],
    ids=["before", "behind", "comment", "two ends", "shared bytes", "no list"],
)
def test_an_archive_that_can_be_read_in_two_ways_is_refused(bundle: Path, damage: Callable[[bytes], bytes]) -> None:
    path = bundle / "model.pt2"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises((BundleError, ExportError)):
        open_program(path)


def test_compressed_members_are_refused_before_they_are_unpacked(bundle: Path) -> None:
    path = bundle / "model.pt2"
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members[MODEL] = b"[" + b" " * 50_000_000 + b"]"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(BundleError, match="compressed or encrypted"):
        open_program(path)


def test_deep_brackets_and_long_digits_end_soon(bundle: Path) -> None:
    for content in (b"[" * 200_000, b'{"a": "' + b"1" * 100_000 + b'"}'):
        path = bundle / "model.pt2"
        rewrite(path, lambda members, content=content: members.update({MODEL: content}))  # type: ignore[misc]
        with pytest.raises(HstnnError):
            open_program(path)


class Writer(torch.nn.Module):
    """Writes a file when it is loaded, as TorchScript can."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    @torch.jit.export
    def __getstate__(self) -> tuple[str, bool]:
        return self.path, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]) -> None:
        self.path = state[0]
        # What nobody needs would be left out.
        written = torch.from_file(state[0], shared=True, size=1000, dtype=torch.uint8).fill_(65)
        self.training = bool(written[0] > 0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.mark.filterwarnings("ignore:.*is deprecated")
def test_torchscript_that_writes_a_file_is_not_opened(hstnn: Hstnn, bundle: Path, proof: Path) -> None:
    torch.jit.save(torch.jit.script(Writer(str(proof))), str(bundle / "model.ts"))
    proof.unlink(missing_ok=True)
    seal_again(bundle)
    result = hstnn("verify", bundle, "--json")
    assert not proof.exists()
    assert result.code == 0
    (check,) = [
        each for each in json.loads(result.out)["checks"] if each["file"] == "model.ts" and "answers" in each["name"]
    ]
    assert (check["outcome"], check["figure"]) == ("not run", NOT_TRUSTED)
    assert hstnn("verify", bundle, "--trust").code == 8
    assert proof.exists(), "with --trust it is opened, and the help says so"
