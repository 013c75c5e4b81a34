"""The ledger counts what clips lacked, survives a restart, and stops a run that has too many bad clips."""

import json

import pytest

from vatt.data.items import Fault
from vatt.data.ledger import LISTED, Event, Ledger
from vatt.data.sources import check_faults
from vatt.errors import DataError
from vatt.jsonl import read_lines


class Clips:
    """A source as far as the ledger looks at one."""

    def __init__(self, name, size, faults=()):
        self.name, self.size, self.faults = name, size, list(faults)

    def __len__(self):
        return self.size


SOURCES = [Clips("films", 4000, [Fault(id="gone.mp4", reason="missing")]), Clips("sounds", 100)]


def opened(run, *, max_bad=0.01, from_step=0, sources=SOURCES):
    return Ledger(run, sources, max_bad=max_bad, from_step=from_step)


def lines(run):
    return read_lines(run / "ledger.jsonl")


def test_every_kind_is_counted_by_source_and_each_file_listed_once(tmp_path):
    ledger = opened(tmp_path)
    tried = (Event(0, "undecodable", "b", "why"), Event(0, "undecodable", "d", "too"), Event(0, "no_audio", "a"))
    ledger.add(1, [0, 0, 1], [tried, (), (Event(1, "no_video", "s"),)])
    ledger.add(2, [0, 0, 1], [(Event(0, "no_audio", "a"),), (Event(0, "no_audio", "c"),), ()])
    assert ledger.write(2) == {"data/no_audio": 3, "data/no_video": 1, "data/undecodable": 1}
    *named, totals = lines(tmp_path)
    assert named == [
        {"step": 0, "source": "films", "reason": "missing", "id": "gone.mp4"},
        {"step": 1, "source": "films", "reason": "undecodable", "id": "b", "detail": "why"},
        {"step": 1, "source": "films", "reason": "undecodable", "id": "d", "detail": "too"},
        {"step": 1, "source": "films", "reason": "no_audio", "id": "a"},
        {"step": 1, "source": "sounds", "reason": "no_video", "id": "s"},
        {"step": 2, "source": "films", "reason": "no_audio", "id": "c"},
    ]
    assert totals == {
        "step": 2,
        "drawn": {"films": 4, "sounds": 2},
        "counts": {"films": {"no_audio": 3, "undecodable": 1}, "sounds": {"no_video": 1}},
    }
    assert ledger.summary()[0] == ("films", "undecodable", 1, 1 / 4, "b, d")  # what costs clips comes first


def test_going_on_from_a_checkpoint_counts_as_if_nothing_had_happened(tmp_path):
    batches = [([0, 1], [[Event(0, "no_audio", f"f{step}")], [Event(1, "silent", "s")]]) for step in range(1, 9)]
    (tmp_path / "straight").mkdir()
    (tmp_path / "stopped").mkdir()
    straight = opened(tmp_path / "straight")
    for step, batch in enumerate(batches, 1):
        straight.add(step, *batch)
        straight.write(step)
    stopped = opened(tmp_path / "stopped")
    for step, batch in enumerate(batches[:6], 1):  # a checkpoint at 4, a crash after 6
        stopped.add(step, *batch)
        stopped.write(step)
    with open(tmp_path / "stopped" / "ledger.jsonl", "a") as file:
        file.write('{"step": 7, "sou')
    again = opened(tmp_path / "stopped", from_step=4)
    for step, batch in enumerate(batches[4:], 5):
        again.add(step, *batch)
        again.write(step)
    assert lines(tmp_path / "stopped") == lines(tmp_path / "straight")
    assert again.summary() == straight.summary()


def test_a_run_that_starts_over_forgets(tmp_path):
    ledger = opened(tmp_path)
    ledger.add(1, [0], [[Event(0, "no_audio", "a")]])
    ledger.write(1)
    assert [line["step"] for line in lines(tmp_path)] == [0, 1, 1]
    opened(tmp_path)
    assert [line["step"] for line in lines(tmp_path)] == [0]


def test_harmless_kinds_are_listed_up_to_a_bound_and_fatal_ones_all(tmp_path):
    ledger = opened(tmp_path)
    count = LISTED + 10
    ledger.add(1, [0] * count, [[Event(0, "no_captions", str(i))] for i in range(count)])
    ledger.add(2, [0] * count, [[Event(0, "undecodable", str(i))] for i in range(count)])
    ledger.write(2)
    reasons = [line["reason"] for line in lines(tmp_path) if "reason" in line]
    assert (reasons.count("no_captions"), reasons.count("undecodable")) == (LISTED, count)
    assert ledger.counts[0, "no_captions"] == count


def test_too_many_bad_clips_are_an_error_that_names_them_but_not_before_enough_were_drawn(tmp_path):
    ledger = opened(tmp_path)
    ledger.add(1, [0] * 64, [[Event(0, "undecodable", "bad.mp4")]])
    assert ledger.excess() is None  # 1 of 64 tells nothing yet
    ledger.add(2, [0] * 936, [[Event(0, "undecodable", "bad.mp4")]] * 9)
    assert ledger.excess() is None  # 10 of 1000 is the threshold itself
    ledger.add(3, [0] * 10, [[Event(0, "undecodable", "worse.mp4")]])
    error = str(ledger.excess())
    assert "11 of 1010 clips (1.1 %)" in error
    assert "films: bad.mp4" in error
    assert "--data.max-bad" in error
    (tmp_path / "lenient").mkdir()
    lenient = opened(tmp_path / "lenient", max_bad=0.5)
    lenient.add(1, [0] * 1000, [[Event(0, "undecodable", "bad.mp4")]] * 400)
    assert lenient.excess() is None


def test_small_sources_are_judged_after_one_pass(tmp_path):
    ledger = opened(tmp_path, sources=[Clips("few", 20)])
    ledger.add(1, [0] * 16, [[Event(0, "undecodable", "bad.mp4")]])
    assert ledger.excess() is None
    ledger.add(2, [0] * 16, [])
    assert isinstance(ledger.excess(), DataError)


def test_faults_at_opening_beyond_the_threshold_are_an_error_but_missing_files_are_not():
    broken = [Fault(id=f"{i}.mp4", reason="unreadable", detail="no header") for i in range(7)]
    with pytest.raises(
        DataError, match=r"7 of 107 files cannot be used \(7 unreadable\)(.|\n)*0.mp4: no header(.|\n)*2 more"
    ):
        check_faults(Clips("films", 100, broken), 0.05)
    check_faults(Clips("films", 100, broken), 0.07)
    check_faults(Clips("rotten links", 10, [Fault(id=str(i), reason="missing") for i in range(990)]), 0.0)
    check_faults(Clips("short", 10, [Fault(id=str(i), reason="too_short") for i in range(90)]), 0.0)
    check_faults(Clips("silent", 10, [Fault(id="a", reason="bad_captions")]), 0.0)  # it gives clips all the same


def test_lines_are_json_whatever_the_name(tmp_path):
    ledger = opened(tmp_path)
    ledger.add(1, [0], [[Event(0, "no_audio", 'né "日本"\n.mp4')]])
    ledger.write(1)
    assert all(json.loads(line) for line in (tmp_path / "ledger.jsonl").read_text().splitlines())
    assert lines(tmp_path)[1]["id"] == 'né "日本"\n.mp4'
