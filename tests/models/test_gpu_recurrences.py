"""The recurrences that a GPU runs by torch's own, cuDNN's there, are the plain ones; without a GPU, on the CPU."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hstnn_deploy.models import kernels

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
few = settings(max_examples=25, deadline=None)


@few
@given(
    st.integers(1, 6), st.integers(1, 3), st.integers(1, 4), st.integers(1, 5), st.integers(0, 2**31), st.booleans(),
    st.sampled_from(["rnn", "lstm"]), st.sampled_from([torch.float32, torch.float64]),
)  # fmt: skip
def test_library_recurrences_are_the_plain_ones(
    steps: int, batch: int, inputs: int, units: int, seed: int, padded: bool, unit: str, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(DEVICE, dtype)

    gates = (4,) if unit == "lstm" else ()
    states = [normal(batch, units) for _ in range(2 if unit == "lstm" else 1)]
    given_tensors = [normal(steps, batch, inputs), normal(inputs, *gates, units), *states, normal(units, *gates, units)]
    lengths = torch.randint(0, steps + 1, (batch,), generator=generator).to(DEVICE) if padded else None
    valid = torch.ones(steps, batch, 1, dtype=dtype, device=DEVICE)
    if lengths is not None:
        valid = (torch.arange(steps, device=DEVICE)[:, None] < lengths)[..., None].to(dtype)
    cotangents = [normal(steps, batch, units), *(normal(batch, units) for _ in states)]
    results = []
    for form in ("plain", "triton"):
        tensors = [each.clone().requires_grad_() for each in given_tensors]
        with kernels.using(form):
            h, *after = getattr(kernels, unit)(*tensors, lengths)
        outputs = [h * valid, *after]
        results.append([*outputs, *torch.autograd.grad(outputs, tensors, cotangents)])
    tolerance = 1e-4 if dtype == torch.float32 else 1e-9
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
