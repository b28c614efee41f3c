// For the person who creates a vault: every choice explained, checked by the contracts themselves before anything is
// signed, and kept in this browser until it is done.

import { decodeEventLog, keccak256, toHex, type Abi, type Address } from 'viem'
import { priceOracleAbi, ruleBookAbi, vaultFactoryAbi } from './abi'
import { actor, announce, app, changed } from './app'
import { h, type VNode } from './dom'
import { erc20Abi, token, units, type Token } from './erc20'
import { explain } from './errors'
import { InputError, parseAddress, same, usd } from './format'
import { attempt, latest } from './node'
import { review } from './run'
import { nextStep } from './step'
import { choice, facts, field, note, quantity, stranger } from './ui'
import { STATUS } from './vault'

interface AssetDraft {
  token: string
  target: string // %
  points: string // %, band
  relative: string // %, band, of the target
  min: string // %
  max: string // %
  error: string // %
}

const FRESH: AssetDraft = { token: '', target: '', points: '5', relative: '25', min: '0', max: '100', error: '0.5' }
const EMPTY = {
  name: '', symbol: '', assets: [{ ...FRESH }, { ...FRESH }] as AssetDraft[],
  mode: '2', unit: '1', every: '3', anchor: '', window: '24', cooldown: '24',
  slippage: '1.5', capacity: '1', refill: '4', tolerance: '0.2', speed: '20', speedRefill: '1',
  oracle: '', owner: '', delay: '2', guardian: '', strategist: '', keepers: '', fee: '0', feeRecipient: '', seed: '100', salt: '',
}
type Draft = typeof EMPTY
type Text = Exclude<keyof Draft, 'assets'>

let draft: Draft = load()
let created: Address | undefined
let csvMistake = ''

function load(): Draft {
  const fresh = (): Draft => ({ ...structuredClone(EMPTY), salt: String(Date.now()), anchor: new Date().toISOString().slice(0, 10) })
  try {
    const kept = JSON.parse(localStorage.getItem('draft') ?? '') as Partial<Draft>
    const made = fresh()
    for (const name of Object.keys(made) as (keyof Draft)[]) {
      if (name !== 'assets' && typeof kept[name] === 'string') made[name] = kept[name] as string
    }
    if (Array.isArray(kept.assets)) {
      made.assets = kept.assets.slice(0, 16).map((asset) => {
        const one = { ...FRESH }
        for (const key of Object.keys(one) as (keyof AssetDraft)[]) if (typeof asset?.[key] === 'string') one[key] = asset[key]
        return one
      })
    }
    return made
  } catch {
    return fresh()
  }
}

function edited(): void {
  localStorage.setItem('draft', JSON.stringify(draft))
  check()
  changed()
}

// From texts to a Config

class Mistake extends InputError {
  constructor(readonly id: string, message: string) {
    super(message)
  }
}

/** A percentage with at most two decimals, in basis points. */
function toBps(id: string, text: string, what: string, most = 10_000n): bigint {
  const match = /^(\d{1,6})(?:\.(\d{1,2}))?$/.exec(text.trim())
  if (!match) throw new Mistake(id, `${what}: write a percentage with at most two decimals, like 2.5.`)
  const value = BigInt(match[1]!) * 100n + BigInt((match[2] ?? '').padEnd(2, '0'))
  if (value > most) throw new Mistake(id, `${what}: at most ${Number(most) / 100} %.`)
  return value
}

function whole(id: string, text: string, what: string, least: number, most: number): bigint {
  const value = Number(text.trim())
  if (!/^\d+$/.test(text.trim()) || value < least || value > most) throw new Mistake(id, `${what}: a whole number from ${least} to ${most}.`)
  return BigInt(value)
}

function account(id: string, text: string, what: string, fallback?: Address): Address {
  if (!text.trim()) {
    if (fallback) return fallback
    throw new Mistake(id, `${what}: write an address.`)
  }
  try {
    return parseAddress(text)
  } catch (error) {
    throw new Mistake(id, `${what}: ${(error as Error).message}`)
  }
}

const ZERO = '0x0000000000000000000000000000000000000000' as Address

