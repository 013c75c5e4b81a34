"""How a run is trained, measured, saved and laid out over devices."""

import re
from dataclasses import dataclass
from typing import Literal

from vatt.config.check import check
from vatt.config.model import Modality
from vatt.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """The objective: a weighted sum over pairs of modalities. A weight of 0 leaves the pair out."""

    video_audio: float = 1.0  # weight of NCE between video and audio
    video_text: float = 1.0  # weight of MIL-NCE between video and the candidate captions (lambda)
    audio_text: float = 0.0  # weight of MIL-NCE between audio and the candidate captions
    # joint_once: paper eq. 4-5; joint: released code, positive counted twice; separate: a softmax a direction;
    # sigmoid: pairwise
    form: Literal["joint_once", "joint", "separate", "sigmoid"] = "joint_once"
    reduction: Literal["sum", "mean"] = "sum"  # how pairs add up (released: mean, divides by the sum of weights)
    temperature: float = 0.07  # divides the cosine similarities; where it starts if it is learned
    temperature_mode: Literal["fixed", "learned"] = "fixed"  # learned: one temperature a pair, trained

    def __post_init__(self):
        check(min(self.weights.values()) >= 0, "loss weights must not be negative")
        check(max(self.weights.values()) > 0, "every loss weight is 0; set loss.video_audio or loss.video_text")
        check(self.temperature > 0, f"loss.temperature is {self.temperature}; it must be above 0")

    @property
    def weights(self) -> dict[str, float]:
        return {"video_audio": self.video_audio, "video_text": self.video_text, "audio_text": self.audio_text}


