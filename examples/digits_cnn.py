"""Have a small CNN trained on handwritten digits: `python examples/digits_cnn.py`."""

import torch
from sklearn.datasets import load_digits
from torch import nn

import lockstep

x, y = load_digits(return_X_y=True)
x, y = torch.tensor(x / 16, dtype=torch.float32).view(-1, 1, 8, 8), torch.tensor(y)
model = nn.Sequential(
    nn.Conv2d(1, 8, 3, padding=1),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Conv2d(8, 16, 3, padding=1),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Flatten(),
    nn.Linear(64, 10),
)
job = lockstep.JobSpec(
    model=model,
    loss=nn.functional.cross_entropy,
    optimizer=torch.optim.AdamW(model.parameters(), lr=1e-2),
    data=(x[:1500], y[:1500]),
    batch=32,
    steps=200,
)

if __name__ == "__main__":
    posted = lockstep.connect(key="creator.key").submit_spec(job)
    posted.wait()
    posted.load_into(model)
    right = model(x[1500:]).argmax(1) == y[1500:]
    print(f"test accuracy {right.float().mean():.3f}")
