"""The class: notebooks that were handed in are run and graded (`lightvit-lab grade`), on cases that
nobody has seen.

`submissions` reads the files, `session` runs each in a process of its own, `worker` is what runs in
that process behind the walls of `lockdown`, and `grading` judges in the process of the command,
where no learner's code ever runs. `book/teaching.md` says what this protects against and what it
does not.
"""
