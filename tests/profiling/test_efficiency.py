"""Efficient Error Rate, our reconstruction, against means worked by hand and the closed form of ViT-B/16."""

from dataclasses import replace

import pytest

from lightvit_lab import models, profiling
from lightvit_lab.errors import LabError
from lightvit_lab.profiling.efficiency import REFERENCES, TERMS

COST = profiling.Count(params=100, macs=1000, dense_macs=1000, bytes_by_dtype={"float32": 400}, activation_bytes=1,
                       by_module={}, moved_by_module={}, uncounted={})


def test_the_reference_is_the_closed_form_of_vit_base():
    tokens, dim, depth = 14**2 + 1, 768, 12
    linear = 4 * dim**2 + 2 * dim * 4 * dim
    macs = 14**2 * 3 * 16**2 * dim + depth * (tokens * linear + 2 * tokens**2 * dim) + 1000 * dim
    block = linear + 4 * dim + 5 * dim + 2 * 2 * dim           # weights, biases, two norms
    params = (3 * 16**2 + 1) * dim + (tokens + 1) * dim + depth * block + 2 * dim + 1000 * (dim + 1)
    assert REFERENCES["vit_base_patch16_224"] == {"params": params, "bits": 32, "flops": 2 * macs,
                                                  "weight_bytes": 4 * params}


def test_the_reference_itself_is_one():
    cost = profiling.count(models.create_model("deit_base_patch16_224"))       # the shape of ViT-B/16
    assert profiling.efficient_error_rate(cost) == pytest.approx(1, abs=1e-12)


def test_the_mean_of_the_four_ratios_matches_a_hand_worked_case():
    light = replace(COST, params=50, macs=100, bytes_by_dtype={"int8": 50, "float32": 50})
    assert profiling.efficient_error_rate(light, bits=8, reference=COST) == pytest.approx((0.5 + 0.25 + 0.1 + 0.25) / 4)
    assert profiling.efficient_error_rate(light, reference=COST, terms=["params", "flops"]) == pytest.approx(0.3)


@pytest.mark.parametrize(("term", "ratio"), list(zip(TERMS, (0.5, 0.125, 0.1, 0.2))))
def test_each_term_alone_is_its_own_ratio(term, ratio):
    light = replace(COST, params=50, macs=100, bytes_by_dtype={"int8": 80})
    assert profiling.efficient_error_rate(light, bits=4, reference=COST, terms=(term,)) == pytest.approx(ratio)


@pytest.mark.parametrize(("given", "message"), [
    ({"terms": ("params", "flop")}, "terms='flop' is unknown. Did you mean \"flops\""), ({"terms": ()}, "at least one"),
    ({"terms": "params"}, "give at least one in a tuple"),
    ({"reference": "vit_base"}, "Did you mean \"vit_base_patch16_224\""),
    ({"bits": 0}, "bits=0"), ({"bits": -8}, "bits=-8"), ({"cost": 3}, "cost is a int; give profiling.count"),
    ({"reference": replace(COST, macs=0)}, "the reference has no flops"),
])
def test_what_makes_no_sense_is_refused(given, message):
    with pytest.raises(LabError, match=message):
        profiling.efficient_error_rate(**{"cost": COST} | given)


def test_the_docstring_says_that_mean_and_reference_are_ours_and_warns_of_the_surveys_tables():
    text = " ".join(profiling.efficient_error_rate.__doc__.split())
    assert "2309.02031" in text and "the plain mean and the reference are the choice of this function" in text
    assert "not with those of the survey's tables" in text
