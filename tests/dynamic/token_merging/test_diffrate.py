"""DiffRate: the official numbers, a block worked by hand, and a search that finds what it was asked for."""

import json
from pathlib import Path

import pytest
import torch
from drawn_weights import fill, pictures

from lightvit_lab import checkpoint, data, models, profiling, training
from lightvit_lab.dynamic.token_merging import (
    RateObjective, block_costs, learn_rates, merge_tokens, reduce_tokens, source_map)
from lightvit_lab.dynamic.token_merging.diffrate import apply_reduction, merge_last, ranked
from lightvit_lab.dynamic.token_merging.rates import Rate, rate_model
from lightvit_lab.dynamic.token_pruning import prune_tokens
from lightvit_lab.errors import LabError

REFERENCE = json.loads((Path(__file__).parent / "diffrate_reference.json").read_text())
INPUTS = pictures(1, 3, 3, 32, 32)
SMALL = {"img_size": 32, "patch_size": 8, "depth": 4, "embed_dim": 24, "num_heads": 3, "num_classes": 10}
KINDS = {
    "lab": ("lab_vit", {"dim": 24, "depth": 4, "num_heads": 3, "patch_size": 8}),
    "lab distilled": ("lab_vit", {"dim": 24, "depth": 4, "num_heads": 3, "patch_size": 8, "distilled": True}),
    "timm": ("deit_tiny_patch16_224", SMALL),
    "timm, layer scale": ("vit_tiny_patch16_224", {**SMALL, "init_values": 0.5, "qk_norm": True}),
}
QUICK = {"batch_size": 8, "progress": False, "threads": 1, "precision": "float32", "attention": "fused"}


def small(kind="lab", **changes):
    name, arguments = KINDS[kind]
    return fill(models.create_model(name, **{**arguments, **changes}))


def largest(one, two):
    return (torch.as_tensor(one) - torch.as_tensor(two)).abs().max().item()


@torch.inference_mode()
def logits(model, inputs=INPUTS):
    return model(inputs)


def of_kept(pruning, merging, left):
    """Numbers that go, from the official numbers that stay."""
    pruned, merged = [], []
    for after_pruning, after_merging in zip(pruning, merging):
        middle = min(left, after_pruning)
        pruned.append(left - middle)
        left = min(middle, after_merging)
        merged.append(middle - left)
    return pruned, merged


# --- the transform

@pytest.fixture(scope="module")
def deit():
    return fill(models.create_model("deit_tiny_patch16_224"))


def test_a_deit_by_published_rates_has_the_official_logits_and_macs(deit):
    wanted = REFERENCE["deit_tiny_0.8"]
    pruned, merged = of_kept(wanted["prune_kept_num"], wanted["merge_kept_num"], 197)
    reduced = reduce_tokens(deit, pruned, merged)
    assert reduced.tokens_per_block == [min(pair) for pair in zip(wanted["prune_kept_num"], wanted["merge_kept_num"])]
    assert largest(logits(reduced, pictures(*wanted["input"]))[:, :10], wanted["logits_first10"]) < 1e-4
    costs = block_costs(deit, (3, 224, 224))
    kept = [(torch.tensor(one - 1.0), torch.tensor(two - 1.0))
            for one, two in zip(wanted["prune_kept_num"], wanted["merge_kept_num"])]
    one_patch = 16 * 16 * 3 * 192             # which they count also for the class token
    macs = costs.whole * costs.share(kept).item()
    assert macs == pytest.approx(wanted["flops"] - one_patch, rel=1e-6)
    counted = profiling.count(reduced)
    # class attention: one row per block that reduces; matching: all pairs of what goes and what may stay
    sizes, ranking = [197, *reduced.tokens_per_block], 0
    for place, (gone, mixed) in enumerate(zip(pruned, merged)):
        ranking += 192 * sizes[place] * (gone + mixed > 0) + 192 * mixed * (sizes[place + 1] - 1)
    assert counted.macs == pytest.approx(macs + ranking, rel=1e-6) and not counted.uncounted
    assert ranking < 0.01 * macs


