"""Labels of clips: where they come from, which clips serve a classifier, and what becomes of those that do not."""

import numpy as np
import pytest

from vatt.config import AugmentConfig, ClipConfig
from vatt.data.items import Decoded, Item
from vatt.data.labels import ByFolder, Labels, labelled, read_classes, read_names, with_labels
from vatt.data.pipeline import TrainStream, evaluation_batches
from vatt.data.sources import MediaSource
from vatt.errors import DataError

CLIP = ClipConfig(frames=2, fps=4, size=32, sample_rate=4_000, samples=2_000)
CLASSES = ("dog", "siren")


def item(id: str, *labels: str, video: bool = True, audio: bool = True) -> Item:
    return Item(id=id, media=f"/media/{id}", end=2.0, has_video=video, has_audio=audio, labels=labels)


def source(*items: Item, name: str = "/media") -> MediaSource:
    return MediaSource(name, items, [])


class Records(list):
    """A source that is read to make an item of it."""

    name, faults = "records", ()

    def labels(self):
        return [item.labels for item in self]

    def fingerprint(self):
        return ""


def test_clips_without_what_is_classified_are_left_out_and_told_before_any_is_decoded():
    found = labelled(
        source(item("a", "dog"), item("mute", "dog", audio=False), item("b", "siren", video=False), item("none")),
        CLASSES,
        "single",
        ("audio",),
    )
    assert [found[index].id for index in range(len(found))] == ["a", "b"]
    assert [(fault.id, fault.reason) for fault in found.faults] == [("mute", "no_audio"), ("none", "unlabelled")]
    whole = source(item("mute", "dog", audio=False), item("dark", "siren", video=False), item("none"))
    assert labelled(whole, CLASSES, "multi", ("video", "audio")) is whole
    with pytest.raises(DataError, match="none of its clips with a label has audio, to classify it by"):
        labelled(source(item("a"), item("mute", "dog", audio=False)), CLASSES, "multi", ("audio",))


@pytest.mark.parametrize("labels", ["single", "multi"])
def test_a_source_without_any_label_is_refused(labels):
    with pytest.raises(DataError, match=r"none of its 2 clips has a label\. Labels come with"):
        labelled(source(item("a"), item("b")), CLASSES, labels, ("video",))


def test_folders_of_a_folder_are_classes_and_those_in_a_manifests_paths_are_not(tmp_path):
    items = [item("dog/a.mp4"), item("siren/deep/b.mp4")]
    found = with_labels(source(*items, name=str(tmp_path)))
    assert isinstance(found, ByFolder)
    assert found.labels() == [("dog",), ("siren",)]
    manifest = source(*items, name=str(tmp_path / "clips.csv"))
    assert with_labels(manifest) is manifest
    loose = source(*items, item("c.mp4"), name=str(tmp_path))
    assert with_labels(loose) is loose

    class Unread(Records):
        def __getitem__(self, index):
            raise AssertionError("a record was read")

    records = Unread(items)
    assert with_labels(records) is records


def sounding(id: str, audio: np.ndarray | None) -> Item:
    frames = np.zeros((8, 40, 40, 3), np.uint8)
    media = Decoded(name=id, video=frames, fps=4.0, audio=audio, sample_rate=4_000)
    return Item(id=id, media=media, end=2.0, has_audio=audio is not None, labels=("dog",))


NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, 8_000).astype(np.float32)


def test_silence_can_be_a_class_and_what_has_no_sound_does_not_count_as_broken():
    records = Records([sounding("noise", NOISE), sounding("hush", 0 * NOISE), sounding("mute", None)])
    labels = Labels(CLASSES, ("audio",))
    stream = TrainStream(
        [records],
        clip=CLIP,
        augment=AugmentConfig(),
        canvas=48,
        tokenizer=None,
        labels=labels,
        batch_size=3,
        seed=0,
        workers=1,
    )
    batch = stream.batch(0)
    assert set(batch["ids"]) == {"noise", "hush"}
    assert batch["audio_mask"].all()
    events = {(event.id, event.reason) for events in batch["events"] for event in events}
    assert events == {("mute", "no_audio"), ("hush", "silent")}
    failed = []
    (held,) = evaluation_batches(
        records, clip=CLIP, canvas=48, tokenizer=None, labels=labels, windows=1, batch_size=2, failed=failed
    )
    assert held["ids"] == ["noise", "hush"]
    assert held["audio_mask"].all()
    assert [str(error) for error in failed] == ["mute: has no audio, which is all that is classified"]


def test_records_of_which_none_can_be_classified_are_not_called_a_broken_disk():
    stream = TrainStream(
        [Records([sounding("mute", None)])],
        clip=CLIP,
        augment=AugmentConfig(),
        canvas=48,
        tokenizer=None,
        labels=Labels(CLASSES, ("audio",)),
        batch_size=1,
        seed=0,
        workers=1,
    )
    with pytest.raises(DataError, match=r"1 clips in a row cannot be classified: mute: has no audio"):
        stream.batch(0)


def test_classes_may_come_with_names_in_words(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text("n01440764\ttench, a fish\nn02102040\n\nSiren\t siren \n")
    assert read_classes(path) == ("n01440764", "n02102040", "Siren")
    assert read_names(path) == {"n01440764": "tench, a fish", "n02102040": "n02102040", "Siren": "siren"}
    for text, says in (
        ("a\tone\tmore\n", r"line 1: .*'a\\tone\\tmore'"),
        ("a\nb\na\tone\n", "'a' stands there twice"),
        ("\tone\n", "line 1"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=says):
            read_names(path)
