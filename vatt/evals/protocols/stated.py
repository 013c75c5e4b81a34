"""What a publication states of its clips, and a run's clip cut like them as far as its model can take it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from vatt.config import ClipConfig

FIELDS = {
    "video": (("frames", "frames"), ("fps", "frames a second"), ("size", "pixels a side")),
    "audio": (("sample_rate", "Hz"),),
    "text": (("words", "words a caption"),),
}


@dataclass(frozen=True, kw_only=True)
class Stated:
    """Fields are those of `ClipConfig`; None is what a publication leaves to the model."""

    frames: int | None = None
    fps: float | None = None
    size: int | None = None
    sample_rate: int | None = None
    words: int | None = None

    def followed(self, clip: ClipConfig, modalities: Sequence[str]) -> ClipConfig:
        """A run's clip where these modalities alone are looked at: at the published frame rate, if the model takes as
        many frames as were published, so that windows are as long."""
        if "video" in modalities and self.fps and self.frames == clip.frames:
            clip = replace(clip, fps=self.fps)
        return clip.of(modalities)

    def differs(self, clip: ClipConfig, modalities: Sequence[str]) -> list[str]:
        """Where a clip is not what was published, in what the modalities have."""
        lines = []
        for name, unit in (field for modality in modalities for field in FIELDS[modality]):
            published, ours = getattr(self, name), getattr(clip, name)
            if published is not None and published != ours:
                lines.append(f"{ours:g} {unit}, published with {published:g}")
        if "video" in modalities and self.frames and self.fps:
            published, ours = self.frames / self.fps, clip.frames / clip.fps
            if abs(published - ours) > 1e-6:
                lines.append(f"windows of {ours:g} s, published with {published:g} s")
        return lines
