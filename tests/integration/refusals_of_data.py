"""Refusals of data, data sets, architectures, recipes and whole compressions."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import numpy as np
from tests.integration.refusal import (
    Bench,
    KerasTwoModel,
    Refusal,
    Unbuilt,
    compiled,
    data,
    read_only,
    small,
)

import penjing
from penjing import DataError, RecipeError
from penjing.data import datasets
from penjing.data.architectures import build_architecture
from penjing.data.data_sources import UserData, load_data
from penjing.data.datasets import load_dataset
from penjing.pipeline import compress, load_recipe

sound = data()


def of_data(
    name: str,
    says: str,
    make: Callable[[Bench], Any],
    error: type[Exception] = DataError,
    **more: Any,
) -> Refusal:
    return Refusal(
        name=f"load_data: {name}",
        call=lambda bench: partial(load_data, make(bench), **more),
        error=error,
        says=says,
        once=True,
    )


def npz(**changes: Any) -> Callable[[Bench], Any]:
    return lambda bench: bench.npz(**changes)


def module(name: str, text: str, function: str = "load") -> Callable[[Bench], Any]:
    def make(bench: Bench) -> str:
        bench.patch.syspath_prepend(bench.folder)
        bench.patch.setattr("sys.dont_write_bytecode", True)
        bench.file(f"{name}.py", text)
        return f"{name}:{function}"

    return make


def folder(*names: str) -> Callable[[Bench], Any]:
    def make(bench: Bench) -> Any:
        root = bench.folder / "images"
        root.mkdir()
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(b"no image")
        return root

    return make


def with_nan() -> Any:
    x = sound["x_train"].copy()
    x[4, 2] = np.nan
    return x


DATA = [
    of_data(
        "missing file",
        "There is no file .*none.npz. Allowed: an .npz file with x_train",
        lambda bench: bench.folder / "none.npz",
    ),
    of_data(
        "text in a .npz",
        "Cannot read .*a.npz as .npz .. Write it again with numpy.savez_compressed",
        lambda bench: bench.file("a.npz"),
    ),
    of_data(
        "truncated .npz",
        "Cannot read .*data.npz as .npz",
        lambda bench: bench.cut(bench.npz()),
    ),
    of_data(
        "empty .npz",
        "Cannot read .*a.npz as .npz",
        lambda bench: bench.file("a.npz", b""),
    ),
    of_data(
        "objects in a .npz",
        "Cannot read the arrays in .*data.npz .. Arrays of Python objects are not "
        "allowed: give all examples one shape",
        npz(y_train=np.array([{}] * 24, dtype=object)),
    ),
    of_data(
        "array missing",
        "data.npz lacks y_test; it has x_train, y_train, x_test. Allowed",
        npz(y_test=None),
    ),
    of_data(
        "typo in a name",
        "data.npz has the unknown name 'x_tran'. Did you mean 'x_train'",
        npz(x_tran=sound["x_train"]),
    ),
    of_data(
        "lengths that differ",
        "must have as many examples each, but x_train has 24, y_train has 20. Give",
        npz(y_train=sound["y_train"][:20]),
    ),
    of_data(
        "NaN",
        r"`x_train` has 1 values that are NaN or infinite, the first at \(4, 2\). "
        "Remove those examples",
        npz(x_train=with_nan()),
    ),
    of_data(
        "texts",
        "`y_train` must hold numbers, got dtype <U3. .. Encode texts",
        npz(y_train=np.full(24, "cat")),
    ),
    of_data(
        "no examples",
        r"`x_test` must have at least one example .. got shape \(0, 8\)",
        npz(x_test=sound["x_test"][:0]),
    ),
    of_data(
        "suffix",
        "Cannot read .*a.csv as data: unknown suffix. Allowed",
        lambda bench: bench.file("a.csv"),
    ),
    of_data("nothing", "There is no data 'nowhere'. Allowed", lambda bench: "nowhere"),
    of_data(
        "a number",
        "The data is a int. Allowed: ..x_train, y_train., .x_test, y_test..",
        lambda bench: 3,
    ),
    of_data(
        "module missing",
        "Cannot import 'no_module' for the data 'no_module:f': ModuleNotFoundError",
        lambda bench: "no_module:f",
    ),
    of_data(
        "function missing",
        "has no function 'laod'. Did you mean 'load'",
        module("data_a", "def load(): pass", "laod"),
    ),
    of_data(
        "function fails",
        "The data function 'data_b:load' failed with ZeroDivisionError: division",
        module("data_b", "def load(): return 1 / 0"),
    ),
    of_data(
        "function gives a number",
        "'data_c:load' gave a int. Allowed: ..x_train, y_train., .x_test, y_test..",
        module("data_c", "def load(): return 3"),
    ),
    of_data(
        "function gives a generator",
        "'train' of function data_d:load is a generator. A generator runs only once",
        module("data_d", "def load(): return {'train': (i for i in ()), 'test': 1}"),
    ),
    of_data(
        "folder without classes",
        "images has no class folders. Expected .*<class name>/<image>",
        folder(),
        image_size=(8, 8),
    ),
    of_data(
        "class without images",
        "cats has no images. Remove it or fill it; allowed: .*.png",
        folder("cats/notes.txt"),
        image_size=(8, 8),
    ),
    of_data(
        "broken image",
        "Cannot read the image .*a.png .. Remove it or save it again",
        folder("cats/a.png", "dogs/b.png"),
        image_size=(8, 8),
    ),
    of_data(
        "images without a size",
        r"need `image_size` \(height, width\) .. got None. It is the input shape",
        folder("cats/a.png"),
    ),
    of_data(
        "train without test",
        "has train but no folder 'test'. Add it",
        folder("train/cats/a.png"),
        image_size=(8, 8),
    ),
]


def without_pillow(bench: Bench) -> Any:
    bench.without_extras()
    return folder("cats/a.png", "dogs/b.png")(bench)


DATA.append(
    of_data(
        "Pillow not installed",
        "needs the module `PIL.Image`, which is not installed. .* pip install "
        r'"penjing\[images\]"',
        without_pillow,
        penjing.MissingDependencyError,
        image_size=(8, 8),
    )
)


def user_data(**changes: Any) -> UserData:
    arrays = {**sound, **changes}
    return UserData(
        train=(arrays["x_train"], arrays["y_train"]),
        test=(arrays["x_test"], arrays["y_test"]),
        source="memory",
    )


def validate(model: keras.Model, data: UserData) -> None:
    data.validate_against(model)


def of_fit(name: str, says: str, **changes: Any) -> Refusal:
    return Refusal(
        name=f"validate_against: {name}",
        call=lambda bench: partial(validate, small(), user_data(**changes)),
        error=DataError,
        says=says,
    )


FITS = [
    of_fit(
        "inputs of another shape",
        r"x of train has examples of shape \(5,\), but the model takes \(8,\). Reshape",
        x_train=sound["x_train"][:, :5],
    ),
    of_fit(
        "label out of range",
        r"y of train has labels from 0 to 9, but the model's output of \(3,\) allows 0 "
        "to 2. Number the classes from 0",
        y_train=np.where(sound["y_train"] == 2, 9, sound["y_train"]),
    ),
    of_fit(
        "labels of another shape",
        r"y of test has labels of shape \(2,\), but the model's output is \(3,\). "
        "Allowed",
        y_test=np.zeros((9, 2)),
    ),
    of_fit(
        "fractions as labels",
        "y of train has labels with fractions .. whole numbers from 0 to 2",
        y_train=sound["y_train"] + 0.5,
    ),
    of_fit(
        "inputs by name",
        "x of train is named 'image', but the model has a single input",
        x_train={"image": sound["x_train"]},
    ),
]


def mnist_files(bench: Bench, **replaced: bytes) -> Any:
    """A folder with the four file names, none of them what it should be."""
    for name in datasets._FULL_FILES:
        bench.file(name, gzip.compress(b"\0" * 20))
    for name, content in replaced.items():
        bench.file(datasets_file(name), content)
    return bench.folder


def datasets_file(part: str) -> str:
    return next(name for name in datasets._FULL_FILES if part in name.replace("-", "_"))


def cut_gzip(bench: Bench) -> Any:
    packed = gzip.compress(np.random.default_rng(0).bytes(5000))
    return mnist_files(bench, train_images=packed[:2000])


def nowhere(bench: Bench) -> Any:
    def refuse() -> Any:
        raise OSError("no network")

    bench.patch.setenv("KERAS_HOME", str(bench.folder / "keras"))
    bench.patch.setattr(datasets, "_DEBIAN_FOLDER", bench.folder / "debian")
    bench.patch.setattr(keras.datasets.fashion_mnist, "load_data", refuse)
    return bench.folder / "mine"


def of_named(
    function: Any, name: str, says: str, error: Any, *args: Any, **more: Any
) -> Refusal:
    return Refusal(
        name=f"{function.__name__}: {name}",
        call=lambda bench: partial(
            function,
            *args,
            **{k: v(bench) if callable(v) else v for k, v in more.items()},
        ),
        error=error,
        says=says,
        once=True,
    )


def tiny_dataset() -> datasets.Dataset:
    return datasets.Dataset(name="tiny", source="memory", num_classes=3, **sound)


NAMED = [
    of_named(
        load_dataset,
        "unknown name",
        "Unknown data set 'fashion-mist'. Did you mean 'fashion-mnist'\\? Allowed: "
        "'fashion-mnist-small'",
        DataError,
        "fashion-mist",
    ),
    of_named(
        load_dataset,
        "no name",
        "Unknown data set 3. Allowed: 'fashion-mnist-small'",
        DataError,
        3,
    ),
    of_named(
        load_dataset,
        "a folder for the bundled one",
        r"`data_dir` \(here\) has no use with 'fashion-mnist-small'",
        DataError,
        data_dir="here",
    ),
    of_named(
        load_dataset,
        "truncated gzip",
        "Cannot read .*train-images-idx3-ubyte.gz as gzipped IDX data: .. Delete",
        DataError,
        "fashion-mnist",
        data_dir=cut_gzip,
    ),
    of_named(
        load_dataset,
        "files of something else",
        "as gzipped IDX data: its magic number is 0x0000 instead of 0x0803. Delete",
        DataError,
        "fashion-mnist",
        data_dir=mnist_files,
    ),
    of_named(
        load_dataset,
        "nowhere to be found",
        "was not found: .. data_dir: .*mine does not exist .. no network .. name it "
        r"with `data_dir` \(--data-dir\), or use the bundled",
        DataError,
        "fashion-mnist",
        data_dir=nowhere,
    ),
    of_named(
        build_architecture,
        "unknown name",
        "Unknown architecture 'lenet5'. Did you mean 'lenet-5'\\? Allowed: 'article'",
        ValueError,
        "lenet5",
    ),
    of_named(
        build_architecture,
        "one class",
        "`classes` must be an integer of at least 2, got 1. It is the number of labels",
        ValueError,
        "article",
        classes=1,
    ),
    of_named(
        build_architecture,
        "images too small",
        r"`input_shape` is too small for 'lenet-5': .. got \(8, 8\). Enlarge",
        ValueError,
        "lenet-5",
        input_shape=(8, 8),
    ),
    of_named(
        build_architecture,
        "shape with the batch",
        r"`input_shape` must be \(height, width\) .. got \(None, 28, 28\)",
        ValueError,
        "cnn",
        input_shape=(None, 28, 28),
    ),
    of_named(
        build_architecture,
        "shape a number",
        r"`input_shape` must be \(height, width\) .. got 28",
        ValueError,
        "cnn",
        input_shape=28,
    ),
    of_named(
        build_architecture,
        "negative seed",
        "`seed` must be an integer of at least 0, got -1",
        ValueError,
        "cnn",
        seed=-1,
    ),
]

NAMED += [
    Refusal(
        name=f"with_validation: a fraction of {fraction}",
        call=lambda bench, f=fraction: partial(tiny_dataset().with_validation, f),
        error=ValueError,
        says=f"`fraction` must be between 0 and 1, got {fraction}",
        once=True,
    )
    for fraction in (0, 1.5)
]

METHOD = '[[methods]]\nmethod = "prune"\n'
SCHEDULE = METHOD + "[methods.schedule]\nfinal_sparsity = 0.5\n"


def of_recipe(name: str, says: str, content: Any) -> Refusal:
    """A recipe's text, or a function that makes what is loaded."""

    def call(bench: Bench) -> Any:
        made = content(bench) if callable(content) else bench.file("mine.toml", content)
        return partial(load_recipe, made)

    return Refusal(
        name=f"recipe: {name}", call=call, error=RecipeError, says=says, once=True
    )


