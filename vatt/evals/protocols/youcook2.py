"""YouCook2: each step of a cooking video is found by the sentence that describes it.

official  csv/validation_youcook.csv of https://github.com/antoine77340/MIL-NCE_HowTo100M, with the columns
          end,start,task,text,video_id: 3,350 steps of 436 videos, 3,273 different captions. Where it is not in the
          folder, the validation part of youcookii_annotations_trainval.json, which may list others; the report names
          the file
layout    FOLDER/validation_youcook.csv or FOLDER/csv/validation_youcook.csv
          and below FOLDER validation/TASK/ID.mp4 (or .mkv, .webm), or raw_videos/validation/TASK/...
sources   youcook2: Akbari et al. 2021 (VATT, arXiv 2104.11178), appendix A.3.3, and its code: 4 windows of 32 frames at
          12.5 a second, cosine. youcook2-milnce: Miech et al. 2020 (MIL-NCE, arXiv 1912.06430) by its repository:
          10 windows (README), 16 frames at 5 a second of 224 pixels (defaults of args.py), 0.4 s of margin, raw dot
          products, 30 words; text to video only. Its paper has another model: 32 frames at 10 a second of 200 pixels
short     a step shorter than a window is shown over and over, as DMVR does, which VATT reads its clips with. In
          MIL-NCE's code a window runs on past the end of its step, and past the film's end shows black. Here it runs on
          as well, and begins earlier where the film ends: nothing is shown that is not in the film
counts    3.1k pairs by VATT's paper, 3,320 by its code, 3,350 in MIL-NCE's list: links rot, so publications differ
"""

from pathlib import Path

from vatt.data.builders.shared import find, number, read_csv
from vatt.data.builders.youcook2 import steps
from vatt.data.items import VIDEO
from vatt.evals.protocols.protocol import Entry, Official, Protocol, one_line, unique

GET = "https://github.com/antoine77340/MIL-NCE_HowTo100M"
PLACES = ("validation_youcook.csv", "csv/validation_youcook.csv")
JSON = "youcookii_annotations_trainval.json"

VATT = Protocol(
    name="youcook2",
    version=2,
    source="Akbari et al. 2021 (VATT), appendix A.3.3",
    official="validation_youcook.csv (MIL-NCE), every line; else the validation part of " + JSON,
    captions="the sentence of the step",
    items=3350,
    directions=("text_to_video", "video_to_text"),
    windows=4,
    frames=32,
    fps=12.5,
    size=224,
    words=16,
)
MIL_NCE = Protocol(
    name="youcook2-milnce",
    version=2,
    source="Miech et al. 2020 (MIL-NCE), its repository's eval_youcook.py",
    official="validation_youcook.csv, every line; else the validation part of " + JSON,
    captions="the sentence of the step",
    items=3350,
    directions=("text_to_video",),
    windows=10,
    margin=0.4,
    short="runs_on",
    frames=16,
    fps=5.0,
    size=224,
    words=30,
    similarity="dot",
)
PROTOCOLS = {protocol.name: protocol for protocol in (VATT, MIL_NCE)}


def entries(folder: Path) -> Official:
    """The steps, by video, start and end; a line that repeats these is an item of its own, as in publications."""
    path = find(folder, *PLACES, f"annotations/{JSON}", JSON, get=GET)
    lines = _annotated(path) if path.suffix == ".json" else _listed(path)
    ids = unique([f"{video}_{start:g}_{end:g}" for video, start, end, _ in lines])
    items = [
        Entry(id=id, stems=(video,), captions=(one_line(text),), start=start, end=end)
        for id, (video, start, end, text) in zip(ids, lines, strict=True)
    ]
    return Official(file=path, entries=items, extensions=VIDEO)


def _listed(path: Path) -> list[tuple[str, float, float, str]]:
    return [
        (line["video_id"], number(line["start"], where, "start"), number(line["end"], where, "end"), line["text"])
        for where, line in read_csv(path, ("end", "start", "task", "text", "video_id"))
    ]


def _annotated(path: Path) -> list[tuple[str, float, float, str]]:
    return [(step.video, step.start, step.end, step.sentence) for step in steps(path, "val")]


ENTRIES = dict.fromkeys(PROTOCOLS, entries)
