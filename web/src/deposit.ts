// Ways in: in kind, through a teller, by zap. The one that brings most shares comes first.

import { decodeEventLog, isHex, type Abi, type Address, type Hex, type TransactionReceipt } from 'viem'
import { priceOracleAbi, tellerAbi, vaultAbi, zapAbi } from './abi'
import { actor, app, changed } from './app'
import { h, type Child, type VNode } from './dom'
import { units, type Token } from './erc20'
import { explain } from './errors'
import { InputError, bps, exact, parseAmount, parseAddress, percent, same, tame, time, usd, WAD, amount as whole } from './format'
import { attempt } from './node'
import type { Plan } from './plan'
import { review } from './run'
import { choice, field, note, quantity, stranger } from './ui'
import { affordable, mintAmounts, sharesFor, sharePrice, valueOf, worth, type Vault } from './vault'
import { nextStep, safeField } from './step'

const BLOCK_MARGIN = 1200n // seconds that a review is good for
export const form = { source: 'basket', unit: 'usd', text: '', slippage: '0.5', touched: false, chosen: '' }

export interface Option {
  id: string
  name: string
  expected: bigint // shares, or token units on the way out
  least: bigint
  facts: [string, string][]
  warnings: string[]
  costBps: bigint | undefined // of the value
  route: string[]
  leftovers: string[]
  expires: bigint | undefined
  plan: Plan
}

let options: Option[] | undefined
let optionsFor = ''
let problems: string[] = []
let timer: ReturnType<typeof setTimeout> | undefined

export const slippageBps = (text: string): bigint => {
  const value = Math.round(Number(text) * 100)
  if (!Number.isFinite(value) || !/^\d{0,2}(\.\d{0,2})?$/.test(text.trim()) || text.trim() === '' || value < 1 || value > 1000) {
    throw new InputError('Between 0.01 and 10 %.')
  }
  return BigInt(value)
}

const less = (value: bigint, by: bigint): bigint => (value * (10_000n - by)) / 10_000n
const more = (value: bigint, by: bigint): bigint => (value * (10_000n + by) + 9_999n) / 10_000n

function sources(vault: Vault): Token[] {
  const tokens: Token[] = [...vault.assets]
  if (app.hub && !tokens.some((token) => same(token.address, app.hub!.address))) tokens.unshift(app.hub)
  return tokens
}

// In kind

function shares(vault: Vault): bigint {
  if (form.unit === 'shares') return parseAmount(form.text, 18)
  const given = parseAmount(form.text, 18)
  if (!vault.priced) throw new InputError('Without a usable price for every asset, enter shares instead of USD.')
  const found = sharesFor(vault, given)
  if (found === 0n) throw new InputError('That is too little for any shares.')
  return found
}

function inKind(vault: Vault, amount: bigint, slippage: bigint, account: Address): Plan {
  const amounts = mintAmounts(vault, amount)
  const maxima = amounts.map((units) => more(units, slippage))
  return {
    title: 'Deposit in kind',
    facts: [
      ['You receive exactly', units(amount, vault.share)],
      ...vault.assets.map((asset, i): [string, string] => [
        `You pay at most, of ${asset.symbol}`, `${units(maxima[i]!, asset)} (now ${units(amounts[i]!, asset)})`,
      ]),
      ['Fee of this deposit', 'none; the vault charges ' + bps(vault.feeBps) + ' a year'],
    ],
    warnings: [],
    needs: vault.assets.map((asset, i) => ({ token: asset, spender: vault.address, spenderName: 'the vault', amount: maxima[i]! })),
    call: {
      to: vault.address, abi: vaultAbi as Abi, functionName: 'mint_in_kind', args: [amount, maxima, account],
      says: `Deposit for ${units(amount, vault.share)}`,
    },
    deadline: vault.block.timestamp + BLOCK_MARGIN,
    vault: vault.address,
    done: (receipt) => `You received ${units(minted(receipt, vault.address) ?? amount, vault.share)}.`,
  }
}

function minted(receipt: TransactionReceipt, vault: Address): bigint | undefined {
  for (const log of receipt.logs) {
    if (!same(log.address, vault)) continue
    try {
      const event = decodeEventLog({ abi: vaultAbi, data: log.data, topics: log.topics })
      if (event.eventName === 'MintedInKind' || event.eventName === 'Issued') return event.args.shares
    } catch {
      // an audit entry or a transfer
    }
  }
  return undefined
}

// With one token: every way that there is

