import pytest
from tests.untimed_runs import runs_without_evidence


@pytest.fixture(scope="module", autouse=True)
def without_evidence():
    with runs_without_evidence():
        yield
