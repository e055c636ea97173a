"""What is told without Keras, and that it is."""

import os
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
import typer

from penjing.cli.early_checks import check_bias_bits, check_early, check_metrics
from penjing.errors import CompressionError, DataError, FileFormatError

pytestmark = pytest.mark.once

# Arguments -> what is said of them.
MISTAKES = """
compress none.keras --data d.npz --out out | There is no file none.keras
compress d.npz --data d.npz --out out | unknown suffix '.npz'. Allowed: .keras
compress m.keras --data none.npz --out out | There is no file none.npz
compress m.keras --data nowhere --out out | There is no data 'nowhere'
compress m.keras --data no_module:load --out out | no such module
compress m.keras --data m.keras --out out | unknown suffix
compress m.keras --data d.npz --out m.keras | Cannot make the output folder
compress m.keras --data d.npz --out m.keras/out | Cannot make the output folder
compress m.keras --data d.npz --out out --recipe defualt | Did you mean `default`
compress m.keras --data d.npz --out out --recipe typo.toml | Did you mean `epochs`
compress m.keras --data d.npz --out out --recipe wrong.toml | Did you mean `prune`
compress m.keras --data d.npz --out out --recipe bad.toml | not valid TOML
compress m.keras --data d.npz --out o --recipe micro --set training.epoch=5 | `epochs`
compress m.keras --data d.npz --out o --recipe micro --set epochs=5 | `training.epochs`
compress m.keras --data d.npz --out o --recipe micro --set epochs | form KEY=VALUE
compress m.keras --data d.npz --out o --recipe micro --set methods.prun.l1=1 | prune`?
compress m.keras --data d.npz --out o --set training.epochs=5 | Give --recipe too
compress m.keras --data d.npz --out o --recipe micro --max-drop 1 | is for a search
compress m.keras --data d.npz --out o --max-bytes 20Q | must be bytes
compress m.keras --data d.npz --out o --max-drop much | must be points
compress m.keras --data d.npz --out o --max-arena 3KB | runtime='micro'
compress m.keras --data d.npz --out o --runtime x68 | Did you mean 'x86'
compress m.keras --data d.npz --out out --import no_module | no module 'no_module'
compress m.keras --data d.npz --out out --pixels 0-2 | '0-255', '0-1'
compress m.keras --data d.npz --out out --seed -1 | --seed
evaluate none.tflite --data d.npz | There is no file none.tflite
evaluate d.npz --data d.npz | unknown suffix
evaluate m.keras --data none.npz | There is no file none.npz
evaluate m.keras --data d.npz --batch-size 0 | --batch-size
inspect none.keras | There is no file none.keras
inspect d.npz | unknown suffix '.npz'
inspect m.keras --runtime arms | Did you mean 'arm'
sensitivity none.keras --data d.npz --out out | There is no file none.keras
sensitivity m.keras --data d.npz --out out --ratios 2 | --ratios
sensitivity m.keras --data d.npz --out m.keras | Cannot make the output folder
export none.keras x.tflite | There is no file none.keras
export d.npz x.tflite | unknown suffix '.npz'
export m.keras x.bin | must end in .tflite
export m.keras none/x.tflite | the folder none does not exist
export m.keras here.tflite | There is a file here.tflite already
export m.keras x.tflite --quantization int9 | Did you mean 'int8'
export m.keras x.tflite --quantization int8 --data none.npz | There is no file none.npz
export m.keras x.tflite --quantization int8 --data none.npy | There is no file none.npy
export m.keras x.tflite --encoding packed | Add --runtime micro
export m.keras x.tflite --encoding sparse | --runtime x86, arm or wasm
export m.keras x.tflite --encoding sparse --runtime x86 --quantization int8 | fail
export m.keras x.tflite --max-arena 9 | --encoding packed
export m.keras x.tflite --runtime micro --quantization dynamic | Use float32, int8
export m.keras x.tflite --input-type int8 | Allowed: float32
export m.keras x.tflite --observer mse | Use int8, int8x4
export m.keras x.tflite --float-layers auto | --float-layers goes with int8 activations
export m.keras x.tflite --runtime phone | --runtime
export m.keras x.tflite --import no_module | no module 'no_module'
shrink none.tflite | There is no file none.tflite
shrink m.keras --out none/x.tflite | the folder none does not exist
shrink m.keras --tolerance 2 | --tolerance
shrink m.keras --bias-bits 24 | --bias-bits
benchmark m.keras none.tflite | There is no file none.tflite
benchmark m.keras --threads 0 | --threads
verify none.tflite | There is no file none.tflite
verify m.keras --inputs none.npy | There is no file none.npy
verify m.keras --inputs nowhere | There is no data 'nowhere'
verify m.keras --twin none.tflite | There is no file none.tflite
demo --recipe defualt | Did you mean `default`
demo --out m.keras | Cannot make the output folder
demo --data-dir . | is bundled
"""
PROGRAM = """
import contextlib, io, sys
from penjing.cli import main
for line in sys.stdin.read().strip().splitlines():
    arguments, _, wanted = line.partition(" | ")
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors):
        code = main(arguments.split())
    said = " ".join(errors.getvalue().replace("\u2502", " ").split())
    assert code in (1, 2), (arguments, code)
    assert wanted in said, (arguments, said)
    assert "keras" not in sys.modules, arguments
"""


