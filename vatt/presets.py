"""Model configurations by name (VATT paper table 7), and what the released code does otherwise."""

from dataclasses import replace

from vatt.config import (
    AudioConfig,
    ClipConfig,
    Config,
    EncoderConfig,
    HeadsConfig,
    ModelConfig,
    TextConfig,
    VideoConfig,
)

SMALL = EncoderConfig(depth=6, width=512, mlp_width=2048, heads=8)
BASE = EncoderConfig(depth=12, width=768, mlp_width=3072, heads=12)
MEDIUM = EncoderConfig(depth=12, width=1024, mlp_width=4096, heads=16)
LARGE = EncoderConfig(depth=24, width=1024, mlp_width=4096, heads=16)


def _specific(video: EncoderConfig) -> ModelConfig:
    return ModelConfig(
        video=VideoConfig(encoder=video),
        audio=AudioConfig(encoder=BASE),
        text=TextConfig(encoder=replace(SMALL, style="t5")),
    )


def bbs() -> ModelConfig:
    """VATT-BBS: Base video, Base audio, Small text."""
    return _specific(BASE)


def mbs() -> ModelConfig:
    """VATT-MBS: Medium video, Base audio, Small text."""
    return _specific(MEDIUM)


def lbs() -> ModelConfig:
    """VATT-LBS: Large video, Base audio, Small text."""
    return _specific(LARGE)


def ma_medium() -> ModelConfig:
    """VATT-MA-Medium: one Medium encoder for all three modalities. Text has learned absolute positions, as in the
    released code; the paper describes its relative bias for the modality-specific text tower only."""
    return ModelConfig(
        video=VideoConfig(encoder=MEDIUM),
        audio=AudioConfig(encoder=MEDIUM),
        text=TextConfig(encoder=MEDIUM, positions="absolute"),
        backbone="agnostic",
    )


def tiny() -> ModelConfig:
    """Three small towers that train on two CPU cores in minutes. Ours, not the paper's: audio is a spectrogram, which
    so small a tower learns from several times sooner than from the waveform."""
    vit = EncoderConfig(depth=3, width=96, mlp_width=384, heads=3, dropout=0.0)
    return ModelConfig(
        video=VideoConfig(patch=(2, 16, 16), keep=0.75, encoder=vit),
        audio=AudioConfig(
            input="log_mel",
            mel_bins=40,
            mel_patch=(4, 40),
            window_seconds=0.064,
            hop_seconds=0.016,
            keep=1.0,
            encoder=vit,
        ),
        text=TextConfig(vocab_size=256, embed_width=64, table="trained", encoder=replace(vit, style="t5")),
        heads=HeadsConfig(va_width=128, vt_width=128),
    )


def tiny_clip() -> ClipConfig:
    """One second of small video and telephone sound: what `tiny` is made for."""
    return ClipConfig(frames=8, fps=8, size=64, sample_rate=8_000, samples=8_192, candidates=5, words=8)


PRESETS = {"tiny": tiny, "bbs": bbs, "mbs": mbs, "lbs": lbs, "ma_medium": ma_medium}


def released(cfg: Config) -> Config:
    """`cfg` with every difference between the paper and the released code that changes the function computed set as
    the released code has it: augmentation, heads, loss, relative bias, shared backbone, learning-rate curve."""
    model = replace(
        cfg.model,
        heads=replace(cfg.model.heads, linear_norm="none", va_to_vt="relu"),
        text=replace(cfg.model.text, bias_layers="all"),
        projections="dense_gelu" if cfg.model.backbone == "agnostic" else "none",
    )
    return replace(
        cfg,
        augment=replace(cfg.augment, crop="jitter", audio_noise=0.01),
        model=model,
        loss=replace(cfg.loss, form="joint", reduction="mean"),
        optim=replace(cfg.optim, warmup_steps=5_000, decay="half_cosine"),
    )
