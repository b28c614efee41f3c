from tests.unit.vault.deployment import *  # noqa: F403 fixtures
