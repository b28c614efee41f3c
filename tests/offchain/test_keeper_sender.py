"""The sender against a node that is a Python function: fees, margins, dry run, kill switch, relay, revert strings."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import requests
from eth_abi.abi import encode
from eth_account import Account
from web3 import HTTPProvider, Web3
from web3.exceptions import ContractLogicError, Web3RPCError
from web3.providers.base import BaseProvider
from web3.types import RPCEndpoint, RPCResponse

from offchain.chain.contracts import ERC20, bind_abi
from offchain.chain.errors import NODE_ERRORS, ChainError, DryRunError, HaltedError, TransactionError
from offchain.chain.fees import FeeLimits, Fees, fees_now, raised
from offchain.chain.sender import Relay, RelayUnavailable, Sender, is_underpriced, revert_reason
from offchain.chain.signer import decoded
from offchain.keeper.watch import Reason, reason_of, reason_of_error

ACCOUNT = Account.from_key("0x" + "11" * 32)
HASH = "0x" + "01" * 32
GWEI = 10**9


class Node(BaseProvider):
    """Answers from a table; a callable gets the parameters, an exception's message becomes the error."""

    def __init__(self, answers: dict[str, Any]) -> None:
        super().__init__()
        self.answers = answers
        self.sent: list[str] = []

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        if method == "eth_sendRawTransaction":
            self.sent.append(params[0])
        answer = self.answers[method]
        if isinstance(answer, Callable):  # type: ignore[arg-type]
            answer = answer(params)
        if isinstance(answer, Exception):
            error: dict[str, Any] = {"code": -32000, "message": str(answer)}
            if (data := getattr(answer, "data", None)) is not None:
                error |= {"message": answer.message, "data": data}  # type: ignore[attr-defined]
            return {"jsonrpc": "2.0", "id": 1, "error": error}  # type: ignore[typeddict-item]
        return {"jsonrpc": "2.0", "id": 1, "result": answer}


def block(base_fee: int | None) -> dict[str, Any]:
    found = {"number": "0x1", "hash": HASH, "gasLimit": hex(30_000_000), "timestamp": "0x1"}
    return found if base_fee is None else found | {"baseFeePerGas": hex(base_fee)}


def history(rewards: list[int], used: list[float] | None = None, base: int = 10 * GWEI) -> dict[str, Any]:
    return {
        "oldestBlock": "0x1",
        "baseFeePerGas": [hex(9 * GWEI)] * len(rewards) + [hex(base)],
        "gasUsedRatio": used or [0.5] * len(rewards),
        "reward": [[hex(reward)] for reward in rewards],
    }


def node(base_fee: int | None = 9 * GWEI, **answers: Any) -> Node:
    return Node(
        {
            "eth_getBlockByNumber": block(base_fee),
            "eth_estimateGas": hex(100_000),
            "eth_getTransactionCount": "0x7",
            "eth_chainId": "0x1",
            "eth_feeHistory": history([3 * GWEI, GWEI, 2 * GWEI]),
            "eth_maxPriorityFeePerGas": hex(5 * GWEI),
            "eth_gasPrice": hex(12 * GWEI),
            "eth_sendRawTransaction": HASH,
            "eth_call": "0x",
        }
        | answers
    )


def call(web3: Web3) -> Any:
    return bind_abi(web3, ERC20, "0x" + "22" * 20).functions.totalSupply()


def fees(backend: Node, most: int | None = None, tip: int | None = None) -> Fees:
    return fees_now(Web3(backend), FeeLimits(most, tip), 50)


# ---------------------------------------------------------------- fees


def test_the_tip_is_what_blocks_paid_and_the_base_fee_may_double() -> None:
    assert fees(node()) == Fees(22 * GWEI, 2 * GWEI)  # the next block's base fee, not the last one's


def test_empty_blocks_say_nothing_about_the_tip() -> None:
    some = history([3 * GWEI, 0, 0], used=[0.5, 0.0, 0.0])
    assert fees(node(eth_feeHistory=some)).tip == 3 * GWEI
    assert fees(node(eth_feeHistory=history([0, 0], used=[0.0, 0.0]))).tip == 5 * GWEI


def test_a_node_without_a_history_says_a_tip_itself() -> None:
    old = node(eth_feeHistory=ValueError("the method eth_feeHistory does not exist"))
    assert fees(old) == Fees(23 * GWEI, 5 * GWEI)


def test_the_percentile_is_asked_for() -> None:
    asked: list[Any] = []
    backend = node(eth_feeHistory=lambda params: asked.append(params) or history([GWEI]))
    fees_now(Web3(backend), FeeLimits(), 73)
    assert asked == [("0x14", "latest", [73])]


