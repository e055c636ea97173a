"""Prefix codes and the tables with which TFLM reads them.

A code is known by the lengths of its words; words of the same length have the order of
their symbols. A table has an entry of 16 bits for each value of the next bits. It says
which symbol they start with and how many of them that takes; or where the table for the
bits behind them lies, so that long words need no large table.

Reference:
    https://github.com/tensorflow/tflite-micro,
    `tensorflow/lite/micro/kernels/decode_state_huffman.h`
"""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

_FOUND = 0x8000
_COUNT_SHIFT = 11
_COUNT_MASK = 0xF
_VALUE_MASK = 0x7FF
MAX_WIDTH = 12  # of a table, in bits; the format has 15
MAX_LEVELS = 64
_WORD_BITS = 32
_BITS_AT_ONCE = 2**20
# A lookup more for each number is worth this many bytes of table a number.
_LOOKUP_BYTES = 1 / 256


@dataclasses.dataclass(frozen=True, eq=False)
class Code:
    """A prefix code, and its tables.

    Attributes:
        lengths: Length of the word of each symbol.
        words: The words, each as a number of so many bits.
        peeks: Bits that are looked at to find each symbol, those behind it too.
        width: Bits that the first table takes.
        entries: The tables, one after the other, of `<u2`.
    """

    lengths: Mapping[int, int]
    words: Mapping[int, int]
    peeks: Mapping[int, int]
    width: int
    entries: Array


def make_code(counts: Mapping[int, int]) -> Code:
    """The shortest prefix code for symbols that occur so often.

    Args:
        counts: How often each symbol from -128 to 127 occurs; at least one symbol.

    Returns:
        The code, its tables small at first, then quick.

    Example:
        >>> code = make_code({0: 90, 1: 6, -1: 4})
        >>> dict(code.lengths), dict(code.words)
        ({0: 1, -1: 2, 1: 2}, {0: 0, -1: 2, 1: 3})
    """
    lengths = _lengths(counts)
    words: dict[int, int] = {}
    word = last = 0
    for symbol in sorted(lengths, key=lambda symbol: (lengths[symbol], symbol)):
        word <<= lengths[symbol] - last
        last = lengths[symbol]
        words[symbol] = word
        word += 1
    tables = _Tables(_tree(words, lengths, counts))
    return Code(
        lengths={symbol: lengths[symbol] for symbol in words},
        words=words,
        peeks=tables.peeks,
        width=tables.width,
        entries=np.array(tables.entries, "<u2"),
    )


def _lengths(counts: Mapping[int, int]) -> dict[int, int]:
    if len(counts) == 1:
        return dict.fromkeys(counts, 1)
    heap: list[tuple[int, int, tuple[int, ...]]] = [
        (count, n, (symbol,)) for n, (symbol, count) in enumerate(counts.items())
    ]
    heapq.heapify(heap)
    lengths = dict.fromkeys(counts, 0)
    number = len(heap)
    while len(heap) > 1:
        (first, _, left), (second, _, right) = heapq.heappop(heap), heapq.heappop(heap)
        for symbol in left + right:
            lengths[symbol] += 1
        heapq.heappush(heap, (first + second, number, left + right))
        number += 1
    return lengths


@dataclasses.dataclass(eq=False)
class _Node:
    """A place in the tree of words: a symbol, or what the next bit leads to."""

    symbol: int | None = None
    count: int = 0
    next: list[_Node | None] = dataclasses.field(default_factory=lambda: [None, None])
    width: int = 0
    cost: float = 0.0


def _tree(
    words: Mapping[int, int], lengths: Mapping[int, int], counts: Mapping[int, int]
) -> _Node:
    root = _Node()
    for symbol, word in words.items():
        node = root
        node.count += counts[symbol]
        for place in reversed(range(lengths[symbol])):
            bit = word >> place & 1
            node.next[bit] = inner = node.next[bit] or _Node()
            node = inner
            node.count += counts[symbol]
        node.symbol = symbol
    _choose_widths(root)
    return root


def _choose_widths(node: _Node) -> None:
    """Give each node at which a table starts the width that costs the least."""
    for inner in node.next:
        if inner is not None and inner.symbol is None:
            _choose_widths(inner)
    best = float("inf")
    level = [inner for inner in node.next if inner]
    for width in range(1, MAX_WIDTH + 1):
        open_ends = [inner for inner in level if inner.symbol is None]
        cost = 2.0 * 2**width + node.count * _LOOKUP_BYTES
        cost += sum(inner.cost for inner in open_ends)
        if cost < best:
            best, node.width, node.cost = cost, width, cost
        if not open_ends:
            return
        level = [below for inner in open_ends for below in inner.next if below]


class _Tables:
    """The tables of a tree, the first at the start."""

    def __init__(self, root: _Node) -> None:
        self.entries: list[int] = []
        self.peeks: dict[int, int] = {}
        self.width = root.width
        self._write(root, 0)

    def _write(self, node: _Node, peeked: int) -> int:
        start, width = len(self.entries), node.width
        self.entries += [_FOUND] * 2**width
        self._fill(node, start, width, 0, peeked + width)
        return start

    def _fill(
        self, node: _Node, start: int, width: int, taken: int, peeked: int
    ) -> None:
        """Write the entries from `start` on, which begin with the word of a node."""
        if node.symbol is not None:
            entry = _FOUND | taken << _COUNT_SHIFT | node.symbol & 0xFF
            count = 2 ** (width - taken)
            self.entries[start : start + count] = [entry] * count
            self.peeks[node.symbol] = peeked
        elif taken == width:
            place = self._write(node, peeked) - start
            if place > _VALUE_MASK:
                raise OverflowError(f"a table lies {place} entries away")
            self.entries[start] = (node.width - 1) << _COUNT_SHIFT | place
        else:
            half = 2 ** (width - taken - 1)
            for bit, inner in enumerate(node.next):
                if inner is not None:
                    self._fill(inner, start + bit * half, width, taken + 1, peeked)


