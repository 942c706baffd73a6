"""Run and grade the notebooks of a class on cases that nobody has seen (`lightvit-lab grade`).

`submissions` reads the files, `session` runs each in a process of its own, `worker` is what runs in
that process behind the walls of `lockdown`, and `grading` judges in the process of the command,
where no learner's code ever runs. `book/teaching.md` says what this protects against and what it
does not.
"""
