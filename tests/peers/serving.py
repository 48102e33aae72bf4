"""What the peers of `cargo xtask bench serve` share: a generation of coft, prepared for and run as its manifest says.

Shapes: B images, S side of the crop, C classes.
"""

import argparse
import io
import json
import pathlib

import numpy as np
import onnxruntime
import simplejpeg
from PIL import Image


def arguments(description):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("generation", type=pathlib.Path, help="directory with model.onnx and manifest.json")
    parser.add_argument("--port", type=int, required=True, help="on 127.0.0.1")
    parser.add_argument("--threads", type=int, required=True, help="of the session")
    return parser


def by_pillow(data):
    return Image.open(io.BytesIO(data)).convert("RGB")


def by_simplejpeg(data):
    return Image.fromarray(simplejpeg.decode_jpeg(data, colorspace="RGB"))


DECODERS = {"pillow": by_pillow, "simplejpeg": by_simplejpeg}


class Classifier:
    def __init__(self, generation, threads, decoder="pillow"):
        manifest = json.loads((generation / "manifest.json").read_text())
        self.classes = manifest["classes"]
        preprocessing = manifest["preprocessing"]
        self.edge, self.side = preprocessing["size"]["shortest_edge"], preprocessing["crop_size"]["height"]
        mean, std = (np.array(preprocessing[name], np.float32) for name in ["image_mean", "image_std"])
        self.scale, self.shift = 1 / (255 * std), -mean / std
        self.decode = DECODERS[decoder]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(
            generation / "model.onnx", options, providers=["CPUExecutionProvider"]
        )

    def prepare(self, data):
        """Bytes of a file -> [3, S, S]"""
        image = self.decode(data)
        width, height = image.size
        if width <= height:
            size = self.edge, int(self.edge * height / width)
        else:
            size = int(self.edge * width / height), self.edge
        image = image.resize(size, Image.BICUBIC)  # with antialias, as always in Pillow
        left, top = (round((length - self.side) / 2) for length in size)
        image = image.crop((left, top, left + self.side, top + self.side))
        pixels = np.asarray(image, np.float32) * self.scale + self.shift
        return pixels.transpose(2, 0, 1)

    def run(self, pixels):
        """[B, 3, S, S] -> of each image its classes with their probabilities, best first"""
        (answers,) = self.session.run(["probabilities"], {"pixels": np.ascontiguousarray(pixels)})  # [B, C]
        return [[(self.classes[c], float(answer[c])) for c in np.argsort(-answer)] for answer in answers]