function build(creator: Address) {
  if (!draft.name.trim() || new TextEncoder().encode(draft.name).length > 64) throw new Mistake('name', 'Name: 1 to 64 bytes.')
  if (!draft.symbol.trim() || new TextEncoder().encode(draft.symbol).length > 16) throw new Mistake('symbol', 'Symbol: 1 to 16 bytes.')
  if (draft.assets.length < 2) throw new Mistake('add', 'A vault needs at least two assets.')
  const assets = draft.assets.map((asset, i) => {
    const n = `Asset ${i + 1}`
    return {
      token: account(`token${i}`, asset.token, `${n}, token`),
      decimals: 0n,
      target_bps: toBps(`target${i}`, asset.target, `${n}, target`),
      band_points_bps: toBps(`points${i}`, asset.points, `${n}, band in points`),
      band_relative_bps: toBps(`relative${i}`, asset.relative, `${n}, band relative to the target`),
      min_target_bps: toBps(`min${i}`, asset.min, `${n}, least target`),
      max_target_bps: toBps(`max${i}`, asset.max, `${n}, greatest target`),
      price_error_bps: toBps(`error${i}`, asset.error, `${n}, feed error`, 255n),
    }
  })
  const sum = assets.reduce((total, asset) => total + asset.target_bps, 0n)
  if (sum !== 10_000n) throw new Mistake('target0', `The targets add up to ${Number(sum) / 100} %, not 100 %.`)
  const anchor = Date.parse(`${draft.anchor}T00:00:00Z`) / 1000
  if (!Number.isInteger(anchor) || anchor <= 0) throw new Mistake('anchor', 'First day: a date like 2026-01-01.')
  const admin = account('owner', draft.owner, 'Admin', creator)
  const keepers = draft.keepers.split(/[\s,]+/).filter(Boolean).map((text) => account('keepers', text, 'Keepers'))
  if (keepers.length > 4) throw new Mistake('keepers', 'Keepers: at most 4.')
  return {
    name: draft.name.trim(),
    symbol: draft.symbol.trim(),
    assets,
    rules: {
      mode: BigInt(draft.mode),
      calendar_unit: BigInt(draft.unit),
      calendar_every: whole('every', draft.every, 'Every', 1, 10_000),
      calendar_anchor: BigInt(anchor),
      window_seconds: whole('window', draft.window, 'Session', 1, 2_000) * 3600n,
      cooldown_seconds: whole('cooldown', draft.cooldown, 'Cooldown', 0, 2_000) * 3600n,
      max_slippage_bps: toBps('slippage', draft.slippage, 'Maximum slippage'),
      loss_capacity_bps: toBps('capacity', draft.capacity, 'Loss budget'),
      loss_refill_bps_per_year: toBps('refill', draft.refill, 'Its refill', 60_000n),
      tolerance_bps: toBps('tolerance', draft.tolerance, 'Tolerance'),
      speed_capacity_bps: toBps('speed', draft.speed, 'Speed limit', 60_000n),
      speed_refill_bps_per_day: toBps('speedRefill', draft.speedRefill, 'Its refill', 60_000n),
    },
    oracle: account('oracle', draft.oracle, 'Oracle', app.config.oracle ?? knownOracle()),
    owner: admin,
    delay_seconds: whole('delay', draft.delay, 'Delay', 2, 30) * 86_400n,
    guardian: account('guardian', draft.guardian, 'Guardian', ZERO),
    strategist: account('strategist', draft.strategist, 'Strategist', ZERO),
    keepers,
    fee_bps: toBps('fee', draft.fee, 'Fee', 300n),
    fee_recipient: account('feeRecipient', draft.feeRecipient, 'Fee recipient', admin),
  }
}

const knownOracle = (): Address | undefined => app.vaults?.map((vault) => ('oracle' in vault ? vault.oracle : undefined)).find(Boolean) ?? app.vault?.oracle

// Checked on the chain

interface Checked {
  key: string
  tokens: (Token | undefined)[]
  prices: readonly bigint[]
  statuses: readonly bigint[]
  seeds: bigint[]
  balances: (bigint | undefined)[]
  refusal: string
}

/** What is known of one asset as soon as its address is there, whatever else is missing. */
interface Feed {
  token: Token
  price: bigint
  status: bigint
}

const feeds = new Map<string, Feed | 'reading' | 'no token'>()

