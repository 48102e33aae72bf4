"""Makes the images of this directory and what Pillow reads and resizes them to.

Run:  python3 -m venv /tmp/venv && /tmp/venv/bin/pip install pillow==12.0.0 pillow-heif==1.8.1 imagecodecs numpy
      /tmp/venv/bin/python make.py     (needs jpegtran, of Debian's libjpeg-turbo-progs)

Pillow up to 12 resizes columns first, then rows; later versions choose the order by the sizes, which moves single pixels at
hard edges by several levels. coft follows the former, as the published preprocessing of CLIP models did.

`cases.json` lists for each case the input, the short side and the expected canonical pixels (a PNG), from which no channel may
be off by more than 1 of 255. A case whose short side is the input's own compares decoding alone. `others` holds what is not decoded.
"""

import json
import struct
import subprocess
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pillow_heif
from PIL import Image, ImageDraw, ImageOps

pillow_heif.register_heif_opener()

HERE = Path(__file__).parent
INPUTS, EXPECTED, OTHERS = HERE / "inputs", HERE / "expected", HERE / "others"
MAX_ASPECT = 4
CASES = []


def scene(width, height, seed):
    """Gradients, noise, hard edges and something like text: what a resize can get wrong."""
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    pixels = np.stack([255 * x, 255 * y, 127 + 127 * np.sin(9 * (x + y))], -1)
    pixels += rng.normal(0, 3, pixels.shape)
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    draw.ellipse((width * 0.1, height * 0.1, width * 0.5, height * 0.6), fill=(20, 20, 20))
    for line in range(2, height, 9):
        draw.line((width * 0.5, line, width * (0.6 + 0.35 * rng.random()), line), fill=(250, 250, 245))
    return image


