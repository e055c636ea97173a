"""Files of a run: what is refused is told, and what stays is what the run left."""

import json
import warnings

import keras
import numpy as np
import pytest

from penjing.data.data_sources import UserData
from penjing.errors import (
    CompressionError,
    CompressionWarning,
    ExportError,
    RecipeError,
)
from penjing.pipeline import (
    ExportRecipe,
    FractionalSchedule,
    PruningConfig,
    QuantizeAwareRecipe,
    Recipe,
    TrainingRecipe,
    compress,
    file_stages,
)
from penjing.pipeline.file_stages import FileStages
from penjing.progress import ignore_progress
from penjing.report.documents import read_json
from penjing.report.terminal import score_table
from penjing.runtime.tflm import has_tflm

pytestmark = [pytest.mark.once, pytest.mark.usefixtures("untraced")]
PRUNE = PruningConfig(FractionalSchedule(final_sparsity=0.5))


def make_model(activation="relu"):
    keras.utils.clear_session(free_memory=False)  # the same names in each
    keras.utils.set_random_seed(0)
    layers = [
        keras.Input((8,)),
        keras.layers.Dense(16, activation=activation, name="hidden"),
        keras.layers.Dense(3, name="logits"),
    ]
    model = keras.Sequential(layers, name="net")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    return model


def make_data():
    x = np.random.default_rng(0).normal(size=(48, 8)).astype("float32")
    y = np.argmax(x[:, :3], -1)
    return (x, y), (x, y)


def make_recipe(*quantizations, methods=(PRUNE,)):
    return Recipe(
        name="tiny",
        training=TrainingRecipe(epochs=1, batch_size=16),
        methods=methods,
        export=ExportRecipe(quantizations=quantizations or ("dynamic",)),
    )


@pytest.fixture
def exported(monkeypatch):
    """What the exporter was asked for; it refuses the modes in `refuse`."""
    asked, refuse = [], set()

    def export(model, path, *, quantization, **_):
        asked.append((path.name, type(model).__name__))
        if quantization in refuse or path.name in refuse:
            raise ExportError(f"the tensor 'net/hidden' breaks {path.name}")
        weights = [keras.ops.convert_to_numpy(w).tobytes() for w in model.weights]
        path.write_bytes(b"".join(weights))

    monkeypatch.setattr(file_stages, "export_litert", export)
    monkeypatch.setattr(file_stages, "evaluate", lambda *_, **__: {"accuracy": 0.5})
    return asked, refuse


def run(model, out, recipe, **settings):
    stages = []
    report = compress(
        model,
        make_data(),
        recipe,
        out=out,
        accept_baseline=True,
        progress=lambda event: stages.append((event.stage, event.total)),
        **settings,
    )
    return report, {stage for stage, total in stages if total}


def test_a_refused_file_leaves_a_report_of_the_others(tmp_path, exported):
    asked, refuse = exported
    refuse.add("int8")
    recipe = make_recipe("int8", "dynamic")
    with pytest.warns(CompressionWarning, match=r"model.tflite: the tensor 'net/hid"):
        report, _ = run(make_model(), tmp_path, recipe)
    assert [row.name for row in report.refused] == ["model.tflite"]
    assert "net/hidden" in report.refused[0].reason
    assert report.result == "model.dynamic.tflite"
    assert report.after == 0.5 and report.ratio > 1
    assert "model.tflite" not in [row.name for row in (*report.files, *report.scores)]
    assert not (tmp_path / "model.tflite").exists()
    assert "model.dynamic.tflite" in report.evidence.left_out["file"]
    assert read_json(tmp_path / "report.json") == report
    assert "breaks model.tflite" in (tmp_path / "report.html").read_text()
    assert "breaks model.tflite" in str(report)
    refuse.clear()
    asked.clear()
    report, trained = run(make_model(), tmp_path, recipe)
    assert not trained and asked == [("model.tflite", "Sequential")]
    assert report.result == "model.tflite" and not report.refused
    assert "model.tflite" in report.evidence.left_out["file"]


def test_where_no_file_can_be_had_the_model_is_reported(tmp_path, exported):
    exported[1].update(["baseline.tflite", "dynamic", "float32", None])
    exported[1].update(["model.tflite", "model.float32.tflite"])
    with pytest.warns(CompressionWarning):
        report, _ = run(make_model(), tmp_path, make_recipe())
    assert report.result == "model.keras"
    assert len(report.refused) == 3
    assert "Keras, +0.0000" in (tmp_path / "report.html").read_text()


def test_an_error_that_nobody_foresaw_leaves_a_report_too(tmp_path, monkeypatch):
    monkeypatch.setattr(file_stages, "export_litert", lambda *_, **__: next(iter(())))
    monkeypatch.setattr(file_stages, "evaluate", lambda *_, **__: {"accuracy": 0.5})
    with pytest.warns(CompressionWarning, match="StopIteration, which nobody foresaw"):
        report, _ = run(make_model(), tmp_path, make_recipe())
    assert report.result == "model.keras" and len(report.refused) == 3


