"""Arms have runs by seed. This room makes what is missing, keeps it, and knows which code made it.

A **question**, such as a study or an attempt on a ladder, hands over ``run.Run``s: an arm with a seed, and what it
runs with. It says which rows it wants next, when it stops and what it prints; all else is ``question.Question``.

A **row** is what one run of an arm says to a verdict: a ``runs.record.Record``, with its scores, the facts that rows
that are compared have in common, and its costs. The rows of a question are one file of lines (``runs.rows``), named
``QUESTION-RUN``. Whoever has the file need not make them again.

A **maker** makes rows of runs. ``maker.Pipeline`` trains, with the stages of a commit, in processes that are forked
from one (``pool.Pool``, stages/maker.py). ``program_runs.ProgramMaker`` runs a program, and has the same methods:
nothing else here, and nothing above, knows which of them makes a row.
"""
