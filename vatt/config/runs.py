"""Whole runs: what an experiment returns."""

import math
from dataclasses import dataclass, field

from vatt.config.check import check
from vatt.config.data import AugmentConfig, ClipConfig, DataConfig
from vatt.config.model import ModelConfig
from vatt.config.training import (
    CheckpointConfig,
    ClassifyConfig,
    EvaluateConfig,
    LogConfig,
    LossConfig,
    MeshConfig,
    OptimConfig,
)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What every run has."""

    run: str = "runs/vatt"  # folder of the run: checkpoints, logs, curves
    seed: int = 0  # of the parameters, the order and augmentation of the clips, and DropToken
    steps: int = 500_000  # training steps
    batch_size: int = 2048  # clips a step, over all devices
    clip: ClipConfig = field(default_factory=ClipConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    data: DataConfig = field(default_factory=DataConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    log: LogConfig = field(default_factory=LogConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)

    def __post_init__(self):
        check(self.run != "", "run is empty; name a folder, such as runs/first")
        check(self.steps >= 1 and self.batch_size >= 1, "steps and batch_size must be at least 1")
        check(0 <= self.seed < 2**31, f"seed is {self.seed}; it must lie in [0, 2^31)")
        clip, video, audio = self.clip, self.model.video, self.model.audio
        t, h, w = video.patch
        check(
            clip.frames % t == 0, f"clip.frames {clip.frames} is not a multiple of the {t} frames of model.video.patch"
        )
        check(
            clip.size % h == 0 and clip.size % w == 0,
            f"clip.size {clip.size} is not a multiple of the {h}x{w} pixels of model.video.patch",
        )
        check(
            self.augment.resize == "device" or clip.size % 2 == 0,
            f"augment.resize host needs an even clip.size, not {clip.size}: colour comes at half the resolution",
        )
        if audio.input == "waveform":
            check(
                clip.samples % audio.patch == 0,
                f"clip.samples {clip.samples} is not a multiple of the {audio.patch} samples of model.audio.patch",
            )
        else:
            hop = round(audio.hop_seconds * clip.sample_rate)
            check(
                hop >= 1, f"model.audio.hop_seconds {audio.hop_seconds} is less than a sample at {clip.sample_rate} Hz"
            )
            check(
                math.ceil(clip.samples / max(hop, 1)) >= audio.mel_patch[0],
                f"clip.samples {clip.samples} give {math.ceil(clip.samples / hop)} spectrogram steps, fewer than the "
                f"{audio.mel_patch[0]} of one model.audio.mel_patch",
            )

    @property
    def canvas(self) -> int:
        """Height and width in pixels of the picture that the host hands over: even, and clip.size where the host
        resizes; else 8/7 of it, up to a multiple of 16 (224: 256, the short side of prepared video)."""
        size = self.clip.size
        return size if self.augment.resize == "host" else math.ceil(size * 8 / 7 / 16) * 16


@dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    """One pretraining run."""

    loss: LossConfig = field(default_factory=LossConfig)

    def __post_init__(self):
        super().__post_init__()
        check(
            self.loss.audio_text == 0 or self.model.heads.audio_text,
            "loss.audio_text needs a head from audio into the text space: set model.heads.audio_text True",
        )
        directions = ("text_to_video", "video_to_text", "audio_to_video", "video_to_audio")
        check_best(self, [f"{direction}/R@{k}" for direction in directions for k in (1, 5, 10)])


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(RunConfig):
    """One fine-tuning run: a classifier, from a pretrained checkpoint or from scratch."""

    init: str = ""  # run of vatt pretrain or finetune to start from; empty: from scratch
    init_step: str = "latest"  # its checkpoint: latest, best, or a number of steps; the run records the number
    classify: ClassifyConfig = field(default_factory=ClassifyConfig)
    checkpoint: CheckpointConfig = field(default_factory=lambda: CheckpointConfig(best=""))

    def __post_init__(self):
        super().__post_init__()
        single = self.classify.labels == "single"
        check_best(self, ["top_1", "top_5"] if single else ["mAP", "AUC", "d_prime_of_AUC", "mean_d_prime"])
        check("text" not in self.classify.modalities, "classify.modalities are video and audio; text has no classifier")
        check(
            self.classify.head == "linear" or self.classify.modalities == ("video",),
            "classify.head text compares video with the names of the classes: classify.modalities must be video alone",
        )
        check(
            self.classify.head == "linear" or self.init != "",
            "classify.head text starts from what a pretraining run knows of the classes' names: set init",
        )


def check_best(cfg: RunConfig, known: list[str]) -> None:
    best = cfg.checkpoint.best
    check(best in ["", *known], f"checkpoint.best {best!r} is not measured; choose one of {known}")
