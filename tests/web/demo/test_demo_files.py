"""The page in a browser without a window, and the files that it loads."""

import contextlib
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request

import keras
import numpy as np
import pytest
from PIL import Image
from tests.web.wasm_engines import needs_browser, needs_node

import penjing
from penjing.cli import main
from penjing.data import datasets
from penjing.data.architectures import build_architecture
from penjing.progress import ignore_progress
from penjing.web.demo import demo_files, page_server
from penjing.web.engines import find_browser

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def few():
    """The bundled data, cut to 32 and 200 images."""
    whole = datasets.load_dataset()
    return dataclasses.replace(
        whole,
        x_train=whole.x_train[:32],
        y_train=whole.y_train[:32],
        x_test=whole.x_test[:200],
        y_test=whole.y_test[:200],
    )


@pytest.fixture(scope="module")
def folder(few, tmp_path_factory):
    """The files that the page loads, of a network that was never trained."""
    folder = tmp_path_factory.mktemp("demo") / "browser"
    folder.mkdir()
    network = build_architecture("mobilenet", (64, 64, 3))
    for layer in network.layers:
        if re.fullmatch(r"block\d_conv", layer.name):
            (kernel,) = layer.get_weights()
            kernel[np.abs(kernel) < np.quantile(np.abs(kernel), 0.9)] = 0
            layer.set_weights([3 * kernel])
        if isinstance(layer, keras.layers.DepthwiseConv2D):  # keep values near 1
            (kernel,) = layer.get_weights()
            layer.set_weights([kernel * np.sqrt(kernel.shape[2])])
    network.save(folder / "sparse.keras")
    work = demo_files.Work(
        folder=folder, data=few, seed=0, epochs={}, progress=ignore_progress
    )
    work.export({"baseline": 0.9, "sparse": 0.8})
    return folder


@pytest.fixture
def opened(folder):
    """A function that opens the page, which collects what goes wrong."""
    playwright = pytest.importorskip("playwright.sync_api")
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(page_server.serve_page(folder))
        chromium = stack.enter_context(playwright.sync_playwright()).chromium
        flags = ["--no-sandbox"] if os.name == "posix" and os.geteuid() == 0 else []
        browser = chromium.launch(executable_path=find_browser(), args=flags)
        stack.callback(browser.close)

        def open_page(query="", **options):
            page = browser.new_context(**options).new_page()
            page.problems = []
            page.on("pageerror", lambda error: page.problems.append(str(error)))
            page.on("requestfailed", lambda request: page.problems.append(request.url))
            page.on("console", lambda message: note(page, message))
            page.goto(server.address + query)
            wait(page, 1)
            return page

        yield open_page


def note(page, message):
    if message.type == "error":
        page.problems.append(message.text)


def wait(page, measurement):
    page.wait_for_selector(f'body[data-measured="{measurement}"]', timeout=90_000)


def wait_for_text(page, text):
    page.wait_for_function(f"document.body.innerText.includes({text!r})")


def outputs(page, name):
    return np.array(json.loads(page.locator(f"#{name}").get_attribute("data-outputs")))


def milliseconds(page, name):
    return float(page.inner_text(f"#{name} .milliseconds").removesuffix(" ms"))


def python_outputs(folder, pictures):
    enlarge = keras.layers.Resizing(64, 64, data_format="channels_last")
    images = keras.ops.convert_to_numpy(enlarge(pictures[..., None]))
    model = penjing.LiteRTModel(folder / "sparse.tflite")
    return model.predict(np.repeat(images, 3, axis=-1), batch_size=1)


def chosen_pictures(few):
    """One test image of each class: the first ten on the page."""
    places = [np.flatnonzero(few.y_test == label)[0] for label in range(10)]
    return few.x_test[places]


@needs_browser
def test_the_page_shows_the_same_predictions_twice_as_fast(folder, few, opened):
    page = opened()
    assert page.problems == []
    ratio = float(page.inner_text("#ratio").removesuffix("×"))
    assert ratio > 2
    assert ratio == pytest.approx(
        milliseconds(page, "dense") / milliseconds(page, "sparse"), rel=0.1
    )
    assert page.inner_text("#agreement").startswith("the same: ")
    assert page.inner_text("#rounds") == "80"
    dense, sparse = outputs(page, "dense"), outputs(page, "sparse")
    assert np.abs(dense).max() > 0.1
    np.testing.assert_allclose(sparse, dense, atol=1e-5 * np.abs(dense).max())
    expected = python_outputs(folder, chosen_pictures(few)[:1])[0]
    np.testing.assert_allclose(sparse, expected, atol=1e-3 * np.abs(expected).max())
    shares = np.exp(expected - expected.max())
    shown = page.inner_text("#sparse .best").split("\n")
    assert shown[0] == demo_files.CLASSES[int(expected.argmax())]
    assert float(shown[-1].rstrip(" %")) == pytest.approx(
        100 * shares.max() / shares.sum(), abs=0.06
    )
    for name in ("dense", "sparse"):
        size = (folder / f"{name}.tflite").stat().st_size
        assert page.inner_text(f"#{name} .size") == f"{size / 1024:.0f} KiB"