def test_a_changed_file_is_written_anew(tmp_path, exported):
    asked, _ = exported
    _, trained = run(make_model(), tmp_path, make_recipe())
    assert trained
    for name in ("model.keras", "model.tflite"):
        content = bytearray((tmp_path / name).read_bytes())
        content[len(content) // 2] ^= 1  # of the same size
        (tmp_path / name).write_bytes(content)
        asked.clear()
        _, trained = run(make_model(), tmp_path, make_recipe())
        assert bool(trained) == (name == "model.keras")
        files = [file for file, _ in asked]  # with it, what comes of it
        assert "model.tflite" in files
        assert ("baseline.tflite" in files) == (name == "model.keras")


def test_a_model_with_other_layers_and_equal_weights_begins_anew(tmp_path, exported):
    assert run(make_model(), tmp_path, make_recipe())[1]
    assert not run(make_model(), tmp_path, make_recipe())[1]
    assert run(make_model("gelu"), tmp_path, make_recipe())[1]


def test_ranges_of_an_earlier_recipe_are_not_taken(tmp_path, exported):
    asked, _ = exported
    rounds = make_recipe("int8", methods=(QuantizeAwareRecipe(activations="int8"),))
    run(make_model(), tmp_path, rounds)
    assert ("model.tflite", "CompressionModel") in asked
    asked.clear()
    run(make_model(), tmp_path, make_recipe("int8"))
    assert ("model.tflite", "Sequential") in asked
    assert not (tmp_path / "model.trained.keras").exists()


def test_the_model_itself_is_never_written_over(tmp_path, exported):
    path = tmp_path / "model.keras"
    make_model().save(path)
    before = path.read_bytes()
    for overwrite in (False, True):
        with pytest.raises(CompressionError, match="model.keras would be written over"):
            run(path, tmp_path, make_recipe(), overwrite=overwrite)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["model.keras"]


def test_the_same_run_elsewhere_gives_the_same_report(tmp_path, exported):
    tables = []
    for name in ("a", "b"):
        with warnings.catch_warnings():
            warnings.simplefilter("error", CompressionWarning)
            report, _ = run(make_model(), tmp_path / name, make_recipe())
        tables.append(json.loads((tmp_path / name / "report.json").read_text()))
        del tables[-1]["seconds"]
    assert tables[0] == tables[1]
    model_files = [(tmp_path / n / "model.keras").read_bytes() for n in ("a", "b")]
    assert model_files[0] == model_files[1]
    assert "net on data in memory" in str(report) and "model.tflite" in str(report)
    assert repr(report).startswith(
        "<Report of 'net on data in memory': model.tflite is"
    )


@pytest.mark.skipif(not has_tflm(), reason="needs penjing[micro]")
def test_a_packed_file_is_in_the_report_with_flash_and_ram(tmp_path):
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)
    layers = [keras.Input((8,)), keras.layers.Dense(128, activation="relu")]
    model = keras.Sequential([*layers, keras.layers.Dense(3)], name="net")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    recipe = Recipe(
        name="tiny",
        training=TrainingRecipe(epochs=1, batch_size=16),
        methods=(QuantizeAwareRecipe(levels=3, activations="int8"),),
        export=ExportRecipe(
            quantizations=("int8",), runtime="micro", encoding="packed"
        ),
    )
    report = compress(
        model, make_data(), recipe, out=tmp_path / "out", accept_baseline=True
    )
    assert report.refused == ()
    kinds = {row.name: row.kind for row in report.files}
    assert "bytes less flash" in kinds["model.packed.tflite"]
    assert "more RAM (measured)" in kinds["model.packed.tflite"]
    sizes = {row.name: row.raw for row in report.files}
    assert sizes["model.packed.tflite"] < sizes["model.tflite"]
    scores = {row.name: row.metrics for row in report.scores}
    assert scores["model.packed.tflite"] == scores["model.tflite"]
    runtimes = {row.name: row.runtime for row in report.scores}
    assert runtimes["model.packed.tflite"] == "litert-restored"
    assert runtimes["model.tflite"] == "litert"
    packed = report.file("model.packed.tflite")
    assert report.result == packed.name
    assert report.ratio == report.file("baseline.h5").zip / packed.zip
    assert report.file_ratio == report.file("baseline.tflite").raw / packed.raw
    table = score_table(report)
    assert "its plain file (LiteRT, unpacked)" in table.columns[1].cells
    assert "LiteRT runs no packed file" in table.caption
    page = (tmp_path / "out" / "report.html").read_text()
    assert "LiteRT, unpacked" in page and "It runs no packed file" in page


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"encoding": "packed"}, 'set `runtime` = "micro" too'),
        ({"runtime": "micro", "max_arena": 9}, "`max_arena` bounds the RAM"),
        (
            {"runtime": "micro", "encoding": "packed", "max_arena": 0},
            "`max_arena` bounds the RAM",
        ),
    ],
)
def test_settings_of_packed_files_that_do_not_go_together(settings, message):
    with pytest.raises(RecipeError, match=message):
        ExportRecipe(**settings)


def test_files_of_another_run_are_taken_as_they_are(tmp_path):
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    (tmp_path / "there" / "model.tflite").write_bytes(b"a file")
    (x, y), _ = make_data()
    common = {
        "model": make_model(),
        "data": UserData(train=(x, y), test=None, source=""),
        "recipe": make_recipe(),
        "imports": (),
        "has_ranges": False,
        "stage": lambda name, files, work: work(),
        "progress": ignore_progress,
    }
    files = FileStages(
        folder=tmp_path / "here",
        taken=FileStages(folder=tmp_path / "there", only_result=True, **common),
        **common,
    )
    files._export_result("model.tflite")
    assert (tmp_path / "here" / "model.tflite").read_bytes() == b"a file"
