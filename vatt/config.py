"""Every knob of vatt: frozen, keyword-only dataclasses that are validated when they are built.

The comment on a field is its help text on the command line. Defaults follow the VATT paper (Akbari et al. 2021,
arXiv 2104.11178); where the released code computes another function, the field that switches says so, and
`vatt.presets.released` sets them all.
"""

import dataclasses
import json
import math
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vatt.errors import ConfigError

Modality = Literal["video", "audio", "text"]
MODALITIES: tuple[Modality, ...] = ("video", "audio", "text")


def check(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


@dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """What one clip is: the cut of a media file that the model sees. Video and audio start at the same instant."""

    frames: int = 32  # frames of video a clip (T)
    fps: float = 10.0  # frames per second at which the video is sampled
    size: int = 224  # height and width in pixels (H = W), after resizing the short side and cropping
    sample_rate: int = 48_000  # audio samples per second (Hz), mono
    samples: int = 153_600  # audio samples a clip (S)
    candidates: int = 5  # candidate captions a clip (K): the narrations nearest in time
    words: int = 16  # words a caption (L), cut or padded

    def __post_init__(self):
        for name in ("frames", "size", "sample_rate", "samples", "candidates", "words"):
            value = getattr(self, name)
            check(value >= 1, f"clip.{name} is {value}; it must be at least 1")
        check(self.fps > 0, f"clip.fps is {self.fps}; it must be above 0")

    @property
    def seconds(self) -> float:
        """How much of a file one clip spans: the longer of its video and its audio."""
        return max(self.frames / self.fps, self.samples / self.sample_rate)


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How training clips are varied, each as a whole: all its frames alike. Evaluation sees squares, unvaried."""

    # inception: a box of random area and aspect ratio (paper); jitter: a random square after height and width are
    # scaled by a factor each (released); centre: the largest square in the middle
    crop: Literal["inception", "jitter", "centre"] = "inception"
    area: tuple[float, float] = (0.08, 1.0)  # least and greatest area of an inception crop, as shares of the frame
    aspect: tuple[float, float] = (0.5, 2.0)  # least and greatest width / height of an inception crop
    flip: float = 0.5  # probability that left and right are swapped
    colour: float = 0.8  # probability that the four changes of colour are made
    brightness: float = 32 / 255  # greatest change of brightness, as a share of white
    saturation: float = 0.4  # greatest change of the factor of saturation, from 1
    contrast: float = 0.4  # greatest change of the factor of contrast, from 1
    hue: float = 0.2  # greatest turn of the hue, as a share of the colour circle
    audio_noise: float = 0.0  # deviation of Gaussian noise, as a share of the loudest sample (released: 0.01)
    # device: the accelerator resizes, and gets a canvas up to 8/7 of clip.size; host: the host does, for runs on CPU
    resize: Literal["device", "host"] = "device"

    def __post_init__(self):
        for name in ("flip", "colour"):
            value = getattr(self, name)
            check(0 <= value <= 1, f"augment.{name} is {value}; it is a probability, in [0, 1]")
        for name in ("brightness", "saturation", "contrast", "audio_noise"):
            value = getattr(self, name)
            check(0 <= value <= 1, f"augment.{name} is {value}; it must lie in [0, 1]")
        check(0 <= self.hue <= 0.5, f"augment.hue is {self.hue}; it must lie in [0, 0.5], half the circle")
        check(0 < self.area[0] <= self.area[1] <= 1, f"augment.area is {self.area}; it must rise within (0, 1]")
        check(0 < self.aspect[0] <= self.aspect[1], f"augment.aspect is {self.aspect}; it must rise, from above 0")


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
class OptimConfig:
    name: Literal["adam", "adamw"] = "adam"  # adamw adds decoupled weight decay
    learning_rate: float = 1e-4  # at the end of the warm-up
    end_learning_rate: float = 5e-5  # at the last step
    warmup_steps: int = 10_000  # linear, from 0
    # quarter: steepest at the end (paper); half: flat at the end (released)
    decay: Literal["quarter_cosine", "half_cosine"] = "quarter_cosine"
    b1: float = 0.9  # Adam's decay of the first moment
    b2: float = 0.999  # Adam's decay of the second moment
    eps: float = 1e-7  # Adam's epsilon
    weight_decay: float = 0.0  # of matrices only, never of biases, norms, positions or [AGG] (adamw)
    clip_norm: float = 0.0  # largest global norm of the gradient (0: no clipping)
    ema: float = 0.0  # decay of the averaged weights that evaluation uses (0: none)

    def __post_init__(self):
        check(self.learning_rate > 0, f"optim.learning_rate is {self.learning_rate}; it must be above 0")
        check(self.end_learning_rate >= 0, "optim.end_learning_rate must not be negative")
        check(self.warmup_steps >= 0, "optim.warmup_steps must not be negative")
        check(0 <= self.ema < 1, f"optim.ema is {self.ema}; it must lie in [0, 1)")
        check(0 <= self.b1 < 1 and 0 <= self.b2 < 1, "optim.b1 and optim.b2 must lie in [0, 1)")
        check(self.weight_decay == 0 or self.name == "adamw", "optim.weight_decay needs optim.name adamw")
        check(
            self.weight_decay >= 0 and self.clip_norm >= 0 and self.eps > 0,
            "optim.weight_decay, clip_norm must not be negative and eps must be above 0",
        )


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    # folders of media, prepared sets, manifests, WebDataset tars, NAME:FOLDER of a published set, tfds:NAME; `vatt data
    # --help` tells how they are written. demo:DIR/train makes the demo media
    sources: tuple[str, ...] = ()
    # how often each source is drawn from, relative to the others (paper: equally); none: every clip equally often
    weights: tuple[float, ...] = ()
    # words, one a line (vatt data vocab), or a Hugging Face tokenizer.json; empty: built from the training captions
    vocabulary: str = ""
    workers: int = 0  # clips decoded at once (0: one a core)
    # what decodes them; process is faster for very short clips. Neither changes a batch
    worker_kind: Literal["thread", "process"] = "thread"
    max_bad: float = 0.01  # share of files or clips that may be broken before the run stops and names them

    def __post_init__(self):
        check(self.workers >= 0, f"data.workers is {self.workers}; it must not be negative")
        check(0 <= self.max_bad <= 1, f"data.max_bad is {self.max_bad}; it is a share, in [0, 1]")
        check(
            len(set(self.sources)) == len(self.sources),
            "data.sources names a source twice; to draw from one more often, set data.weights",
        )
        check(all(weight > 0 for weight in self.weights), "data.weights must be above 0; leave a source out instead")
        check(
            len(self.weights) in (0, len(self.sources)),
            f"data.weights has {len(self.weights)} values for {len(self.sources)} data.sources; give one each, or none",
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
    best: str = "text_to_video/R@10"  # recall whose best checkpoint is kept too; empty: none

    def __post_init__(self):
        check(self.every >= 1 and self.keep >= 1, "checkpoint.every and checkpoint.keep must be at least 1")
        directions = ("text_to_video", "video_to_text", "audio_to_video", "video_to_audio")
        known = [f"{direction}/R@{k}" for direction in directions for k in (1, 5, 10)]
        check(self.best in ["", *known], f"checkpoint.best {self.best!r} is not measured; choose one of {known}")


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


@dataclass(frozen=True, kw_only=True)
class Config:
    """One pretraining run."""

    run: str = "runs/vatt"  # folder of the run: checkpoints, logs, curves
    seed: int = 0  # of the parameters, the order and augmentation of the clips, and DropToken
    steps: int = 500_000  # training steps
    batch_size: int = 2048  # clips a step, over all devices
    clip: ClipConfig = field(default_factory=ClipConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
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
        check(
            self.loss.audio_text == 0 or self.model.heads.audio_text,
            "loss.audio_text needs a head from audio into the text space: set model.heads.audio_text True",
        )

    @property
    def canvas(self) -> int:
        """Height and width in pixels of the picture that the host hands over: even, and clip.size where the host
        resizes; else 8/7 of it, up to a multiple of 16 (224: 256, the short side of prepared video)."""
        size = self.clip.size
        return size if self.augment.resize == "host" else math.ceil(size * 8 / 7 / 16) * 16


def to_json(cfg: Any) -> str:
    return json.dumps(dataclasses.asdict(cfg), indent=2)


def from_json(text: str) -> Config:
    """Rebuilds a Config that `to_json` wrote. Raises ConfigError on a field this version does not know."""
    return _build(Config, json.loads(text), "config")


def _build(cls, values: dict, where: str):
    fields = {f.name: f for f in dataclasses.fields(cls)}
    unknown = sorted(set(values) - set(fields))
    check(not unknown, f"{where} has a field this version of vatt does not know: {', '.join(unknown)}")
    kwargs = {}
    for name, value in values.items():
        kind = fields[name].type
        if dataclasses.is_dataclass(kind):
            value = _build(kind, value, f"{where}.{name}")
        elif isinstance(value, list):
            value = tuple(value)
        kwargs[name] = value
    return cls(**kwargs)


def load_experiment(path: str | Path) -> Config:
    """Runs an experiment file and returns what its `get_config()` gives.

    Raises:
      ConfigError: the file is missing, does not run, has no `get_config`, or returns something else.
    """
    path = Path(path)
    check(path.is_file(), f"{path}: no such experiment file; see the files in experiments/")
    namespace: dict[str, Any] = {"__name__": "experiment", "__file__": str(path)}
    try:
        exec(compile(path.read_text(), str(path), "exec"), namespace)
        make = namespace.get("get_config")
        check(callable(make), f"{path} defines no get_config(); it must return a vatt.config.Config")
        cfg = make()  # pyright: ignore[reportOptionalCall]
    except ConfigError:
        raise
    except SyntaxError as error:
        where = f"{error.filename}, line {error.lineno}"
        raise ConfigError(f"{where}: {error.msg}: {(error.text or '').strip()}") from error
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        where = f"{path}, line {lines[-1]}" if lines else str(path)
        raise ConfigError(f"{where}: {type(error).__name__}: {error}") from error
    check(isinstance(cfg, Config), f"{path}: get_config() returned {type(cfg).__name__}, not a vatt.config.Config")
    return cfg


def kept_tokens(tokens: int, keep: float) -> int:
    """How many of `tokens` DropToken keeps: a fixed number, so that shapes are static."""
    return max(1, math.floor(tokens * keep))
