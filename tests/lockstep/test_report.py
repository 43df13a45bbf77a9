import io
import json

from lockstep.report import Report


def test_a_line_for_programs_keeps_values() -> None:
    out = io.StringIO()
    report = Report("solver", as_json=True, out=out, clock=lambda: 12.5)
    report("committed", job=3, root=b"\x1f" * 32, gas=214_332, late=False)
    assert json.loads(out.getvalue()) == {
        "time": 12.5,
        "actor": "solver",
        "event": "committed",
        "job": 3,
        "root": "0x" + "1f" * 32,
        "gas": 214_332,
        "late": False,
    }


def test_a_line_for_people_is_short() -> None:
    out = io.StringIO()
    Report("solver", out=out)("committed", job=3, root=b"\x1f" * 32, gas=214_332)
    assert out.getvalue().endswith(
        "solver  committed  job=3  root=1f1f1f1f  gas=214,332\n"
    )
