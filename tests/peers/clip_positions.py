"""Position embeddings for another grid of patches, as `open_clip` and `transformers` interpolate them.

Run:  python clip_positions.py FILE GRID...

FILE is a safetensors file with `positions` [1 + G·G, W], the class token's first. For every GRID (patches a side) two
tensors [1 + GRID·GRID, W] are put beside: `open_clip.GRID` and `transformers.GRID`.
"""

import os
import sys
from pathlib import Path
from types import SimpleNamespace

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from open_clip.model import resize_pos_embed
from safetensors.torch import load_file, save_file
from transformers import CLIPVisionConfig
from transformers.models.clip.modeling_clip import CLIPVisionEmbeddings

PATCH = 8  # px; any would do


def by_open_clip(positions, grid):
    # All that the function wants to know of the model is its grid.
    model = SimpleNamespace(visual=SimpleNamespace(grid_size=(grid, grid)))
    weights = {"visual.positional_embedding": positions}
    resize_pos_embed(weights, model)
    return weights["visual.positional_embedding"]


def by_transformers(positions, grid):
    count, width = positions.shape
    before = round((count - 1) ** 0.5)
    config = CLIPVisionConfig(hidden_size=width, num_attention_heads=1, image_size=before * PATCH, patch_size=PATCH)
    embeddings = CLIPVisionEmbeddings(config)
    embeddings.position_embedding.weight.data = positions
    patches = torch.zeros(1, 1 + grid * grid, width)
    return embeddings.interpolate_pos_encoding(patches, grid * PATCH, grid * PATCH)[0]


def main():
    path = Path(sys.argv[1])
    tensors = load_file(path)
    positions = tensors["positions"]
    with torch.no_grad():
        for grid in map(int, sys.argv[2:]):
            tensors[f"open_clip.{grid}"] = by_open_clip(positions, grid).contiguous()
            tensors[f"transformers.{grid}"] = by_transformers(positions, grid).contiguous()
    save_file(tensors, path)


if __name__ == "__main__":
    main()
