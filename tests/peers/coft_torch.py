"""CoFT's two phases as a PyTorch script on transformers' CLIPModel: what the trainer is measured and checked against.

  coft_torch.py bench JOB --phase zero-shot|phase1|phase2   speed and peak memory of one phase, as one JSON object
  coft_torch.py check DIR --phase features|phase1|phase2|contrast
                                                            reads DIR/given.safetensors, writes DIR/found.safetensors
  coft_torch.py random OUT --like DIR [--patch 16]          ViT-B/32 or ViT-B/16, random weights, the tokenizer of DIR

Eager, float32 (no TF32) or autocast to bfloat16, CPU or GPU; every prompt runs over the whole text window. Nothing here is tuned, and nothing is wasteful on purpose.
Shapes: B images, C classes, M context vectors, T visual tokens, W width of a tower, D embedding, L tokens.
"""

import argparse
import copy
import json
import math
import pathlib
import time

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel

SCORING_BATCH = 128
VISUAL_TOKENS = 20


def normalised(x):
    return x / x.norm(dim=-1, keepdim=True)


class Prompts(torch.nn.Module):
    """Phase I: a positive and a negative context and deep visual prompts; the model itself is frozen."""

    def __init__(self, model, ids, ends, positive, negative, visual):
        super().__init__()
        self.model = model.requires_grad_(False)
        self.ids, self.ends = ids, ends  # [C, window], [C]
        self.positive = torch.nn.Parameter(positive)  # [M, W]
        self.negative = torch.nn.Parameter(negative)  # [M, W]
        self.visual = torch.nn.Parameter(visual)  # [blocks, T, W]

    def parameters_to_tune(self):
        return [self.positive, self.negative, self.visual]

    def text(self, context):
        """[M, W] -> [C, D]"""
        tower = self.model.text_model
        m, (c, window) = context.shape[0], self.ids.shape
        tokens = tower.embeddings.token_embedding(self.ids)
        tokens = torch.cat([tokens[:, :1], context.expand(c, -1, -1), tokens[:, 1 + m :]], dim=1)
        x = tokens + tower.embeddings.position_embedding.weight[:window]
        for block in tower.encoder.layers:
            x = block(x, None, is_causal=True)
        x = tower.final_layer_norm(x)
        return normalised(self.model.text_projection(x[torch.arange(c, device=x.device), self.ends]))

    def image(self, pixels):
        """[B, 3, S, S] -> [B, D]"""
        tower = self.model.vision_model
        x = tower.pre_layrnorm(tower.embeddings(pixels))
        behind = 1
        for block, own in zip(tower.encoder.layers, self.visual):
            x = torch.cat([x[:, :1], own.expand(x.shape[0], -1, -1), x[:, behind:]], dim=1)
            x = block(x, None)
            behind = 1 + own.shape[0]
        return normalised(self.model.visual_projection(tower.post_layernorm(x[:, 0])))

    def losses(self, pixels, labels, complements):
        """Eq. 4 and Eq. 6."""
        scale = self.model.logit_scale.exp()
        image = self.image(pixels)
        positive = image @ self.text(self.positive).T
        negative = image @ self.text(self.negative).T
        supervised = F.cross_entropy(positive * scale, labels)
        gap = (positive - negative) * scale
        clean = F.logsigmoid(gap.gather(1, labels[:, None]))
        unclean = F.logsigmoid(-gap.gather(1, complements[:, None]))
        return supervised, -(clean + unclean).mean()


class Classifier(torch.nn.Module):
    """Phase II: the whole image encoder and a linear head on its class token."""

    def __init__(self, model, weight, bias):
        super().__init__()
        self.encoder = model.vision_model
        self.weight = torch.nn.Parameter(weight)  # [C, W]
        self.bias = torch.nn.Parameter(bias)  # [C]

    def loss(self, pixels, labels):
        """Eq. 7."""
        class_token = self.encoder(pixel_values=pixels).pooler_output
        return F.cross_entropy(F.linear(class_token, self.weight, self.bias), labels)


