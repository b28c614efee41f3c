from brownie import ZERO_ADDRESS, chain

from tests.unit.vault.deployment import DAY, NAV


def sleep_to_midnight(days: int) -> None:
    """To one minute past the `days`-th midnight (UTC) from now."""
    chain.sleep((chain.time() // DAY + days) * DAY + 60 - chain.time())
    chain.mine()


def accrued(days: int, fee_bps: int = 100, supply: int = NAV) -> int:
    return supply * fee_bps * days // (365 * 10_000)


def test_accrues_by_whole_days_and_counts_in_the_supply(vault):
    assert (vault.pending_fee_shares(), vault.totalSupply()) == (0, NAV)
    sleep_to_midnight(10)
    assert vault.pending_fee_shares() == accrued(10)
    assert vault.totalSupply() == NAV + accrued(10)
    chain.sleep(DAY - 120)
    chain.mine()
    assert vault.pending_fee_shares() == accrued(10)


def test_pays_the_recipient_and_keeps_the_supply(vault, fee_recipient, stranger):
    sleep_to_midnight(10)
    tx = vault.collect_fee({"from": stranger})
    assert tx.return_value == accrued(10)
    assert vault.balanceOf(fee_recipient) == accrued(10)
    assert vault.pending_fee_shares() == 0
    assert vault.totalSupply() == NAV + accrued(10)
    assert [list(log.values()) for log in tx.events["Transfer"]] == [
        [ZERO_ADDRESS, fee_recipient, accrued(10)]
    ]


def test_twice_pays_once(vault, fee_recipient, stranger):
    sleep_to_midnight(10)
    vault.collect_fee({"from": stranger})
    assert vault.collect_fee({"from": stranger}).return_value == 0
    assert vault.balanceOf(fee_recipient) == accrued(10)


def test_compounds_on_what_was_accrued(vault, stranger):
    sleep_to_midnight(10)
    vault.collect_fee({"from": stranger})
    sleep_to_midnight(5)
    assert vault.pending_fee_shares() == accrued(5, supply=NAV + accrued(10))


def test_without_a_fee_pays_nothing(vault, fee_recipient, owner):
    vault.set_fee(0, fee_recipient, {"from": owner})
    sleep_to_midnight(365)
    assert vault.collect_fee({"from": owner}).return_value == 0
    assert vault.totalSupply() == NAV


def test_is_no_audit_entry(vault, stranger):
    before = vault.head()
    sleep_to_midnight(10)
    vault.collect_fee({"from": stranger})
    assert vault.head() == before
