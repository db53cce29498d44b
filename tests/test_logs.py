"""Records from before the log file is open."""

import logging

from maskrcnn_repro.utils.logs import logging_to, records_held

logger = logging.getLogger("maskrcnn_repro.tests")


def test_records_held_stand_in_the_log_once_and_in_order(tmp_path, capsys):
    with records_held():
        logger.warning("first")
        assert capsys.readouterr() == ("", "")
        with logging_to(tmp_path, 0):
            logger.warning("second")
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert [line.rpartition(" ")[2] for line in lines] == ["first", "second"]
    assert [line.rpartition(" ")[2] for line in capsys.readouterr().out.splitlines()] == [
        "first",
        "second",
    ]


def test_records_of_a_run_without_a_log_are_shown_at_its_end(caplog):
    with records_held():
        logger.warning("first")
        assert caplog.messages == []
    assert caplog.messages == ["first"]


def test_a_broken_connection_goes_to_the_file_alone(tmp_path, capsys):
    with logging_to(tmp_path, 0):
        try:
            raise RuntimeError("[pair.cc:561] Connection closed by peer [127.0.0.1]:919.")
        except RuntimeError:
            logger.exception("Exception during training:")
    assert capsys.readouterr().out == ""
    assert "Connection closed by peer" in (tmp_path / "log.txt").read_text()