class Contrast:
    """CoFT+ beside Phase II: an averaged key encoder and a queue of past keys."""

    def __init__(self, encoder, momentum, temperature, capacity):
        self.encoder = copy.deepcopy(encoder).requires_grad_(False)
        self.momentum, self.temperature, self.capacity = momentum, temperature, capacity
        self.queue = torch.empty(0, encoder.config.hidden_size)

    def key(self, pixels):
        with torch.no_grad():
            return normalised(self.encoder(pixel_values=pixels).pooler_output)

    def loss(self, query, key):
        """Eq. 9, [B, W] each."""
        logits = torch.cat([(query * key).sum(-1, keepdim=True), query @ self.queue.T], dim=1) / self.temperature
        return F.cross_entropy(logits, torch.zeros(len(query), dtype=torch.long))

    def stepped(self, trained, key):
        """Eq. 8, and the step's keys into the queue."""
        with torch.no_grad():
            for own, other in zip(self.encoder.parameters(), trained.parameters()):
                own.mul_(self.momentum).add_(other, alpha=1 - self.momentum)
        self.queue = torch.cat([self.queue, key])[-self.capacity :]


def descend(parameters, rate, steps, losses):
    """SGD on a half cosine, a step for each loss."""
    optimiser = torch.optim.SGD(parameters, lr=rate, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(steps, 1))
    for loss in losses:
        if not math.isfinite(loss.item()):
            raise SystemExit("the loss is not finite")
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()


class Bench:
    def __init__(self, job):
        self.batches = pathlib.Path(job["batches"])
        self.device = job["device"]
        self.model = CLIPModel.from_pretrained(job["model"], dtype=torch.float32).eval().to(self.device)
        self.job = job
        self.autocast = torch.autocast(self.device, torch.bfloat16, enabled=job["mixed_precision"] == "bf16")

    def read(self, name):
        return load_file(self.batches / f"{name}.safetensors", device=self.device)

    def now(self):
        """Wall time and processor time of all threads, s."""
        if self.device == "cuda":
            torch.cuda.synchronize()
        return torch.tensor([time.perf_counter(), time.process_time()], dtype=torch.float64)

    def peak_memory(self):
        """Of the process, or of the GPU, of which PyTorch gives nothing back; bytes."""
        if self.device == "cuda":
            free, total = torch.cuda.mem_get_info()
            return total - free
        return status_bytes("VmHWM")

    def zero_shot(self, steps):
        prompts = self.read("prompts")
        scale = self.model.logit_scale.exp()
        with torch.no_grad():
            text = normalised(self.model.get_text_features(prompts["ids"]).pooler_output)
            together = max(SCORING_BATCH // self.job["batch"], 1)
            began = self.now()
            for first in range(0, steps, together):
                pixels = torch.cat([self.read(step)["pixels"] for step in range(first, min(first + together, steps))])
                image = normalised(self.model.get_image_features(pixels).pooler_output)
                probabilities = (image @ text.T * scale).softmax(-1)
                _ = probabilities.argmax(-1).tolist(), probabilities.amax(-1).tolist()
        return self.now() - began

    def phase1(self, steps):
        prompts = self.read("prompts")
        v = self.model.config.vision_config
        bound = math.sqrt(6 / (3 * v.patch_size**2 + v.hidden_size))
        shape = v.num_hidden_layers, VISUAL_TOKENS, v.hidden_size
        visual = torch.empty(shape, device=self.device).uniform_(-bound, bound)
        context = lambda: prompts["context"] + 0.02 * torch.randn_like(prompts["context"])
        began = self.now()
        tuned = Prompts(self.model, prompts["ids"], prompts["ends"], context(), context(), visual)

        def losses():
            for step in range(steps):
                batch = self.read(step)
                with self.autocast:
                    supervised, negative = tuned.losses(batch["pixels"], batch["labels"], batch["complements"])
                yield supervised + negative

        descend(tuned.parameters_to_tune(), 0.03, steps, losses())
        return self.now() - began

    def phase2(self, steps):
        c, w = len(self.job["classes"]), self.model.config.vision_config.hidden_size
        began = self.now()
        head = 0.01 * torch.randn(c, w, device=self.device), torch.zeros(c, device=self.device)
        classifier = Classifier(self.model, *head)

        def losses():
            for step in range(steps):
                batch = self.read(step)
                with self.autocast:
                    loss = classifier.loss(batch["pixels"], batch["labels"])
                yield loss

        descend(list(classifier.parameters()), 5e-4, steps, losses())
        return self.now() - began


def bench(path, phase):
    job = json.loads(pathlib.Path(path).read_text())
    torch.set_num_threads(job["threads"])
    torch.manual_seed(0)
    torch.backends.cudnn.allow_tf32 = False
    bench = Bench(job)
    run = getattr(bench, phase.replace("-", "_"))
    run(job["warm_up"])
    resident = status_bytes("VmRSS")
    seconds, cpu_seconds = run(job["steps"]).tolist()
    measured = {
        "images_per_second": job["steps"] * job["batch"] / seconds,
        "images_per_cpu_second": job["steps"] * job["batch"] / cpu_seconds,
        "peak_memory_bytes": bench.peak_memory(),
        "growth_bytes": status_bytes("VmRSS") - resident,
    }
    print(json.dumps(measured))


def status_bytes(key):
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"/proc/self/status has no {key}")


