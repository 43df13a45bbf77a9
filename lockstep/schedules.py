"""Learning-rate schedules of a job, such as `Warmup(100).then(Cosine(900))`."""

from ml_verifier.capture.schedules import (
    Cosine,
    Decay,
    Flat,
    Linear,
    Milestones,
    Schedule,
    StepDecay,
    Then,
    Warmup,
)

__all__ = [
    "Cosine",
    "Decay",
    "Flat",
    "Linear",
    "Milestones",
    "Schedule",
    "StepDecay",
    "Then",
    "Warmup",
]