RECIPES = [
    of_recipe(
        "unknown name",
        'No recipe "defualt": .. packaged recipes are article, .. '
        "Did you mean `default`",
        lambda bench: "defualt",
    ),
    of_recipe(
        "a folder",
        "No recipe .*: there is no such file",
        lambda bench: bench.folder,
    ),
    of_recipe(
        "a number",
        "A recipe must be given as a Recipe, a name or a path, got an object of type "
        "int. Packaged recipes: article, channels",
        lambda bench: 3,
    ),
    of_recipe(
        "no TOML", "mine.toml is not valid TOML: .. line 1", "[training\nepochs = 3"
    ),
    of_recipe("bytes", "Cannot read the recipe .*mine.toml", b"\xff\xfe\x00"),
    of_recipe("empty", "The recipe has no methods. Add a .* table", ""),
    of_recipe(
        "too large",
        "mine.toml has 1,000,001 bytes; a recipe has at most 1,000,000",
        "#" * 1_000_001,
    ),
    of_recipe(
        "typo in a key",
        "mine.toml, `training`: unknown key `epoch`. Did you mean `epochs`\\? Allowed: "
        "epochs, minimum_steps, batch_size",
        f"[training]\nepoch = 3\n{SCHEDULE}",
    ),
    of_recipe(
        "typo in a deep key",
        r"methods\[0\], `schedule`: unknown key `final_sparcity`. Did you mean "
        "`final_sparsity`",
        METHOD + "[methods.schedule]\nfinal_sparcity = 0.5\n",
    ),
    of_recipe(
        "typo in a value",
        r"methods\[0\], `scope` is 'globl'. Did you mean `global`\? Allowed: layer, "
        "global",
        METHOD + 'scope = "globl"\n[methods.schedule]\nfinal_sparsity = 0.5\n',
    ),
    of_recipe(
        "typo in a method",
        'unknown method "prun". Did you mean `prune`',
        '[[methods]]\nmethod = "prun"\n',
    ),
    of_recipe(
        "unknown quantization",
        "`export`, `quantizations` is 'int3'.* Allowed: float32, dynamic",
        f'{SCHEDULE}[export]\nquantizations = ["int3"]\n',
    ),
    of_recipe(
        "wrong type",
        "`training`, `epochs` must be an integer, got 'three'",
        f'[training]\nepochs = "three"\n{SCHEDULE}',
    ),
    of_recipe(
        "true as a number",
        "`training`, `epochs` must be an integer, got True",
        f"[training]\nepochs = true\n{SCHEDULE}",
    ),
    of_recipe(
        "no table",
        "`training` must be a table of keys, got 3",
        f"training = 3\n{SCHEDULE}",
    ),
    of_recipe(
        "sparsity of 1",
        r"`schedule`: `final_sparsity` must be in \[0, 1\), got 1.0",
        METHOD + "[methods.schedule]\nfinal_sparsity = 1.0\n",
    ),
    of_recipe(
        "begin equals end",
        "`end` must come after `begin`, got begin=0.5 and end=0.5. Both are fractions",
        f"{SCHEDULE}begin = 0.5\nend = 0.5\n",
    ),
    of_recipe("no schedule", r"methods\[0\] needs the key `schedule`", METHOD),
    of_recipe(
        "n:m without m",
        'The pattern "nm" needs the key `m`',
        f'{METHOD}pattern = {{kind = "nm", n = 2}}\n'
        "[methods.schedule]\nfinal_sparsity = 0.5\n",
    ),
]