function feedOf(text: string): Feed | 'reading' | 'no token' | undefined {
  let address: Address
  let oracle: Address | undefined
  try {
    address = parseAddress(text)
    oracle = draft.oracle.trim() ? parseAddress(draft.oracle) : app.config.oracle ?? knownOracle()
  } catch {
    return undefined
  }
  if (!oracle) return undefined
  const key = address + oracle
  if (!feeds.has(key)) {
    feeds.set(key, 'reading')
    void readFeed(address, oracle).then((found) => {
      feeds.set(key, found)
      changed()
    })
  }
  return feeds.get(key)
}

async function readFeed(address: Address, oracle: Address): Promise<Feed | 'no token'> {
  const code = await attempt(app.node.getCode({ address }))
  if (!code) return 'no token'
  const [found, priced] = await Promise.all([
    attempt(token(app.node, address)),
    attempt(app.node.readContract({ address: oracle, abi: priceOracleAbi, functionName: 'prices', args: [[address]] })),
  ])
  return found ? { token: found, price: priced?.[0][0] ?? 0n, status: priced?.[1][0] ?? 2n } : 'no token'
}

let checked: Checked | undefined
let timer: ReturnType<typeof setTimeout> | undefined
let wanted = ''

function check(): void {
  const creator = actor() ?? ZERO
  let config: ReturnType<typeof build>
  try {
    config = build(creator)
  } catch {
    wanted = ''
    return
  }
  const key = JSON.stringify([config, draft.seed, creator], (_, value: unknown) => (typeof value === 'bigint' ? value.toString() : value))
  if (key === wanted) return
  wanted = key
  clearTimeout(timer)
  timer = setTimeout(() => void checkOnChain(config, key, creator).catch((error: unknown) => {
    if (key === wanted) checked = { key, tokens: [], prices: [], statuses: [], seeds: [], balances: [], refusal: explain(error).text }
    changed()
  }), 400)
}

async function checkOnChain(config: ReturnType<typeof build>, key: string, creator: Address): Promise<void> {
  const { node } = app
  const factory = app.config.factory
  if (!factory) return
  const addresses = config.assets.map((asset) => asset.token)
  const [tokens, priced, ruleBook] = await Promise.all([
    Promise.all(addresses.map((address) => attempt(token(node, address)))),
    node.readContract({ address: config.oracle, abi: priceOracleAbi, functionName: 'prices', args: [addresses] }),
    node.readContract({ address: factory, abi: vaultFactoryAbi, functionName: 'rule_book' }),
  ])
  let refusal = ''
  try {
    // the contract's own checks, asked before anything is approved
    const words = await Promise.all(config.assets.map((asset) => node.readContract({ address: ruleBook, abi: ruleBookAbi, functionName: 'pack_asset', args: [asset] })))
    await node.readContract({ address: ruleBook, abi: ruleBookAbi, functionName: 'pack_rules', args: [config.rules, words] })
  } catch (error) {
    refusal = explain(error).text
  }
  const [prices, statuses] = priced
  const seedUsd = /^\d{1,9}(\.\d{1,2})?$/.test(draft.seed.trim()) ? BigInt(Math.round(Number(draft.seed) * 100)) * 10n ** 16n : 0n
  const seeds = config.assets.map((asset, i) => {
    const price = prices[i] ?? 0n
    return price > 0n ? (seedUsd * asset.target_bps * 10n ** BigInt(tokens[i]?.decimals ?? 18)) / (10_000n * price) + 1n : 0n
  })
  const balances = await Promise.all(addresses.map((address) => attempt(node.readContract({ address, abi: erc20Abi, functionName: 'balanceOf', args: [creator] }))))
  if (key !== wanted) return
  if (!refusal && seedUsd < 2n * 10n ** 18n) refusal = 'The first deposit must be worth at least 2 USD; one share of it is locked for ever.'
  checked = { key, tokens, prices, statuses, seeds, balances, refusal }
  changed()
}

