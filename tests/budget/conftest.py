import pytest
from tests.untimed_runs import runs_untimed


@pytest.fixture(scope="module", autouse=True)
def untimed():
    with runs_untimed():
        yield