def test_legacy_where_there_is_no_base_fee() -> None:
    assert fees(node(base_fee=None)) == Fees(12 * GWEI, None)
    assert Fees(12, None).fields() == {"gasPrice": 12}
    assert Fees(12, 1).fields() == {"maxFeePerGas": 12, "maxPriorityFeePerGas": 1}


def test_limits_cap_what_is_offered() -> None:
    assert fees(node(), most=15 * GWEI) == Fees(15 * GWEI, 2 * GWEI)
    assert fees(node(), tip=GWEI) == Fees(21 * GWEI, GWEI)


@pytest.mark.parametrize("base_fee", [10 * GWEI, None])
def test_a_limit_below_the_price_is_an_error(base_fee: int | None) -> None:
    with pytest.raises(
        TransactionError, match=r"max_fee_gwei: gas costs 12\.000 gwei now, above the limit 11\.999"
    ):
        fees(node(base_fee), most=12 * GWEI - 10**6)
    fees(node(base_fee), most=12 * GWEI)


@pytest.mark.parametrize(
    ("old", "now", "expected"),
    [
        (Fees(800, 80), Fees(100, 10), Fees(900, 90)),  # an eighth more on both
        (Fees(801, 81), Fees(100, 10), Fees(902, 92)),  # rounded up
        (Fees(800, 80), Fees(2_000, 10), Fees(2_000, 90)),  # or today's
        (Fees(800, 80), Fees(100, 200), Fees(900, 200)),
        (Fees(4, 0), Fees(4, 0), Fees(5, 1)),  # always more
        (Fees(800, None), Fees(100, None), Fees(900, None)),
    ],
)
def test_a_replacement_offers_more(old: Fees, now: Fees, expected: Fees) -> None:
    assert raised(old, now, FeeLimits()) == expected


def test_a_replacement_stays_within_the_limits() -> None:
    old, now = Fees(800, 80), Fees(2_000, 200)
    assert raised(old, now, FeeLimits(900, 90)) == Fees(900, 90)
    assert raised(old, now, FeeLimits(899, None)) is None
    assert raised(old, now, FeeLimits(None, 89)) is None


# ---------------------------------------------------------------- sign


def prepared(backend: Node, **settings: Any) -> Any:
    sender = Sender(Web3(backend), ACCOUNT, **settings)
    return sender.prepare(call(sender.web3))


def test_gas_limit_has_a_margin_within_the_block() -> None:
    assert prepared(node(), gas_margin_percent=50)["gas"] == 150_000
    assert prepared(node(eth_estimateGas=hex(29_000_000)), gas_margin_percent=50)["gas"] == 30_000_000


def test_a_refused_estimate_is_an_error_with_the_reason() -> None:
    refusal = ContractLogicError(
        "execution reverted", data="0x08c379a0" + encode(["string"], ["no trigger"]).hex()
    )
    with pytest.raises(TransactionError, match="refuses the transaction: no trigger"):
        prepared(node(eth_estimateGas=refusal))


def test_signs_what_was_prepared() -> None:
    sender = Sender(Web3(node()), ACCOUNT)
    signed = sender.sign(sender.prepare(call(sender.web3)), 7, Fees(22, 2))
    assert (signed.nonce, signed.sender, signed.gas, signed.fees) == (
        7,
        ACCOUNT.address,
        160_000,
        Fees(22, 2),
    )
    assert decoded(signed.raw) == {
        "chainId": 1,
        "nonce": 7,
        "gas": 160_000,
        "maxFeePerGas": 22,
        "maxPriorityFeePerGas": 2,
        "to": "0x" + "22" * 20,
        "value": 0,
        "data": bytes.fromhex("18160ddd"),
    }
    assert Account.recover_transaction(signed.raw) == ACCOUNT.address


def test_signs_for_chains_without_a_base_fee() -> None:
    sender = Sender(Web3(node()), ACCOUNT)
    signed = sender.sign(sender.prepare(call(sender.web3)), 7, Fees(22, None))
    said = decoded(signed.raw)
    assert (said["gasPrice"], said["chainId"], said["nonce"]) == (22, 1, 7)


def test_counts_are_the_chain_s_and_the_pool_s() -> None:
    backend = node(eth_getTransactionCount=lambda params: {"latest": "0x7", "pending": "0x9"}[params[1]])
    assert Sender(Web3(backend), ACCOUNT).counts() == (7, 9)


def test_a_pool_behind_the_chain_is_no_pool() -> None:
    backend = node(eth_getTransactionCount=lambda params: {"latest": "0x7", "pending": "0x3"}[params[1]])
    assert Sender(Web3(backend), ACCOUNT).counts() == (7, 7)


