"""The part of a job's context that the simulation steps use, without processes."""

import pytest

from halfmap.jobs.context import ItemResult


class FakeJob:
    def __init__(self, folder, seed, order):
        self.folder = folder
        self.seed = seed
        self.order = order
        self.lines = []
        folder.mkdir(parents=True, exist_ok=True)

    def log(self, message):
        self.lines.append(message)

    def each(self, label, items, work, *, key):
        done = {key(item): work(item) for item in items[:: self.order]}
        return [ItemResult(item, key(item), done[key(item)]) for item in items]

    def fail(self, code, message):
        raise RuntimeError(f"{code}: {message}")


@pytest.fixture(scope="session")
def make_job():
    """Make a job from a folder, a seed, and 1 or -1: whether items are done in order or backwards."""

    def make(folder, seed=1, order=1):
        return FakeJob(folder, seed, order)

    return make
