"""The last step of a preparation: shards get their names, and the set its description. It may be done over again."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vatt.data.items import Listing
from vatt.data.prepare.plan import Shard, shard_paths
from vatt.data.prepare.staging import write_whole
from vatt.data.records import ERRORS, FORMAT, INDEX, NAME, PREPARED, STAGING, features, shard_name


def describe(out: Path, listing: Listing, shards: Sequence[Shard], made: dict) -> None:
    """Makes of the shards in OUT/.staging a set that `vatt.data.records.PreparedSource` and TFDS read.

    Shards without records are left out. `prepared.json` is written last: with it the set is finished.

    Args:
      made: how: format, source, config, version; goes into prepared.json.
    """
    staging = out / STAGING
    (out / INDEX).mkdir(exist_ok=True)
    faults = [fault_to_json(fault) for fault in listing.faults]
    splits: dict[str, dict] = {}
    for split in sorted({shard.split for shard in shards}):
        found = [(shard.number, *_about(staging, shard.number)) for shard in shards if shard.split == split]
        for _, _, about in found:
            faults += about["faults"]
        full = [(number, data, about) for number, data, about in found if about["records"]]
        if not full:
            continue
        for position, (_, data, _) in enumerate(full):
            if data.exists():  # else it has its name already
                os.replace(data, out / shard_name(split, position, len(full)))
        splits[split] = _split(out, split, [about for _, _, about in full], made["config"])
    lines = [json.dumps(fault, ensure_ascii=False) + "\n" for fault in faults]
    write_whole(out / ERRORS, "".join(lines).encode())
    _describe_to_tfds(out, splits, made)
    write_whole(out / PREPARED, json.dumps({**made, "splits": splits}, indent=1, ensure_ascii=False).encode())


def fault_to_json(fault) -> dict:
    return {"id": fault.id, "reason": fault.reason, "detail": fault.detail}


def _about(staging: Path, number: int) -> tuple[Path, dict]:
    data, about = shard_paths(staging, number)
    return data, json.loads(about.read_text())


def _split(out: Path, split: str, shards: list[dict], config: dict) -> dict:
    """Writes the index of a split. Returns what prepared.json says of it. Its fingerprint is of what records say and of
    how they were made: at another frame rate, clips of the same records are others."""
    counts: Counter = Counter()
    lines, seconds = [], []
    for shard in shards:
        counts.update(shard["words"])
        for line in shard["index"]:
            lines.append(json.dumps(line, ensure_ascii=False) + "\n")
            seconds.append(np.inf if line["seconds"] is None else line["seconds"])
    write_whole(out / INDEX / f"{split}.jsonl", "".join(lines).encode())
    write_whole(out / INDEX / f"{split}.words.json", json.dumps(dict(sorted(counts.items()))).encode())
    lengths = np.array(seconds, np.float64)
    write_whole(out / INDEX / f"{split}.seconds", lengths.astype("<f8").tobytes())
    told = [config, [shard["digest"] for shard in shards]]
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
    return {
        "records": len(lines),
        "seconds": float(lengths[np.isfinite(lengths)].sum()),
        "media_bytes": sum(line["bytes"] for shard in shards for line in shard["index"]),
        "shards": [{name: shard[name] for name in ("records", "payload", "bytes")} for shard in shards],
        "fingerprint": digest[:32],
    }


def _describe_to_tfds(out: Path, splits: dict[str, dict], made: dict) -> None:
    import tensorflow_datasets as tfds

    config = ", ".join(f"{name} {value}" for name, value in made["config"].items())
    template = tfds.core.ShardedFileTemplate(
        data_dir=out,  # pyright: ignore[reportArgumentType]
        dataset_name=NAME,
        filetype_suffix="array_record",
        template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
    )
    tfds.folder_dataset.write_metadata(
        data_dir=out,
        features=features(),
        split_infos=[
            tfds.core.SplitInfo(
                name=name,
                shard_lengths=[shard["records"] for shard in about["shards"]],
                num_bytes=sum(shard["payload"] for shard in about["shards"]),
                filename_template=template.replace(split=name),
            )
            for name, about in splits.items()
        ],
        version=f"{FORMAT}.0.0",
        filename_template=template.replace(split=None),
        check_data=False,
        description=DESCRIPTION.format(source=made["source"], config=config, vatt=made["vatt"]),
    )


DESCRIPTION = """\
Media prepared for training by vatt {vatt} from {source}.

A record is a part of a media file. Its `media` are the bytes of an MP4 (H.264 and FLAC), or of a JPEG where `still` is
true; `path`, `start` and `end` (seconds) say where it was cut from. Frame i shows what was on show at
`start` + i / fps, and the sound begins at the same instant. `has_video` and `has_audio` say which streams there are.
`captions` are those that can be among the nearest to a clip of the record; their times (seconds) count from its start,
and may lie outside it. `labels` are those of the row that the record was made of.

Made with: {config}.
"""