def test_tokens_are_ranked_by_class_attention_behind_those_in_front():
    row = torch.tensor([[0.9, 0.1, 0.3, 0.2], [0.0, 0.4, 0.1, 0.6]])
    assert ranked(row, 1).tolist() == [[0, 2, 3, 1], [0, 3, 1, 2]]
    assert ranked(row, 2).tolist() == [[0, 1, 2, 3], [0, 1, 3, 2]]


def test_the_last_tokens_merge_each_into_the_most_similar_one_by_hand():
    # tokens: class, two that stay, three that go, of which the last is opposite to all that stay
    tokens = torch.tensor([[[9.0, 9], [1, 0], [0, 2], [3, 4], [6, 8], [-1, -1]]])
    size = torch.tensor([1.0, 2, 1, 1, 5, 1])[None, :, None]
    merged, sizes, into = merge_last(tokens, size, 3, prefix=1)
    assert into.tolist() == [[2, 2, 1]]           # cosines 0.6 and 0.8, twice; -0.7 and -0.7, the first of them
    assert largest(merged, [[[9.0, 9], [0, -0.5], [3, 14 / 3]]]) < 1e-6         # each token counts once
    assert largest(sizes[..., 0], [[1, 2, 1 + 0.8 * 1 + 0.8 * 5]]) < 1e-6       # what is opposite adds nothing
    assert merge_last(tokens, size, 0, prefix=1)[0].equal(tokens)


def test_a_block_drops_and_merges_between_attention_and_mlp_by_hand():
    model = small("lab", depth=1)
    reduced = reduce_tokens(model, 5, 3)
    block, states = model.blocks[0], {}
    reduced.blocks[0].register_forward_hook(lambda _, __, out: states.update(out=out))
    logits(reduced)
    with torch.inference_mode():
        tokens = model.embed(INPUTS)
        row = block.attn.weights(block.norm1(tokens))[:, :, 0].mean(1)
        tokens = tokens + block.attn(block.norm1(tokens))
        for picture in range(3):
            order = [0, *(1 + row[picture, 1:].argsort(descending=True)).tolist()]
            stay, mixed, gone = order[:9], order[9:12], order[12:]
            assert len(gone) == 5
            means = {place: [tokens[picture, place]] for place in stay}
            for place in mixed:
                near = max(stay[1:], key=lambda one: torch.cosine_similarity(
                    tokens[picture, one], tokens[picture, place], dim=0))
                means[near].append(tokens[picture, place])
            wanted = torch.stack([torch.stack(one).mean(0) for one in means.values()])
            wanted = wanted + block.mlp(block.norm2(wanted))
            assert largest(states["out"][picture], wanted) < 1e-5
            places = source_map(reduced)[picture]
            assert (places[gone] == -1).all() and (places[mixed] > 0).all()
            assert places[stay].tolist() == list(range(9))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model_reduces_a_batch_as_it_reduces_each_picture(kind):
    model = small(kind)
    before = logits(model)
    reduced = reduce_tokens(model, [0, 3, 0, 1], [2, 1, 0, 1])
    together = logits(reduced)
    assert largest(together, torch.cat([logits(reduced, one) for one in INPUTS.split(1)])) < 1e-5
    assert largest(together, before) > 1e-4 and torch.equal(logits(model), before)
    assert [*reduced.state_dict()] == [*model.state_dict()] and type(reduced) is type(model)
    count = 16 + model.num_prefix_tokens
    assert reduced.tokens_per_block == [count - 2, count - 6, count - 6, count - 8]


def test_reducing_nothing_changes_nothing():
    model = small()
    reduced = reduce_tokens(model, 0, 0)
    assert torch.equal(logits(reduced), logits(model)) and reduced.tokens_per_block == [17] * 4
    assert [type(block) for block in reduced.blocks] == [type(block) for block in model.blocks]


def test_dropping_alone_is_the_top_k_of_token_pruning():
    model = small()
    assert largest(logits(reduce_tokens(model, [0, 4, 0, 6], 0)), logits(prune_tokens(model, [0.75, 0.5], (1, 3), "topk"))) < 1e-5


