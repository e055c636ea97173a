"""`compress` on models of one's own: whole runs, killed, changed and repeated."""

import dataclasses
import json
import os

import keras
import numpy as np
import pytest

from penjing.data.data_sources import UserData
from penjing.errors import CompressionError, CompressionWarning, DataError
from penjing.measurement.inspection import inspect_file
from penjing.pipeline import (
    ExportRecipe,
    FractionalSchedule,
    PruningConfig,
    Recipe,
    TrainingRecipe,
    compress,
    file_stages,
    load_recipe,
)
from penjing.report.documents import read_json

FILES = {
    "baseline.h5",
    "baseline.tflite",
    "model.float32.tflite",
    "model.keras",
    "model.tflite",
    "report.html",
    "report.json",
}


def make_recipe(epochs=2, sparsity=0.75, quantizations=("dynamic",), **training):
    return Recipe(
        name="tiny",
        training=TrainingRecipe(epochs=epochs, batch_size=16, **training),
        methods=(PruningConfig(schedule=FractionalSchedule(final_sparsity=sparsity)),),
        export=ExportRecipe(quantizations=quantizations),
    )


def make_model():
    layers = [
        keras.Input((8,)),
        keras.layers.Dense(32, activation="relu", name="hidden"),
        keras.layers.Dropout(0.1),
        keras.layers.Dense(3, name="logits"),
    ]
    model = keras.Sequential(layers, name="net")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    return model


def make_arrays(count=96):
    x = np.random.default_rng(0).normal(size=(count, 8)).astype("float32")
    return x, np.argmax(x[:, :3], -1)


def make_data():
    return UserData(train=make_arrays(), test=make_arrays(40), source="file /a/b.npz")


@pytest.mark.usefixtures("untraced")
@pytest.mark.once
def test_the_channels_recipe_leaves_a_smaller_network_in_every_file(tmp_path):
    layers = [
        keras.Input((8, 8, 1)),
        keras.layers.Conv2D(24, 3, name="conv"),
        keras.layers.BatchNormalization(name="norm"),
        keras.layers.ReLU(name="relu"),
        keras.layers.Flatten(name="flatten"),
        keras.layers.Dense(32, activation="relu", name="hidden"),
        keras.layers.Dense(3, name="logits"),
    ]
    model = keras.Sequential(layers, name="net")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    x = np.random.default_rng(0).normal(size=(96, 8, 8, 1)).astype("float32")
    arrays = x, (x[:, 0, 0, 0] > 0).astype("int32")
    recipe = load_recipe("channels")
    training = dataclasses.replace(recipe.training, epochs=1, minimum_steps=0)
    cuts = dataclasses.replace(recipe.methods[0], macs=0.2, steps=1, recovery_epochs=1)
    recipe = dataclasses.replace(
        recipe,
        training=training,
        methods=(cuts,),
        export=dataclasses.replace(recipe.export, finish=None),
    )
    data = UserData(train=arrays, test=arrays, source="file b.npz")
    report = compress(model, data, recipe, out=tmp_path)
    assert report.channels.macs[1] <= 0.2 * report.channels.macs[0]
    sizes = {row.group.rpartition("/")[2]: row.after for row in report.channels.rows}
    assert sizes["conv"] < 24 and sizes["logits"] == 3
    for name in ("model.tflite", "model.dynamic.tflite", "model.float32.tflite"):
        shapes = [t.shape for t in inspect_file(tmp_path / name).tensors]
        assert (sizes["hidden"], 36 * sizes["conv"]) in shapes, name
    assert read_json(tmp_path / "report.json") == report
    assert "Channels of every group" in (tmp_path / "report.html").read_text()


