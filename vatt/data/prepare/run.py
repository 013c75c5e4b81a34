"""`vatt data prepare`: media files become a TFDS data set of records that decode fast.

    list the rows -> plan units (one a medium) and shards -> units in parallel -> join each shard -> describe the set

All that is done lies in OUT/.staging until the end, each file whole or not there, so that a preparation that was
killed goes on where it was. The order and the set of the records follow from source and configuration alone.
"""

import dataclasses
import errno
import fcntl
import functools
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import vatt
from vatt.data.crew import Crew, Death
from vatt.data.items import Fault, Listing, Progress
from vatt.data.listing.rows import absolute, list_rows
from vatt.data.prepare.assemble import describe
from vatt.data.prepare.plan import PrepareConfig, Shard, Unit, digest, plan_shards, shard_paths, staged_path
from vatt.data.prepare.staging import bury_unit, is_made, make_shard, make_unit, write_whole
from vatt.data.records import ERRORS, FORMAT, PREPARED, STAGING, is_prepared
from vatt.errors import DataError

PLAN, LOCK = "plan.json", "lock"
PATIENCE = 600.0  # seconds without a packet read after which a medium is given up


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What came of a preparation.

    records, seconds, media_bytes: over all splits. Stills last no time.
    faults: how many lines of `errors` there are by reason.
    """

    folder: Path
    splits: dict[str, int]
    records: int
    seconds: float
    media_bytes: int
    faults: dict[str, int]
    errors: Path


Work = Callable[[Sequence[Shard], Path, PrepareConfig, Progress], None]


def prepare(
    source: str,
    out: str | Path,
    *,
    config: PrepareConfig | None = None,
    workers: int = 0,
    progress: Progress | None = None,
    work: Work | None = None,
) -> Prepared:
    """Prepares a source into the folder `out`, or goes on doing so, or returns at once if that is done.

    Args:
      source: what `vatt.data.listing.rows.list_rows` lists.
      out: a folder that is new, empty, or of this very preparation.
      config: how to cut and store.
      workers: processes (0: one a core).
      progress: called with (media done, media in all).
      work: makes the shards; `vatt.data.prepare.beam` gives one that does so on many machines.

    Raises:
      DataError: the source cannot be listed or gives no record, `out` holds something else or another preparation,
        another process is at it, or the disk is full.
    """
    config, out, source = config or PrepareConfig(), Path(out), absolute(source)
    work = work or functools.partial(work_here, workers=workers)
    asked = {"format": FORMAT, "source": source, "config": dataclasses.asdict(config)}
    if is_prepared(source):
        raise DataError(f"{source}: is prepared already; give the media files it was made from")
    _check_folder(out)
    listing = list_rows(source)
    shards = plan_shards(listing)
    asked["rows"] = digest(shards)
    if (out / PREPARED).exists():
        _check_same(out, asked, json.loads((out / PREPARED).read_text()))
        shutil.rmtree(out / STAGING, ignore_errors=True)  # if it was killed just before it did so itself
        return _summary(out)
    with _disk(out), _locked(out):
        _keep_plan(out, asked)
        work(shards, out / STAGING, config, progress or (lambda done, total: None))
        if not any(_about(out / STAGING, shard)["records"] for shard in shards):
            why = _first_faults(out, listing, shards)
            shutil.rmtree(out / STAGING)
            raise DataError(f"{source}: not one record could be made of it:\n{why}")
        describe(out, listing, shards, {**asked, "vatt": vatt.__version__})
        shutil.rmtree(out / STAGING)
    return _summary(out)


def work_here(shards: Sequence[Shard], staging: Path, config: PrepareConfig, progress: Progress, workers: int) -> None:
    """Makes all shards with processes on this machine."""
    left: dict[int, int] = {}
    done, total = 0, sum(len(shard.units) for shard in shards)
    todo: list[Unit] = []
    home: dict[int, Shard] = {}
    for shard in shards:
        if shard_paths(staging, shard.number)[1].exists():
            done += len(shard.units)
            continue
        units = [unit for unit in shard.units if not is_made(staged_path(staging, unit))]
        todo += units
        home.update({unit.number: shard for unit in shard.units})
        left[shard.number] = len(units)
        done += len(shard.units) - len(units)
        if not units:
            join(shard, staging)
    progress(done, total)

    for unit in make_all(todo, staging, config, workers or os.cpu_count() or 1):
        done += 1
        shard = home[unit.number]
        left[shard.number] -= 1
        if not left[shard.number]:
            join(shard, staging)
        progress(done, total)


def make_all(units: Sequence[Unit], staging: Path, config: PrepareConfig, workers: int) -> Iterator[Unit]:
    """Makes the files of units, and yields each as it is done. Processes may die: what killed one is tried once more
    alone, for memory may have run out over another, and is then given up."""
    for folder in {staged_path(staging, unit).parent for unit in units}:
        folder.mkdir(parents=True, exist_ok=True)
    function = functools.partial(make_one, staging=staging, config=config)
    died = []
    with Crew(function, count=min(workers, len(units)), patience=PATIENCE) as crew:
        for unit, result in crew.run(units):
            if isinstance(result, Death):
                died.append(unit)
            else:
                yield unit
    with Crew(function, count=1, patience=PATIENCE) as crew:
        for unit, result in crew.run(died):
            if isinstance(result, Death):
                bury_unit(unit, staged_path(staging, unit), result)
            yield unit


def make_one(unit: Unit, alive: Callable[[], None], *, staging: Path, config: PrepareConfig) -> None:
    make_unit(unit, staged_path(staging, unit), config, alive)


def join(shard: Shard, staging: Path) -> None:
    """Joins the files of a shard's units, and removes them."""
    data, about = shard_paths(staging, shard.number)
    data.parent.mkdir(parents=True, exist_ok=True)
    paths = [staged_path(staging, unit) for unit in shard.units]
    if not about.exists():
        make_shard(paths, data, about)
    for path in paths:
        path.unlink(missing_ok=True)