def test_sources_say_where_every_patch_went_over_several_blocks():
    reduced = reduce_tokens(small(), [0, 3, 0, 1], [4, 0, 2, 1])
    logits(reduced)
    places = source_map(reduced)
    assert places.shape == (3, 17) and places.max() == 17 - 11 - 1 and (places[:, 0] == 0).all()
    for one in places:
        assert set(one[one >= 0].tolist()) == set(range(6)) and 4 <= (one == -1).sum() <= 8


@pytest.mark.parametrize("kind", ["lab", "timm"])
def test_saved_and_loaded_it_says_the_same_and_every_weight_learns(kind, tmp_path):
    reduced = reduce_tokens(small(kind), [0, 3, 0, 1], 2)
    checkpoint.save(reduced, tmp_path / "model.safetensors")
    loaded = checkpoint.load(tmp_path / "model.safetensors")
    assert torch.equal(logits(loaded), logits(reduced)) and loaded.recipe == reduced.recipe
    assert reduced.recipe["plans"] == [{"transform": "reduce_tokens", "pruned": [0, 3, 0, 1], "merged": 2}]
    reduced.train()(INPUTS).square().mean().backward()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in reduced.parameters())


def test_blocks_compiled_one_by_one_give_the_same_logits():
    reduced, eager = (reduce_tokens(small(depth=2), [0, 3], [2, 1]) for _ in range(2))
    torch._dynamo.reset()
    compiled = []

    def backend(graph, example_inputs):
        compiled.append(len(graph.graph.nodes))
        return graph.forward

    for block in reduced.blocks:
        block.compile(backend=backend, dynamic=True)
    assert largest(logits(reduced), logits(eager)) < 1e-5 and sum(compiled) > 50


def test_in_bfloat16_logits_stay_finite_and_close():
    half = logits(reduce_tokens(small("timm"), 2, 1).bfloat16(), INPUTS.bfloat16())
    assert half.dtype == torch.bfloat16 and torch.isfinite(half).all()


# --- what the search is made of

def test_the_learned_number_and_its_gradients_are_the_official_ones():
    wanted = REFERENCE["rate"]
    rate = Rate(wanted["patch_number"], wanted["granularity"])
    with torch.no_grad():
        rate.logits.copy_(torch.tensor(wanted["logits"]))
    assert rate.candidates.tolist() == wanted["candidates"]
    number = rate.number()
    number.backward()
    assert number.item() == wanted["kept"] - 1 and largest(rate.logits.grad, wanted["kept_grad"]) < 1e-6
    rate.logits.grad = None
    mask = rate.mask(int(number), wanted["last"] - 1)
    assert largest(rate.staying(), wanted["probability"][1:]) < 1e-6 and mask.tolist() == wanted["mask"][1:]
    (mask * torch.tensor(wanted["mask_weights"][1:])).sum().backward()
    assert largest(rate.logits.grad, wanted["mask_grad"]) < 1e-5


def test_the_number_is_a_mean_rounded_up_whose_gradient_passes_by_hand():
    rate = Rate(4, 2)                                      # candidates 4 and 2
    with torch.no_grad():
        rate.logits.copy_(torch.tensor([3.0, 1.0]).log())   # 0.75 and 0.25: a mean of 3.5
    number = rate.number()
    assert number.item() == 4
    number.backward()
    assert largest(rate.logits.grad, [0.75 * (4 - 3.5), 0.25 * (2 - 3.5)]) < 1e-6
    assert largest(rate.staying(), [1, 1, 0.75, 0.75]) < 1e-6
    assert rate.mask(1, 3).tolist() == [1, 0, 0, 1]
    even = Rate(3, 1)
    assert even.number().item() == 2                        # the mean of 3, 2, 1 is no whole number in float32


def given_logits(kind):
    search = rate_model(small("timm")).train()
    with torch.no_grad():
        for place, block in enumerate(search.blocks):
            if place:
                block.prune.logits.copy_(torch.linspace(1.5 - place, place / 2, 16))
                merging = (40, -40) if kind == "search_prune" else (1.0 - place, place / 1.5)
                block.merge.logits.copy_(torch.linspace(*merging, 16))
    return search


