import dataclasses
import json
import typing

import pytest

import penjing
from penjing.json_values import JsonValue

pytestmark = pytest.mark.once


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row(JsonValue):
    json_properties = ("size",)

    shape: tuple[int, ...]
    scores: dict[str, float]
    pair: tuple[int, str] | None = None

    @property
    def size(self):
        return len(self.shape)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table(JsonValue):
    rows: tuple[Row, ...] = ()
    first: Row | None = None


ROW = Row(shape=(2, 3), scores={"loss": 0.5}, pair=(1, "a"))
TABLE = Table(rows=(ROW, Row(shape=(), scores={})), first=ROW)


def test_everything_is_what_json_has():
    row = {"shape": [2, 3], "scores": {"loss": 0.5}, "pair": [1, "a"], "size": 2}
    empty = {"shape": [], "scores": {}, "pair": None, "size": 0}
    content = TABLE.to_dict()
    assert content == {"rows": [row, empty], "first": row}
    assert json.loads(json.dumps(content)) == content


def test_json_gives_an_equal_value_back():
    assert Table.from_dict(json.loads(json.dumps(TABLE.to_dict()))) == TABLE
    assert Table.from_dict({}) == Table()


def test_keys_that_are_no_field_are_passed_over():
    assert Table.from_dict({"rows": [], "of_a_later_version": 1}) == Table()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"rows": 5}, "5 is no list"),
        ({"rows": {"a": 1}}, "is no list"),
        ({"rows": [5]}, "5 is no Row"),
        ({"rows": [{"shape": []}]}, "scores"),
        ({"first": {"shape": [], "scores": {}, "pair": [1]}}, r"\[1\] has not 2 parts"),
        ([], r"\[\] is no Table"),
        ({"first": {"shape": ["x"], "scores": {}}}, "'x' is no int"),
        ({"first": {"shape": [True], "scores": {}}}, "True is no int"),
        ({"first": {"shape": [], "scores": []}}, r"\[\] is no table"),
        ({"first": {"shape": [], "scores": {"a": "b"}}}, "'b' is no float"),
    ],
)
def test_parts_that_are_missing_or_of_another_kind_are_refused(table, message):
    with pytest.raises(TypeError, match=message):
        Table.from_dict(table)


def test_the_types_of_every_value_in_penjing_are_known_where_it_is_read():
    def all_below(kind):
        return [kind, *(k for below in kind.__subclasses__() for k in all_below(below))]

    kinds = [kind for kind in all_below(JsonValue) if "penjing" in kind.__module__]
    assert penjing.MacsReport in kinds and len(kinds) > 15
    for kind in kinds:
        assert typing.get_type_hints(kind), kind
