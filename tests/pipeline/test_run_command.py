import shlex

import pytest

from penjing.pipeline.run_command import compress_command
from penjing.recipes.overrides import parse_settings

pytestmark = pytest.mark.once


def test_a_search_is_typed_with_its_bounds():
    bounds = {"max_drop": 0.5, "max_bytes": "20KB", "compressed": False, "time": None}
    assert compress_command("a/my net.keras", "pairs:load", budget=bounds) == (
        "penjing compress 'my net.keras' --data pairs:load --max-drop 0.5 --max-bytes "
        "20KB --uncompressed --seed 0 --out out"
    )
    assert compress_command(object(), "data.npz", budget=bounds) == (
        "penjing.compress(model, data, budget=penjing.Budget(max_drop=0.5, "
        "max_bytes='20KB', compressed=False), seed=0, out='out')"
    )


def test_settings_and_modules_are_typed_too():
    settings = {"training.epochs": 5, "training.loss": "mse", "training.metrics": None}
    text = compress_command(
        "m.keras", "d", "r.toml", overrides=settings, imports=["mine"], pixels="0-1"
    )
    assert "--recipe r.toml --set training.epochs=5" in text
    assert "--set 'training.loss=\"mse\"' --set training.metrics=" in text
    assert "--import mine --pixels 0-1 --seed 0" in text


def test_what_is_typed_can_be_read_again():
    loss = {"name": "SparseCategoricalCrossentropy", "from_logits": True}
    text = compress_command(
        "m.keras", "d", "r", overrides={"training.loss": loss}, accept_baseline=True
    )
    words = shlex.split(text)
    typed = words[words.index("--set") + 1]
    assert parse_settings([typed]) == {"training.loss": loss}
    assert "--accept-baseline" in words
    text = compress_command(object(), "d", imports=["mine"], pixels="0-1", labels=False)
    assert "imports=['mine'], pixels='0-1', labels=False, seed=0" in text
