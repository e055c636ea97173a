"""Model files are read safely, and each fault has its message."""

import io
import json
import random
import tempfile
import time
import zipfile

import h5py
import keras
import numpy as np
import pytest

from penjing import files
from penjing.errors import CompressionWarning, FileFormatError, UnsupportedModelError
from penjing.models import declared_models, keras_private, model_files
from penjing.models.model_files import load_keras_model


def model(compiled=True):
    built = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    if compiled:
        built.compile("adam", "mse", metrics=["mae"])
    return built


@pytest.mark.parametrize("name", ["model.keras", "model.h5", "model.hdf5"])
def test_a_model_comes_back_as_it_was_saved(tmp_path, name):
    original = model()
    original.save(tmp_path / name)
    loaded = load_keras_model(str(tmp_path / name))
    for left, right in zip(loaded.get_weights(), original.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)
    assert loaded.compiled
    assert not load_keras_model(tmp_path / name, compile=False).compiled


@pytest.mark.once
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.keras", None, "There is no file .*model.keras. Check the path"),
        ("model.keras", b"", "model.keras is empty"),
        ("model.keras", b"PK no zip", "Cannot read .*model.keras.*corrupt"),
        ("model.h5", b"no hdf5 at all", "Cannot read .*model.h5.*corrupt"),
        ("model.tflite", b"1", "not a Keras model by its name. Allowed: .keras, .h5"),
        ("model.pb", b"1", "not a Keras model by its name"),
    ],
)
def test_files_that_are_no_models_are_refused(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(FileFormatError, match=message):
        load_keras_model(tmp_path / name)


@pytest.mark.once
def test_a_folder_and_a_file_that_is_too_large_are_refused(tmp_path, monkeypatch):
    with pytest.raises(FileFormatError, match="is a folder. Give the path of a file"):
        load_keras_model(tmp_path)
    model().save(tmp_path / "model.keras")
    with pytest.raises(FileFormatError, match="more than the 10 that are allowed"):
        model_files.check_file(tmp_path / "model.keras", 10)


@pytest.mark.once
@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_a_truncated_file_is_refused(tmp_path, name, share):
    model().save(tmp_path / name)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: int(share * len(data))])
    with pytest.raises(FileFormatError, match="corrupt"):
        load_keras_model(tmp_path / name)


@pytest.mark.once
def test_weights_alone_are_no_model(tmp_path):
    model().save_weights(tmp_path / "model.weights.h5")
    with pytest.raises(FileFormatError, match="weights only.*`load_weights`"):
        load_keras_model(tmp_path / "model.weights.h5")


