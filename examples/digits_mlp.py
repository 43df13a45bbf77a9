"""Have a small MLP trained on handwritten digits: `python examples/digits_mlp.py`."""

import torch
from sklearn.datasets import load_digits

import lockstep

x, y = load_digits(return_X_y=True)
x, y = torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y)
model = torch.nn.Sequential(
    torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10)
)
job = lockstep.JobSpec(
    model=model,
    loss=torch.nn.functional.cross_entropy,
    optimizer=torch.optim.AdamW(model.parameters(), lr=1e-2),
    data=(x[:1500], y[:1500]),
    batch=32,
    steps=300,
)

if __name__ == "__main__":
    posted = lockstep.connect(key="creator.key").submit_spec(job)
    posted.wait()
    posted.load_into(model)
    right = model(x[1500:]).argmax(1) == y[1500:]
    print(f"test accuracy {right.float().mean():.3f}")
