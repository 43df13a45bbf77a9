"""Operator and tile adjudication: who is right about a step that is too big to replay.

``game`` is the dispute as a pure state machine, ``parties`` plays its two sides,
``trace`` is what a solver commits of one step, ``refinement`` and ``rules`` cut every
operator into stages with bounded dependencies, ``evidence`` tries one unit of a stage.
The specification is ``docs/spec/adjudication.md``.
"""
