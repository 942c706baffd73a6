"""The rate of the studies that fine-tune: chosen on validation pictures, by the stored study."""

from lightvit_lab.experiments import base, fine_tuning, results


def test_the_rate_of_each_stage_is_the_best_of_the_stored_validation_accuracies():
    stored = results.load("fine_tuning_cifar10").data
    assert {row["split"] for row in stored["rows"]} == {"val"}
    for stage, rates in fine_tuning.RATES.items():
        means = {rate: [row["test"] for row in stored["rows"] if (row["stage"], row["rate"]) == (stage, rate)]
                 for rate in rates}
        assert all(len(scores) == len(fine_tuning.MODELS) for scores in means.values())
        best = max(means, key=lambda rate: sum(means[rate]))
        assert best == stored["best"][stage] == base.TUNINGS[stage]["lr"]
        assert min(rates) < best < max(rates)       # no rate outside of those tried would be next


