"""A CLIP of full size with random weights as `transformers` or `open_clip` makes and saves it, and its features.

Run:  python clip_features.py CASE DIR

Leaves the model in DIR, and in DIR/expected.safetensors: `pixels` [B, 3, S, S], `ids` [T, L] ending in the end token,
`image` [B, D] and `text` [T, D], the features as the other program computes them, not normalised. Cases are
LIBRARY:MODEL:FORMAT, with a model of SIZES, of ODD, or one that open_clip lists.
"""

import json
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from safetensors.torch import save_file

END = 49407
# Width, heads, layers, patch and side; width, heads and layers; the width of both. As open_clip names them, and DeiT-Ti.
SIZES = {
    "ViT-Ti-16": dict(vision=(192, 3, 12, 16, 224), text=(256, 4, 12), embed=256),
    "ViT-B-32": dict(vision=(768, 12, 12, 32, 224), text=(512, 8, 12), embed=512),
    "ViT-B-16": dict(vision=(768, 12, 12, 16, 224), text=(512, 8, 12), embed=512),
    "ViT-L-14": dict(vision=(1024, 16, 24, 14, 224), text=(768, 12, 12), embed=768),
    # 5 and 4 heads of 48, another activation in each encoder, and no two sizes alike.
    "odd": dict(vision=(240, 5, 3, 16, 64), text=(192, 4, 2), embed=80, activations=("gelu", "quick_gelu")),
    "odd-quick": dict(vision=(240, 5, 3, 16, 64), text=(192, 4, 2), embed=80, activations=("quick_gelu", "gelu")),
}
# The same for open_clip, which has one activation for both and no name for such models.
ODD = {
    name: dict(
        embed_dim=80, quick_gelu=quick,
        vision_cfg=dict(image_size=64, layers=3, width=240, head_width=48, patch_size=16, mlp_ratio=2.0),
        text_cfg=dict(context_length=77, vocab_size=49408, width=192, heads=4, layers=2),
    )
    for name, quick in [("odd", False), ("odd-quick", True)]
}


