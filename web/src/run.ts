// From review to confirmed: one dialog, told in words. Declining returns to the review.

import type { Address, Hex, Transaction, TransactionReceipt, TypedDataDomain } from 'viem'
import { actor, announce, app, ask, chain, changed, onChain, open, refresh } from './app'
import { h, type Child, type VNode } from './dom'
import { explain, type Failure } from './errors'
import { same, short, time } from './format'
import { attempt, latest } from './node'
import {
  approvals, encode, fingerprint, permitFor, safeFile, signPermit, simulate, type Call, type Permit, type Plan,
} from './plan'
import { address, closeDialog, facts, modal, note } from './ui'
import { UNLISTED } from './vault'
import { CANNOT_BATCH, batchStatus, sendBatch, type Wallet } from './wallet'

type Phase = 'preparing' | 'review' | 'working' | 'signers' | 'confirmed' | 'failed'
type State = 'to do' | 'in your wallet' | 'sent' | 'done' | 'failed'
interface Step {
  says: string
  state: State
  hash?: Hex
}

interface Run {
  plan: Plan
  account: Address
  phase: Phase
  missing: Call[] // approvals
  domain: TypedDataDomain | undefined // of the permit that replaces them
  batch: boolean
  steps: Step[]
  problem: Failure | undefined
  message: string
  restarts: number
  consent: string // what must be typed; empty for nothing
  typed: string
}

let run: Run | undefined

/** Show the review of `plan`; `consent` is what must be typed before it can be sent. */
export function review(plan: Plan, consent = ''): void {
  const account = actor()
  if (!account) return
  if (app.vault && app.vault.address === plan.vault && !app.vault.listed) plan = { ...plan, warnings: [UNLISTED, ...plan.warnings] }
  run = {
    plan, account, phase: 'preparing', missing: [], domain: undefined, batch: false, steps: [], problem: undefined, message: '',
    restarts: app.restarts, consent, typed: '',
  }
  open(view)
  void prepare(run)
}

async function prepare(mine: Run): Promise<void> {
  try {
    mine.missing = await approvals(app.node, mine.account, mine.plan.needs)
    mine.batch = !app.safe && app.canBatch && mine.missing.length > 0
    mine.domain = !app.safe && !mine.batch && !app.walletIsContract && mine.missing.length > 0
      ? await permitFor(app.node, mine.plan, mine.account, app.chainId)
      : undefined
    // what needs no approval first can be tried right now, without sending it
    if (mine.missing.length === 0) await simulate(app.node, mine.account, mine.plan.call)
  } catch (error) {
    mine.problem = explain(error)
  }
  if (mine.problem?.kind === 'declined') mine.problem = undefined
  planSteps(mine)
  mine.phase = 'review'
  changed()
}

function planSteps(mine: Run): void {
  const need = mine.plan.needs[0]
  mine.steps = mine.domain && need
    ? [{ says: `Sign a permit: ${need.spenderName} may take exactly this amount of ${need.token.symbol}, until ${time(mine.plan.deadline)}. It costs no gas.`, state: 'to do' }]
    : mine.missing.map((call) => ({ says: call.says, state: 'to do' as State }))
  mine.steps.push({ says: mine.plan.call.says, state: 'to do' })
}

// Doing it

async function confirm(): Promise<void> {
  const mine = run
  const wallet = app.wallet
  if (!mine || !wallet || mine.phase !== 'review') return
  mine.problem = undefined
  mine.phase = 'working'
  for (const step of mine.steps) if (step.state === 'failed') step.state = 'to do'
  changed()
  try {
    await guard(mine, wallet)
    const receipt = mine.batch ? await asBatch(mine, wallet) : await oneByOne(mine, wallet)
    if (receipt) confirmed(mine, receipt)
  } catch (error) {
    failed(mine, error)
  }
  changed()
}

/** The world is still the one that was reviewed, and so is the account; asked before anything goes to the wallet. */
async function guard(mine: Run, wallet: Wallet): Promise<void> {
  if (run !== mine || app.dialog !== view) throw new Stop('The review was closed. Nothing more was sent.')
  const block = await latest(app.node)
  const expires = mine.plan.expires
  if (expires !== undefined && block.timestamp >= expires) {
    await refresh(true) // the form asks for a new one as soon as it knows the new block
    throw new Stop('The quote is too old to be sent. Close this, and a new one is there.')
  }
  if (block.timestamp >= mine.plan.deadline) throw new Stop('This review is too old. Close it and review again.')
  const [accounts, chainId] = await Promise.all([ask(wallet.provider, 'eth_accounts'), ask(wallet.provider, 'eth_chainId')])
  if (Number(chainId) !== app.chainId) throw new Stop(`The wallet is on another network. Switch it to ${chain()}.`)
  if (!(accounts as string[]).some((account) => same(account, mine.account))) throw new Stop('The wallet’s account changed. Close this and review again.')
}

