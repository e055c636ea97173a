"""The code blocks of the migration guide, run one after the other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from penjing.tfmot import clustering, experimental, quantization, sparsity

GUIDE = Path(__file__).resolve().parents[1] / "docs" / "migrating-from-tfmot.md"


@pytest.mark.once
def test_the_code_of_the_guide_runs(capsys):
    text = GUIDE.read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    assert len(blocks) == 9
    scope = {"__name__": "guide"}
    for block in blocks:
        exec(compile(block, str(GUIDE), "exec"), scope)
    assert "compressed" in capsys.readouterr().out


@pytest.mark.once
def test_the_guide_lists_every_name():
    text = GUIDE.read_text(encoding="utf-8")
    names = [
        *sparsity.keras.__all__,
        *clustering.keras.__all__,
        *quantization.keras.__all__,
        *quantization.keras.quantizers.__all__,
        *experimental.combine.__all__,
    ]
    missing = [name for name in names if f"`{name}" not in text]
    assert missing == []
