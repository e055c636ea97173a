"""The whole job with inputs alone: nothing is trained, nobody labels anything."""

import json

import keras
import numpy as np
import pytest

import penjing
from penjing.budget.planning import untrained_line
from penjing.errors import CompressionError

pytestmark = pytest.mark.once

X = np.random.default_rng(0).normal(size=(400, 6)).astype("float32")


def make_model():
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(48, activation="relu"),
            layers.Dense(3, activation="softmax"),
        ]
    )


@pytest.fixture(scope="module")
def model():
    """One that is trained, and knows no loss."""
    keras.utils.set_random_seed(0)
    trained, plain = make_model(), make_model()
    trained.compile("adam", "sparse_categorical_crossentropy")
    trained.fit(X, X[:, :3].argmax(1), epochs=15, verbose=0)
    plain.set_weights(trained.get_weights())
    return plain


@pytest.fixture(scope="module")
def compressed(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("untrained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(untrained_line, "_MOST_ALONE", 1)
        patch.setattr(untrained_line, "_CHANGES", (({"bits": 3.0}, 1.0),))
        patch.setattr(keras.Model, "fit", no_training)
        report = penjing.compress(
            model, {"x": X}, out=folder, training=False, progress=False
        )
    return folder, report


def no_training(*arguments, **settings):
    raise AssertionError("something is trained")


def test_inputs_alone_give_a_smaller_file_that_agrees_with_the_model(compressed, model):
    folder, report = compressed
    assert not model.compiled
    assert report.budget.met
    assert report.metric == "agreement"
    assert report.before == 1.0
    assert report.control is None
    assert (report.data.train, report.data.test) == (240, 80)
    chosen = next(row for row in report.front if row.chosen)
    assert "nothing trained" in chosen.description and "% of the" in chosen.description
    assert report.staircase[1].step == "nothing trained, int8"
    assert chosen.gzip < report.staircase[1].bytes
    saved = json.loads((folder / "report.json").read_text())
    assert saved["commands"][0].endswith("training=False, seed=0, out='out')")


def test_its_score_is_how_often_the_file_chooses_what_the_model_chooses(
    compressed, model
):
    folder, report = compressed
    file = penjing.LiteRTModel(folder / "model.tflite")
    tests = X[np.random.default_rng(0).permutation(400)[:80]]
    same = file.predict(tests).argmax(-1) == model.predict(tests, verbose=0).argmax(-1)
    assert report.after == pytest.approx(same.mean())


def test_the_recipe_gives_the_file_again(compressed, model, tmp_path):
    folder, report = compressed
    chosen = next(row for row in report.front if row.chosen)
    penjing.compress(
        model,
        {"x": X},
        folder / chosen.folder / "recipe.toml",
        out=tmp_path / "again",
        training=False,
        progress=False,
    )
    again = (tmp_path / "again" / "model.tflite").read_bytes()
    assert again == (folder / chosen.file).read_bytes()


def test_the_model_in_the_folder_needs_no_penjing(compressed):
    folder, _ = compressed
    config = keras.saving.load_model(folder / "model.keras").get_compile_config()
    assert "penjing" not in json.dumps(config)


def test_a_recipe_that_trains_contradicts_it(model, tmp_path):
    with pytest.raises(ValueError, match=r"`default` trains|'default' trains"):
        penjing.compress(model, {"x": X}, "default", out=tmp_path, training=False)


def test_labels_that_lack_are_asked_for_unless_nothing_is_trained(tmp_path):
    model = make_model()
    model.compile("adam", "sparse_categorical_crossentropy")
    with pytest.raises(CompressionError, match=r"without labels \(x\)"):
        penjing.compress(model, {"x": X}, out=tmp_path / "out", progress=False)