@pytest.mark.once
def test_the_smallest_recipe_leaves_few_levels_and_a_smaller_file(tmp_path):
    recipe = load_recipe("smallest")
    training = dataclasses.replace(recipe.training, epochs=3, minimum_steps=0)
    prune, quantize = recipe.methods
    methods = (dataclasses.replace(prune, keep_at_least=60), quantize)
    sizes, hidden = {}, {}
    for finish in (None, "smallest"):
        export = dataclasses.replace(recipe.export, finish=finish)
        report = compress(
            make_model(),
            make_data(),
            dataclasses.replace(
                recipe, training=training, methods=methods, export=export
            ),
            out=tmp_path / str(finish),
        )
        sizes[finish] = report.file("model.tflite").gzip
        tensors = inspect_file(tmp_path / str(finish) / "model.tflite").tensors
        kernels = [tensor for tensor in tensors if tensor.dtype == "int8"]
        assert all(tensor.distinct <= 7 for tensor in kernels)
        assert sum(tensor.size - tensor.zeros for tensor in kernels) <= 60
        hidden[finish] = min(tensor.shape[0] for tensor in kernels if 8 in tensor.shape)
    assert hidden["smallest"] < hidden[None] == 32  # dead units are taken out
    assert sizes["smallest"] < sizes[None]


