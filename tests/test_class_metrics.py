"""Classification metrics against values by hand, scipy and scikit-learn; ties, empty classes, refusals."""

import warnings

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import average_precision_score, roc_auc_score, top_k_accuracy_score

from vatt.errors import NonFiniteError
from vatt.metrics import d_prime, multi_label, single_label


def test_top_k_by_hand():
    scores = np.array([[3, 2, 1, 0], [3, 2, 1, 0], [3, 2, 1, 0], [0, 1, 1, 1]])
    got = single_label(scores, np.array([0, 1, 3, 2]), top=(1, 2, 5))
    # ranks 1, 2, 4, and one of 1 to 3 by lot; a k above the 4 classes is all of them
    expected = {"top_1": 100 * (1 + 1 / 3) / 4, "top_2": 100 * (2 + 2 / 3) / 4, "top_5": 100, "items": 4, "ties": 1}
    assert got == pytest.approx(expected)


def test_a_collapsed_classifier_scores_chance():
    target = np.random.default_rng(0).integers(0, 10, 50)
    got = single_label(np.zeros((50, 10)), target)
    assert got == pytest.approx({"top_1": 10, "top_5": 50, "items": 50, "ties": 50})


@pytest.mark.parametrize("k", [1, 3])
def test_top_k_without_ties_is_scikit_learns(k):
    rng = np.random.default_rng(k)
    scores, target = rng.normal(size=(60, 7)).astype(np.float32), rng.integers(0, 7, 60)
    got = single_label(scores, target, top=(k,))
    assert got[f"top_{k}"] == pytest.approx(100 * top_k_accuracy_score(target, scores, k=k, labels=np.arange(7)))
    assert got["ties"] == 0


def test_multi_label_by_hand():
    scores = np.array([[0.9, 0.1, 0.5], [0.8, 0.2, 0.5], [0.7, 0.3, 0.5], [0.6, 0.4, 0.5]])
    target = np.array([[1, 1, 1], [0, 1, 0], [1, 0, 0], [0, 0, 0]])
    got = multi_label(scores, target)
    precisions = [(1 + 2 / 3) / 2, (1 / 3 + 2 / 4) / 2, 1 / 4]  # of the last: all equal, so the share of positives
    areas = np.array([3 / 4, 0, 1 / 2])
    held = np.array([3 / 4, 1 / 8, 1 / 2])  # the second is 0 of 2 x 2 pairs, and counts as half a pair
    assert got == pytest.approx(
        {
            "mAP": 100 * np.mean(precisions),
            "AUC": 100 * areas.mean(),
            "d_prime_of_AUC": 2**0.5 * norm.ppf(areas.mean()),
            "mean_d_prime": np.mean(2**0.5 * norm.ppf(held)),
            "classes": 3,
            "skipped": 0,
            "skipped_for_AUC": 0,
            "items": 4,
        }
    )


def test_multi_label_is_scikit_learns_over_the_classes_that_count():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 8, size=(40, 6)).astype(np.float32)  # ties everywhere
    target = rng.random((40, 6)) < 0.3
    target[:, 2], target[:, 4] = False, True  # none belongs to the one, all to the other
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # scikit-learn's, of classes that are not to be asked for
        got = multi_label(scores, target)
    some, both = [0, 1, 3, 4, 5], [0, 1, 3, 5]
    assert got["mAP"] == pytest.approx(100 * average_precision_score(target[:, some], scores[:, some]))
    assert got["AUC"] == pytest.approx(100 * roc_auc_score(target[:, both], scores[:, both]))
    assert (got["classes"], got["skipped"], got["skipped_for_AUC"], got["items"]) == (5, 1, 2, 40)
    areas = roc_auc_score(target[:, both], scores[:, both], average=None)
    assert got["mean_d_prime"] == pytest.approx(np.mean(2**0.5 * norm.ppf(areas)))
    assert got["d_prime_of_AUC"] == pytest.approx(2**0.5 * norm.ppf(np.mean(areas)))


def test_the_two_definitions_of_d_prime_are_those_published():
    """PSLA's AUC .975 has its d′ 2.778; VATT's AUC .971 has not its 2.895, which is a mean over classes, but 2.681."""
    assert d_prime(0.975) == pytest.approx(2.778, abs=0.01)  # the AUC is rounded
    assert d_prime(0.971) == pytest.approx(2.681, abs=1e-3)
    rng = np.random.default_rng(1)
    target = rng.random((400, 2)) < 0.5
    scores = rng.normal(size=(400, 2)) + target * np.array([0.5, 3.0])  # one hard class, one easy
    got = multi_label(scores, target)
    assert got["mean_d_prime"] > got["d_prime_of_AUC"] + 0.3


def test_a_perfect_ranking_is_finite_and_half_a_pair_from_one():
    target = np.array([[1, 0], [1, 0], [0, 1], [0, 0], [0, 0]], bool)
    got = multi_label(target.astype(float), target)
    assert (got["mAP"], got["AUC"]) == (100, 100)
    margins = np.array([1 / 12, 1 / 8])  # of 2 x 3 and 1 x 4 pairs
    assert got["mean_d_prime"] == pytest.approx(np.mean(2**0.5 * norm.ppf(1 - margins)))
    assert got["d_prime_of_AUC"] == pytest.approx(2**0.5 * norm.ppf(1 - margins.mean()))
    with pytest.raises(ValueError, match="infinite"):
        d_prime(1.0)


def test_without_negatives_there_is_no_area_but_a_precision():
    got = multi_label(np.ones((3, 1)), np.ones((3, 1), bool))
    assert (got["mAP"], got["classes"], got["skipped_for_AUC"]) == (100, 1, 1)
    assert np.isnan([got["AUC"], got["d_prime_of_AUC"], got["mean_d_prime"]]).all()


@pytest.mark.parametrize("metric", [single_label, multi_label])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_refused_by_row(metric, value):
    scores = np.zeros((5, 3))
    scores[3, 1] = scores[4, 0] = value
    target = np.zeros(5, int) if metric is single_label else np.ones((5, 3), bool)
    with pytest.raises(NonFiniteError, match=r"2 of 5 rows .* row 3"):
        metric(scores, target)


@pytest.mark.parametrize(
    ("target", "says"),
    [(np.zeros(4, int), "5 rows"), (np.zeros(5), "5 integers"), (np.array([0, 0, 3, 0, 0]), "row 2 is 3; .* 0 to 2")],
)
def test_targets_that_fit_no_class_are_refused(target, says):
    with pytest.raises(ValueError, match=says):
        single_label(np.zeros((5, 3)), target)


@pytest.mark.parametrize(
    ("target", "says"),
    [(np.ones((5, 2)), "shape"), (np.full((5, 3), 2), "other than 0 and 1"), (np.zeros((5, 3), bool), "none of 5")],
)
def test_multi_label_targets_that_fit_no_class_are_refused(target, says):
    with pytest.raises(ValueError, match=says):
        multi_label(np.zeros((5, 3)), target)


def test_no_items_are_refused():
    with pytest.raises(ValueError, match="not empty"):
        single_label(np.zeros((0, 3)), np.zeros(0, int))
