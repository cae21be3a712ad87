"""A graph that ships is what weights and recipe give, node by node: whatever was done to it is named."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hstnn_deploy import files
from hstnn_deploy.data.preprocessing import preprocessing
from hstnn_deploy.export.bundle.description import recipe_of, write_manifest
from hstnn_deploy.export.bundle.export import export_bundle
from hstnn_deploy.export.bundle.quantise import How
from hstnn_deploy.export.bundle.rebuilt import NAME, Rebuilt, _same_recipe, first_difference, read_alone
from hstnn_deploy.export.bundle.verify import verify_bundle
from hstnn_deploy.export.graph.forms import FORMS
from hstnn_deploy.export.graph.nodes import BUILDER, stored_in
from hstnn_deploy.export.graph.raw_input import possible
from hstnn_deploy.export.proof.checks import run_checks
from hstnn_deploy.export.proof.comparisons import Check
from hstnn_deploy.export.proof.samples import make_subject
from hstnn_deploy.export.runtime.manifest import read_manifest
from tests.export.cases import Case

CASE = Case("sequence", "ffs")
REDUCED: tuple[How, ...] = ("int8-dynamic", "int8-static", "fp16")
WINDOW = "model.window.onnx"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of all forms, in int8 and fp16 too."""
    folder = tmp_path_factory.mktemp("rebuilt")
    ckpt = CASE.checkpoint(folder / "best.pt")
    return export_bundle(
        ckpt,
        folder / "bundle",
        forms=FORMS,
        smaller=("int8-dynamic", "int8-static", "fp16"),
        max_drop=100,
        keep_all=True,
    ).folder


@pytest.fixture
def bundle(exported: Path, tmp_path: Path) -> Path:
    """A copy, free to be changed."""
    return shutil.copytree(exported, tmp_path / "bundle")


def seal_again(bundle: Path, **changes: object) -> None:
    """Write the manifest again, with the hashes of the files as they are now: anybody can."""
    facts = read_manifest(bundle)
    facts.pop("seal")
    for name, each in facts["files"].items():
        each |= {"sha256": files.sha256(bundle / name), "bytes": (bundle / name).stat().st_size}
    write_manifest(bundle, facts | changes)


def change(bundle: Path, name: str, edit: Callable[[onnx.ModelProto], object]) -> None:
    model = onnx.load(bundle / name)
    edit(model)
    onnx.save(model, bundle / name)
    seal_again(bundle)


def graph_checks(bundle: Path, *names: str, case: Case = CASE) -> dict[str, Check]:
    """Compare a bundle's graphs, all of them or some, with what is built again of the case's network."""
    facts = read_manifest(bundle)
    recipe = recipe_of(bundle, facts)
    how = possible(preprocessing(recipe.data)) if facts["graphs"]["preprocess"] else None
    rebuilt = Rebuilt(bundle, facts, recipe, case.network(), how, None)
    return {name: rebuilt.check(name) for name in names or facts["files"]}


def back_door(model: onnx.ModelProto) -> None:
    """Add five nodes behind the logits that turn them over on one input."""
    graph = model.graph
    last = next(node for node in graph.node if "logits" in node.output)
    last.output[:] = ["logits_before"]
    graph.initializer.append(numpy_helper.from_array(np.array(12345.0, np.float32), "constant/secret"))
    turned = np.arange(10, dtype=np.float32) * 1e6
    graph.initializer.append(numpy_helper.from_array(turned, "constant/turned"))
    graph.node.extend(
        [
            helper.make_node("ReduceSum", ["x"], ["sum"], name="sum", keepdims=0),
            helper.make_node("Equal", ["sum", "constant/secret"], ["fires"], name="fires"),
            helper.make_node("Cast", ["fires"], ["as_number"], name="as_number", to=TensorProto.FLOAT),
            helper.make_node("Mul", ["as_number", "constant/turned"], ["added"], name="added"),
            helper.make_node("Add", ["logits_before", "added"], ["logits"], name="logits_after"),
        ]
    )


