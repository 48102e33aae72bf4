"""Images resized and cropped as torchvision, open_clip and transformers do it for CLIP.

Run:  python preprocess.py INPUTS OUT

Every file of INPUTS is decoded by Pillow, turned as its EXIF says, and put through each of them to every (edge, crop)
of SIZES, in both interpolations, once with its proportions kept and once squashed to a square, where the program knows
both. OUT/NUMBER.rgb is an answer's crop x crop pixels; OUT/index.json says whose and of what.
"""

import json
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import pillow_heif
from open_clip.transform import image_transform
from PIL import Image, ImageOps
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

pillow_heif.register_heif_opener()

# Shortest edge and crop, px: smaller and larger than the inputs, and a margin to crop away.
SIZES = [(24, 24), (48, 40), (100, 100)]
FILTERS = {"bicubic": (InterpolationMode.BICUBIC, Image.BICUBIC), "bilinear": (InterpolationMode.BILINEAR, Image.BILINEAR)}


def opened(path):
    with Image.open(path) as image:
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I"):  # 16-bit grey: the high byte, as in goldens/vision/make.py
            image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
        return image.convert("RGB")


def by_torchvision(image, edge, crop, filter, squash):
    if squash:
        return None  # Resize and CenterCrop, whose crop rounds otherwise; open_clip's is the same
    steps = Compose([Resize(edge, FILTERS[filter][0], antialias=True), CenterCrop(crop)])
    return np.asarray(steps(image))


def by_open_clip(image, edge, crop, filter, squash):
    if edge != crop:
        return None  # it knows one size
    mode = "squash" if squash else "shortest"
    zero = dict(mean=(0, 0, 0), std=(1, 1, 1))
    transform = image_transform(crop, is_train=False, interpolation=filter, resize_mode=mode, **zero)
    return (transform(image) * 255).round().byte().permute(1, 2, 0).numpy()


def by_transformers(image, edge, crop, filter, squash):
    processor = CLIPImageProcessorPil(
        size={"height": edge, "width": edge} if squash else {"shortest_edge": edge}, crop_size={"height": crop, "width": crop}, resample=FILTERS[filter][1],
        do_rescale=False, do_normalize=False,
    )
    pixels = np.asarray(processor(image, return_tensors="np")["pixel_values"][0])
    return pixels.round().astype(np.uint8).transpose(1, 2, 0)


PEERS = {"torchvision": by_torchvision, "open_clip": by_open_clip, "transformers": by_transformers}


def main():
    inputs, out = Path(sys.argv[1]), Path(sys.argv[2])
    index = []
    for path in sorted(inputs.iterdir()):
        image = opened(path)
        for edge, crop in SIZES:
            for filter in FILTERS:
                for peer, run in PEERS.items():
                    for squash in (False, True):
                        pixels = run(image, edge, crop, filter, squash)
                        if pixels is None:
                            continue
                        assert pixels.shape == (crop, crop, 3), (path.name, peer, pixels.shape)
                        name = f"{len(index)}.rgb"
                        (out / name).write_bytes(pixels.tobytes())
                        case = dict(edge=edge, crop=crop, filter=filter, squash=squash)
                        index.append(dict(peer=peer, input=path.name, pixels=name, **case))
    (out / "index.json").write_text(json.dumps(index))


if __name__ == "__main__":
    main()