def _check_folder(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise DataError(f"{out}: is a file; name a folder to prepare into")
    names = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    names = [name for name in names if not name.startswith(".") and name != "lost+found"]
    if names and not is_prepared(out):
        raise DataError(
            f"{out}: holds other files ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''}); prepare into a "
            "folder that is new or empty"
        )


def _check_same(out: Path, asked: dict, found: dict) -> None:
    """Raises DataError, naming what differs, if the folder is of another preparation."""
    differs = []
    if found.get("format") != asked["format"]:
        differs.append(f"format {found.get('format')}, this version writes {asked['format']}")
    if found.get("source") != asked["source"]:
        differs.append(f"source {found.get('source')}, asked for {asked['source']}")
    before = found.get("config", {})
    for name, value in asked["config"].items():
        if before.get(name) != value:
            differs.append(f"{name} {before.get(name)}, asked for {value}")
    if not differs and found.get("rows") != asked["rows"]:
        differs.append("media or captions of the source have changed since")
    if differs:
        raise DataError(
            f"{out}: holds another preparation: {'; '.join(differs)}. Prepare into another folder, or remove this one"
        )


def _keep_plan(out: Path, plan: dict) -> None:
    path = out / STAGING / PLAN
    if path.exists():
        _check_same(out, plan, json.loads(path.read_text()))
    else:
        write_whole(path, json.dumps(plan, indent=1).encode())
    for stray in (out / STAGING).rglob("*.tmp"):  # of processes that were killed
        stray.unlink()


@contextmanager
def _disk(out: Path):
    """Says plainly that a disk is full, or forbids."""
    try:
        yield
    except OSError as error:
        what = error.strerror or str(error)
        remedy = "make room" if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else "mend that"
        raise DataError(
            f"{error.filename or out}: {what}. What was written before is intact: {remedy}, and type the same command "
            "again; it goes on from there"
        ) from error


@contextmanager
def _locked(out: Path):
    """One process at a time. The lock goes with the process, however that ends."""
    (out / STAGING).mkdir(parents=True, exist_ok=True)
    with open(out / STAGING / LOCK, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(f"{out}: another process is preparing into it; wait for it, or stop it") from error
        yield


def _about(staging: Path, shard: Shard) -> dict:
    return json.loads(shard_paths(staging, shard.number)[1].read_text())


def _first_faults(out: Path, listing: Listing, shards: Sequence[Shard]) -> str:
    faults = list(listing.faults)
    for shard in shards:
        faults += [Fault(**fault) for fault in _about(out / STAGING, shard)["faults"]]
    lines = [f"  {fault.id}: {fault.reason} ({fault.detail})" for fault in faults[:5]]
    return "\n".join(lines + [f"  and {len(faults) - 5} more"] * (len(faults) > 5))


def _summary(out: Path) -> Prepared:
    description = json.loads((out / PREPARED).read_text())
    splits = description["splits"]
    with open(out / ERRORS, encoding="utf-8") as file:
        faults = Counter(json.loads(line)["reason"] for line in file)
    return Prepared(
        folder=out,
        splits={name: about["records"] for name, about in splits.items()},
        records=sum(about["records"] for about in splits.values()),
        seconds=sum(about["seconds"] for about in splits.values()),
        media_bytes=sum(about["media_bytes"] for about in splits.values()),
        faults=dict(faults.most_common()),
        errors=out / ERRORS,
    )
