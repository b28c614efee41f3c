"""A wallet in the page, announced by EIP-6963, that signs with a real key: for tests only.

The page's provider hands every request to Python through a DevTools binding, so no port and no exception in the page's
policy is needed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eth_account.signers.local import LocalAccount
from web3 import Web3

from tests.browser.chromium import Page, browser

PROVIDER = Path(__file__).with_name("wallet.js").read_text()


class Refusal(Exception):
    """What an EIP-1193 wallet rejects with."""

    def __init__(self, code: int, message: str) -> None:
        self.code, self.message = code, message
        super().__init__(message)


class Wallet:
    """Accounts with keys, one chain at a time."""

    def __init__(self, web3: Web3, *accounts: LocalAccount) -> None:
        self.web3 = web3
        self.accounts = list(accounts)
        self.chain_id = web3.eth.chain_id
        self.declines: dict[str, int] = {}  # method: code of the refusal, once
        self.atomic = ""  # "supported" or "ready" where batches work
        self.asked: list[tuple[str, Any]] = []
        self.batches: dict[str, list[str]] = {}
        self.before_sending: Any = None  # called once before the next transaction

    def methods(self) -> list[str]:
        """What was asked for so far."""
        return [method for method, _ in self.asked]

    def request(self, method: str, params: list[Any]) -> Any:
        """An answer, or a Refusal."""
        self.asked.append((method, params))
        if method in self.declines:
            raise Refusal(self.declines.pop(method), "User rejected the request")
        if method in ("eth_accounts", "eth_requestAccounts"):
            return [account.address for account in self.accounts[:1]]
        if method == "eth_chainId":
            return hex(self.chain_id)
        if method == "wallet_switchEthereumChain":
            self.chain_id = int(params[0]["chainId"], 16)
            return None
        if method == "eth_sendTransaction":
            return self._send(params[0])
        if method == "eth_signTypedData_v4":
            return "0x" + self.accounts[0].sign_typed_data(full_message=json.loads(params[1])).signature.hex()
        if method == "wallet_getCapabilities":
            if not self.atomic:
                raise Refusal(-32601, "not supported")
            return {hex(self.chain_id): {"atomic": {"status": self.atomic}}}
        if method == "wallet_sendCalls":
            assert params[0]["atomicRequired"] is True and int(params[0]["chainId"], 16) == self.chain_id
            batch = f"batch-{len(self.batches)}"
            self.batches[batch] = [
                self._send(call | {"from": params[0]["from"]}) for call in params[0]["calls"]
            ]
            return {"id": batch}
        if method == "wallet_getCallsStatus":
            receipts = [{"transactionHash": tx_hash} for tx_hash in self.batches[params[0]]]
            return {"version": "2.0.0", "status": 200, "atomic": True, "receipts": receipts}
        raise Refusal(-32601, f"{method} is not supported")

    def _send(self, call: dict[str, Any]) -> str:
        if self.before_sending:
            act, self.before_sending = self.before_sending, None
            act()
        account = self.accounts[0]
        assert call["from"] == account.address
        to = Web3.to_checksum_address(call["to"])
        asked = {"from": account.address, "to": to, "data": call["data"], "value": int(call["value"], 16)}
        gas = int(call["gas"], 16) if "gas" in call else self.web3.eth.estimate_gas(asked) * 5 // 4
        signed = account.sign_transaction(
            {k: v for k, v in asked.items() if k != "from"}
            | {
                "gas": gas,
                "nonce": self.web3.eth.get_transaction_count(account.address),
                "chainId": self.chain_id,
                "maxFeePerGas": 100 * 10**9,
                "maxPriorityFeePerGas": 10**9,
            }
        )
        return "0x" + self.web3.eth.send_raw_transaction(signed.raw_transaction).hex().removeprefix("0x")


class Tab(Page):
    """A tab with the wallet in it."""

    def __init__(self, socket: Any) -> None:
        super().__init__(socket)
        self.wallet: Wallet | None = None
        self.call("Runtime.addBinding", name="askWallet")
        self.call("Page.addScriptToEvaluateOnNewDocument", source=PROVIDER)

    def visit(self, url: str) -> None:
        """A new visit: nothing is left of the one before."""
        self.call("Page.navigate", url="about:blank")
        self.wait_for("location.href === 'about:blank'")
        self.call("Storage.clearDataForOrigin", origin=url.split("/#")[0], storageTypes="all")
        self.events.clear()
        self.call("Page.navigate", url=url)
        self.wait_for("document.readyState === 'complete' && document.querySelector('h1') !== null")

    def evaluate(self, script: str) -> Any:
        """A script's value; first the wallet answers what it was asked."""
        self._answer()
        return super().evaluate(script)

    def _answer(self) -> None:
        asked = [e for e in self.events if e.get("method") == "Runtime.bindingCalled"]
        self.events[:] = [e for e in self.events if e.get("method") != "Runtime.bindingCalled"]
        for event in asked:
            request = json.loads(event["params"]["payload"])
            assert self.wallet is not None, "the page asked a wallet that the test does not have"
            answer = [request["id"], None, None]
            try:
                answer[1] = self.wallet.request(request["method"], request["params"])
            except Refusal as refusal:
                answer[2] = {"code": refusal.code, "message": refusal.message}
            except Exception as error:  # the node's refusal
                answer[2] = {"code": -32603, "message": str(error)}
            super().evaluate(f"testWallet.answer(...{json.dumps(answer)}), 1")

    def emit(self, name: str, value: Any) -> None:
        """An EIP-1193 event."""
        self.evaluate(f"testWallet.emit({json.dumps(name)}, {json.dumps(value)}), 1")

    # What a person does

    def text(self, selector: str = "body") -> str:
        """What is to be read there; empty where there is nothing."""
        return str(self.evaluate(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))

    def sees(self, text: str, selector: str = "body") -> None:
        """Wait until the text is there."""
        try:
            self.wait_for(
                f"(document.querySelector({json.dumps(selector)})?.innerText ?? '').includes({json.dumps(text)})"
            )
        except AssertionError:
            raise AssertionError(f"{text!r} is never to be read in: {self.text(selector)}") from None

    def press(self, name: str) -> None:
        """The button or link whose text begins so, once it is there and can be used."""
        find = (
            "[...(document.querySelector('dialog[open]') ?? document).querySelectorAll('button, a, summary')]"
            f".find(b => b.innerText.trim().startsWith({json.dumps(name)}) && !b.hasAttribute('aria-disabled'))"
        )
        self.wait_for(f"{find} !== undefined")
        self.evaluate(f"{find}.focus(), {find}.click(), 1")

    def fill(self, identity: str, text: str) -> None:
        """Type into an input."""
        self.wait_for(f"document.getElementById({json.dumps(identity)}) !== null")
        self.evaluate(
            f"{{ const i = document.getElementById({json.dumps(identity)}); i.focus(); i.value = {json.dumps(text)};"
            "i.dispatchEvent(new InputEvent('input', { bubbles: true })); 1 }"
        )

    def choose(self, identity: str, value: str) -> None:
        """Of a select."""
        self.wait_for(f"document.getElementById({json.dumps(identity)}) !== null")
        self.evaluate(
            f"{{ const i = document.getElementById({json.dumps(identity)}); i.value = {json.dumps(value)};"
            "i.dispatchEvent(new Event('change', { bubbles: true })); 1 }"
        )

    def upload(self, identity: str, file: Path) -> None:
        """Choose a file."""
        node = self.call("Runtime.evaluate", expression=f"document.getElementById({json.dumps(identity)})")
        self.call("DOM.setFileInputFiles", files=[str(file)], objectId=node["result"]["objectId"])

    def key(self, key: str, *, shift: bool = False) -> None:
        """A key on the keyboard."""
        codes = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32}
        text = {"Enter": "\r", " ": " "}.get(key, key if len(key) == 1 else "")
        common = {
            "key": key,
            "code": "Space" if key == " " else key,
            "windowsVirtualKeyCode": codes.get(key, ord(key[0])),
            "modifiers": 8 if shift else 0,
        }
        self.call("Input.dispatchKeyEvent", type="keyDown", **common, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def focused(self) -> str:
        """What has the focus, in a few words."""
        return str(
            self.evaluate(
                "{ const e = document.activeElement; const own = e.matches('button, a, input, select, summary');"
                "[e.localName, e.id, own ? e.innerText?.trim().slice(0, 60) : ''].join(' ') }"
            )
        )


@contextmanager
def tab() -> Iterator[Tab]:
    """A browser with the wallet."""
    with browser(Tab) as page:
        assert isinstance(page, Tab)
        yield page
