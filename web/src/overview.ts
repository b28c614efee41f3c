// What a vault holds, its rules, fees and roles, in plain words.

import { app } from './app'
import { h, type VNode } from './dom'
import { amount, bps, duration, least, percent, time, usd } from './format'
import { address, facts, note, quantity, stranger } from './ui'
import { STATUS, UNLISTED, sharePrice, worth, type Asset, type Vault } from './vault'

export function asOf(vault: Vault): VNode {
  return h('p', { class: 'soft', id: 'as-of' }, `All values as of block ${vault.block.number}, ${time(vault.block.timestamp)}, on ${app.config.chainName || 'this chain'}.`)
}

export function alerts(vault: Vault): VNode {
  const now = vault.block.timestamp
  return h(
    'div', { class: 'alerts' },
    vault.listed ? null : note('warning', UNLISTED),
    vault.pausedUntil > now ? note('warning', `The guardian has paused trades and priced flows until ${time(vault.pausedUntil)}. Redeeming in kind goes on.`) : null,
    vault.assets.map((asset) =>
      asset.aside
        ? note('warning', stranger(asset.symbol), ` is in quarantine until ${time(vault.asideUntil)}: it counts for nothing and is not traded. Redeeming in kind still pays it.`)
        : asset.unreadable
          ? note('warning', stranger(asset.symbol), ' does not answer. Its part is not in the values here; you can redeem without it.')
          : asset.status !== 0
            ? note('warning', stranger(asset.symbol), `: ${STATUS[asset.status] ?? 'no usable price'}. Values of the whole vault are incomplete; trades and priced flows wait. In kind goes on.`)
            : null,
    ),
  )
}

export function overview(vault: Vault): VNode {
  const open = vault.session.id > 0n && vault.session.closed_at === 0n && vault.block.timestamp < vault.session.opened_at + vault.rules.window_seconds
  return h(
    'div', {},
    h(
      'section', { 'aria-labelledby': 'holdings-title' },
      h('h2', { id: 'holdings-title' }, 'Holdings'),
      vault.priced ? chart(vault) : null,
      holdings(vault),
    ),
    h(
      'section', { 'aria-labelledby': 'rules-title' },
      h('h2', { id: 'rules-title' }, 'Rules'),
      h('ul', {}, rules(vault).map((text) => h('li', {}, text))),
      h('p', {}, open ? `A trading session is open (number ${vault.session.id}, since ${time(vault.session.opened_at)}).` : 'No trading session is open.',
        ` Of the loss budget of ${bps(vault.rules.loss_capacity_bps)}, ${percent(vault.lossUsed)} is used.`),
    ),
    fees(vault),
    roles(vault),
  )
}

function holdings(vault: Vault): VNode {
  const head = ['Asset', 'Holding', 'Value', 'Weight', 'Target', 'Band', 'Drift']
  return h(
    'table', { role: 'table', class: 'cards' },
    h('caption', { class: 'unseen' }, `Holdings of ${vault.share.name} at block ${vault.block.number}`),
    h('thead', { role: 'rowgroup' }, h('tr', { role: 'row' }, head.map((text) => h('th', { scope: 'col', role: 'columnheader' }, text)))),
    h(
      'tbody', { role: 'rowgroup' },
      vault.assets.map((asset) => {
        const cell = (label: string, ...content: Parameters<typeof h>[2][]): VNode => h('td', { role: 'cell', 'data-label': label }, ...content)
        const priced = asset.status === 0 && !asset.unreadable && !asset.aside
        const whole = vault.priced && !asset.aside
        return h(
          'tr', { role: 'row', key: asset.address },
          h('th', { role: 'rowheader', scope: 'row' }, stranger(asset.symbol), ' ', h('span', { class: 'soft' }, stranger(asset.name)), h('br'), address(asset.address)),
          cell('Holding', asset.unreadable ? 'does not answer' : quantity(asset.balance, asset)),
          cell('Value', priced ? usd(asset.value) : 'no usable price'),
          cell('Weight', whole ? percent(asset.weight) : '—'),
          cell('Target', percent(asset.target)),
          cell('Band', `±\u00a0${percent(asset.band)}`),
          cell('Drift', whole ? percent(asset.weight - asset.target) : '—', whole && asset.drift >= asset.band ? h('strong', {}, ' out of band') : null),
        )
      }),
    ),
  )
}

