"""Weights of the classes of an ab initio search, and what keeps one class from taking all particles.

Expectation-maximisation feeds whatever class is ahead: a map that is a little sharper fits every particle better, gets
more of them, and is sharper still, until the others starve. Early steps therefore hold the classes equally full: a
class that took more than its share in one step has that much taken off its log-weight in the next (as a controller
would, not as the likelihood asks). Later the weights change over to those that the particles have, and a class that
nearly nobody wants while maps are still being searched begins anew with a few particles of the largest one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from halfmap.typing import Array, FloatArray

BALANCING = 0.5
"""Share of what a class has too much of, in log-weight, that is taken off for the next step."""
REMEMBERED = 0.5
"""Share of the class weights that stays from earlier steps: mini-batches are small."""
EMPTY_FRAC = 0.15
"""A class with less than this share of an average class is empty."""


@dataclass(frozen=True)
class ClassState:
    """The classes between steps.

    Attributes
    ----------
    frac
        Estimated share of the particles in each class, ``[k]``.
    balance
        Log-weights at which the classes were about equally full, ``[k]``.
    posterior
        Weight of each class for each particle, ``[particles, k]``; zeros where it was not looked at yet.
    """

    frac: FloatArray
    balance: FloatArray
    posterior: FloatArray

    @classmethod
    def even(cls, n_particles: int, n_classes: int) -> ClassState:
        """Before the first step."""
        return cls(np.full(n_classes, 1 / n_classes), np.zeros(n_classes), np.zeros((n_particles, n_classes)))

    @property
    def class_of(self) -> Array:
        """Likeliest class of each particle, from 0; -1 where it was not looked at."""
        return np.where(self.posterior.sum(axis=1) > 0, self.posterior.argmax(axis=1), -1)

    def log_weight(self, balanced: float) -> FloatArray:
        """Prior log-weights of a step that holds classes equally full to this degree, 0 to 1."""
        result: FloatArray = balanced * self.balance + (1 - balanced) * np.log(self.frac)
        return result

    def after(self, posterior: FloatArray, rows: Array) -> ClassState:
        """What a step over these particles found."""
        count = posterior[rows].sum(axis=0) + 1.0  # One particle more in each class: no weight becomes zero.
        share = count / count.sum()
        balance = self.balance - BALANCING * np.log(share * len(share))
        return ClassState(
            REMEMBERED * self.frac + (1 - REMEMBERED) * share, balance - balance.mean(), posterior
        )  # fmt: skip

    def empty(self) -> Array:
        """Classes that hold next to nothing, emptiest first."""
        order = np.argsort(self.frac, kind="stable")
        return order[self.frac[order] < EMPTY_FRAC / len(self.frac)]

    def shared(self, empty: int) -> ClassState:
        """An empty class and the largest one with equal weights, their sum as it was."""
        largest = int(self.frac.argmax())
        frac, balance = self.frac.copy(), self.balance.copy()
        frac[[empty, largest]] = (frac[empty] + frac[largest]) / 2
        balance[empty] = balance[largest]
        return replace(self, frac=frac, balance=balance)
