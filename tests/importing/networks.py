"""Networks of each library as its users write them, its own examples among them; none has only 0.5, 1 or 2 in it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d, relu

PACKAGES = {
    "snntorch": "snntorch",
    "spikingjelly": "spikingjelly",
    "sinabs": "sinabs",
    "norse": "norse",
    "torch": "torch",
}
Made = tuple[nn.Module, Tensor]
NETWORKS: dict[str, tuple[str, Callable[[], Made]]] = {}
"""The library of each, and what makes it and an example."""


def installed(module: str) -> Any:
    """Return a library's module, or skip with what would make the test run."""
    try:
        return pytest.importorskip(module, exc_type=ImportError)
    except pytest.skip.Exception as absent:
        package = PACKAGES[module.partition(".")[0]]
        raise pytest.skip.Exception(f"{absent.msg}; to run it: pip install --no-deps {package}") from None


def of(library: str) -> Callable[[Callable[[], Made]], Callable[[], Made]]:
    """Enter a network of a library into the table."""

    def enter(make: Callable[[], Made]) -> Callable[[], Made]:
        NETWORKS[make.__name__] = (library, make)
        return make

    return enter


def made(name: str) -> Made:
    """Return a network in evaluation mode, with weights that let it spike, and its example."""
    torch.manual_seed(3)
    module, example = NETWORKS[name][1]()
    return module.eval(), example


def louder(module: nn.Module, factor: float = 3.0) -> nn.Module:
    """Return a module with larger weights: those a library starts from hardly make a neuron spike."""
    for value in module.parameters():
        if value.ndim > 1:
            value.data *= factor
    return module


# ------------------------------------------------------------------------------------------------------------ snnTorch


@of("snntorch")
def snntorch_tutorial_5() -> Made:
    """Tutorial 5: a static image shown at every step, by a loop in the forward."""
    snn = installed("snntorch")

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1 = nn.Linear(28 * 28, 40)
            self.lif1 = snn.Leaky(beta=0.95)
            self.fc2 = nn.Linear(40, 10)
            self.lif2 = snn.Leaky(beta=0.95)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            mem1 = self.lif1.init_leaky()
            mem2 = self.lif2.init_leaky()
            spk2_rec = []
            mem2_rec = []
            for _step in range(9):
                cur1 = self.fc1(x)
                spk1, mem1 = self.lif1(cur1, mem1)
                cur2 = self.fc2(spk1)
                spk2, mem2 = self.lif2(cur2, mem2)
                spk2_rec.append(spk2)
                mem2_rec.append(mem2)
            return torch.stack(spk2_rec, dim=0), torch.stack(mem2_rec, dim=0)

    return louder(Net()), torch.rand(3, 28 * 28)


@of("snntorch")
def snntorch_tutorial_6() -> Made:
    """Tutorial 6: a convolutional network, with pooling before the neurons."""
    snn = installed("snntorch")
    surrogate = installed("snntorch.surrogate")

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            spike_grad = surrogate.fast_sigmoid(slope=25)
            self.conv1 = nn.Conv2d(1, 4, 5)
            self.lif1 = snn.Leaky(beta=0.43, spike_grad=spike_grad)
            self.conv2 = nn.Conv2d(4, 8, 5)
            self.lif2 = snn.Leaky(beta=0.57, spike_grad=spike_grad)
            self.fc1 = nn.Linear(8 * 4 * 4, 10)
            self.lif3 = snn.Leaky(beta=0.71, spike_grad=spike_grad)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            mem1, mem2, mem3 = self.lif1.init_leaky(), self.lif2.init_leaky(), self.lif3.init_leaky()
            spk3_rec, mem3_rec = [], []
            batch_size = x.size(0)
            for _step in range(5):
                cur1 = max_pool2d(self.conv1(x), 2)
                spk1, mem1 = self.lif1(cur1, mem1)
                cur2 = max_pool2d(self.conv2(spk1), 2)
                spk2, mem2 = self.lif2(cur2, mem2)
                cur3 = self.fc1(spk2.view(batch_size, -1))
                spk3, mem3 = self.lif3(cur3, mem3)
                spk3_rec.append(spk3)
                mem3_rec.append(mem3)
            return torch.stack(spk3_rec), torch.stack(mem3_rec)

    return louder(Net(), 2), torch.rand(2, 1, 28, 28)