/** Bars of the weights; the band is the pale stretch, the target the line in it. Everything in it is in the table, too. */
function chart(vault: Vault): VNode {
  const row = 34
  const rightmost = vault.assets.reduce((most, asset) => (asset.target + asset.band > most ? asset.target + asset.band : asset.weight > most ? asset.weight : most), 0n)
  const x = (weight: bigint): number => Number(((weight < 0n ? 0n : least(weight, rightmost)) * 10_000n) / (rightmost || 1n)) / 100
  const line = (asset: Asset): string => `${asset.symbol} ${percent(asset.weight)}, target ${percent(asset.target)}`
  return h(
    'figure', { class: 'chart' },
    h(
      'div', { class: 'bars', role: 'img', 'aria-label': `Weights against targets: ${vault.assets.map(line).join('; ')}` },
      vault.assets.map((asset) =>
        h(
          'div', { class: 'bar', key: asset.address },
          h('span', { class: 'bar-name', 'aria-hidden': 'true' }, stranger(asset.symbol)),
          h(
            'svg', { width: '100%', height: row, 'aria-hidden': 'true', focusable: 'false' },
            h('rect', { class: 'band', x: `${x(asset.target - asset.band)}%`, y: 4, width: `${Math.max(0, x(asset.target + asset.band) - x(asset.target - asset.band))}%`, height: row - 8, rx: 3 }),
            h('rect', { class: asset.drift >= asset.band ? 'weight out' : 'weight', x: '0%', y: 11, width: `${x(asset.weight)}%`, height: row - 22, rx: 2 }),
            h('line', { class: 'target', x1: `${x(asset.target)}%`, x2: `${x(asset.target)}%`, y1: 2, y2: row - 2 }),
          ),
        ),
      ),
    ),
    h('figcaption', { class: 'legend' },
      h('span', { class: 'key weight' }, 'weight'), h('span', { class: 'key band' }, 'band'), h('span', { class: 'key target' }, 'target')),
  )
}

export function rules(vault: Vault): string[] {
  const r = vault.rules
  const every = r.calendar_unit === 0n ? (r.calendar_every === 1n ? 'day' : `${r.calendar_every} days`) : r.calendar_every === 1n ? 'month' : `${r.calendar_every} months`
  const calendar = `on the calendar, every ${every} counted from ${time(r.calendar_anchor)}`
  const threshold = 'when an asset’s weight has left its band'
  const when = [`${calendar}`, threshold, `${calendar}, and ${threshold}`, `${calendar}, but only ${threshold}`][Number(r.mode)] ?? 'unknown'
  return [
    `Trades happen ${when}.`,
    `A trading session lasts at most ${duration(r.window_seconds)}, and ${duration(r.cooldown_seconds)} pass before the next.`,
    `A trade may lose at most ${bps(r.max_slippage_bps)} of what it sells, at the oracle’s prices.`,
    `All trades together may cost at most ${bps(r.loss_capacity_bps)} of the vault at once, and ${bps(r.loss_refill_bps_per_year)} more a year, whoever makes them.`,
    `Overweight assets may only be sold, underweight ones only bought, past the target by no more than ${bps(r.tolerance_bps)} or a quarter of the band.`,
    `The strategist may move the targets by ${bps(r.speed_capacity_bps)} at once (all moves added up), and ${bps(r.speed_refill_bps_per_day)} more a day, within each asset’s limits.`,
  ]
}

function fees(vault: Vault): VNode {
  return h(
    'section', { 'aria-labelledby': 'fees-title' },
    h('h2', { id: 'fees-title' }, 'Fees'),
    facts([
      ['Management fee', `${bps(vault.feeBps)} a year, at most 3 %, paid in new shares`],
      ['Received by', address(vault.feeRecipient)],
      ['Pending', quantity(vault.pendingFeeShares, vault.share)],
      ['Deposits and redemptions in kind', 'no fee'],
    ]),
    (app.tellers ?? []).map((teller) =>
      h('p', {}, 'Teller for ', stranger(teller.asset.symbol), ` (`, address(teller.address), `): ${bps(teller.floorBps)} of every flow, and ${bps(teller.surchargeBps)} on what moves the basket away from its targets. The fee goes to the other holders over ${duration(teller.burnSeconds)}.`),
    ),
  )
}

