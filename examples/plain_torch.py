"""Compare fetched weights with plain PyTorch training of the same model and steps.

`python examples/plain_torch.py examples/digits_mlp.py weights.safetensors` prints one
JSON object with both test accuracies.
"""

import json
import runpy
import sys

import torch
from safetensors.torch import load_file


def accuracy(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    """Share of rows that the model gets right."""
    with torch.no_grad():
        return (model(x).argmax(1) == y).float().mean().item()


def main(script: str, weights: str) -> None:
    """Train as the script says, load the weights, compare on rows never trained on."""
    found = runpy.run_path(script)
    job, model = found["job"], found["model"]
    x, y = found["x"][1500:], found["y"][1500:]
    rows, targets = job.data
    order = torch.cat([torch.randperm(len(rows)) for _ in range(job.steps)])
    for step in range(job.steps):
        batch = order[step * job.batch : (step + 1) * job.batch]
        job.optimizer.zero_grad()
        job.loss(model(rows[batch]), targets[batch]).backward()
        job.optimizer.step()
    plain = accuracy(model, x, y)
    model.load_state_dict(load_file(weights))
    print(json.dumps({"torch": plain, "fetched": accuracy(model, x, y)}))


if __name__ == "__main__":
    main(*sys.argv[1:3])