@pytest.mark.once
def test_a_model_and_an_npz_become_files_and_a_report(tmp_path):
    model = make_model()
    model.save(tmp_path / "net.keras")
    x, y = make_arrays()
    np.savez(tmp_path / "data.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    out = tmp_path / "a" / "out"
    report = compress(
        tmp_path / "net.keras", tmp_path / "data.npz", make_recipe(), out=out
    )
    assert {path.name for path in out.iterdir()} == FILES | {".state"}
    assert read_json(out / "report.json") == report
    assert [row.status for row in report.weights] == [
        "compressed",
        "skipped",
        "compressed",
        "skipped",
    ]
    small = keras.saving.load_model(out / "model.keras")
    kernel = keras.ops.convert_to_numpy(small.get_layer("hidden").kernel)
    assert np.count_nonzero(kernel == 0) == report.weights[0].zeros == 192
    assert {row.runtime for row in report.scores} == {"keras", "litert"}
    by_name = {row.name: row.metrics["accuracy"] for row in report.scores}
    assert by_name["model.keras"] == pytest.approx(by_name["model.float32.tflite"])
    assert small.evaluate(x, y, verbose=0)[1] == pytest.approx(by_name["model.keras"])
    assert report.ratio == report.files[0].zip / report.file("model.tflite").zip
    text = (out / "report.json").read_text() + (out / "report.html").read_text()
    assert str(tmp_path) not in text
    assert report.data.train == 96  # nothing is split off that is not used


@pytest.fixture
def quick_files(monkeypatch):
    """Stands for the exporter, which has tests of its own: the weights as bytes."""

    def export(model, path, **_):
        weights = [keras.ops.convert_to_numpy(w).tobytes() for w in model.weights]
        path.write_bytes(b"".join(weights))

    def score(model, *_, **__):
        return {"accuracy": 0.5}

    monkeypatch.setattr(file_stages, "export_litert", export)
    monkeypatch.setattr(file_stages, "evaluate", score)


class _Killed(BaseException):
    """Stands for a kill: nothing may catch it."""


def killing_at(stage):
    def listen(event):
        if event.stage == stage:
            raise _Killed

    return listen


def tensors(path):
    model = keras.saving.load_model(path)
    return [keras.ops.convert_to_numpy(weight) for weight in model.weights]


@pytest.mark.usefixtures("untraced")
@pytest.mark.once
def test_killed_before_any_stage_it_goes_on_to_the_same_files(tmp_path, quick_files):
    model = make_model()
    arguments = (model, make_data(), make_recipe())
    names = []
    whole = compress(
        *arguments,
        out=tmp_path / "whole",
        progress=lambda event: names.append(event.stage),
    )
    names = list(dict.fromkeys(names))
    assert len(names) > 10
    for stage in names:
        with pytest.raises(_Killed):
            compress(*arguments, out=tmp_path / "cut", progress=killing_at(stage))
    report = compress(*arguments, out=tmp_path / "cut")
    for left, right in zip(
        tensors(tmp_path / "cut/model.keras"),
        tensors(tmp_path / "whole/model.keras"),
        strict=True,
    ):
        np.testing.assert_array_equal(left, right)
    for name in ("model.tflite", "baseline.tflite"):
        cut, full = tmp_path / "cut" / name, tmp_path / "whole" / name
        assert cut.read_bytes() == full.read_bytes()
    assert report.scores == whole.scores
    assert not [p for p in (tmp_path / "cut").iterdir() if p.name.endswith(".tmp")]


@pytest.mark.usefixtures("untraced")
@pytest.mark.once
def test_a_finished_run_is_not_repeated_and_a_changed_one_is(tmp_path, quick_files):
    model = make_model()
    events = []

    def run(recipe, **changes):
        events.clear()
        compress(
            model,
            make_data(),
            recipe,
            out=tmp_path,
            progress=events.append,
            **changes,
        )
        return {event.stage for event in events if event.total}

    assert run(make_recipe(epochs=1)) == {"Training"}
    assert run(make_recipe(epochs=1)) == set()
    assert any("Going on where the last run" in event.stage for event in events)
    assert run(make_recipe(epochs=2)) == {"Training"}
    assert any("starting afresh" in event.stage for event in events)
    assert run(make_recipe(epochs=2), restart=True) == {"Training"}
    kernel = model.get_layer("hidden").kernel
    kernel.assign(kernel * 2)
    assert run(make_recipe(epochs=2)) == {"Training"}


class Loader(keras.utils.PyDataset):
    def __len__(self):
        return 6

    def __getitem__(self, index):
        x, y = make_arrays()
        return x[index * 16 : index * 16 + 16], y[index * 16 : index * 16 + 16]


@pytest.mark.usefixtures("untraced")
@pytest.mark.once
def test_a_loader_several_quantizations_and_a_recipes_loss(tmp_path):
    model = make_model()
    plain = keras.Sequential([keras.Input((8,)), *model.layers], name="net")
    recipe = make_recipe(
        epochs=1,
        quantizations=("int8", "float16", "float32"),
        loss={"name": "SparseCategoricalCrossentropy", "from_logits": True},
        metrics=("accuracy",),
    )
    data = UserData(train=Loader(), test=Loader(), source="function m:f")
    report = compress(plain, data, recipe, out=tmp_path)
    assert report.data.unit == "batches"
    assert report.data.train == 6
    names = [row.name for row in report.files]
    assert names == [
        "baseline.h5",
        "baseline.tflite",
        "model.keras",
        "model.float16.tflite",
        "model.float32.tflite",
        "model.tflite",
    ]
    assert report.file("model.tflite").kind == "compressed, int8"
    assert set(report.scores[0].metrics) == {"accuracy"}


@keras.saving.register_keras_serializable(package="tests")
class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(3)

    def build(self, input_shape):
        self.dense.build(input_shape)
        self.built = True

    def call(self, inputs):
        return self.dense(inputs)


@pytest.mark.usefixtures("untraced")
@pytest.mark.once
def test_a_subclassed_model_has_a_baseline_file_too(tmp_path, quick_files):
    model = Subclassed(name="own")
    model(np.zeros((1, 8), "float32"))
    model.compile("sgd", "mse")
    x, _ = make_arrays()
    data = UserData(train=(x, x[:, :3]), test=(x, x[:, :3]), source="s")
    report = compress(model, data, make_recipe(epochs=1), out=tmp_path)
    assert report.files[0].name == "baseline.h5"
    assert report.ratio > 1


@pytest.mark.once
@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        (3, None, "`model` must be a Keras 3 model or the path"),
        (keras.Sequential([keras.layers.Dense(1)]), None, "is not built"),
        (None, 3, r"The data is a int. Allowed: \(\(x_train"),
        (None, make_arrays(), "A single .x, y. lacks the test part. Allowed"),
        (
            None,
            ((np.eye(8)[:6], np.eye(3)[[0, 1, 2] * 2]),) * 2,
            "one-hot labels with categorical ones",
        ),
    ],
)
def test_wrong_arguments_are_refused(tmp_path, model, data, message):
    model = make_model() if model is None else model
    with pytest.raises((CompressionError, DataError), match=message):
        compress(model, data, make_recipe(), out=tmp_path / "out")
    assert not os.listdir(tmp_path)


