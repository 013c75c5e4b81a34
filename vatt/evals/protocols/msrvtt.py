"""MSR-VTT: each web video of 10 to 30 seconds is found by the sentences that describe it.

official  msrvtt-1ka: MSRVTT_JSFUSION_test.csv (key,vid_key,video_id,sentence), 1,000 lines ret0 to ret999, 995
          different sentences. msrvtt-full: the split test of MSRVTT_data.json or test_videodatainfo.json, 2,990 videos
          with twenty captions each
layout    as `vatt data list msrvtt` tells: lists in FOLDER or a folder of it, videos anywhere below
sources   Yu, Kim and Kim 2018 (JSFusion, arXiv 1808.02487) chose the thousand and their captions; windows and
          similarity are those of Akbari et al. 2021 (VATT, arXiv 2104.11178), appendix A.3.3
queries   every caption is a query of its own, also the twenty of msrvtt-full; a video is right by the best of its
          captions. Some publications rank fewer captions of the full split: unconfirmed, so compare counts of queries
"""

from pathlib import Path

from vatt.data.builders.msrvtt import GET, LISTS, OFFICIAL, PLACES, annotation_files, annotations
from vatt.data.builders.shared import find, read_csv
from vatt.data.items import VIDEO
from vatt.errors import DataError
from vatt.evals.protocols.protocol import Entry, Official, Protocol, one_line, unique

JSFUSION = Protocol(
    name="msrvtt-1ka",
    version=2,
    source="Yu et al. 2018 (JSFusion), as Akbari et al. 2021 (VATT), appendix A.3.3, measure it",
    official="MSRVTT_JSFUSION_test.csv, every line",
    captions="the sentence of the line",
    items=1000,
    directions=("text_to_video", "video_to_text"),
    windows=4,
    frames=32,
    fps=12.5,
    size=224,
    words=16,
)
FULL = Protocol(
    name="msrvtt-full",
    version=2,
    source="Xu et al. 2016 (the official split test), windows as Akbari et al. 2021 (VATT), appendix A.3.3",
    official="MSRVTT_data.json or test_videodatainfo.json, the videos of split test",
    captions="all of a video, each a query",
    items=2990,
    directions=("text_to_video", "video_to_text"),
    windows=4,
    frames=32,
    fps=12.5,
    size=224,
    words=16,
)
PROTOCOLS = {protocol.name: protocol for protocol in (JSFUSION, FULL)}


def entries_1ka(folder: Path) -> Official:
    """The lines of JSFusion's list."""
    path = find(folder, *(place + LISTS["test1k"] for place in PLACES), get=GET)
    lines = [line for _, line in read_csv(path, ("key", "vid_key", "video_id", "sentence"))]
    items = [
        Entry(id=id, stems=(line["video_id"],), captions=(one_line(line["sentence"]),))
        for id, line in zip(unique([line["video_id"] for line in lines]), lines, strict=True)
    ]
    return Official(file=path, entries=items, extensions=VIDEO)


def entries_full(folder: Path) -> Official:
    """The videos of the official split test, with all captions."""
    path = annotation_files(folder)[-1]  # of parts, that of the test
    videos, sentences = annotations(folder)
    wanted = [video for video, (part, _) in videos.items() if part == OFFICIAL["test"]]
    if not wanted:
        raise DataError(f"{path}: names no videos of split test; put MSRVTT_data.json beside it, from {GET}")
    if lacking := [video for video in wanted if video not in sentences]:
        raise DataError(f"{path}: no sentences for {len(lacking)} videos of split test, first {lacking[0]}; see {GET}")
    items = [Entry(id=id, stems=(id,), captions=tuple(map(one_line, sentences[id]))) for id in wanted]
    return Official(file=path, entries=items, extensions=VIDEO)


ENTRIES = {"msrvtt-1ka": entries_1ka, "msrvtt-full": entries_full}
