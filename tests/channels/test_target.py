"""One number of one kind says how much goes."""

from __future__ import annotations

import numpy as np
import pytest

from penjing.channels.target import ChannelTarget

pytestmark = pytest.mark.once


@pytest.mark.parametrize(
    ("given", "amount"),
    [
        ({"ratio": 0.25}, 150),
        ({"ratio": 0}, 200),
        ({"macs": 0.25}, 50),
        ({"macs": 7}, 7),
        ({"macs": 1}, 1),
        ({"parameters": np.int64(40)}, 40),
        ({"flash": 0.25}, 50),
        ({"flash": 16_000}, 16_000),
        ({"latency": 0.5}, 100),
        ({"latency": " 1.5 ms"}, 1.5),
        ({"latency": "2e-3ms"}, 0.002),
    ],
)
def test_what_may_stay(given, amount):
    target = ChannelTarget(**given)
    ((kind, value),) = given.items()
    assert (target.kind, target.value) == (kind, value)
    assert target.amount(200.0) == pytest.approx(amount)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "Exactly one of .* got none. For example"),
        ({"ratio": 0.5, "macs": 3}, "got ratio=0.5 and macs=3"),
        ({"ratio": 1.0}, r"in \[0, 1\), got 1.0"),
        ({"ratio": True}, "got True"),
        ({"ratio": float("nan")}, "got nan"),
        ({"macs": 1.0}, "`macs` is what stays: .* got 1.0"),
        ({"macs": 0}, "got 0"),
        ({"macs": True}, "got True"),
        ({"parameters": -3}, "`parameters` is what stays: .* got -3"),
        ({"flash": 2.5}, "`flash` is what stays: .* got 2.5"),
        ({"latency": "0 ms"}, "got '0 ms'"),
        ({"latency": "3 s"}, "got '3 s'"),
        ({"latency": 2}, "got 2"),
    ],
)
def test_refusals(given, message):
    with pytest.raises(ValueError, match=message):
        ChannelTarget(**given)