class Stop extends Error {}

async function asBatch(mine: Run, wallet: Wallet): Promise<TransactionReceipt | undefined> {
  const calls = [...mine.missing, mine.plan.call].map((call) => ({ to: call.to, data: encode(call) }))
  for (const step of mine.steps) step.state = 'in your wallet'
  say(mine, 'Confirm the batch in your wallet: approvals and the call itself, all or nothing.')
  const id = await sendBatch(wallet, app.chainId, calls)
  if (id === CANNOT_BATCH) {
    mine.batch = app.canBatch = false
    if (!app.walletIsContract) mine.domain = await permitFor(app.node, mine.plan, mine.account, app.chainId)
    planSteps(mine)
    return oneByOne(mine, wallet)
  }
  for (const step of mine.steps) step.state = 'sent'
  say(mine, 'Sent. Waiting for the chain.')
  for (;;) {
    // a wallet that does not answer now may have sent it all the same
    const status = (await attempt(batchStatus(wallet, id))) ?? { status: 100 }
    if (status.status >= 200 && status.status < 300) {
      const hash = status.receipts?.at(-1)?.transactionHash
      for (const step of mine.steps) step.state = 'done'
      if (hash) return succeeded(await received(mine, wallet, hash))
      mine.phase = 'confirmed'
      say(mine, 'The wallet says that the batch is confirmed.')
      void refresh(true)
      return undefined
    }
    if (status.status >= 400) throw new Stop('The batch failed, and nothing of it took place. Review it again.')
    gone(mine)
    await pause()
  }
}

async function oneByOne(mine: Run, wallet: Wallet): Promise<TransactionReceipt | undefined> {
  let call = mine.plan.call
  if (mine.domain && mine.plan.withPermit) {
    const step = mine.steps[0] as Step
    step.state = 'in your wallet'
    say(mine, 'Sign the permit in your wallet.')
    const permit = await signPermit(app.node, wallet, mine.plan, mine.domain)
    step.state = 'done'
    call = (await usable(mine, permit)) ?? call
  }
  if (call === mine.plan.call) {
    for (const [i, approval] of mine.missing.entries()) {
      const step = mine.steps[i] as Step
      if (step.state === 'done') continue
      const receipt = await sendOne(mine, wallet, step, approval)
      if (!receipt) return undefined
    }
    await simulate(app.node, mine.account, call)
  }
  return sendOne(mine, wallet, mine.steps.at(-1) as Step, call)
}

/** The call with the permit, where it runs; a permit that somebody else has spent falls back to approvals. */
async function usable(mine: Run, permit: Permit): Promise<Call | undefined> {
  const call = mine.plan.withPermit!(permit)
  try {
    await simulate(app.node, mine.account, call)
    return call
  } catch (error) {
    const failure = explain(error)
    if (!['permit failed', 'invalid signature'].includes(failure.reason ?? '')) throw error
    mine.domain = undefined
    mine.missing = await approvals(app.node, mine.account, mine.plan.needs)
    planSteps(mine)
    return undefined
  }
}

async function sendOne(mine: Run, wallet: Wallet, step: Step, call: Call): Promise<TransactionReceipt | undefined> {
  await guard(mine, wallet) // what came before takes its time: the quote may be old by now
  const data = encode(call)
  step.state = 'in your wallet'
  say(mine, `Confirm in your wallet: ${call.says}.`)
  // a margin: some calls cost more in the block in which they are mined
  const gas = await attempt(app.node.estimateGas({ account: mine.account, to: call.to, data }))
  const hash = (await ask(wallet.provider, 'eth_sendTransaction', [
    { from: mine.account, to: call.to, data, value: '0x0', ...(gas ? { gas: `0x${((gas * 5n) / 4n).toString(16)}` } : {}) },
  ])) as Hex
  step.state = 'sent'
  step.hash = hash
  say(mine, `Sent: ${short(hash)}. Waiting for the chain.`)
  const receipt = await received(mine, wallet, hash)
  if (!receipt) return undefined
  if (receipt.status !== 'success') {
    step.state = 'failed'
    // ask the chain why, as of the block before
    await simulate(app.node, mine.account, call)
    throw new Stop('The transaction was mined but had no effect. Nothing was taken but gas. Review it again.')
  }
  step.state = 'done'
  return receipt
}

