"""Trust: networks that answer alike, by chance, or by the company that an image keeps."""

import numpy as np
import pytest

from toplabel.bundle.trust import check_repeatability, measure_repeatability
from toplabel.errors import ModelError

INPUTS = np.random.default_rng(0).random((5, 3, 4, 4), np.float32)


def pooled(batch):
    return batch.mean(axis=(2, 3)) * 10


def check(run) -> bool:
    alone = np.concatenate([run(INPUTS[i : i + 1]) for i in range(len(INPUTS))])
    return check_repeatability(
        run, INPUTS, alone, name="net", if_random="switch it off", if_batch="call eval()"
    )


def test_a_network_that_answers_alike_takes_batches():
    assert not check(pooled)


def test_rounding_is_no_difference():
    generator = np.random.default_rng(1)
    assert not check(lambda batch: pooled(batch) * np.float32(1 + 1e-7 * generator.normal()))


def test_chance_is_named_with_its_size_and_what_to_do():
    generator = np.random.default_rng(1)
    with pytest.raises(
        ModelError,
        match=r"net gives different outputs for the same image .*\(by up to .*; switch it off",
    ):
        check(lambda batch: pooled(batch) * generator.normal())


@pytest.mark.parametrize("scale", [1, 1e-3])
def test_the_company_of_a_batch_is_named_whatever_the_size_of_the_outputs(scale):
    def run(batch):
        return (pooled(batch) - pooled(batch).mean(axis=0) / 100) * scale

    with pytest.raises(ModelError, match=r"depends on the other images of its batch.*call eval"):
        check(run)


def one_at_a_time(batch):
    if len(batch) > 1:
        raise ValueError("one image")
    return pooled(batch)


@pytest.mark.parametrize("run", [one_at_a_time, lambda batch: pooled(batch[:1])])
def test_what_takes_no_batch_takes_one_image_at_a_time(run):
    assert check(run)


def test_a_batch_that_fails_hides_no_difference_in_another():
    def run(batch):
        if len(batch) == 5:
            raise ValueError("too many")
        return pooled(batch) * len(batch)

    with pytest.raises(ModelError, match="depends on the other images"):
        check(run)


def test_outputs_that_are_not_finite_must_be_so_again():
    alone = np.full((5, 3), np.nan, np.float32)
    assert measure_repeatability(lambda batch: alone[: len(batch)], INPUTS, alone).repeats
    assert not measure_repeatability(pooled, INPUTS, alone).repeats
