"""The command line as a user meets it."""

import json
import subprocess
import sys

import pytest

from arrowstream.cli import main


def test_the_formats_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["formats"]) == 0
    assert "mds" in capsys.readouterr().out


def test_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["formats", "--json"]) == 0
    assert "mds" in [row["format"] for row in json.loads(capsys.readouterr().out)["formats"]]


@pytest.mark.parametrize("arguments", [[], ["no-such-command"], ["formats", "--no-such-option"]])
def test_wrong_arguments_exit_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: arrowstream" in capsys.readouterr().err


def test_it_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "arrowstream", "--help"], capture_output=True, text=True, check=True)
    assert "formats" in done.stdout