async function findOptions(vault: Vault, source: Token, amount: bigint, slippage: bigint, account: Address): Promise<void> {
  const mine = optionsFor
  const found: Option[] = []
  problems = []
  const tellers = (app.tellers ?? []).filter((teller) => same(teller.asset.address, source.address))
  await Promise.all([
    ...tellers.map(async (teller) => {
      try {
        const expected = await app.node.readContract({ address: teller.address, abi: tellerAbi, functionName: 'previewDeposit', args: [amount] })
        found.push(throughTeller(vault, teller, source, amount, expected, slippage, account))
      } catch (error) {
        problems.push(`Through the teller: ${explain(error).text}`)
      }
    }),
    (async () => {
      if (!app.config.quotes || !app.config.zap) return void problems.push('By zap: this server makes no quotes.')
      try {
        found.push(await zapIn(vault, app.config.zap, source, amount, await quote(vault, 'zap-in', { token: source.address, amount_units: amount, slippage_bps: slippage }), slippage, account))
      } catch (error) {
        problems.push(`By zap: ${error instanceof InputError ? error.message : explain(error).text}`)
      }
    })(),
  ])
  if (mine !== optionsFor) return
  options = found.sort((a, b) => (a.expected > b.expected ? -1 : 1))
  changed()
}

function throughTeller(
  vault: Vault, teller: NonNullable<typeof app.tellers>[number], source: Token, amount: bigint, expected: bigint, slippage: bigint, account: Address,
): Option {
  const minimum = less(expected, slippage)
  if (minimum === 0n) throw new InputError('That is too little for any shares.')
  const value = valueOf(teller.asset, amount)
  const cost = costOf(value, worth(vault, expected))
  const says = `Deposit ${units(amount, source)} through the teller`
  const facts: [string, string][] = [
    ['You pay', units(amount, source)],
    ['You receive, expected', units(expected, vault.share)],
    ['You receive at least', units(minimum, vault.share)],
    ['Fee', `${bps(teller.floorBps)}, and ${bps(teller.surchargeBps)} on what moves the basket away from its targets: about ${percent(cost ?? 0n)} together. It stays with the holders.`],
  ]
  return {
    id: teller.address, name: 'Through the teller, at the oracle’s prices', expected, least: minimum, facts, warnings: [],
    costBps: cost === undefined ? undefined : cost / 10n ** 14n, route: [`${source.symbol} goes to the vault as it is`], leftovers: [], expires: undefined,
    plan: {
      title: 'Deposit through the teller', facts, warnings: [],
      needs: [{ token: source, spender: teller.address, spenderName: 'the teller', amount }],
      call: { to: teller.address, abi: tellerAbi as Abi, functionName: 'deposit', args: [amount, account, minimum], says },
      withPermit: (p) => ({
        to: teller.address, abi: tellerAbi as Abi, functionName: 'deposit_with_permit',
        args: [amount, account, minimum, p.deadline, p.v, p.r, p.s], says,
      }),
      deadline: vault.block.timestamp + BLOCK_MARGIN,
      vault: vault.address,
      done: (receipt) => `You received ${units(minted(receipt, vault.address) ?? expected, vault.share)}.`,
    },
  }
}

/** Value lost, WAD of what was brought. */
export function costOf(paid: bigint, got: bigint): bigint | undefined {
  return paid > 0n ? ((paid - got) * WAD) / paid : undefined
}

export interface Quote {
  payload: Hex
  via: Address[]
  expected: bigint
  expires: bigint
  deadline: bigint
  route: string[]
  leftovers: string[]
}

