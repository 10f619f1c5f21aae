"""Errors that tell a person what is wrong, where, and what to do about it."""

from __future__ import annotations

from pathlib import Path


class HalfmapError(Exception):
    """Base of every error that halfmap raises on purpose.

    Parameters
    ----------
    message
        What is wrong, in one sentence.
    remedy
        What the user can do about it, in one sentence; empty if nothing.
    code
        Stable identifier of the failure mode, e.g. ``"bad-input"``; steps list theirs.
    """

    code = "error"

    def __init__(self, message: str, *, remedy: str = "", code: str | None = None) -> None:
        self.message = message
        self.remedy = remedy
        if code is not None:
            self.code = code
        super().__init__(f"{message} {remedy}".strip())


class BadInputError(HalfmapError):
    """A file or value given by the user cannot be used.

    >>> str(BadInputError("a.mrc", "nx", found=-3, expected="a positive integer", remedy="Write it again."))
    'a.mrc: nx is -3, expected a positive integer. Write it again.'
    """

    code = "bad-input"

    def __init__(
        self,
        file: str | Path,
        field: str,
        *,
        found: object,
        expected: str,
        remedy: str,
        code: str | None = None,
    ) -> None:
        self.file = str(file)
        self.field = field
        self.found = found
        self.expected = expected
        message = f"{file}: {field} is {found}, expected {expected}."
        super().__init__(message, remedy=remedy, code=code)

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process borders; keyword-only arguments need help to be unpickled.
        return (_rebuild_bad_input, (self.file, self.field, self.found, self.expected, self.remedy, self.code))


def _rebuild_bad_input(file: str, field: str, found: object, expected: str, remedy: str, code: str) -> BadInputError:
    return BadInputError(file, field, found=found, expected=expected, remedy=remedy, code=code)


class StepFailedError(HalfmapError):
    """A step ends without its outputs, for a reason that it declared beforehand."""

    code = "step-failed"
