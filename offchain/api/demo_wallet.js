// Evenkeel's demo wallet: an EIP-6963 wallet on the demo's own chain. Served in demo mode only.
"use strict";
(() => {
  const account = "__ACCOUNT__";
  const chainId = "__CHAIN_ID__";
  const listeners = {};
  let connected = false;
  let number = 0;
  const asking = {
    eth_sendTransaction: "Send this transaction?",
    personal_sign: "Sign this message?",
    eth_signTypedData_v4: "Sign this message?",
  };
  const failed = (code, message, data) => Object.assign(new Error(message), { code, data });
  const emit = (name, value) => (listeners[name] || []).slice().forEach((listen) => listen(value));
  async function post(path, method, params) {
    const response = await fetch(path, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ jsonrpc: "2.0", id: ++number, method, params: params || [] }),
    });
    const answer = await response.json();
    if (answer.error) throw failed(answer.error.code, answer.error.message, answer.error.data);
    if (!response.ok) throw failed(-32603, answer.detail || "the server refuses");
    return answer.result;
  }
  function described(method, params) {
    if (method === "eth_sendTransaction") {
      const tx = params[0] || {};
      return "to " + tx.to + "\nfunction " + String(tx.data || tx.input || "0x").slice(0, 10);
    }
    if (method === "eth_signTypedData_v4") return String(params[1]).slice(0, 600);
    return String(params[0]).slice(0, 200);
  }
  async function request({ method, params }) {
    switch (method) {
      case "eth_requestAccounts":
      case "wallet_requestPermissions":
        if (!connected) { connected = true; emit("accountsChanged", [account]); }
        return method === "eth_requestAccounts" ? [account] : [{ parentCapability: "eth_accounts" }];
      case "eth_accounts": return connected ? [account] : [];
      case "wallet_revokePermissions": connected = false; emit("accountsChanged", []); return null;
      case "eth_chainId": return chainId;
      case "net_version": return String(Number(chainId));
      case "wallet_switchEthereumChain":
      case "wallet_addEthereumChain":
        if (params && params[0] && params[0].chainId === chainId) return null;
        throw failed(4902, "the demo wallet knows its own chain only");
      case "wallet_watchAsset": return true;
    }
    if (asking[method]) {
      if (!connected) throw failed(4100, "not connected");
      const text = "Demo wallet (test money)\n\n" + asking[method] + "\n" + described(method, params || []);
      if (!window.confirm(text)) throw failed(4001, "declined in the demo wallet");
      return post("/demo-wallet", method, params);
    }
    if (/^(eth|net)_/.test(method)) return post("/rpc", method, params);
    throw failed(4200, method + ": not in the demo wallet");
  }
  const provider = {
    request,
    on(name, listen) { (listeners[name] = listeners[name] || []).push(listen); return provider; },
    removeListener(name, listen) {
      listeners[name] = (listeners[name] || []).filter((one) => one !== listen);
      return provider;
    },
  };
  const info = Object.freeze({
    uuid: "0b6d0c4e-52a5-4d4c-9f07-3f6d5f1c8a11",
    name: "Demo wallet",
    rdns: "org.evenkeel.demo",
    icon: "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'%3E%3Crect width='32' height='32' rx='8' fill='%23146356'/%3E%3Cpath d='M6 20h20M16 8v12' stroke='white' stroke-width='3'/%3E%3C/svg%3E",
  });
  const announce = () =>
    window.dispatchEvent(new CustomEvent("eip6963:announceProvider", { detail: Object.freeze({ info, provider }) }));
  window.addEventListener("eip6963:requestProvider", announce);
  announce();
})();