/** The server's quote. What it says is checked: the page makes the call, its minimum and its price impact by itself. */
export async function quote(vault: Vault, kind: 'zap-in' | 'zap-out', query: Record<string, bigint | string>): Promise<Quote> {
  const parameters = new URLSearchParams(Object.entries(query).map(([name, value]) => [name, String(value)]))
  const answer = await fetch(`v1/vaults/${vault.address}/quotes/${kind}?${parameters}`, { credentials: 'omit' })
  const body = (await answer.json().catch(() => ({}))) as Record<string, unknown>
  if (!answer.ok) throw new InputError(tame(String(body.detail ?? body.title ?? `the server answers ${answer.status}`), 200))
  const payload = body.payload
  const expected = kind === 'zap-in' ? body.expected_shares_units : body.expected_amount_units
  if (!isHex(payload) || payload.length > 2 + 2 * 8192 || !/^\d{1,40}$/.test(String(expected)) || !Array.isArray(body.via)) {
    throw new InputError('the server’s quote cannot be read')
  }
  if (Number(body.chain_id) !== app.chainId || !same(String(body.vault), vault.address)) throw new InputError('the quote is for another vault or chain')
  const legs = Array.isArray(body.legs) ? (body.legs as Record<string, unknown>[]) : []
  const leftovers = Array.isArray(body.leftovers) ? (body.leftovers as Record<string, unknown>[]) : []
  return {
    payload,
    via: (body.via as string[]).slice(0, 8).map(parseAddress),
    expected: BigInt(String(expected)),
    expires: BigInt(Number(body.expires_at) || 0),
    deadline: BigInt(Number(body.deadline) || 0),
    route: legs.slice(0, 40).map(
      (leg) =>
        `${tame(String(leg.symbol_in), 14)} to ${tame(String(leg.symbol_out), 14)} in ${tame(String(leg.pool_kind).replaceAll('_', ' '), 20)}, fee ${Number(leg.fee_millionths) / 10_000} %`,
    ),
    leftovers: leftovers.slice(0, 20).map((left) => {
      const value = digits(left.value_usd_wad)
      return `${whole(digits(left.units) ?? 0n, Number(left.decimals) || 0)} ${tame(String(left.symbol), 14)}${value === undefined ? '' : ` (${usd(value)})`}`
    }),
  }
}

const digits = (value: unknown): bigint | undefined => (/^\d{1,60}$/.test(String(value)) ? BigInt(String(value)) : undefined)

/** The token's value at the oracle's prices. */
export async function pricedAt(vault: Vault, token: Token, amount: bigint): Promise<bigint | undefined> {
  const asset = vault.assets.find((item) => same(item.address, token.address))
  if (asset) return asset.status === 0 ? valueOf(asset, amount) : undefined
  const found = await attempt(app.node.readContract({
    address: vault.oracle, abi: priceOracleAbi, functionName: 'prices', args: [[token.address]], blockNumber: vault.block.number,
  }))
  return found?.[1][0] === 0n ? (amount * found[0][0]!) / 10n ** BigInt(token.decimals) : undefined
}

async function zapIn(vault: Vault, zap: Address, source: Token, amount: bigint, q: Quote, slippage: bigint, account: Address): Promise<Option> {
  const minimum = less(q.expected, slippage)
  if (minimum === 0n) throw new InputError('that is too little for any shares')
  const value = await pricedAt(vault, source, amount)
  const own = value !== undefined && vault.priced ? costOf(value, worth(vault, q.expected)) : undefined
  const cost = own === undefined ? undefined : own / 10n ** 14n // the server's own figures, leftovers' too, do not count
  const deadline = vault.block.timestamp + BLOCK_MARGIN
  const says = `Deposit ${units(amount, source)} by zap`
  const facts: [string, string][] = [
    ['You pay', units(amount, source)],
    ['You receive, expected', units(q.expected, vault.share)],
    ['You receive at least', units(minimum, vault.share)],
    ['Cost of the route', cost === undefined ? 'unknown: a price is missing' : `${bps(cost < 0n ? 0n : cost)} in all, pools’ fees and price impact`],
    ['Left over', q.leftovers.length ? `${q.leftovers.join(', ')}; returned to your account` : 'at most dust; returned to your account'],
    ['Quote good until', time(q.expires)],
  ]
  const args = [vault.address, source.address, amount, q.payload, q.via, minimum, account, deadline]
  return {
    id: 'zap', name: 'By zap, through pools', expected: q.expected, least: minimum, facts, warnings: [], costBps: cost,
    route: q.route, leftovers: q.leftovers, expires: q.expires,
    plan: {
      title: 'Deposit by zap', facts, warnings: [],
      needs: [{ token: source, spender: zap, spenderName: 'the zap', amount }],
      call: { to: zap, abi: zapAbi as Abi, functionName: 'zap_in', args, says },
      withPermit: (p) => ({ to: zap, abi: zapAbi as Abi, functionName: 'zap_in_with_permit', args: [...args.slice(0, 7), p.deadline, p.v, p.r, p.s], says }),
      deadline,
      expires: q.expires,
      vault: vault.address,
      done: (receipt) => `You received ${units(minted(receipt, vault.address) ?? q.expected, vault.share)}.`,
    },
  }
}

// The form

