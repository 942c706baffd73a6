"""Which tokens become one: the official matchings, and cases worked by hand."""

import json
from pathlib import Path

import numpy
import pytest
import torch
from drawn_weights import pictures

from lightvit_lab.dynamic.token_merging.matching import Matching, bipartite_soft_matching, cluster_matching, max_r
from lightvit_lab.errors import LabError

CASES = json.loads((Path(__file__).parent / "tome_reference.json").read_text())["matchings"]


def sizes(seed, *shape):
    return torch.from_numpy(numpy.random.RandomState(seed).randint(1, 5, shape).astype("float32"))


@pytest.mark.parametrize("case", CASES.values(), ids=[*CASES])
def test_tokens_merge_in_the_official_order_to_the_official_values(case):
    matching = bipartite_soft_matching(pictures(*case["metric"]), case["r"], case["protected"])
    tokens, size = pictures(*case["x"]), sizes(*case["size"])
    assert matching.places().tolist() == case["places"]
    found = {"merge_mean": matching.merge(tokens, mode="mean"), "merge_amax": matching.merge(tokens, mode="max"),
             "wavg2_x": matching.merge(tokens, size)}
    for name, values in case["first_channel"].items():
        assert torch.allclose(found[name][..., 0], torch.tensor(values), atol=1e-5)
    assert matching.merge_sizes(size)[..., 0].int().tolist() == case["wavg2_size"]


def by_hand():
    """Six tokens behind a class token; 1 and 2 point the same way, and so do 3 and 4, less so."""
    metric = torch.tensor([[9.0, 9], [1, 0], [2, 0], [0, 1], [0.1, 1], [-1, -0.9], [-1, 0.5]])[None]
    return bipartite_soft_matching(metric, 2), torch.tensor([0.0, 10, 20, 30, 40, 50, 60])[None, :, None]


def test_two_pairs_by_hand_in_every_mode():
    matching, tokens = by_hand()
    assert matching.kept.tolist() == [[0, 6, 1, 3, 5]] and sorted(matching.gone[0].tolist()) == [2, 4]
    size = torch.tensor([1.0, 1, 3, 1, 1, 1, 1])[None, :, None]
    wanted = {"mean": [0, 60, 15, 35, 50], "max": [0, 60, 20, 40, 50], "prune": [0, 60, 10, 30, 50],
              "weighted": [0, 60, 17.5, 35, 50], "mlerp": [0, 60, 20, 40, 50]}
    for mode, values in wanted.items():
        assert torch.allclose(matching.merge(tokens, size, mode)[0, :, 0], torch.tensor(values).float()), mode
    assert matching.merge_sizes(size)[0, :, 0].tolist() == [1, 1, 4, 2, 1]
    assert matching.merge_sizes(size, grow=False)[0, :, 0].tolist() == [1, 1, 1, 1, 1]
    assert matching.unmerge(matching.merge(tokens))[0, :, 0].tolist() == [0, 15, 15, 35, 35, 50, 60]


def test_mlerp_keeps_the_direction_of_the_mean_and_the_longest_length():
    matching = Matching(torch.tensor([[0, 1]]), torch.tensor([[2]]), torch.tensor([[1]]))
    tokens = torch.tensor([[[5.0, 0], [3, 0], [0, 4]]])
    assert torch.allclose(matching.merge(tokens, mode="mlerp"), torch.tensor([[[5.0, 0], [2.4, 3.2]]]))


@pytest.mark.parametrize("protected", range(6))
@pytest.mark.parametrize("count", [7, 8, 12, 13])
def test_protected_tokens_stay_in_front_alone_and_no_token_is_lost(protected, count):
    metric = pictures(count, 2, count, 4)
    for match in (bipartite_soft_matching, cluster_matching):
        matching = match(metric, max_r(count, protected), protected)
        left = count - max_r(count, protected)
        places = matching.places()
        assert matching.kept.shape[1] == left and (places[:, :protected] == torch.arange(protected)).all()
        assert all(sorted(set(row)) == list(range(left)) for row in places.tolist())
        assert (places[:, protected:] >= protected).all()
        everyone = torch.cat([matching.kept, matching.gone], dim=1)
        assert torch.equal(everyone.sort(dim=1).values, torch.arange(count).expand(2, -1))