def test_mistakes_are_told_before_keras_is_loaded(tmp_path):
    (tmp_path / "m.keras").write_bytes(b"not looked into")
    (tmp_path / "d.npz").write_bytes(b"not looked into")
    (tmp_path / "here.tflite").write_bytes(b"not looked into")
    (tmp_path / "typo.toml").write_text("[training]\nepoch = 3\n")
    (tmp_path / "wrong.toml").write_text("[[methods]]\nmethod = 'prun'\n")
    (tmp_path / "bad.toml").write_text("[training\n")
    before = sorted(os.listdir(tmp_path))
    paths = [os.path.abspath(path) for path in sys.path if path]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=MISTAKES,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "COLUMNS": "300"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(os.listdir(tmp_path)) == before


def test_what_is_there_passes_and_leaves_no_trace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("m.h5").write_bytes(b"x")
    Path("own.py").write_text("raise RuntimeError('imported')")
    check_early(
        models=[Path("m.h5")],
        suffixes=[".h5"],
        data="own:load",
        recipe="article",
        out=Path("a/b"),
        imports=["own", "json.decoder", "sys"],
    )
    assert sorted(os.listdir(".")) == ["m.h5", "own.py"]
    # Keras comes next, and must not find what lies here.
    assert not {"", str(tmp_path)} & set(sys.path)


def test_modules_are_found_as_imports_find_them(monkeypatch):
    """A package that is installed to be edited may have a finder of its own."""

    class Finder:
        def find_spec(self, name, path=None, target=None):
            return ModuleSpec(name, None) if name == "edited_package" else None

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder()])
    check_early(data="edited_package.data:load", imports=["edited_package.layers"])
    for name in ("edited_packages", "", ".relative"):
        with pytest.raises(CompressionError, match="no module"):
            check_early(imports=[name])


def test_folders_are_no_models_and_folders_of_images_are_data(tmp_path):
    with pytest.raises(FileFormatError, match="is a folder"):
        check_early(models=[tmp_path])
    check_early(data=str(tmp_path))


def test_metrics_are_known_by_keras():
    check_metrics(["accuracy", "mae"])
    check_metrics(None)
    with pytest.raises(DataError, match="no metric 'accurcy'. Did you mean 'accuracy'"):
        check_metrics(["mae", "accurcy"])


def test_numbers_of_shrink():
    for bits in (None, "auto", 0, 23):
        check_bias_bits(bits, 0.5)
    for bits, tolerance in ((24, 0.0), ("many", 0.0), (None, float("nan")), (3, -1.0)):
        with pytest.raises(typer.BadParameter):
            check_bias_bits(bits, tolerance)


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0,
    reason="everything is writable to root, and folders of Windows to all",
)
def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(CompressionError, match="Cannot make the output folder"):
        check_early(out=tmp_path / "out")


def test_a_folder_whose_name_is_not_utf8_is_refused(tmp_path):
    with pytest.raises(CompressionError, match=r"caf\\udce9 is not UTF-8"):
        check_early(out=tmp_path / os.fsdecode(b"caf\xe9"))