function check(vault: Vault): { amount: bigint; slippage: bigint; source: Token | undefined } {
  const slippage = slippageBps(form.slippage)
  if (form.source === 'basket') return { amount: shares(vault), slippage, source: undefined }
  const source = sources(vault).find((token) => same(token.address, form.source))
  if (!source) throw new InputError('Choose what to bring.')
  return { amount: parseAmount(form.text, source.decimals), slippage, source }
}

function edited(): void {
  form.touched = true
  look()
  changed()
}

/** Ask for new quotes, soon, where what they depend on has changed or they are old. */
export function look(): void {
  const vault = app.vault
  const account = actor() ?? '0x000000000000000000000000000000000000dEaD'
  if (!vault || form.source === 'basket') return
  let given: ReturnType<typeof check>
  try {
    given = check(vault)
  } catch {
    optionsFor = ''
    options = undefined
    return
  }
  const key = [vault.address, form.source, given.amount, given.slippage, account, (app.tellers ?? []).length].join()
  const old = options?.some((option) => option.expires !== undefined && vault.block.timestamp >= option.expires)
  if (key === optionsFor && !old) return
  if (key !== optionsFor) options = undefined
  optionsFor = key
  clearTimeout(timer)
  timer = setTimeout(() => void findOptions(vault, given.source!, given.amount, given.slippage, account), 300)
}

export function depositView(vault: Vault): VNode {
  look()
  let mistake = ''
  let given: ReturnType<typeof check> | undefined
  try {
    given = check(vault)
  } catch (error) {
    mistake = error instanceof InputError ? error.message : String(error)
  }
  const basket = form.source === 'basket'
  const source = sources(vault).find((token) => same(token.address, form.source))
  return h(
    'section', { 'aria-labelledby': 'deposit-title' },
    h('h2', { id: 'deposit-title' }, 'Deposit'),
    choice({
      id: 'source', label: 'What do you bring?', value: form.source,
      options: [['basket', 'The basket’s tokens (in kind)'], ...sources(vault).map((token): [string, string] => [token.address, `${token.symbol} only`])],
      onchange: (value) => {
        form.source = value
        form.chosen = ''
        edited()
      },
      hint: basket ? 'Exactly pro rata, no price and no fee: works even when prices do not.' : 'One transaction; a minimum number of shares is part of it.',
    }),
    h(
      'div', { class: 'row' },
      field({
        id: 'amount', value: form.text, inputmode: 'decimal',
        label: basket ? (form.unit === 'usd' ? 'Worth, in USD' : 'Shares') : h('span', {}, 'Amount of ', stranger(source?.symbol ?? '')),
        mistake: form.touched && mistake && !/Between 0.01/.test(mistake) ? mistake : '',
        hint: limits(vault, source),
        oninput: (text) => {
          form.text = text
          edited()
        },
      }),
      basket
        ? choice({
            id: 'unit', label: 'In', value: form.unit, options: [['usd', 'USD'], ['shares', 'shares']],
            onchange: (value) => {
              form.unit = value
              edited()
            },
          })
        : null,
      field({
        id: 'slippage', label: 'Tolerance, %', value: form.slippage, inputmode: 'decimal',
        mistake: /Between 0.01/.test(mistake) ? mistake : '',
        oninput: (text) => {
          form.slippage = text
          edited()
        },
      }),
    ),
    safeField(),
    basket ? (given ? preview(vault, given.amount) : null) : ways(vault, given),
    h('div', { class: 'buttons' }, nextStep({ mistake, focus: 'amount', shortfall: () => shortfall(vault, given), ready: () => ready(vault, given), review: () => start(vault) })),
  )
}

function limits(vault: Vault, source: Token | undefined): Child {
  if (!app.mine) return null
  if (!source) {
    const most = affordable(vault, app.mine.tokens)
    return h('span', {}, 'Your balances are enough for ', quantity(most, vault.share), '. ', h('button', {
      type: 'button', class: 'small',
      onclick: () => {
        form.unit = 'shares'
        // a little less: the most that may be paid is above what is asked now
        form.text = exact(less(most, 60n), 18)
        edited()
      },
    }, 'Use all'))
  }
  const balance = balanceOf(vault, source)
  if (balance === undefined) return 'This token does not say what you have.'
  return h('span', {}, 'You have ', quantity(balance, source), '. ', h('button', {
    type: 'button', class: 'small',
    onclick: () => {
      form.text = exact(balance, source.decimals)
      edited()
    },
  }, 'Use all'))
}

function balanceOf(vault: Vault, token: Token): bigint | undefined {
  const index = vault.assets.findIndex((asset) => same(asset.address, token.address))
  return index >= 0 ? app.mine?.tokens[index] : app.mine?.hub
}