async function create(): Promise<void> {
  const creator = actor()
  const { factory } = app.config
  const found = checked
  if (!creator || !factory || !found) return
  const config = build(creator)
  const block = await latest(app.node)
  review({
    title: 'Create the vault',
    facts: [
      ['Name', `${config.name} (${config.symbol})`],
      ['Targets', config.assets.map((asset, i) => `${found.tokens[i]?.symbol ?? ''} ${Number(asset.target_bps) / 100} %`).join(', ')],
      ['First deposit', config.assets.map((_, i) => units(found.seeds[i]!, found.tokens[i]!)).join(', ')],
      ['You receive', 'one share for each USD of it, less one share that is locked for ever'],
      ['Admin', config.owner],
    ],
    warnings: [
      ...(same(config.guardian, ZERO) ? ['No guardian: nobody can pause, and nobody can veto what the admin announces.'] : []),
      ...(config.keepers.length === 0 ? ['No keeper: nobody trades until one is named, which takes the delay.'] : []),
    ],
    needs: config.assets.map((_, i) => ({ token: found.tokens[i]!, spender: factory, spenderName: 'the factory', amount: found.seeds[i]! })),
    call: {
      to: factory, abi: vaultFactoryAbi as Abi, functionName: 'create_vault',
      args: [config, found.seeds, keccak256(toHex(draft.salt))], says: `Create ${config.symbol} and make the first deposit`,
    },
    deadline: block.timestamp + 3600n,
    vault: factory,
    done: (receipt) => {
      for (const log of receipt.logs) {
        if (!same(log.address, factory)) continue
        const event = decodeEventLog({ abi: vaultFactoryAbi, data: log.data, topics: log.topics })
        if (event.eventName === 'VaultCreated') created = event.args.vault
      }
      localStorage.removeItem('draft')
      draft = load()
      checked = undefined
      wanted = ''
      return `The vault is at ${created ?? 'an address that the transaction names'}.`
    },
  })
}

// CSV: token,target %[,points %,relative %,least %,greatest %,feed error %]

export function parseCsv(text: string): AssetDraft[] {
  const rows = text.split(/\r?\n/).map((row) => row.trim()).filter(Boolean)
  const found: AssetDraft[] = []
  rows.forEach((row, i) => {
    const cells = row.split(/[,;\t]/).map((cell) => cell.trim().replace(/^"|"$/g, ''))
    if (i === 0 && !/^0x/i.test(cells[0] ?? '')) return // a heading
    let address: string
    try {
      address = parseAddress(cells[0] ?? '')
    } catch (error) {
      throw new InputError(`Line ${i + 1}: ${(error as Error).message}`)
    }
    const numbers = cells.slice(1, 7).map((cell) => cell.replace(/\s*%$/, ''))
    if (!numbers[0] || numbers.some((cell) => cell !== '' && !/^\d+(\.\d{1,2})?$/.test(cell))) {
      throw new InputError(`Line ${i + 1}: after the address comes the target in percent, like 25 or 12.5.`)
    }
    found.push({
      token: address, target: numbers[0], points: numbers[1] || FRESH.points, relative: numbers[2] || FRESH.relative,
      min: numbers[3] || FRESH.min, max: numbers[4] || FRESH.max, error: numbers[5] || FRESH.error,
    })
  })
  if (found.length < 2 || found.length > 16) throw new InputError(`The file has ${found.length} assets; a vault has 2 to 16.`)
  return found
}

// The form

