"""The default tests do not even import these files, nor hypothesis."""


def pytest_ignore_collect(collection_path, config):
    return True if config.getoption("markexpr") == "not slow" else None
