// One button that names the next step.

import type { Address } from 'viem'
import { actFor, actor, announce, app, chain, changed, onChain, open, refresh, use, disconnect } from './app'
import { h, type VNode } from './dom'
import { explain } from './errors'
import { InputError, parseAddress } from './format'
import { address, closeDialogNamed, field, modal, note } from './ui'
import { switchChain, type Announced } from './wallet'

interface Given {
  mistake: string // of the form
  focus: string // id of the input to correct
  shortfall: () => string
  ready: () => string // why not yet; empty when it is
  review: () => void
}

export function nextStep(given: Given): VNode {
  const [label, act, off] = next(given)
  return h('button', { type: 'button', class: 'main', id: 'next', 'aria-disabled': off ? 'true' : null, onclick: act }, label)
}

function next(given: Given): [string, () => void, boolean] {
  const correct = (): void => {
    announce(given.mistake)
    document.getElementById(given.focus)?.focus()
  }
  if (!actor()) return ['Connect a wallet', chooseWallet, false]
  if (!app.safe && !onChain()) return [`Switch to ${chain()}`, () => void toChain(), false]
  if (given.mistake) return [/^Enter an amount\.$/.test(given.mistake) ? 'Enter an amount' : 'Correct the form', correct, false]
  const shortfall = given.shortfall()
  if (shortfall) return [shortfall, () => announce(shortfall), true]
  const waiting = given.ready()
  if (waiting) return [waiting, () => announce(waiting), true]
  return ['Review', given.review, false]
}

// Wallets

let walletProblem = ''
const CONNECT = 'Connect a wallet'

export function chooseWallet(): void {
  walletProblem = ''
  open(walletDialog)
}

function walletDialog(): VNode {
  return modal(CONNECT, [
    app.wallets.length === 0
      ? note('info', 'No wallet has announced itself (EIP-6963). Install one in this browser, or unlock it, and load the page again. Reading works without.')
      : null,
    h(
      'ul', { class: 'wallets' },
      app.wallets.map((wallet) =>
        h(
          'li', { key: wallet.id },
          h('button', { type: 'button', onclick: () => void pick(wallet) }, wallet.icon ? h('img', { src: wallet.icon, alt: '', width: '24', height: '24' }) : null, h('bdi', {}, wallet.name)),
        ),
      ),
    ),
    walletProblem ? note('error', walletProblem) : null,
  ])
}

async function pick(wallet: Announced): Promise<void> {
  walletProblem = ''
  announce(`Asking ${wallet.name}.`)
  try {
    await use(wallet)
    closeDialogNamed(CONNECT)
  } catch (error) {
    const failure = explain(error)
    walletProblem = failure.kind === 'declined' ? 'You declined in the wallet. Nothing was shared.' : failure.text
    announce(walletProblem)
  }
  changed()
}

export async function toChain(): Promise<void> {
  if (!app.wallet) return
  try {
    await switchChain(app.wallet, app.chainId, chain(), app.config.rpc)
    const { wallet } = app
    app.wallet = { ...wallet, chainId: Number(await wallet.provider.request({ method: 'eth_chainId' })) }
    await refresh(true)
  } catch (error) {
    app.notice = explain(error).text
    announce(app.notice)
  }
  changed()
}

export function accountBar(): VNode {
  const { wallet } = app
  if (!wallet?.account) return h('button', { type: 'button', class: 'main', id: 'connect', onclick: chooseWallet }, 'Connect a wallet')
  return h(
    'div', { class: 'account' },
    onChain() ? null : h('button', { type: 'button', class: 'main', onclick: () => void toChain() }, `Switch to ${chain()}`),
    address(wallet.account),
    h('button', { type: 'button', class: 'small', onclick: disconnect }, 'Disconnect'),
  )
}

// A Safe that is not connected: its address is enough for a file

const safe = { open: false, text: '', mistake: '' }

export function safeField(): VNode {
  return h(
    'details', { class: 'safe', open: safe.open, ontoggle: (event: Event) => (safe.open = (event.target as HTMLDetailsElement).open) },
    h('summary', {}, 'For a Safe: make a file for its Transaction Builder'),
    field({
      id: 'safe', label: 'Address of the Safe', value: safe.text, mistake: safe.mistake,
      hint: 'The file has the approvals and the call, in order. Nothing is sent from here.',
      oninput: (text) => {
        safe.text = text
        safe.mistake = ''
        let found: Address | undefined
        if (text.trim()) {
          try {
            found = parseAddress(text)
          } catch (error) {
            safe.mistake = error instanceof InputError ? error.message : String(error)
          }
        }
        void actFor(found)
      },
    }),
  )
}
