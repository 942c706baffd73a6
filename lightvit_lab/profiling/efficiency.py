"""One number for a model's cost, as the Efficient Error Rate proposes: a mean of four ratios."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import LabError, plain_numbers, require_choice, require_range
from .counting import Count

TERMS = ("params", "bits", "flops", "weight_bytes")
# ViT-B/16 at 224 px in float32: timm's parameters, MACs from `count`, four bytes a parameter.
REFERENCES = {"vit_base_patch16_224": {
    "params": 86_567_656, "bits": 32, "flops": 2 * 17_563_828_224, "weight_bytes": 4 * 86_567_656}}


@plain_numbers
def efficient_error_rate(cost: Count, bits: float = 32,
                         reference: str | Count = "vit_base_patch16_224",
                         terms: Sequence[str] = TERMS) -> float:
    """Mean of a model's parameters, bits, FLOPs and bytes, each divided by the reference's.

    Lower is lighter. The quantities are those that the survey's Efficient Error Rate (arXiv
    2309.02031) names; the plain mean and the reference are the choice of this function. Compare its
    numbers with one another, not with those of the survey's tables.

    `bits` are those of a weight (the average, where weights differ); the reference has 32. They are
    given by the caller, and `weight_bytes` counted, so quantization enters twice: leave one out by
    `terms`. `reference` is a name of `REFERENCES` or a Count. Raises LabError on unknown terms or
    references, and on bits below 1.
    """
    caller = "efficient_error_rate"
    if isinstance(terms, str) or not terms:
        raise LabError(f"{caller}: terms={terms!r}; give at least one in a tuple, e.g. {TERMS}")
    for term in terms:
        require_choice(caller, "terms", term, TERMS)
    require_range(caller, "bits", bits, 1)
    if not isinstance(cost, Count):
        raise LabError(f"{caller}: cost is a {type(cost).__name__}; give profiling.count(model)")
    if not isinstance(reference, Count):
        require_choice(caller, "reference", reference, REFERENCES)
    ours, against = _quantities(cost, bits), (
        _quantities(reference, 32) if isinstance(reference, Count) else REFERENCES[reference])
    if zeros := [term for term in terms if not against[term]]:
        raise LabError(f"{caller}: the reference has no {', '.join(zeros)}; leave that out of "
                       f"terms={terms!r}")
    return sum(ours[term] / against[term] for term in terms) / len(terms)


def _quantities(cost: Count, bits: float) -> dict[str, float]:
    return {**{name: getattr(cost, name) for name in TERMS if name != "bits"}, "bits": bits}
