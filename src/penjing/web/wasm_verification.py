"""What proofs need to know of WebAssembly."""

from __future__ import annotations

from pathlib import Path

from penjing.errors import FileFormatError
from penjing.proof.file_proof import ProvingRuntime
from penjing.web.wasm_latency import fixed_content
from penjing.web.wasm_session import WasmSession


def _content(path: Path) -> bytes:
    content, was_free = fixed_content(path)
    if was_free:
        raise FileFormatError(
            f"{path} leaves its batch or other sizes free, and LiteRT.js runs no such "
            "file. Export it with runtime='wasm', which gives it a batch of 1; of a "
            "file alone penjing.shrink_litert(file, out, batch=1) makes one."
        )
    return content


WASM = ProvingRuntime(
    name="LiteRT.js",
    start=WasmSession,
    engine="node",
    read=_content,
    read_twin=lambda path: fixed_content(path)[0],
    wrong_to_twin="Sparse kernels run some networks wrongly and say nothing: use "
    "penjing.prepare_for_sparse_inference, or ship a dense file.",
    wrong_to_python="A dense file is wrong there in the same way. Export it anew with "
    "runtime='wasm', and compare on real `inputs`.",
)
"""LiteRT.js, in Node or in a browser."""