@of("snntorch")
def snntorch_sequential() -> Made:
    """Tutorial 6 and the examples' other way: Sequential, whose neurons keep their states."""
    snn = installed("snntorch")
    net = nn.Sequential(
        nn.Conv2d(2, 6, 3),
        snn.Leaky(beta=0.83, threshold=0.37, init_hidden=True),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        snn.Leaky(beta=torch.tensor(0.61), learn_beta=True, learn_threshold=True, threshold=0.9, init_hidden=True),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(4 * 2 * 2, 7),
        snn.Leaky(beta=torch.rand(7) * 0.5 + 0.4, reset_mechanism="zero", init_hidden=True, output=True),
    )
    statistics(net)
    return louder(net, 6), torch.rand(3, 2, 10, 10)


@of("snntorch")
def snntorch_currents() -> Made:
    """Synaptic and Lapicque neurons, and a reset that comes with the spike."""
    snn = installed("snntorch")
    net = nn.Sequential(
        nn.Linear(9, 12),
        snn.Synaptic(alpha=torch.rand(12) * 0.6 + 0.1, beta=0.83, init_hidden=True, learn_alpha=True),
        nn.Linear(12, 11),
        snn.Lapicque(R=1.3, C=4.1, time_step=0.7, threshold=0.31, init_hidden=True),
        nn.Linear(11, 8),
        snn.Leaky(beta=0.77, reset_delay=False, graded_spikes_factor=0.6, init_hidden=True),
        nn.Linear(8, 6),
        snn.Leaky(beta=0.29, reset_mechanism="none", threshold=0.23, init_hidden=True),
    )
    return louder(net, 4), torch.rand(4, 9) * 2


@of("snntorch")
def snntorch_recurrent() -> Made:
    """RLeaky and RSynaptic, all to all and one to one."""
    snn = installed("snntorch")
    net = nn.Sequential(
        nn.Linear(10, 9),
        snn.RLeaky(beta=0.77, linear_features=9, reset_mechanism="zero", init_hidden=True),
        nn.Linear(9, 8),
        snn.RLeaky(beta=0.91, all_to_all=False, V=torch.randn(8), init_hidden=True),
        nn.Linear(8, 7),
        snn.RSynaptic(alpha=0.34, beta=0.66, linear_features=7, init_hidden=True),
    )
    return louder(net, 2.5), torch.rand(4, 10) * 3


