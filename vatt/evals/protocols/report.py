"""What was measured by a protocol, on how much of it, and in what the run differs from the publication."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import vatt
from vatt.config import ClipConfig, Config
from vatt.data.items import Fault
from vatt.evals.protocols.protocol import Official, Protocol, digest

Post = Literal["none", "dual_softmax"]


@dataclass(frozen=True, kw_only=True)
class Report:
    """Scores of the items found, and what they are of.

    run, step, model: whose; the model by the hash of `Pretrained`.
    missing: the items of the official file that are in no score, and why.
    queries: captions that were ranked.
    wordless: captions, as ITEM: CAPTION, that hold no word and can ask for nothing; their items stay.
    duplicates: captions that were said before, in other items or the same.
    differs: where clips are not what the publication used.
    post: what else was done to similarities, and is reported apart.
    scores, chance: by direction, or direction/variant. Variants: multi_positive, where a caption that several items
      share is right for each of them; dual_softmax.
    """

    protocol: Protocol
    official: Official
    run: str
    step: int
    model: str
    data: str
    missing: Sequence[Fault]
    queries: int
    wordless: Sequence[str]
    duplicates: int
    differs: Sequence[str]
    post: Post
    scores: dict[str, dict[str, float]]
    chance: dict[str, dict[str, float]]

    @property
    def hash(self) -> str:
        """16 hex digits of the protocol and of the items listed: scores compare where it is the same."""
        return digest([self.protocol.hash, self.official.hash])

    @property
    def listed(self) -> int:
        return len(self.official.entries)

    @property
    def found(self) -> int:
        return self.listed - len(self.missing)

    @property
    def share(self) -> float:
        """Of the items listed, in [0, 1], those that the scores are of."""
        return self.found / self.listed

    def as_json(self) -> dict:
        return {
            "protocol": asdict(self.protocol),
            "hash": self.hash,
            "protocol_hash": self.protocol.hash,
            "items_hash": self.official.hash,
            "official_file": str(self.official.file),
            "data": self.data,
            "run": self.run,
            "step": self.step,
            "model": self.model,
            "vatt": vatt.__version__,
            "listed": self.listed,
            "found": self.found,
            "share": self.share,
            "missing": [asdict(fault) for fault in self.missing],
            "queries": self.queries,
            "duplicate_captions": self.duplicates,
            "wordless_captions": list(self.wordless),
            "differs": list(self.differs),
            "post": self.post,
            "scores": self.scores,
            "chance": self.chance,
        }

    def write(self) -> Path:
        """Writes RUN/evaluations/PROTOCOL-STEP-DIGEST.json, whole or not at all, and returns its path. The digest tells
        other folders and what is done to similarities apart."""
        apart = digest([self.hash, self.data, self.post, self.model])[:8]
        path = Path(self.run) / "evaluations" / f"{self.protocol.name}-{self.step}-{apart}.json"
        path.parent.mkdir(exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            temporary.write_text(json.dumps(self.as_json(), indent=2) + "\n", encoding="utf-8")
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        return path


def differences(protocol: Protocol, clip: ClipConfig, cfg: Config) -> list[str]:
    """Where clips are not what the publication used, and what the run was not trained for."""
    asked = ("text",) if protocol.asks_by_text else ()
    lines = protocol.differs(clip, (*protocol.media, *asked))
    for pair, weight in cfg.loss.weights.items():
        if weight == 0 and set(pair.split("_")) == {*protocol.media, *asked}:
            lines.append(f"the run trained with loss.{pair} 0: nothing brought the two together")
    return lines
