"""I1 with tokens that misbehave: what docs/security.md, "Tokens", says of each, and that `skip` always pays the rest.

The basket is cash (6 decimals), the weird token, stock (18 decimals). ALICE redeems.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pyrevm
import pytest

from tests.support.basket import Basket, units_of
from tests.support.evm import DEPLOYER, Evm, Reverted, artifact
from tests.support.venue import MAX, call_data, send
from tests.support.world import ALICE, BOB, DAY, GUARDIAN, KEEPER, OWNER, STRANGER, WAD, reverts

SILENT, FALSE_ON_FAILURE, GARBAGE, SHORT, LONG, FEE, LIES, NO_ZERO, ZERO_FIRST = (1 << i for i in range(9))
PAUSED, BURNS_GAS, HOOK, BALANCE_REVERTS, BALANCE_BURNS_GAS, BALANCE_SHORT, BALANCE_HUGE = (
    1 << i for i in range(9, 16)
)
PRICES = [WAD, 4 * WAD, 2 * WAD]
WEIRD = 1  # its index
SKIP = 0b010
SHARES = 123 * WAD + 456_789
NONE = [0, 0, 0]
FINE = ""  # no refusal
NO_REASON = "0x"


@dataclass(frozen=True)
class Case:
    """One way to misbehave; the reasons of refusal, FINE where there is none."""

    flags: int = 0
    creates: str = FINE  # a basket with such a token
    mints: str = FINE  # when the token behaves so later
    redeems: str = FINE  # the same, without `skip`
    paid_percent: int = 100  # of the weird token, when it redeems
    arrange: Callable[[Basket], None] | None = None  # what flags do not say, when the vault is there
    decimals: int = 18


def blocks(basket: Basket) -> None:
    """The issuer blocks the vault."""
    basket.tokens[WEIRD].call("set_blocked", basket.vault.address, True)


def rebases(index: int) -> Callable[[Basket], None]:
    """Every balance is multiplied by index / WAD."""
    return lambda basket: basket.tokens[WEIRD].call("set_index", index)


def seizes(basket: Basket) -> None:
    """The issuer takes two thirds of the vault's balance."""
    token = basket.tokens[WEIRD]
    token.call("seize", basket.vault.address, units_of(token, basket.vault.address) * 2 // 3)


def seizes_all(basket: Basket) -> None:
    """The issuer takes all."""
    token = basket.tokens[WEIRD]
    token.call("seize", basket.vault.address, units_of(token, basket.vault.address))


def vanishes(basket: Basket) -> None:
    """The token destroys itself."""
    wipe(basket.evm, basket.tokens[WEIRD].address)


def moves_to_a_twin(basket: Basket) -> None:
    """A second contract takes over the same balances and moves some."""
    token = basket.tokens[WEIRD]
    twin = basket.evm.deploy(artifact("WeirdTwin"), token.address)
    token.call("set_twin", twin.address)
    twin.call("transfer", BOB, 5, sender=ALICE)
    assert units_of(token, BOB) == 5


WIPED: list[tuple[Evm, str, pyrevm.AccountInfo]] = []  # what a snapshot does not bring back


def wipe(evm: Evm, address: str) -> None:
    """No code any more."""
    WIPED.append((evm, address, evm._evm.basic(address)))
    evm._evm.insert_account_info(address, pyrevm.AccountInfo(nonce=1, code=b""))
    assert not evm._evm.get_code(address)


CASES = {
    "behaves": Case(),
    "2 decimals": Case(decimals=2),
    "24 decimals": Case(decimals=24),
    "returns nothing": Case(SILENT),
    "returns more than a word": Case(LONG),
    "returns false, when paused": Case(
        FALSE_ON_FAILURE | PAUSED, "transfer failed", "transfer failed", "transfer failed"
    ),
    "returns the number 2": Case(GARBAGE, NO_REASON, NO_REASON, NO_REASON),
    "returns 31 bytes": Case(SHORT, NO_REASON, NO_REASON, NO_REASON),
    "takes a fee": Case(FEE, "received less than asked", "received less than asked", paid_percent=99),
    "lies": Case(LIES, "received less than asked", "received less than asked", paid_percent=0),
    "refuses to move nothing": Case(NO_ZERO),
    "wants a zero allowance first": Case(ZERO_FIRST),
    "paused": Case(PAUSED, "paused token", "paused token", "paused token"),
    "burns all gas": Case(BURNS_GAS, NO_REASON, NO_REASON, NO_REASON),
    "balance reverts": Case(BALANCE_REVERTS, "no balance", "no balance", "no balance"),
    "balance burns all gas": Case(BALANCE_BURNS_GAS, NO_REASON, NO_REASON, NO_REASON),
    "balance is 31 bytes": Case(BALANCE_SHORT, NO_REASON, NO_REASON, NO_REASON),
    "balance is 2**256 - 1": Case(BALANCE_HUGE, NO_REASON, NO_REASON, "insufficient balance"),
    "blocks the vault": Case(mints="blocked", redeems="blocked", arrange=blocks),
    "doubles every balance": Case(arrange=rebases(2 * WAD)),
    "halves every balance": Case(arrange=rebases(WAD // 2)),
    "grows by a tenth": Case(mints="received less than asked", arrange=rebases(11 * WAD // 10)),
    "takes balances away": Case(arrange=seizes),
    "takes the whole balance away": Case(arrange=seizes_all),
    "has no code any more": Case(mints=NO_REASON, redeems=NO_REASON, arrange=vanishes),
    "has a second address": Case(arrange=moves_to_a_twin),
}
FROM_THE_START = [name for name, case in CASES.items() if case.arrange is None]


def pauses(basket: Basket) -> None:
    basket.timelock.call("pause", basket.vault.address, sender=GUARDIAN)


def quarantines(basket: Basket) -> None:
    """The guardian sets the weird token aside."""
    basket.timelock.call("quarantine", basket.vault.address, basket.tokens[WEIRD].address, sender=GUARDIAN)


def quarantines_another(basket: Basket) -> None:
    basket.timelock.call("quarantine", basket.vault.address, basket.tokens[0].address, sender=GUARDIAN)


def loses_its_keeper(basket: Basket) -> None:
    basket.timelock.call("drop_role", basket.vault.address, KEEPER, sender=OWNER)
    basket.evm.set_time(basket.evm.now + 400 * DAY)


def loses_its_oracle(basket: Basket) -> None:
    wipe(basket.evm, basket.oracle.address)


def loses_its_timelock(basket: Basket) -> None:
    wipe(basket.evm, basket.timelock.address)


CIRCUMSTANCES: dict[str, Callable[[Basket], object]] = {
    "in peace": lambda basket: None,
    "paused": pauses,
    "weird token in quarantine": quarantines,
    "another in quarantine": quarantines_another,
    "keeper gone for a year": loses_its_keeper,
    "oracle stale": lambda basket: basket.oracle.call("set_prices", PRICES, [5, 5, 5]),
    "oracle reverts": lambda basket: basket.oracle.call("set_mode", 1),
    "oracle burns all gas": lambda basket: basket.oracle.call("set_mode", 2),
    "oracle answers too little": lambda basket: basket.oracle.call("set_mode", 3),
    "oracle without code": loses_its_oracle,
    "timelock without code": loses_its_timelock,
}


def make_tokens(evm: Evm, flags: int = 0, decimals: int = 18):
    """Cash, weird, stock."""
    return [
        evm.deploy(artifact("TestToken"), "Cash", "CASH", 6),
        evm.deploy(artifact("WeirdToken"), decimals, flags),
        evm.deploy(artifact("TestToken"), "Stock", "STK", 18),
    ]


def make_basket(evm: Evm, flags: int = 0, decimals: int = 18) -> Basket:
    """1,000 USD of each; amounts that divide nothing; ALICE has tokens, SHARES, and 2 % a year to pay."""
    basket = Basket(evm, make_tokens(evm, flags, decimals), PRICES, fee_bps=200)
    scale = 10**decimals
    vault = basket.create([1_000 * 10**6 + 7, 250 * scale + 1, 500 * WAD + 13])
    basket.fund(ALICE, [1_000 * 10**6, 1_000 * scale, 1_000 * WAD])
    vault.call("transfer", ALICE, SHARES)
    evm.set_time(evm.now + 30 * DAY)  # a fee is pending
    return basket


@pytest.fixture(autouse=True)
def isolation(chain):
    """Each test starts from the same baskets."""
    evm, _ = chain
    before = evm.snapshot()
    yield
    evm.revert(before)
    while WIPED:
        where, address, account = WIPED.pop()
        where._evm.insert_account_info(address, account)


@pytest.fixture(scope="module")
def chain():
    evm = Evm()
    return evm, {decimals: make_basket(evm, decimals=decimals) for decimals in (2, 18, 24)}


@pytest.fixture
def arrange(chain):
    """The basket whose token has begun to misbehave."""

    def make(case: Case) -> Basket:
        basket = chain[1][case.decimals]
        if case.arrange is not None:
            case.arrange(basket)
        else:
            basket.tokens[WEIRD].call("set_weird", case.flags)
        return basket

    return make


def held(basket: Basket, account: str) -> list[int]:
    """Token units; the weird one's truth, 0 where it has no code."""
    gone = not basket.evm._evm.get_code(basket.tokens[WEIRD].address)
    return [0 if gone and i == WEIRD else units_of(token, account) for i, token in enumerate(basket.tokens)]


def redeem(basket: Basket, skip: int, receiver: str = ALICE, shares: int = SHARES) -> list[int]:
    args = (shares, receiver, ALICE, NONE, skip)
    return list(basket.vault.call("redeem_in_kind", *args, sender=ALICE))


def refuses(reason: str, call: Callable[[], object]) -> None:
    with pytest.raises(Reverted) as refusal:
        call()
    assert refusal.value.reason == reason


def pays_exactly(basket: Basket, skip: int, paid_percent: int = 100) -> None:
    """The event, the answer and the balances agree with floor(pro rata) of what is not skipped."""
    vault, supply = basket.vault, basket.vault.call("totalSupply")
    vaults, alices = held(basket, vault.address), held(basket, ALICE)
    part = [0 if skip >> i & 1 else units * SHARES // supply for i, units in enumerate(vaults)]
    sequence = vault.call("flow_sequence")
    assert redeem(basket, skip) == part
    (event,) = basket.evm.events("RedeemedInKind")
    assert event.fields == {
        "caller": ALICE,
        "receiver": ALICE,
        "owner": ALICE,
        "shares": SHARES,
        "amounts": tuple(part),
        "skip": skip,
        "flow_sequence": sequence + 1,
    }
    assert vault.call("balanceOf", ALICE) == 0
    assert vault.call("totalSupply") == supply - SHARES
    got = [after - before for after, before in zip(held(basket, ALICE), alices, strict=True)]
    left = [before - after for after, before in zip(held(basket, vault.address), vaults, strict=True)]
    for i in (0, 2):
        assert got[i] == left[i] == part[i]
        assert bool(part[i]) is not bool(skip >> i & 1)
    # a token that keeps its balances in parts pays a unit less, a fee rounds down
    assert 0 <= part[WEIRD] * paid_percent // 100 + (paid_percent == 99) - got[WEIRD] <= 1


# Exit


@pytest.mark.parametrize("circumstance", CIRCUMSTANCES)
@pytest.mark.parametrize("name", CASES)
def test_skip_pays_the_rest_exactly(arrange, name, circumstance):
    basket = arrange(CASES[name])
    CIRCUMSTANCES[circumstance](basket)
    pays_exactly(basket, SKIP)


@pytest.mark.parametrize("name", CASES)
def test_skip_pays_the_rest_exactly_while_a_session_is_open(chain, arrange, name):
    basket = chain[1][CASES[name].decimals]
    basket.oracle.call("set_prices", [WAD, 4 * WAD, 3 * WAD], NONE)
    basket.vault.call("open_session", sender=STRANGER)
    pays_exactly(arrange(CASES[name]), SKIP)
    assert basket.vault.call("session")[2] == 0  # still open


@pytest.mark.parametrize("name", CASES)
def test_without_skip(arrange, name):
    case = CASES[name]
    basket = arrange(case)
    if case.redeems != FINE:
        refuses(case.redeems, lambda: redeem(basket, 0))
    else:
        pays_exactly(basket, 0, case.paid_percent)


def test_two_broken_tokens_are_skipped_at_once(chain):
    basket = chain[1][18]
    basket.tokens[WEIRD].call("set_weird", BALANCE_BURNS_GAS | BURNS_GAS)
    wipe(basket.evm, basket.tokens[0].address)
    supply, stock = basket.vault.call("totalSupply"), units_of(basket.tokens[2], basket.vault.address)
    refuses(NO_REASON, lambda: redeem(basket, SKIP))
    assert redeem(basket, 0b011) == [0, 0, stock * SHARES // supply]


def test_a_blocked_receiver_names_another(chain):
    basket = chain[1][18]
    basket.tokens[WEIRD].call("set_blocked", ALICE, True)
    refuses("blocked", lambda: redeem(basket, 0))
    assert redeem(basket, 0, receiver=BOB) == held(basket, BOB)


def test_of_so_little_that_nothing_moves_calls_no_transfer(chain):
    basket = chain[1][2]
    basket.tokens[WEIRD].call("set_weird", NO_ZERO | PAUSED)
    assert redeem(basket, 0, shares=10)[WEIRD] == 0


# Trades


@pytest.mark.parametrize("name", CASES)
def test_trades_need_every_balance_or_a_quarantine(chain, arrange, name):
    """Opening one reads all balances and moves nothing; the token in quarantine is not called."""
    basket = arrange(CASES[name])
    basket.oracle.call("set_prices", [WAD, 4 * WAD, 3 * WAD], NONE)
    if name.startswith("balance") or CASES[name].arrange is vanishes:
        for call in (("open_session",), ("appraise", basket.tokens[0].address)):
            with pytest.raises(Reverted):
                basket.vault.call(*call, sender=STRANGER)
        quarantines(basket)
        refuses("quarantined", lambda: basket.vault.call("appraise", basket.tokens[0].address))
    else:
        assert basket.vault.call("appraise", basket.tokens[0].address)[0] > 0
    assert basket.vault.call("open_session", sender=STRANGER) == 1


# Entry


@pytest.mark.parametrize("name", CASES)
def test_mint(arrange, name):
    case = CASES[name]
    basket = arrange(case)
    before = held(basket, basket.vault.address)

    def mint():
        return basket.vault.call("mint_in_kind", SHARES, [MAX] * 3, ALICE, sender=ALICE)

    if case.mints != FINE:
        refuses(case.mints, mint)
        assert held(basket, basket.vault.address) == before
        return
    supply = basket.vault.call("totalSupply")
    amounts = [-(-units * SHARES // supply) for units in before]
    assert list(mint()) == amounts
    after = held(basket, basket.vault.address)
    assert [b - a for a, b in zip(before, after, strict=True)] == amounts


@pytest.mark.parametrize("name", FROM_THE_START)
def test_creation(chain, name):
    case = CASES[name]
    evm = chain[0]
    if case.creates != FINE:
        refuses(case.creates, lambda: make_basket(evm, case.flags, case.decimals))
        return
    vault = make_basket(evm, case.flags, case.decimals).vault
    assert vault.call("basket")[WEIRD][1] == case.decimals


def test_creation_refuses_a_token_without_code():
    evm = Evm()
    basket = Basket(evm, make_tokens(evm), PRICES)
    seeds = [10**9, WAD, WAD]
    basket.create(seeds)
    vanishes(basket)
    basket.salt = b"\x01" * 32
    config = basket.config()
    refuses(NO_REASON, lambda: basket.factory.call("create_vault", config, seeds, basket.salt))


def test_creation_refuses_more_than_24_decimals(chain):
    evm = chain[0]
    refuses("too many decimals", lambda: make_basket(evm, decimals=25))


def test_creation_refuses_a_vault_that_is_blocked_in_advance(chain):
    """The address can be predicted; a basket that could not be left is not made."""
    evm = chain[0]
    basket = Basket(evm, make_tokens(evm), PRICES)
    seeds = [10**9, WAD, WAD]
    before = evm.snapshot()
    address = basket.create(seeds).address
    evm.revert(before)
    basket.tokens[WEIRD].call("set_blocked", address, True)
    refuses("blocked", lambda: basket.create(seeds))


# Reentrancy


ENTRIES = {  # all that moves value, and the views that price it: name, arguments by the agent's and a token's address
    "mint_in_kind": lambda agent, token: (1, [MAX] * 3, agent),
    "redeem_in_kind": lambda agent, token: (1, agent, agent, NONE, SKIP),
    "transfer": lambda agent, token: (BOB, 1),
    "transferFrom": lambda agent, token: (ALICE, BOB, 1),
    "collect_fee": lambda agent, token: (),
    "open_session": lambda agent, token: (),
    "totalSupply": lambda agent, token: (),
    "balances": lambda agent, token: (),
    "preview_mint_in_kind": lambda agent, token: (1,),
    "preview_redeem_in_kind": lambda agent, token: (1, 0),
    "pending_fee_shares": lambda agent, token: (),
    "flow_sequence": lambda agent, token: (),
    "loss_budget_used": lambda agent, token: (),
    "session": lambda agent, token: (),
    "appraise": lambda agent, token: (token,),
    "flow_room": lambda agent, token: (BOB,),
}


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_token_that_calls_back_finds_the_vault_locked(chain, entry):
    """Its agent holds shares and approved tokens and may spend ALICE's; outside of a flow the same call succeeds."""
    basket = chain[1][18]
    evm, vault, token = basket.evm, basket.vault, basket.tokens[WEIRD]
    agent = evm.deploy(artifact("WeirdVault"))
    basket.oracle.call("set_prices", [WAD, 4 * WAD, 3 * WAD], NONE)  # a session may open
    vault.call("transfer", agent.address, WAD)
    vault.call("approve", agent.address, MAX, sender=ALICE)
    for held_token in basket.tokens:
        held_token.call("mint", agent.address, WAD)
        agent.call("set_call", held_token.address, call_data(held_token, "approve", vault.address, MAX))
        agent.call("make_call")
    arguments = ENTRIES[entry](agent.address, basket.tokens[0].address)
    agent.call("set_call", vault.address, call_data(vault, entry, *arguments))
    token.call("set_weird", HOOK)
    token.call("set_call", agent.address, call_data(agent, "make_call"))

    before = evm.snapshot()
    send(token, "transfer", BOB, 1, sender=ALICE)
    assert token.call("successes") > 0
    assert agent.call("called")
    evm.revert(before)

    pays_exactly(basket, 0)
    assert token.call("successes") == 1
    assert not agent.call("called")
    vault.call("mint_in_kind", WAD, [MAX] * 3, ALICE, sender=ALICE)
    assert token.call("successes") == 2
    assert not agent.call("called")


# Two addresses


def test_two_addresses_in_one_basket_are_refused(chain):
    """Half the shares would take three quarters of the token."""
    evm = chain[0]
    cash, weird, _ = make_tokens(evm)
    twin = evm.deploy(artifact("WeirdTwin"), weird.address)
    weird.call("set_twin", twin.address)
    basket = Basket(evm, [cash, weird, twin], PRICES)
    send(weird, "mint", DEPLOYER, WAD)
    for token in basket.tokens:
        send(token, "approve", basket.factory.address, MAX)
    cash.call("mint", DEPLOYER, 10**9)
    seeds = [10**9, WAD // 2, WAD // 2]
    with reverts("seed did not stay"):
        basket.factory.call("create_vault", basket.config(), seeds, basket.salt)