def of_compress(
    name: str,
    says: str,
    error: type[Exception] = penjing.CompressionError,
    model: Any = compiled,
    data: Any = user_data,
    recipe: Any = "article",
    out: str = "out",
    when: Any = None,
    once: bool = True,
) -> Refusal:
    """A compression that must fail before it has trained."""

    def call(bench: Bench) -> Any:
        given = [v(bench) if _of_bench(v) else v() for v in (model, data)]
        bench.file("file")
        chosen = recipe(bench) if callable(recipe) else recipe
        return partial(compress, *given, chosen, out=bench.folder / out)

    extra = {} if when is None else {"when": when}
    return Refusal(
        name=f"compress: {name}",
        call=call,
        error=error,
        says=says,
        once=once,
        **extra,
    )


def _of_bench(function: Any) -> bool:
    code = getattr(function, "__code__", None)
    return code is not None and code.co_varnames[:1] == ("bench",)


def toml(text: str) -> Callable[[Bench], Any]:
    return lambda bench: bench.file("mine.toml", f"{text}\n{SCHEDULE}")


COMPRESSIONS = [
    of_compress(
        "a model of tf-keras",
        "`model` must be a Keras 3 model or the path .. got an object of type "
        "KerasTwoModel",
        model=KerasTwoModel,
    ),
    of_compress(
        "not built",
        "'mine' is not built, so it has no weights yet. Call it once",
        model=lambda: Unbuilt(name="mine"),
    ),
    of_compress(
        "model file missing",
        "There is no file .*none.keras",
        penjing.FileFormatError,
        model=lambda bench: bench.folder / "none.keras",
    ),
    of_compress(
        "data of no kind",
        "The data is a int. Allowed: ..x_train, y_train., .x_test, y_test..",
        DataError,
        data=lambda: 3,
    ),
    of_compress(
        "data of another shape",
        r"x of train has examples of shape \(5,\), but the model takes \(8,\)",
        DataError,
        data=lambda: user_data(x_train=sound["x_train"][:, :5]),
        once=False,
    ),
    of_compress(
        "label out of range",
        "y of train has labels from 0 to 9",
        DataError,
        data=lambda bench: bench.npz(y_train=np.arange(24) % 10),
    ),
    of_compress(
        "recipe with a typo",
        "unknown key `epoch`. Did you mean `epochs`",
        RecipeError,
        recipe=toml("[training]\nepoch = 3"),
    ),
    of_compress(
        "no loss",
        r"'small' is not compiled and the recipe has no loss. Compile .. \[training\]",
        RecipeError,
        model=small,
    ),
    of_compress(
        "unknown loss",
        "Keras has no loss 'hinje'. Did you mean `hinge`",
        RecipeError,
        recipe=toml('[training]\nloss = "hinje"'),
    ),
    of_compress(
        "unknown metric",
        "Keras has no metric 'acuracy'. Did you mean",
        RecipeError,
        recipe=toml('[training]\nmetrics = ["acuracy"]'),
    ),
    of_compress(
        "a file in place of the folder",
        "Cannot make the output folder .*file: .* Choose another",
        out="file",
    ),
    of_compress(
        "unwritable folder",
        "Cannot make the output folder .*out: Permission denied. Choose another",
        when=read_only,
    ),
]


REFUSALS = [*DATA, *FITS, *NAMED, *RECIPES, *COMPRESSIONS]