@pytest.mark.once
def test_a_folder_must_be_a_path(tmp_path):
    with pytest.raises(CompressionError, match="must be given as a text or a pathlib"):
        compress(make_model(), make_data(), make_recipe(), out=3)


@pytest.mark.once
def test_modules_to_import_are_looked_for_before_the_training(tmp_path):
    with pytest.raises(ValueError, match="`imports` names 'no.such', which is no mod"):
        compress(make_model(), make_data(), out=tmp_path / "out", imports=["no.such"])
    assert not os.listdir(tmp_path)


@pytest.mark.usefixtures("untraced")
@pytest.mark.once
def test_data_in_memory_is_used_whole_and_known_again(tmp_path, quick_files):
    recipe = make_recipe(epochs=1)
    report = compress(
        make_model(), (make_arrays(), make_arrays(40)), recipe, out=tmp_path
    )
    assert (report.data.name, report.data.train) == ("data in memory", 96)
    heard = []
    model = make_model()
    for _ in range(2):
        loaders = {"train": Loader(), "test": Loader()}
        compress(model, loaders, recipe, out=tmp_path, progress=heard.append)
    assert [text.stage.partition(" ")[0] for text in heard if text.notice] == [
        "The",
        "Going",
    ]


@pytest.mark.usefixtures("untraced")
@pytest.mark.once
@pytest.mark.parametrize("form", [list, dict])
def test_outputs_are_called_the_same_in_every_file(tmp_path, form):
    hidden = keras.layers.Dense(8)(inputs := keras.Input((8,)))
    outputs = {
        "value": keras.layers.Dense(1, name="value")(hidden),
        "kind": keras.layers.Dense(3, name="kind", activation="softmax")(hidden),
    }
    outputs = list(outputs.values()) if form is list else outputs
    model = keras.Model(inputs, outputs)
    model.compile(
        "adam",
        {"kind": "sparse_categorical_crossentropy", "value": "mse"},
        metrics={"kind": ["accuracy"], "value": ["mae"]},
    )
    x, y = make_arrays()
    part = (x, {"kind": y, "value": x[:, :1]})
    recipe = make_recipe(epochs=1)
    report = compress(model, (part, part), recipe, out=tmp_path)
    for row in report.scores:
        assert set(row.metrics) == {"kind_accuracy", "value_mae"}, row.name
        assert row.metrics["kind_accuracy"] <= 1.0


@pytest.mark.usefixtures("untraced")
@pytest.mark.once
def test_the_state_is_readable_json(tmp_path, quick_files):
    compress(make_model(), make_data(), make_recipe(epochs=1), out=tmp_path)
    manifest = json.loads((tmp_path / ".state/compression/manifest.json").read_text())
    assert "Exporting model.tflite" in manifest["stages"]
    assert not (tmp_path / ".state/compression/training.npz").exists()


@pytest.mark.usefixtures("untraced")
@pytest.mark.once
def test_what_was_warned_of_and_how_images_were_read_stand_in_the_report(
    tmp_path, quick_files
):
    image_module = pytest.importorskip("PIL.Image")
    for name, grey in (("dark", 60), ("light", 200)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(10):
            image = image_module.new("L", (4, 4), grey + number)
            image.save(tmp_path / "photos" / name / f"{number}.png")
    (tmp_path / "photos" / "dark" / "notes.txt").touch()
    layers = [keras.layers.Rescaling(1 / 255), keras.layers.Flatten()]
    model = keras.Sequential([keras.Input((4, 4, 1)), *layers, keras.layers.Dense(2)])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    out, notices = tmp_path / "out", []

    def listen(event):
        notices.extend([event.stage] if event.notice else [])

    for _ in range(2):  # the second time nothing is run anew
        with pytest.warns(CompressionWarning, match="passed over"):
            compress(
                model,
                tmp_path / "photos",
                make_recipe(epochs=1),
                out=out,
                seed=5,
                progress=listen,
            )
        page = (out / "report.html").read_text()
        for text in (
            json.loads((out / "report.json").read_text())["warnings"][0],
            page,
        ):
            assert "1 files in dark are passed over" in text
        assert "chosen by the seed 5, are the test part" in page
    assert "Data: pixels are read from 0 to 255." in notices