@of("snntorch")
def snntorch_step() -> Made:
    """A forward of one step that takes and gives back the membranes."""
    snn = installed("snntorch")

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hidden = nn.ModuleList([nn.Linear(9, 11), nn.Linear(11, 11)])
            self.neurons = nn.ModuleDict({"a": snn.Leaky(beta=0.87), "b": snn.Leaky(beta=0.64, threshold=0.7)})
            self.out = nn.Linear(11, 3)

        def forward(self, x: Tensor, a: Tensor | None = None, b: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
            spikes, a = self.neurons["a"](self.hidden[0](x), a)
            more, b = self.neurons["b"](self.hidden[1](spikes), b)
            return self.out(more + spikes), a, b

    return louder(Net()), torch.rand(4, 9) * 2


def statistics(module: nn.Module) -> None:
    """Give normalisations statistics, scales and shifts that are not 0 and 1."""
    for each in module.modules():
        if isinstance(each, nn.BatchNorm1d | nn.BatchNorm2d):
            assert each.running_mean is not None
            assert each.running_var is not None
            each.running_mean.normal_(0, 0.2)
            each.running_var.uniform_(0.3, 1.7)
            if each.affine:
                each.weight.data.uniform_(0.6, 1.9)
                each.bias.data.normal_(0.3, 0.3)


# -------------------------------------------------------------------------------------------------------- SpikingJelly


@of("spikingjelly")
def spikingjelly_dvs_gesture() -> Made:
    """The network of the example classify_dvsg, with few channels."""
    nets = installed("spikingjelly.activation_based.model.parametric_lif_net")
    neuron = installed("spikingjelly.activation_based.neuron")
    functional = installed("spikingjelly.activation_based.functional")
    surrogate = installed("spikingjelly.activation_based.surrogate")
    net = nets.DVSGestureNet(
        channels=4, spiking_neuron=neuron.LIFNode, surrogate_function=surrogate.ATan(), detach_reset=True
    )
    functional.set_step_mode(net, "m")
    statistics(net)
    return louder(net, 9), (torch.rand(4, 1, 2, 128, 128) < 0.2).float() * 2


@of("spikingjelly")
def spikingjelly_lif_fc_mnist() -> Made:
    """The network of the example lif_fc_mnist: one step at a time."""
    neuron = installed("spikingjelly.activation_based.neuron")
    layer = installed("spikingjelly.activation_based.layer")
    surrogate = installed("spikingjelly.activation_based.surrogate")

    class SNN(nn.Module):
        def __init__(self, tau: float) -> None:
            super().__init__()
            self.layer = nn.Sequential(
                layer.Flatten(),
                layer.Linear(28 * 28, 10, bias=False),
                neuron.LIFNode(tau=tau, surrogate_function=surrogate.ATan()),
            )

        def forward(self, x: Tensor) -> Tensor:
            answer: Tensor = self.layer(x)
            return answer

    return louder(SNN(2.3), 6), torch.rand(3, 1, 28, 28)


@of("spikingjelly")
def spikingjelly_learned() -> Made:
    """PLIF without input decay, IF with v_reset below 0, soft resets; one step at a time."""
    neuron = installed("spikingjelly.activation_based.neuron")
    layer = installed("spikingjelly.activation_based.layer")
    net = nn.Sequential(
        layer.Linear(9, 14),
        neuron.IFNode(v_threshold=0.83, v_reset=-0.31),
        layer.Linear(14, 12),
        neuron.LIFNode(tau=3.1, v_reset=None, v_threshold=0.7),
        layer.Linear(12, 10),
        neuron.ParametricLIFNode(init_tau=1.7, decay_input=False, v_reset=0.13),
        layer.VotingLayer(5),
    )
    return louder(net, 5), torch.rand(5, 9) * 2


@of("spikingjelly")
def spikingjelly_recurrent() -> Made:
    """Recurrent containers around a neuron, and around a linear layer and a neuron."""
    neuron = installed("spikingjelly.activation_based.neuron")
    layer = installed("spikingjelly.activation_based.layer")
    net = nn.Sequential(
        layer.LinearRecurrentContainer(
            nn.Sequential(nn.Linear(9, 14), neuron.LIFNode(tau=2.2, decay_input=False)), 9, 14
        ),
        layer.Linear(14, 6),
        layer.LinearRecurrentContainer(neuron.LIFNode(tau=1.4, v_reset=0.1), 6, 6),
    )
    return louder(net, 3), torch.rand(5, 9) * 2


@of("spikingjelly")
def spikingjelly_window() -> Made:
    """Layers that take time, beside layers that do not within a container."""
    neuron = installed("spikingjelly.activation_based.neuron")
    layer = installed("spikingjelly.activation_based.layer")
    functional = installed("spikingjelly.activation_based.functional")
    net = nn.Sequential(
        layer.SeqToANNContainer(nn.Conv2d(2, 5, 3, padding=1, bias=False), nn.BatchNorm2d(5)),
        neuron.ParametricLIFNode(init_tau=2.6, v_threshold=0.6, store_v_seq=True),
        layer.MaxPool2d(2),
        layer.Flatten(),
        layer.Linear(5 * 9, 8),
        neuron.LIFNode(tau=1.9, v_reset=None),
    )
    functional.set_step_mode(net, "m")
    statistics(net)
    return louder(net, 4), torch.rand(7, 3, 2, 6, 6) * 2


# -------------------------------------------------------------------------------------------------------------- sinabs


@of("sinabs")
def sinabs_from_model() -> Made:
    """An ordinary network that sinabs.from_torch made spike."""
    from_torch = installed("sinabs.from_torch")
    ann = nn.Sequential(
        nn.Conv2d(2, 5, 3, bias=False), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(80, 12), nn.ReLU(),
        nn.Linear(12, 4),
    )  # fmt: skip
    net = from_torch.from_model(louder(ann), input_shape=(2, 10, 10), batch_size=2, add_spiking_output=True)
    return net, torch.rand(2 * 9, 2, 10, 10) * 2


@of("sinabs")
def sinabs_squeeze() -> Made:
    """Time and batch as one axis, with a bound on the membrane and sum pooling."""
    sl = installed("sinabs.layers")
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, bias=False),
        sl.IAFSqueeze(num_timesteps=10, min_v_mem=-0.7, spike_threshold=torch.tensor(1.3)),
        sl.SumPool2d(2),
        nn.Conv2d(4, 4, 3),
        sl.LIFSqueeze(tau_mem=5.3, num_timesteps=10),
        nn.Flatten(),
        nn.Linear(16, 3),
        sl.ExpLeakSqueeze(tau_mem=7.7, num_timesteps=10),
    )
    return louder(net), torch.rand(20, 2, 10, 10) * 2


