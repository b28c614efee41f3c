// What `Wallet` in wallet.py looks like to the page: every request goes through the binding `askWallet`.
(() => {
  const waiting = new Map(), heard = {}
  let number = 0
  const provider = {
    request: ({ method, params }) => new Promise((ok, no) => {
      waiting.set(++number, [ok, no])
      window.askWallet(JSON.stringify({ id: number, method, params: params ?? [] }))
    }),
    on: (name, call) => { (heard[name] ??= []).push(call) },
    removeListener: () => undefined,
  }
  window.testWallet = {
    answer: (id, result, error) => {
      const [ok, no] = waiting.get(id)
      waiting.delete(id)
      error ? no(Object.assign(new Error(error.message), { code: error.code })) : ok(result)
    },
    emit: (name, value) => (heard[name] ?? []).forEach(call => call(value)),
  }
  const info = { uuid: 'f6a1', name: 'Test wallet', rdns: 'org.evenkeel.test', icon: 'data:image/svg+xml,%3Csvg xmlns=%22http://www.w3.org/2000/svg%22/%3E' }
  const other = { uuid: 'f6a2', name: 'Another <b>wallet</b>', rdns: 'org.example.other', icon: 'https://example.org/x.png' }
  const announce = () => {
    for (const [i, p] of [[info, provider], [other, { request: () => Promise.reject(Object.assign(new Error('no'), { code: 4001 })), on() {} }]])
      window.dispatchEvent(new CustomEvent('eip6963:announceProvider', { detail: Object.freeze({ info: i, provider: p }) }))
  }
  window.addEventListener('eip6963:requestProvider', announce)
  announce()
})()
