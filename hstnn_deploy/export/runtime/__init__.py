"""Run a bundle with numpy and ONNX Runtime alone: `from hstnn_deploy.export.runtime import Session`."""

from hstnn_deploy.export.runtime.session import Session, Stream

__all__ = ["Session", "Stream"]
