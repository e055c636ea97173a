"""What every test relies on: the package under test, and a clean Keras."""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import os
import random
import signal
import types
from pathlib import Path

import hypothesis
import keras
import numpy as np
import pytest

import penjing

CHECKOUT = Path(__file__).resolve().parents[1]

hypothesis.settings.register_profile(
    "penjing",
    database=None,
    deadline=None,  # the first call of an operation compiles it
    derandomize=True,
    max_examples=30,
)
hypothesis.settings.load_profile("penjing")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--share", metavar="K/N", help="each N-th module from the K-th on, as in 1/2"
    )


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    if config.option.share is None:
        return
    first, count = map(int, config.option.share.split("/"))
    modules = list(dict.fromkeys(item.path for item in items))
    mine = set(modules[first - 1 :: count])
    others = [item for item in items if item.path not in mine]
    config.hook.pytest_deselected(items=others)
    items[:] = [item for item in items if item.path in mine]


def pytest_configure() -> None:
    gc.set_threshold(20_000, 20, 20)  # models are many small objects that stay
    # Ignored where the tests were started in the background, as by programs they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if keras.backend.backend() == "tensorflow":
        spare_the_converter()
    source = CHECKOUT / "src"
    if not Path(str(penjing.__file__)).resolve().is_relative_to(source):
        return
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    wanted = source in [Path(path).resolve() for path in paths if path]
    if not wanted and os.environ.get("PENJING_TEST_SOURCE") != "1":
        raise pytest.UsageError(
            f"The tests would run against {source}, not the installed wheel. Run "
            "`make test`, or set PYTHONPATH=src to test the checkout on purpose."
        )


def spare_the_converter() -> None:
    """Let TensorFlow's converter not load each model twice and collect its garbage.

    The second time is for the places in the source that its errors name, and gives the
    same. Together that is a fifth of a small model's conversion.
    """
    from tensorflow.lite.python import lite

    load, last = lite._load, {}

    def load_once(folder, tags):
        key = folder, Path(folder, "saved_model.pb").stat().st_mtime_ns
        if key not in last:
            last.clear()
            last[key] = load(folder, tags)
        return last[key]

    lite._load = load_once
    lite.gc = types.SimpleNamespace(collect=lambda: 0)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.write_line(
        f"penjing from {Path(str(penjing.__file__)).parent}, "
        f"keras {keras.__version__} on {keras.backend.backend()}"
    )


def set_seeds(seed: int) -> None:
    """`keras.utils.set_random_seed` without loading TensorFlow on other backends.

    Keras draws the seeds that nobody gives from Python's generator.
    """
    random.seed(seed)
    np.random.seed(seed)
    if keras.backend.backend() == "tensorflow":
        importlib.import_module("tensorflow").random.set_seed(seed)
    elif keras.backend.backend() == "torch":
        importlib.import_module("torch").manual_seed(seed)


@pytest.fixture(autouse=True)
def clean_keras():
    """Fixed seed and fresh layer names before, global settings restored after."""
    set_seeds(0)
    keras.utils.clear_session(free_memory=False)
    yield
    keras.config.set_dtype_policy("float32")
    keras.config.enable_traceback_filtering()
    keras.distribution.set_distribution(None)


@pytest.fixture(autouse=True)
def quick_compilations(request):
    """XLA compiles for JAX without optimizing, which takes longer than what runs then.

    Where bits are what a test is about, and for all of `numerics`, it optimizes, as it
    does for users.
    """
    if keras.backend.backend() == "jax":
        marker = request.node.get_closest_marker("optimized_on_jax")
        quick = marker is None and "numerics" not in request.path.parts
        jax = importlib.import_module("jax")
        if jax.config.read("jax_disable_most_optimizations") != quick:
            jax.config.update("jax_disable_most_optimizations", quick)
            jax.clear_caches()  # what was compiled the other way


@pytest.fixture(autouse=True, scope="module")
def short_collections():
    """What earlier modules left is no longer looked at when garbage is collected.

    TensorFlow's converter collects it each time: a third of all tests' time. With
    PyTorch, what Python does by itself is a third.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def kept_converter():
    if keras.backend.backend() == "tensorflow":  # converts in this process
        yield
        return
    from tests.export.kept_converter import KeptConverter

    from penjing.export import isolation

    with pytest.MonkeyPatch.context() as patch:
        kept = KeptConverter()
        patch.setattr(isolation, "WorkerProcess", kept)
        yield
        kept.close()


@pytest.fixture
def untraced():
    """Training steps run untraced, for tests that make few and look at what follows.

    TensorFlow traces a model in training for seconds; JAX compiles either way.
    """
    with training_untraced():
        yield


@pytest.fixture(scope="module")
def untraced_throughout():
    """The same for a whole module, and for fixtures that its tests share."""
    with training_untraced():
        yield


@contextlib.contextmanager
def training_untraced():
    if keras.backend.backend() != "tensorflow":
        yield
        return
    # Keras looks at whether a model has the `compile` of this class.
    trainer = next(kind for kind in keras.Model.__mro__ if "compile" in vars(kind))
    compile_model = trainer.compile

    @functools.wraps(compile_model)
    def compile_untraced(self, *arguments, **options):
        return compile_model(self, *arguments, **{"run_eagerly": True, **options})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "compile", compile_untraced)
        yield


@pytest.fixture(scope="session")
def converted(tmp_path_factory):
    """Folder of model.keras, {float,dynamic,int8,zeros,sparse}.tflite and data.npz.

    In zeros.tflite and sparse.tflite the kernel of `hidden` holds 90 % zeros.
    """
    from tests.tflite.tflite_writer import convert, small_model

    keras.utils.set_random_seed(1)
    folder = tmp_path_factory.mktemp("converted")
    random = np.random.default_rng(0)
    x = random.random((50, 8, 8, 1)).astype("float32")
    model = small_model()
    for layer in model.layers:
        if layer.weights:  # a bias of zeros would be dropped or shared
            kernel, bias = layer.get_weights()
            layer.set_weights([kernel, random.normal(size=bias.shape)])
    model.save(folder / "model.keras")
    kinds = {"float": (), "dynamic": ("DEFAULT",), "int8": ("DEFAULT",)}
    for name, options in kinds.items():
        samples = x[:8] if name == "int8" else None
        data = convert(model, *options, samples=samples)
        (folder / f"{name}.tflite").write_bytes(data)
    kernel, bias = model.get_layer("hidden").get_weights()
    kernel[random.random(kernel.shape) < 0.9] = 0
    model.get_layer("hidden").set_weights([kernel, bias])
    (folder / "zeros.tflite").write_bytes(convert(model))
    data = convert(model, "EXPERIMENTAL_SPARSITY")
    (folder / "sparse.tflite").write_bytes(data)
    np.savez(folder / "data.npz", x=x, kernel=kernel)
    return folder
