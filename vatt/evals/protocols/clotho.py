"""Clotho: each sound of 15 to 30 seconds is found by the five captions that people wrote for it.

official  clotho_captions_evaluation.csv (file_name,caption_1,...,caption_5), 1,045 sounds in version 2 (from memory,
          unconfirmed); https://zenodo.org/records/4783391
layout    FOLDER/clotho_captions_evaluation.csv, and the sounds, as the archive unpacks, in a folder named evaluation:
          FOLDER/evaluation/Some name.wav (or FOLDER/clotho_audio_evaluation/evaluation/...)
source    Drossos, Lipping and Virtanen 2020, "Clotho: an Audio Captioning Dataset", arXiv 1910.09387; ranked as Oncescu
          et al. 2021, arXiv 2105.02192, do (both from memory, unconfirmed). Models there hear the whole sound; here ten
          windows of the run's clip are averaged, that 3.2 s each cover thirty seconds
"""

import os
from pathlib import Path

from vatt.data.builders.shared import find, read_csv
from vatt.data.items import SOUND
from vatt.evals.protocols.protocol import Entry, Official, Protocol, one_line, unique

GET = "https://zenodo.org/records/4783391"
CAPTIONS = tuple(f"caption_{number}" for number in range(1, 6))

CLOTHO = Protocol(
    name="clotho",
    version=2,
    source="Drossos et al. 2020 (the split evaluation), as Oncescu et al. 2021 rank it",
    official="clotho_captions_evaluation.csv, every line",
    captions="all five of a sound, each a query",
    items=0,
    directions=("text_to_audio", "audio_to_text"),
    windows=10,
)
PROTOCOLS = {CLOTHO.name: CLOTHO}


def entries(folder: Path) -> Official:
    """The sounds of the file."""
    path = find(folder, "clotho_captions_evaluation.csv", get=GET)
    lines = [line for _, line in read_csv(path, ("file_name", *CAPTIONS))]
    items = [
        Entry(
            id=id,
            stems=(f"evaluation/{os.path.splitext(line['file_name'].strip())[0]}",),
            captions=tuple(one_line(line[caption]) for caption in CAPTIONS),
        )
        for id, line in zip(unique([line["file_name"].strip() for line in lines]), lines, strict=True)
    ]
    return Official(file=path, entries=items, extensions=SOUND, depth=2)


ENTRIES = {CLOTHO.name: entries}
