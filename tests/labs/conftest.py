"""What the labs' tests share."""

import pytest

from tools import make_labs


@pytest.fixture(scope="session")
def nbgrader_installed():
    """Skip a test that needs nbgrader, where nbgrader cannot be imported; the other tests run."""
    try:
        make_labs.steps()
    except make_labs.NoNbgraderError as error:
        pytest.skip(str(error))
