"""The real command line, in processes of its own."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

from tests.media import ROOT
from vatt.train.log import read_metrics

SMALL = [
    "--steps", "4", "--batch-size", "16", "--log.every", "1", "--checkpoint.every", "2", "--optim.warmup-steps", "1",
    "--evaluate.every", "0", "--evaluate.batch-size", "16",
    *(f"--model.{m}.encoder.{x}" for m in ("video", "audio", "text") for x in ("depth=1", "width=32", "heads=2")),
]  # fmt: skip


def vatt(*args, cwd=ROOT, timeout=300):
    return subprocess.run(
        [sys.executable, "-m", "vatt", *map(str, args)], cwd=cwd, capture_output=True, text=True, timeout=timeout,
        env=os.environ | {"COLUMNS": "120", "PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "2"},
    )  # fmt: skip


def demo_args(media, run):
    return [
        "pretrain",
        "experiments/demo.py",
        *SMALL,
        "--run",
        run,
        "--data.sources",
        media / "train",
        "--evaluate.source",
        media / "heldout",
    ]


def test_pretrain_evaluate_plot(demo_media, tmp_path):
    run = tmp_path / "run"
    first = vatt(*demo_args(demo_media, run))
    assert first.returncode == 0, first.stderr
    assert "Traceback" not in first.stderr
    assert re.search(r"step 4/4 .*video_audio \d.*video_text \d.*clips/s.*input wait.*left", first.stdout)
    table = first.stdout[first.stdout.index("zero-shot") :]
    for direction in ("text → video", "video → text", "audio → video", "video → audio"):
        assert direction in table
    assert "(6.2)" in table  # chance of R@1 among 16
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert list((run / "tensorboard").iterdir())

    second = vatt("evaluate", run)
    assert second.returncode == 0, second.stderr
    assert second.stdout[second.stdout.index("zero-shot") :] == table

    plotted = vatt("plot", run)
    assert plotted.returncode == 0, plotted.stderr
    assert (run / "retrieval.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["SIGINT", pytest.param("SIGTERM", marks=pytest.mark.slow)])
def test_ctrl_c_saves_and_the_same_command_goes_on(demo_media, tmp_path, name):
    """A terminal sends SIGINT to the whole group, decoders included; a scheduler sends SIGTERM."""
    args = [*demo_args(demo_media, tmp_path / "run"), "--steps", "200"]
    process = subprocess.Popen(
        [sys.executable, "-m", "vatt", *map(str, args)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env=os.environ | {"PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "2"}, start_new_session=True,
    )  # fmt: skip
    deadline = time.time() + 200
    while len(read_metrics(tmp_path / "run")) < 3:
        assert time.time() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    os.killpg(process.pid, getattr(signal, name))
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    stopped = int(re.search(r"Stopped after step (\d+) of 200 and saved", out)[1])  # pyright: ignore[reportOptionalSubscript]
    assert (tmp_path / "run" / "checkpoints" / str(stopped)).is_dir()

    again = vatt(*demo_args(demo_media, tmp_path / "run"), "--steps", stopped + 2)
    assert again.returncode == 0, again.stderr
    assert f"Going on from step {stopped}" in again.stdout
    assert [line["step"] for line in read_metrics(tmp_path / "run") if "loss" in line] == list(range(1, stopped + 3))


@pytest.mark.parametrize(
    ("args", "status", "says"),
    [
        ([], 2, "usage: vatt"),
        (["--help"], 0, "commands:"),
        (["pretrian"], 2, "did you mean 'pretrain'"),
        (["pretrain"], 2, "name an experiment file first"),
        (["pretrain", "experiments/nothing.py"], 1, "experiments/nothing.py: no such experiment file"),
        (["pretrain", "experiments/demo.py", "--help"], 0, "--optim.learning-rate FLOAT"),
        (["pretrain", "experiments/demo.py", "--optim.learningrate", "1"], 2, "--optim.learning-rate"),
        (["pretrain", "experiments/demo.py", "optim.learningrate=1"], 2, "--optim.learning-rate"),
        (["pretrain", "experiments/demo.py", "--steps", "many"], 2, "--steps"),
        (["pretrain", "experiments/demo.py", "--clip.frames", "9"], 1, "clip.frames 9 is not a multiple of the 2"),
        (["evaluate", "no/such/run"], 1, "no/such/run: not a run folder"),
        (["evaluate"], 2, "RUN"),
        (["evaluate", "r", "--probe", "esc50", "--retrieval", "clotho"], 2, "ask for one of them"),
        (["evaluate", "r", "--data", "d"], 2, "--data needs --probe or --retrieval"),
        (["evaluate", "r", "--passes", "2"], 2, "--passes needs --probe"),
        (["evaluate", "r", "--post", "dual-softmax"], 2, "--post needs --retrieval"),
        (["evaluate", "r", "--retrieval", "clotho", "--data", "d", "--source", "s"], 2, "does not go with --retrieval"),
        (["plot", "no/such/run"], 1, "no/such/run"),
        (["data", "demo"], 2, "DIR"),
        (["data", "demo", "/proc/nothing/here"], 1, "/proc/nothing/here"),
        (["--version"], 0, "jax"),
    ],
)  # fmt: skip
def test_what_is_said_and_returned(args, status, says):
    result = vatt(*args)
    assert result.returncode == status, result.stderr
    assert says in result.stdout + result.stderr
    assert "Traceback" not in result.stderr


def test_describe_prints_parameters_tokens_and_flops():
    result = vatt("describe", "experiments/vatt_mbs.py")
    assert result.returncode == 0, result.stderr
    for number in ("154.34 M", "86.08 M", "19.04 M", "1.45 M", "1,568", "784", "1,200", "600", "in all"):
        assert number in result.stdout


def test_overrides_reach_the_configuration():
    halved = vatt("describe", "experiments/vatt_mbs.py", "--model.video.keep", "0.25", "model.audio.keep=0.1")
    assert "392" in halved.stdout
    assert "120" in halved.stdout


def test_help_and_import_do_not_load_jax():
    code = "import sys, vatt, vatt.cli; vatt.cli.main(['--help']); sys.exit(bool({'jax', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True).returncode == 0


def test_a_reader_that_goes_away_does_not_end_a_run():
    """As `vatt pretrain ... | head` has it, or a dropped connection."""
    program = """
from rich.console import Console
from vatt.train.log import Screen
screen = Screen(Console(), steps=3, start=0)
for step in (1, 2, 3):
    input()
    screen.line(step, {"loss/video_audio": 1.0})
import sys
print("trained to the end", file=sys.stderr)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdin.write(b"\n")
    process.stdin.flush()
    assert b"step 1/3" in process.stdout.readline()
    process.stdout.close()
    process.stdin.write(b"\n\n")
    process.stdin.close()
    process.wait(timeout=60)
    errors = process.stderr.read()
    assert (process.returncode, errors.decode().split()) == (0, ["trained", "to", "the", "end"])
