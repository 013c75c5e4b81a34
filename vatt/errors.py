"""The errors a user can cause and can mend. The command line prints their text and exits with status 1.

Each message names the thing at fault and what to do about it; a traceback is for our mistakes, not theirs.
"""

from collections.abc import Sequence


class VattError(Exception):
    """Base of every error that a user can mend."""


class ConfigError(VattError):
    """A field of the configuration, or a combination of fields, that cannot work."""


class DataError(VattError):
    """A folder, caption file, vocabulary or set of clips that cannot be used."""


class MediaError(DataError):
    """One media file that cannot give the clip asked of it. Always names the file.

    kind: what is the matter, a key of `vatt.data.faults.FAULTS`.
    """

    def __init__(self, path, reason: str, kind: str = "unreadable"):
        super().__init__(f"{path}: {reason}")
        self.path = str(path)
        self.reason = reason
        self.kind = kind

    def __reduce__(self):  # so that it crosses from a worker process as it is
        return type(self), (self.path, self.reason, self.kind)


class CheckpointError(VattError):
    """A run folder or checkpoint that cannot be written, read or continued."""


class NonFiniteError(VattError):
    """A loss or an embedding that is NaN or infinite."""


NAMED = 5  # how many things at fault an error names


def listed(lines: Sequence[str]) -> str:
    """The first lines, and how many more there are."""
    rest = len(lines) - NAMED
    return "\n".join([f"  {line}" for line in lines[:NAMED]] + ([f"  and {rest} more"] if rest > 0 else []))
