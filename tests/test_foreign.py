"""TFDS data sets that others prepared, written here as they would be, without TensorFlow."""

import io
import json
import pickle
import shutil
import subprocess
import sys
import wave
from collections import Counter

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from vatt.data.captions import Caption, throughout
from vatt.data.demo import make_demo
from vatt.data.items import Decoded, Encoded
from vatt.data.listing.rows import absolute
from vatt.data.sources import open_source, word_counts
from vatt.errors import DataError, MediaError

features = tfds.features
LENGTHS = (20, 30, 5)  # frames of each record


def sound_file(seconds):
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((1, 2, 8000, 0, "NONE", ""))
        out.writeframes(np.zeros(round(seconds * 8000), "<i2").tobytes())
    return file.getvalue()


def picture_file():
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    return file.getvalue()


def record(index, media):
    frames = LENGTHS[index]
    rng = np.random.default_rng(index)
    return {
        "key": f"k{index}",
        "media": media,
        "clip": {
            "frames": rng.integers(0, 255, (frames, 8, 10, 3), np.uint8),
            "sound": rng.integers(-9999, 9999, frames * 100),
        },
        "stereo": rng.uniform(-1, 1, (frames * 100, 2)).astype(np.float32),
        "loud": np.full(9, 40_000),
        "picture": rng.integers(0, 255, (8, 10, 1), np.uint8),
        "wav": sound_file(frames / 10),
        "png": picture_file(),
        "title": f"title {index} é",
        "titles": ["one", "two"],
        "words": [{"text": "said", "start": 0.5, "end": 1.0}, {"text": "later", "start": 1.0, "end": 2.0}][:index],
        "kind": index % 2,
        "tags": ["x", "y"][:index],
    }


