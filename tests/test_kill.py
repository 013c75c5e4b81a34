"""Training that is killed at any moment and started again sees the clips that an undisturbed run sees."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.media import ROOT, small_demo
from vatt.config import to_json
from vatt.train.log import read_metrics

STEPS, KILLS = 60, 10

# Trains as `vatt pretrain` does, and notes every batch as the loop takes it.
TRAINER = textwrap.dedent("""
    import hashlib, json, sys
    from rich.console import Console
    from vatt.config import from_json
    from vatt.data.pipeline import TrainStream
    from vatt.train.pretrain import pretrain

    real = TrainStream.iterate

    def noting(self, start_step=0):
        with open(sys.argv[2], "a") as notes:
            for step, batch in enumerate(real(self, start_step), start_step):
                digest = hashlib.sha256()
                for name in ("video", "audio", "text", "video_box", "audio_mask", "text_mask"):
                    digest.update(batch[name].tobytes())
                notes.write(json.dumps([step, batch["ids"], digest.hexdigest()]) + "\\n")
                notes.flush()
                yield batch

    TrainStream.iterate = noting
    pretrain(from_json(open(sys.argv[1]).read()), Console(quiet=True))
""")


def start(folder: Path, name: str, cfg) -> subprocess.Popen:
    (folder / f"{name}.json").write_text(to_json(replace(cfg, run=str(folder / name))))
    return subprocess.Popen(
        [sys.executable, "-c", TRAINER, folder / f"{name}.json", folder / f"{name}.notes"],
        cwd=ROOT, env=os.environ | {"JAX_NUM_CPU_DEVICES": "1"}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip


def notes(folder: Path, name: str) -> list[tuple[int, list[str], str]]:
    path = folder / f"{name}.notes"
    lines = path.read_text().splitlines() if path.exists() else []
    return [tuple(json.loads(line)) for line in lines if line.endswith("]")]


def losses(folder: Path, name: str) -> dict[int, float]:
    return {line["step"]: line["loss"] for line in read_metrics(folder / name) if "loss" in line}


@pytest.mark.slow
def test_ten_kills_change_no_batch_and_no_loss(demo_media, tmp_path):
    cfg = replace(small_demo(demo_media, tmp_path), steps=STEPS)
    cfg = replace(cfg, checkpoint=replace(cfg.checkpoint, every=4))
    straight = start(tmp_path, "straight", cfg)
    assert straight.wait(300) == 0, straight.stderr.read().decode()
    expected = {step: (ids, digest) for step, ids, digest in notes(tmp_path, "straight")}
    assert sorted(expected) == list(range(STEPS))

    rng = random.Random(int(hashlib.sha256(b"kills").hexdigest(), 16))
    kills = 0
    for point in sorted(rng.sample(range(2, STEPS - 2), KILLS)):
        process = start(tmp_path, "killed", cfg)
        while max((step for step, _, _ in notes(tmp_path, "killed")), default=-1) < point:
            assert process.poll() is None, process.stderr.read().decode()
            time.sleep(0.002)
        time.sleep(rng.random() * 0.2)  # in the step, or while a checkpoint is written
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        kills += 1
    last = start(tmp_path, "killed", cfg)
    assert last.wait(300) == 0, last.stderr.read().decode()
    assert kills == KILLS
    seen = notes(tmp_path, "killed")
    assert len(seen) > STEPS  # steps after the last checkpoint were done again
    assert {step for step, _, _ in seen} == set(range(STEPS))
    for step, ids, digest in seen:
        assert (ids, digest) == expected[step], f"step {step}"
    assert losses(tmp_path, "killed") == losses(tmp_path, "straight")
