"""A CUDA provider where there is none: sessions of the CPU behind the interface of CUDA's, which note what crosses."""

from typing import Any

import pytest


class FakeValue:
    """A value on the device."""

    def __init__(self, cuda: "FakeCuda", array: Any) -> None:
        self._cuda, self.array = cuda, array

    def numpy(self) -> Any:
        """Bring it to the host."""
        self._cuda.fetched += 1
        return self.array


class FakeBinding:
    """Inputs and outputs bound to places."""

    def __init__(self, cuda: "FakeCuda", session: Any) -> None:
        self._cuda, self._session = cuda, session
        self._feeds: dict[str, Any] = {}
        self._values: list[FakeValue] = []

    def bind_cpu_input(self, name: str, value: Any) -> None:
        self._cuda.sent.append(name)
        self._feeds[name] = value

    def bind_ortvalue_input(self, name: str, value: FakeValue) -> None:
        self._feeds[name] = value.array

    def bind_output(self, name: str, device: str, number: int) -> None:
        self._cuda.outputs[name] = (device, number)

    def run(self) -> None:
        self._values = [FakeValue(self._cuda, value) for value in self._session.run(None, self._feeds)]

    def get_outputs(self) -> list[FakeValue]:
        return self._values


class FakeSession:
    """A session that says it runs on CUDA."""

    def __init__(self, cuda: "FakeCuda", session: Any) -> None:
        self._cuda, self._session = cuda, session
        for name in ("run", "get_inputs", "get_outputs", "end_profiling"):
            setattr(self, name, getattr(session, name))

    def get_providers(self) -> list[str]:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]

    def io_binding(self) -> FakeBinding:
        return FakeBinding(self._cuda, self._session)

    def run_with_iobinding(self, binding: FakeBinding) -> None:
        binding.run()


class FakeCuda:
    """What crossed between host and device."""

    def __init__(self) -> None:
        self.fetched = 0
        self.sent: list[str] = []
        self.outputs: dict[str, tuple[str, int]] = {}
        self.options: dict[str, int] = {}

    @classmethod
    def put_in_place(cls, monkeypatch: pytest.MonkeyPatch) -> "FakeCuda":
        """Let ONNX Runtime hand out such sessions where CUDA is asked for."""
        import onnxruntime

        cuda, real = cls(), onnxruntime.InferenceSession

        def session(model: Any, options: Any = None, providers: Any = ()) -> Any:
            opened = real(model, options, providers=["CPUExecutionProvider"])
            if providers == ["CPUExecutionProvider"]:
                return opened
            ((name, cuda.options),) = providers
            assert name == "CUDAExecutionProvider"
            return FakeSession(cuda, opened)

        monkeypatch.setattr(onnxruntime, "InferenceSession", session)
        return cuda