def encode_words(values: Array, code: Code) -> bytes:
    """Write numbers one behind the other, in whole words of 32 bits.

    Args:
        values: Flat int8 array, each value a symbol of the code.
        code: The code.

    Returns:
        The bits, the most significant first, and so many behind them as reading the
        last numbers looks at.
    """
    lengths, words, peeks = (
        np.zeros(256, "i8"),
        np.zeros(256, "u8"),
        np.zeros(256, "i8"),
    )
    for symbol, length in code.lengths.items():
        lengths[symbol & 0xFF] = length
        words[symbol & 0xFF] = code.words[symbol]
        peeks[symbol & 0xFF] = code.peeks[symbol]
    symbols = values.view("u1")
    ends = np.cumsum(lengths[symbols])
    starts = ends - lengths[symbols]
    size = int(max((starts + peeks[symbols]).max(), ends[-1]))
    bits = np.zeros(size + -size % _WORD_BITS, "u1")
    for place in range(int(lengths.max())):
        longer = lengths[symbols] > place
        found = symbols[longer]
        shifts = (lengths[found] - 1 - place).astype("u8")
        bits[starts[longer] + place] = (words[found] >> shifts & 1).astype("u1")
    return np.packbits(bits).tobytes()


def decode_words(
    data: bytes, entries: Array, width: int, count: int, fail: Callable[[str], Any]
) -> Array:
    """Read what `encode_words` wrote, or what somebody else says it did.

    Args:
        data: The bits.
        entries: The tables, of `<u2`.
        width: Bits that the first table takes.
        count: Numbers to read.
        fail: Raises what says that the data is corrupt, given the reason.

    Returns:
        Flat int8 array of `count` numbers.
    """
    if count > 8 * len(data):
        fail(f"{8 * len(data):,} bits for {count:,} numbers")
    bits = np.unpackbits(np.frombuffer(data, "u1"))
    padded = np.append(bits, np.zeros(MAX_LEVELS + 1, "u1"))
    values = np.empty(count, "i1")
    done = start = 0
    while done < count:
        size = min(_BITS_AT_ONCE, len(bits) - start, MAX_LEVELS * (count - done))
        if size <= 0:
            fail(f"its bits end after {done:,} of {count:,} numbers")
        part = padded[start : start + size + MAX_LEVELS]
        lengths, symbols = _found_at(part, size, entries, width)
        places = _follow(lengths, count - done)
        if places and lengths[places[-1]] == 0:
            fail("its bits lead out of its tables")
        found = symbols[places]
        values[done : done + len(found)] = found
        done += len(found)
        start += int(places[-1]) + int(lengths[places[-1]])
    if start > len(bits):
        fail("its last number lacks bits")
    return values


def _follow(lengths: Array, count: int) -> list[int]:
    """Places at which words start, from the first on; a length of 0 ends it."""
    places: list[int] = []
    place = 0
    steps = lengths.tolist()
    while place < len(steps) and len(places) < count:
        places.append(place)
        if not steps[place]:
            break
        place += steps[place]
    return places


def _found_at(
    bits: Array, size: int, entries: Array, width: int
) -> tuple[Array, Array]:
    """Length and symbol of the word that would start at each of `size` places.

    A length of 0 says that no word starts there.
    """
    lengths, symbols = np.zeros(size, "i4"), np.zeros(size, "i1")
    at = np.arange(size)  # where the words start that are not yet found
    used = np.zeros(size, "i4")
    offset, widths = np.zeros(size, "i8"), np.full(size, width)
    while len(at):
        taken = (used + widths <= MAX_LEVELS) & (widths > 0)
        at, used, offset, widths = (a[taken] for a in (at, used, offset, widths))
        place = offset + _bits_from(bits, at + used, widths)
        inside = place < len(entries)
        at, used, widths, place = (a[inside] for a in (at, used, widths, place))
        entry = entries[place].astype("i8")
        field = entry >> _COUNT_SHIFT & _COUNT_MASK
        found = (entry & _FOUND != 0) & (field <= widths)
        lengths[at[found]] = (used + field)[found]
        symbols[at[found]] = (entry[found] & 0xFF).astype("u1").view("i1")
        more = entry & _FOUND == 0
        used, widths, at = (used + widths)[more], (field + 1)[more], at[more]
        offset = (place + (entry & _VALUE_MASK))[more]
    return lengths, symbols


def _bits_from(bits: Array, starts: Array, widths: Array) -> Array:
    """The numbers that the next bits make, each of its own width."""
    numbers = np.zeros(len(starts), "i8")
    for place in range(int(widths.max(initial=0))):
        inside = place < widths
        numbers[inside] = numbers[inside] << 1 | bits[starts[inside] + place]
    return numbers