def test_a_count_that_cannot_be_is_not_believed() -> None:
    backend = node(eth_getTransactionCount=lambda params: {"latest": "0x7", "pending": "0xfffff"}[params[1]])
    with pytest.raises(ChainError, match="not believed"):
        Sender(Web3(backend), ACCOUNT).counts()


def test_a_simulation_on_the_pending_block() -> None:
    asked: list[Any] = []
    sender = Sender(Web3(node(eth_call=lambda params: asked.append(params[1]) or "0x")), ACCOUNT)
    tx = sender.prepare(call(sender.web3))
    assert sender.refused(tx, "pending") == ""
    assert asked == ["pending"]
    data = "0x08c379a0" + encode(["string"], ["no trigger"]).hex()
    refusing = node(eth_call=ContractLogicError("execution reverted", data=data))
    assert Sender(Web3(refusing), ACCOUNT).refused(tx, "pending") == "no trigger"


def test_a_node_without_a_pending_block_is_asked_for_the_newest() -> None:
    def answer(params: Any) -> Any:
        return ValueError("pending block is not available") if params[1] == "pending" else "0x"

    sender = Sender(Web3(node(eth_call=answer)), ACCOUNT)
    assert sender.refused(sender.prepare(call(sender.web3)), "pending") == ""


@pytest.mark.parametrize(
    ("chain", "asked", "blocks"), [(1, None, 12), (31337, None, 1), (5, None, 12), (1, 3, 3)]
)
def test_confirmations_are_the_chain_s_unless_set(chain: int, asked: int | None, blocks: int) -> None:
    assert Sender(Web3(node()), confirmations=asked).depth(chain) == blocks


# ---------------------------------------------------------------- send


def test_sends_what_was_signed() -> None:
    backend = node()
    Sender(Web3(backend), ACCOUNT).send("0x02", HASH)
    assert backend.sent == ["0x02"]


@pytest.mark.parametrize(("account", "dry_run"), [(None, False), (ACCOUNT, True), (None, True)])
def test_a_dry_run_signs_and_sends_nothing(account: Any, dry_run: bool) -> None:
    backend = node()
    sender = Sender(Web3(backend), account, dry_run=dry_run)
    assert not sender.sends
    with pytest.raises(DryRunError):
        sender.send("0x02", HASH)
    with pytest.raises(DryRunError):
        sender.sign({"to": "0x" + "22" * 20, "data": b"", "value": 0, "gas": 1}, 7, Fees(2, 1))  # type: ignore[typeddict-item]
    assert backend.sent == []


def test_without_an_account_nothing_is_signed() -> None:
    sender = Sender(Web3(node()))
    with pytest.raises(DryRunError, match="keystore"):
        sender.prepare(call(sender.web3))


def test_while_the_kill_switch_exists_nothing_is_signed_or_sent(tmp_path: Path) -> None:
    backend, switch = node(), tmp_path / "stop"
    sender = Sender(Web3(backend), ACCOUNT, kill_switch=switch)
    tx = sender.prepare(call(sender.web3))
    switch.touch()
    assert not sender.sends
    with pytest.raises(HaltedError, match=f"kill_switch: {switch} exists"):
        sender.sign(tx, 7, Fees(2, 1))
    with pytest.raises(HaltedError):
        sender.send("0x02", HASH)
    assert backend.sent == []
    switch.unlink()
    sender.send("0x02", HASH)
    assert backend.sent == ["0x02"]