class Clips(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.2.0")
    media: bytes

    def _info(self):
        text, encoded = features.Text(), features.Tensor(shape=(), dtype=np.bytes_)
        return tfds.core.DatasetInfo(
            builder=self,
            disable_shuffling=True,
            features=features.FeaturesDict(
                {
                    "key": text,
                    "media": encoded,
                    "clip": {
                        "frames": features.Tensor(shape=(None, 8, 10, 3), dtype=np.uint8),
                        "sound": features.Tensor(shape=(None,), dtype=np.int64),
                    },
                    "stereo": features.Tensor(shape=(None, 2), dtype=np.float32),
                    "loud": features.Tensor(shape=(None,), dtype=np.int64),
                    "picture": features.Tensor(shape=(8, 10, 1), dtype=np.uint8),
                    "wav": encoded,
                    "png": encoded,
                    "title": text,
                    "titles": features.Sequence(text),
                    "words": features.Sequence({"text": text, "start": np.float32, "end": np.float32}),
                    "kind": features.ClassLabel(names=["cat", "dog"]),
                    "tags": features.Sequence(text),
                }
            ),
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(), "val": self._generate_examples()}

    def _generate_examples(self):
        for index in range(len(LENGTHS)):
            yield index, record(index, self.media)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    make_demo(folder / "demo", clips=1, heldout=1)
    Clips.media = (folder / "demo/heldout/clip_00000.mp4").read_bytes()
    Clips(data_dir=folder, file_format="array_record").download_and_prepare()
    return folder


def opened(folder, query, seconds=0.5, name="clips"):
    return open_source(f"tfds:{name}?dir={folder}&{query}", seconds=seconds)


def test_bytes_of_media_files(folder):
    source = opened(folder, "video=media&text=words&label=kind", name="clips:1.2.0@val")
    assert len(source) == 3
    item = source[1]
    assert isinstance(item.media, Encoded)
    assert item.media.data == Clips.media
    assert (item.id, item.has_video, item.has_audio, item.start) == ("clips/1.2.0@val/1", True, True, 0.0)
    assert 1.2 < item.end < 1.8
    assert (item.captions, item.labels) == ((Caption(0.5, 1.0, "said"),), ("dog",))
    assert source[0].captions == ()
    sound, picture = opened(folder, "audio=wav")[0], opened(folder, "image=png")[0]
    assert (sound.has_video, sound.has_audio, sound.end) == (False, True, 2.0)
    assert (picture.still, picture.has_audio, picture.room(0.5)) == (True, False, (0.0, 0.0))


def test_arrays_of_frames_and_samples(folder):
    source = opened(folder, "video=clip.frames&audio=clip.sound&fps=10&rate=1000&text=title&label=tags")
    item, truth = source[1], record(1, b"")
    assert isinstance(item.media, Decoded)
    np.testing.assert_array_equal(item.media.video, truth["clip"]["frames"])
    np.testing.assert_array_equal(item.media.audio, truth["clip"]["sound"])
    assert (item.media.fps, item.media.sample_rate, item.media.audio.dtype) == (10.0, 1000, np.int16)
    assert (item.start, item.end, item.has_video, item.has_audio, item.still) == (0.0, 3.0, True, True, False)
    assert (item.captions, item.labels) == ((throughout("title 1 é"),), ("x",))
    stereo = opened(folder, "audio=stereo&rate=1000&text=titles")[0]
    np.testing.assert_allclose(stereo.media.audio, record(0, b"")["stereo"].mean(1), atol=1e-6)
    assert [caption.text for caption in stereo.captions] == ["one", "two"]
    picture = opened(folder, "image=picture")[0]
    assert (picture.still, picture.media.video.shape) == (True, (1, 8, 10, 3))
    np.testing.assert_array_equal(picture.media.video[0, :, :, 1:2], record(0, b"")["picture"])


def damaged(folder, place, index):
    """A copy of the data set in which some bytes of one record are zeros."""
    shutil.copytree(folder / "clips", place / "clips")
    (shard,) = (place / "clips/1.2.0").glob("*train*")
    whole = shard.read_bytes()
    for at in range(500, len(whole.rstrip(b"\0")), 500):
        shard.write_bytes(whole[:at] + bytes(50) + whole[at + 50 :])
        records = tfds.builder_from_directory(str(place / "clips/1.2.0")).as_data_source(split="train")
        if [number for number in range(len(LENGTHS)) if not readable(records, number)] == [index]:
            return
    raise AssertionError("no place was found")


def readable(records, index) -> bool:
    try:
        records[index]
    except Exception:
        return False
    return True


@pytest.mark.parametrize("index", [0, 1])
def test_a_damaged_record_is_an_error_of_its_own(folder, tmp_path, index):
    damaged(folder, tmp_path, index)
    source = opened(tmp_path, "video=media&text=title", seconds=0.1)
    with pytest.raises(MediaError, match=rf"train/{index}: cannot be read \(.*orrupted.*\); copy the data set again"):
        source[index]
    assert source[2].captions == (throughout("title 2 é"),)
    assert source.word_counts() == Counter({"title": 2, "é": 2, "2": 1, str(1 - index): 1})


def test_captions_that_are_none_are_an_error_of_their_record(folder):
    source = opened(folder, "video=media&text=title")
    source.paths["text"] = ["kind"]
    with pytest.raises(MediaError, match=r"train/1: .*expected a caption"):
        source[1]


def test_a_record_too_short_for_a_clip_is_an_error_of_its_own(folder):
    source = opened(folder, "video=clip.frames&fps=10", seconds=1.0)
    assert source[0].end == 2.0
    with pytest.raises(MediaError, match=r"clips/1\.2\.0@train/2: 0\.50 s, a clip lasts 1 s") as error:
        source[2]
    assert error.value.kind == "too_short"


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        ("text=title", "names no feature with media, .* it has clip, clip.frames, clip.sound, key, kind, loud, media"),
        ("video=nope", "no feature 'nope' for video; it has .*clip.frames"),
        ("video=media&text=clip.nope", "no feature 'clip.nope' for text"),
        ("video=clip.frames", "say how many a second: fps=25"),
        ("audio=clip.sound", "say how many a second: rate=16000"),
        ("video=picture&fps=10", r"video=picture is uint8 \[8, 10, 1\], expected a file or uint8 \[T H W 3\]"),
        ("video=stereo&fps=10", "video=stereo is float32"),
        ("audio=clip.frames&rate=10", "the audio is uint8"),
        ("audio=loud&rate=10", "more than 16 bits"),
        ("video=media&audio=clip.sound&rate=10", "video and audio cannot be read together"),
        ("video=title", "title"),
        ("video=media&fps=fast", "fps=fast is not a number"),
        ("video=media&fps=-1", "fps=-1 is not a number"),
        ("vidoe=media", "'vidoe' means nothing here; .*video"),
    ],
)
def test_a_mapping_that_cannot_be_is_told_of_at_once(folder, query, complaint):
    with pytest.raises(DataError, match=rf"clips.*{complaint}"):
        opened(folder, query)