@of("sinabs")
def sinabs_lif() -> Made:
    """LIF with decays of each unit's own, a synaptic current, and single spikes reset to zero."""
    sl = installed("sinabs.layers")
    sa = installed("sinabs.activation")
    net = nn.Sequential(
        nn.Linear(10, 16),
        sl.LIF(tau_mem=torch.rand(16) * 10 + 3, spike_fn=sa.SingleSpike, reset_fn=sa.MembraneReset(), norm_input=False),
        nn.Linear(16, 12),
        sl.LIF(tau_mem=7.3, tau_syn=torch.rand(12) * 5 + 2, spike_threshold=torch.rand(12) * 0.4 + 0.2),
        nn.Linear(12, 5),
        sl.ExpLeak(tau_mem=11.3),
    )
    return louder(net), torch.rand(3, 15, 10) * 2


@of("sinabs")
def sinabs_recurrent() -> Made:
    """Layers that see their own spikes."""
    sl = installed("sinabs.layers")
    net = nn.Sequential(
        nn.Linear(10, 12),
        sl.LIFRecurrent(tau_mem=8.1, tau_syn=5.2, rec_connect=nn.Linear(12, 12, bias=False), record_states=True),
        nn.Linear(12, 6),
        sl.IAFRecurrent(rec_connect=nn.Linear(6, 6, bias=False), spike_threshold=torch.tensor(0.83)),
    )
    return louder(net, 2), torch.rand(3, 15, 10) * 3


# --------------------------------------------------------------------------------------------------------------- norse


@of("norse")
def norse_sequential() -> Made:
    """SequentialState over a window: a lifted convolution, LIF, and LIF that sees its own spikes."""
    norse = installed("norse.torch")
    net = norse.SequentialState(
        norse.Lift(nn.Conv2d(1, 3, 3)),
        norse.LIF(norse.LIFParameters(v_th=torch.tensor(0.31), alpha=torch.tensor(80.0)), record_states=True),
        nn.Flatten(2),
        nn.Linear(27, 10),
        norse.LIFRecurrent(10, 7),
        nn.Linear(7, 4),
        norse.LI(norse.LIParameters(tau_mem_inv=torch.tensor(130.0))),
    )
    return louder(net), torch.rand(20, 1, 1, 5, 5) * 4


@of("norse")
def norse_conv_net() -> Made:
    """The example's ConvNet (norse.torch.models.conv), whose loop stacks what it gives."""
    norse = installed("norse.torch")

    class ConvNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            p = norse.LIFParameters(method="super", alpha=torch.tensor(100.0))
            self.conv1 = nn.Conv2d(1, 4, 5, 1)
            self.conv2 = nn.Conv2d(4, 6, 5, 1)
            self.fc1 = nn.Linear(4 * 4 * 6, 20)
            self.out = norse.LILinearCell(20, 10)
            self.lif0, self.lif1, self.lif2 = norse.LIFCell(p=p), norse.LIFCell(p=p), norse.LIFCell(p=p)

        def forward(self, x: Tensor) -> Tensor:
            s0 = s1 = s2 = so = None
            voltages = []
            for ts in range(x.shape[0]):
                z = self.conv1(x[ts, :])
                z, s0 = self.lif0(z, s0)
                z = max_pool2d(z, 2, 2)
                z = 10 * self.conv2(z)
                z, s1 = self.lif1(z, s1)
                z = max_pool2d(z, 2, 2)
                z = z.view(-1, 4 * 4 * 6)
                z = self.fc1(z)
                z, s2 = self.lif2(z, s2)
                v, so = self.out(relu(z), so)
                voltages.append(v)
            return torch.stack(voltages)

    return louder(ConvNet(), 4), torch.rand(12, 2, 1, 28, 28) * 3


