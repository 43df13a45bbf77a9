"""Structured logging: one JSON object per line, levels respected, tracebacks kept."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from node.logs import configure_logging


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Leave logging as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    captured = capsys.readouterr()
    assert captured.out == ""
    return [json.loads(line) for line in captured.err.splitlines()]


def test_json_lines_hold_event_level_and_fields(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging("json", "info")
    structlog.get_logger("here").info("block committed", height=7)
    structlog.get_logger("here").debug("not shown")
    (line,) = lines(capsys)
    assert (line["event"], line["level"], line["height"]) == (
        "block committed",
        "info",
        7,
    )
    assert str(line["timestamp"]).endswith("Z")


def test_libraries_speak_the_same_format(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("json", "info")
    logging.getLogger("somebody").warning("careful: %s", "hot")
    logging.getLogger("hypercorn.error").info("Running on http://...")
    (line,) = lines(capsys)
    assert (line["event"], line["level"]) == ("careful: hot", "warning")


def test_tracebacks_are_kept(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("json", "error")
    try:
        int("the cause")
    except ValueError:
        structlog.get_logger("here").exception("failed")
    (line,) = lines(capsys)
    assert "the cause" in json.dumps(line["exception"])


def test_console_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("console", "info")
    structlog.get_logger("here").info("stopping", height=7)
    assert "stopping" in capsys.readouterr().err
