import torch

from lightvit_lab import models, survey
from lightvit_lab.experiments import light_models, results


def test_layers_alone_leave_attentions_products_out():
    tokens, dim, blocks = 197, 192, 12
    alone = 196 * 768 * dim + blocks * 12 * tokens * dim**2 + dim * 1000
    assert light_models.layers_alone(models.create_model("deit_tiny_patch16_224").eval()) == alone


def test_the_stored_counts_are_near_what_was_published():
    rows, published = results.load("light_models").data["models"], survey.published()
    assert len(rows) >= 10
    for row in published:
        found = rows.get(row.model.partition(".")[0])
        if found:
            assert abs(found["params"] / 1e6 - row.params_m) < 0.02 * row.params_m, row.model
            loose = 0.11 if row.model.startswith("lightvit") else 0.03       # LightViT's figures leave products out
            assert abs(found["macs"] / 1e9 - row.macs_g) < loose * row.macs_g + 0.005, row.model


def test_models_are_counted_as_trained_and_timed_as_used(monkeypatch):
    rows, timed = [row for row in survey.published() if row.model.startswith("repvit")], {}

    def measure(candidates, inputs, budget_s, threads):
        timed.update(candidates)
        return real(candidates, inputs, 0.1, threads=threads)

    real = light_models.profiling.measure
    monkeypatch.setattr(light_models.profiling, "measure", measure)
    monkeypatch.setattr(light_models.survey, "published", lambda: rows)
    monkeypatch.setattr(light_models, "CONDITIONS", {"one": (1, torch.float32, 0.1)})
    (found,) = light_models.light_models(None)["models"].values()
    (used,) = timed.values()
    trained = models.create_model("repvit_m0_9", num_classes=1000)
    assert found["params"] == sum(value.numel() for value in trained.parameters())
    assert found["layers_alone"] == light_models.layers_alone(trained.eval())
    assert any(isinstance(part, torch.nn.BatchNorm2d) for part in trained.modules())
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in used.modules())


def test_every_stored_time_lies_within_its_interval():
    for name, row in results.load("light_models").data["models"].items():
        for label in ("one", "batch", "bfloat16"):
            low, high = row[label]["interval_ms"]
            assert low <= row[label]["latency_ms"] <= high, (name, label)