export function createView(): VNode {
  if (app.chainId) check()
  let mistake: Mistake | undefined
  try {
    build(actor() ?? ZERO)
  } catch (error) {
    mistake = error instanceof Mistake ? error : new Mistake('name', String(error))
  }
  const ready = checked?.key === wanted ? checked : undefined
  return h(
    'div', { key: 'create', class: 'create' },
    h('h1', { tabindex: '-1' }, 'Create a vault'),
    h('p', {}, 'What you write stays in this browser, also when you load the page again, until the vault is created. Nobody can change the vault’s code afterwards; the rules change only after the delay.'),
    app.config?.factory === undefined && app.chainId ? note('warning', 'This server names no factory, so nothing can be created here.') : null,
    created ? note('good', 'Created: ', h('a', { href: `#/vault/${created}` }, created)) : null,
    h('section', { 'aria-labelledby': 'c-name' }, h('h2', { id: 'c-name' }, 'Name'),
      h('div', { class: 'row' }, text('name', 'Name', 'At most 64 bytes.'), text('symbol', 'Symbol', 'At most 16 bytes.'))),
    h('section', { 'aria-labelledby': 'c-basket' }, h('h2', { id: 'c-basket' }, 'Basket'),
      h('p', {}, 'Two to sixteen tokens, each with a target weight; together 100 %. A band says how far a weight may wander before trading starts: the smaller of some points and some part of the target. 5 and 25 is common: a target of 40 % may wander by 5 points, one of 8 % by 2.'),
      csv(), draft.assets.map(assetForm),
      h('div', { class: 'buttons' }, h('button', { type: 'button', id: 'add', 'aria-disabled': draft.assets.length >= 16 ? 'true' : null, onclick: () => { if (draft.assets.length < 16) { draft.assets.push({ ...FRESH }); edited() } } }, 'Add an asset')),
      text('oracle', 'Price oracle', knownOracle() ? `Empty: the one that the other vaults here use, ${knownOracle()}.` : 'The contract that prices the assets.')),
    h('section', { 'aria-labelledby': 'c-when' }, h('h2', { id: 'c-when' }, 'When it trades'),
      choice({ id: 'mode', label: 'Trigger', value: draft.mode, options: [['0', 'Calendar only'], ['1', 'Bands only'], ['2', 'Calendar or bands'], ['3', 'Calendar, if a band is left']], onchange: (value) => { draft.mode = value; edited() }, hint: 'Bands trade when it matters; a calendar trades even when little has moved; the last one trades least.' }),
      h('div', { class: 'row' }, text('every', 'Calendar, every'), choice({ id: 'unit', label: 'Unit', value: draft.unit, options: [['0', 'days'], ['1', 'months']], onchange: (value) => { draft.unit = value; edited() } }), text('anchor', 'Counted from', 'A day in UTC, like 2026-01-01.')),
      h('div', { class: 'row' }, text('window', 'Session, hours', 'How long a keeper may trade once triggered.'), text('cooldown', 'Cooldown, hours', 'The least time to the next session.')),
      text('tolerance', 'Tolerance, %', 'How near to its target a weight must come, and how far past it a trade may go.')),
    h('section', { 'aria-labelledby': 'c-limits' }, h('h2', { id: 'c-limits' }, 'What trading may cost'),
      text('slippage', 'Maximum slippage, %', 'Of what a trade sells. At least the two largest feed errors and 0.1 %, or no honest trade passes.'),
      h('div', { class: 'row' }, text('capacity', 'Loss budget, %', 'The most that all trades together, honest or stolen, may cost the vault at once.'), text('refill', 'Refill, % a year', 'What a bad keeper could take in a year that nobody notices is both together.')),
      h('div', { class: 'row' }, text('speed', 'Speed limit, %', 'How far the strategist may move the targets at once, all moves added up.'), text('speedRefill', 'Refill, % a day'))),
    h('section', { 'aria-labelledby': 'c-who' }, h('h2', { id: 'c-who' }, 'Who'),
      text('owner', 'Admin', 'Announces changes. Empty: your account. A multisig is better.'),
      text('delay', 'Delay, days', '2 to 30: how long holders can leave before a change takes effect.'),
      text('guardian', 'Guardian', 'Pauses and vetoes. Empty: nobody. Somebody else than the admin.'),
      text('strategist', 'Strategist', 'Moves targets within the limits. Empty: only the admin does.'),
      text('keepers', 'Keepers', 'Up to 4 accounts that may propose trades, with spaces between. A stolen one costs at most the loss budget.'),
      h('div', { class: 'row' }, text('fee', 'Management fee, % a year', 'At most 3. It can be lowered at once, raised only after the delay.'), text('feeRecipient', 'Fee recipient', 'Empty: the admin.'))),
    h('section', { 'aria-labelledby': 'c-seed' }, h('h2', { id: 'c-seed' }, 'First deposit, and check'),
      text('seed', 'Worth, in USD', 'Some of every asset at the target weights. One share of it is locked for ever, so that the supply never returns to zero.'),
      verdict(ready, mistake),
      h('div', { class: 'buttons' }, nextStep({
        mistake: mistake?.message ?? '', focus: mistake?.id ?? 'name',
        shortfall: () => lacking(ready),
        ready: () => (!app.config.factory ? 'No factory here' : !ready ? 'Checking…' : ready.refusal || ready.statuses.some((status) => status !== 0n) ? 'Not possible as it is' : ''),
        review: () => void create(),
      }))),
  )
}

function lacking(ready: Checked | undefined): string {
  if (!ready || ready.statuses.some((status) => status !== 0n)) return ''
  const short = ready.tokens.filter((_, i) => (ready.balances[i] ?? 0n) < (ready.seeds[i] ?? 0n)).map((item) => item?.symbol ?? 'a token')
  return short.length ? `Not enough ${[...new Set(short)].join(', ')}` : ''
}

