"""The ledger: every clip that was replaced, and every track that was missing, counted by source and reason.

RUN/ledger.jsonl holds two kinds of lines:
  {"step", "source", "reason", "id", "detail"}    the first time that a file is met with that reason
  {"step", "drawn": {source: clips}, "counts": {source: {reason: clips}}}    all so far, at every line of the log
A run that goes on from a checkpoint drops the lines after it, and counts on from there.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from vatt.data.faults import FAULTS
from vatt.data.items import Source
from vatt.errors import DataError, listed
from vatt.jsonl import StepLines

LEDGER_FILE = "ledger.jsonl"
LISTED = 1000  # ids listed of each kind that costs no clip; all are counted
JUDGED_FROM = 1000  # clips drawn before the share of bad ones is judged, or all there are


class Event(NamedTuple):
    """What happened at one position of the stream."""

    source: int  # its number
    reason: str  # a key of FAULTS
    id: str
    detail: str = ""


class Ledger:
    """Counts events as their batches are trained on, and stops the run when too many clips are bad.

    Attributes:
      drawn: clips, by the number of their source.
      counts: (source, reason) -> clips.
    """

    def __init__(self, run: str | Path, sources: Sequence[Source], *, max_bad: float, from_step: int):
        self.names = [source.name for source in sources]
        self.max_bad = max_bad
        self._judged_from = min(JUDGED_FROM, sum(len(source) for source in sources))
        self.drawn: Counter[int] = Counter()
        self.counts: Counter[tuple[int, str]] = Counter()
        self._seen: dict[tuple[int, str], set[str]] = {}
        self._written = from_step
        self._lines = StepLines(Path(run) / LEDGER_FILE, from_step=from_step or -1)
        for line in self._lines.kept:
            self._recall(line)
        if not from_step:
            for number, source in enumerate(sources):
                for fault in source.faults:
                    self._list(0, Event(number, fault.reason, fault.id, fault.detail))
            self._lines.flush()

    def add(self, step: int, drawn: Sequence[int], events: Iterable[Sequence[Event]]) -> None:
        """Enters a batch: the numbers of the sources its clips came from, and the events of each clip."""
        self.drawn.update(drawn)
        for of_clip in events:
            self.counts.update({(event.source, event.reason) for event in of_clip})  # a clip counts once
            for event in of_clip:
                self._list(step, event)

    def write(self, step: int) -> dict[str, float]:
        """Writes the counts after `step`, once. Returns them, of all sources, as metrics: {"data/no_audio": 12}."""
        counts = {name: {} for name in self.names}
        for (number, reason), count in sorted(self.counts.items()):
            counts[self.names[number]][reason] = count
        drawn = {name: self.drawn[number] for number, name in enumerate(self.names)}
        if step > self._written:
            self._lines.write({"step": step, "drawn": drawn, "counts": counts})
            self._lines.flush()
            self._written = step
        total = Counter()
        for (_, reason), count in self.counts.items():
            total[f"data/{reason}"] += count
        return dict(sorted(total.items()))

    def excess(self) -> DataError | None:
        """The error to stop with if more than `max_bad` of the clips drawn so far had to be replaced."""
        drawn = self.drawn.total()
        bad = sum(count for (_, reason), count in self.counts.items() if reason == "undecodable")
        if drawn >= self._judged_from and bad > self.max_bad * drawn:
            seen = {number: ids for (number, reason), ids in self._seen.items() if reason == "undecodable"}
            files = [f"{self.names[number]}: {id}" for number, ids in seen.items() for id in sorted(ids)]
            return DataError(
                f"{bad} of {drawn} clips ({100 * bad / drawn:.1f} %) could not be decoded, more than data.max_bad "
                f"{self.max_bad:g}; what was trained is saved. Put these files back as they were, or raise "
                "--data.max-bad, and the same command goes on; to train without them is another run (--run). vatt data "
                f"check tells what is wrong with them:\n{listed(files)}"
            )
        return None

    def summary(self) -> list[tuple[str, str, int, float, str]]:
        """Rows of (source, reason, clips, share of the source's clips drawn, some ids), the worst kinds first."""
        rows = []
        for (number, reason), count in self.counts.items():
            ids = sorted(self._seen.get((number, reason), ()))
            some = ", ".join(ids[:3]) + (" ..." if len(ids) > 3 else "")
            rows.append((self.names[number], reason, count, count / max(self.drawn[number], 1), some))
        return sorted(rows, key=lambda row: (not FAULTS[row[1]].fatal, row[0], -row[2]))

    def close(self) -> None:
        self._lines.close()

    def _list(self, step: int, event: Event) -> None:
        seen = self._seen.setdefault((event.source, event.reason), set())
        if event.id in seen or (not FAULTS[event.reason].fatal and len(seen) >= LISTED):
            return
        seen.add(event.id)
        line = {"step": step, "source": self.names[event.source], "reason": event.reason, "id": event.id}
        self._lines.write(line | ({"detail": event.detail} if event.detail else {}))

    def _recall(self, line: dict) -> None:
        if "counts" in line:
            numbers = {name: number for number, name in enumerate(self.names)}
            self.drawn = Counter({numbers[name]: count for name, count in line["drawn"].items()})
            self.counts = Counter(
                {(numbers[name], reason): n for name, kinds in line["counts"].items() for reason, n in kinds.items()}
            )
        else:
            number = self.names.index(line["source"])
            self._seen.setdefault((number, line["reason"]), set()).add(line["id"])