function roles(vault: Vault): VNode {
  const found = app.roles
  const yearly = bps(vault.rules.loss_capacity_bps + vault.rules.loss_refill_bps_per_year)
  const budget = `${bps(vault.rules.loss_capacity_bps)} of the vault at once, ${yearly} in a year in which nobody notices`
  const accounts = (list: readonly `0x${string}`[] | undefined): VNode =>
    list === undefined ? h('span', { class: 'soft' }, 'not read yet') : list.length ? h('span', {}, list.map((item) => h('span', { key: item }, address(item), ' '))) : h('span', {}, 'nobody')
  const rows: [string, VNode, string, string][] = [
    ['Keeper', accounts(found?.keepers), 'proposes trades', `Lose the holders the loss budget: ${budget}. Or not trade at all: the basket drifts.`],
    ['Strategist', accounts(found?.strategists), 'moves targets within the limits', 'Choose poor targets inside the limits. Trading towards them costs at most the same loss budget.'],
    ['Guardian', accounts(found?.guardians), 'pauses, sets one asset aside, vetoes changes, drops keepers and strategists', 'No trades for 14 of every 21 days by pauses alone; no change of rules while it is guardian. It never stops a redemption in kind, and cannot veto its own removal.'],
    ['Admin', accounts(found ? [found.admin] : undefined), `lowers fee, slippage and budgets at once; everything else after ${found ? duration(found.delaySeconds) : 'the delay'}`,
      'At once: trades that stop. After the delay, unless a guardian vetoes: almost everything, with a dishonest oracle or a large loss budget. Whoever leaves in kind before that is not touched. It cannot stop a redemption in kind, raise the fee above 3 % a year or change the code.'],
    ['Owner of the oracle', address(vault.oracle), 'chooses price feeds, after the oracle’s own delay', 'As the admin of every vault that uses it, through false prices. In kind uses no price.'],
    ['Fee recipient', address(vault.feeRecipient), 'receives the fee', 'Nothing; at most 3 % a year.'],
    ['Everybody else', h('span', {}, ''), 'deposits and redeems, opens a session while its trigger holds, fills an auction', 'Sandwich the keeper’s trades: part of the keeper’s figure.'],
  ]
  return h(
    'section', { 'aria-labelledby': 'roles-title' },
    h('h2', { id: 'roles-title' }, 'Who can do what, and the worst of it'),
    h(
      'dl', { class: 'roles' },
      rows.map(([name, who, can, worst]) =>
        h('div', { key: name }, h('dt', {}, name, ' ', who), h('dd', {}, `Can: ${can}.`), h('dd', {}, h('strong', {}, 'Worst: '), worst)),
      ),
    ),
    found ? h('p', { class: 'soft' }, 'Changes wait at the timelock ', address(vault.timelock), '. Accounts are those that the vault’s events name and the vault confirms.', found.complete ? '' : ' Those that got a role at its creation may be missing: this server does not name the factory.') : null,
  )
}

export function headline(vault: Vault): VNode {
  const rows: [string, VNode | string][] = [
    ['Value of the vault', vault.priced ? usd(vault.nav) : `at least ${usd(vault.nav)}: a price is missing`],
    ['Price of a share', vault.priced ? usd(sharePrice(vault)) : '—'],
    ['Shares', h('span', { class: 'number' }, amount(vault.supply, 18, 2))],
  ]
  if (app.mine) rows.push(['Yours', h('span', {}, quantity(app.mine.shares, vault.share), vault.priced ? ` (${usd(worth(vault, app.mine.shares))})` : '')])
  return h('div', { class: 'headline' }, facts(rows))
}

export const maxDrift = (vault: Vault): bigint => vault.assets.reduce((most, asset) => (asset.drift > most ? asset.drift : most), 0n)
