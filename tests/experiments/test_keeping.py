"""Runs that are kept: made once for all that decides them, and made again where any of it is another."""

from lightvit_lab.experiments import keeping


def test_a_run_is_made_once_and_again_only_for_another_study_or_another_setting(monkeypatch, tmp_path):
    monkeypatch.setenv("LIGHTVIT_CACHE", str(tmp_path))
    made = []

    def make():
        made.append(1)
        return {"test": len(made) / 10, "cpu_seconds": 1.0}

    about = ["model", {"steps": 3}, 0]
    assert keeping.kept("one", about, make, "run")["test"] == 0.1
    assert keeping.kept("one", ["model", {"steps": 3}, 0], make, "run")["test"] == 0.1 and len(made) == 1
    assert keeping.kept("one", ["model", {"steps": 4}, 0], make, "run")["test"] == 0.2
    assert keeping.kept("two", about, make, "run")["test"] == 0.3
    assert keeping.kept("one", about, make, "run")["test"] == 0.1 and len(made) == 3