def repacked(path, **members):
    """The zip file with members replaced, or left out where None."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    content |= {name.replace("_json", ".json"): data for name, data in members.items()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            if data is not None:
                archive.writestr(name, data)


@pytest.mark.once
@pytest.mark.parametrize("config", [b"{", b"[]", b"\xff\xfe", b'{"a": 1}', None])
def test_a_broken_config_is_refused(tmp_path, config):
    model().save(tmp_path / "model.keras")
    repacked(tmp_path / "model.keras", config_json=config)
    with pytest.raises(FileFormatError, match="Cannot read .*model.keras"):
        load_keras_model(tmp_path / "model.keras")


@pytest.mark.once
def test_weights_of_another_model_are_refused(tmp_path):
    other = keras.Sequential([keras.Input((9,)), keras.layers.Dense(3)])
    other.save(tmp_path / "other.keras")
    with zipfile.ZipFile(tmp_path / "other.keras") as archive:
        weights = archive.read("model.weights.h5")
    model().save(tmp_path / "model.keras")
    repacked(tmp_path / "model.keras", **{"model.weights.h5": weights})
    with pytest.raises(FileFormatError, match="Cannot read"):
        load_keras_model(tmp_path / "model.keras")
    repacked(tmp_path / "model.keras", **{"model.weights.h5": None})
    with pytest.raises(FileFormatError, match=r"no model\.weights\.h5 inside"):
        load_keras_model(tmp_path / "model.keras")


@pytest.mark.once
@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_a_lambda_is_refused_with_the_ways_out(tmp_path, name):
    keras.Sequential([keras.Input((4,)), keras.layers.Lambda(lambda x: x * 2)]).save(
        tmp_path / name
    )
    with pytest.raises(
        FileFormatError,
        match=r"Lambda.*register_keras_serializable.*safe_mode=False\) and pass the",
    ):
        load_keras_model(tmp_path / name)


@pytest.mark.once
@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_a_class_that_is_not_registered_is_named(tmp_path, name):
    class Odd(keras.layers.Layer):
        def call(self, x):
            return x

    keras.Sequential([keras.Input((4,)), Odd()]).save(tmp_path / name)
    said = "Odd.*Import the module.*--import MODULE"
    with pytest.raises(UnsupportedModelError, match=said):
        load_keras_model(tmp_path / name)


@pytest.mark.once
@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_a_loss_that_is_not_registered_leaves_the_model_uncompiled(tmp_path, name):
    def own_loss(y_true, y_pred):
        return keras.ops.mean(y_true - y_pred, axis=-1)

    original = model(compiled=False)
    original.compile("adam", own_loss)
    original.save(tmp_path / name)
    with pytest.warns(CompressionWarning, match="without its loss and metrics"):
        loaded = load_keras_model(tmp_path / name)
    assert not loaded.compiled
    np.testing.assert_array_equal(loaded.get_weights()[0], original.get_weights()[0])


@pytest.mark.once
def test_a_config_cannot_call_a_function_by_name(tmp_path):
    model().save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        config = json.loads(archive.read("config.json"))
    config["config"]["layers"][1] |= {"module": "os", "class_name": "system"}
    config["config"]["layers"][1]["config"] = {"command": f"touch {tmp_path}/proof"}
    repacked(tmp_path / "model.keras", config_json=json.dumps(config).encode())
    with pytest.raises((FileFormatError, UnsupportedModelError)):
        load_keras_model(tmp_path / "model.keras")
    assert not (tmp_path / "proof").exists()


@pytest.mark.once
def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "EXPANSION_FLOOR", 10_000)
    with zipfile.ZipFile(tmp_path / "a.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.weights.h5", b"\0" * 3_000_000)
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda *a: pytest.fail("unpacked"))
    with pytest.raises(FileFormatError, match="unpacks to 3,000,000 bytes.*a bomb"):
        load_keras_model(tmp_path / "a.keras")


@pytest.mark.once
def test_a_declared_array_larger_than_its_file_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", (2**40,), "float32", chunks=True)
    with pytest.raises(FileFormatError, match="4,398,046,511,104 bytes.*a bomb"):
        load_keras_model(tmp_path / "a.h5")


@pytest.mark.once
def test_more_members_than_a_model_has_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(model_files, "MAX_MEMBERS", 2)
    model().save(tmp_path / "model.keras")
    with pytest.raises(FileFormatError, match="holds 3 files, more than 2"):
        load_keras_model(tmp_path / "model.keras")


@pytest.mark.once
def test_links_out_of_the_file_are_refused(tmp_path):
    (tmp_path / "secret.bin").write_bytes(b"\0" * 400)
    np.zeros(4).tofile(tmp_path / "raw.bin")

    def soft(file):
        file["x"] = h5py.SoftLink("/y")

    def external_link(file):
        file["x"] = h5py.ExternalLink("other.h5", "/y")

    def external_data(file):
        where = [(str(tmp_path / "secret.bin"), 0, 400)]
        file.create_dataset("x", (100,), "float32", external=where)

    def virtual(file):
        layout = h5py.VirtualLayout((4,), "float32")
        layout[:] = h5py.VirtualSource("other.h5", "y", (4,))
        file.create_virtual_dataset("x", layout)

    for change, message in [
        (soft, "has a link at 'x'"),
        (external_link, "has a link at 'x'"),
        (external_data, "the data of 'x' in another file"),
        (virtual, "the data of 'x' in another file"),
    ]:
        content = io.BytesIO()
        with h5py.File(content, "w") as file:
            change(file)
        (tmp_path / "a.h5").write_bytes(content.getvalue())
        with pytest.raises(FileFormatError, match=message):
            load_keras_model(tmp_path / "a.h5")


@pytest.mark.once
def test_a_group_that_holds_itself_does_not_run_forever(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        group = file.create_group("a")
        group["a"] = group
        group["b"] = group
    with pytest.raises(FileFormatError, match="nests deeper than 64 levels"):
        load_keras_model(tmp_path / "a.h5")


def changed(path, change):
    """Change the config of a saved model."""
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
    change(config, config["config"]["layers"])
    text = json.dumps(config)
    start = '{"class_name": "TimeDistributed", "config": {"layer": '
    text = text.replace('"NESTED"', 5000 * start + "0" + 5000 * "}}")
    repacked(path, config_json=text.encode())


def wide(config, layers):
    layers[1]["config"]["units"] = 10**9


def deep(config, layers):
    layers[1:] = layers[1:] * 20_000


def nested(config, layers):
    layers[1] = "NESTED"


def repeated(config, layers):
    layers.insert(1, {"class_name": "RepeatVector", "config": {"n": 10**9}})
    layers[1] |= {"module": "keras.layers", "registered_name": None}


def detailed(config, layers):
    metric = {"module": "keras.metrics", "class_name": "AUC"}
    metric |= {"config": {"num_thresholds": 10**9}}
    config["compile_config"]["metrics"] = [metric]


@pytest.mark.once
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (wide, "variables would take 20,000,000,000 bytes, and the file holds [67]"),
        (deep, "has 20,003 layers"),
        (nested, "layers and|Cannot read"),
        (repeated, "a layer would give 16,000,000,000 bytes for one example"),
        (detailed, "`num_thresholds` of one of its objects is 1,000,000,000"),
    ],
)
def test_a_small_file_cannot_ask_for_everything(tmp_path, change, message):
    path = tmp_path / "model.keras"
    model().save(path)
    changed(path, change)
    begin = time.process_time()
    with pytest.raises(FileFormatError, match=message):
        load_keras_model(path)
    assert time.process_time() - begin < 5


@pytest.mark.once
def test_an_old_file_cannot_either(tmp_path):
    model().save(tmp_path / "model.h5")
    with h5py.File(tmp_path / "model.h5", "a") as file:
        config = json.loads(file.attrs["model_config"])
        wide(config, config["config"]["layers"])
        file.attrs["model_config"] = json.dumps(config)
    with pytest.raises(FileFormatError, match="variables would take 20,000,000,000"):
        load_keras_model(tmp_path / "model.h5")


@pytest.mark.once
def test_the_optimizer_of_an_old_file_takes_no_loss_away(tmp_path):
    saved = model()
    saved.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    saved.save(tmp_path / "model.h5")
    old = {"lr": 0.25, "beta_1": 0.9, "schedule_decay": 0.0, "decay": 0.0}
    with h5py.File(tmp_path / "model.h5", "a") as file:
        config = json.loads(file.attrs["training_config"])
        config["optimizer_config"] = {"class_name": "Adam", "config": old}
        del file["optimizer_weights"]
        file.attrs["training_config"] = json.dumps(config)
    loaded = load_keras_model(tmp_path / "model.h5")
    assert keras.losses.get(loaded.loss) is keras.losses.categorical_crossentropy
    assert float(loaded.optimizer.learning_rate) == 0.25


def test_looking_first_changes_nothing(tmp_path, monkeypatch):
    model().save(tmp_path / "model.keras")
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)
    expected = keras.layers.Dense(2).name, random.random(), np.random.random()
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)
    declared_models.check_variables(
        lambda: keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)]),
        0,
        tmp_path / "model.keras",
    )
    found = keras.layers.Dense(2).name, random.random(), np.random.random()
    assert found == expected
    monkeypatch.setenv("PENJING_LIMITS", "0.00001")
    with pytest.raises(FileFormatError, match=r"PENJING_LIMITS=4"):
        load_keras_model(tmp_path / "model.keras")


@keras.saving.register_keras_serializable("tests.models")
class Projection(keras.layers.Layer):
    """Draws numbers where it is made, as random features do."""

    def build(self, shape):
        self.fixed = keras.random.normal((shape[-1], 3))

    def call(self, x):
        return keras.ops.matmul(x, self.fixed)


def test_chance_goes_on_after_a_model_that_draws_where_it_is_made(tmp_path):
    path = tmp_path / "model.keras"
    keras.Sequential([keras.Input((4,)), Projection()]).save(path)
    keras_private.set_global_attribute("global_seed_generator", None)  # a new program
    load_keras_model(path)
    first, second = (np.asarray(keras.random.normal((3,))) for _ in range(2))
    assert not np.array_equal(first, second)


@pytest.mark.once
@pytest.mark.parametrize("name", ["../x", "/x", "a/../b", "x" * 300])
def test_nothing_is_left_of_files_with_wrong_names(tmp_path, monkeypatch, name):
    model().save(tmp_path / "model.keras")
    repacked(tmp_path / "model.keras", **{name: b"x"})
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    with pytest.raises(FileFormatError, match="it holds a file of the name"):
        load_keras_model(tmp_path / "model.keras")
    assert not list((tmp_path / "temporary").iterdir())
