"""The layouts are the runtime's own: slots, kinds, defaults, numbers of unions."""

from __future__ import annotations

import pytest
from ai_edge_litert import schema_py_generated as schema

from penjing.tflite.table_layouts import LAYOUTS, UNIONS

pytestmark = pytest.mark.once
# What converters of TensorFlow 2.5 and before wrote; the runtime reads none of it.
FORMER = {
    ("SignatureDef", "deprecated_tag"),
    ("ResizeBilinearOptions", "new_height"),
    ("ResizeBilinearOptions", "new_width"),
}


def theirs(union):
    values = vars(getattr(schema, union))
    named = {n: name for name, n in values.items() if isinstance(n, int) and n}
    return [named[n] for n in sorted(named)]


@pytest.mark.parametrize("union", sorted(UNIONS))
def test_unions_have_the_same_tables_in_the_same_order(union):
    assert UNIONS[union] == theirs(union)


@pytest.mark.parametrize("table", sorted(LAYOUTS))
def test_each_slot_is_where_the_runtime_looks_for_it(table):
    """Their accessors name the offset: 4 for the first slot, 6 for the next."""
    accessors = vars(getattr(schema, table))
    for field in LAYOUTS[table]:
        name = "".join(w[:1].upper() + w[1:] for w in field.name.split("_"))
        if (table, field.name) in FORMER:
            assert name not in accessors
            continue
        offsets = [c for c in accessors[name].__code__.co_consts if isinstance(c, int)]
        slot = field.slot + (field.kind == "union")
        assert 4 + 2 * slot in offsets, (field, offsets)
    slots = [field.slot for field in LAYOUTS[table]]
    assert slots == sorted(set(slots))


def test_a_field_says_what_it_points_to():
    targets = {
        (table, field.name): (field.target, field.may_be_none)
        for table, fields in LAYOUTS.items()
        for field in fields
        if field.target
    }
    assert targets["Tensor", "buffer"] == ("buffer", False)
    assert targets["Operator", "inputs"] == ("tensor", True)
    assert targets["TensorMap", "tensor_index"] == ("tensor", False)
    named = {name for table, name in targets if table not in ("Operator", "SubGraph")}
    words = ("tensor", "buffer", "subgraph", "computation", "scales", "zero_points")
    assert all(any(word in name for word in words) for name in named)
    missing = {
        (table, field.name)
        for table, fields in LAYOUTS.items()
        for field in fields
        if "subgraph_ind" in field.name and not field.target
    }
    assert not missing
