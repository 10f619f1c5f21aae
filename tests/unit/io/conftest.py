"""What the tests of readers share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from halfmap.errors import BadInputError

MaySucceed = Callable[[Callable[[], Any], Path], bool]


@pytest.fixture
def assert_only_bad_input() -> MaySucceed:
    """Call a reader and tell whether it succeeded; all it may raise is a complete error about the file."""

    def call(reader: Callable[[], Any], path: Path) -> bool:
        failure = None
        try:
            reader()
        except BadInputError as error:
            failure = error
        if failure is not None:
            assert Path(failure.file).name == path.name
            assert all((failure.field, failure.expected, failure.remedy))
        return failure is None

    return call