def test_a_data_set_that_is_not_there_is_named(folder, tmp_path):
    with pytest.raises(DataError, match=r"no data set nope in .*\?dir=FOLDER"):
        opened(folder, "video=media", name="nope")
    with pytest.raises(DataError, match=r"no data set clips 9\.9\.9 in"):
        opened(folder, "video=media", name="clips:9.9.9")
    with pytest.raises(DataError, match=r"Unknown split 'test'.*'train'"):
        opened(folder, "video=media", name="clips@test")
    with pytest.raises(DataError, match=r"no data set clips in"):
        opened(tmp_path, "video=media")
    assert len(opened(folder, "video=media", name="clips@train[:2]")) == 2


def test_features_that_need_tensorflow_are_told_of(folder, tmp_path):
    place = tmp_path / "clips/1.2.0"
    place.mkdir(parents=True)
    for file in (folder / "clips/1.2.0").iterdir():
        (place / file.name).write_bytes(file.read_bytes())
    described = json.loads((place / "features.json").read_text())
    spec = described["featuresDict"]["features"]["media"]
    spec["pythonClassName"] = "tensorflow_datasets.core.features.video_feature.Video"
    spec.pop("tensor", None)
    spec["video"] = {"shape": {"dimensions": ["-1", "8", "8", "3"]}, "dtype": "uint8"}
    (place / "features.json").write_text(json.dumps(described))
    with pytest.raises(DataError, match=r"clips.*TensorFlow"):
        opened(tmp_path, "video=media")
    (place / "features.json").write_text("{")
    with pytest.raises(DataError, match=r"clips.*cannot be read"):
        opened(tmp_path, "video=media")


def test_it_pickles_counts_words_and_has_a_fingerprint(folder):
    source = opened(folder, "video=media&text=title")
    copy = pickle.loads(pickle.dumps(source))
    assert copy[1].captions == source[1].captions
    assert copy.fingerprint() == source.fingerprint()
    assert source.fingerprint() != opened(folder, "video=media&text=titles").fingerprint()
    assert source.fingerprint() != opened(folder, "video=media&text=title", name="clips@val").fingerprint()
    assert source.word_counts() == {"title": 3, "é": 3, "0": 1, "1": 1, "2": 1}
    assert word_counts(f"tfds:clips?dir={folder}&video=media&text=words") == {"said": 2, "later": 1}
    assert source.name == absolute(source.name) == f"tfds:clips?dir={folder}&video=media&text=title"


def test_tensorflow_is_not_loaded(folder):
    script = (
        "import sys\nfrom vatt.data.sources import open_source\n"
        f"print(len(open_source('tfds:clips?dir={folder}&video=media', seconds=1.0)), 'tensorflow' in sys.modules,"
        " 'jax' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", script], text=True) == "3 False False\n"