@needs_browser
def test_pictures_come_from_mouse_keys_and_files(folder, few, opened, tmp_path):
    page = opened()
    pictures = chosen_pictures(few)
    page.click("#gallery button:nth-child(4)")
    wait(page, 2)
    expected = python_outputs(folder, pictures[3:4])[0]
    tolerance = 1e-3 * np.abs(expected).max()
    np.testing.assert_allclose(outputs(page, "sparse"), expected, atol=tolerance)
    page.keyboard.press("ArrowRight")
    wait(page, 3)
    assert page.get_attribute("#gallery button:nth-child(5)", "aria-checked") == "true"
    expected = python_outputs(folder, pictures[4:5])[0]
    np.testing.assert_allclose(outputs(page, "sparse"), expected, atol=tolerance)
    # Dark on white, as photographs are: turned into the bright on black of the data.
    levels = np.rint(255 * pictures[3]).astype("uint8")
    Image.fromarray(255 - levels).save(tmp_path / "mine.png")
    page.set_input_files("#file", tmp_path / "mine.png")
    wait(page, 4)
    assert page.inner_text("#chosen-name") == "Your picture: mine.png"
    expected = python_outputs(folder, levels[None].astype("float32") / 255)[0]
    np.testing.assert_allclose(outputs(page, "sparse"), expected, atol=tolerance)
    (tmp_path / "text.png").write_text("no picture")
    page.click("#measure")  # what is measured then does not hide the message
    page.set_input_files("#file", tmp_path / "text.png")
    wait_for_text(page, "text.png is no picture")
    page.wait_for_timeout(3000)
    wait_for_text(page, "text.png is no picture")
    assert page.problems == []


@needs_browser
def test_the_page_fits_a_phone_and_takes_threads(opened):
    page = opened(
        "?threads=2", viewport={"width": 360, "height": 740}, color_scheme="dark"
    )
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert page.evaluate("crossOriginIsolated")
    cores = page.evaluate("navigator.hardwareConcurrency")
    assert page.input_value("#threads") == ("2" if cores > 1 else "1")
    assert page.problems == []


@needs_browser
def test_a_page_without_a_file_says_so(folder, opened, tmp_path):
    page = opened()
    page.route("**/sparse.tflite", lambda route: route.fulfill(status=404))
    page.reload()
    wait_for_text(page, "models/sparse.tflite is missing (status 404)")


@needs_node
def test_the_files_are_described(folder, few):
    content = json.loads((folder / "demo.json").read_text())
    assert content["pictures"]["labels"] == [*range(10)] * 4
    assert content["accuracy"] == {"baseline": 0.9, "sparse": 0.8}
    pictures = np.fromfile(folder / "pictures.bin", "u1").reshape(40, 28, 28)
    np.testing.assert_allclose(
        pictures[:10] / 255, chosen_pictures(few), atol=0.5 / 255
    )


@pytest.mark.usefixtures("untraced")
@needs_node
@pytest.mark.slow
def test_files_are_trained_once_and_proved(few, tmp_path, monkeypatch):
    monkeypatch.setattr(demo_files, "load_dataset", lambda *_: few)
    runs = []
    for _ in range(2):
        events = []
        built = demo_files.build_browser_files(
            out=tmp_path, baseline_epochs=1, epochs=1, progress=events.append
        )
        runs.append((built.accuracy, any(event.total for event in events)))
    assert runs[0][1]
    assert runs[1] == (runs[0][0], False)  # nothing was trained again
    assert built.proof.difference < 1e-4
    assert built.proof.twin == str(tmp_path / "dense.tflite")
    sparse = keras.models.load_model(tmp_path / "sparse.keras")
    for layer in sparse.layers:
        if re.fullmatch(r"block\d_conv", layer.name):
            zeros = np.mean(keras.ops.convert_to_numpy(layer.kernel) == 0)
            assert zeros == pytest.approx(0.9, abs=1e-3)
    right = python_outputs(tmp_path, few.x_test).argmax(-1) == few.y_test
    assert built.accuracy["sparse"] == pytest.approx(np.mean(right), abs=0.01)


@needs_node
def test_a_port_that_is_taken_is_said_before_training(folder, tmp_path, capsys):
    with page_server.serve_page(folder) as server:
        port = server.address.rpartition(":")[2].strip("/")
        command = ["demo", "--browser", "--port", port, "--out", str(tmp_path)]
        assert main(command) == 1
    assert f"Cannot serve on 127.0.0.1:{port}" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("options", [["--model", "cnn"], ["--recipe", "article"]])
def test_options_of_the_other_demo_are_refused(options, capsys, tmp_path):
    assert main(["demo", "--browser", "--out", str(tmp_path), *options]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "does not go with --browser" in said


@needs_node
@pytest.mark.slow
def test_the_command_serves_until_it_is_interrupted(folder):
    """The finished folder is taken as it is: with other settings it would train."""
    code = (
        "import sys, pathlib\n"
        "from penjing.web.demo import demo_files\n"
        f"made = demo_files.BrowserFiles(folder=pathlib.Path({str(folder)!r}),"
        " accuracy={'sparse': 0.5}, proof=None)\n"
        "demo_files.build_browser_files = lambda **_: made\n"
        "from penjing.cli import main\n"
        "sys.exit(main(['demo', '--browser', '--no-open', '--out',"
        f" {str(folder.parent)!r}]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", code],
        env={**os.environ, "KERAS_BACKEND": "jax"},  # which is imported quickly
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        said = ""
        while "Ctrl-C" not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
        address = re.search(r"http://127\.0\.0\.1:\d+/", said)[0]
        with urllib.request.urlopen(f"{address}models/demo.json", timeout=10) as found:
            assert json.load(found)["sparsity"] == 0.9
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        process.communicate()
    assert "sparse: 50.0% of the test images" in said
