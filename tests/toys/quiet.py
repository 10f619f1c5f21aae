"""A screen for tests: keeps the lines."""

import io

from halfmap.exec.screen import PlainScreen


class Quiet(PlainScreen):
    def __init__(self):
        super().__init__(io.StringIO())

    @property
    def text(self):
        return self.stream.getvalue()
