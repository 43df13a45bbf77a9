"""A job script small enough for tests: an MLP on handwritten digits, 60 steps."""

import torch
from sklearn.datasets import load_digits  # type: ignore[import-untyped]  # no types

import lockstep

x, y = load_digits(return_X_y=True)
torch.manual_seed(0)
model = torch.nn.Sequential(
    torch.nn.Linear(64, 16), torch.nn.ReLU(), torch.nn.Linear(16, 10)
)
job = lockstep.JobSpec(
    model=model,
    loss=torch.nn.functional.cross_entropy,
    optimizer=torch.optim.AdamW(model.parameters(), lr=1e-2),
    data=((x[:400] / 16).astype("float32"), y[:400]),
    batch=16,
    steps=60,
    terms=lockstep.Terms(price=2, auction=4),
)