@of("norse")
def norse_cells() -> Made:
    """Cells: a leak and a reset of their own, box neurons, integrate-and-fire, all with odd constants."""
    norse = installed("norse.torch")
    p = norse.LIFParameters(
        v_leak=torch.tensor(0.1),
        v_reset=torch.tensor(-0.2),
        tau_mem_inv=torch.tensor(150.0),
        v_th=torch.tensor(0.5),
    )
    net = norse.SequentialState(
        nn.Linear(8, 9),
        norse.LIFCell(p),
        nn.Linear(9, 9),
        norse.LIFBoxCell(norse.LIFBoxParameters(tau_mem_inv=torch.tensor(230.0), v_th=torch.tensor(0.3))),
        nn.Linear(9, 6),
        norse.IAFCell(),
        norse.LILinearCell(6, 3),
    )
    return louder(net, 4), torch.rand(4, 8) * 6


@of("norse")
def norse_states() -> Made:
    """A forward of one step that takes and gives back the states of recurrent cells."""
    norse = installed("norse.torch")

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(8, 9)
            self.hidden = norse.LIFRecurrentCell(
                9, 9, p=norse.LIFParameters(tau_syn_inv=torch.tensor(310.0), tau_mem_inv=torch.rand(9) * 100 + 60)
            )
            self.out, self.readout = nn.Linear(9, 3), norse.LICell()

        def forward(self, x: Tensor, s1: Any = None, s2: Any = None) -> Any:
            z, s1 = self.hidden(self.fc(x), s1)
            v, s2 = self.readout(self.out(z), s2)
            return v, s1, s2

    return louder(Net(), 4), torch.rand(4, 8) * 6


# --------------------------------------------------------------------------------------------------------------- torch


@of("torch")
def torch_lstm() -> Made:
    """Two layers of LSTM, and an answer from the last step."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(7, 9, 2, batch_first=True, dropout=0.3)
            self.fc = nn.Linear(9, 4)

        def forward(self, x: Tensor) -> Tensor:
            y, _ = self.lstm(x, (torch.zeros(2, x.size(0), 9), torch.zeros(2, x.size(0), 9)))
            answer: Tensor = self.fc(y[:, -1])
            return answer

    return Net(), torch.randn(3, 4, 7)


@of("torch")
def torch_gru() -> Made:
    """Three layers of GRU, and a linear layer at every step."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru, self.fc = nn.GRU(6, 8, 3), nn.Linear(8, 5)

        def forward(self, x: Tensor) -> Tensor:
            y, _ = self.gru(x)
            answer: Tensor = self.fc(torch.relu(y))
            return answer

    return Net(), torch.randn(9, 2, 6)


@of("torch")
def torch_rnn() -> Made:
    """nn.RNN of relu without a bias, as it is."""
    return nn.RNN(7, 9, 2, nonlinearity="relu", bias=False), torch.randn(11, 3, 7)


@of("torch")
def torch_mean() -> Made:
    """A tanh RNN behind an ordinary layer, and the mean over time."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.into, self.rnn = nn.Linear(5, 6), nn.RNN(6, 4, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            y, _ = self.rnn(torch.tanh(self.into(x)))
            mean: Tensor = y.mean(dim=1)
            return mean

    return Net(), torch.randn(4, 6, 5)


@of("torch")
def torch_tokens() -> Made:
    """Words: an embedding, an LSTM and a decoder."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.lstm, self.decode = nn.Embedding(23, 6), nn.LSTM(6, 7), nn.Linear(7, 23)

        def forward(self, x: Tensor) -> Tensor:
            y, _ = self.lstm(self.embed(x))
            answer: Tensor = self.decode(y)
            return answer

    return Net(), torch.randint(0, 23, (8, 3))
