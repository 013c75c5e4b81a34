"""Tiny copies of the data sets that retrieval protocols rank, laid out as released, and media to put in them."""

import json
import shutil
import wave
from pathlib import Path

import av
import numpy as np

RATE = 16_000
WORDS = ("red", "blue", "circle", "square", "left", "right", "falls", "rises")


def put(source: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(source, target))


def text(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def tone(path: Path, pitch: float, *, seconds: float = 1.5, loud: float = 0.4) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = 32767 * loud * np.sin(2 * np.pi * pitch * np.arange(round(seconds * RATE)) / RATE)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.astype("<i2").tobytes())
    return path


def captions(number: int) -> list[str]:
    """So many different captions."""
    return [f"the {WORDS[i % 8]} {WORDS[i // 8 % 8]} {WORDS[i // 64]}" for i in range(number)]


def jsfusion(folder: Path, films, sentences) -> Path:
    rows = [f"ret{i},msr{9770 + i},video{9770 + i},{sentence}" for i, sentence in enumerate(sentences)]
    text(folder / "MSRVTT_JSFUSION_test.csv", "key,vid_key,video_id,sentence", *rows)
    for i, film in enumerate(films):
        put(film, folder / f"videos/all/video{9770 + i}.mp4")
    return folder


def milnce_csv(folder: Path, *rows: str) -> Path:
    text(folder / "csv/validation_youcook.csv", "end,start,task,text,video_id", *rows)
    return folder


def msrvtt_json(folder: Path, films, each: int) -> Path:
    said = captions(each * (len(films) + 1))
    videos = [("video0", "train"), *((f"video{7010 + i}", "test") for i in range(len(films)))]
    content = {
        "info": {"contributor": "Microsoft multimedia group"},
        "videos": [
            {"category": 9, "url": "https://www.youtube.com/watch?v=9lZi22qLlEo", "video_id": video, "start time": 1.0,
             "end time": 11.0, "split": split, "id": number}
            for number, (video, split) in enumerate(videos)
        ],
        "sentences": [
            {"caption": said[number * each + k], "video_id": video, "sen_id": number * each + k}
            for number, (video, _) in enumerate(videos)
            for k in range(each)
        ],
    }  # fmt: skip
    text(folder / "test_videodatainfo.json", json.dumps(content))
    for i, film in enumerate(films):
        put(film, folder / f"TestVideo/video{7010 + i}.mp4")
    return folder


def audiocaps(folder: Path, films) -> Path:
    said = captions(20)
    ids = ("tpDoZZc2R_4", "vfYTJq7nU", "-UAMgtMyPtI", "wRV8yMk886E")
    rows = [f'{97151 + 5 * k + i},{ids[k]},{30 + k},"{said[5 * k + i]}"' for i in range(5) for k in range(4)]
    text(folder / "dataset/test.csv", "audiocap_id,youtube_id,start_time,caption", *rows)
    tone(folder / "audio/tpDoZZc2R_4_30.wav", 300)
    put(films[0], folder / "test/vfYTJq7nU_000031.mp4")  # a film, of which only the sound counts
    tone(folder / f"audio/{97151 + 10}.wav", 700)  # by the number of one of its captions
    return folder  # and the fourth is not there


def vggsound(folder: Path, films) -> Path:
    rows = [f'id{i}-_{i},{30 + i},"bird chirping, tweeting",test' for i in range(len(films))]
    text(folder / "vggsound.csv", "--0PQM4-hqg,30,waterfall burbling,train", *rows)
    for i, film in enumerate(films):
        put(film, folder / f"id{i}-_{i}_{30 + i:06d}.mp4")
    return folder


def clotho(folder: Path) -> Path:
    said = captions(15)
    names = ("Santa Motor.wav", "Radio Garble.01.wav", "20110121_NorthSeattle, rain.wav")
    rows = [",".join(f'"{field}"' for field in (name, *said[5 * i : 5 * i + 5])) for i, name in enumerate(names)]
    text(folder / "clotho_captions_evaluation.csv", "file_name," + ",".join(f"caption_{i}" for i in range(1, 6)), *rows)
    for i, name in enumerate(names):
        tone(folder / "evaluation" / name, 200 * (i + 1))
        tone(folder / "development" / name, 50)  # another file of the same name, in another split
    return folder


def strip(source: Path, target: Path, *, keep: str) -> None:
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = old.streams.best(keep)
        copy = new.add_stream_from_template(stream)
        for packet in old.demux(stream):
            if packet.dts is not None:
                packet.stream = copy
                new.mux(packet)


def silence(source: Path, target: Path) -> None:
    """The film with a sound of zeros."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = old.streams.video[0]
        copy, sound = new.add_stream_from_template(stream), new.add_stream("aac", rate=RATE)
        for packet in old.demux(stream):
            if packet.dts is not None:
                packet.stream = copy
                new.mux(packet)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 2 * RATE), np.float32), format="fltp", layout="mono")
        frame.sample_rate = RATE
        for packet in [*sound.encode(frame), *sound.encode(None)]:
            new.mux(packet)


STEPS = (
    "1,0,226,pick the ends off,xHr8X2Wpmno",  # a second: the window of 1.024 s runs on past it
    "1,0,226,combine lemon juice and oil,xHr8X2Wpmno",  # the same step said again is an item of its own
    "10,1,105,pour off the brine,V53XmPeyjIU",  # the film ends before: the window begins earlier
    "60,47,201,never shown,V53XmPeyjIU",
    "9,3,201,fry the chicken,mZwK0TBI1iY",
)