@pytest.mark.parametrize("kind", ["search_prune", "search_both"])
def test_a_pass_of_the_search_has_the_official_logits_macs_and_gradients(kind):
    wanted, search = REFERENCE[kind], given_logits(kind)
    found, costs = search(pictures(*wanted["input"])), block_costs(small("timm"), (3, 32, 32))
    numbers = search.blocks[0].passing.numbers
    assert [[int(pair[part]) + 1 for pair in numbers] for part in (0, 1)] == wanted["kept"]
    assert largest(found, wanted["logits"]) < 1e-5
    macs = costs.whole * costs.share(numbers)
    assert macs.item() == pytest.approx(wanted["flops"] - 8 * 8 * 3 * 24, rel=1e-5)
    (found.square().mean() + macs / 1e6).backward()
    for name in ("prune_grad", "merge_grad"):
        for block, grad in [*zip(search.blocks, wanted.get(name, ()))][1:]:
            assert largest(getattr(block, name[:5]).logits.grad, grad) < 1e-6
    assert search.blocks[0].prune.logits.grad.tolist() == [0.0] and search.blocks[1].norm1.weight.grad is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_masked_pass_is_that_of_the_model_that_is_really_shorter(kind):
    model = small(kind)
    search = rate_model(model).eval()
    with torch.no_grad():
        for place, block in [*enumerate(search.blocks)][1:]:
            block.prune.logits.copy_(torch.linspace(1.5 - place, place / 2, 16))
            block.merge.logits.copy_(torch.linspace(-1.5 * place, 1.5 * place, 16))
    masked = logits(search)
    kept = [[int(pair[part]) for pair in search.blocks[0].passing.numbers] for part in (0, 1)]
    pruned, merged = of_kept(*kept, 16)
    assert sum(pruned) > 3 and sum(merged) > 2
    assert largest(masked, logits(reduce_tokens(model, pruned, merged))) < 2e-4
    assert largest(masked, logits(model)) > 1e-2


def test_costs_are_those_that_are_counted():
    model = small("lab distilled")
    costs = block_costs(model, (3, 32, 32))
    assert costs.whole == profiling.count(model, (3, 32, 32)).macs and (costs.tokens, costs.prefix) == (18, 2)
    assert costs.share([(torch.tensor(16.0),) * 2] * 4).item() == 1
    counted = profiling.count(reduce_tokens(model, [2, 0, 3, 0], [0, 4, 0, 0]), (3, 32, 32)).macs
    image = [(14, 14), (14, 10), (7, 7), (7, 7)]
    found = costs.share([tuple(map(torch.tensor, map(float, pair))) for pair in image]).item() * costs.whole
    ranking = 24 * (18 + 16 + 12) + 24 * 4 * 10
    assert found == pytest.approx(counted - ranking, rel=1e-6)


@pytest.fixture(scope="module")
def shapes():
    return data.load("shapes", "train", count=64)


