"""Vectors: the trees, stages and evidence of one step of a small job."""

import hashlib

import numpy as np

from ml_verifier.adjudication.evidence import build
from ml_verifier.adjudication.nodes import node_tree, placed_node
from ml_verifier.adjudication.phases import refinement_of
from ml_verifier.adjudication.units import Unit
from ml_verifier.adjudication.world import Held, HonestWorld
from ml_verifier.commitment import tensor_root
from tests.ml_verifier.jobs import SEED, dataset, mlp_job
from tests.support.vectors import Vectors


def test_vectors(vectors: Vectors) -> None:
    job = mlp_job()
    world = HonestWorld(job.program, SEED, dataset(job), 1)
    trace = world.trace(0)
    nodes = []
    for number, node in enumerate(job.program.nodes):
        refinement = refinement_of(world.case, number, 0)
        stages = [np.asarray(x, order="C") for x in world.stages(0, number)]
        sources = [Held(x) for x in (*trace.inputs(number), *stages)]
        evidence = build(refinement, sources, len(stages) - 1, Unit(0))
        nodes.append(
            {
                "operator": node.operator.name,
                "placed": placed_node(job.program, number).encode().hex(),
                "stages": [
                    {"name": stage.name, "type": str(stage.type),
                     "root": tensor_root(array).hex()}
                    for stage, array in zip(refinement.stages, stages, strict=True)
                ],
                "evidence_of_the_last_stage": hashlib.sha256(evidence).hexdigest(),
            }
        )  # fmt: skip
    vectors.check(
        "adjudication",
        {
            "program": job.program.encoded.hex(),
            "seed": SEED,
            "node_root": node_tree(job.program).root.hex(),
            "trace_root": trace.tree.root.hex(),
            "values": [root.hex() for root in trace.roots],
            "nodes": nodes,
        },
    )
