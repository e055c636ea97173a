import keras
import numpy as np
import pytest

from penjing.errors import CompressionError
from penjing.pipeline.runs.run_state import RunState, digest_of

pytestmark = pytest.mark.once


def test_a_finished_stage_runs_once(tmp_path):
    written = tmp_path / "file"
    calls = []

    def stage():
        calls.append(1)
        written.write_text("x" * len(calls))
        return {"n": len(calls)}

    folder = tmp_path / "state"
    assert RunState(folder, "a").run_stage("s", [written], stage) == {"n": 1}
    again = RunState(folder, "a")
    assert again.origin == "resumed"
    assert again.run_stage("s", [written], stage) == {"n": 1}
    written.unlink()
    assert again.run_stage("s", [written], stage) == {"n": 2}
    assert len(calls) == 2


def test_what_came_of_a_stage_is_done_again_with_it(tmp_path):
    trained, calls = tmp_path / "trained", []

    def run(state):
        for name, files in (("read", []), ("train", [trained]), ("score", [])):
            state.run_stage(name, files, lambda n=name: note(n))

    def note(name):
        calls.append(name)
        if name == "train":
            trained.write_text(f"{len(calls)}")
            if len(calls) == 5:
                raise KeyboardInterrupt

    run(RunState(tmp_path / "state", "a"))
    trained.unlink()
    with pytest.raises(KeyboardInterrupt):
        calls.append("again")
        run(RunState(tmp_path / "state", "a"))
    run(RunState(tmp_path / "state", "a"))
    assert calls == ["read", "train", "score", "again", "train", "train", "score"]


def test_another_digest_starts_afresh_and_says_so(tmp_path):
    state = RunState(tmp_path / "state", "a")
    state.run_stage("s", [], lambda: 1)
    state.save_variables([keras.Variable([1.0])], 3)
    changed = RunState(tmp_path / "state", "b")
    assert changed.origin == "changed"
    assert changed.run_stage("s", [], lambda: 2) == 2
    assert changed.restore_variables([keras.Variable([0.0])]) == 0


def test_restart_forgets_quietly(tmp_path):
    RunState(tmp_path / "state", "a").run_stage("s", [], lambda: 1)
    state = RunState(tmp_path / "state", "a", restart=True)
    assert state.origin == "new"
    assert state.run_stage("s", [], lambda: 2) == 2


STAGES = [
    f'{{"digest": "a", "stages": {{"s": {stage}}}}}'
    for stage in (
        "[]",
        "{}",
        "1",
        '{"files": 1, "result": 1, "seconds": 1}',
        '{"files": [1], "result": 1, "seconds": 1}',
    )
]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"digest": 1, "stages": {}}', "\0", 9999 * "[", *STAGES]
)
def test_a_corrupt_manifest_starts_afresh(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    assert RunState(tmp_path, "a").run_stage("s", [], lambda: 2) == 2


def test_variables_come_back_exactly_with_position_and_history(tmp_path):
    values = [np.array([1.5, -2.25], "float32"), np.array(7, "int32")]
    small = keras.Variable([0.1, 3.0], dtype="bfloat16")
    variables = [keras.Variable(v, dtype=str(v.dtype)) for v in values] + [small]
    before = np.asarray(small.value).astype("float32")
    state = RunState(tmp_path / "state", "a")
    state.history.append({"loss": 0.5})
    state.save_variables(variables, 4)
    for variable in variables:
        variable.assign(keras.ops.zeros_like(variable))
    restored = RunState(tmp_path / "state", "a")
    assert restored.restore_variables(variables) == 4
    assert restored.history == [{"loss": 0.5}]
    np.testing.assert_array_equal(np.asarray(variables[0].value), values[0])
    assert int(variables[1].value) == 7
    np.testing.assert_array_equal(np.asarray(small.value).astype("float32"), before)


@pytest.mark.parametrize("damage", ["truncate", "garbage", "shape", "packed"])
def test_damaged_variables_are_refused_with_the_way_out(tmp_path, damage):
    state = RunState(tmp_path, "a")
    state.save_variables([keras.Variable([1.0, 2.0])], 1)
    path = tmp_path / "training.npz"
    if damage == "truncate":
        path.write_bytes(path.read_bytes()[:-40])
    if damage == "garbage":
        path.write_bytes(b"not a zip")
    if damage == "packed":
        content = bytearray(path.read_bytes())
        content[content.find(b"NUMPY") - 1] ^= 255
        content[content.find(b"PK\1\2") + 10] = 8  # it says that it is deflated
        path.write_bytes(content)
    shape = [0.0] if damage == "shape" else [0.0, 0.0]
    with pytest.raises(CompressionError, match="--restart"):
        state.restore_variables([keras.Variable(shape)])


def test_an_unwritable_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CompressionError, match="Choose another output folder"):
        RunState(tmp_path / "file" / "state", "a")


def test_digests_tell_values_types_and_shapes_apart(tmp_path):
    file = tmp_path / "f"
    file.write_bytes(b"1")
    parts = [
        [{"a": 1}],
        [{"a": 2}],
        [np.zeros(4, "int8")],
        [np.zeros((2, 2), "int8")],
        [np.zeros(1, "int32")],
        [b"0"],
        [file],
        [b"0", b"0"],
    ]
    digests = [digest_of(part) for part in parts]
    assert len(set(digests)) == len(parts)
    file.write_bytes(b"2")
    assert digest_of([file]) != digests[6]
    assert digest_of([{"a": 1}]) == digests[0]