@dataclass(frozen=True, kw_only=True)
class ClassifyConfig:
    """A classifier on the towers' features."""

    modalities: tuple[Modality, ...] = ("video",)  # whose features are joined; pictures are video
    labels: Literal["single", "multi"] = "single"  # single: one class a clip, softmax; multi: any number, sigmoids
    # file with one class a line, in order, and behind a tab its name in words, which is what classify.head text and
    # zero-shot classification go by; empty: the labels of the training clips, sorted
    classes: str = ""
    # linear: a dense layer on the features; text: likeness to the names of the classes in the video-text space, which
    # starts at what zero-shot classification gives
    head: Literal["linear", "text"] = "linear"
    template: str = "{}"  # caption made of a class's name, for classify.head text and zero-shot classification
    dropout: float = 0.0  # rate at the features (paper: 0.5 for video)
    label_smoothing: float = 0.0  # share of the target spread over all classes (paper: 0.1 for video)
    mixup: float = 0.0  # alpha of the Beta distribution that mixes clips and labels (paper: 5 for audio); 0: none
    # batch: a clip counts by how rare its labels are in the batch (paper: for audio)
    balance: Literal["none", "batch"] = "none"
    average: Literal["logits", "probabilities"] = "logits"  # of the views of a clip, in evaluation
    lora_rank: int = 0  # rank of what is added to the towers' matrices, which stay as they are; 0: all is trained
    lora_alpha: float = 16.0  # what is added counts alpha / rank times
    # shares of the fine-tuned weights in mixtures with those at the start, measured at the end (WiSE-FT)
    wise: tuple[float, ...] = ()

    def __post_init__(self):
        check(len(self.modalities) > 0, "classify.modalities is empty; name video, audio or both")
        check(len(set(self.modalities)) == len(self.modalities), "classify.modalities names one twice")
        check(0 <= self.dropout < 1, f"classify.dropout is {self.dropout}; it must lie in [0, 1)")
        check(0 <= self.label_smoothing < 1, "classify.label_smoothing must lie in [0, 1)")
        check(self.mixup >= 0, "classify.mixup must not be negative")
        check(
            self.labels == "single" or self.label_smoothing == 0,
            "classify.label_smoothing belongs to classify.labels single",
        )
        check(self.lora_rank >= 0 and self.lora_alpha > 0, "classify.lora_rank and lora_alpha must be above 0")
        check("{}" in self.template, f"classify.template {self.template!r} has no {{}} for the name of the class")
        check(all(0 <= share <= 1 for share in self.wise), "classify.wise are shares, in [0, 1]")
        check(
            not self.wise or self.head == "text", "classify.wise mixes with the zero-shot head: set classify.head text"
        )


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    name: Literal["adam", "adamw", "sgd"] = "adam"  # adamw adds decoupled weight decay; sgd has momentum
    learning_rate: float = 1e-4  # at the end of the warm-up
    end_learning_rate: float = 5e-5  # at the last step
    warmup_steps: int = 10_000  # linear, from 0
    # quarter: steepest at the end (paper); half: flat at the end (released)
    decay: Literal["quarter_cosine", "half_cosine"] = "quarter_cosine"
    b1: float = 0.9  # Adam's decay of the first moment
    b2: float = 0.999  # Adam's decay of the second moment
    eps: float = 1e-7  # Adam's epsilon
    momentum: float = 0.9  # of sgd
    weight_decay: float = 0.0  # of matrices only, never of biases, norms, positions or [AGG] (adamw)
    clip_norm: float = 0.0  # largest global norm of the gradient (0: no clipping)
    # whose gradient is clipped: all, or all but the classifier (released code, in fine-tuning: at 0.75)
    clip: Literal["all", "towers"] = "all"
    ema: float = 0.0  # decay of the averaged weights that evaluation uses (0: none)
    layer_decay: float = 1.0  # factor of the learning rate from each layer to the one below it (1: all learn alike)
    # regular expressions of parameters that are not trained, such as 'tokenizers/.*'
    freeze: tuple[str, ...] = ()

    def __post_init__(self):
        check(self.learning_rate > 0, f"optim.learning_rate is {self.learning_rate}; it must be above 0")
        check(self.end_learning_rate >= 0, "optim.end_learning_rate must not be negative")
        check(self.warmup_steps >= 0, "optim.warmup_steps must not be negative")
        check(0 <= self.ema < 1, f"optim.ema is {self.ema}; it must lie in [0, 1)")
        check(0 <= self.b1 < 1 and 0 <= self.b2 < 1, "optim.b1 and optim.b2 must lie in [0, 1)")
        check(self.weight_decay == 0 or self.name == "adamw", "optim.weight_decay needs optim.name adamw")
        check(0 <= self.momentum < 1, f"optim.momentum is {self.momentum}; it must lie in [0, 1)")
        check(0 < self.layer_decay <= 1, f"optim.layer_decay is {self.layer_decay}; it must lie in (0, 1]")
        for pattern in self.freeze:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ConfigError(f"optim.freeze {pattern!r} is not a regular expression: {error}") from error
        check(
            self.weight_decay >= 0 and self.clip_norm >= 0 and self.eps > 0,
            "optim.weight_decay, clip_norm must not be negative and eps must be above 0",
        )


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Zero-shot retrieval on held-out clips."""

    source: str = ""  # folder of held-out clips, as data.sources; empty: no evaluation
    every: int = 0  # steps between evaluations during training (0: only at the end)
    windows: int = 4  # windows a clip, spread evenly; the embeddings of all views are averaged
    crops: Literal[1, 3] = 1  # views a window: the centre, or three squares along the long side
    batch_size: int = 32  # clips a batch

    def __post_init__(self):
        check(self.every >= 0, "evaluate.every must not be negative")
        check(self.crops in (1, 3), f"evaluate.crops is {self.crops}; it is 1 or 3")
        check(min(self.windows, self.batch_size) >= 1, "evaluate.windows and evaluate.batch_size must be at least 1")


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    every: int = 1_000  # steps between checkpoints
    keep: int = 3  # latest checkpoints kept
    # metric whose best checkpoint is kept too, such as text_to_video/R@10, top_1 or mAP; empty: none
    best: str = "text_to_video/R@10"

    def __post_init__(self):
        check(self.every >= 1 and self.keep >= 1, "checkpoint.every and checkpoint.keep must be at least 1")


@dataclass(frozen=True, kw_only=True)
class LogConfig:
    every: int = 50  # steps between lines of metrics.jsonl and TensorBoard
    tensorboard: bool = True  # also write TensorBoard events

    def __post_init__(self):
        check(self.every >= 1, "log.every must be at least 1")


@dataclass(frozen=True, kw_only=True)
class MeshConfig:
    """How devices are laid out. The batch is split over data and fsdp; parameters over fsdp."""

    data: int = -1  # devices that split the batch (-1: all that the other axes leave)
    fsdp: int = 1  # devices that split the batch and the parameters

    def __post_init__(self):
        check(self.data == -1 or self.data >= 1, "mesh.data must be -1 or at least 1")
        check(self.fsdp >= 1, "mesh.fsdp must be at least 1")
