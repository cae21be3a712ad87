"""Networks of sinabs, Norse and torch as their users write them, their own examples among them."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d, relu

from tests.importing.table import Made, louder, of
from tests.libraries import installed

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
