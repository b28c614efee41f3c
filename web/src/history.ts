// What happened, from the vault's own events; and the audit head, recomputed here.

import { parseAbiItem } from 'viem'
import { app, announce, changed } from './app'
import { entries, verify, type Entry, type Verdict } from './audit'
import { h, type VNode } from './dom'
import { explain } from './errors'
import { amount, tame, time, usd } from './format'
import { born, latest, logs } from './node'
import { address, facts, note } from './ui'
import { sharePrice, type Vault } from './vault'

const FLOWS = [
  parseAbiItem('event MintedInKind(address indexed caller, address indexed receiver, uint256 shares, uint256[] amounts, uint256 flow_sequence)'),
  parseAbiItem('event RedeemedInKind(address indexed caller, address indexed receiver, address indexed owner, uint256 shares, uint256[] amounts, uint256 skip, uint256 flow_sequence)'),
  parseAbiItem('event Issued(address indexed teller, address indexed receiver, uint256 shares, uint256 fee, address asset, uint256 paid, uint256 flow_sequence)'),
  parseAbiItem('event Released(address indexed teller, address indexed owner, address indexed receiver, uint256 shares, uint256 fee, address asset, uint256 paid, uint256 flow_sequence)'),
] as const

interface Item {
  block: bigint
  index: number
  transaction: string
  what: string
}

let items: Item[] | undefined
let points: [number, bigint][] = [] // time, share price in USD WAD
let itemsFor = ''
let problem = ''
let shown = 50

export function historyView(vault: Vault): VNode {
  const key = `${vault.address}${vault.block.hash}`
  if (itemsFor !== key) {
    if (!itemsFor.startsWith(vault.address)) items = undefined
    itemsFor = key
    void load(vault, key)
  }
  return h(
    'section', { 'aria-labelledby': 'history-title' },
    h('h2', { id: 'history-title' }, 'History'),
    h('p', { class: 'soft' }, 'From the vault’s own events, newest first.'),
    problem ? note('error', problem) : null,
    items === undefined ? h('p', { class: 'working' }, 'Reading events…') : priceChart(vault),
    h('ol', { class: 'events' }, (items ?? []).slice(0, shown).map((item) =>
      h('li', { key: `${item.transaction}${item.index}` }, h('span', { class: 'soft' }, `Block ${item.block} `), item.what, ' ', address(item.transaction)))),
    items && items.length > shown ? h('button', { type: 'button', onclick: () => { shown += 50; changed() } }, `Show more (${items.length - shown})`) : null,
  )
}

async function load(vault: Vault, key: string): Promise<void> {
  try {
    const birth = await born(app.node, vault.address, app.config.fromBlock, vault.block.number)
    const [audit, flows] = await Promise.all([
      entries(app.node, app.config, vault.address, vault.block.number),
      logs(app.node, vault.address, FLOWS, birth, vault.block.number),
    ])
    if (itemsFor !== key) return
    problem = ''
    points = audit.map((entry) => pricePoint(entry, vault)).filter((point) => point !== undefined)
    items = [...audit.map((entry) => item(entry, said(entry, vault))), ...flows.map((flow) => item(flow, told(flow, vault)))].sort(
      (a, b) => Number(b.block - a.block) || b.index - a.index,
    )
  } catch (error) {
    problem = explain(error).text
  }
  changed()
}

/** What a share was worth when the vault last recorded prices, at the oracle's prices of that moment. */
function pricePoint(entry: Entry, vault: Vault): [number, bigint] | undefined {
  if (entry.eventName !== 'SessionOpened' && entry.eventName !== 'Rebalanced') return undefined
  const { prices, supply, time: at } = entry.args
  const balances = entry.eventName === 'Rebalanced' ? entry.args.balances_after : entry.args.balances
  if (prices.length !== vault.assets.length || supply === 0n) return undefined // another basket
  const nav = balances.reduce((sum, units, i) => sum + (units * prices[i]!) / 10n ** BigInt(vault.assets[i]!.decimals), 0n)
  return [Number(at), (nav * 10n ** 18n) / supply]
}

function priceChart(vault: Vault): VNode | null {
  const all: [number, bigint][] = vault.priced ? [...points, [Number(vault.block.timestamp), sharePrice(vault)]] : points
  if (all.length < 2) return null
  const values = all.map(([, price]) => Number(price / 10n ** 12n) / 1e6)
  const [low, high] = [Math.min(...values), Math.max(...values)]
  const [first, last] = [all[0]![0], all.at(-1)![0]]
  const x = (at: number): string => (((at - first) / Math.max(last - first, 1)) * 100).toFixed(2)
  const y = (value: number): string => (high === low ? 50 : 95 - ((value - low) / (high - low)) * 90).toFixed(2)
  const said = `From ${usd(all[0]![1])} on ${time(first)} to ${usd(all.at(-1)![1])} on ${time(last)}; lowest $${low.toFixed(4)}, highest $${high.toFixed(4)}.`
  return h(
    'figure', { class: 'chart' },
    h('div', { role: 'img', 'aria-label': `Price of a share. ${said}` },
      h('svg', { class: 'price', viewBox: '0 0 100 100', preserveAspectRatio: 'none', 'aria-hidden': 'true' },
        h('polyline', { points: all.map(([at], i) => `${x(at)},${y(values[i]!)}`).join(' ') }))),
    h('figcaption', { class: 'soft' }, `Price of a share where the vault recorded prices (sessions and trades), and now. ${said}`),
  )
}