/** The receipt; undefined where the hash is a proposal that other signers must join. */
async function received(mine: Run, wallet: Wallet, hash: Hex): Promise<TransactionReceipt | undefined> {
  if (app.walletIsContract && !(await known(hash))) {
    mine.phase = 'signers'
    say(mine, `Proposed as ${hash}. It is waiting for the account’s other signers; you may close this.`)
    return undefined
  }
  let replaced = false // by another call of the same account; a higher fee is no such thing
  let seen: Transaction | undefined
  let waiting: Promise<TransactionReceipt | undefined> | undefined
  for (;;) {
    // a node that does not answer for a while says nothing about what was sent: go on asking
    waiting ??= attempt(app.node.getTransaction({ hash }))
      .then((found) => (seen ??= found))
      .then(() => app.node.waitForTransactionReceipt({
        hash, pollingInterval: 500, timeout: 0, retryCount: 0, onReplaced: ({ reason }) => { replaced = reason !== 'repriced' },
        ...(seen ? { replacement: { from: seen.from, nonce: seen.nonce, to: seen.to, input: seen.input, value: seen.value } } : {}),
      }))
      .catch(async () => {
        await pause()
        waiting = undefined
        return undefined
      })
    const receipt = await Promise.race([waiting, pause()])
    if (receipt && replaced) throw new Stop('The transaction was cancelled or replaced in the wallet. It did not take place.')
    if (receipt) return receipt
    gone(mine)
    if (app.wallet !== wallet && app.wallet?.provider !== wallet.provider) throw new Stop('The wallet was disconnected. Look for the transaction in the wallet.')
  }
}

function succeeded(receipt: TransactionReceipt | undefined): TransactionReceipt | undefined {
  if (receipt && receipt.status !== 'success') throw new Stop('The batch was mined but had no effect. Review it again.')
  return receipt
}

const known = async (hash: Hex): Promise<boolean> => (await attempt(app.node.getTransaction({ hash }))) !== undefined

function gone(mine: Run): void {
  if (app.restarts !== mine.restarts) throw new Stop('The chain began anew: this transaction is gone. Close this and begin again.')
}

const pause = (): Promise<undefined> => new Promise((done) => setTimeout(() => done(undefined), 500))

function confirmed(mine: Run, receipt: TransactionReceipt): void {
  mine.phase = 'confirmed'
  mine.message = `Confirmed in block ${receipt.blockNumber}. ${mine.plan.done(receipt)}`
  announce(mine.message)
  show()
  void refresh(true)
}

/** On a small screen the outcome would be below the facts. */
const show = (): void => void setTimeout(() => document.getElementById('outcome')?.scrollIntoView({ block: 'center' }), 50)

function failed(mine: Run, error: unknown): void {
  const failure: Failure = error instanceof Stop ? { kind: 'refused', text: error.message } : explain(error)
  mine.problem = failure
  for (const step of mine.steps) if (step.state !== 'done') step.state = step.state === 'failed' || step.state === 'sent' ? 'failed' : 'to do'
  mine.phase = failure.kind === 'declined' ? 'review' : 'failed'
  announce(failure.text)
  show()
}

function say(mine: Run, text: string): void {
  mine.message = text
  announce(text)
  show()
  changed()
}

// The dialog

function view(): Child {
  const mine = run
  if (!mine) return null
  const { plan, phase } = mine
  return modal(plan.title, [
    facts([
      ...plan.facts,
      ['Account', address(mine.account)],
    ]),
    ...plan.warnings.map((text) => note('warning', text)),
    phase === 'preparing' ? h('p', {}, 'Reading approvals…') : steps(mine),
    h(
      'div', { id: 'outcome' },
      phase === 'confirmed' ? note('good', mine.message) : null,
      phase === 'signers' ? note('info', mine.message) : null,
      phase === 'working' ? h('p', { class: 'working' }, mine.message) : null,
      mine.problem ? note(mine.problem.kind === 'declined' ? 'info' : 'error', mine.problem.text) : null,
    ),
    consent(mine),
    buttons(mine),
    details(mine),
  ])
}