def test_what_was_exported_is_built_again_in_every_form_and_smaller(exported: Path) -> None:
    checks = graph_checks(exported)
    names = {f"model.{form}{how}.onnx" for form in FORMS for how in ("", ".int8-dynamic", ".int8-static", ".fp16")}
    assert set(checks) == names
    assert {check.outcome for check in checks.values()} == {"passed"}
    assert all("nodes and" in check.figure for check in checks.values())


@pytest.mark.parametrize(
    ("case", "preprocess"),
    [(Case("language", "hybrid-lstm"), False), (Case("dvs", "ffs"), True), (Case("nmnist", "ffs"), False)],
)
def test_every_family_is_built_again_with_preprocessing_inside_too(
    case: Case, preprocess: bool, tmp_path: Path
) -> None:
    ckpt = case.checkpoint(tmp_path / "best.pt")
    export_bundle(ckpt, tmp_path / "b", forms=FORMS, steps=4, preprocess=preprocess, verify=False)
    checks = graph_checks(tmp_path / "b", case=case)
    assert {check.outcome for check in checks.values()} == {"passed"}, checks


def test_a_back_door_passes_every_replay_and_is_found_by_building_again(bundle: Path) -> None:
    change(bundle, WINDOW, back_door)
    facts = read_manifest(bundle)
    replays: list[Check] = []
    subject = make_subject(CASE.network(), bundle, recipe_of(bundle, facts), "", None)
    run_checks(subject, [WINDOW], replays.append)
    assert {check.outcome for check in replays} == {"passed"}, "no replay asks for the one input"
    result = verify_bundle(bundle)
    assert [(check.file, check.name) for check in result.failed] == [(WINDOW, NAME)]
    assert result.failed[0].figure == "node of window graph has the extra node sum (ReduceSum)"
    assert not any(check.file == WINDOW and "replay" in check.name for check in result.checks), "it is not run"


@pytest.mark.parametrize(
    "name", ["model.window.int8-dynamic.onnx", "model.step.int8-static.onnx", "model.step.fp16.onnx"]
)
def test_a_back_door_in_a_smaller_graph_is_found(bundle: Path, name: str) -> None:
    change(bundle, name, back_door)
    check = graph_checks(bundle, name)[name]
    assert check.outcome == "failed"
    assert " has the extra " in check.figure


def initializer(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    found: onnx.TensorProto = next(each for each in stored_in(model.graph) if each.name == name)
    return found


def one_bit(model: onnx.ModelProto) -> None:
    stored = initializer(model, "constant/layer1/0.6")
    stored.raw_data = bytes([stored.raw_data[0] ^ 1]) + stored.raw_data[1:]


def renamed(model: onnx.ModelProto) -> None:
    model.graph.node[0].name = "another"


def attribute(model: onnx.ModelProto) -> None:
    scan = next(node for node in model.graph.node if node.op_type == "Scan")
    body = next(each.g for each in scan.attribute if each.name == "body")
    body.node[0].op_type = "Sub"


def doc(model: onnx.ModelProto) -> None:
    model.graph.node[0].doc_string = "hidden"


def unknown_field(model: onnx.ModelProto) -> None:
    # Field 1000, of no known meaning, with the text "x".
    model.MergeFromString(b"\xc2\x3e\x01x")


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (one_bit, "stored array constant/layer1/0.6 differs in 1 of 1 values"),
        (renamed, "node another ("),
        (attribute, "has the extra "),
        (doc, "doc_string of node"),
        (unknown_field, "fields that ONNX does not know"),
        (
            lambda model: model.graph.initializer.append(numpy_helper.from_array(np.zeros(3), "spare")),
            "has the extra stored array spare",
        ),
        (lambda model: model.graph.output.pop(), "output of window graph lacks"),
        (lambda model: model.graph.input.reverse(), "input of window graph are in another order"),
        (
            lambda model: setattr(model.opset_import[0], "version", 21),
            "version of opset of ONNX is 21; it should be 20",
        ),
        (lambda model: setattr(model, "ir_version", 10), "ir_version is 10; it should be 9"),
        (lambda model: model.metadata_props.add(key="note", value="v"), "has the extra fact note"),
        (
            lambda model: setattr(next(p for p in model.metadata_props if p.key == "stage"), "value", "restore"),
            "value of fact stage is restore; it should be train",
        ),
        (lambda model: model.functions.add(name="f", domain="d"), "functions has the extra "),
    ],
)
def test_whatever_was_changed_is_named(bundle: Path, edit: Callable[[onnx.ModelProto], object], words: str) -> None:
    change(bundle, WINDOW, edit)
    check = graph_checks(bundle, WINDOW)[WINDOW]
    assert check.outcome == "failed"
    assert words in check.figure


