"""Files of one JSON object a line, which a run writes as it goes and drops lines from when it goes back."""

import json
from pathlib import Path


def read_lines(path: Path) -> list[dict]:
    """The lines; [] if there is no file. A last line cut short by a crash is left out."""
    lines = []
    for line in path.read_text(encoding="utf-8").split("\n") if path.exists() else []:
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return lines


class StepLines:
    """Appends lines that each have a "step". One that begins at `from_step` first drops the lines after it: those steps
    are done again, and give the same values.

    Attributes:
      kept: the lines that were there and stay.
    """

    def __init__(self, path: Path, *, from_step: int):
        self.kept = [line for line in read_lines(path) if line["step"] <= from_step]
        partial = path.with_name(path.name + ".partial")
        partial.write_text("".join(json.dumps(line) + "\n" for line in self.kept), encoding="utf-8")
        partial.replace(path)
        self._file = path.open("a", encoding="utf-8")

    def write(self, line: dict) -> None:
        self._file.write(json.dumps(line) + "\n")

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()