function steps(mine: Run): VNode {
  return h(
    'ol', { class: 'steps', 'aria-label': mine.batch ? 'Steps, all in one confirmation' : 'Steps' },
    mine.steps.map((step, i) =>
      h(
        'li', { key: `${i}${step.says}`, class: `step ${step.state.replaceAll(' ', '-')}` },
        h('span', {}, step.says),
        h('span', { class: 'state' }, ` ${step.state}`),
        step.hash ? [' ', address(step.hash)] : null,
      ),
    ),
  )
}

function consent(mine: Run): VNode | null {
  if (!mine.consent || mine.phase !== 'review') return null
  return h(
    'div', { class: 'field' },
    h('label', { for: 'consent' }, 'This costs much. To go on, type ', h('strong', {}, mine.consent)),
    h('input', {
      id: 'consent', value: mine.typed, autocomplete: 'off',
      oninput: (event: InputEvent) => {
        mine.typed = (event.target as HTMLInputElement).value
        changed()
      },
    }),
  )
}

function buttons(mine: Run): VNode | null {
  const { phase } = mine
  if (phase === 'confirmed' || phase === 'failed' || phase === 'signers') {
    return h(
      'div', { class: 'buttons' },
      phase === 'failed' ? h('button', { type: 'button', class: 'main', onclick: () => void again(mine) }, 'Back to the review') : null,
      h('button', { type: 'button', class: phase === 'failed' ? '' : 'main', onclick: closeDialog }, phase === 'signers' ? 'Dismiss' : 'Close'),
      phase === 'confirmed' && app.wallet ? h('button', { type: 'button', onclick: () => void watch(mine) }, 'Ask the wallet to show the shares') : null,
    )
  }
  if (app.safe) {
    const ready = phase === 'review' && mine.problem === undefined
    return h(
      'div', { class: 'buttons' },
      h('button', { type: 'button', class: 'main', 'aria-disabled': ready ? null : 'true', onclick: () => ready && download(mine) }, 'Download the Safe file'),
    )
  }
  const blocked = phase !== 'review' || (mine.consent !== '' && mine.typed.trim() !== mine.consent)
  const label = phase === 'working' ? 'Waiting…' : mine.problem?.kind === 'declined' ? 'Confirm in the wallet again' : 'Confirm in the wallet'
  return h(
    'div', { class: 'buttons' },
    h('button', { type: 'button', class: 'main', id: 'confirm', 'aria-disabled': blocked ? 'true' : null, onclick: () => !blocked && void confirm() }, label),
  )
}

async function again(mine: Run): Promise<void> {
  mine.phase = 'preparing'
  mine.problem = undefined
  changed()
  await prepare(mine)
}

function details(mine: Run): VNode {
  const calls = [...mine.missing, mine.plan.call]
  return h(
    'details', {},
    h('summary', {}, 'What exactly is signed'),
    h(
      'ol', {},
      calls.map((call) =>
        h('li', {}, `${call.functionName} at `, address(call.to, true), h('br'), 'keccak256 of the data: ', h('code', { class: 'long' }, fingerprint(call))),
      ),
    ),
    h('p', {}, onChain() || app.safe ? `On ${chain()} (${app.chainId}).` : null),
  )
}

function download(mine: Run): void {
  const text = safeFile(mine.plan, [...mine.missing, mine.plan.call], app.chainId, mine.account, Date.now())
  const link = document.createElement('a')
  link.href = URL.createObjectURL(new Blob([text], { type: 'application/json' }))
  link.download = 'evenkeel-safe-transactions.json'
  link.click()
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000)
  announce('The file was made. Load it in the Safe’s Transaction Builder app.')
}

/** EIP-747 says nothing about whether the token is shown in the end. */
async function watch(mine: Run): Promise<void> {
  const vault = app.vault
  if (!vault || !app.wallet) return
  try {
    await ask(app.wallet.provider, 'wallet_watchAsset', {
      type: 'ERC20', options: { address: vault.address, symbol: vault.share.symbol.slice(0, 11), decimals: 18 },
    } as never)
    mine.message = 'The wallet was asked. Whether it lists the shares is up to the wallet.'
  } catch {
    mine.message = 'The wallet did not take the request. Your shares are in the account all the same.'
  }
  announce(mine.message)
  changed()
}
