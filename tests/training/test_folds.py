import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from toplabel.training.folds import count_folds, divide


def test_each_class_is_spread_evenly():
    targets = np.repeat([0, 1, 2], [50, 20, 7])
    folds = divide(targets, np.arange(77), folds=5)
    for index, images in enumerate((50, 20, 7)):
        counts = np.bincount(folds[targets == index], minlength=5)
        assert counts.max() - counts.min() <= 1
        assert counts.sum() == images
    assert np.ptp(np.bincount(folds)) <= 3


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_groups_are_whole_and_no_fold_holds_all_of_a_class(data):
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=9, max_size=30))
    groups = np.repeat(np.arange(len(sizes)), sizes)
    targets = np.repeat(np.arange(len(sizes)) % 3, sizes)
    folds = divide(targets, groups, folds=3, seed=data.draw(st.integers(0, 5)))
    for group in range(len(sizes)):
        assert len(set(folds[groups == group])) == 1
    for index in range(3):
        assert len(set(folds[targets == index])) == 3


def test_a_group_of_two_classes_is_whole():
    targets = np.array([0, 1, 0, 0, 0, 1, 1, 1])
    groups = np.array([0, 0, 1, 2, 3, 4, 5, 6])
    folds = divide(targets, groups, folds=3)
    assert folds[0] == folds[1]
    assert all(len(set(folds[targets == index])) == 3 for index in (0, 1))


@pytest.mark.parametrize(("images", "expected"), [(3, 3), (4, 4), (5, 5), (500, 5)])
def test_the_smallest_class_decides_on_the_number_of_folds(images, expected):
    targets = np.repeat([0, 1], [900, images])
    assert count_folds(targets, np.arange(900 + images)) == expected


def test_the_seed_chooses_the_folds_and_nothing_else_does():
    targets = np.arange(40) % 2
    groups = np.arange(40)
    first = divide(targets, groups, folds=5, seed=1)
    assert (divide(targets, groups, folds=5, seed=1) == first).all()
    assert (divide(targets, groups, folds=5, seed=2) != first).any()
