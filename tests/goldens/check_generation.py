"""Checks a generation with other people's tools: onnx.checker takes it, and Python's ONNX Runtime gives torch's answers.

    python check_generation.py DIRECTORY
"""

import pathlib
import sys

import numpy as np
import onnx
import onnxruntime
from safetensors.numpy import load_file

directory = pathlib.Path(sys.argv[1])
model = str(directory / "model.onnx")
onnx.checker.check_model(model, full_check=True)
probe = load_file(directory / "probe.safetensors")
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
for name, found in zip(("logits", "probabilities", "embedding"), session.run(None, {"pixels": probe["pixels"]})):
    # Logits reach 100; probabilities and embeddings 1.
    bound = 1e-3 if name == "logits" else 1e-4
    difference = np.abs(found - probe[name]).max()
    assert difference <= bound, f"{name} differ by {difference}"