const item = (log: { blockNumber: bigint; logIndex: number; transactionHash: string }, what: string): Item => ({
  block: log.blockNumber, index: log.logIndex, transaction: log.transactionHash, what,
})

function said(entry: Entry, vault: Vault): string {
  if (entry.eventName === 'Created') return 'The vault was created.'
  if (entry.eventName === 'RuleChanged') return `${time(entry.args.time)}: rule changed by ${tame(entry.args.name, 20).replaceAll('_', ' ')}.`
  if (entry.eventName === 'SessionOpened') return `${time(entry.args.time)}: session ${entry.args.session} opened, ${entry.args.by_calendar ? 'by the calendar' : 'by a band'}.`
  const { prices, balances_before, balances_after } = entry.args
  const sum = (balances: readonly bigint[]): bigint =>
    balances.reduce((total, units, i) => total + (units * (prices[i] ?? 0n)) / 10n ** BigInt(vault.assets[i]?.decimals ?? 18), 0n)
  const sold = balances_before.reduce((total, units, i) => {
    const less = units - (balances_after[i] ?? 0n)
    return less > 0n ? total + (less * (prices[i] ?? 0n)) / 10n ** BigInt(vault.assets[i]?.decimals ?? 18) : total
  }, 0n)
  const change = sum(balances_after) - sum(balances_before)
  const same = balances_before.length === vault.assets.length
  const worth = same ? ` Sold ${usd(sold)}; the value ${change < 0n ? `fell by ${usd(-change)}` : `rose by ${usd(change)}`} at the oracle’s prices.` : ''
  return `${time(entry.args.time)}: rebalanced in session ${entry.args.session}.${worth}`
}

function told(flow: Awaited<ReturnType<typeof logs<typeof FLOWS>>>[number], vault: Vault): string {
  const shares = `${amount(flow.args.shares, 18)} ${vault.share.symbol}`
  if (flow.eventName === 'MintedInKind') return `Deposit in kind: ${shares} minted.`
  if (flow.eventName === 'RedeemedInKind') return `Redemption in kind: ${shares} burnt${flow.args.skip > 0n ? ', with tokens left behind' : ''}.`
  return flow.eventName === 'Issued' ? `Deposit through a teller: ${shares} issued.` : `Redemption through a teller: ${shares} burnt.`
}

// Verify

let verdict: Verdict | undefined
let verdictOf = ''
let verifying = false
let verifyProblem = ''

export function verifyView(vault: Vault): VNode {
  const mine = verdictOf === vault.address ? verdict : undefined
  return h(
    'section', { 'aria-labelledby': 'verify-title' },
    h('h2', { id: 'verify-title' }, 'Verify the record'),
    h('p', {}, 'The vault keeps one hash of its whole record: creation, sessions, trades, changed rules. This page fetches the events from the node, hashes them again in your browser and compares. ',
      'It trusts the node for the events, not for the result: a changed, missing or reordered event leads to another hash. It does not judge the keeper’s reasons; ', h('code', {}, 'evenkeel audit verify'), ' does.'),
    h('div', { class: 'buttons' }, h('button', { type: 'button', class: 'main', id: 'verify', onclick: () => void check(vault) }, verifying ? 'Hashing…' : 'Recompute the head')),
    verifyProblem ? note('error', verifyProblem) : null,
    mine
      ? h(
          'div', { id: 'verdict' },
          facts([
            ['Recomputed in this browser', h('code', { class: 'long', id: 'recomputed' }, mine.recomputed ?? 'cannot be computed: the history breaks')],
            ['Stored by the vault', h('code', { class: 'long', id: 'stored' }, mine.stored)],
            ['Entries', `${mine.entries}, up to block ${mine.block.number}, ${time(mine.block.timestamp)}`],
          ]),
          mine.broken
            ? note('error', `The record breaks in block ${mine.broken.block}, transaction ${mine.broken.transaction}, field ${mine.broken.field}: ${mine.broken.reason}.`)
            : mine.recomputed === mine.stored
              ? h('p', { class: 'note good' }, h('strong', {}, 'Verified: '), 'The two are equal: the record is complete and unchanged.')
              : note('error', 'The two differ: entries at the end are missing or changed.'),
        )
      : null,
  )
}

async function check(vault: Vault): Promise<void> {
  if (verifying) return
  verifying = true
  verifyProblem = ''
  announce('Hashing the record.')
  changed()
  try {
    verdict = await verify(app.node, app.config, vault.address, app.chainId, await latest(app.node))
    verdictOf = vault.address
    announce(verdict.broken || verdict.recomputed !== verdict.stored ? 'The record does not fit.' : 'The record fits.')
  } catch (error) {
    verifyProblem = explain(error).text
    announce(verifyProblem)
  }
  verifying = false
  changed()
}

