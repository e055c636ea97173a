"""A user's data: where it comes from, how it is split, and what is refused."""

import dataclasses
import itertools
import sys
import zipfile

import keras
import numpy as np
import pytest

from penjing.data import array_files
from penjing.data.architectures import build_architecture
from penjing.data.data_sources import UserData, load_data
from penjing.data.datasets import load_dataset
from penjing.errors import DataError

MODULES = (f"user_module_{number}" for number in itertools.count())


def arrays(train=40, test=10, classes=2):
    random = np.random.default_rng(0)
    return {
        "x_train": random.normal(size=(train, 3)).astype(np.float32),
        "y_train": np.arange(train) % classes,
        "x_test": random.normal(size=(test, 3)).astype(np.float32),
        "y_test": np.arange(test) % classes,
    }


@pytest.fixture
def npz(tmp_path):
    """Write arrays to a file and give its path."""

    def write(**parts):
        np.savez(tmp_path / "data.npz", **parts)
        return tmp_path / "data.npz"

    return write


@pytest.fixture
def function(tmp_path, monkeypatch):
    """Write a module into the current folder and give `module:load`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", ".")])

    def write(body):
        name = next(MODULES)
        (tmp_path / f"{name}.py").write_text(body)
        return f"{name}:load"

    yield write
    for name in [name for name in sys.modules if name.startswith("user_module_")]:
        del sys.modules[name]


def classifier(classes=2):
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(classes)])


@pytest.mark.once
class TestNpz:
    def test_the_arrays_come_back_and_validation_is_split_off(self, npz):
        given = arrays()
        data = load_data(npz(**given))
        assert data.source.endswith("data.npz") and data.class_names is None
        np.testing.assert_array_equal(data.test[0], given["x_test"])
        assert np.bincount(data.validation[1]).tolist() == [2, 2]
        assert np.bincount(data.train[1]).tolist() == [18, 18]
        both = np.concatenate([data.train[0], data.validation[0]])
        assert {row.tobytes() for row in both} == {
            row.tobytes() for row in given["x_train"]
        }
        for (x, y), row in itertools.product([data.train, data.validation], range(4)):
            origin = np.flatnonzero((given["x_train"] == x[row]).all(axis=1))
            assert given["y_train"][origin].tolist() == [y[row]]

    def test_the_seed_decides_the_split(self, npz):
        path = npz(**arrays())
        first, again = load_data(path, seed=3), load_data(str(path), seed=3)
        np.testing.assert_array_equal(first.validation[0], again.validation[0])
        other = load_data(path, seed=4)
        assert not np.array_equal(first.validation[0], other.validation[0])

    def test_a_given_validation_part_is_kept(self, npz):
        given = arrays()
        data = load_data(
            npz(**given, x_validation=given["x_test"], y_validation=given["y_test"])
        )
        assert len(data.train[1]) == 40
        np.testing.assert_array_equal(data.validation[0], given["x_test"])

    def test_real_valued_and_rare_labels_are_split_at_random(self, npz):
        for labels in (np.linspace(0, 1, 40), np.arange(40), np.eye(40)):
            data = load_data(npz(**{**arrays(), "y_train": labels}))
            assert len(data.validation[1]) == 4 and len(data.train[1]) == 36

    def test_two_examples_are_the_least(self, npz):
        data = load_data(npz(**arrays(train=2)))
        assert len(data.train[1]) == len(data.validation[1]) == 1
        with pytest.raises(DataError, match="has 1 example; at least 2"):
            load_data(npz(**arrays(train=1)))

    def test_several_inputs_and_outputs_go_by_name(self, npz):
        given = {}
        for part, count in (("train", 30), ("test", 4)):
            given[f"x_{part}_left"] = np.arange(count * 3).reshape(count, 3)
            given[f"x_{part}_far_right"] = -np.arange(count)
            given[f"y_{part}_kind"] = np.arange(count) % 2
            given[f"y_{part}_value"] = np.arange(count) / 2
        data = load_data(npz(**given))
        x, y = data.validation
        assert set(x) == {"left", "far_right"} and set(y) == {"kind", "value"}
        assert len(x["left"]) == 3
        np.testing.assert_array_equal(x["left"][:, 0] // 3, -x["far_right"])
        np.testing.assert_array_equal(y["value"] * 2, -x["far_right"])

    def test_class_names_are_kept(self, npz):
        data = load_data(npz(**arrays(), class_names=np.array(["cat", "dog"])))
        assert data.class_names == ("cat", "dog")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"y_test": None}, r"lacks y_test; it has x_train, y_train, x_test"),
            ({"x_train": None, "y_train": None}, r"lacks x_train"),
            ({"y_train": np.zeros(39)}, r"x_train has 40, y_train has 39"),
            ({"x_val": np.zeros(3)}, r"unknown name 'x_val'. Did you mean 'x_"),
            ({"x_train_left": np.zeros(40)}, r"both x_train and x_train_left"),
            ({"x_validation": np.zeros(40)}, r"lacks y_validation"),
            ({"x_test": np.full((10, 3), np.nan)}, r"`x_test` has 30 values .* NaN"),
            ({"y_train": np.array(["a"] * 40)}, r"`y_train` must hold numbers.*<U1"),
            (
                {"x_train": np.array([None] * 40)},
                r"Cannot read the arrays .*Python obj",
            ),
            ({"x_test": np.zeros((0, 3))}, r"`x_test` must have at least one example"),
        ],
    )
    def test_a_wrong_content_is_refused_by_name(self, npz, change, message):
        given = {**arrays(), **change}
        path = npz(**{key: value for key, value in given.items() if value is not None})
        with pytest.raises(DataError, match=message):
            load_data(path)

    def test_a_corrupt_file_gives_one_error(self, npz):
        path = npz(**arrays())
        whole = path.read_bytes()
        middle = bytearray(whole)
        middle[len(whole) // 4] ^= 0xFF
        header = bytearray(whole)
        header[header.find(b"NUMPY") + 9] ^= 0xFF
        for broken in (b"", b"PK\x03\x04", whole[:-30], bytes(middle), bytes(header)):
            path.write_bytes(broken)
            with pytest.raises(DataError, match=r"data\.npz"):
                load_data(path)

    def test_a_member_that_is_no_array_is_refused(self, npz):
        path = npz(**{key: v for key, v in arrays().items() if key != "x_test"})
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("x_test", "text")
        with pytest.raises(DataError, match="`x_test` must hold numbers"):
            load_data(path)

    def test_a_file_that_unpacks_to_too_much_is_refused(self, npz, monkeypatch):
        monkeypatch.setattr(array_files, "_MAX_BYTES", 1000)
        with pytest.raises(DataError, match="unpacks to .* more than .* with a loader"):
            load_data(npz(**arrays()))


@pytest.mark.once
@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nothing.npz", r"no file nothing\.npz. Allowed: an \.npz file with x_train"),
        (
            "nothing",
            r"no data 'nothing'. Allowed: .*module:function; a folder of class",
        ),
        ("a:b:c", r"no data 'a:b:c'"),
        ("data.csv", r"Cannot read data\.csv as data: unknown suffix"),
    ],
)
def test_an_unknown_kind_of_data_is_refused(spec, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.csv").write_text("1,2\n")
    with pytest.raises(DataError, match=message):
        load_data(spec)


@pytest.mark.once
def test_a_folder_of_images_is_loaded_with_its_class_names(tmp_path):
    image_module = pytest.importorskip("PIL.Image")
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(20):
            image = image_module.new("L", (28, 28), 10 * number)
            image.save(tmp_path / name / f"{number}.png")
    data = load_data(tmp_path, image_size=(28, 28), pixel_maximum=255.0)
    assert data.class_names == ("cat", "dog")
    sizes = [
        np.bincount(y).tolist() for _, y in (data.train, data.validation, data.test)
    ]
    assert sizes == [[14, 14], [2, 2], [4, 4]]
    assert data.train[0].max() > 100
    data.validate_against(build_architecture("article", classes=2))
    more = build_architecture("article", classes=3)
    with pytest.raises(DataError, match=r"2 classes \('cat', 'dog'\), the model 3 out"):
        data.validate_against(more)
    data.validate_against(more, labels_match_outputs=False)


ARRAYS = """
import numpy as np
x, y = np.arange(60.0).reshape(20, 3), np.arange(20) % 2
"""


@pytest.mark.once
class TestFunction:
    @pytest.mark.parametrize(
        "result",
        [
            "x, y, x[:5], y[:5]",
            "(x, y), (x[:5], y[:5])",
            "[x.tolist(), y.tolist(), x[:5].tolist(), y[:5].tolist()]",
            "dict(x_train=x, y_train=y, x_test=x[:5], y_test=y[:5])",
            "dict(train=(x, y), test=(x[:5], y[:5]))",
            "dict(train=({'': x}, y), test=(x[:5], y[:5]), validation=None)",
            "types.SimpleNamespace(x_train=x, y_train=y, x_test=x[:5], y_test=y[:5])",
        ],
    )
    def test_every_form_of_result_is_understood(self, function, result):
        body = f"import types\n{ARRAYS}\ndef load():\n    return {result}\n"
        data = load_data(function(body))
        assert data.train[0].shape == (18, 3) and data.validation[0].shape == (2, 3)
        np.testing.assert_array_equal(data.test[0], np.arange(15.0).reshape(5, 3))
        np.testing.assert_array_equal(data.test[1], [0, 1, 0, 1, 0])
        assert data.source.startswith("function user_module_")

    def test_two_examples_are_not_taken_for_pairs(self, function):
        body = f"{ARRAYS}\ndef load():\n    return x[:2], y[:2]\n"
        with pytest.raises(DataError, match="single .x, y. lacks the test part"):
            load_data(function(body))

    def test_a_dataset_of_ours_is_understood(self):
        data = load_data("penjing.data.datasets:load_dataset")
        assert np.bincount(data.validation[1]).tolist() == [100] * 10
        np.testing.assert_array_equal(data.test[0], load_dataset().x_test)

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            ("def laod():\n    pass\n", r"has no function 'load'. Did you mean 'laod'"),
            ("load = 3\n", r"has no function 'load'"),
            ("def load():\n    1 / 0\n", r"failed with ZeroDivisionError: division by"),
            (
                "import nothing_here\n",
                r"Cannot import .*No module named 'nothing_here'",
            ),
            ("def load(:\n", r"Cannot import .*SyntaxError"),
            ("def load():\n    return 3\n", r"gave a int. Allowed: \(\(x_train"),
            ("def load():\n    return {}\n", r"lacks x_train; it has nothing"),
            (
                "def load():\n    return {'train': iter([]), 'test': []}\n",
                r"'train' of function .* A generator runs only once",
            ),
            (
                f"{ARRAYS}\ndef load():\n    return {{'train': x, 'test': x}}\n",
                r"'train' of function .* is a ndarray. Allowed: \(x, y\)",
            ),
            (
                f"{ARRAYS}\ndef load():\n"
                "    return {'train': (x, y), 'x_train': x, 'y_train': y}\n",
                r"has 'train' twice",
            ),
            (
                f"{ARRAYS}\ndef load():\n    return {{'train': (x, y)}}\n",
                r"lacks x_test; it has train",
            ),
        ],
    )
    def test_a_function_that_fails_says_where(self, function, body, message):
        with pytest.raises(DataError, match=message):
            load_data(function(body))

    def test_an_unknown_module_says_where_it_was_looked_for(
        self, tmp_path, monkeypatch
    ):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "path", list(sys.path))
        with pytest.raises(DataError, match="'no_such_module' .* looked for in"):
            load_data("no_such_module:load")


class Batches(keras.utils.PyDataset):
    """Four batches of five examples."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        rows = np.arange(15.0, dtype=np.float32).reshape(5, 3) + index
        return rows / 20, np.arange(5) % 2


