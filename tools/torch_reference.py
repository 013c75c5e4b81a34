"""The same model, losses and optimiser in PyTorch: a check, and the yardstick of `bench_step.py`.

Covers modality-specific towers with relative text positions and the paper's loss. Written to be
fast: tokens are dropped before the projection, the last block computes [AGG] only, attention is PyTorch's
fused kernel or plain products, Adam is fused.
"""

# What an nn.Module holds is typed `Tensor | Module`.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false

import math
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from vatt.config import AudioConfig, Config, EncoderConfig, kept_tokens
from vatt.models.heads import EPS, MOMENTUM
from vatt.models.layers import NORM_EPS
from vatt.models.spectrogram import mel_matrix
from vatt.models.tokenizers import audio_grid, relative_bucket, video_grid

LOG_ZERO = -1e30


class RMSNorm(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + NORM_EPS) * self.weight


def norm(cfg: EncoderConfig) -> nn.Module:
    return nn.LayerNorm(cfg.width, eps=NORM_EPS) if cfg.style == "vit" else RMSNorm(cfg.width)


class Block(nn.Module):
    def __init__(self, cfg: EncoderConfig, attention: str):
        super().__init__()
        self.cfg, self.attention = cfg, attention
        D, bias = cfg.width, cfg.style == "vit"
        self.attention_norm = norm(cfg)
        self.qkv, self.out = nn.Linear(D, 3 * D, bias=bias), nn.Linear(D, D, bias=bias)
        self.mlp_norm = nn.LayerNorm(D, eps=NORM_EPS)
        self.up, self.down = nn.Linear(D, cfg.mlp_width, bias=bias), nn.Linear(cfg.mlp_width, D, bias=bias)

    def forward(self, x, bias, first_only: bool):  # x [B N D]; bias [B|1 H|1 N N] or None
        B, _, D = x.shape
        H = self.cfg.heads
        normed = self.attention_norm(x)
        if first_only:
            x = x[:, :1]
            bias = bias if bias is None else bias[:, :, :1]
            b = self.qkv.bias
            q = F.linear(normed[:, :1], self.qkv.weight[:D], b if b is None else b[:D])
            k, v = F.linear(normed, self.qkv.weight[D:], b if b is None else b[D:]).chunk(2, -1)
        else:
            q, k, v = self.qkv(normed).chunk(3, -1)
        q, k, v = (y.view(B, -1, H, D // H).transpose(1, 2) for y in (q, k, v))
        scale = (D // H) ** -0.5 if self.cfg.style == "vit" else 1.0
        if self.attention == "sdpa":
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale)
        else:
            logits = (q * scale) @ k.transpose(-1, -2)
            mixed = (logits if bias is None else logits + bias).softmax(-1) @ v
        x = x + self.out(mixed.transpose(1, 2).reshape(B, -1, D))
        return x + self.down(F.gelu(self.up(self.mlp_norm(x)), approximate="tanh"))


class Encoder(nn.Module):
    def __init__(self, cfg: EncoderConfig, attention: str, agg_only: bool):
        super().__init__()
        self.agg_only = agg_only
        self.blocks = nn.ModuleList(Block(cfg, attention) for _ in range(cfg.depth))
        self.norm = norm(cfg)

    def forward(self, x, padding=None, first=None):  # -> [B D]
        last = len(self.blocks) - 1
        for i, block in enumerate(self.blocks):
            x = block(x, first if i == 0 and first is not None else padding, self.agg_only and i == last)
        return self.norm(x[:, 0])


class Patches(nn.Module):
    """Projection of patches, positions and [AGG]."""

    def __init__(self, patch: int, grid: dict[str, int], keep: float, cfg: EncoderConfig):
        super().__init__()
        self.keep, self.grid = keep, tuple(grid.values())
        self.project = nn.Linear(patch, cfg.width)
        self.tables = nn.ParameterList(torch.zeros(n, cfg.width) for n in self.grid)
        self.norm = nn.LayerNorm(cfg.width, eps=NORM_EPS)
        self.agg = nn.Parameter(torch.zeros(1, cfg.width))

    def forward(self, patches):  # [B N P] -> [B 1+K D]
        B, N, _ = patches.shape
        axes = range(len(self.grid))
        tables = [t[tuple(slice(None) if i == j else None for j in axes)] for i, t in enumerate(self.tables)]
        positions = self.norm(sum(tables).reshape(N, -1))
        kept = kept_tokens(N, self.keep)
        if kept < N:
            index = torch.rand(B, N).argsort(1)[:, :kept]
            patches = patches[torch.arange(B)[:, None], index]
            positions = F.embedding(index, positions)
        if patches.dtype == torch.uint8:
            patches = patches.float() / 127.5 - 1
        return torch.cat([self.agg.expand(B, 1, -1), self.project(patches) + positions], 1)


class LogMel(nn.Module):
    """[B S] -> [B N P] patches of the log-mel spectrogram."""

    def __init__(self, cfg: AudioConfig, sample_rate: int):
        super().__init__()
        self.cfg = cfg
        self.window, self.hop = round(cfg.window_seconds * sample_rate), round(cfg.hop_seconds * sample_rate)
        self.n_fft = 2 ** math.ceil(math.log2(self.window))
        self.register_buffer("hann", torch.hann_window(self.window))
        self.register_buffer("matrix", torch.from_numpy(mel_matrix(self.n_fft, sample_rate, cfg.mel_bins)))

    def forward(self, audio):
        steps = -(-audio.shape[1] // self.hop)
        padded = F.pad(audio, (0, (steps - 1) * self.hop + self.window - audio.shape[1]))
        windows = padded.unfold(1, self.window, self.hop) * self.hann  # pyright: ignore[reportOperatorIssue]
        spectrum = torch.fft.rfft(windows, self.n_fft).abs()
        mel = torch.log1p(10_000 * (spectrum @ self.matrix))
        low, high = mel.amin((1, 2), keepdim=True), mel.amax((1, 2), keepdim=True)
        mel = (mel - low) / (high - low).clamp(min=1e-6)
        t, m = self.cfg.mel_patch
        B, T, M = mel.shape
        mel = mel[:, : T // t * t].view(B, T // t, t, M // m, m).transpose(2, 3)
        return mel.reshape(B, -1, t * m)


class BatchNorm(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("var", torch.ones(width))

    def forward(self, x, mask=None):  # mask [N]: rows that count
        weight = torch.ones_like(x[:, :1]) if mask is None else mask[:, None].float()
        total = weight.sum().clamp(min=1)
        mean = (x * weight).sum(0) / total
        var = ((x - mean).square() * weight).sum(0) / total
        with torch.no_grad():
            self.mean.lerp_(mean, 1 - MOMENTUM)
            self.var.lerp_(var, 1 - MOMENTUM)
        return (x - mean) * torch.rsqrt(var + EPS) * self.weight + self.bias


class TorchVatt(nn.Module):
    """`attention`: the fused kernel or plain products. `last_block`: what the last block computes."""

    def __init__(
        self,
        cfg: Config,
        *,
        attention: Literal["sdpa", "plain"] = "sdpa",
        last_block: Literal["agg", "all"] = "agg",
    ):
        super().__init__()
        model, heads, text = cfg.model, cfg.model.heads, cfg.model.text
        covered = (
            model.backbone == "specific" and model.dtype == "float32"
            and text.positions == "relative" and text.bias_layers == "first"
            and heads.linear_norm == "batch" and heads.va_to_vt == "linear" and not heads.audio_text
            and cfg.loss.form == "joint_once" and cfg.loss.temperature_mode == "fixed"
            and cfg.loss.reduction == "sum" and cfg.loss.audio_text == 0 and cfg.optim.name == "adam"
            and all(m.encoder.dropout == 0 for m in (model.video, model.audio, text))
        )  # fmt: skip
        if not covered:
            raise ValueError("the PyTorch reference covers the paper's form without dropout, such as `tiny`")
        self.cfg = cfg
        towers = {"video": model.video, "audio": model.audio, "text": text}
        agg_only = last_block == "agg"
        self.encoders = nn.ModuleDict({m: Encoder(tower.encoder, attention, agg_only) for m, tower in towers.items()})
        self.mel = LogMel(model.audio, cfg.clip.sample_rate) if model.audio.input == "log_mel" else None
        audio_patch = math.prod(model.audio.mel_patch) if self.mel else model.audio.patch
        patch = {"video": math.prod(model.video.patch) * 3, "audio": audio_patch}
        grids = {"video": video_grid(model, cfg.clip), "audio": audio_grid(model, cfg.clip)}
        self.patches = nn.ModuleDict({m: Patches(patch[m], grids[m], towers[m].keep, towers[m].encoder) for m in grids})
        D, E = text.encoder.width, text.embed_width
        self.table = nn.Parameter(torch.zeros(text.vocab_size, E), requires_grad=text.table == "trained")
        self.text_project = nn.Linear(E, D, bias=False)
        self.text_agg = nn.Parameter(torch.zeros(1, E))
        self.relative_bias = nn.Parameter(torch.zeros(text.buckets, text.encoder.heads))
        n = np.arange(cfg.clip.words + 1)
        buckets = np.array(relative_bucket(n[None] - n[:, None], text.buckets, text.max_distance))
        self.register_buffer("buckets", torch.from_numpy(buckets).long())
        widths = {
            "video_hidden": (model.video.encoder.width, heads.va_width),
            "video_va": (heads.va_width, heads.va_width),
            "video_vt": (heads.va_width, heads.vt_width),
            "audio_va": (model.audio.encoder.width, heads.va_width),
            "text_vt": (D, heads.vt_width),
        }
        self.dense = nn.ModuleDict({name: nn.Linear(*width, bias=False) for name, width in widths.items()})
        self.norms = nn.ModuleDict({name: BatchNorm(width[1]) for name, width in widths.items()})

    def head(self, name: str, x, mask=None):
        return self.norms[name](self.dense[name](x), mask)

    def forward(self, batch: dict) -> torch.Tensor:
        """The training loss of a batch: video [B T H W C] uint8, audio [B S], text [B K L], both masks."""
        video, audio, text = batch["video"], batch["audio"], batch["text"]
        t, h, w = self.cfg.model.video.patch
        B, T, H, W, C = video.shape
        tubelets = video.view(B, T // t, t, H // h, h, W // w, w, C).permute(0, 1, 3, 5, 2, 4, 6, 7)
        v = self.encoders["video"](self.patches["video"](tubelets.reshape(B, -1, t * h * w * C)))
        sound = audio.view(B, -1, self.cfg.model.audio.patch) if self.mel is None else self.mel(audio)
        a = self.encoders["audio"](self.patches["audio"](sound))

        words = text.view(-1, text.shape[-1])
        x = F.embedding(words, self.table)
        x = torch.cat([self.text_agg.expand(len(x), 1, -1), x], 1)
        x = F.gelu(self.text_project(x), approximate="tanh")
        padding = torch.where(F.pad(words != 0, (1, 0), value=True), 0.0, -1e9)[:, None, None]
        relative = self.relative_bias[self.buckets].permute(2, 0, 1)[None]
        padding = padding.expand(-1, 1, x.shape[1], -1)
        s = self.encoders["text"](x, padding, padding + relative)

        z_va = self.head("video_va", self.head("video_hidden", v).relu())
        z_vt = self.head("video_vt", z_va)
        z_av = self.head("audio_va", a, batch["audio_mask"])
        z_tv = self.head("text_vt", s, batch["text_mask"].reshape(-1))
        z_va, z_vt, z_av, z_tv = (F.normalize(z, dim=-1, eps=1e-6) for z in (z_va, z_vt, z_av, z_tv))
        cfg = self.cfg.loss
        loss = cfg.video_audio * mil_nce(z_va, z_av[:, None], batch["audio_mask"][:, None], cfg.temperature)
        candidates = z_tv.view(B, -1, z_tv.shape[-1])
        return loss + cfg.video_text * mil_nce(z_vt, candidates, batch["text_mask"], cfg.temperature)


def mil_nce(z_v, z_t, valid, temperature: float):  # [B E], [B K E], [B K]
    B, K, E = z_t.shape
    logits = (z_v @ z_t.reshape(B * K, E).T / temperature).view(B, B, K)
    own = torch.eye(B, dtype=torch.bool)[:, :, None]
    others = logits.masked_fill(~valid | own, LOG_ZERO)
    positive = logits.diagonal().T.masked_fill(~valid, LOG_ZERO).logsumexp(1)
    negative = torch.logaddexp(others.flatten(1).logsumexp(1), others.transpose(0, 1).flatten(1).logsumexp(1))
    clips = valid.any(1)
    return torch.where(clips, F.softplus(negative - positive), 0).sum() / clips.sum().clamp(min=1)


def load(model: TorchVatt, params: dict) -> None:
    """Copies the parameters of `vatt.models.vatt.init`."""

    def put(target, value):
        with torch.no_grad():
            target.copy_(torch.tensor(np.asarray(value)))

    def put_dense(target, source):
        put(target.weight, np.asarray(source["kernel"]).T)
        if "bias" in source:
            put(target.bias, source["bias"])

    def put_norm(target, source):
        put(target.weight, source["scale"])
        if "bias" in source:
            put(target.bias, source["bias"])

    for m, encoder in model.encoders.items():
        source = params["encoders"][m]
        put_norm(encoder.norm, source["norm"])
        for i, block in enumerate(encoder.blocks):
            layer = _layer(source["blocks"], i)
            for name in ("attention_norm", "mlp_norm"):
                put_norm(getattr(block, name), layer[name])
            for name in ("up", "down"):
                put_dense(getattr(block, name), layer[name])
            for name in ("qkv", "out"):
                put_dense(getattr(block, name), layer["attention"][name])
    for m, patches in model.patches.items():
        source = params["tokenizers"][m]
        put_dense(patches.project, source["project"])
        put_norm(patches.norm, source["positions"]["norm"])
        put(patches.agg, source["agg"])
        grid = {"video": video_grid, "audio": audio_grid}[m](model.cfg.model, model.cfg.clip)
        for table, axis in zip(patches.tables, grid, strict=True):
            put(table, source["positions"]["tables"][axis])
    text = params["tokenizers"]["text"]
    put(model.table, text["table"])
    put(model.text_agg, text["agg"])
    put(model.relative_bias, text["relative_bias"])
    put_dense(model.text_project, text["project"])
    for name, head in params["heads"].items():
        put_dense(model.dense[name], head["dense"])
        put_norm(model.norms[name], head["norm"])


def _layer(tree: dict, i: int) -> dict:
    return {name: _layer(x, i) if isinstance(x, dict) else x[i] for name, x in tree.items()}


def make_step(model: TorchVatt, *, compiled: bool = False):
    """`step(batch) -> loss`: forward, backward, gradient norm and fused Adam. `compiled` by torch.compile."""
    cfg = model.cfg.optim
    trained = [p for p in model.parameters() if p.requires_grad]
    adam = torch.optim.Adam(trained, lr=cfg.learning_rate, betas=(cfg.b1, cfg.b2), eps=cfg.eps, fused=True)
    forward = torch.compile(model) if compiled else model

    def step(batch: dict) -> torch.Tensor:
        adam.zero_grad(set_to_none=True)
        loss = forward(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, cfg.clip_norm or math.inf)
        adam.step()
        return loss.detach()

    return step


def tensors(batch: dict) -> dict:
    """A batch of numpy arrays as tensors, without a copy."""
    return {name: torch.from_numpy(x) for name, x in batch.items() if isinstance(x, np.ndarray)}
