"""Stacks against numbers of the libraries they come from: SpikingJelly, snnTorch and sinabs (tests/golden)."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hstnn_deploy.export.proof.engines import network_engine
from hstnn_deploy.models import kernels
from hstnn_deploy.models.layers.maps import Dropout
from hstnn_deploy.models.network import Tap
from hstnn_deploy.models.neurons import Lif
from hstnn_deploy.models.stack import Mode, Stack, StackConfig
from hstnn_deploy.models.tasks import OneHot, SpikeCount

GOLDEN = Path(__file__).parent.parent / "golden"
SJ = {"tau": 2.0, "threshold": 1.0, "input_decay": True, "fires": "at", "surrogate": {"arctan": 2.0}}
DETACHED = SJ | {"detach_reset": True}
LEAKY = {
    "decay": 0.5,
    "threshold": 1.0,
    "reset": "subtract",
    "delayed_reset": True,
    "surrogate": {"fast-sigmoid": 25.0},
}
IAF = {"decay": 1.0, "threshold": 1.0, "fires": "several", "reset": "subtract", "surrogate": {"exponential": 0.5}}
BNTT = {
    "decay": 0.95,
    "threshold": 1.0,
    "reset": "subtract",
    "detach_reset": True,
    "surrogate": {"triangular": 1.0},
    "surrogate_scale": 0.3,
}
TRACES: dict[str, dict[str, Any]] = {
    "sj_lif": DETACHED,
    "sj_lif_nodetach": SJ,
    "sj_lif_nodecay": DETACHED | {"input_decay": False},
    "sj_lif_soft": DETACHED | {"reset": "subtract"},
    "sj_lif_tau16": DETACHED | {"tau": 16.0},
    "sj_plif": DETACHED | {"learn": "decay"},
    "sj_plif_tau3": DETACHED | {"tau": 3.0, "learn": "decay"},
    "snn_leaky": LEAKY,
    "snn_leaky_zero": LEAKY | {"reset": "zero"},
    "snn_leaky_nodelay": LEAKY | {"delayed_reset": False, "reset_again": True},
    "sinabs_iaf": IAF,
    "sinabs_iaf_min": IAF | {"lowest": -1.0},
    "sinabs_iaf_thr": IAF | {"threshold": 0.7, "surrogate": {"exponential": 0.35}},
    "bntt": BNTT,
}


def golden(name: str) -> dict[str, Tensor]:
    """Return the arrays of a file; counts as float32."""
    with np.load(GOLDEN / f"{name}.npz") as file:
        found = {key: torch.from_numpy(np.array(file[key])) for key in file.files}
    return {key: value.float() if value.dtype == torch.uint8 else value for key, value in found.items()}


def apart(ours: Tensor, theirs: Tensor) -> float:
    """Return the largest difference, relative to the largest value."""
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-30))


@pytest.mark.parametrize("name", TRACES)
@pytest.mark.parametrize("form", ["plain", "fused"])
def test_a_neuron_is_its_library_s(name: str, form: kernels.Form) -> None:
    """Spikes equal, membranes and gradients within 4e-6; the learned decay's gradient too."""
    whole = golden("neuron_traces")
    trace = {key.removeprefix(f"{name}."): value for key, value in whole.items() if key.startswith(f"{name}.")}
    neuron = Lif.model_validate(TRACES[name])
    own = {key: value.clone().requires_grad_() for key, value in neuron.fresh(()).items()}
    if own:
        assert torch.allclose(own["rate"], trace["w"])
    drive = trace["drive"][:, None].clone().requires_grad_()
    state = {key: torch.zeros(1, 4) for key in neuron.states}
    with kernels.using(form):
        spikes, _ = kernels.spiking(drive, state, neuron, None, own)
        membranes = []
        now = state
        for t in range(len(drive)):
            _, now = kernels.spiking(drive[t : t + 1], now, neuron, None, own)
            membranes.append(now["v"])
    v = torch.stack(membranes)
    assert torch.equal(spikes[:, 0], trace["spikes"])
    assert apart(v[:, 0], trace["v"]) < 4e-6
    leaves = [drive, *own.values()]
    for what, of in (("spikes", spikes[:, 0]), ("v", v[:, 0])):
        got = torch.autograd.grad((trace[f"weight_{what}"] * of).sum(), leaves, retain_graph=True)
        assert apart(got[0][:, 0], trace[f"grad_drive_of_{what}"]) < 4e-6
        if own:
            assert apart(got[1], trace[f"grad_w_of_{what}"]) < 4e-6


