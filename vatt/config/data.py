"""What clips are, how they are varied, and where they come from."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from vatt.config.check import check


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
    # a file shorter than a clip: left out, or shown over and over until the clip is full, as DMVR does (many in UCF101)
    short: Literal["leave_out", "repeat"] = "leave_out"

    def __post_init__(self):
        for name in ("frames", "size", "sample_rate", "samples", "candidates", "words"):
            value = getattr(self, name)
            check(value >= 1, f"clip.{name} is {value}; it must be at least 1")
        check(self.fps > 0, f"clip.fps is {self.fps}; it must be above 0")

    @property
    def seconds(self) -> float:
        """How much of a file one clip spans: the longer of its video and its audio."""
        return max(self.frames / self.fps, self.samples / self.sample_rate)

    @property
    def needed(self) -> float:
        """How long a file must last to give a clip (seconds)."""
        return self.seconds if self.short == "leave_out" else 1 / self.fps

    def of(self, modalities: Sequence[str]) -> "ClipConfig":
        """The clip where video or audio alone is looked at: as long as that needs, whatever the other spans."""
        if "audio" not in modalities:
            return replace(self, samples=max(1, min(self.samples, int(self.frames / self.fps * self.sample_rate))))
        if "video" not in modalities:
            return replace(self, frames=max(1, min(self.frames, int(self.samples / self.sample_rate * self.fps))))
        return self


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How training clips are varied, each as a whole: all its frames alike. Evaluation sees squares, unvaried."""

    # inception: a box of random area and aspect ratio (paper); jitter: a random square after height and width are
    # scaled by a factor each (released); square: the largest, at a random place; centre: the largest, in the middle
    crop: Literal["inception", "jitter", "square", "centre"] = "inception"
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
