"""The devices under test, and tests of the host alone; fixtures are in helpers/fixtures.py."""

from __future__ import annotations

import os
import re
import signal

import pytest

pytest.register_assert_rewrite("helpers")

HOST_ONLY = "host only: "


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--device",
        default="host",
        metavar="NAMES",
        help="what kernels are tested on: host (default), cuda:0, or cuda:0,cuda:1, of which only "
        "tests of the two towers use the second",
    )


def pytest_configure(config: pytest.Config) -> None:
    os.environ["PYALEXNET_TEST_DEVICES"] = config.getoption("device")
    from helpers import target  # which knows them from now on
    from pyalexnet.errors import DeviceError

    try:
        target.check()
    except DeviceError as error:
        raise pytest.UsageError(f"--device: {error}") from error
    from helpers import fixtures

    config.pluginmanager.register(fixtures)
    # Shells start what they put in the background without it, and tests interrupt themselves.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips what is marked host_only where a GPU is under test."""
    from helpers import target

    for item in items:
        mark = item.get_closest_marker("host_only")
        if mark and not target.IS_HOST:
            [reason] = mark.args
            item.add_marker(pytest.mark.skip(reason=HOST_ONLY + reason))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = terminalreporter.getreports("skipped")
    alone = [r for r in reports if re.match(f"Skipped: {HOST_ONLY}", str(r.longrepr[2]))]
    if alone:
        terminalreporter.write_line(f"{len(alone)} tests of the host alone were skipped (-rs)")