def dvs(over: str, neuron: dict[str, Any]) -> Stack:
    """Return SpikingJelly's network for DVS128 Gesture, of 4 channels and 32x32 pixels."""
    block = [{"conv": 4, "kernel": 3, "padding": 1, "bias": False}, {"norm": {"over": over}}, {"lif": neuron}]
    config = {
        "input": [2, 32, 32],
        "layers": [
            {"repeat": 5, "layers": [*block, {"pool": "max", "size": 2}]},
            "flatten",
            {"dropout": 0.5, "shared_over_time": True},
            {"linear": 16, "bias": False},
            {"lif": neuron},
            {"dropout": 0.5, "shared_over_time": True},
            {"linear": 110, "bias": False},
            {"lif": neuron},
            {"vote": 10},
        ],
        "readout": "mean",
    }
    return StackConfig.model_validate(config).build([])


def loaded(network: Stack, numbers: dict[str, Tensor], names: dict[str, str], what: str = "buffer_before") -> None:
    """Give a network the weights of a golden file; `names` are ours by theirs."""
    state = network.state_dict()
    for theirs, ours in names.items():
        for source in (f"param.{theirs}", f"{what}.{theirs}"):
            if source in numbers:
                state[ours] = numbers[source]
    network.load_state_dict(state)


def dvs_names() -> dict[str, str]:
    """Return our names by SpikingJelly's."""
    found: dict[str, str] = {}
    for block in range(5):
        conv, norm, neuron = (f"conv.{4 * block + place}" for place in range(3))
        ours = [f"layers.{4 * block + place}" for place in range(3)]
        found |= {f"{conv}.weight": f"{ours[0]}.weight", f"{neuron}.w": f"{ours[2]}.rate"}
        pairs = {"weight": "scale", "bias": "shift", "running_mean": "mean", "running_var": "variance"}
        found |= {f"{norm}.{theirs}": f"{ours[1]}.{our}" for theirs, our in pairs.items()}
    linear = {2: 22, 5: 25}
    found |= {f"fc.{theirs}.weight": f"layers.{ours}.weight" for theirs, ours in linear.items()}
    return found | {"fc.3.w": "layers.23.rate", "fc.6.w": "layers.26.rate"}


DVS = {
    "sj_lif_dvs": ("all", DETACHED),
    "sj_lif_dvs_step": ("step", DETACHED),
    "sj_plif_dvs": ("all", DETACHED | {"learn": "decay"}),
}


@pytest.mark.parametrize("name", DVS)
@pytest.mark.parametrize("form", ["plain", "fused"])
def test_spikingjelly_s_network_for_gestures(name: str, form: kernels.Form) -> None:
    """Training: spikes, loss, gradients and running statistics; evaluation: spikes and output."""
    numbers = golden(name)
    network = dvs(*DVS[name])
    loaded(network, numbers, dvs_names())
    masks = [layer for layer in network.leaves() if isinstance(layer, Dropout)]
    for layer, theirs in zip(masks, ("fc.1", "fc.4"), strict=True):
        layer.mask = numbers[f"dropout_mask.{theirs}"]
    tolerance = 10 * float(numbers["float64_grad_reldiff"])
    x = numbers["frames"]
    taps = {f"conv.{4 * n + 2}": Tap(4 * n + 3, "spikes") for n in range(5)}
    taps |= {"fc.3": Tap(24, "spikes"), "fc.6": Tap(27, "spikes")}
    network.train()
    seen: dict[Tap, Tensor] = {}
    hooks = [
        units.register_forward_hook(lambda _m, _i, out, tap=tap: seen.__setitem__(tap, out[0].detach()))
        for tap, units in network.taps.items()
    ]
    with kernels.using(form):
        output, _ = network(x)
        loss = OneHot().loss(output, numbers["labels"])
        loss.backward()
    for hook in hooks:
        hook.remove()
    for theirs, tap in taps.items():
        assert torch.equal(seen[tap], numbers[f"spikes.{theirs}"]), theirs
    assert apart(output.detach(), numbers["output"]) < 1e-6
    assert apart(loss.detach(), numbers["loss"]) < 1e-6
    ours = dict(network.named_parameters())
    state = network.state_dict()
    for theirs, name_here in dvs_names().items():
        if f"grad.{theirs}" in numbers:
            assert apart(ours[name_here].grad, numbers[f"grad.{theirs}"]) < tolerance, theirs  # type: ignore[arg-type]
        if f"buffer_after.{theirs}" in numbers:
            assert apart(state[name_here], numbers[f"buffer_after.{theirs}"]) < tolerance, theirs
    network.eval()
    with kernels.using(form):
        run = network_engine(network, show=True)(x, None)
    for theirs, tap in taps.items():
        assert torch.equal(run.taps[tap], numbers[f"eval.spikes.{theirs}"]), theirs
    assert apart(run.logits, numbers["eval.output"]) < 1e-6


