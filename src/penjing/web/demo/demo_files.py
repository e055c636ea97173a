"""The files that the page loads: trained on real images, pruned, and proved."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
from pathlib import Path

import keras
import numpy as np

from penjing.data.architectures import build_architecture
from penjing.data.datasets import SMALL, Dataset, load_dataset
from penjing.engine.pruning import prune
from penjing.engine.schedules import PolynomialDecay
from penjing.engine.stripping import strip
from penjing.errors import MissingDependencyError
from penjing.export.litert import export_litert
from penjing.files import write_bytes, write_text
from penjing.models.model_files import load_keras_model
from penjing.pipeline.recipe import TrainingRecipe
from penjing.pipeline.runs.model_writing import write_keras
from penjing.pipeline.runs.output_folder import claim_outputs, output_folder
from penjing.pipeline.runs.random_state import set_global_seeds
from penjing.pipeline.runs.run_state import RunState, digest_of
from penjing.pipeline.training import build_optimizer, train
from penjing.pipeline.training_data import TrainingData
from penjing.progress import Listener, Progress, listening
from penjing.proof.file_proof import prove
from penjing.proof.verify_report import VerifyReport
from penjing.sparse.dense_twin import dense_twin
from penjing.version import __version__
from penjing.web.wasm_verification import WASM

CLASSES = (
    *("T-shirt", "Trousers", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
SPARSITY = 0.9
_POINTWISE = "block*_conv"
_SIDE = 64
_CHANNELS = 3
_BATCH_SIZE = 128
BASELINE_EPOCHS = 3
EPOCHS = 4
_LEARNING_RATE = 3e-3
_MOMENTUM = 0.9  # of the statistics; Keras' own needs more steps than there are
_RAMP = 0.5  # of the steps; the rest trains with the last mask
_PICTURES_PER_CLASS = 4
_SAMPLES = 8
_NETWORK = "mobilenet"
_TITLES = {"baseline": "Training the baseline", "sparse": "Pruning"}
_MODELS = ("dense.tflite", "sparse.tflite")
_DESCRIPTIONS = ("demo.json", "pictures.bin")
_SETTINGS = [
    SPARSITY,
    _SIDE,
    _BATCH_SIZE,
    _LEARNING_RATE,
    _RAMP,
    _MOMENTUM,
    _PICTURES_PER_CLASS,
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class BrowserFiles:
    """What `build_browser_files` made.

    Attributes:
        folder: Where `dense.tflite`, `sparse.tflite`, `demo.json` and `pictures.bin`
            are.
        accuracy: Of the network before it was pruned (`baseline`) and of the sparse one
            (`sparse`), on the test images.
        proof: How the two files compare in WebAssembly; None where Node is missing.
    """

    folder: Path
    accuracy: dict[str, float]
    proof: VerifyReport | None


def build_browser_files(
    *,
    out: str | os.PathLike[str] = "penjing-browser-demo",
    dataset: str = SMALL,
    data_dir: str | os.PathLike[str] | None = None,
    baseline_epochs: int = BASELINE_EPOCHS,
    epochs: int = EPOCHS,
    seed: int = 0,
    restart: bool = False,
    overwrite: bool = False,
    progress: Listener | bool = True,
) -> BrowserFiles:
    """Train a MobileNet-like network, prune its 1x1 convolutions, write both files.

    Images of Fashion-MNIST are enlarged to 64x64 with three channels. What is finished
    is kept: the same call does it once, and goes on where it was killed.

    Args:
        out: Folder for everything; created where it is missing.
        dataset: `"fashion-mnist-small"` (bundled) or `"fashion-mnist"`.
        data_dir: Folder of the full data set.
        baseline_epochs: Epochs before pruning.
        epochs: Epochs of pruning.
        seed: Seed of everything random.
        restart: Begin anew, whatever an earlier run has finished.
        overwrite: Write over files in `out` that no run of penjing wrote.
        progress: True for a bar in terminals and notebooks, False for silence, or a
            function that is told each `penjing.Progress`.

    Returns:
        Where the files are, and what they score.

    Raises:
        CompressionError: If the data or the folder cannot be used.
    """
    models = [f"{name}.keras" for name in _TITLES]
    names = [*models, *_MODELS, *_DESCRIPTIONS]
    with (
        output_folder(out, names, overwrite=overwrite) as folder,
        listening(progress) as listen,
    ):
        work = Work(
            folder=folder,
            data=load_dataset(dataset, data_dir),
            seed=seed,
            epochs={"baseline": baseline_epochs, "sparse": epochs},
            progress=listen,
        )
        listen(
            Progress(stage=f"Data: {work.data.name}, {work.data.source}", notice=True)
        )
        digest = work.digest()
        state = RunState(work.folder / ".state" / "browser", digest, restart=restart)
        accuracy = {}
        for name in work.epochs:
            path = work.folder / f"{name}.keras"
            training = RunState(work.folder / ".state" / name, digest, restart=restart)
            stage = functools.partial(work.train, name, path, training)
            accuracy[name] = float(state.run_stage(name, [path], stage))
        state.run_stage(
            "export", work.files(), functools.partial(work.export, accuracy)
        )
        return BrowserFiles(folder=work.folder, accuracy=accuracy, proof=work.prove())


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Work:
    """The stages, which share data, folder and seed.

    Epochs are those of "baseline" and "sparse".
    """

    folder: Path
    data: Dataset
    seed: int
    epochs: dict[str, int]
    progress: Listener

    def digest(self) -> str:
        """What the result depends on."""
        versions = [__version__, keras.__version__, keras.backend.backend()]
        settings = [*versions, self.seed, self.epochs, _SETTINGS]
        return digest_of([settings, self.data.x_train, self.data.y_train])

    def files(self) -> list[Path]:
        """What the page loads."""
        return [self.folder / name for name in (*_MODELS, *_DESCRIPTIONS)]

    def train(self, name: str, path: Path, state: RunState) -> float:
        """Train the baseline, or prune it while it trains on; gives its accuracy."""
        set_global_seeds(self.seed)
        data = self.data
        source = TrainingData(
            source=(data.x_train, data.y_train), batch_size=_BATCH_SIZE, seed=self.seed
        )
        epochs = self.epochs[name]
        steps = epochs * source.steps_per_epoch
        model = self._untrained() if name == "baseline" else self._pruned(steps)
        recipe = TrainingRecipe(
            epochs=epochs,
            learning_rate=_LEARNING_RATE,
            learning_rate_schedule="cosine",
            warmup=0.1,
        )
        model.compile(
            build_optimizer(recipe, steps),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        title = _TITLES[name]
        train(model, source, epochs, state=state, stage=title, progress=self.progress)
        plain = strip(model) if name == "sparse" else model
        logits = plain.predict(data.x_test, batch_size=_BATCH_SIZE, verbose=0)
        claim_outputs(self.folder, [path.name])
        write_keras(plain.get_layer(_NETWORK), path)
        state.forget_variables()
        return float(np.mean(np.argmax(logits, axis=-1) == data.y_test))

    def _untrained(self) -> keras.Model:
        shape = (_SIDE, _SIDE, _CHANNELS)
        network = build_architecture(
            _NETWORK, shape, classes=len(CLASSES), seed=self.seed
        )
        for layer in network.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = _MOMENTUM
        return _behind_enlarging(network, self.data.x_train.shape[1:])

    def _pruned(self, steps: int) -> keras.Model:
        network = load_keras_model(self.folder / "baseline.keras")
        schedule = PolynomialDecay(
            initial_sparsity=0.3,
            final_sparsity=SPARSITY,
            begin_step=0,
            end_step=max(round(_RAMP * steps), 1),
            frequency=10,
        )
        whole = _behind_enlarging(network, self.data.x_train.shape[1:])
        return prune(whole, schedule, include=[_POINTWISE])

    def export(self, accuracy: dict[str, float]) -> None:
        """Write the two files, and what the page says of them."""
        self.progress(Progress(stage="Writing the two files"))
        model = load_keras_model(self.folder / "sparse.keras")
        dense, sparse, description, pictures = self.files()
        claim_outputs(self.folder, [file.name for file in self.files()])
        shape = (_SIDE, _SIDE, _CHANNELS)
        samples = np.random.default_rng(0).random((_SAMPLES, *shape), "float32")
        export_litert(
            model,
            sparse,
            encoding="sparse",
            runtime="wasm",
            representative_data=samples,
        )
        write_bytes(dense, dense_twin(sparse.read_bytes(), str(sparse)))
        chosen = np.concatenate(
            [
                np.flatnonzero(self.data.y_test == label)[:_PICTURES_PER_CLASS]
                for label in range(len(CLASSES))
            ]
        )
        chosen = chosen.reshape(len(CLASSES), -1).T.reshape(-1)  # classes take turns
        levels = np.rint(255 * self.data.x_test[chosen]).astype(np.uint8)
        write_bytes(pictures, levels.tobytes())
        content = {
            "classes": CLASSES,
            "input_shape": [1, *shape],
            "sparsity": SPARSITY,
            "accuracy": accuracy,
            "test_pictures": len(self.data.y_test),
            "files": {"dense": dense.stat().st_size, "sparse": sparse.stat().st_size},
            "pictures": {
                "side": self.data.x_test.shape[1],
                "labels": self.data.y_test[chosen].tolist(),
            },
        }
        write_text(description, json.dumps(content, indent=1))

    def prove(self) -> VerifyReport | None:
        """Run both files in Node, where it is."""
        self.progress(Progress(stage="Proving the outputs in WebAssembly"))
        dense, sparse, *_ = self.files()
        try:
            return prove(WASM, sparse, twin=dense)
        except MissingDependencyError:
            return None


def _behind_enlarging(network: keras.Model, shape: tuple[int, ...]) -> keras.Model:
    """The network behind layers that enlarge grey images to what it takes."""
    image = keras.Input(shape)
    x = keras.layers.Reshape((*shape, 1))(image)
    x = keras.layers.Resizing(_SIDE, _SIDE, data_format="channels_last")(x)
    x = keras.layers.Concatenate()([x] * _CHANNELS)
    return keras.Model(image, network(x))
