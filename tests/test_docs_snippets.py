"""The Python of the README and of the pages runs, on small models and little data.

The blocks of a page run one after the other, as a reader types them. What the reader
brings, a trained model and data, is in `brought`. A block behind a line
`<!-- fragment: REASON -->` is no program of its own; it is compiled.
"""

from __future__ import annotations

import inspect
import re
import unittest.mock
from pathlib import Path

import keras
import numpy as np
import pytest

import penjing

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parents[1]
# Their lines run in tests of their own.
ELSEWHERE = {"migrating-from-tfmot.md", "where-do-i-put.md"}
BLOCK = re.compile(
    r"^(?:<!-- fragment: (.+?) -->\n\n?)?```python\n(.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
LOSS = "sparse_categorical_crossentropy"
# One epoch is enough to see that lines run, and schedules end with it.
SHORTER = (
    (re.compile(r"\bepochs=\d+"), "epochs=1"),
    (re.compile(r"\bbegin_step=[^,)\n]+"), "begin_step=0"),
    (re.compile(r"\bend_step=[^,)\n]+"), "end_step=3"),
)


def blocks_of(page: Path) -> list[tuple[str, str]]:
    return BLOCK.findall(page.read_text("utf-8"))


PAGES = [
    page
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    if page.name not in ELSEWHERE
    and blocks_of(page)
    # The front page of the site has the first lines of the README.
    and page.name != "index.md"
]


def bound(function):
    """Takes what the function takes, and does nothing: a search takes minutes."""

    def call(*args, **kwargs):
        inspect.signature(function).bind(*args, **kwargs)
        return unittest.mock.MagicMock(spec=penjing.Report)

    return call


def uncompiled(function):
    """`compile` for a few batches, for which no step is worth compiling."""

    def call(self, *args, **kwargs):
        return function(self, *args, **{"run_eagerly": True, **kwargs})

    return call


def small_network() -> keras.Model:
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((16, 16, 1)),
            layers.Conv2D(32, 3, strides=2, activation="relu", name="conv"),
            layers.SeparableConv2D(48, 3, activation="relu", name="separable"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(32, activation="relu"),
            layers.Dense(4, activation="softmax"),
        ]
    )


def pruned(model: keras.Model) -> keras.Model:
    """A copy of which a tenth of the weights is left, with one magnitude."""
    copy = keras.models.clone_model(model)
    copy.set_weights([few(weight) for weight in model.get_weights()])
    return copy


def few(weight: np.ndarray) -> np.ndarray:
    if weight.size < 500:  # a bias, or the classes
        return weight
    large = np.abs(weight) > np.quantile(np.abs(weight), 0.9)
    return np.where(large, np.sign(weight), 0)


@pytest.fixture(scope="module")
def trained() -> keras.Model:
    model = small_network()
    model.compile("adam", LOSS, metrics=["accuracy"])
    return model


@pytest.fixture
def brought(trained) -> dict[str, object]:
    """What readers bring: a trained model, and data in the usual parts."""
    generator = np.random.default_rng(0)
    y = generator.integers(0, 4, 96).astype("int32")
    x = generator.normal(y[:, None, None, None], 1, (96, 16, 16, 1)).astype("float32")
    parts = {"x_train": x, "y_train": y, "x_test": x[:32], "y_test": y[:32]}
    more = {"x_validation": x[32:64], "y_validation": y[32:64], "x": x, "y": y}
    model = keras.models.clone_model(trained)
    model.set_weights(trained.get_weights())
    model.compile("adam", LOSS, metrics=["accuracy"])
    data = ((x, y), (x[:32], y[:32]))
    names = {
        "trained": model,
        "model": model,
        "loss": LOSS,
        "data": data,
        "inputs": x,
        "small": pruned(model),
    }
    modules = {"keras": keras, "np": np, "penjing": penjing}
    return {"__name__": "page"} | modules | names | parts | more


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_the_code_of_the_page_runs(page, brought, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(penjing, "compress", bound(penjing.compress))
    monkeypatch.setattr(keras.Model, "compile", uncompiled(keras.Model.compile))
    for reason, code in blocks_of(page):
        for long, short in SHORTER:
            code = long.sub(short, code)
        program = compile(code, str(page), "exec")
        if not reason:
            exec(program, brought)
    capsys.readouterr()


def test_the_site_opens_with_the_lines_of_the_readme():
    front, readme = ROOT / "docs" / "index.md", ROOT / "README.md"
    assert blocks_of(front) == blocks_of(readme)[:1]


def test_what_is_no_program_is_rare():
    """And says why: else all of a page could hide so."""
    reasons = [reason for page in PAGES for reason, _ in blocks_of(page) if reason]
    assert len(reasons) <= 4