def test_step_mode_and_layer_mode_are_one_network_where_each_step_has_its_statistics() -> None:
    numbers = golden("sj_lif_dvs_step")
    outputs = []
    modes: tuple[Mode, ...] = ("layers", "steps")
    for mode in modes:
        network = dvs("step", DETACHED)
        network.mode = mode
        loaded(network, numbers, dvs_names())
        for layer, theirs in zip(
            (each for each in network.leaves() if isinstance(each, Dropout)), ("fc.1", "fc.4"), strict=True
        ):
            layer.mask = numbers[f"dropout_mask.{theirs}"]
        output, _ = network.train()(numbers["frames"])
        outputs.append(output.detach())
        assert apart(network.state_dict()["layers.1.mean"], numbers["buffer_after.conv.1.running_mean"]) < 1e-5
    assert torch.equal(*outputs)


def test_snntorch_s_network_for_gestures() -> None:
    numbers = golden("snntorch_dvs")
    config = {
        "input": [2, 32, 32],
        "layers": [
            {"conv": 12, "kernel": 5},
            {"pool": "max", "size": 2},
            {"lif": LEAKY},
            {"conv": 32, "kernel": 5},
            {"pool": "max", "size": 2},
            {"lif": LEAKY},
            "flatten",
            {"linear": 11},
            {"lif": LEAKY},
        ],
        "readout": "sum",
    }
    network = StackConfig.model_validate(config).build([])
    names = {f"{n}.{what}": f"layers.{n}.{what}" for n in (0, 3, 7) for what in ("weight", "bias")}
    loaded(network, numbers, names)
    x, task = numbers["frames"], SpikeCount(0.8, 0.2)
    output, _ = network(x)
    loss = task.loss(output, numbers["labels"], len(x))
    loss.backward()
    run = network_engine(network, show=True)(x, None)
    for place, number in {2: 3, 5: 6, 8: 9}.items():
        assert torch.equal(run.taps[Tap(number, "spikes")], numbers[f"spikes.{place}"]), place
    assert torch.equal(output.detach(), numbers["output_spikes"].sum(0))
    assert apart(loss.detach(), numbers["loss"]) < 1e-6
    assert float(task.correct(output, numbers["labels"])) / 2 == float(numbers["accuracy"])
    ours, tolerance = dict(network.named_parameters()), 10 * float(numbers["float64_grad_reldiff"])
    for theirs, here in names.items():
        assert apart(ours[here].grad, numbers[f"grad.{theirs}"]) < tolerance, theirs  # type: ignore[arg-type]


@pytest.mark.parametrize("steps", [6, 7, 16, 25])
def test_the_loss_of_spike_counts_is_snntorch_s(steps: int) -> None:
    numbers = {
        key.partition(".")[2]: value for key, value in golden("snntorch_dvs").items() if key.startswith(f"loss{steps}.")
    }
    spikes = numbers["spikes"].clone().requires_grad_()
    loss = SpikeCount(0.8, 0.2).loss(spikes.sum(0), numbers["labels"], steps)
    loss.backward()
    assert apart(loss.detach(), numbers["loss"]) < 1e-6
    assert spikes.grad is not None
    assert apart(spikes.grad, numbers["grad"]) < 1e-6
    right = SpikeCount(0.8, 0.2).correct(spikes.sum(0), numbers["labels"])
    assert float(right) / 4 == pytest.approx(float(numbers["accuracy"]))


def test_sinabs_network_for_spoken_commands() -> None:
    numbers = golden("sinabs_iaf")
    hidden = [{"linear": 12}, {"lif": IAF}]
    config = {"input": [20], "layers": [*hidden, *hidden, *hidden, {"linear": 7}], "readout": "sum"}
    network = StackConfig.model_validate(config).build([])
    names = {f"{n}.{what}": f"layers.{n}.{what}" for n in (0, 2, 4, 6) for what in ("weight", "bias")}
    loaded(network, numbers, names)
    x = numbers["frames"].transpose(0, 1)
    output, after = network(x)
    loss = torch.nn.functional.cross_entropy(output, numbers["labels"])
    loss.backward()
    run = network_engine(network, show=True)(x, None)
    most = 0.0
    for n in (1, 3, 5):
        assert torch.equal(run.taps[Tap(n + 1, "spikes")], numbers[f"spikes.{n}"].transpose(0, 1)), n
        assert apart(run.state[f"v{n + 1}"], numbers[f"v_mem.{n}"][:, -1]) < 1e-5
        most = max(most, float(numbers[f"spikes.{n}"].max()))
    assert most > 1
    assert apart(output.detach(), numbers["output_sum"]) < 1e-6
    assert apart(loss.detach(), numbers["loss"]) < 1e-6
    ours, tolerance = dict(network.named_parameters()), 10 * float(numbers["float64_grad_reldiff"])
    for theirs, here in names.items():
        assert apart(ours[here].grad, numbers[f"grad.{theirs}"]) < tolerance, theirs  # type: ignore[arg-type]
    carried, _ = network(
        x,
        {name: value.detach() for name, value in after.items() if name.startswith("v")} | {"total": torch.zeros(3, 7)},
    )
    assert apart(carried.detach(), numbers["carried.output"].sum(1)) < 1e-6
