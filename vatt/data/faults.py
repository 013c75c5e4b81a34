"""The faults that files can have, under one name everywhere: in reports, in the ledger of a run, in errors.

Each has a text for people, and a remedy.
"""

from typing import NamedTuple


class Kind(NamedTuple):
    says: str  # what is the matter
    remedy: str  # what to do about it
    fatal: bool  # whether no clip can be had from the file


FAULTS: dict[str, Kind] = {
    # A file that gives nothing
    "missing": Kind("the file is not there", "download it again, or leave its row out", True),
    "unreadable": Kind("not media, or damaged so that nothing can be decoded", "remove it or download it again", True),
    "truncated": Kind("ends before its header says", "download it again, or re-encode what is there", True),
    "no_streams": Kind("neither video nor sound in it", "remove it", True),
    "too_short": Kind("shorter than one clip", "remove it, or shorten the clip (clip.frames, clip.samples)", True),
    "too_large": Kind("picture or length beyond what is sane", "remove it, or re-encode it", True),
    "duplicate_id": Kind("two files under one id", "rename one of them", True),
    "bad_row": Kind("a line of the manifest that cannot be used", "correct the line named", True),
    "unread_columns": Kind(
        "columns of the manifest that are not read", "nothing, or call them as vatt data --help does", False
    ),
    "bad_name": Kind("its name is not UTF-8", "rename it, for instance with convmv", True),
    "outside": Kind("its path leaves the folder of its manifest or archive", "correct the path", True),
    "crashes": Kind("the decoder died of it, or hung", "remove it, or re-encode it", True),
    "undecodable": Kind("a clip of it could not be decoded; another was taken", "run vatt data check", True),
    # A file that gives clips, but perhaps not what was meant
    "short_rows": Kind("some of its rows are shorter than one clip", "correct their times, or shorten the clip", False),
    "damaged": Kind("some packets cannot be decoded", "download it again, or re-encode it", False),
    "unchecked": Kind("not checked to its end", "nothing, or check it alone on a faster machine", False),
    "no_video": Kind("no video track: sound alone", "nothing, if that is meant; a mask keeps it out of video", False),
    "no_audio": Kind("no sound track", "nothing, if that is meant; a mask keeps it out of sound", False),
    "silent": Kind("its sound is silence", "check the download; a mask keeps it out of sound", False),
    "variable_rate": Kind("variable frame rate", "nothing: frames are picked by their time stamps", False),
    "rotated": Kind("stored on its side", "nothing: the rotation is applied", False),
    "lengths_differ": Kind("sound and picture differ in length", "nothing: clips lie where both run", False),
    "late_start": Kind("sound or picture begins late", "nothing: clips lie where both run", False),
    "no_captions": Kind("no captions", "nothing, if that is meant; a mask keeps it out of text", False),
    "bad_captions": Kind("captions that cannot be read", "repair it: see the line named", False),
    "bad_label": Kind("the label cannot be read", "repair it", False),
    "caption_times": Kind(
        "captions outside the file, or running backwards", "check that captions and file match", False
    ),
    "empty_captions": Kind("captions without words", "remove or replace them", False),
    "unknown_words": Kind(
        "captions of which the model knows no word", "nothing, or train with a larger vocabulary", False
    ),
    "not_text": Kind("captions that are not text (markup, numbers, symbols)", "replace them", False),
    "duplicate": Kind("the same content as another file", "keep one of them", False),
    "near_duplicate": Kind("looks the same as another file", "keep one of them, above all across splits", False),
}