/** What is missing, in words; empty for nothing. */
function shortfall(vault: Vault, given: ReturnType<typeof check> | undefined): string {
  if (!given || !app.mine) return ''
  if (given.source) {
    const balance = balanceOf(vault, given.source)
    return balance !== undefined && balance < given.amount ? `Not enough ${given.source.symbol}` : ''
  }
  const amounts = mintAmounts(vault, given.amount)
  const lacking = vault.assets.filter((_, i) => (app.mine?.tokens[i] ?? 0n) < amounts[i]!)
  return lacking.length ? `Not enough ${lacking.map((asset) => asset.symbol).join(', ')}` : ''
}

function preview(vault: Vault, amount: bigint): VNode {
  const amounts = mintAmounts(vault, amount)
  return h(
    'div', { class: 'preview' },
    h('h3', {}, 'You would pay now'),
    h('ul', { class: 'plain' }, vault.assets.map((asset, i) => h('li', {}, quantity(amounts[i]!, asset), asset.status === 0 ? h('span', { class: 'soft' }, ` ${usd(valueOf(asset, amounts[i]!))}`) : null))),
    h('p', {}, 'and receive ', quantity(amount, vault.share), vault.priced ? h('span', { class: 'soft' }, ` worth ${usd(worth(vault, amount))}, at ${usd(sharePrice(vault))} a share`) : null, '.'),
  )
}

function chosen(): Option | undefined {
  return options?.find((option) => option.id === form.chosen) ?? options?.[0]
}

function ways(vault: Vault, given: ReturnType<typeof check> | undefined): VNode | null {
  if (!given) return null
  if (!options) return h('p', { class: 'working' }, 'Comparing the ways in…')
  return optionList('Ways in, the one with most shares first', options, chosen(), vault.share, (id) => (form.chosen = id), problems)
}

export function optionList(
  legend: string, found: Option[], picked: Option | undefined, token: Token, pick: (id: string) => void, troubles: string[],
): VNode {
  return h(
    'fieldset', { class: 'options' },
    h('legend', {}, legend),
    found.map((option) =>
      h(
        'label', { class: 'option', key: option.id },
        h('input', {
          type: 'radio', name: legend, value: option.id, checked: option.id === picked?.id,
          onchange: () => {
            pick(option.id)
            changed()
          },
        }),
        h(
          'span', {},
          h('strong', {}, option.name), h('br'),
          quantity(option.expected, token), ' expected, at least ', quantity(option.least, token),
          option.costBps !== undefined ? h('span', { class: 'soft' }, `; costs ${bps(option.costBps < 0n ? 0n : option.costBps)}`) : h('span', { class: 'soft' }, '; cost unknown'),
          option.route.length ? h('span', { class: 'soft' }, h('br'), `Route: ${option.route.join('; ')}`) : null,
          option.leftovers.length ? h('span', { class: 'soft' }, h('br'), `Left over, returned to you: ${option.leftovers.join(', ')}`) : null,
        ),
      ),
    ),
    picked ? impactNote(picked) : null,
    troubles.map((text) => note('info', text)),
  )
}

export function impactNote(option: Option): VNode | null {
  if (blocked(option)) return note('error', `This would cost ${bps(option.costBps!)} of the value: the page does not send it. Take a smaller amount or go in kind.`)
  if (dear(option)) return note('warning', option.costBps === undefined ? 'A price is missing, so nobody can say what this costs.' : `This costs ${bps(option.costBps)} of the value. You will be asked to type your consent.`)
  return null
}

export const blocked = (option: Option): boolean => option.costBps !== undefined && option.costBps >= app.config.blockedImpactBps
export const dear = (option: Option): boolean => option.costBps === undefined || option.costBps >= app.config.highImpactBps
export const CONSENT = 'I accept the cost'

function ready(vault: Vault, given: ReturnType<typeof check> | undefined): string {
  if (!given?.source) return ''
  if (!options) return 'Getting quotes…'
  const option = chosen()
  if (!option) return 'No way in with this token now'
  if (blocked(option)) return 'This costs too much'
  if (option.expires !== undefined && vault.block.timestamp >= option.expires) return 'Getting a new quote…'
  return ''
}

function start(vault: Vault): void {
  const account = actor()
  if (!account) return
  const given = check(vault)
  if (!given.source) return review(inKind(vault, given.amount, given.slippage, account))
  const option = chosen()
  if (option) review(option.plan, dear(option) ? CONSENT : '')
}