def unlike_the_start(model):
    """Biases that are not nought and norms that are not one: fresh weights would hide what is mixed up or left out."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1 and "class_embedding" not in name:
                parameter += 0.05 * torch.randn_like(parameter)


def transformers_model(name):
    from transformers import CLIPConfig, CLIPModel

    size = SIZES[name]
    width, heads, layers, patch, side = size["vision"]
    text_width, text_heads, text_layers = size["text"]
    activation, text_activation = size.get("activations", ("quick_gelu", "quick_gelu"))
    return CLIPModel(
        CLIPConfig(
            projection_dim=size["embed"],
            vision_config=dict(
                hidden_size=width, intermediate_size=4 * width, num_attention_heads=heads, num_hidden_layers=layers,
                patch_size=patch, image_size=side, projection_dim=size["embed"], hidden_act=activation,
            ),
            text_config=dict(
                hidden_size=text_width, intermediate_size=4 * text_width, num_attention_heads=text_heads,
                num_hidden_layers=text_layers, projection_dim=size["embed"], eos_token_id=END,
                hidden_act=text_activation,
            ),
        )
    )


def save_transformers(model, form, folder):
    if form == "bin":
        model.config.save_pretrained(folder)
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    elif form == "sharded-bin":
        # As transformers wrote them before version 5.
        model.config.save_pretrained(folder)
        state, weight_map = model.state_dict(), {}
        for part in range(2):
            shard = f"pytorch_model-{part + 1:05}-of-00002.bin"
            tensors = {name: state[name] for name in list(state)[part::2]}
            torch.save(tensors, folder / shard)
            weight_map |= dict.fromkeys(tensors, shard)
        index = dict(metadata={}, weight_map=weight_map)
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    else:
        if form == "bf16":
            model.to(torch.bfloat16)
        model.save_pretrained(folder, max_shard_size="150MB" if form == "shards" else "50GB")
    side = model.config.vision_config.image_size
    if form == "processor":
        # Both halves of the preparation as one object, and its one file.
        from transformers import CLIPImageProcessor, CLIPProcessor, CLIPTokenizer

        images = CLIPImageProcessor(size=dict(shortest_edge=side), crop_size=dict(height=side, width=side))
        CLIPProcessor(images, CLIPTokenizer()).save_pretrained(folder)
        assert (folder / "processor_config.json").is_file() and not (folder / "preprocessor_config.json").exists()
        return
    preprocessing = dict(size=dict(shortest_edge=side), crop_size=side, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessing))


def save_open_clip(model, name, form, folder):
    import open_clip

    if form == "torchscript":
        # OpenAI's archives are compiled modules with these very names, in half precision, and have these sizes as tensors.
        for mark, size in dict(input_resolution=224, context_length=77, vocab_size=49408).items():
            if hasattr(model, mark):
                delattr(model, mark)
            model.register_buffer(mark, torch.tensor(size))
        torch.jit.script(model).save(str(folder / "model.pt"))
        return
    config = ODD.get(name) or open_clip.get_model_config(name)
    preprocess = dict(mean=[0.5] * 3, std=[0.5] * 3, interpolation="bicubic", resize_mode="shortest")
    text = json.dumps(dict(model_cfg=config, preprocess_cfg=preprocess))
    (folder / "open_clip_config.json").write_text(text)
    if form == "bin":
        torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")
    elif form == "epoch":
        # As open_clip's training leaves it, of a compiled model on several devices.
        optimizer = torch.optim.AdamW(model.parameters())
        before = {k: v.clone() for k, v in model.state_dict().items()}
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        state = {f"module._orig_mod.{name}": value for name, value in before.items()}
        kept = dict(epoch=1, name="run", state_dict=state, optimizer=optimizer.state_dict())
        torch.save(kept, folder / "epoch_1.pt")
    else:
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")


def main():
    case, folder = sys.argv[1], Path(sys.argv[2])
    library, name, form = case.split(":")
    torch.manual_seed(7)
    if library == "transformers":
        model, side = transformers_model(name).eval(), SIZES[name]["vision"][4]
    elif name in ODD:
        from open_clip.model import CLIP

        model, side = CLIP(**ODD[name]).eval(), ODD[name]["vision_cfg"]["image_size"]
    else:
        import open_clip

        model, side = open_clip.create_model(name).eval(), open_clip.get_model_config(name)["vision_cfg"]["image_size"]
    unlike_the_start(model)
    if form == "bf16":
        model.to(torch.bfloat16).float()  # numbers that the file can hold
    pixels = torch.randn(1 if "-14" in name else 2, 3, side, side)
    words = [[320, 1125, 539, 320, 2368], [320, 1125, 539, 530, 518, 6267, 1704, 269], [9]]
    ids = torch.zeros(len(words), 12, dtype=torch.long)
    for row, text in zip(ids, words):
        row[: len(text) + 2] = torch.tensor([49406, *text, END])
    expected = dict(pixels=pixels, ids=ids)
    with torch.no_grad():
        if library == "transformers":
            image = model.get_image_features(pixel_values=pixels)
            text = model.get_text_features(input_ids=ids, attention_mask=None)
            # Later versions answer with the pooled features among others.
            expected["image"] = getattr(image, "pooler_output", image)
            expected["text"] = getattr(text, "pooler_output", text)
            save_transformers(model, form, folder)
        else:
            window = torch.nn.functional.pad(ids, (0, 77 - ids.shape[1]))
            expected["image"], expected["text"] = model.encode_image(pixels), model.encode_text(window)
            save_open_clip(model, name, form, folder)
    save_file({k: v.contiguous() for k, v in expected.items()}, folder / "expected.safetensors")


if __name__ == "__main__":
    main()
