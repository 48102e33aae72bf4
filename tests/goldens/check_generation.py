"""Checks a generation with other people's tools: onnx.checker takes it, three engines give torch's answers on the probe
(ONNX's reference evaluator, Python's ONNX Runtime, and OpenVINO, which shares no code with either), ONNX Runtime fuses
what docs/export.md says, and its 8-bit products do not overflow.

    python check_generation.py DIRECTORY
"""

import collections
import json
import pathlib
import sys
import tempfile

import numpy as np
import onnx
import onnx.reference
import onnxruntime
import openvino
from safetensors.numpy import load_file

OUTPUTS = ("logits", "probabilities", "embedding")
# Logits reach 100; probabilities and embeddings 1. Those of probabilities are the daemon's (daemon/core/src/promotion.rs).
BOUNDS = {
    "fp32": {"logits": 1e-3, "probabilities": 1e-4, "embedding": 1e-4},
    "fp16": {"logits": 0.1, "probabilities": 1e-2, "embedding": 1e-2},
    "int8": {"logits": 1, "probabilities": 0.1, "embedding": 0.1},
}
# The reference evaluator is written to be read: an image takes a ViT-B/32 0.3 s, the 16 of its probe 5 s.
IMAGES_OF_REFERENCE = 2


def reference(model, pixels):
    return onnx.reference.ReferenceEvaluator(model).run(OUTPUTS, {"pixels": pixels})


def onnx_runtime(model, pixels):
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(OUTPUTS, {"pixels": pixels})


def check_saturation(model, probe):
    """ONNX Runtime's kernels for processors without VNNI cut sums to 16 bits. This option makes it take kernels that do not: where
    nothing is cut, the products are the same integers. What is left to differ is the order of sums in single precision elsewhere."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")
    exact = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    plain = onnx_runtime(model, probe["pixels"])
    for name, a, b in zip(OUTPUTS, plain, exact.run(OUTPUTS, {"pixels": probe["pixels"]}), strict=True):
        difference = np.abs(a - b).max()
        assert difference <= 1e-5 * max(1, np.abs(b).max()), f"{name} differ by {difference} where sums are not cut"
        print(f"{'not cut':12} {name:13} {difference:.1e}")


def open_vino(model, pixels):
    # Its own choice is bfloat16 on processors that can.
    compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    results = compiled({"pixels": pixels})
    return [results[name] for name in OUTPUTS]


def check(engine, model, probe, bounds):
    for name, found in zip(OUTPUTS, engine(model, probe["pixels"]), strict=True):
        assert found.shape == probe[name].shape, f"{engine.__name__}: {name} have shape {found.shape}"
        difference = np.abs(found - probe[name]).max()
        # Written so that a difference that is not a number fails.
        assert difference <= bounds[name], f"{engine.__name__}: {name} differ by {difference}"
        print(f"{engine.__name__:12} {name:13} {difference:.1e}")


def check_fusions(model, precision):
    weights = onnx.load(model, load_external_data=False).graph.initializer
    blocks = len({w.name.split(".")[1] for w in weights if w.name.startswith("blocks.")})
    with tempfile.TemporaryDirectory() as scratch:
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = scratch + "/optimised.onnx"
        options.log_severity_level = 3  # it warns that such a file is for this machine alone
        onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        optimised = onnx.load(options.optimized_model_filepath, load_external_data=False)
    ops = collections.Counter(node.op_type for node in optimised.graph.node)
    if precision != "fp16":  # which is for GPUs: here it runs in single precision between casts
        # Of a block's two norms, that behind visual prompts is not fused.
        assert blocks <= ops["SkipLayerNormalization"] < 2 * blocks, ops
        assert ops["QuickGelu"] + ops["BiasGelu"] + ops["Gelu"] == blocks, ops
    assert ops["MatMulIntegerToFloat"] == (6 * blocks if precision == "int8" else 0), ops


directory = pathlib.Path(sys.argv[1])
model = str(directory / "model.onnx")
onnx.checker.check_model(model, full_check=True)
probe = load_file(directory / "probe.safetensors")
precision = json.loads((directory / "manifest.json").read_text())["precision"]
bounds = BOUNDS[precision]
check(reference, model, {name: values[:IMAGES_OF_REFERENCE] for name, values in probe.items()}, bounds)
for engine in (onnx_runtime, open_vino):
    check(engine, model, probe, bounds)
if precision == "int8":
    check_saturation(model, probe)
check_fusions(model, precision)
