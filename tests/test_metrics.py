"""Retrieval metrics against a simulation of what they are the expectation of, and their refusals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vatt.errors import NonFiniteError
from vatt.metrics import chance, retrieval, retrieval_blocks
from vatt.metrics.ranking import TEMPERATURE, on_grid


def ranks_in_random_order(similarity, target, rng):
    """Ranks (from 1) of the targets when ties are broken by lot."""
    ranks = []
    for row, item in zip(similarity, target, strict=True):
        order = rng.permutation(len(row))
        order = order[np.argsort(-row[order], kind="stable")]
        ranks.append(1 + int(np.flatnonzero(order == item)[0]))
    return np.array(ranks)


def test_ties_count_as_the_mean_over_random_orders():
    rng = np.random.default_rng(0)
    similarity = rng.integers(0, 4, size=(12, 15)).astype(np.float32)  # quantised: ties everywhere
    target = rng.integers(0, 15, size=12)
    got = retrieval(similarity, target)
    draws = np.stack([ranks_in_random_order(similarity, target, rng) for _ in range(3000)])  # [draws Q]
    for k in (1, 5, 10):
        assert got[f"R@{k}"] == pytest.approx(100 * (draws <= k).mean(), abs=1.0)  # over 4 standard errors
    assert got["mean_rank"] == pytest.approx(draws.mean(), abs=0.1)
    assert got["median_rank"] == pytest.approx(np.median(draws.mean(axis=0)), abs=0.15)
    equal = (similarity == similarity[np.arange(12), target][:, None]).sum(axis=1)
    assert got["ties"] == (equal > 1).sum() > 0
    assert (got["queries"], got["items"]) == (12, 15)


def test_distinct_similarities_give_plain_ranks():
    rng = np.random.default_rng(1)
    similarity = rng.normal(size=(40, 30))
    target = rng.integers(0, 30, size=40)
    rank = np.array([1 + sum(x > row[t] for x in row) for row, t in zip(similarity, target, strict=True)])
    assert retrieval(similarity, target) == pytest.approx(
        {
            **{f"R@{k}": 100 * (rank <= k).mean() for k in (1, 5, 10)},
            "median_rank": np.median(rank),
            "mean_rank": rank.mean(),
            "queries": 40,
            "items": 30,
            "ties": 0,
        }
    )


def test_a_perfect_and_a_reversed_model():
    assert retrieval(np.eye(20)) == pytest.approx(
        {"R@1": 100, "R@5": 100, "R@10": 100, "median_rank": 1, "mean_rank": 1, "queries": 20, "items": 20, "ties": 0}
    )
    worst = retrieval(-np.eye(20))
    assert (worst["R@10"], worst["median_rank"], worst["ties"]) == (0, 20, 0)


def test_a_collapsed_model_scores_what_chance_scores():
    got = retrieval(np.full((1000, 1000), 0.5, np.float32))
    assert got == pytest.approx(
        {
            "R@1": 0.1,
            "R@5": 0.5,
            "R@10": 1.0,
            "median_rank": 500.5,
            "mean_rank": 500.5,
            "queries": 1000,
            "items": 1000,
            "ties": 1000,
        }
    )
    assert chance(1000) == pytest.approx({name: got[name] for name in chance(1000)})


@pytest.mark.parametrize("items", [1, 4, 7, 3350])
def test_chance(items):
    ranks = np.arange(1, items + 1)
    assert chance(items) == pytest.approx(
        {
            **{f"R@{k}": 100 * (ranks <= k).mean() for k in (1, 5, 10)},
            "median_rank": np.median(ranks),
            "mean_rank": ranks.mean(),
        }
    )


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 12), st.integers(1, 12), st.integers(1, 6))
def test_order_of_queries_and_items_and_size_of_blocks_have_no_effect(seed, queries, items, levels):
    rng = np.random.default_rng(seed)
    similarity = rng.integers(0, levels, size=(queries, items)) / 7
    target = rng.integers(0, items, size=queries)
    got = retrieval(similarity, target)
    rows, columns = rng.permutation(queries), rng.permutation(items)
    assert retrieval(similarity[rows][:, columns], np.argsort(columns)[target[rows]]) == pytest.approx(got)
    assert retrieval(np.exp(similarity), target) == got  # only the order counts
    assert retrieval(similarity, target, block=items * int(rng.integers(1, 4))) == got
    assert retrieval(similarity, [[item] for item in target]) == got


def test_many_captions_of_one_video_are_queries_of_their_own():
    similarity = np.array([[3.0, 1, 2], [1, 3, 2], [3, 1, 2], [1, 2, 3]])
    got = retrieval(similarity, [0, 0, 0, 2], recall_at=(1, 2))
    assert got == {"R@1": 75, "R@2": 75, "median_rank": 1, "mean_rank": 1.5, "queries": 4, "items": 3, "ties": 0}


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.int32])
def test_similarities_are_not_rounded(kind):
    similarity = np.zeros((3, 3), kind)
    similarity[0] = [1, np.nextafter(kind(1), kind(2)) if kind != np.int32 else 2, 0]
    assert retrieval(similarity, [0, 0, 0])["ties"] == 2


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_similarity_that_is_not_finite_is_refused(value):
    similarity = np.random.default_rng(2).normal(size=(7, 4))
    similarity[3, 2] = similarity[3, 3] = similarity[6, 0] = value
    with pytest.raises(NonFiniteError, match=rf"3 of 28 .* the {value} of query 3 and item 2"):
        retrieval(similarity, np.zeros(7, int), block=8)  # several blocks


def test_what_cannot_work_is_refused():
    similarity = np.zeros((3, 4))
    for wrong, message in (
        ((similarity, None), "square"),
        ((similarity, [0, 1]), "2 targets; 3 queries"),
        ((similarity, [0.0, 1.0, 2.0]), "integers"),
        ((similarity, [[0], [1, 2], []]), "query 2 has no target"),
        ((similarity, [[0], [1, 4], [2]]), "query 1 is 4"),
        ((similarity, [0, -1, 2]), "query 1 is -1; items are 0 to 3"),
        ((similarity, [0, 1, 4]), "query 2 is 4"),
        ((np.zeros(3), None), "shape"),
        ((np.zeros((0, 0)), None), "empty"),
    ):
        with pytest.raises(ValueError, match=message):
            retrieval(*wrong)
    with pytest.raises(ValueError, match="at least 1"):
        chance(0)


# Worked out on paper: similarities of three queries to five items, right items, and what follows.
#   query 0: the right item 1 (0.8) has item 0 (0.9) above it: rank 2.
#   query 1: the right items 0 and 3 (0.5 each) tie with the wrong one 1, none is above: the first of the two comes at
#            place 1 with probability 2/3, at place 2 with 1/3: rank 4/3.
#   query 2: the better of the right items 2 and 4 is 4 (0.2), tied with the wrong 0; 1 and 3 are above: rank 3.5.
PAPER = (
    np.array([[0.9, 0.8, 0.1, 0.2, 0.3], [0.5, 0.5, 0.1, 0.5, 0.4], [0.2, 0.6, 0.1, 0.6, 0.2]]),
    [[1], [0, 3], [2, 4]],
    {
        "R@1": 100 * (0 + 2 / 3 + 0) / 3,
        "R@2": 100 * (1 + 1 + 0) / 3,
        "R@3": 100 * (1 + 1 + 1 / 2) / 3,
        "R@4": 100.0,
        "median_rank": 2.0,
        "mean_rank": (2 + 4 / 3 + 3.5) / 3,
        "queries": 3,
        "items": 5,
        "ties": 2,
    },
)


def test_the_best_of_several_right_items_counts():
    similarity, target, expected = PAPER
    assert retrieval(similarity, target, recall_at=(1, 2, 3, 4)) == pytest.approx(expected)
    assert retrieval_blocks(similarity, np.eye(5), target, recall_at=(1, 2, 3, 4), block=4) == pytest.approx(expected)


def test_several_right_items_with_ties_count_as_the_mean_over_random_orders():
    rng = np.random.default_rng(3)
    similarity = rng.integers(0, 3, size=(10, 12)).astype(np.float32)
    target = [rng.choice(12, size=rng.integers(1, 5), replace=False) for _ in range(10)]
    got = retrieval(similarity, target)
    draws = []
    for _ in range(3000):
        orders = [rng.permutation(12) for _ in range(10)]
        orders = [order[np.argsort(-row[order], kind="stable")] for row, order in zip(similarity, orders, strict=True)]
        draws.append([1 + np.flatnonzero(np.isin(o, some)).min() for o, some in zip(orders, target, strict=True)])
    draws = np.array(draws)  # [draws Q]
    for k in (1, 5, 10):
        assert got[f"R@{k}"] == pytest.approx(100 * (draws <= k).mean(), abs=1.0)
    assert got["mean_rank"] == pytest.approx(draws.mean(), abs=0.05)


def test_chance_with_several_right_items_is_what_a_collapsed_model_scores():
    target = [[0], [1, 2, 3], [4, 5], [2, 6]]
    got = retrieval(np.zeros((4, 7)), target)
    assert chance(7, positives=[1, 3, 2, 2]) == {name: got[name] for name in chance(7)}
    # the first of two right items among seven: place 1 with probability 2/7; the mean place is 8 / 3
    assert chance(7, positives=[2]) == pytest.approx(
        {"R@1": 200 / 7, "R@5": 100 * (1 - 1 / 21), "R@10": 100, "median_rank": 8 / 3, "mean_rank": 8 / 3}
    )
    with pytest.raises(ValueError, match="1 to 7"):
        chance(7, positives=[8])


def embeddings(kind: str, rng: np.random.Generator):
    """[Q E], [N E] and targets: as such, with equal rows, or all alike."""
    Q, N, E = 37, 23, 24
    query, item = rng.normal(size=(Q, E)), rng.normal(size=(N, E))
    if kind == "duplicates":
        query, item = query[rng.integers(0, 5, Q)], item[rng.integers(0, 6, N)]
    elif kind == "collapsed":
        query, item = query[np.zeros(Q, int)], item[np.zeros(N, int)]
    elif kind == "long":  # as raw dot products meet
        query, item = 300 * query, item * 10.0 ** rng.uniform(-2, 2, (N, 1))
    if kind != "long":
        query, item = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (query, item))
    target = [rng.choice(N, size=rng.integers(1, 4), replace=False) for _ in range(Q)]
    return query.astype(np.float32), item.astype(np.float32), target


@pytest.mark.parametrize("kind", ["plain", "duplicates", "collapsed", "long"])
@pytest.mark.parametrize("block", [1, 7, 64, 500, 1 << 22])
def test_blocks_give_the_numbers_of_the_whole_matrix(kind, block):
    query, item, several = embeddings(kind, np.random.default_rng(5))
    whole = on_grid(query) @ on_grid(item).T
    np.testing.assert_allclose(whole, query.astype(float) @ item.T.astype(float), atol=3e-8 * np.abs(whole).max())
    for target in (several, [some[0] for some in several]):
        expected = retrieval(whole, target)
        assert retrieval_blocks(query, item, target, block=block) == expected
        if kind == "collapsed":
            right = [np.size(some) for some in target]
            assert {n: expected[n] for n in chance(23)} == chance(23, positives=right)
            assert expected["ties"] == 37


def test_equal_pairs_have_equal_products_wherever_they_stand():
    """In float32 they have not: a matrix product adds up in an order that depends on where a row stands."""
    rng = np.random.default_rng(6)
    query = rng.normal(size=(1, 515)).astype(np.float32).repeat(37, axis=0)
    item = rng.normal(size=(1, 515)).astype(np.float32).repeat(101, axis=0)
    exact = on_grid(query) @ on_grid(item).T
    assert (exact == exact[0, 0]).all()
    assert (np.einsum("qe,qe->q", on_grid(query), on_grid(item[:37])) == exact[0, 0]).all()
    order = rng.permutation(515)
    assert (on_grid(query)[:, order] @ on_grid(item)[:, order].T == exact).all()


@pytest.mark.parametrize("kind", ["plain", "duplicates", "collapsed"])
@pytest.mark.parametrize("block", [1, 64, 1 << 22])
def test_dual_softmax_is_its_formula(kind, block):
    query, item, target = embeddings(kind, np.random.default_rng(7))
    s = on_grid(query) @ on_grid(item).T
    heat = np.exp((s - s.max()) / TEMPERATURE)
    expected = s * heat / heat.sum(axis=0)
    got = retrieval_blocks(query, item, target, post="dual_softmax", block=block)
    # Equal rows and columns are equal in it but for the last bits of its sums: nine digits are compared.
    expected = np.vectorize(lambda x: float(f"{x:.9e}"))(expected)
    assert got == pytest.approx(retrieval(expected, target))
    assert kind != "plain" or got != retrieval(s, target)


def test_equal_items_stay_equal_under_the_dual_softmax_in_whatever_block_they_fall():
    """A column by itself is summed in another order than one among others: so the last of 129, now and then."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        query, item = rng.normal(scale=0.001, size=(999, 8)), rng.normal(size=(1, 8)).repeat(129, axis=0)
        target = rng.integers(0, 129, 999)
        assert retrieval_blocks(query, item, target, post="dual_softmax", block=128 * 128)["ties"] == 999


def test_what_blocks_cannot_rank_is_refused():
    good = np.ones((3, 4), np.float32)
    bad = good.copy()
    bad[1, 2] = np.nan
    with pytest.raises(NonFiniteError, match="query 1"):
        retrieval_blocks(bad, good)
    with pytest.raises(NonFiniteError, match="item 1"):
        retrieval_blocks(good, bad, block=4)
    for query, item in ((good, good[:, :3]), (good[0], good), (good[:0], good)):
        with pytest.raises(ValueError, match="shapes"):
            retrieval_blocks(query, item)
    with pytest.raises(ValueError, match="square"):
        retrieval_blocks(good, good[:2])
    assert retrieval_blocks(np.zeros((3, 4)), good)["ties"] == 3  # a model that gives nothing