def test_a_kill_switch_that_is_a_broken_link_or_out_of_reach_is_on(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    assert not Sender(Web3(node()), ACCOUNT, kill_switch=tmp_path / "link").sends
    (tmp_path / "file").write_text("")
    assert not Sender(Web3(node()), ACCOUNT, kill_switch=tmp_path / "file" / "stop").sends


@pytest.mark.parametrize(
    "message",
    [
        "already known",  # geth, Erigon
        "nonce too low: next nonce 8, tx nonce 7",
        "transaction already imported",  # anvil
        "nonce too low",
        "the tx doesn't have the correct nonce. account has nonce of: 8 tx has nonce of: 7",  # Ganache
        "AlreadyKnown",  # Nethermind
        "OldNonce, Current nonce: 8, nonce of rejected tx: 7",
        "INTERNAL_ERROR: existing tx with same hash",  # Erigon
        "Known transaction",  # Besu
        "Nonce too low",
    ],
)
def test_a_transaction_that_the_node_has_or_had_is_no_error(message: str) -> None:
    backend = node(eth_sendRawTransaction=ValueError(message))
    Sender(Web3(backend), ACCOUNT).send("0x02", HASH)
    assert backend.sent == ["0x02"]


@pytest.mark.parametrize(
    "message",
    [
        "replacement transaction underpriced",  # geth, anvil
        "transaction underpriced: gas tip cap 0, minimum needed 1",
        "FeeTooLow, EffectivePriorityFeePerGas too low",  # Nethermind
        "ReplacementNotAllowed",
        "could not replace existing tx",  # Erigon
        "Gas price too low",  # Besu
    ],
)
def test_an_offer_that_is_too_low_is_recognised(message: str) -> None:
    backend = node(eth_sendRawTransaction=ValueError(message))
    with pytest.raises(TransactionError) as caught:
        Sender(Web3(backend), ACCOUNT).send("0x02", HASH)
    assert is_underpriced(str(caught.value))
    assert not is_underpriced("insufficient funds for gas * price + value")


def test_a_refused_transaction_names_its_hash() -> None:
    backend = node(eth_sendRawTransaction=ValueError("insufficient funds"))
    with pytest.raises(TransactionError, match="insufficient funds") as caught:
        Sender(Web3(backend), ACCOUNT).send("0x02", HASH)
    assert caught.value.tx_hash == HASH


@pytest.mark.parametrize(
    ("method", "params"),
    [("eth_sendRawTransaction", ["0x02"]), ("eth_sendPrivateTransaction", [{"tx": "0x02"}])],
)
def test_a_private_relay_gets_it_instead_of_the_public_node(method: str, params: list[Any]) -> None:
    seen: list[Any] = []
    public, private = node(), node(**{method: lambda given: seen.append(given) or HASH})
    sender = Sender(Web3(public), ACCOUNT, relay=Relay(Web3(private), method))
    sender.send("0x02", HASH)
    assert (public.sent, seen) == ([], [params])
    sender.send("0x02", HASH, public=True)
    assert (public.sent, seen) == (["0x02"], [params])


@pytest.mark.parametrize("kind", ["away", "a page", "no JSON-RPC"])
def test_a_relay_that_is_away_is_named_by_its_setting_alone(kind: str) -> None:
    class Away(BaseProvider):
        def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
            if kind == "away":
                raise requests.ConnectionError("Max retries exceeded with url: /key-of-the-relay")
            if kind == "a page":
                return HTTPProvider().decode_rpc_response(b"<html>no such key-of-the-relay</html>")
            return cast(RPCResponse, {"message": "no such key-of-the-relay"})

    public = node()
    with pytest.raises(RelayUnavailable) as caught:
        Sender(Web3(public), ACCOUNT, relay=Relay(Web3(Away()))).send("0x02", HASH)
    assert str(caught.value).startswith("private_rpc_url: the relay does not answer (")
    assert "key-of-the-relay" not in str(caught.value) and isinstance(caught.value, NODE_ERRORS)
    assert (caught.value.__cause__, public.sent) == (None, [])
    assert reason_of_error(caught.value) == Reason.RELAY


def test_a_relay_that_refuses_is_not_called_the_node() -> None:
    private = node(eth_sendRawTransaction=ValueError("no bundles today"))
    sender = Sender(Web3(node()), ACCOUNT, relay=Relay(Web3(private)))
    with pytest.raises(TransactionError) as caught:
        sender.send("0x02", HASH)
    assert str(caught.value) == "private_rpc_url: the relay refuses the transaction: no bundles today"
    assert reason_of(str(caught.value)) == Reason.NODE_REFUSED


def test_revert_string_is_decoded_from_the_data() -> None:
    data = "0x08c379a0" + encode(["string"], ["bought past target"]).hex()
    assert revert_reason(ContractLogicError("execution reverted", data=data)) == "bought past target"
    assert revert_reason(ContractLogicError("execution reverted: paused")) == "paused"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("0x4e487b71" + f"{0x11:064x}", "panic 0x11: arithmetic overflow or underflow"),
        ("0x4e487b71" + f"{0x99:064x}", "panic 0x99: a code of no known meaning"),
        ("0xe450d38c" + "00" * 96, "custom error 0xe450d38c"),
        ("0x08c379a0" + encode(["string"], [""]).hex(), "reverted without a reason"),
        ("0x08c379a0", "reverted without a reason"),
        ("0x", "reverted without a reason"),
        ("0x123", "reverted without a reason"),  # garbled
    ],
)
def test_what_reverts_otherwise_is_told_in_words(data: str, words: str) -> None:
    assert revert_reason(ContractLogicError("execution reverted", data=data)) == words
    answer: Any = {"error": {"code": 3, "message": "execution reverted", "data": data}}
    assert revert_reason(Web3RPCError("execution reverted", rpc_response=answer)) == words