def check(directory, phase):
    directory = pathlib.Path(directory)
    given = load_file(directory / "given.safetensors")
    model = CLIPModel.from_pretrained((directory / "model").read_text(), dtype=torch.float32).eval()
    if phase == "features":
        with torch.no_grad():
            found = {
                "image": model.get_image_features(given["pixels"]).pooler_output,
                "text": model.get_text_features(given["ids"]).pooler_output,
            }
    elif phase == "phase1":
        tuned = Prompts(model, *(given[name] for name in ["ids", "ends", "positive", "negative", "visual"]))
        supervised, negative = tuned.losses(given["pixels"], given["labels"], given["complements"])
        found = {"supervised": supervised.detach(), "negative": negative.detach()}
        for name, loss in [("supervised", supervised), ("negative", negative)]:
            of_prompts = torch.autograd.grad(loss, tuned.parameters_to_tune(), retain_graph=True, allow_unused=True)
            for prompt, gradient in zip(["positive", "negative", "visual"], of_prompts):
                if gradient is not None:
                    found[f"{name} of {prompt}"] = gradient
    else:
        classifier = Classifier(model, given["weight"], given["bias"])
        loss = classifier.loss(given["pixels"], given["labels"])
        if phase == "contrast":
            # A plain step of descent, and then what Eq. 10 asks for.
            rate, momentum, temperature, weight, capacity = given["numbers"].tolist()
            contrast = Contrast(classifier.encoder, momentum, temperature, int(capacity))
            key = contrast.key(given["other"])
            loss.backward()
            with torch.no_grad():
                for parameter in classifier.parameters():
                    parameter -= rate * parameter.grad
            classifier.zero_grad()
            contrast.stepped(classifier.encoder, key)
            query = normalised(classifier.encoder(pixel_values=given["pixels"]).pooler_output)
            loss = classifier.loss(given["pixels"], given["labels"]) + weight * contrast.loss(query, contrast.key(given["other"]))
        loss.backward()
        found = {"loss": loss.detach(), "weight": classifier.weight.grad, "bias": classifier.bias.grad}
        found |= {f"vision_model.{name}": p.grad for name, p in classifier.encoder.named_parameters()}
    save_file({name: tensor.contiguous() for name, tensor in found.items()}, directory / "found.safetensors")


def random(out, like, patch):
    out, like = pathlib.Path(out), pathlib.Path(like)
    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig(vision_config={"patch_size": patch}))  # transformers' own defaults are ViT-B/32
    model.save_pretrained(out)
    (out / "tokenizer.json").write_bytes((like / "tokenizer.json").read_bytes())
    preprocessing = json.loads((like / "preprocessor_config.json").read_text())
    side = model.config.vision_config.image_size
    preprocessing |= {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
    (out / "preprocessor_config.json").write_text(json.dumps(preprocessing))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, dest="command")
    command = commands.add_parser("bench")
    command.add_argument("job")
    command.add_argument("--phase", required=True, choices=["zero-shot", "phase1", "phase2"])
    command = commands.add_parser("check")
    command.add_argument("directory")
    command.add_argument("--phase", required=True, choices=["features", "phase1", "phase2", "contrast"])
    command = commands.add_parser("random")
    command.add_argument("out")
    command.add_argument("--like", required=True)
    command.add_argument("--patch", type=int, default=32)
    args = parser.parse_args()
    if args.command == "bench":
        bench(args.job, args.phase)
    elif args.command == "random":
        random(args.out, args.like, args.patch)
    else:
        check(args.directory, args.phase)
