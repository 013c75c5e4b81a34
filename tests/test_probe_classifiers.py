"""The classifiers of probes, on features made here."""

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from vatt.evals.probe import recipe
from vatt.evals.probe.classifiers import best_c, fit, linear, low_rank


def blobs(*, clips=30, views=2, width=6, classes=3, seed=0, spread=0.3):
    rng = np.random.default_rng(seed)
    y = np.arange(clips) % classes
    centres = np.eye(classes, width)
    return (centres[y][:, None] + rng.normal(0, spread, (clips, views, width))).astype(np.float32), y


def test_the_svm_is_mmvs():
    """StandardScaler over all views, LinearSVC, decision values averaged over the windows."""
    x, y = blobs()
    x_test, _ = blobs(seed=1, views=4)
    notes: list[str] = []
    scorer, C = fit(recipe("svm", C=(1e-3,)), x, y, groups=[str(i) for i in range(30)], seed=0, notes=notes)
    flat = x.reshape(-1, 6)
    scaler = StandardScaler().fit(flat)
    svm = LinearSVC(C=1e-3, dual=True, tol=1e-8, max_iter=100_000).fit(scaler.transform(flat), np.repeat(y, 2))
    expected = np.mean([svm.decision_function(scaler.transform(x_test[:, w])) for w in range(4)], axis=0)
    np.testing.assert_allclose(scorer(x_test), expected, atol=1e-3)
    assert (C, notes) == (1e-3, [])


@pytest.mark.parametrize("classifier", ["svm", "logistic"])
def test_two_classes_have_two_scores(classifier):
    x, y = blobs(classes=2)
    scores = linear(recipe(classifier), x, y, C=0.1, notes=[])(x)
    assert scores.shape == (30, 2)
    assert (scores.argmax(1) == y).all()


def test_probabilities_of_logistic_regression_are_averaged():
    x, y = blobs()
    scores = linear(recipe("logistic"), x, y, C=0.1, notes=[])(x)
    np.testing.assert_allclose(scores.sum(1), 1, rtol=1e-5)
    assert (scores.argmax(1) == y).mean() > 0.9


def test_a_solver_that_does_not_converge_is_told(monkeypatch):
    monkeypatch.setitem(linear.__globals__["ITERATIONS"], "logistic", 1)
    x, y = blobs()
    notes: list[str] = []
    linear(recipe("logistic"), x, y, C=10, notes=notes)
    assert notes == ["logistic with C 10 did not converge in 1 iterations"]


def test_c_is_chosen_on_groups_that_were_left_out(monkeypatch):
    real, seen = linear, []

    def spy(recipe, x, y, **more):
        seen.append(set(x[:, 0, 0].tolist()))
        return real(recipe, x, y, **more)

    monkeypatch.setitem(best_c.__globals__, "linear", spy)
    x, y = blobs(clips=24, classes=2)
    x[:, :, 0] = np.arange(24)[:, None]  # each clip bears its number
    group = np.arange(24) // 2 % 6
    best_c(recipe("svm", C=(1e-3,)), x, y, groups=[str(g) for g in group], notes=[])
    assert len(seen) == 4
    for trained in seen:
        whole = [{i in trained for i in np.flatnonzero(group == g)} for g in range(6)]
        assert {True} in whole
        assert {False} in whole
        assert {True, False} not in whole


def test_of_two_values_of_c_the_better_is_chosen():
    """A weak cue that all dimensions share, and few clips: what fits them closely fits noise."""
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    x = ((2 * y[:, None] - 1) * 0.3 + rng.normal(size=(60, 40)))[:, None]
    groups = [str(i) for i in range(60)]
    notes: list[str] = []
    chosen = best_c(recipe("svm", C=(1e2, 1e-4)), x, y, groups=groups, notes=notes)
    x_test = ((2 * y[:, None] - 1) * 0.3 + rng.normal(size=(60, 40)))[:, None]
    right = {C: (linear(recipe("svm"), x, y, C=C, notes=[])(x_test).argmax(1) == y).mean() for C in (1e2, 1e-4)}
    assert right[1e-4] > right[1e2]
    assert chosen == 1e-4


def test_c_at_the_edge_of_its_grid_and_one_group_alone_are_told():
    x, y = blobs(spread=0.01)
    notes: list[str] = []
    assert best_c(recipe("svm"), x, y, groups=[str(i) for i in range(30)], notes=notes) == 1e-5  # all are as good
    assert "edge of its grid" in notes[0]
    assert best_c(recipe("svm"), x, y, groups=["a"] * 30, notes=notes) == 1e-3
    assert "one group" in notes[1]


def test_the_low_rank_classifier_learns_and_is_a_function_of_its_seed():
    x, y = blobs(spread=0.1)
    first, again, other = (low_rank(x, y, steps=300, seed=seed)(x) for seed in (0, 0, 1))
    np.testing.assert_allclose(first.sum(1), 1, rtol=1e-5)
    assert (first.argmax(1) == y).all()
    assert (first == again).all()
    assert (first != other).any()
