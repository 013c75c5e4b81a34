"""Classification by nearest neighbours: by hand, ties, and in the evaluation of a run."""

from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from vatt.errors import NonFiniteError
from vatt.evals import knn
from vatt.evals.knn import knn_of_source, votes
from vatt.evals.run import evaluate_run


def rows(*vectors):
    z = np.array(vectors, np.float64)
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def names(count):
    return [f"film {number}" for number in range(count)]


ALONE = np.arange(5)  # every clip is a film of its own


def test_votes_by_hand():
    z = rows([1, 0], [1, 0], [1, 0.1], [0, 1], [-1, 0])
    y = np.array([0, 0, 1, 1, 2])
    near = np.exp((1 / np.sqrt(1.01) - 1) / 0.07)  # the weight of the second neighbour beside the first
    np.testing.assert_allclose(votes(z, y, ALONE, k=2)[0], [1, near, 0], atol=1e-4)
    np.testing.assert_allclose(votes(z, y, ALONE, k=99)[0], [1, near + np.exp(-1 / 0.07), np.exp(-2 / 0.07)], atol=1e-4)
    # the second is of the same film
    group = np.array([0, 0, 1, 2, 3])
    np.testing.assert_allclose(votes(z, y, group, k=1)[0], [0, 1, 0], atol=1e-4)
    # of three that are equally near, each has two thirds of a vote
    z, y = rows([1, 0], [1, 0.1], [1, 0.1], [1, -0.1], [0, 1]), np.array([0, 0, 1, 1, 2])
    np.testing.assert_allclose(votes(z, y, ALONE, k=2)[0], [2 / 3, 4 / 3, 0], atol=1e-4)
    with pytest.raises(ValueError, match="at least 1"):
        votes(z, y, ALONE, k=0)


def test_features_that_collapsed_give_what_class_frequencies_give():
    labels = [("a",)] * 10 + [("b",)] * 10 + [("c",)] * 20
    found = knn_of_source(np.ones((40, 3)), labels, names(40), k=5)  # all look like c, the most frequent
    assert found == pytest.approx({"top_1": 50, "chance": 37.5, "clips": 40, "classes": 3})


def test_each_clip_is_classified_by_the_others_whatever_the_block(monkeypatch):
    rng = np.random.default_rng(0)
    y = np.arange(40) % 4
    features = np.eye(4, 8)[y] + rng.normal(0, 0.1, (40, 8))
    labels = [(f"class {c}",) for c in y]
    assert knn_of_source(features, labels, names(40), k=5) == {"top_1": 100, "chance": 25, "clips": 40, "classes": 4}
    noise = rng.normal(size=(40, 8))
    assert knn_of_source(noise, labels, names(40), k=1)["top_1"] < 60  # each is its own nearest
    labels[0], labels[1], labels[2] = (), ("class 1", "class 2"), ("alone",)
    assert knn_of_source(features, labels, names(40))["clips"] == 37
    assert knn_of_source(features, [("a",)] * 40, names(40)) == {}
    whole = votes(rows(*noise), y, np.arange(40), k=7)
    monkeypatch.setattr(knn, "_BLOCK", 120)  # three rows at a time
    np.testing.assert_array_equal(votes(rows(*noise), y, np.arange(40), k=7).argmax(1), whole.argmax(1))


def test_clips_of_one_film_tell_nothing_of_their_class():
    """Features that hold the film and nothing of the class: 4 clips of each of 5 films of each of 3 classes."""
    film = np.arange(60) // 4
    features = np.random.default_rng(0).normal(size=(15, 16))[film]
    labels = [(f"class {number % 3}",) for number in film]
    assert knn_of_source(features, labels, names(60), k=3)["top_1"] == 100
    found = knn_of_source(features, labels, [f"film {number}" for number in film], k=3)
    assert found["top_1"] <= 60
    alone = [("a",)] * 8 + [("b",)] * 4  # b has one film
    assert knn_of_source(features[:12], alone, [f"film {number}" for number in film[:12]]) == {}


def test_what_does_not_fit_is_refused():
    with pytest.raises(NonFiniteError, match="first row 1"):
        knn_of_source(np.array([[1.0], [np.nan]]), [("a",), ("b",)], names(2))
    with pytest.raises(ValueError, match="features have shape"):
        knn_of_source(np.ones((3, 2)), [("a",)], names(1))


def test_labelled_held_out_clips_are_classified_wherever_retrieval_is_measured(tiny_run, demo_media):
    said = Console(quiet=True)
    plain = evaluate_run(tiny_run, "latest", str(demo_media / "heldout"), said)
    assert plain.knn == {}
    found = evaluate_run(tiny_run, "latest", str(demo_media / "heldout.csv"), said)
    # 16 clips of the first four colours of the first shape, each in four motions
    assert {name: (x["clips"], x["classes"]) for name, x in found.knn.items()} == {"video": (16, 4), "audio": (16, 4)}
    assert found.named()["video/knn_top_1"] == found.knn["video"]["top_1"]
    assert replace(found, knn={}).named() == plain.named()
