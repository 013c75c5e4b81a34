"""On Apache Beam's DirectRunner a preparation gives what it gives here. Runs where Beam is installed: it pins
libraries that the rest of the tests need in other versions, so VATT_BEAM_PYTHON may name an interpreter that has it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_prepare import ARGUMENTS, CONFIG, contents
from vatt.data.demo import make_demo
from vatt.data.prepare.run import prepare
from vatt.data.records import PreparedSource

PYTHON = os.environ.get("VATT_BEAM_PYTHON", sys.executable)
ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


def beam(*args: str) -> subprocess.CompletedProcess:
    command = [PYTHON, "-m", "vatt", "data", "prepare", *args]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    make_demo(folder / "demo", clips=6, heldout=1)
    (folder / "demo/train/words.mp4").write_text("this is no film")
    return folder / "demo/train"


@pytest.fixture(scope="module", autouse=True)
def _needs_beam():
    if subprocess.run([PYTHON, "-c", "import apache_beam"], capture_output=True).returncode:
        pytest.skip("Apache Beam is not installed")


def test_beam_gives_the_same_shards_record_for_record(media, tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    prepare(str(media), here, config=CONFIG, workers=1)
    done = beam(str(media), str(there), *ARGUMENTS, "--runner", "DirectRunner", "--direct_num_workers", "2")
    assert done.returncode == 0, done.stderr
    one, other = PreparedSource(here), PreparedSource(there)
    assert [vars(one.record(i)) for i in range(len(one))] == [vars(other.record(i)) for i in range(len(other))]
    assert contents(there) == contents(here)
    assert json.loads((there / "errors.jsonl").read_text())["id"] == "words.mp4"


def test_beam_goes_on_with_what_was_begun_here(media, tmp_path):
    whole, out = tmp_path / "whole", tmp_path / "out"
    prepare(str(media), whole, config=CONFIG, workers=1)

    def half(shards, staging, config, progress):
        from vatt.data.prepare.run import make_all

        units = [unit for shard in shards for unit in shard.units]
        list(make_all(units[:3], staging, config, 1))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(str(media), out, config=CONFIG, work=half)
    assert len(list(out.glob(".staging/units/*/*"))) == 3
    done = beam(str(media), str(out), *ARGUMENTS, "--runner", "DirectRunner")
    assert done.returncode == 0, done.stderr
    assert contents(out) == contents(whole)


def test_without_beam_the_option_says_what_to_install(media, tmp_path):
    code = (
        "import sys; sys.modules['apache_beam'] = None\n"
        "from vatt.cli import main\n"
        f"sys.exit(main(['data', 'prepare', {str(media)!r}, {str(tmp_path / 'out')!r}, '--runner', 'DirectRunner']))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    assert "pip install 'vatt[beam]'" in done.stderr
