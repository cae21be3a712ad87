"""Networks of snnTorch and SpikingJelly as their users write them, their own examples among them."""

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from tests.importing.table import Made, louder, of, statistics
from tests.libraries import installed

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
def snntorch_membranes() -> Made:
    """A regression: the answer is the membrane of the last neurons, averaged over time."""
    snn = installed("snntorch")

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1 = nn.Linear(9, 12)
            self.lif1 = snn.Leaky(beta=0.86)
            self.fc2 = nn.Linear(12, 7)
            self.lif2 = snn.Synaptic(alpha=0.37, beta=torch.rand(7) * 0.5 + 0.4, threshold=0.61)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            mem1 = self.lif1.reset_mem()
            syn2, mem2 = self.lif2.reset_mem()
            spikes, total = [], torch.zeros(x.size(1), 7)
            for now in x:
                spk1, mem1 = self.lif1(self.fc1(now), mem1)
                spk2, syn2, mem2 = self.lif2(self.fc2(spk1), syn2, mem2)
                spikes.append(spk2)
                total += mem2
            return total / len(x), torch.stack(spikes)

    return louder(Net()), torch.rand(8, 4, 9) * 2


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
def snntorch_slstm() -> Made:
    """A spiking LSTM between linear layers, and neurons of another kind behind it."""
    snn = installed("snntorch")
    net = nn.Sequential(
        nn.Linear(6, 9),
        snn.SLSTM(9, 9, threshold=0.21, learn_threshold=True, init_hidden=True),
        nn.Linear(9, 7),
        snn.Leaky(beta=0.74, threshold=0.83, init_hidden=True),
    )
    return louder(net), torch.rand(4, 6) * 2


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
