"""What proofs need to know of ARM."""

from __future__ import annotations

from penjing.arm.arm_session import ArmSession
from penjing.proof.file_proof import ProvingRuntime
from penjing.runtime.reference_model import FixedModel
from penjing.runtime.timing import litert_path
from penjing.tflite.loading import read_litert

ARM = ProvingRuntime(
    name="LiteRT on ARM",
    start=ArmSession,
    engine="cortex-a72",
    is_timed=False,  # QEMU's times are not a processor's
    read=lambda path: read_litert(litert_path(path)),
    read_twin=lambda path: read_litert(litert_path(path)),
    wrong_to_twin="Sparse kernels run some networks wrongly and say nothing: use "
    "penjing.prepare_for_sparse_inference, or ship a dense file.",
    wrong_to_python="Kernels of ARM compute something else than those of this machine: "
    "compare on real `inputs`, and export it anew.",
    # Not the reference kernels: those in use here round as those of ARM do, bit by bit
    # in int8, and reference ones otherwise, which some networks make much of.
    reference=FixedModel,
)
"""LiteRT on an emulated ARM processor, compared with LiteRT here."""
