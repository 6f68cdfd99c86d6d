"""Networks of other programs, stored as TorchScript or ONNX, run without their code."""
