"""The networks of Anneal in plain eager PyTorch, with LoRA as Hugging Face PEFT computes it.

Written the way a good practitioner would for training speed on a processor; shared by the benchmarks and by
the reference values of the tests. Weights and factors come from safetensors files; names are timm's for
vision transformers and Anneal's own for face-resnet-128.
"""

import torch
from torch import nn
from torch.nn import functional as F


class LoraLinear(nn.Module):
    """y = W x + b + scale * B (A x), the frozen layer kept apart as PEFT does."""

    def __init__(self, base, rank, scale):
        super().__init__()
        self.base = base
        self.scale = scale
        self.lora_A = nn.Linear(base.in_features, rank, bias=False)
        self.lora_B = nn.Linear(rank, base.out_features, bias=False)

    def forward(self, x):
        return self.base(x) + self.lora_B(self.lora_A(x)) * self.scale


class LoraConv2d(nn.Module):
    """The same for a convolution: a k x k convolution to `rank` channels, then 1 x 1."""

    def __init__(self, base, rank, scale):
        super().__init__()
        self.base = base
        self.scale = scale
        self.lora_A = nn.Conv2d(
            base.in_channels, rank, base.kernel_size, base.stride, base.padding, bias=False
        )
        self.lora_B = nn.Conv2d(rank, base.out_channels, 1, bias=False)

    def forward(self, x):
        return self.base(x) + self.lora_B(self.lora_A(x)) * self.scale


class LoraQkv(nn.Module):
    """timm's fused qkv layer with factors on q and v: one large product, two small updates beside it."""

    def __init__(self, qkv, rank, scale):
        super().__init__()
        self.base = qkv
        self.scale = scale
        self.width = qkv.in_features
        self.q = nn.ModuleDict({"lora_A": nn.Linear(self.width, rank, bias=False),
                                "lora_B": nn.Linear(rank, self.width, bias=False)})
        self.v = nn.ModuleDict({"lora_A": nn.Linear(self.width, rank, bias=False),
                                "lora_B": nn.Linear(rank, self.width, bias=False)})

    def forward(self, x):
        q, k, v = self.base(x).chunk(3, dim=-1)
        q = q + self.q["lora_B"](self.q["lora_A"](x)) * self.scale
        v = v + self.v["lora_B"](self.v["lora_A"](x)) * self.scale
        return q, k, v


class Attention(nn.Module):
    def __init__(self, width, heads, fused):
        super().__init__()
        self.heads = heads
        self.fused = fused
        if fused:
            self.qkv = nn.Linear(width, 3 * width)
        else:
            self.q = nn.Linear(width, width)
            self.k = nn.Linear(width, width)
            self.v = nn.Linear(width, width)
        self.proj = nn.Linear(width, width)

    def forward(self, x):
        batch, tokens, width = x.shape
        if not self.fused:
            parts = (self.q(x), self.k(x), self.v(x))
        elif isinstance(self.qkv, LoraQkv):
            parts = self.qkv(x)
        else:
            parts = self.qkv(x).chunk(3, dim=-1)
        q, k, v = (part.reshape(batch, tokens, self.heads, -1).transpose(1, 2) for part in parts)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.proj(mixed.transpose(1, 2).reshape(batch, tokens, width))


class Mlp(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x):
        return self.fc2(self.act(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, width, heads, hidden, epsilon, fused):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, epsilon)
        self.attn = Attention(width, heads, fused)
        self.norm2 = nn.LayerNorm(width, epsilon)
        self.mlp = Mlp(width, hidden)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    def __init__(self, width, patch):
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, patch)

    def forward(self, x):
        return self.proj(x).flatten(2).transpose(1, 2)


