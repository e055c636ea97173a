"""Proofs in a made-up runtime, which is LiteRT and sometimes wrong."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from tests.sparse.sparse_topologies import build_topology, sparse_unchecked
from tests.specializing.graphs import Graph

import penjing
from penjing.errors import ExportError, FileFormatError
from penjing.proof.file_proof import ProvingRuntime, prove
from penjing.runtime.interpreter import TensorSpec
from penjing.specializing import specialize
from penjing.tflite.loading import read_litert
from penjing.tflite.operators import Operator
from penjing.tflite.records import Record

pytestmark = pytest.mark.once


class File:
    def __init__(self, content, error):
        self._interpreter = Interpreter(model_content=content)
        self._interpreter.allocate_tensors()
        self._error = error
        self._given = self._interpreter.get_input_details()
        self._taken = self._interpreter.get_output_details()
        self.inputs = tuple(map(spec, self._given))
        self.outputs = tuple(map(spec, self._taken))

    def feed(self, arrays):
        for detail, array in zip(self._given, arrays, strict=True):
            self._interpreter.set_tensor(detail["index"], array)

    def run(self):
        self._interpreter.invoke()
        values = [self._interpreter.get_tensor(d["index"]) for d in self._taken]
        return [value + self._error for value in values]

    def time(self, runs, *, cold_caches=False):
        return [2.0] * runs


class Session:
    runtime = "Made-up 1.0"

    def __init__(self, engine, *, threads, errors):
        self.asked, self._errors = (engine, threads), errors
        sessions.append(self)

    def load(self, content, where):
        return File(content, self._errors.get(where.rpartition("/")[2], 0.0))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.asked = None


sessions = []


def spec(detail):
    shape = tuple(map(int, detail["shape"]))
    name = detail["name"].partition(":")[0].removeprefix("serving_default_")
    dtype = np.dtype(detail["dtype"]).name
    return TensorSpec(name=name, shape=shape, dtype=dtype)


def made_up(**errors):
    names = {"file": "file.tflite", "twin": "(the same file, dense)"}
    errors = {names.get(key, f"{key}.tflite"): value for key, value in errors.items()}
    return ProvingRuntime(
        name="Made-up",
        start=functools.partial(Session, errors=errors),
        read=read_litert,
        read_twin=read_litert,
        wrong_to_twin="Ask somebody else.",
        wrong_to_python="Ask nobody.",
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    path = folder / "dense.tflite"
    penjing.export_litert(build_topology("mobilenet", size=64), path)
    path.write_bytes(specialize(path.read_bytes()))
    (folder / "file.tflite").write_bytes(sparse_unchecked(path.read_bytes()))
    return folder


def test_a_right_file_passes_in_any_runtime(folder):
    file, twin = folder / "file.tflite", folder / "dense.tflite"
    report = prove(made_up(), file, twin=twin, samples=3, rounds=2, threads=2)
    assert (report.file, report.twin, report.samples) == (str(file), str(twin), 3)
    assert report.difference < 1e-5 and report.python_difference < 1e-5
    assert report.latency.conditions.runtime == "Made-up 1.0"
    assert report.latency.conditions.threads == 2
    assert [row.bytes for row in report.latency.files] == [
        twin.stat().st_size,
        file.stat().st_size,
    ]
    assert (report.ratio, report.latency.files[1].milliseconds) == (1.0, 2.0)
    assert sessions[-1].asked is None, "closed"


def test_without_a_twin_it_is_made(folder):
    report = prove(made_up(), folder / "file.tflite", samples=1, rounds=1)
    assert report.twin == "(the same file, dense)"
    assert report.latency.files[0].bytes > report.latency.files[1].bytes


@pytest.mark.parametrize(
    ("errors", "twin", "message"),
    [
        ({"file": 0.1}, None, "wrong in Made-up.*its dense twin in.*Ask somebody else"),
        (
            {"file": 0.1, "twin": 0.1},
            None,
            "the same file in Python by 0.1.*Ask nobody",
        ),
        ({"file": np.nan}, None, "wrong in Made-up: .* or hold NaN or infinity"),
        ({"dense": 0.1}, "dense", r"gives in Made-up what .*of the same network\?"),
    ],
)
def test_a_wrong_file_is_refused_with_what_to_do(folder, errors, twin, message):
    twin = None if twin is None else folder / f"{twin}.tflite"
    with pytest.raises(ExportError, match=message):
        prove(made_up(**errors), folder / "file.tflite", twin=twin, samples=1)


def test_tolerances_are_those_given(folder):
    wrong, file = made_up(file=0.01), folder / "file.tflite"
    with pytest.raises(ExportError, match="twin in .* by 0.01.*; 0.0001 is allowed"):
        prove(wrong, file, samples=2)
    with pytest.raises(ExportError, match="in Python by 0.01.*; 0.001 is allowed"):
        prove(wrong, file, samples=2, tolerance=1.0)


def test_a_twin_must_be_another_dense_file(folder, tmp_path):
    file, copy = folder / "file.tflite", tmp_path / "copy.tflite"
    copy.write_bytes(file.read_bytes())
    with pytest.raises(ValueError, match="`twin` is the file itself"):
        prove(made_up(), file, twin=file)
    with pytest.raises(ValueError, match="must be a dense file"):
        prove(made_up(), file, twin=copy)


def test_a_twin_must_have_the_same_inputs(folder, tmp_path):
    other = tmp_path / "other.tflite"
    penjing.export_litert(build_topology("mobilenet", size=32), other)
    other.write_bytes(specialize(other.read_bytes()))
    with pytest.raises(ValueError, match="`twin` must be a file of the same network"):
        prove(made_up(), folder / "file.tflite", twin=other)


def test_what_the_runtime_does_not_take_is_not_run(folder):
    def refuse(path):
        raise FileFormatError(f"{path} is not for it.")

    runtime = made_up()
    refusing = ProvingRuntime(**{**vars(runtime), "read": refuse})
    before = len(sessions)
    with pytest.raises(FileFormatError, match="is not for it"):
        prove(refusing, folder / "file.tflite")
    assert len(sessions) == before


@pytest.mark.parametrize("kind", ["i2", "i1"])
def test_integers_of_16_bits_are_as_exact_as_floats(tmp_path, kind):
    """33 steps of int16 are a thousandth of their range; of int8 it is none."""
    net, scale = Graph(), {"scale": 1.0 / np.iinfo(kind).max}
    x, stored = net.tensor([1, 4]), net.tensor([1, 4], kind, **scale)
    y = net.tensor([1, 4])
    net.add(Operator.QUANTIZE, [x], stored, Record("QuantizeOptions"))
    net.add(Operator.DEQUANTIZE, [stored], y, Record("DequantizeOptions"), 3)
    file = tmp_path / "file.tflite"
    file.write_bytes(net.content([x], [y]))
    wrong = made_up(file=0.01, twin=0.01)
    if kind == "i1":
        assert prove(wrong, file, samples=2, rounds=1).python_difference > 0.009
    else:
        with pytest.raises(ExportError, match="in Python by 0.01.*; 0.001 is allowed"):
            prove(wrong, file, samples=2, rounds=1)
