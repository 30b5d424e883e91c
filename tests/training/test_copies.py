import numpy as np
import pytest

from toplabel.training.copies import find_groups, near_pairs


def _unlike(count, size=256, seed=0):
    """Features with a mean cosine of about 0.4, as photos have."""
    return np.maximum(0, np.random.default_rng(seed).normal(size=(count, size))).astype(np.float32)


def test_images_that_are_unlike_are_groups_of_their_own():
    assert find_groups(_unlike(50)).tolist() == list(range(50))


def test_near_copies_are_one_group_and_the_brightness_of_features_does_not_matter():
    features = _unlike(20)
    features[7] = 3 * features[2] + 0.05 * features[3]
    groups = find_groups(features)
    assert groups[7] == groups[2]
    assert len(set(groups)) == 19


@pytest.mark.parametrize(("cosine", "near"), [(0.975, True), (0.965, False)])
def test_the_cosine_decides(cosine, near):
    features = _unlike(30)
    unit = features[0] / np.linalg.norm(features[0])
    other = features[1] - (features[1] @ unit) * unit
    other /= np.linalg.norm(other)
    features[1] = 5 * (cosine * unit + np.sqrt(1 - cosine**2) * other)
    assert list(near_pairs(features)) == [(0, 1)] * near


def test_links_make_groups():
    a, b, c = np.eye(3, 64, dtype=np.float32)
    angle = 0.2  # the cosine of one step is 0.98, of two 0.92
    chain = [a, np.cos(angle) * a + np.sin(angle) * b]
    chain.append(np.cos(2 * angle) * a + np.sin(2 * angle) * b)
    features = np.stack([chain[0], c, chain[2], chain[1]])
    assert find_groups(features).tolist() == [0, 1, 0, 0]


def test_files_that_are_equal_are_one_group_whatever_their_features():
    assert find_groups(_unlike(5), same=["x", "y", None, "x", None]).tolist() == [0, 1, 2, 0, 3]


def test_pairs_are_found_across_blocks():
    features = _unlike(2500, size=512)
    features[2400] = features[3]
    features[1500] = features[1400] * 2
    assert sorted(near_pairs(features)) == [(3, 2400), (1400, 1500)]


def test_images_that_are_all_alike_are_not_all_copies():
    """X-rays, parts on a belt: features point the same way; only what is nearer still is a copy."""
    rng = np.random.default_rng(0)
    features = (10 + rng.normal(size=(60, 256))).astype(np.float32)
    features[9] = features[4] + 0.01
    groups = find_groups(features)
    assert groups[9] == groups[4]
    assert len(set(groups)) == 59


def test_an_image_without_any_feature_is_no_copy():
    features = _unlike(4)
    features[2:] = 0
    assert len(set(find_groups(features))) == 4
