"""Which form each constant gets: the one with which the finished file is smallest."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from penjing.packing.decode_operators import insert_decoders
from penjing.packing.forms import Encoded, all_forms, huffman, huffman_size
from penjing.packing.packable import Constant
from penjing.tflite.cleaning import share_buffers, sort_tensors
from penjing.tflite.records import Record
from penjing.tflite.writing import write_records

# What operators, tensors and alignment may take, of which a file is the only judge.
_UNSURE_BYTES = 64
_SURE_BYTES = 1024
_ORDERS = ("type", "size", "falling size")

Forms = tuple[Encoded | None, ...]
Tick = Callable[[int, int], object]


class PackedFiles:
    """The files that one model becomes, each combination of forms written once."""

    def __init__(self, model: Record, constants: Sequence[Constant]) -> None:
        self.constants = constants
        self._model = model
        self._sizes: dict[Forms, int] = {}
        self._found: dict[int, list[Encoded]] = {}

    def write(self, forms: Forms) -> bytes:
        """The file with these forms."""
        model = self._model.copy()
        insert_decoders(model, self.constants, forms)
        share_buffers(model)
        return write_records(model)

    def smallest(self, forms: Forms) -> bytes:
        """The file with these forms, its tensors in the order that leaves least gaps.

        Tensors have other numbers in it than in the model.
        """
        files = [self.write(forms)]
        model = self._model.copy()
        insert_decoders(model, self.constants, forms)
        for order in _ORDERS:
            sorted_model = model.copy()
            sort_tensors(sorted_model, by=order)
            share_buffers(sorted_model)
            files.append(write_records(sorted_model))
        return min(files, key=len)

    def size(self, forms: Forms) -> int:
        """Its bytes."""
        if forms not in self._sizes:
            self._sizes[forms] = len(self.write(forms))
        return self._sizes[forms]

    def choose(
        self, allowed: Sequence[bool], tick: Tick = lambda done, total: None
    ) -> Forms:
        """The smallest file's forms; None for constants that stay as they are.

        Args:
            allowed: For each constant whether it may be encoded.
            tick: Told of constants that are done, and of all.
        """
        found = [
            self._kinds(place) if is_allowed else []
            for place, is_allowed in enumerate(allowed)
        ]
        forms: Forms = tuple(
            kinds[0] if kinds and kinds[0].size < constant.size else None
            for constant, kinds in zip(self.constants, found, strict=True)
        )
        for place, kinds in enumerate(found):
            forms = self._choose_one(forms, place, kinds)
            tick(place + 1, len(found))
        return self._share_codes(forms)

    def _kinds(self, place: int) -> list[Encoded]:
        if place not in self._found:
            self._found[place] = all_forms(self.constants[place])
        return self._found[place]

    def _choose_one(self, forms: Forms, place: int, kinds: Sequence[Encoded]) -> Forms:
        if forms[place] is None:
            return forms
        likely: list[Encoded | None] = [
            kind for kind in kinds if kind.size <= kinds[0].size + _UNSURE_BYTES
        ]
        if kinds[0].size + _SURE_BYTES > self.constants[place].size:
            likely.append(None)
        tried = [(*forms[:place], kind, *forms[place + 1 :]) for kind in likely]
        return min(tried, key=self.size) if len(tried) > 1 else forms

    def _share_codes(self, forms: Forms) -> Forms:
        """Join prefix codes where one stored for several constants wins bytes."""
        places = [n for n, f in enumerate(forms) if f and f.form == "huffman"]
        groups: list[list[int]] = []
        for place in sorted(places, key=lambda n: -self.constants[n].size):
            group = max(groups, key=lambda found: self._gain(found, place), default=[])
            if group and self._gain(group, place) > -_UNSURE_BYTES:
                shared = self._with_code(forms, [*group, place])
                if self.size(shared) < self.size(forms):
                    forms = shared
                    group.append(place)
                    continue
            groups.append([place])
        return forms

    def _gain(self, group: Sequence[int], place: int) -> int:
        """Bytes that a code wins by serving one more constant, without its records."""
        sizes = [
            huffman_size([self.constants[n] for n in numbers])
            for numbers in (group, [place], [*group, place])
        ]
        return sizes[0] + sizes[1] - sizes[2]

    def _with_code(self, forms: Forms, places: Sequence[int]) -> Forms:
        encoded = huffman([self.constants[n] for n in places])
        changed = dict(zip(places, encoded, strict=True))
        return tuple(changed.get(n, form) for n, form in enumerate(forms))
