import inspect
import io
import json
import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import keras
import numpy as np
import pytest
import typer
from rich.console import Console
from tests.report.example_report import make_report
from typer.testing import CliRunner

import penjing
from penjing import cli
from penjing.budget.budget import Budget
from penjing.cli import backend_choice, console
from penjing.cli.application import app
from penjing.cli.benchmark_command import latency_table
from penjing.errors import CompressionError
from penjing.measurement.latency_report import LatencyConditions, summarize_rounds
from penjing.pipeline.inputs import run_inputs
from penjing.report.documents import RefusedFile

pytestmark = pytest.mark.once
RUNNER = CliRunner()


def run(*arguments):
    return RUNNER.invoke(app, [str(argument) for argument in arguments])


def save_model(path, **changes):
    layers = [keras.Input((4,)), keras.layers.Dense(3, **changes)]
    model = keras.Sequential(layers, name="small")
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.save(path)
    return model


def save_data(path, **changes):
    arrays = {
        "x_train": np.eye(4, dtype="float32")[[0, 1, 2, 3] * 5],
        "y_train": np.array([0, 1, 2, 0] * 5),
        "x_test": np.eye(4, dtype="float32"),
        "y_test": np.array([0, 1, 2, 0]),
    }
    np.savez(path, **{**arrays, **changes})
    return path


def test_help_teaches_with_examples():
    result = run("--help")
    assert result.exit_code == 0
    assert "penjing compress model.keras --data data.npz" in result.output
    for command in ("demo", "compress", "inspect", "evaluate"):
        assert command in result.output
        assert f"penjing {command} " in run(command, "--help").output
    assert "export.quantizations=[int8]" in run("compress", "--help").output


def test_help_fits_a_terminal_of_eighty_columns():
    for command in typer.main.get_command(app).commands.values():
        lines = inspect.cleandoc(command.help).split("\n\n", 1)[1].splitlines()
        assert max(map(len, lines)) <= 78, command.name


def test_a_seed_that_no_generator_takes_is_wrong_usage():
    result = run("compress", "a.keras", "--data", "d", "--out", "o", "--seed", 2**32)
    assert result.exit_code == 2 and "4294967295" in result.output


def test_version():
    assert run("--version").output.strip() == f"penjing {penjing.__version__}"


COMMAND = ("-m", "penjing")
FILE = Path(__file__).parent / "data/mlperf_tiny/keyword_spotting.tflite"


def run_python(*arguments, cwd=None, **variables):
    quick = {"KERAS_BACKEND": "jax"}  # which is imported in half the time
    environment = absolute_environment() | quick | variables
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_the_command_loads_keras_when_it_needs_it():
    """So help is there at once, and a message where a backend is missing."""
    code = (
        "import sys; from penjing.cli import main; code = main(['--help']);"
        "assert 'keras' not in sys.modules and 'numpy' not in sys.modules;"
        "import penjing; assert penjing.OneShot(0.5).final_sparsity == 0.5;"
        "assert 'keras' in sys.modules and not hasattr(penjing, 'nothing');"
        "sys.exit(code)"
    )
    result = run_python("-c", code)
    assert result.returncode == 0, result.stderr
    assert "Usage" in result.stdout
    result = run_python("-X", "importtime", "-m", "penjing", "--version")
    assert result.stdout.strip() == f"penjing {penjing.__version__}"
    assert "keras" not in result.stderr