@pytest.mark.parametrize("match", [bipartite_soft_matching, cluster_matching])
def test_sums_and_sizes_are_kept(match):
    matching, tokens, size = match(pictures(0, 2, 20, 8), 7), pictures(1, 2, 20, 3), sizes(2, 2, 20, 1)
    merged, sizes_after = matching.merge(tokens, size), matching.merge_sizes(size)
    assert torch.allclose((merged * sizes_after).sum(1), (tokens * size).sum(1), atol=1e-4)
    assert torch.equal(sizes_after.sum(1), size.sum(1)) and merged.shape == (2, 13, 3)


def test_merging_leaves_what_it_is_given_alone():
    matching = bipartite_soft_matching(pictures(0, 2, 20, 8), 7)
    tokens, size = pictures(1, 2, 20, 3), sizes(2, 2, 20, 1)
    copies = tokens.clone(), size.clone()
    for mode in ("weighted", "mean", "max", "prune", "mlerp"):
        matching.merge(tokens, size, mode)
    matching.merge_sizes(size)
    assert torch.equal(tokens, copies[0]) and torch.equal(size, copies[1])


def test_clusters_are_those_that_an_eye_would_draw():
    middles = torch.tensor([[0.0, 0], [10, 0], [0, 10]])
    points = middles.repeat_interleave(5, dim=0) + 0.1 * pictures(3, 15, 2)
    order = torch.from_numpy(numpy.random.RandomState(0).permutation(15))
    matching = cluster_matching(torch.cat([torch.zeros(1, 2), points[order]])[None], 12, neighbours=3)
    groups = matching.places()[0, 1:]
    assert len(set(groups.tolist())) == 3
    assert all(len(set(groups[order // 5 == middle].tolist())) == 1 for middle in range(3))


def test_centres_are_those_of_density_times_distance_and_not_its_square():
    """By hand: density exp(-mean of squared distances to itself and two neighbours), times the distance to a denser one.

    At 0.4, 0.7, 1.5, 1.7, 4.1 and 4.5 these are .648 .784 .797 .707 .139 .069 and 0.3 0.8 3 0.2 2.4 0.4; the products
    are .195 .627 2.39 .141 .334 .028: centres are 0.7 and 1.5. With squared distances 4.1 would take the place of 0.7.
    """
    metric = torch.tensor([0.4, 0.7, 1.5, 1.7, 4.1, 4.5])[None, :, None]
    matching = cluster_matching(metric, 4, protected=0, neighbours=2)
    assert matching.kept.tolist() == [[1, 2]]
    assert matching.gone.tolist() == [[0, 3, 4, 5]] and matching.into.tolist() == [[0, 1, 1, 1]]


def test_distances_are_per_channel_so_that_more_of_the_same_channels_change_nothing():
    """TCFormer divides by the root of the number of channels; else 0.4 would be a centre, not 4.1 (the case above)."""
    metric = torch.tensor([0.4, 0.7, 1.5, 1.7, 4.1, 4.5])[None, :, None]
    for channels in (1, 4):
        found = cluster_matching(metric.expand(-1, -1, channels), 3, protected=0, neighbours=2)
        assert found.kept.tolist() == [[1, 2, 4]]


def test_half_precision_matches_as_its_rounded_self():
    metric = pictures(0, 2, 33, 16).bfloat16()
    for match in (bipartite_soft_matching, cluster_matching):
        assert torch.equal(match(metric, 8).places(), match(metric.float(), 8).places())
    tokens = pictures(1, 2, 33, 16).bfloat16()
    assert bipartite_soft_matching(metric, 8).merge(tokens).dtype == torch.bfloat16


@pytest.mark.parametrize("match", [bipartite_soft_matching, cluster_matching])
def test_bad_input_is_refused(match):
    metric, name = pictures(0, 2, 9, 4), match.__name__
    for call, message in ((lambda: match(metric, -1), f"{name}: r=-1; give a number with 0 <= r"),
                          (lambda: match(metric, 1.5), f"{name}: r=1.5; give a whole number"),
                          (lambda: match(metric, 1, 10), f"{name}: protected=10"),
                          (lambda: match(metric[0], 1), f"{name}: metric has shape")):
        with pytest.raises(LabError, match=message):
            call()
    matching = match(metric, 2)
    for call, message in ((lambda: matching.merge(metric[:, :8]), "merge: tokens have shape"),
                          (lambda: matching.unmerge(metric), "unmerge: tokens have shape"),
                          (lambda: matching.merge(metric, mode="sum"), "mode='sum' is unknown")):
        with pytest.raises(LabError, match=message):
            call()