class Vit(nn.Module):
    """Class-token pooling; pixels are 0...255 and normalised inside, as in Anneal's graph."""

    def __init__(self, config, fused=True):
        super().__init__()
        width, patch = config["hidden_size"], config["patch_size"]
        tokens = (config["image_size"] // patch) ** 2 + 1
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens, width))
        self.patch_embed = PatchEmbed(width, patch)
        self.blocks = nn.ModuleList(
            Block(width, config["num_attention_heads"], config["intermediate_size"],
                  config["layer_norm_eps"], fused)
            for _ in range(config["num_hidden_layers"])
        )
        self.norm = nn.LayerNorm(width, config["layer_norm_eps"])
        mean, deviation = (torch.tensor(config[key]).view(1, 3, 1, 1) * 255
                           for key in ("image_mean", "image_std"))
        self.register_buffer("pixel_mean", mean, persistent=False)
        self.register_buffer("pixel_deviation", deviation, persistent=False)
        self.fused = fused
        self.embedding_size = width
        self.head_gain = 1.0

    def forward(self, pixels):
        x = self.patch_embed((pixels - self.pixel_mean) / self.pixel_deviation)
        x = torch.cat((self.cls_token.expand(x.shape[0], -1, -1), x), dim=1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.norm(x[:, 0])

    def load_weights(self, tensors):
        own = {name: tensor for name, tensor in tensors.items() if not name.startswith("head.")}
        if not self.fused:
            for name in [name for name in own if ".attn.qkv." in name]:
                for part, values in zip("qkv", own.pop(name).chunk(3)):
                    own[name.replace(".qkv.", f".{part}.")] = values.clone()
        # Assigned, not copied: no second set of weights while loading.
        self.load_state_dict(own, strict=True, assign=True)


# Name, channels in, channels out; a block whose numbers differ halves the picture.
RESNET_BLOCKS = (
    [(f"conv32_{i}", 32, 32) for i in (1, 2, 3)]
    + [("conv64_down", 32, 64)] + [(f"conv64_{i}", 64, 64) for i in (1, 2, 3)]
    + [("conv128_down", 64, 128)] + [(f"conv128_{i}", 128, 128) for i in (1, 2)]
    + [("conv256_down", 128, 256)] + [(f"conv256_{i}", 256, 256) for i in (1, 2)]
    + [("conv256_down_out", 256, 256)]
)
RESNET_MEAN = (122.782, 117.001, 104.298)


class ResnetBlock(nn.Module):
    def __init__(self, name, channels_in, channels_out):
        super().__init__()
        self.down = "down" in name
        stride, padding = (2, 0) if self.down else (1, 1)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, padding)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, 1, 1)
        self.extra = channels_out - channels_in

    def forward(self, x):
        branch = self.conv2(F.relu(self.conv1(x), inplace=True))
        if self.down:
            x = F.avg_pool2d(x, 2)
            if self.extra:
                x = F.pad(x, (0, 0, 0, 0, 0, self.extra))
        missing = (x.shape[2] - branch.shape[2], x.shape[3] - branch.shape[3])
        if any(missing):
            branch = F.pad(branch, (0, missing[1], 0, missing[0]))
        return F.relu(branch + x, inplace=True)


class FaceResnet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv32_down = nn.Conv2d(3, 32, 7, 2)
        self.names = [name for name, _, _ in RESNET_BLOCKS]
        for name, channels_in, channels_out in RESNET_BLOCKS:
            self.add_module(name, ResnetBlock(name, channels_in, channels_out))
        self.fc = nn.Linear(256, 128, bias=False)
        self.register_buffer("mean", torch.tensor(RESNET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.embedding_size = 128
        self.head_gain = 8.0

    def forward(self, pixels):
        x = F.relu(self.conv32_down((pixels - self.mean) * (1 / 255)), inplace=True)
        x = F.max_pool2d(x, 3, 2)
        for name in self.names:
            x = getattr(self, name)(x)
        return self.fc(x.mean(dim=(2, 3)))

    def load_weights(self, tensors):
        self.load_state_dict(dict(tensors), strict=True, assign=True)


class Classifier(nn.Module):
    """A backbone, the constant gain of its embedding and a linear head."""

    def __init__(self, backbone, classes):
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(backbone.embedding_size, classes)

    def forward(self, pixels):
        features = self.backbone(pixels)
        if self.backbone.head_gain != 1:
            features = features * self.backbone.head_gain
        return self.head(features)


def add_lora(backbone, modules, rank_of, scale):
    """Freezes the backbone and puts factors on the named modules. Gives {Anneal's name: parameter}.

    A module `blocks.0.attn.q` of a fused transformer is a third of its qkv layer.
    """
    backbone.requires_grad_(False)
    names = {}
    for module in modules:
        parent_name, _, leaf = module.rpartition(".")
        parent = backbone.get_submodule(parent_name)
        rank = rank_of(module)
        if isinstance(parent, Attention) and parent.fused and leaf in "qv":
            if not isinstance(parent.qkv, LoraQkv):
                parent.qkv = LoraQkv(parent.qkv, rank, scale)
            pair = getattr(parent.qkv, leaf)
            factor_a, factor_b = pair["lora_A"], pair["lora_B"]
        else:
            base = getattr(parent, leaf)
            kind = LoraConv2d if isinstance(base, nn.Conv2d) else LoraLinear
            adapted = kind(base, rank, scale)
            setattr(parent, leaf, adapted)
            factor_a, factor_b = adapted.lora_A, adapted.lora_B
        names[f"{module}.lora_A"] = factor_a.weight
        names[f"{module}.lora_B"] = factor_b.weight
    return names


def build_classifier(description, weights, parameters, fused=True):
    """The whole network and its trainable parameters by Anneal's names.

    description: {"kind": "vit" | "face-resnet", "config": {...}, "modules": [...], "scale": number}
    weights: tensors of the backbone; parameters: factors `<module>.lora_A` / `.lora_B`, `head.weight`, `head.bias`.
    """
    backbone = Vit(description["config"], fused) if description["kind"] == "vit" else FaceResnet()
    backbone.load_weights(weights)
    model = Classifier(backbone, parameters["head.weight"].shape[0])
    named = add_lora(
        backbone,
        description["modules"],
        lambda module: parameters[f"{module}.lora_A"].shape[0],
        description["scale"],
    )
    named["head.weight"] = model.head.weight
    named["head.bias"] = model.head.bias
    with torch.no_grad():
        for name, parameter in named.items():
            parameter.copy_(parameters[name])
    return model, named
