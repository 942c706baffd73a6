"""Exercises made for a test, which no page poses."""

from lightvit_lab.exercises import Answers, Exercise, Posed


def exercise(name, solution, cases=None, mistakes=(), points=1, minutes=1, prompt="", **how):
    """An exercise with its answers, as if a page had said them."""
    return Exercise(name, points, minutes, cases, posed=Posed(name, prompt), answers=Answers(solution, tuple(mistakes)),
                    **how)
