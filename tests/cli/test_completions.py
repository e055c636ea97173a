"""What Tab offers: by the functions, and once in a real bash."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import penjing
from penjing.cli import completions
from penjing.cli.application import app
from penjing.recipes.recipe_text import packaged_recipes

pytestmark = pytest.mark.once
SOURCE = Path(penjing.__file__).parents[1]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in ("net.keras", "Net.H5", "net.tflite", "d.npz", "notes.txt", ".a.keras"):
        (tmp_path / name).touch()
    (tmp_path / "out" / "front").mkdir(parents=True)
    (tmp_path / "out" / "front" / "0.tflite").touch()
    (tmp_path / "out" / "front" / "1.tflite").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_files_have_the_right_endings(folder):
    assert completions.models("") == ["Net.H5", "net.keras", "out/"]
    assert completions.models("ne") == ["net.keras"]
    assert completions.litert_files("n") == ["net.tflite"]
    assert completions.arrays("d") == ["d.npz"]
    assert completions.models(".") == [".a.keras"]
    assert completions.models(str(folder) + "/net.k") == [f"{folder}/net.keras"]
    assert completions.models("nowhere/") == []


def test_a_folder_that_is_the_only_answer_is_looked_into(folder):
    inside = ["out/front/0.tflite", "out/front/1.tflite"]
    assert completions.litert_files("o") == inside
    assert completions.models("out/f") == ["out/front/"], "nothing of the kind is there"


def test_a_home_is_left_as_it_was_typed(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    assert completions.models("~/net") == ["~/net.keras"]


def offered(words, place=-1):
    """What the program answers to a shell."""
    runner = CliRunner()
    environment = {
        "_PENJING_COMPLETE": "complete_bash",
        "COMP_WORDS": "penjing " + " ".join(words),
        "COMP_CWORD": str(len(words)),
    }
    return runner.invoke(app, [], prog_name="penjing", env=environment).output.split()


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        (["comp"], ["compress", "compare"]),
        (
            ["export", "m.keras", "f.tflite", "--quantization", "int8"],
            ["int8", "int8x4"],
        ),
        (["verify", "f.tflite", "--runtime", "w"], ["wasm"]),
        (["inspect", "f.tflite", "--runtime", "et"], ["ethos-u"]),
        (["compress", "m.keras", "--runtime", "mi"], ["micro"]),
        (["compress", "m.keras", "--minimize", "a"], ["arena"]),
        (["compress", "m.keras", "--validation-from", "t"], ["train", "test"]),
        (["demo", "--recipe", "smal"], ["smallest"]),
        (["compress", "n"], ["net.keras", "net.tflite"]),
        (["evaluate", "net.tf"], ["net.tflite"]),
        (["evaluate", "net.tflite", "--data", "d"], ["d.npz"]),
        (["doctor", "--for", "verify-m"], ["verify-micro"]),
        (["compress", "m.keras", "--set", "training.ep"], ["training.epochs="]),
    ],
)
def test_the_program_answers(folder, typed, wanted):
    assert sorted(offered(typed)) == sorted(wanted)


def test_recipes_come_with_what_they_do(folder):
    (folder / "mine.toml").touch()
    found = dict(completions.recipes(""))
    assert [*packaged_recipes(), "mine.toml", "out/"] == list(found)
    assert found["smallest"] and not found["mine.toml"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(shell):
    environment = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    program = (
        "import sys; from penjing.cli import main;"
        f"sys.argv = ['penjing', '--show-completion', {shell!r}]; sys.exit(main())"
    )
    done = run(sys.executable, "-c", program, **environment)
    assert f"_PENJING_COMPLETE=complete_{shell}" in done.stdout, done.stderr


def run(*words, **environment):
    return subprocess.run(
        words,
        env={**os.environ, "PYTHONPATH": str(SOURCE), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_a_real_bash_completes(folder):
    programs = folder / "programs"
    programs.mkdir()
    program = programs / "penjing"
    program.write_text(
        f"#!{sys.executable}\nfrom penjing.cli import main\nexit(main())\n"
    )
    program.chmod(0o755)
    script = """
        eval "$(penjing --show-completion)"
        COMP_WORDS=(penjing shrink ne) COMP_CWORD=2
        _penjing_completion penjing
        printf '%s|' "${COMPREPLY[@]}"
    """
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    done = run("bash", "--norc", "-c", script, PATH=path)
    assert done.stdout == "net.tflite|", done.stderr
