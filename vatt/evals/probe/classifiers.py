"""Classifiers on features: trained on one or several views of each clip, tested on the mean over its views."""

import functools
import warnings
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.base import ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from vatt.evals.probe.recipes import Recipe
from vatt.metrics import single_label

Scorer = Callable[[np.ndarray], np.ndarray]  # features [N W D] of W views -> scores [N C], averaged over them

ITERATIONS = {"svm": 10_000, "logistic": 2_000}  # most that scikit-learn's solvers take
CROSS = 4  # parts of the training clips, each left out once, by which C is chosen
COMPONENTS, DROPPED, DECAY = 128, 0.9, 0.1  # of the low-rank classifier [VATT appendix A.3.2 and released code]
RATE, BATCH = 5e-4, 64


def fit(
    recipe: Recipe, x: np.ndarray, y: np.ndarray, *, groups: Sequence[str], seed: int, notes: list[str]
) -> tuple[Scorer, float | None]:
    """Trains a classifier.

    Args:
      x: [N V D] features of V views of each clip.
      y: [N] integers below C; each class must occur, and there must be two.
      groups: of N; clips of one group stay together in cross-validation.
      seed: of the low-rank classifier.
      notes: takes what the user should know, such as that a solver did not converge.

    Returns:
      The scorer, and the C that was used (None for the low-rank classifier).
    """
    if recipe.classifier == "low_rank":
        return low_rank(x, y, steps=recipe.steps, seed=seed), None
    C = recipe.C[0] if len(recipe.C) == 1 else best_c(recipe, x, y, groups=groups, notes=notes)
    return linear(recipe, x, y, C=C, notes=notes), C


def linear(recipe: Recipe, x: np.ndarray, y: np.ndarray, *, C: float, notes: list[str]) -> Scorer:
    """StandardScaler, then LinearSVC (decision values) or LogisticRegression (probabilities). Every view is a sample.

    `dual` is pinned: scikit-learn 1.5 changed its default. Both forms have the same optimum; the primal one draws no
    random numbers, and converges.
    """
    if recipe.classifier == "svm":
        model: ClassifierMixin = LinearSVC(C=C, dual=False, max_iter=ITERATIONS[recipe.classifier])  # pyright: ignore[reportArgumentType]
    else:
        model = LogisticRegression(C=C, solver="lbfgs", max_iter=ITERATIONS[recipe.classifier])
    pipeline: Pipeline = make_pipeline(StandardScaler(), model)
    N, V, D = x.shape
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        pipeline.fit(x.reshape(N * V, D), np.repeat(y, V))
    if any(issubclass(warning.category, ConvergenceWarning) for warning in caught):
        notes.append(f"{recipe.classifier} with C {C:g} did not converge in {ITERATIONS[recipe.classifier]} iterations")
    score = pipeline.decision_function if recipe.classifier == "svm" else pipeline.predict_proba

    def scorer(x: np.ndarray) -> np.ndarray:
        N, W, D = x.shape
        scores = score(x.reshape(N * W, D))
        if scores.ndim == 1:  # of two classes, the SVM gives the second one's
            scores = np.stack([-scores, scores], axis=1)
        return scores.reshape(N, W, -1).mean(1)

    return scorer


def best_c(recipe: Recipe, x: np.ndarray, y: np.ndarray, *, groups: Sequence[str], notes: list[str]) -> float:
    """The C of best accuracy on training clips that were left out, groups whole; of several, the smallest. With one
    group alone nothing can be left out, and it is the middle of the grid."""
    grid = sorted(recipe.C)
    parts = min(CROSS, len(set(groups)))
    if parts < 2:
        notes.append(f"the training clips are one group: C is the middle of its grid, {grid[len(grid) // 2]:g}")
        return grid[len(grid) // 2]
    correct = np.zeros(len(grid))
    for train, test in GroupKFold(parts).split(x, y, groups):
        classes, y_train = np.unique(y[train], return_inverse=True)
        known = np.isin(y[test], classes)
        if len(classes) < 2 or not known.any():
            continue
        target = np.searchsorted(classes, y[test][known])
        for i, C in enumerate(grid):
            scorer = linear(recipe, x[train], y_train, C=C, notes=notes)
            correct[i] += single_label(scorer(x[test][known]), target, top=(1,))["top_1"] * known.sum()
    best = grid[int(correct.argmax())]
    if best in (grid[0], grid[-1]) and grid[-1] >= 100 * grid[0]:  # not of the narrow grid that a protocol names
        notes.append(f"the best C, {best:g}, lies at the edge of its grid ({', '.join(f'{C:g}' for C in grid)})")
    return best


def low_rank(x: np.ndarray, y: np.ndarray, *, steps: int, seed: int) -> Scorer:
    """VATT's low-rank classifier: W = U V with 128 components, of which a step keeps each with probability 0.1.

    As its released code has it: dense 128, dropout 0.9, dense and softmax with an L2 penalty of 0.1 on the last
    kernel; Adam at 5e-4, batches of 64 drawn without replacement within an epoch. Features are not standardised.
    Scores are probabilities.
    """
    x, y = x.reshape(-1, x.shape[-1]), np.repeat(y, x.shape[1])
    rng = np.random.default_rng(seed)
    epochs = -(-steps * BATCH // len(y))
    order = np.concatenate([rng.permutation(len(y)).astype(np.int32) for _ in range(epochs)])
    params = _train(
        jnp.asarray(x, jnp.float32),
        jnp.asarray(y),
        order[: steps * BATCH].reshape(steps, BATCH),
        jax.random.key(seed),
        classes=int(y.max()) + 1,
    )

    def scorer(x: np.ndarray) -> np.ndarray:
        return np.asarray(jax.nn.softmax(_logits(params, jnp.asarray(x, jnp.float32), None)).mean(1))

    return scorer


@functools.partial(jax.jit, static_argnames="classes")
def _train(x: jax.Array, y: jax.Array, order: jax.Array, key: jax.Array, *, classes: int) -> dict:
    """Parameters after one step for each row of `order` [steps B], indices of samples."""
    first, second, dropout = jax.random.split(key, 3)
    glorot = jax.nn.initializers.glorot_normal()
    params = {
        "U": glorot(first, (x.shape[-1], COMPONENTS)),
        "u": jnp.zeros(COMPONENTS),
        "V": glorot(second, (COMPONENTS, classes)),
        "v": jnp.zeros(classes),
    }
    optimizer = optax.adam(RATE)

    def loss(params: dict, rows: jax.Array, key: jax.Array) -> jax.Array:
        entropy = optax.softmax_cross_entropy_with_integer_labels(_logits(params, x[rows], key), y[rows])
        return entropy.mean() + DECAY * jnp.square(params["V"]).sum()

    def step(carry, given):
        params, state = carry
        rows, number = given
        grads = jax.grad(loss)(params, rows, jax.random.fold_in(dropout, number))
        updates, state = optimizer.update(grads, state)
        params = jax.tree.map(jnp.add, params, updates)
        return (params, state), None

    steps = jnp.arange(len(order))
    (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), (jnp.asarray(order), steps))
    return params


def _logits(params: dict, x: jax.Array, key: jax.Array | None) -> jax.Array:
    """[... D] -> [... C]. With a key, components drop out."""
    h = x @ params["U"] + params["u"]
    if key is not None:
        h = jnp.where(jax.random.bernoulli(key, 1 - DROPPED, h.shape), h / (1 - DROPPED), 0)
    return h @ params["V"] + params["v"]
