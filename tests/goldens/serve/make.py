"""Makes tiny generations for the tests of serving: which of red, green and blue is an image?

Mean colour, times a gain, through softmax. `sharp` and `soft` differ in the gain alone, so that an answer tells which of the
two gave it. `twisted` carries a probe that its model does not reproduce, and `turned` takes green for blue and blue for
green. Needs numpy, onnx and safetensors:

    python make.py
"""

import hashlib
import json
import pathlib

import numpy as np
from onnx import TensorProto, helper
from safetensors.numpy import save

SIDE = 8
CLASSES = ["red", "green", "blue"]
PREPROCESSING = {
    "do_resize": True, "size": {"shortest_edge": SIDE}, "resample": 3,
    "do_center_crop": True, "crop_size": {"height": SIDE, "width": SIDE},
    "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "do_convert_rgb": True,
}


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def generation(name, gain, probe_gain, order=(0, 1, 2)):
    out = pathlib.Path(__file__).parent / name
    out.mkdir(exist_ok=True)
    weight = np.eye(3, dtype=np.float32)[:, order] * np.float32(gain)
    nodes = [
        helper.make_node("ReduceMean", ["pixels", "axes"], ["embedding"], keepdims=0),
        helper.make_node("MatMul", ["embedding", "weight"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
    ]
    floats = lambda n, *shape: helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", *shape])
    graph = helper.make_graph(
        nodes, "classifier", [floats("pixels", 3, SIDE, SIDE)],
        [floats("logits", 3), floats("probabilities", 3), floats("embedding", 3)],
        [
            helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3]),
            helper.make_tensor("weight", TensorProto.FLOAT, [3, 3], weight.flatten()),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    pixels = np.random.default_rng(1).uniform(-1, 1, (4, 3, SIDE, SIDE)).astype(np.float32)
    embedding = pixels.mean((2, 3))
    logits = np.ascontiguousarray(embedding[:, order] * np.float32(probe_gain))
    probe = {"pixels": pixels, "logits": logits, "probabilities": softmax(logits), "embedding": embedding}
    report = {"images": 0, "classes": [], "adaptation": None, "warnings": [], "seconds": {}, "peak-memory-bytes": 0}
    files = {
        "model.onnx": model.SerializeToString(),
        "probe.safetensors": save(probe),
        "report.json": json.dumps(report).encode(),
    }
    sgd = {"learning-rate": 1.0, "momentum": 0.0, "weight-decay": 0.0, "epochs": 1, "batch": 1, "minimum-steps": 0}
    manifest = {
        "format": 1, "round": 1, "method": "zero-shot", "classes": CLASSES, "preprocessing": PREPROCESSING,
        "base-model": "", "image-set": "", "images": 0, "seed": 0,
        "settings": {"phase1": {"sgd": sgd}, "phase2": {"sgd": sgd}}, "producer": "make.py",
        "files": {n: hashlib.sha256(b).hexdigest() for n, b in files.items()},
    }
    files["manifest.json"] = json.dumps(manifest, indent=1).encode()
    for file, content in files.items():
        (out / file).write_bytes(content)


generation("sharp", 8.0, 8.0)
generation("soft", 2.0, 2.0)
generation("twisted", 2.0, 3.0)
generation("turned", 8.0, 8.0, (0, 2, 1))