def loader_of_this_backend():
    x, y = np.ones((20, 3), np.float32), np.arange(20) % 2
    if keras.backend.backend() == "tensorflow":
        tf = pytest.importorskip("tensorflow")
        return tf.data.Dataset.from_tensor_slices((x, y)).batch(5)
    if keras.backend.backend() == "torch":
        data = pytest.importorskip("torch.utils.data")
        torch = pytest.importorskip("torch")
        pairs = data.TensorDataset(torch.tensor(x), torch.tensor(y))
        return data.DataLoader(pairs, batch_size=5)
    return Batches()


@pytest.mark.parametrize("make", [Batches, loader_of_this_backend])
def test_loaders_are_kept_checked_and_can_be_trained_on(function, make):
    spec = function("parts = {}\ndef load():\n    return parts\n")
    with pytest.raises(DataError):  # imports the module, which is still empty
        load_data(spec)
    loader = make()
    sys.modules[spec.split(":")[0]].parts.update(train=loader, test=loader)
    data = load_data(spec)
    assert data.train is loader and data.test is loader and data.validation is None
    model = classifier()
    data.validate_against(model)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss)
    history = model.fit(data.train, shuffle=False, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    wide = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(
        DataError, match=r"x of train, in its first batch has .* \(3,\)"
    ):
        data.validate_against(wide)


class Unsigned(Batches):
    def __getitem__(self, index):
        x, y = super().__getitem__(index)
        return x, np.asarray(y, np.uint64)


class Endless(Batches):
    num_batches = None


@pytest.mark.once
@pytest.mark.parametrize(
    ("train", "message"),
    [
        (Unsigned(), "'train' gives uint64, which no backend .* Cast it to int64"),
        (Endless(), r"Endless never ends.*leave out `.repeat\(\)`"),
        (
            [(np.ones((2, 3)), np.zeros(2))] * 3,
            "is a list, which Keras cannot train on",
        ),
    ],
)
def test_what_cannot_be_trained_on_is_refused_before(train, message):
    data = UserData(train=train, test=Batches(), source="here")
    with pytest.raises(DataError, match=message):
        data.validate_against(classifier())


def test_pixels_are_those_of_images_alone(tmp_path):
    for spec in (arrays(), "penjing.data.datasets:load_dataset"):
        with pytest.raises(
            DataError, match="folder of images; other .* Leave out `pix"
        ):
            load_data(spec, pixel_maximum=1.0)


def test_unsigned_labels_are_taken_where_they_fit():
    given = {name: array.astype(np.uint64) for name, array in arrays().items()}
    data = load_data({**arrays(), "y_train": given["y_train"]})
    assert data.train[1].dtype == np.int64


def test_arrays_are_validated_part_by_part():
    given = arrays()
    data = UserData(
        train=(given["x_train"], given["y_train"]),
        test=(given["x_test"], given["y_test"] + 1),
        source="here",
    )
    data.validate_against(classifier(classes=3))
    with pytest.raises(DataError, match="y of test has labels from 1 to 2.* 0 to 1"):
        data.validate_against(classifier(classes=2))
    data.validate_against(classifier(classes=2), labels_match_outputs=False)
    with pytest.raises(DataError, match=r"x of train has examples of shape \(3,\)"):
        data.validate_against(build_architecture("article"))
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.source = "there"


@pytest.mark.once
def test_small_files_cannot_ask_for_everything(tmp_path):
    path = tmp_path / "data.npz"
    header = {"descr": "<f4", "fortran_order": False, "shape": (10**12,)}
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("x_train.npy", "w") as file,
    ):
        np.lib.format.write_array_header_1_0(file, header)
    with pytest.raises(DataError, match="has 4,000,000,000,000 bytes, but has 1"):
        load_data(path)
    zeros = arrays() | {"x_train": np.zeros((40, 500_000), np.float32)}
    np.savez_compressed(path, **zeros)
    with pytest.raises(DataError, match=r"unpacks to .*bomb.* PENJING_LIMITS=4"):
        load_data(path)


@pytest.mark.once
def test_weights_of_samples_are_for_training():
    (x, y), weights = (np.ones((6, 2)), np.zeros(6, int)), np.ones(6)
    data = load_data({"train": (x, y, weights), "test": (x, y)}, split=False)
    assert data.train[2].shape == (6,)
    split = load_data({"train": (x, y, weights), "test": (x, y)})
    assert [len(array) for array in split.train] == [5, 5, 5]
    assert len(split.validation) == 2
    with pytest.raises(DataError, match="metrics are measured without: give"):
        load_data({"train": (x, y), "test": (x, y, weights)})
    with pytest.raises(DataError, match=r"one weight for each, of shape \(6,\)"):
        load_data({"train": (x, y, weights[:5]), "test": (x, y)})