def canonical(image, edge, filter=Image.BICUBIC):
    """The reference: `transformers` sizes, Pillow pixels, the ends of very long images left out, a multiple of four pixels."""
    short = min(image.size)
    size = [edge * side // short for side in image.size]
    whole = image if tuple(size) == image.size else image.resize(size, filter)
    most = MAX_ASPECT * edge
    kept = [side if side <= most else most - (most - side) % 4 for side in size]
    left, top = ((side - count) // 2 for side, count in zip(size, kept))
    return whole.crop((left, top, left + kept[0], top + kept[1]))


def case(name, edge, bilinear=False):
    """Adds a case for the input file of that name."""
    with Image.open(INPUTS / name) as image:
        image = ImageOps.exif_transpose(image)
        # Pillow has no RGB of 16-bit grey of its own; the high byte is what it keeps of 16-bit colour.
        if image.mode.startswith("I"):
            image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
        image = image.convert("RGB")
    expected = f"{name}-{edge}{'-bilinear' if bilinear else ''}.png"
    canonical(image, edge, Image.BILINEAR if bilinear else Image.BICUBIC).save(EXPECTED / expected, optimize=True)
    CASES.append({"input": name, "shortest-edge": edge, "expected": expected})
    if bilinear:
        CASES[-1]["bilinear"] = True


def save(image, name, edges, **options):
    image.save(INPUTS / name, **options)
    for edge in edges:
        case(name, edge)


def png(pixels, name, colour_type, bits=16, interlaced=False):
    """A PNG of 16 bits a channel, or an interlaced one: Pillow writes neither in colour."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = pixels.shape[:2]
    # Adam7: first column and row, and steps.
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    parts = [pixels[y::down, x::across] for x, y, across, down in passes] if interlaced else [pixels]
    rows = b"".join(b"\0" + row.astype(f">u{bits // 8}").tobytes() for part in parts if part.size for row in part)
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, interlaced)
    (INPUTS / name).write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    )


def main():
    for folder in (INPUTS, EXPECTED, OTHERS):
        folder.mkdir(exist_ok=True)
        for file in folder.iterdir():
            file.unlink()

    # The resize alone: lossless inputs, both directions, odd sides, odd aspect ratios.
    save(scene(97, 61, 1), "colour.png", [61, 32, 31, 17, 80])
    save(scene(40, 90, 2), "tall.png", [32, 64])
    save(scene(150, 110, 3), "large.png", [48])
    save(scene(129, 12, 4), "strip.png", [12, 24])
    save(scene(3, 70, 5), "sliver.png", [16])
    save(scene(1, 1, 6), "pixel.png", [1, 8])
    save(scene(64, 64, 7), "square.png", [64, 63])

    for name, edge in [("colour.png", 32), ("colour.png", 80), ("strip.png", 24), ("large.png", 48)]:
        case(name, edge, bilinear=True)

    # Every kind of pixel a PNG can hold.
    small = scene(37, 29, 8)
    save(small.convert("L"), "grey.png", [29, 16])
    save(small.convert("1"), "bilevel.png", [29])
    save(small.quantize(16), "palette.png", [29, 16])
    alpha = Image.linear_gradient("L").resize(small.size)
    translucent = small.copy()
    translucent.putalpha(alpha)
    save(translucent, "alpha.png", [29, 16])
    save(translucent.convert("LA"), "grey-alpha.png", [29])
    save(small.quantize(16), "palette-transparent.png", [29], transparency=3)
    wide = np.asarray(small).astype(np.uint32) * 257 - np.asarray(small) // 3
    png(wide, "deep.png", 2)
    case("deep.png", 29)
    png(wide[..., 0], "deep-grey.png", 0)
    case("deep-grey.png", 29)
    png(np.asarray(small), "interlaced.png", 2, bits=8, interlaced=True)
    case("interlaced.png", 29)
    png(wide, "interlaced-deep.png", 2, interlaced=True)
    case("interlaced-deep.png", 29)

    # Other lossless formats.
    save(small, "colour.bmp", [29])
    save(small, "colour.tiff", [29], compression="tiff_lzw")
    save(small.convert("L"), "grey.tiff", [29])
    save(small, "colour.webp", [29], lossless=True)
    save(translucent, "alpha.webp", [29], lossless=True, exact=True)
    save(small.quantize(64), "two-frames.gif", [29], save_all=True, append_images=[scene(37, 29, 9).quantize(64)])
    save(small, "colour.qoi", [29])

    # Lossy formats.
    photo = scene(83, 57, 10)
    save(photo, "full-chroma.jpg", [57, 32], quality=85, subsampling=0)
    save(photo, "half-chroma.jpg", [57, 32], quality=85, subsampling=2)
    save(photo, "progressive.jpg", [57], quality=85, subsampling=2, progressive=True)
    save(photo.convert("L"), "grey.jpg", [57, 32], quality=85)
    save(photo.convert("CMYK"), "four-inks.jpg", [57], quality=90)
    save(photo, "lossy.webp", [57], quality=80)
    for orientation in range(2, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        save(small, f"turned-{orientation}.jpg", [29], quality=90, subsampling=0, exif=exif)
    exif = Image.Exif()
    exif[0x0112] = 6
    save(small, "turned.png", [29], exif=exif)

    # JPEG with restarts, one component a scan, arithmetic coding.
    little = scene(45, 37, 11)
    save(little, "restarts.jpg", [37], quality=85, subsampling=2, restart_marker_blocks=1)
    save(little, "progressive-restarts.jpg", [37], quality=85, subsampling=0, progressive=True, restart_marker_blocks=4)
    little.save(HERE / "source.jpg", quality=85, subsampling=2)
    for name, options in {
        "scan-by-scan.jpg": ["-scans", "/dev/stdin"],
        "arithmetic.jpg": ["-arithmetic"],
        "progressive-arithmetic.jpg": ["-arithmetic", "-progressive"],
    }.items():
        command = ["jpegtran", "-copy", "none", *options, "-outfile", INPUTS / name, HERE / "source.jpg"]
        subprocess.run(command, input=b"0;1;2;", check=True)
        case(name, 37)
    (HERE / "source.jpg").unlink()

    # HEIC and AVIF, by libheif and libavif; turned by the container (bytes of EXIF), or by EXIF alone, which does not count.
    even = scene(64, 48, 12)
    save(even, "full-chroma.heic", [48, 32], quality=90, chroma=444)
    save(even, "half-chroma.heic", [48], quality=90, chroma=420)
    exif = Image.Exif()
    exif[0x0112] = 6
    save(even, "turned.heic", [48], quality=90, chroma=444, exif=exif.tobytes())
    save(even, "exif-alone.heic", [48], quality=90, chroma=444, exif=exif)
    save(translucent, "alpha.heic", [29], quality=90, chroma=444)
    save(even, "full-chroma.avif", [48], quality=90, subsampling="4:4:4")

    # TIFF in the ways that Pillow writes.
    save(small.quantize(16), "palette.tiff", [29])
    save(small.convert("1"), "bilevel.tiff", [29])
    save(small.convert("1"), "fax.tiff", [29], compression="group4")
    save(small.convert("CMYK"), "four-inks.tiff", [29])
    save(photo, "jpeg.tiff", [57], compression="jpeg", quality=85)
    save(photo.convert("L"), "jpeg-grey.tiff", [57], compression="jpeg", quality=85)
    turned = Image.Exif()
    turned[0x0112] = 8
    save(small, "turned.tiff", [29], exif=turned)

    # What is named and not decoded.
    grey = np.asarray(small.convert("L"))
    deep = (grey.astype(np.uint16) << 6) | 5
    (OTHERS / "lossless.jpg").write_bytes(imagecodecs.ljpeg_encode(grey))
    (OTHERS / "lossless-14-bits.jpg").write_bytes(imagecodecs.ljpeg_encode(deep, bitspersample=14))
    (OTHERS / "12-bits.jpg").write_bytes(imagecodecs.jpeg_encode(deep >> 2, bitspersample=12))
    (OTHERS / "jpeg-ls.jls").write_bytes(imagecodecs.jpegls_encode(grey))

    (HERE / "cases.json").write_text("[\n" + ",\n".join("  " + json.dumps(c) for c in CASES) + "\n]\n")
    total = sum(file.stat().st_size for folder in (INPUTS, EXPECTED, OTHERS) for file in folder.iterdir())
    print(f"{len(CASES)} cases, {total / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