@pytest.mark.parametrize("share, changes", [(0.7, {}), (0.55, {"whole_blocks": 0}), (0.8, {"granularity": 4})])
def test_the_search_reaches_its_share_within_a_token_for_each_block(share, changes, shapes):
    model = small(patch_size=4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = learn_rates(model, shapes, share, lr=0.1, steps=80, **changes, **QUICK)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    costs = block_costs(model, (3, 32, 32))
    one = sum(costs.attention[i] + costs.mlp[i] + 2 * 65 * costs.pairs[i] for i in range(4))
    assert abs(found.macs - share * costs.whole) < one
    reduced = reduce_tokens(model, found.pruned, found.merged)
    counted = profiling.count(reduced, (3, 32, 32)).macs
    assert 0 <= counted - found.macs < 0.05 * counted      # ranking and matching, of a narrow model
    assert changes or found.pruned[0] == found.merged[0] == 0
    assert set(found.history.terms) == {"labels", "macs"} and len(found.history.loss) == 80
    assert "history" not in repr(found)
    again = learn_rates(model, shapes, share, lr=0.1, steps=80, **changes, **QUICK)
    assert (again.pruned, again.merged) == (found.pruned, found.merged)


def test_the_loss_is_that_of_the_labels_and_the_square_of_what_the_share_is_off(shapes):
    search = given_logits("search_both")
    batch = training.Batch(*shapes.batch(torch.arange(4)), torch.arange(4))
    objective = RateObjective(0.5, block_costs(small("timm"), (3, 32, 32)))
    loss, found, terms = objective(search, batch)
    share = objective.costs.share(search.blocks[0].passing.numbers).item()
    assert terms["macs"].item() == pytest.approx(100 * (share - 0.5) ** 2, rel=1e-4)
    assert terms["labels"].item() == pytest.approx(training.label_loss(found, batch).item())
    assert loss.item() == pytest.approx(sum(term.item() for term in terms.values()), rel=1e-6)


def test_logits_teach_the_rates_of_all_blocks_but_the_first_which_keeps_all_and_the_last_whose_mask_nobody_reads():
    search = given_logits("search_both")
    search(INPUTS).square().mean().backward()
    grads = [[rate.logits.grad for rate in (block.prune, block.merge)] for block in search.blocks]
    assert all(grad.abs().max() > 1e-4 for pair in grads[1:3] for grad in pair)
    assert all(grad is None for pair in (grads[0], grads[3]) for grad in pair)


BAD = [
    (lambda m, p: reduce_tokens(m, [1, 2], 0), r"pruned has 2 entries for 4 layers"),
    (lambda m, p: reduce_tokens(m, 0, [1] * 5), r"merged has 5 entries for 4 layers"),
    (lambda m, p: reduce_tokens(m, -1, 0), r"pruned\[0\]=-1; give a number with 0 <= pruned\[0\]"),
    (lambda m, p: reduce_tokens(m, 0, [0, 0.5, 0, 0]), r"merged\[1\]=0.5; give a whole number"),
    (lambda m, p: reduce_tokens(m, [0, 8, 0, 0], [0, 8, 0, 0]),
     r"block 1 would drop 8 and merge 8 of 16 image tokens.*pruned\[1\] \+ merged\[1\] <= 15"),
    (lambda m, p: reduce_tokens(m, 4, 0), r"block 3 would drop 4 and merge 0 of 4"),
    (lambda m, p: reduce_tokens(merge_tokens(m, 2), 1, 1), r"blocks.0 is MergingBlock, no plain block"),
    (lambda m, p: reduce_tokens(models.create_model("lab_cct"), 1, 1), r"reads no class token"),
    (lambda m, p: reduce_tokens(models.create_model("lab_cnn"), 1, 1), r"reduce_tokens: ResidualNetwork"),
    (lambda m, p: apply_reduction(m, {"pruned": [1] * 4}), r"merged\[0\]=None; give a whole number"),
    (lambda m, p: learn_rates(m, p, 0.01, steps=1, **QUICK), r"share=0.01; give a number with 0.\d+ <= share <= 1"),
    (lambda m, p: learn_rates(m, p, 1.5, steps=1, **QUICK), r"share=1.5; give a number"),
    (lambda m, p: learn_rates(m, p, 0.7, granularity=0, steps=1, **QUICK), r"granularity=0; give a number with 1 <="),
    (lambda m, p: learn_rates(m, p, 0.7, whole_blocks=4, steps=1, **QUICK), r"whole_blocks=4; .* <= 3"),
    (lambda m, p: learn_rates(m, p, 0.7, weight=-1, steps=1, **QUICK), r"weight=-1; give a number with 0 <="),
    (lambda m, p: learn_rates(merge_tokens(m, 2), p, 0.7, steps=1, **QUICK), r"blocks.0 is MergingBlock"),
    (lambda m, p: learn_rates(models.create_model("lab_cct"), p, 0.7, steps=1, **QUICK), r"reads no class token"),
    (lambda m, p: learn_rates(small(image_size=64), p, 0.7, steps=1, **QUICK), r"does not take an image of \(3, 32, 32\)"),
]


@pytest.mark.parametrize("call, message", BAD)
def test_bad_input_is_refused_with_what_is_allowed(call, message, shapes):
    with pytest.raises(LabError, match=message):
        call(small(), shapes)


def test_tokens_that_leave_between_blocks_are_refused_in_its_name():
    reduced = reduce_tokens(small(), 1, 1)
    tokens = reduced.blocks[0](reduced.embed(INPUTS))
    with pytest.raises(LabError, match="reduce_tokens: a block was given 12 tokens"):
        reduced.blocks[1](tokens[:, :12])
