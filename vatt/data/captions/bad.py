"""Captions of a file that cannot be read: the file's others are kept, and it is said how many and which first."""

from vatt.errors import DataError

MOST = 200_000  # captions of a file; a day of speech has some 30,000


class Bad:
    """How many captions of a file were left out, and what is wrong with the first (file, line and reason)."""

    def __init__(self):
        self.count, self.first = 0, ""

    def __bool__(self) -> bool:
        return self.count > 0

    def __str__(self) -> str:
        return f"{self.count} {'caption' if self.count == 1 else 'captions'} left out: {self.first}"

    def add(self, why: DataError) -> None:
        self.count, self.first = self.count + 1, self.first or str(why)

    def refuse(self) -> None:
        """Raises DataError if there are any."""
        if self:
            raise DataError(self.first)


def check_count(count: int, where: str) -> None:
    """Raises DataError on more captions than a file can have."""
    if count > MOST:
        raise DataError(f"{where}: more than {MOST:,} captions, which no file has")
