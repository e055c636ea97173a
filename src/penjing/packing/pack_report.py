"""What packing saved in flash and what it takes in RAM: never one without the other."""

from __future__ import annotations

import dataclasses

from penjing.json_values import JsonValue
from penjing.text_table import text_table

PLAIN = "plain"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PackedWeight(JsonValue):
    """One constant that an operator reads.

    Attributes:
        name: What the file called it.
        reader: The operator that reads it first, in the schema's name.
        type: Its type, such as "int8".
        form: "table", "tables" (one for each channel), "mask", "huffman", or "plain".
        bits: Bits of an index into tables; 0 for other forms.
        flash_before: Its bytes.
        flash_after: Bytes of what stands for it. Tables that several share count where
            they come first; operators and descriptions of tensors do not count.
        ram: Bytes that it takes in the arena while it is read; 0 where it is plain.
        note: Why it is plain; else empty.
    """

    name: str
    reader: str
    type: str
    form: str
    bits: int
    flash_before: int
    flash_after: int
    ram: int
    note: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PackReport(JsonValue):
    """What `pack_litert` did.

    Attributes:
        path: The file that was written.
        flash_before: Bytes of the plain file.
        flash_after: Bytes of the packed file.
        arena_before: Bytes of the arena that the plain file needs in TFLM.
        arena_after: Bytes of the arena that the packed file needs.
        arena_is_measured: Whether TFLM itself said so. Else both are estimated from
            sizes of tensors, without what kernels and descriptions take.
        compared: On how many inputs the outputs of both files were compared in TFLM and
            found equal, bit for bit; 0 where TFLM is not installed.
        plain_is_right: Whether the plain file was found to give in TFLM what it gives
            in LiteRT; False where one of them is not installed.
        weights: The constants, in the order of their readers.
    """

    path: str
    flash_before: int
    flash_after: int
    arena_before: int
    arena_after: int
    arena_is_measured: bool
    compared: int
    plain_is_right: bool = False
    weights: tuple[PackedWeight, ...]

    @property
    def flash_saved(self) -> int:
        """Bytes that the file is smaller."""
        return self.flash_before - self.flash_after

    @property
    def arena_added(self) -> int:
        """Bytes that the arena is larger."""
        return self.arena_after - self.arena_before

    @property
    def ratio(self) -> float:
        """How many times smaller the file is."""
        return self.flash_before / self.flash_after

    @property
    def proof(self) -> str:
        """How it is known that the packed file computes the same, in a sentence."""
        if not self.compared:
            return (
                "Every constant decodes to its plain bytes. Outputs could not be "
                "compared, nor the plain file's with those in LiteRT: TFLM is not "
                'installed (pip install "penjing[micro]").'
            )
        litert = (
            "The plain file gives there what it gives in LiteRT, but for rounding."
            if self.plain_is_right
            else "Whether the plain file is right there was not checked: LiteRT is not "
            'installed (pip install "penjing[litert]").'
        )
        return (
            f"Outputs in TFLM equal the plain file's, bit for bit, on "
            f"{self.compared} inputs. {litert}"
        )

    def __str__(self) -> str:
        rows = [("", "form", "flash", "packed", "RAM", "")]
        rows += [
            (
                f"  {row.name}",
                form_text(row),
                f"{row.flash_before:,}",
                f"{row.flash_after:,}",
                f"{row.ram:,}",
                row.note,
            )
            for row in self.weights
        ]
        table = text_table(rows, "<26", "<", ">10", ">10", ">10", "<")
        return f"{self.path}\n{table}\n{self.totals}\n{self.proof}"

    @property
    def totals(self) -> str:
        """Flash and RAM before and after, in two lines."""
        how = (
            "measured in TFLM"
            if self.arena_is_measured
            else "estimated, the device needs more"
        )
        return (
            f"flash: {self.flash_before:,} -> {self.flash_after:,} bytes "
            f"({self.ratio:.2f}x smaller)\n"
            f"arena: {self.arena_before:,} -> {self.arena_after:,} bytes "
            f"({self.arena_added:+,}, {how})"
        )


def form_text(row: PackedWeight) -> str:
    """The form of a constant in words.

    Example:
        >>> form_text(PackedWeight(name="w", reader="CONV_2D", type="int8",
        ...     form="table", bits=4, flash_before=99, flash_after=70, ram=99))
        'table, 4 bits'
    """
    return f"{row.form}, {row.bits} bits" if row.bits else row.form
