"""Make the bundled data set from the official files, or check that it is theirs.

    python benchmarks/bundle_fashion_mnist.py FOLDER          # writes the bundle
    python benchmarks/bundle_fashion_mnist.py FOLDER --check  # compares the pixels

FOLDER holds the four official `.gz` files of Fashion-MNIST.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import lzma
import sys
from pathlib import Path

import numpy as np

from penjing.data import datasets
from penjing.files import write_bytes

SEED = 0
TRAIN_PER_CLASS = 1_000
TEST_PER_CLASS = 200
TARGET = Path(datasets.__file__).parent / datasets.BUNDLE
# Pixels repeat themselves after any number of bytes, so no alignment bits (`pb`),
# and the neighbouring pixel says most about the next (`lc`).
FILTER = {
    "id": lzma.FILTER_LZMA2,
    "preset": 9 | lzma.PRESET_EXTREME,
    "lc": 4,
    "lp": 0,
    "pb": 0,
}


def balanced_positions(
    labels: np.ndarray, per_class: int, random: np.random.RandomState
) -> np.ndarray:
    """Choose `per_class` positions of every class; sorted, the official order."""
    chosen = [
        random.permutation(np.flatnonzero(labels == label))[:per_class]
        for label in np.unique(labels)
    ]
    return np.sort(np.concatenate(chosen))


def draw(folder: Path) -> dict[str, np.ndarray]:
    """Draw the bundle's arrays from the official files.

    `RandomState` is used because NumPy promises never to change its numbers.
    """
    x_train, y_train, x_test, y_test = datasets.read_folder(folder)
    random = np.random.RandomState(SEED)
    train = balanced_positions(y_train, TRAIN_PER_CLASS, random)
    test = balanced_positions(y_test, TEST_PER_CLASS, random)
    return {
        "x_train": x_train[train],
        "y_train": y_train[train],
        "x_test": x_test[test],
        "y_test": y_test[test],
    }


def digest(arrays: dict[str, np.ndarray]) -> str:
    """SHA-256 of the bytes of the arrays, in the order of their names here."""
    total = hashlib.sha256()
    for array in arrays.values():
        total.update(np.ascontiguousarray(array, dtype=np.uint8).tobytes())
    return total.hexdigest()


def pack(arrays: dict[str, np.ndarray]) -> bytes:
    """Pack arrays as an uncompressed `.npz` inside one xz file."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return lzma.compress(buffer.getvalue(), filters=[FILTER])


def unpack(data: bytes) -> dict[str, np.ndarray]:
    """Undo `pack`."""
    with np.load(io.BytesIO(lzma.decompress(data)), allow_pickle=False) as arrays:
        return dict(arrays)


def main() -> int:
    """Write or check the bundle and print its size and digest."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    arrays = draw(options.folder)
    if not options.check:
        write_bytes(TARGET, pack(arrays))
    same = digest(unpack(TARGET.read_bytes())) == digest(arrays)
    print(f"{TARGET.name}: {TARGET.stat().st_size:,} bytes, pixels {digest(arrays)}")
    print(
        "equal to the official files" if same else "DIFFERENT from the official files"
    )
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