function verdict(ready: Checked | undefined, mistake: Mistake | undefined): VNode {
  if (mistake) return h('div', { id: 'create-check' }, note('info', 'to do: ', mistake.message))
  if (!ready) return h('div', { id: 'create-check' }, h('p', { class: 'working' }, 'Asking the contracts…'))
  const bad = ready.statuses.map((status, i) => (status === 0n ? '' : `${ready.tokens[i]?.symbol ?? `asset ${i + 1}`} ${STATUS[Number(status)] ?? 'has no usable price'}`)).filter(Boolean)
  return h(
    'div', { id: 'create-check' },
    ready.refusal ? note('error', ready.refusal) : null,
    bad.length ? note('error', `The oracle cannot price every asset: ${bad.join('; ')}.`) : null,
    !ready.refusal && !bad.length
      ? h('div', {}, note('good', 'The rule book accepts these rules, and the oracle prices every asset.'),
          facts(ready.tokens.map((item, i) => [stranger(item?.symbol ?? ''), item ? quantity(ready.seeds[i] ?? 0n, item) : ''])))
      : null,
  )
}

function text(id: Text, label: string, hint = ''): VNode {
  return field({ id, label, value: draft[id], hint, oninput: (value) => { draft[id] = value; edited() } })
}

function assetForm(asset: AssetDraft, i: number): VNode {
  const input = (key: keyof AssetDraft, label: string, hint = ''): VNode =>
    field({ id: `${key}${i}`, label, value: asset[key], hint, inputmode: key === 'token' ? 'text' : 'decimal', oninput: (value) => { asset[key] = value; edited() } })
  const feed = app.chainId ? feedOf(asset.token) : undefined
  const item = typeof feed === 'object' ? feed : undefined
  return h(
    'fieldset', { class: 'asset-form', key: `asset${i}of${draft.assets.length}` },
    h('legend', {}, `Asset ${i + 1}`, item ? [': ', stranger(item.token.symbol)] : ''),
    h('div', { class: 'row' }, input('token', 'Token address'), input('target', 'Target, %')),
    feed === 'no token' ? note('error', 'There is no token at this address on this chain.') : null,
    item ? h('p', { class: 'soft' }, stranger(item.token.name), `, ${item.token.decimals} decimals, `, item.status === 0n ? `priced at ${usd(item.price)}` : h('strong', {}, STATUS[Number(item.status)] ?? 'no usable price')) : null,
    h('details', {}, h('summary', {}, 'Band, limits, feed error'),
      h('div', { class: 'row' }, input('points', 'Band, points'), input('relative', 'Band, % of the target')),
      h('div', { class: 'row' }, input('min', 'Least target, %', 'For the strategist and the admin.'), input('max', 'Greatest target, %')),
      input('error', 'Feed error, %', 'The price feed’s deviation threshold, at most 2.55: by how much it may be off without saying so.')),
    draft.assets.length > 2 ? h('button', { type: 'button', class: 'small', onclick: () => { draft.assets.splice(i, 1); announce(`Asset ${i + 1} removed.`); edited(); document.getElementById('add')?.focus() } }, `Remove asset ${i + 1}`) : null,
  )
}

function csv(): VNode {
  return h(
    'details', {},
    h('summary', {}, 'Load the weights from a CSV file'),
    h('p', { class: 'hint', id: 'csv-hint' }, 'One asset a line: token address, target in percent; then, if you like, band in points, band in percent of the target, least and greatest target, feed error. It replaces the basket below.'),
    h('div', { class: 'field' },
      h('label', { for: 'csv' }, 'CSV file'),
      h('input', {
        id: 'csv', type: 'file', accept: '.csv,text/csv,text/plain', 'aria-describedby': 'csv-hint',
        onchange: (event: Event) => void readCsv((event.target as HTMLInputElement).files?.[0]),
      }),
      csvMistake ? h('p', { class: 'mistake', role: 'alert' }, csvMistake) : null),
  )
}

async function readCsv(file: File | undefined): Promise<void> {
  if (!file) return
  try {
    if (file.size > 65_536) throw new InputError('The file is larger than 64 KB.')
    draft.assets = parseCsv(await file.text())
    csvMistake = ''
    announce(`${draft.assets.length} assets were loaded.`)
    edited()
  } catch (error) {
    csvMistake = error instanceof InputError ? error.message : 'The file cannot be read.'
    changed()
  }
}
