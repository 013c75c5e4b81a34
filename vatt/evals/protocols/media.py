"""From what an official file lists to items that clips can be cut from, and what is missing of it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vatt.config import ClipConfig
from vatt.data.builders.shared import Catalogue
from vatt.data.items import Fault, Item, Progress
from vatt.data.sources import SLACK, MediaSource, open_listing
from vatt.errors import DataError
from vatt.evals.protocols.protocol import Entry, Official, Protocol


def open_items(
    official: Official, protocol: Protocol, folder: Path, clip: ClipConfig, *, progress: Progress | None = None
) -> MediaSource:
    """The items whose media are there and can be used, in official order, each with the modalities that the protocol
    ranks by and no other; `faults` names the rest, and why.

    Args:
      clip: as the protocol's `clip_of` gives it.

    Raises:
      DataError: not one can be used.
    """
    catalogue = Catalogue(protocol.name, folder, "", official.extensions, depth=official.depth)
    for entry in official.entries:
        catalogue.add(entry.id, entry.stems)  # whole: how long the film is tells what becomes of a short part
    listing = replace(catalogue.listing(), name=str(folder))
    if not listing.rows:
        raise DataError(
            f"{folder}: none of the {len(official.entries)} items of {official.file} has its media there; the first is "
            f"looked for as {official.entries[0].stems[0]}, ending in {', '.join(official.extensions[:3])}, ..."
        )
    opened = open_listing(listing, seconds=clip.needed, modalities=protocol.media, progress=progress)
    entries = {entry.id: entry for entry in official.entries}
    faults: list[Fault] = list(opened.faults)
    items: list[Item] = []
    for index in range(len(opened)):
        item = opened[index]
        cut = _cut(item, entries[item.id], protocol, clip)
        if isinstance(cut, Item):
            items.append(cut)
        else:
            faults.append(cut)
    return MediaSource(str(folder), items, in_order(faults, official))


def in_order(faults: Sequence[Fault], official: Official) -> list[Fault]:
    """Faults in the order of the official file."""
    place = {entry.id: number for number, entry in enumerate(official.entries)}
    return sorted(faults, key=lambda fault: place[fault.id])


def _cut(item: Item, entry: Entry, protocol: Protocol, clip: ClipConfig) -> Item | Fault:
    for name, there in (("video", item.has_video), ("audio", item.has_audio)):
        if name in protocol.media and not there:
            return Fault(id=entry.id, reason=f"no_{name}", detail=f"{item.media} has no {name}")
    start, end = max(item.start, entry.start), item.end if entry.end is None else min(item.end, entry.end)
    if start >= item.end:
        detail = f"{item.media} ends at {item.end:.2f} s, before the item begins at {entry.start:g} s"
        return Fault(id=entry.id, reason="too_short", detail=detail)
    end = max(start, end - protocol.margin)
    if protocol.short == "runs_on" and end - start < clip.seconds - SLACK:
        end = min(item.end, start + clip.seconds)
        start = max(item.start, end - clip.seconds)
    if end - start < clip.needed - SLACK:
        detail = f"{item.media}: {end - start:.2f} s, less than a frame"
        return Fault(id=entry.id, reason="too_short", detail=detail)
    return replace(item, start=start, end=end, captions=())
