"""The same preparation on many machines, by Apache Beam (`pip install 'vatt[beam]'`).

Units and shards are made by the very functions that one machine uses, each file whole or not there, so that the result
is the same, and what one runner began another may go on with. Source and OUT must lie where all machines see them
under one path, such as NFS, Lustre or a bucket that is mounted, and vatt must be installed on each.
"""

import functools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from vatt.data.captions import Caption
from vatt.data.crew import Crew, Death
from vatt.data.items import Progress, Row, Slice
from vatt.data.prepare.plan import PrepareConfig, Shard, Unit, row_to_json, shard_paths, staged_path
from vatt.data.prepare.run import PATIENCE, Work, join, make_one
from vatt.data.prepare.staging import bury_unit, is_made, write_whole
from vatt.errors import DataError

try:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions
except ImportError as error:
    raise DataError("--runner needs Apache Beam, which is not installed: pip install 'vatt[beam]'") from error


def work_on(runner: str, options: Sequence[str] = ()) -> Work:
    """Makes shards on a Beam runner; for the `work` of `vatt.data.prepare.run.prepare`.

    Args:
      runner: DirectRunner, FlinkRunner, SparkRunner, DataflowRunner, ...
      options: Beam's own, as on its command line.
    """

    def work(shards: Sequence[Shard], staging: Path, config: PrepareConfig, progress: Progress) -> None:
        todo = [shard for shard in shards if not shard_paths(staging, shard.number)[1].exists()]
        total = sum(len(shard.units) for shard in shards)
        left = sum(len(shard.units) for shard in todo)
        progress(total - left, total)
        if not todo:
            return
        for shard in todo:
            _keep_units(shard, staging)
        numbers = [shard.number for shard in todo]
        try:
            with beam.Pipeline(options=PipelineOptions([f"--runner={runner}", *options])) as pipeline:
                # The graph holds numbers alone: what a shard is made of may outgrow what a runner takes as its graph.
                _ = (
                    pipeline
                    | "shards" >> beam.Create(numbers)
                    | "media" >> beam.FlatMap(_units_of, staging=str(staging))
                    | "spread" >> beam.Reshuffle()
                    | "make" >> beam.ParDo(_Make(str(staging), config))
                    | "gather" >> beam.GroupByKey()
                    | "join" >> beam.Map(_join, staging=str(staging))
                )
        except OSError:
            raise
        except Exception as error:  # runners wrap what the functions raise, each in its own way
            raise DataError(
                f"{runner}: {str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__}. What "
                "was written before is intact: mend that, and type the same command again; it goes on from there"
            ) from error
        progress(total, total)

    return work


def _units_path(staging: Path, number: int) -> Path:
    return staging / "rows" / f"{number:05d}.jsonl"


def _keep_units(shard: Shard, staging: Path) -> None:
    path = _units_path(staging, shard.number)
    path.parent.mkdir(exist_ok=True)
    for unit in shard.units:
        staged_path(staging, unit).parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps([unit.number, unit.split, [row_to_json(row) for row in unit.rows]]) for unit in shard.units]
    write_whole(path, "\n".join(lines).encode())


def _read_units(number: int, staging: Path) -> tuple[Unit, ...]:
    units = []
    for line in _units_path(staging, number).read_text().splitlines():
        unit, split, rows = json.loads(line)
        units.append(Unit(number=unit, split=split, rows=tuple(_row_from_json(row) for row in rows)))
    return tuple(units)


def _row_from_json(row: dict) -> Row:
    media = Slice(**row["media"]) if isinstance(row["media"], dict) else row["media"]
    captions = tuple(Caption(*caption) for caption in row["captions"])
    return Row(**row | {"media": media, "captions": captions, "labels": tuple(row["labels"])})


def _units_of(number: int, *, staging: str) -> Iterator[tuple[int, Unit]]:
    for unit in _read_units(number, Path(staging)):
        yield number, unit


def _join(gathered: tuple[int, object], *, staging: str) -> None:
    number = gathered[0]
    units = _read_units(number, Path(staging))
    join(Shard(number=number, split=units[0].split, units=units), Path(staging))


class _Make(beam.DoFn):
    """Makes the file of a unit in a process of its own, so that a medium that kills it costs itself alone."""

    def __init__(self, staging: str, config: PrepareConfig):
        self._staging, self._config = Path(staging), config

    def setup(self):
        function = functools.partial(make_one, staging=self._staging, config=self._config)
        self._crew = Crew(function, count=1, patience=PATIENCE)

    def process(self, element: tuple[int, Unit]):
        number, unit = element
        path = staged_path(self._staging, unit)
        if not shard_paths(self._staging, number)[1].exists() and not is_made(path):
            for last in (False, True):
                ((_, result),) = self._crew.run([unit])
                if not isinstance(result, Death):
                    break
                if last:
                    bury_unit(unit, path, result)
        yield number, unit.number

    def teardown(self):
        self._crew.__exit__()
