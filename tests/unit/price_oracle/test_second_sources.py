import pytest

from tests.support.evm import artifact
from tests.unit.price_oracle.support import DEVIATION, WINDOW, ZERO, observed


def test_of_an_asset_without_one_is_zero(priced, token):
    assert priced.oracle.call("second_sources", token) == (ZERO, ZERO, 0, 0, 0, 0, False)


def test_tells_what_can_veto_the_price(doubled, token, pool, quote):
    found = doubled.oracle.call("second_sources", token)
    assert found == (pool.address, quote, WINDOW, DEVIATION, 6, 6, True)


@pytest.mark.parametrize(("window", "deviation"), [(300, 1), (86_400, 5_000)])
def test_tells_the_widest_settings(priced, token, quote, window, deviation):
    pool = priced.evm.deploy(artifact("ScriptedPool"), quote, token)
    pool.call("set_response", observed(0, 0))
    priced.change("set_second_source", token, pool.address, quote, window, deviation)
    found = priced.oracle.call("second_sources", token)
    assert found == (pool.address, quote, window, deviation, 6, 6, False)
