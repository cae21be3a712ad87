"""`python -m benchmarks.rounding`: how far float32 sums are from their bound (docs/mathematics.md, section 4).

Sums of products as units have them, in torch, in ONNX Runtime, and one term after another; of each the largest error as
a share of the bound that the proof allows, and of the constant 8 u sum |t| that is in use elsewhere.
"""

import argparse
import math
from collections.abc import Callable

import numpy as np
import onnxruntime
import torch
from onnx import TensorProto, helper
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from hstnn_deploy.export.proof.bounded import UNIT_ROUNDOFF, Bounded, exact

TERMS = (1, 3, 8, 30, 100, 800, 4000)
UNITS = 200
DRAWS = ("weights of random sign", "5 % spikes", "50 % spikes", "all positive", "falling inputs")


class _Nobody:
    """Who is never asked: a product claims nothing."""

    def spikes(self, *_: object) -> Tensor:
        raise AssertionError

    values = spikes


def drawn(name: str, terms: int, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return inputs [batch, terms] and weights [terms, UNITS] of one kind."""
    w = torch.randn(terms, UNITS, generator=generator) / math.sqrt(terms)
    x = torch.rand(batch, terms, generator=generator)
    match name:
        case "5 % spikes":
            return (x < 0.05).float(), w
        case "50 % spikes":
            return (x < 0.5).float(), w
        case "all positive":
            return x, w.abs()
        case "falling inputs":
            return (x - 0.5) * torch.logspace(0, -6, terms), w
    return torch.randn(batch, terms, generator=generator), w


def session() -> onnxruntime.InferenceSession:
    """Return ONNX Runtime's product of x and w."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xwy"]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "product", values[:2], values[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def one_after_another(x: Tensor, w: Tensor) -> Tensor:
    """Return x @ w, added up term by term."""
    total = torch.zeros(len(x), w.shape[1])
    for k in range(len(w)):
        total += x[:, k : k + 1] * w[k]
    return total


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rounding", description=__doc__)
    parser.add_argument("--sums", type=float, default=1e6, help="sums of each kind and engine (default %(default)g)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    product = session()
    engines: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "torch": lambda x, w: x @ w,
        "ONNX Runtime": lambda x, w: torch.from_numpy(
            np.asarray(product.run(None, {"x": x.numpy(), "w": w.numpy()})[0])
        ),
        "one after another": one_after_another,
    }
    table = Table("terms", "what", *engines, title="largest error / bound of the proof (/ 8 u sum |t|)")
    generator = torch.Generator().manual_seed(options.seed)
    count = 0
    for terms in TERMS:
        batch = max(1, min(2000, int(2e5 / terms)))
        rounds = max(1, round(options.sums / (batch * UNITS)))
        for name in DRAWS:
            worst = dict.fromkeys(engines, (0.0, 0.0))
            for _ in range(rounds):
                x, w = drawn(name, terms, batch, generator)
                expected = Bounded(_Nobody()).product(exact(x), nn.Parameter(w))
                usual = 8 * UNIT_ROUNDOFF * (x.double().abs() @ w.double().abs())
                some = expected.e > 0
                for engine, multiply in engines.items():
                    error = (multiply(x, w).double() - expected.v).abs()
                    count += error.numel()
                    shares = (error[some] / expected.e[some], error[some] / usual[some])
                    worst[engine] = tuple(
                        max(old, float(each.max()) if each.numel() else 0.0)
                        for old, each in zip(worst[engine], shares, strict=True)
                    )  # type: ignore[assignment]
            table.add_row(str(terms), name, *(f"{ours:.2f} ({other:.2f})" for ours, other in worst.values()))
    Console(width=110).print(table)
    print(f"{count:.3g} sums")


if __name__ == "__main__":
    main()
