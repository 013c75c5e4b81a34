"""What the towers and heads are."""

import math
from dataclasses import dataclass, field
from typing import Literal

from vatt.config.check import check

Modality = Literal["video", "audio", "text"]
MODALITIES: tuple[Modality, ...] = ("video", "audio", "text")


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """A pre-norm Transformer encoder (vit: BERT/ViT; t5: no biases, RMS norms, attention without 1/sqrt(d))."""

    depth: int = 12  # layers
    width: int = 768  # hidden width (D)
    mlp_width: int = 3072  # hidden width of the MLP
    heads: int = 12  # attention heads
    dropout: float = 0.1  # rate at attention weights, MLP, residual branches, positions and output
    style: Literal["vit", "t5"] = "vit"  # vit: LayerNorm and biases; t5: as the paper's text tower

    def __post_init__(self):
        for name in ("depth", "width", "mlp_width", "heads"):
            value = getattr(self, name)
            check(value >= 1, f"encoder.{name} is {value}; it must be at least 1")
        check(
            self.width % self.heads == 0, f"encoder.width {self.width} is not a multiple of encoder.heads {self.heads}"
        )
        check(0 <= self.dropout < 1, f"encoder.dropout is {self.dropout}; it must lie in [0, 1)")


def _check_keep(modality: str, keep: float) -> None:
    check(0 < keep <= 1, f"model.{modality}.keep is {keep}; it is the share of tokens kept, in (0, 1]")


@dataclass(frozen=True, kw_only=True)
class VideoConfig:
    patch: tuple[int, int, int] = (4, 16, 16)  # tubelet: frames, height, width
    keep: float = 0.5  # share of tokens that DropToken keeps in training (1 keeps all)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)

    def __post_init__(self):
        check(min(self.patch) >= 1, f"model.video.patch is {self.patch}; every side must be at least 1")
        _check_keep("video", self.keep)


@dataclass(frozen=True, kw_only=True)
class AudioConfig:
    input: Literal["waveform", "log_mel"] = "waveform"  # patches of the raw waveform, or of its log-mel spectrogram
    patch: int = 128  # samples a waveform patch
    mel_patch: tuple[int, int] = (16, 5)  # spectrogram patch: time steps (a remainder is left out), mel bins
    mel_bins: int = 80  # mel bins of the spectrogram, spread over 80-7600 Hz
    window_seconds: float = 2048 / 48_000  # length of the STFT window (seconds)
    hop_seconds: float = 1024 / 48_000  # step of the STFT window (seconds)
    keep: float = 0.5  # share of tokens that DropToken keeps in training (1 keeps all)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)

    def __post_init__(self):
        check(self.patch >= 1, f"model.audio.patch is {self.patch}; it must be at least 1")
        check(min(self.mel_patch) >= 1, f"model.audio.mel_patch is {self.mel_patch}; every side must be at least 1")
        check(
            self.mel_bins % self.mel_patch[1] == 0,
            f"model.audio.mel_bins {self.mel_bins} is not a multiple of the patch's {self.mel_patch[1]} bins",
        )
        check(0 < self.hop_seconds <= self.window_seconds, "model.audio.hop_seconds must lie in (0, window_seconds]")
        _check_keep("audio", self.keep)


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    vocab_size: int = 65_536  # rows of the word table; id 0 pads, id 1 is an unknown word
    embed_width: int = 300  # width of a word vector
    table: Literal["frozen", "trained"] = "frozen"  # whether the word table is trained
    word2vec: str = ""  # word2vec file (text or .bin) that fills the table; empty: random vectors
    positions: Literal["relative", "absolute"] = "relative"  # T5-style relative bias, or a learned table
    buckets: int = 32  # buckets of the relative bias
    max_distance: int = 64  # distance (words) from which all positions share a bucket
    bias_layers: Literal["first", "all"] = "first"  # layers given the relative bias (paper: first; released: all)
    encoder: EncoderConfig = field(
        default_factory=lambda: EncoderConfig(depth=6, width=512, mlp_width=2048, heads=8, style="t5")
    )

    def __post_init__(self):
        check(self.vocab_size >= 3, f"model.text.vocab_size is {self.vocab_size}; it must be at least 3")
        check(self.embed_width >= 1, f"model.text.embed_width is {self.embed_width}; it must be at least 1")
        check(self.buckets >= 4 and self.buckets % 2 == 0, "model.text.buckets must be even and at least 4")
        check(
            self.max_distance > self.buckets // 4, "model.text.max_distance must exceed a quarter of model.text.buckets"
        )


@dataclass(frozen=True, kw_only=True)
class HeadsConfig:
    """Projections into the common spaces: video and audio meet in va; video and text in vt, which video reaches
    through va (paper section 3.3)."""

    va_width: int = 512  # width of the video-audio space
    vt_width: int = 256  # width of the video-text space
    linear_norm: Literal["batch", "none"] = "batch"  # batch norm after the audio and text heads (released: none)
    va_to_vt: Literal["linear", "relu"] = "linear"  # what precedes the va->vt projection (released: relu)
    audio_text: bool = False  # give audio a head into the vt space, which an audio-text loss needs

    def __post_init__(self):
        check(min(self.va_width, self.vt_width) >= 1, "model.heads.va_width and vt_width must be at least 1")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    video: VideoConfig = field(default_factory=VideoConfig)
    audio: AudioConfig = field(default_factory=AudioConfig)
    text: TextConfig = field(default_factory=TextConfig)
    heads: HeadsConfig = field(default_factory=HeadsConfig)
    backbone: Literal["specific", "agnostic"] = "specific"  # one encoder a modality, or one shared by all three
    # per-modality layers around a shared encoder (released: dense_gelu)
    projections: Literal["none", "dense_gelu"] = "none"
    dtype: Literal["float32", "bfloat16"] = "float32"  # arithmetic of the towers; parameters stay float32
    remat: Literal["none", "full"] = "none"  # full: recompute each layer in the backward pass to save memory
    layers: Literal["auto", "scan", "unroll"] = "auto"  # auto: scanned on accelerators, unrolled on CPU

    def __post_init__(self):
        if self.backbone == "agnostic":
            check(
                self.video.encoder == self.audio.encoder == self.text.encoder,
                "model.backbone agnostic shares one encoder: model.video.encoder, model.audio.encoder and "
                "model.text.encoder must be the same",
            )
            check(
                self.text.positions == "absolute",
                "model.backbone agnostic needs model.text.positions absolute: a relative bias is one modality's own",
            )
        check(
            self.backbone == "agnostic" or self.projections == "none",
            "model.projections dense_gelu belongs to model.backbone agnostic",
        )


def kept_tokens(tokens: int, keep: float) -> int:
    """How many of `tokens` DropToken keeps: a fixed number, so that shapes are static."""
    return max(1, math.floor(tokens * keep))