def test_nothing_in_the_current_folder_is_run(tmp_path):
    """A stranger's archive may hold modules beside its model."""
    for name in ("typer", "numpy", "rich", "json", "penjing_data", "brotli"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a stranger ran')")
    result = run_python(*COMMAND, "inspect", str(FILE), cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "a stranger" not in result.stdout + result.stderr


def test_models_with_classes_of_penjing_load_in_the_command(tmp_path):
    model = penjing.prune(save_model(tmp_path / "m.keras"), penjing.OneShot(0.5))
    model.save(tmp_path / "pruned.keras")
    arguments = ("-m", "penjing", "evaluate", str(tmp_path / "pruned.keras"), "--data")
    data = save_data(tmp_path / "data.npz")
    result = run_python(*arguments, str(data), "--json")
    assert set(json.loads(result.stdout)) == {"accuracy"}, result.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["compress", "m.keras", "--data", "d", "--out", "o"], "stopped; --restart"),
        (["--debug", "compress", "m.keras"], "stopped; --restart"),
        (["benchmark", "a.tflite"], "Interrupted.\n"),
        (["sensitivity", "m.keras", "--out", "o"], "where this one stopped.\n"),
        (["sensitivity", "m.keras", "--of", "bits"], "Interrupted.\n"),
        (["sensitivity", "m.keras", "--of=bits"], "Interrupted.\n"),
    ],
)
def test_interrupted_commands_say_whether_they_go_on(
    monkeypatch, capsys, arguments, expected
):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_run", interrupt)
    assert cli.main(arguments) == 130
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "No such command 'nothing'"),
        (["demo", "--model", "artical"], "'article'"),
        (["demo", "--epochs", "0"], "--epochs"),
        (["compress", "model.keras"], "Missing option '--data'"),
        (["inspect"], "Missing argument 'FILE'"),
        (
            ["inspect", __file__, "--runtime", "wasm", "--node-data", "n.json"],
            "is another job than --runtime",
        ),
    ],
)
def test_wrong_usage_exits_with_2(capsys, arguments, message):
    assert cli.main(arguments) == 2
    assert message in capsys.readouterr().err


def save_broken_pair(folder):
    save_model(folder / "model.keras")
    save_data(folder / "data.npz")
    save_data(folder / "labels.npz", y_train=np.array([0, 1, 2, 9] * 5))
    save_data(folder / "wide.npz", x_train=np.ones((20, 5), "float32"))
    (folder / "bad.tflite").write_bytes(b"not a model")
    (folder / "bad.keras").write_bytes(b"not a model")
    (folder / "typo.toml").write_text("[training]\nepoch = 3\n")
    (folder / "file").write_text("")
    plain = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    plain.save(folder / "plain.keras")


COMPRESS = ["compress", "model.keras", "--data", "data.npz", "--out", "out"]
REFUSALS = [
    (["inspect", "none.keras"], "none.keras"),
    (["inspect", "bad.tflite"], "bad.tflite"),
    (["inspect", "data.npz"], "unknown suffix '.npz'"),
    (["evaluate", "model.keras", "--data", "none.npz"], "none.npz"),
    (["evaluate", "bad.tflite", "--data", "data.npz"], "bad.tflite"),
    (["evaluate", "model.keras", "--data", "no_module:f"], "no_module"),
    (["evaluate", "model.keras", "--data", "data.npz", "--import", "no_m"], "'no_m'"),
    ([*COMPRESS, "--recipe", "defualt"], "Did you mean `default`"),
    ([*COMPRESS, "--recipe", "typo.toml"], "Did you mean `epochs`"),
    ([*COMPRESS[:-1], "file/out"], "Cannot make the output folder file/out"),
    (["compress", "bad.keras", *COMPRESS[2:]], "bad.keras"),
    (["compress", "none.keras", *COMPRESS[2:]], "none.keras"),
    (["compress", "plain.keras", *COMPRESS[2:]], "the recipe has no loss"),
    (
        [*COMPRESS[:3], "wide.npz", *COMPRESS[4:]],
        "shape (5,), but the model takes (4,)",
    ),
    ([*COMPRESS[:3], "labels.npz", *COMPRESS[4:]], "9"),
    (["demo", "--data-dir", "x", "--out", "out"], "bundled"),
]


