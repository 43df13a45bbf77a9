"""Print the committed cases, or join them with the specification's answers.

python -m tests.runtime.oracle > cases.json
python tests/runtime/oracle/eels.py < cases.json > answers.json   (see there)
python -m tests.runtime.oracle answers.json      rewrites tests/vectors
"""

import json
import sys
from pathlib import Path

from tests.runtime.oracle.cases import committed
from tests.support.vectors import FOLDER

if len(sys.argv) == 1:
    json.dump(committed(), sys.stdout)
else:
    answers = json.loads(Path(sys.argv[1]).read_text())
    joined = [
        {**each, "expected": answer}
        for each, answer in zip(committed(), answers, strict=True)
    ]
    content = ",\n".join(json.dumps(each, sort_keys=True) for each in joined)
    (FOLDER / "execution.json").write_text(f"[\n{content}\n]\n")