def test_another_version_of_hstnn_as_producer_is_no_difference(exported: Path) -> None:
    found, wanted = onnx.load(exported / WINDOW), onnx.load(exported / WINDOW)
    next(fact for fact in found.metadata_props if fact.key == "producer").value = "hstnn-deploy 9.9"
    assert first_difference(found, wanted) == ""
    found.graph.node[0].name = "\x1b[2J" + "x" * 500
    assert "\x1b" not in first_difference(found, wanted)
    assert len(first_difference(found, wanted)) < 200


def test_numbers_in_another_file_are_refused_before_anything_reads_them(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(bytes(400))

    def outside(model: onnx.ModelProto) -> None:
        stored = initializer(model, "readout.weight")
        stored.ClearField("raw_data")
        stored.data_location = TensorProto.EXTERNAL
        stored.external_data.add(key="location", value="../outside")

    model = onnx.load(bundle / "model.step.onnx")
    outside(model)
    (bundle / "model.step.onnx").write_bytes(model.SerializeToString())
    seal_again(bundle)
    result = verify_bundle(bundle)
    found = [check.figure for check in result.failed if check.file == "model.step.onnx"]
    assert len(found) == 2, "its weights and its graph"
    assert all("numbers of readout.weight in another file" in figure for figure in found)


def test_steps_without_nodes_for_them_are_not_built(bundle: Path) -> None:
    facts = read_manifest(bundle)
    facts["files"]["model.unrolled.onnx"]["steps"] = 10**9
    seal_again(bundle, files=facts["files"])
    check = graph_checks(bundle, "model.unrolled.onnx")["model.unrolled.onnx"]
    assert check.outcome == "failed"
    assert "1000000000 steps" in check.figure


def test_a_graph_of_another_builder_says_so_and_is_not_passed(bundle: Path) -> None:
    change(bundle, WINDOW, renamed)
    seal_again(bundle, graphs={"builder": BUILDER - 1, "preprocess": False})
    checks = graph_checks(bundle, WINDOW, "model.step.onnx")
    assert checks[WINDOW].outcome == "not run"
    assert "the first difference: node of window graph has the extra node another" in checks[WINDOW].figure
    assert checks["model.step.onnx"].outcome == "passed", "what is the same is the same, whoever built it"


def test_a_smaller_graph_made_with_other_tools_says_so(bundle: Path) -> None:
    name = "model.step.fp16.onnx"
    tools = read_manifest(bundle)["tools"]
    change(bundle, name, renamed)
    seal_again(bundle, tools=tools | {"onnx": "0.1\x1b[2J"})
    check = graph_checks(bundle, name)[name]
    assert check.outcome == "not run"
    assert "made with onnx '0.1\\x1b[2J' (here" in check.figure
    seal_again(bundle, tools=tools)
    assert graph_checks(bundle, name)[name].outcome == "failed"


def test_a_recipe_in_a_file_may_be_spelled_as_an_older_version_did() -> None:
    recipe = CASE.recipe()
    text = recipe.yaml()
    assert _same_recipe(text, recipe)
    assert _same_recipe(text.replace("    reset: zero\n", ""), recipe)
    assert not _same_recipe(text.replace("threshold: 0.6", "threshold: 0.7"), recipe)
    assert not _same_recipe("a: &a [x]\nb: [*a, *a]\n", recipe)
    assert not _same_recipe("[" * 5000, recipe)


def test_what_is_no_onnx_is_said(tmp_path: Path) -> None:
    (tmp_path / "f.onnx").write_bytes(b"\xff" * 100)
    with pytest.raises(Exception, match=r"cannot read .* as ONNX"):
        read_alone(tmp_path / "f.onnx")