def test_refusals_are_one_message_without_a_traceback(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save_broken_pair(tmp_path)
    before = sorted(os.listdir(tmp_path))
    for arguments, message in REFUSALS:
        assert cli.main(arguments) == 1, arguments
        captured = capsys.readouterr()
        assert message in captured.err, arguments
        assert captured.err.startswith("Error: "), arguments
        assert captured.err.count("\nError: ") == 0, arguments
        assert "Traceback" not in captured.err
        # What a search is after is said before the model is looked at.
        assert captured.out.removeprefix(f"{Budget().sentence}\n") == ""
    assert sorted(os.listdir(tmp_path)) == before


@pytest.fixture
def files_that_are_there(tmp_path, monkeypatch):
    """What `COMPRESS` names, for those who stand for what reads them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.keras").write_bytes(b"a model")
    (tmp_path / "data.npz").write_bytes(b"data")


UNFORESEEN = [
    (lambda *_, **__: np.zeros(2)[9], "Error: IndexError: index 9 is out of bounds"),
    (lambda *_, **__: np.zeros((2, -1)), "Error: ValueError: negative dimensions"),
    (lambda *_, **__: next(iter(())), "Error: StopIteration. penjing did not"),
    (lambda *_, **__: {}["x"], "Error: KeyError: 'x'"),
    (lambda *_, **__: bytes(10**18), "Error: There is not enough memory. MemoryError"),
]


@pytest.mark.parametrize(("fail", "message"), UNFORESEEN)
def test_errors_that_nobody_foresaw_are_one_sentence(
    files_that_are_there, monkeypatch, capsys, fail, message
):
    monkeypatch.delenv("PENJING_DEBUG", raising=False)
    monkeypatch.setattr(run_inputs, "given_model", fail)
    assert cli.main(COMPRESS) == 1
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said
    assert "memory" in message or "penjing --debug" in said


def test_names_that_are_not_utf_8_are_shown(tmp_path, capsys):
    path = tmp_path / os.fsdecode(b"m\xff.tflite")
    path.write_bytes(FILE.read_bytes())
    assert cli.main(["inspect", str(path)]) == 0
    assert cli.main(["benchmark", str(path), "--rounds", "1"]) == 0
    assert "\\udcff" in capsys.readouterr().out
    path.write_bytes(b"damaged")
    assert cli.main(["inspect", str(path)]) == 1
    assert "\\udcff" in capsys.readouterr().err


def test_errors_of_libraries_keep_their_traceback_for_those_who_ask(
    files_that_are_there, monkeypatch
):
    monkeypatch.setenv("PENJING_DEBUG", "1")
    monkeypatch.setattr(run_inputs, "given_model", lambda *_: np.zeros(2)[9])
    with pytest.raises(IndexError):
        cli.main(COMPRESS)
    monkeypatch.setattr(run_inputs, "given_model", lambda *_: np.zeros((2, -1)))
    with pytest.raises(ValueError, match="negative dimensions"):
        cli.main(COMPRESS)


def test_inspect_prints_a_table_or_json(tmp_path):
    save_model(tmp_path / "model.keras", name="logits")
    table = run("inspect", tmp_path / "model.keras")
    assert table.exit_code == 0, table.output
    assert "4x3" in table.output
    parsed = json.loads(run("inspect", tmp_path / "model.keras", "--json").output)
    assert parsed["format"] == "keras"
    assert [4, 3] in [row["shape"] for row in parsed["tensors"]]


@pytest.mark.once
def test_shrink_prints_a_table_or_json(tmp_path):
    file = Path(__file__).parent / "data/mlperf_tiny/keyword_spotting.tflite"
    out = tmp_path / "a.tflite"
    table = run("shrink", file, "--out", out, "--no-verify")
    assert table.exit_code == 0, table.output
    assert "53,736" in table.output and "unused parts" in table.output
    assert f"{out.stat().st_size:,}" in table.output
    options = ["--no-verify", "--drop-signature", "--bias-bits", "5", "--json"]
    parsed = json.loads(run("shrink", out, "--in-place", *options).output)
    assert parsed["raw_before"] == parsed["raw_after"] + sum(
        step["raw"] for step in parsed["steps"]
    )
    wrong = run("shrink", out, "--in-place", "--bias-bits", "many")
    assert wrong.exit_code == 2 and "got 'many'" in wrong.output


@pytest.mark.once
def test_shrink_writes_over_nothing_unless_told(tmp_path):
    source = Path(__file__).parent / "data/mlperf_tiny/keyword_spotting.tflite"
    file, other = tmp_path / "a.tflite", tmp_path / "b.tflite"
    file.write_bytes(source.read_bytes())
    other.write_text("mine")
    for out, message in ((other, "There is a file"), (file, "is the file to shrink")):
        refused = run("shrink", file, "--no-verify", "--out", out)
        assert message in str(refused.exception)
    assert other.read_text() == "mine"
    for again in ((), ("--overwrite",)):
        made = run("shrink", file, "--no-verify", *again)
        assert made.exit_code == 0, made.output
    assert file.read_bytes() == source.read_bytes()
    small = (tmp_path / "a.small.tflite").read_bytes()
    assert len(small) < file.stat().st_size
    assert "There is a file" in str(run("shrink", file, "--no-verify").exception)
    assert run("shrink", file, "--out", other, "--in-place").exit_code == 2
    assert run("shrink", file, "--no-verify", "--in-place").exit_code == 0
    assert file.read_bytes() == small


def test_evaluate_prints_a_table_or_json(tmp_path):
    model = save_model(tmp_path / "model.keras")
    data = save_data(tmp_path / "data.npz")
    scores = model.predict(np.eye(4), verbose=0).argmax(-1) == [0, 1, 2, 0]
    arguments = ["evaluate", tmp_path / "model.keras", "--data", data]
    table = run(*arguments)
    assert table.exit_code == 0, table.output
    assert f"{scores.mean():.4f}" in table.output
    parsed = json.loads(run(*arguments, "--metric", "accuracy", "--json").output)
    assert parsed == {"accuracy": pytest.approx(scores.mean())}


def test_another_backend_starts_the_command_again(monkeypatch):
    started = []
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setattr(os, "execve", lambda *arguments: started.append(arguments))
    cli.main(["demo", "--backend", "torch", "--seed", "4"])
    (program, command, environment) = started[0]
    assert program == sys.executable
    own = ["demo", "--backend", "torch", "--seed", "4"]
    assert command[1:] == ["-P", "-m", "penjing", *own]
    assert environment["KERAS_BACKEND"] == "torch"


def test_a_backend_that_keras_does_not_take_does_not_start_again_for_ever(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    with pytest.raises(CompressionError, match="does not take the backend 'jax'"):
        backend_choice.start_again(backend_choice.Backend.jax, [])


def test_a_backend_that_is_not_installed_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(CompressionError, match=r'pip install "penjing\[keras\]"'):
        backend_choice.select_backend(None)


def test_json_has_null_for_what_is_no_number(capsys):
    console.print_json({"a": [float("nan"), 1.5], "b": (float("inf"),)})
    assert json.loads(capsys.readouterr().out) == {"a": [None, 1.5], "b": [None]}


def test_what_is_fetched_is_named_so_that_a_shell_takes_it(capsys):
    done = types.SimpleNamespace(
        fetched=True, versions={"a": 1, "b": 2}, bytes=1, folder="/a folder"
    )
    console.print_setup(done, "FOLDER", is_found=False)
    assert "FOLDER='/a folder'" in capsys.readouterr().out


def test_libraries_are_quiet_and_notices_are_not(capfd):
    with console.quiet_libraries():
        os.write(2, b"noise")
        console.print_notice("for [people]", "yellow")
    assert capfd.readouterr().err == "for [people]\n"


def test_the_log_of_tensorflow_is_shown_to_those_who_ask_for_it(capfd, monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "1")
    with console.quiet_libraries():
        os.write(2, b"a log")
    assert capfd.readouterr().err == "a log"


def test_the_log_is_shown_after_an_unexpected_error(capfd):
    with pytest.raises(OSError, match="lost"), console.quiet_libraries():
        os.write(2, b"the reason")
        raise OSError("lost")
    assert "the reason" in capfd.readouterr().err


def test_ctrl_c_exits_with_130_and_says_how_to_go_on(tmp_path):
    (tmp_path / "slow.py").write_text(
        "import pathlib, time\n"
        "def load():\n    pathlib.Path('started').touch()\n    time.sleep(60)\n"
    )
    save_model(tmp_path / "model.keras")
    arguments = ["compress", "model.keras", "--data", "slow:load", "--out", "out"]
    process = subprocess.Popen(
        [sys.executable, "-m", "penjing", *arguments],
        cwd=tmp_path,
        env=absolute_environment() | {"KERAS_BACKEND": "jax"},
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "started").exists() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 130, error
    assert "The same command goes on where this one stopped" in error
    assert "Traceback" not in error


def test_sigterm_cleans_up_as_an_interrupt_does(monkeypatch, capsys):
    cleaned = []

    def work(*_):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        finally:
            cleaned.append(True)

    monkeypatch.setattr(cli, "_run", work)
    assert cli.main(["compress"]) == 143
    assert cleaned
    assert "The same command goes on" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def absolute_environment():
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    absolute = os.pathsep.join(os.path.abspath(path) for path in paths if path)
    return {**os.environ, "PYTHONPATH": absolute}


def test_sensitivity_prints_a_table_and_leaves_json_and_a_page(tmp_path, capsys):
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(16), keras.layers.Dense(2)]
    )
    model.save(tmp_path / "model.keras")
    x = np.eye(4, dtype="float32").repeat(4, axis=0)
    y = np.arange(16) % 2
    np.savez(tmp_path / "data.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    arguments = ["sensitivity", str(tmp_path / "model.keras"), "--ratios", "0.5"]
    arguments += ["--data", str(tmp_path / "data.npz"), "--out", str(tmp_path / "out")]
    assert cli.main(arguments) == 0
    assert "50% gone" in capsys.readouterr().out
    assert (tmp_path / "out" / "sensitivity.html").read_text().count("<polyline") == 1
    assert cli.main([*arguments, "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert table == json.loads((tmp_path / "out" / "sensitivity.json").read_text())
    for wrong in ("x", "0.5,1.5"):
        given = [*arguments[:-2], "--out", str(tmp_path / "o"), "--ratios", wrong]
        assert cli.main(given) == 2
        assert "--ratios" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_metrics_of_sensitivity_are_each_of_every_output(tmp_path, capsys):
    x = keras.Input((4,))
    hidden = keras.layers.Dense(4)(x)
    outputs = {n: keras.layers.Dense(2, name=n)(hidden) for n in ("kind", "error")}
    keras.Model(x, outputs).save(tmp_path / "model.keras")
    parts = {"x": np.eye(4, dtype="float32"), "y": np.arange(4) % 2}
    arrays = {
        f"{axis}_{part}{name}": parts[axis]
        for part in ("train", "test")
        for axis, name in (("x", ""), ("y", "_kind"), ("y", "_error"))
    }
    np.savez(tmp_path / "data.npz", **arrays)
    arguments = ["sensitivity", str(tmp_path / "model.keras"), "--ratios", "0.5"]
    arguments += ["--data", str(tmp_path / "data.npz"), "--out", str(tmp_path / "out")]
    for metric in ("accuracy", "sparse_categorical_crossentropy"):
        arguments += ["--metric", metric]
        assert cli.main([*arguments, "--json"]) == 0
        table = json.loads(capsys.readouterr().out)
    assert len(table["baseline"]) == 4
    assert table["directions"]["error_accuracy"] == "higher"


def test_sensitivity_of_bits_chooses_them_within_bytes(tmp_path, capsys):
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(16), keras.layers.Dense(2)]
    )
    model.save(tmp_path / "model.keras")
    x = np.eye(4, dtype="float32").repeat(4, axis=0)
    y = np.arange(16) % 2
    np.savez(tmp_path / "data.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    arguments = ["sensitivity", str(tmp_path / "model.keras")]
    arguments += ["--data", str(tmp_path / "data.npz")]
    assert cli.main(arguments) == 2
    assert "--out" in capsys.readouterr().err
    arguments += ["--of", "bits"]
    assert cli.main([*arguments, "--max-bytes", "160"]) == 0
    shown = capsys.readouterr().out
    assert "3 bits" in shown and "Bits of each layer" in shown
    given = [*arguments, "--json", "--out", str(tmp_path / "out")]
    for _ in range(2):
        assert cli.main(given) == 0
        table = json.loads(capsys.readouterr().out)
        path = tmp_path / "out" / "sensitivity-bits.json"
        assert table == json.loads(path.read_text())
    assert cli.main([*arguments, "--max-bytes", "160", "--json"]) == 0
    bits = json.loads(capsys.readouterr().out)["bits_by_layer"]
    assert set(bits.values()) <= {4, 8} and len(bits) == 2
    assert cli.main([*arguments, "--max-bytes", "1"]) == 1
    for wrong in (
        ["--max-bytes", "a lot"],
        ["--compressed"],
        ["--ratios", "0.5"],
        ["--method", "weights"],
        ["--metric", "mse"],
    ):
        assert cli.main([*arguments, *wrong]) in (1, 2)
        assert wrong[0] in capsys.readouterr().err


def test_sensitivity_of_bits_takes_inputs_without_labels(tmp_path, capsys):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(16)])
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "data.npz", x=np.eye(4, dtype="float32").repeat(4, axis=0))
    arguments = ["sensitivity", str(tmp_path / "model.keras")]
    arguments += ["--data", str(tmp_path / "data.npz")]
    assert cli.main([*arguments, "--of", "bits"]) == 0
    assert "3 bits" in capsys.readouterr().out
    assert cli.main([*arguments, "--out", str(tmp_path / "out")]) == 1
    assert "needs none with --of" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(("memory", "shown"), [(None, False), ({"a": 2**21}, True)])
def test_times_speak_of_memory_where_it_was_measured(memory, shown):
    conditions = LatencyConditions(
        runtime="LiteRT.js",
        processor="",
        threads=1,
        batch=1,
        cold_caches=False,
        rounds=2,
        warm_up=0,
    )
    rounds = {"a": [[1.0], [1.0]], "b": [[0.5], [0.5]]}
    console = Console(file=io.StringIO(), width=100)
    console.print(latency_table(summarize_rounds(conditions, rounds, memory=memory)))
    text = console.file.getvalue()
    assert "2.00x" in text
    assert ("emory" in text) is shown and ("2.0 MiB" in text) is shown


def test_a_file_that_could_not_be_had_shows_in_the_exit_code(tmp_path, monkeypatch):
    why = "the tensor 'hidden' does not fit."
    lost = RefusedFile(name="model.int8.tflite", kind="compressed, int8", reason=why)
    save_model(tmp_path / "model.keras")
    data = save_data(tmp_path / "data.npz")
    for refused, code in (((), 0), ((lost,), 1)):
        report = make_report(refused=refused)
        monkeypatch.setattr(
            "penjing.budget.compression.compress", lambda *_, r=report, **__: r
        )
        result = run(
            *("compress", tmp_path / "model.keras"),
            *("--data", data, "--out", tmp_path / "out"),
        )
        assert result.exit_code == code, result.output
        assert (why in result.output) == bool(code)
