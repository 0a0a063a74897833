"""Training steps written by hand in NumPy: every call has `out=`, nothing is allocated.

This is what a patient person would write for one fixed network; `benchmarks.steps` compares
lazygrad with it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class MLPStep:
    """One SGD step of a ReLU network with biases; subclasses add the loss and its gradient."""

    def __init__(self, weights: list[Array], biases: list[Array], batch: int, lr: float) -> None:
        self.w, self.b, self.lr = weights, biases, np.float32(lr)
        sizes = [weights[0].shape[1], *(w.shape[0] for w in weights)]
        f32 = np.float32
        self.x = np.empty((batch, sizes[0]), f32)
        self.acts = [self.x, *(np.empty((batch, n), f32) for n in sizes[1:])]
        self.grads = [np.empty((batch, n), f32) for n in sizes]
        self.dw = [np.empty_like(w) for w in weights]
        self.db = [np.empty_like(b) for b in biases]
        self.dead = [np.empty((batch, n), np.bool_) for n in sizes]
        self.wt = [w.T for w in weights]

    def forward(self, x: Array) -> Array:
        """Scores of a batch."""
        np.copyto(self.x, x)
        last = len(self.w) - 1
        for i, (wt, b) in enumerate(zip(self.wt, self.b, strict=True)):
            out = self.acts[i + 1]
            np.matmul(self.acts[i], wt, out=out)
            np.add(out, b, out=out)
            if i < last:
                np.maximum(out, 0, out=out)
        return self.acts[-1]

    def backward(self) -> None:
        """Gradients and the update; the gradient of the scores is in `self.grads[-1]`."""
        for i in range(len(self.w) - 1, -1, -1):
            g = self.grads[i + 1]
            np.matmul(g.T, self.acts[i], out=self.dw[i])
            np.add.reduce(g, axis=0, out=self.db[i])
            if i:
                down = self.grads[i]
                np.matmul(g, self.w[i], out=down)
                np.less_equal(self.acts[i], 0, out=self.dead[i])
                np.copyto(down, 0, where=self.dead[i])
        self.update()

    def update(self) -> None:
        """Plain SGD; the gradients stay readable for their owner until the next step."""
        for p, g in zip([*self.w, *self.b], [*self.dw, *self.db], strict=True):
            np.multiply(g, self.lr, out=g)
            np.subtract(p, g, out=p)


class ClassifierStep(MLPStep):
    """Softmax cross entropy on class indices, mean over the batch."""

    def __init__(self, weights: list[Array], biases: list[Array], batch: int, lr: float) -> None:
        super().__init__(weights, biases, batch, lr)
        self.rows = np.arange(batch)
        self.top = np.empty((batch, 1), np.float32)
        self.total = np.empty((batch, 1), np.float32)
        self.shifted = np.empty_like(self.acts[-1])
        self.inverse = np.float32(1.0 / batch)

    def step(self, x: Array, y: Array) -> float:
        """One step; returns the loss before it."""
        scores, g = self.forward(x), self.grads[-1]
        np.maximum.reduce(scores, axis=1, keepdims=True, out=self.top)
        np.subtract(scores, self.top, out=self.shifted)
        np.exp(self.shifted, out=g)
        np.add.reduce(g, axis=1, keepdims=True, out=self.total)
        np.divide(g, self.total, out=g)
        np.log(self.total, out=self.total)
        loss = (self.total[:, 0] - self.shifted[self.rows, y]).mean()
        g[self.rows, y] -= 1
        np.multiply(g, self.inverse, out=g)
        self.backward()
        return float(loss)


class MarginStep(MLPStep):
    """micrograd's loss: mean hinge plus 1e-4 times the sum of squares of all parameters."""

    alpha = np.float32(1e-4)

    def __init__(self, weights: list[Array], biases: list[Array], batch: int, lr: float) -> None:
        super().__init__(weights, biases, batch, lr)
        self.margin = np.empty((batch, 1), np.float32)
        self.inverse = np.float32(1.0 / batch)
        self.scaled = [np.empty_like(p) for p in [*weights, *biases]]

    def step(self, x: Array, y: Array) -> float:
        """One step on targets -1 / 1 of shape (batch, 1)."""
        scores, g, margin = self.forward(x), self.grads[-1], self.margin
        np.multiply(scores, y, out=margin)
        np.subtract(1, margin, out=margin)
        np.less_equal(margin, 0, out=self.dead[-1])
        np.maximum(margin, 0, out=margin)
        squares = sum(float(np.dot(p.ravel(), p.ravel())) for p in [*self.w, *self.b])
        loss = float(margin.mean()) + float(self.alpha) * squares
        np.multiply(y, -self.inverse, out=g)
        np.copyto(g, 0, where=self.dead[-1])
        self.backward()
        return loss

    def update(self) -> None:
        """SGD on the gradient plus the penalty's."""
        two = np.float32(2) * self.alpha
        params, grads = [*self.w, *self.b], [*self.dw, *self.db]
        for p, g, s in zip(params, grads, self.scaled, strict=True):
            np.multiply(p, two, out=s)
            np.add(g, s, out=g)
        super().update()
