// A vault as of one block, and the arithmetic of docs/spec.md on it (units and rounding there).

import { decodeAbiParameters, parseAbiItem, type Address, type Hex } from 'viem'
import { LENS_CODE, tellerAbi, timelockAbi, vaultAbi, vaultFactoryAbi, vaultLensAbi } from './abi'
import type { Config } from './config'
import { token, type Token } from './erc20'
import { BPS, WAD, ceilDiv, least, most, same, tame } from './format'
import { attempt, born, logs, reader, type BlockRef, type Node } from './node'

export const NO_ASSET = 16
const MAX_BALANCE = 2n ** 128n - 1n
export const STATUS = [
  'usable', 'has no feed', 'feed does not answer', 'feed answers nonsense', 'feed round is incomplete',
  'price is stale: its feed has not answered in time', 'the rollup’s sequencer is down',
  'price differs from its second source', 'second source cannot be read',
] as const

export interface Asset extends Token {
  targetBps: bigint
  pointsBps: bigint
  relativeBps: bigint
  minBps: bigint
  maxBps: bigint
  errorBps: bigint
  balance: bigint
  unreadable: boolean // its token does not answer
  price: bigint // USD WAD a whole token
  status: number // of the price
  aside: boolean // in quarantine
  value: bigint // USD WAD
  weight: bigint // WAD
  target: bigint // WAD, as a quarantine leaves it
  band: bigint // WAD
  drift: bigint // WAD
}

export interface Rules {
  mode: bigint
  calendar_unit: bigint
  calendar_every: bigint
  calendar_anchor: bigint
  window_seconds: bigint
  cooldown_seconds: bigint
  max_slippage_bps: bigint
  loss_capacity_bps: bigint
  loss_refill_bps_per_year: bigint
  tolerance_bps: bigint
  speed_capacity_bps: bigint
  speed_refill_bps_per_day: bigint
}

export interface Teller {
  address: Address
  asset: Asset
  floorBps: bigint
  surchargeBps: bigint
  burnSeconds: bigint
  maxDeposit: bigint
}

export interface Roles {
  admin: Address
  pendingAdmin: Address
  delaySeconds: bigint
  guardians: Address[]
  strategists: Address[]
  keepers: Address[]
  complete: boolean // else accounts that got a role at creation may be missing
}

export interface Vault {
  address: Address
  share: Token
  listed: boolean // made by the factory, or named by the server
  block: BlockRef
  assets: Asset[]
  priced: boolean // every asset that counts has a usable price and answers
  nav: bigint // USD WAD, of what could be priced
  supply: bigint // pending fee included
  entrySupply: bigint // without fee shares that still melt: who enters pays as if they were gone
  pendingFeeShares: bigint
  feeBps: bigint
  feeRecipient: Address
  pausedUntil: bigint
  asideUntil: bigint
  rules: Rules
  session: { id: bigint; opened_at: bigint; closed_at: bigint; slot: bigint; by_calendar: boolean }
  lossUsed: bigint // WAD of NAV
  oracle: Address
  timelock: Address
  head: Hex
}

export const UNLISTED = 'This contract was not made by this site’s factory. It may look like a vault and still take what you approve. Use it only if you know who made it.'

export async function readVault(node: Node, config: Config, address: Address, block: BlockRef): Promise<Vault> {
  const read = reader(node, block)
  const lens = config.lens ? { address: config.lens } : { code: LENS_CODE as Hex }
  const named = config.vaults.some((item) => same(item, address))
  const [state, name, symbol, recipient, timelock, melting, made] = await Promise.all([
    node.readContract({ ...lens, abi: vaultLensAbi, functionName: 'state', args: [address], blockNumber: block.number } as never) as Promise<LensState>,
    read(address, vaultAbi, 'name', []),
    read(address, vaultAbi, 'symbol', []),
    read(address, vaultAbi, 'fee_recipient', []),
    read(address, vaultAbi, 'timelock', []),
    read(address, vaultAbi, 'melting', []),
    named || (config.factory ? attempt(read(config.factory, vaultFactoryAbi, 'is_vault', [address])) : false),
  ])
  const tokens = await Promise.all(state.basket.map((item) => token(node, item.token, Number(item.decimals))))
  const { assets, nav } = appraise(state, tokens)
  return {
    address,
    share: { address, symbol: tame(symbol, 14), name: tame(name, 40), decimals: 18 },
    listed: made ?? false,
    block,
    assets,
    priced: assets.every((asset) => asset.aside || (asset.status === 0 && !asset.unreadable)),
    nav,
    supply: state.supply,
    entrySupply: state.supply - melting[0],
    pendingFeeShares: state.pending_fee_shares,
    feeBps: state.fee_bps,
    feeRecipient: recipient,
    pausedUntil: state.paused_until,
    asideUntil: state.aside_until,
    rules: state.rules,
    session: state.session,
    lossUsed: state.loss_used,
    oracle: state.oracle,
    timelock,
    head: state.head,
  }
}

interface LensState {
  basket: readonly {
    token: Address; decimals: bigint; target_bps: bigint; band_points_bps: bigint; band_relative_bps: bigint
    min_target_bps: bigint; max_target_bps: bigint; price_error_bps: bigint
  }[]
  balances: readonly bigint[]
  prices: readonly bigint[]
  statuses: readonly bigint[]
  unreadable: bigint
  aside: bigint
  aside_until: bigint
  paused_until: bigint
  rules: Rules
  session: Vault['session']
  loss_used: bigint
  supply: bigint
  pending_fee_shares: bigint
  fee_bps: bigint
  oracle: Address
  head: Hex
}

function appraise(state: LensState, tokens: Token[]): { assets: Asset[]; nav: bigint } {
  const aside = Number(state.aside)
  const whole = aside < state.basket.length ? WAD - (state.basket[aside]?.target_bps ?? 0n) * BPS : WAD
  const values = state.basket.map((item, i) =>
    i === aside ? 0n : ((state.balances[i] ?? 0n) * (state.prices[i] ?? 0n)) / 10n ** item.decimals,
  )
  const nav = values.reduce((sum, value) => sum + value, 0n)
  const assets = state.basket.map((item, i): Asset => {
    const full = item.target_bps * BPS
    const target = i === aside ? 0n : whole === WAD ? full : whole > 0n ? (full * WAD) / whole : 0n
    const value = values[i] ?? 0n
    const weight = nav > 0n ? (value * WAD) / nav : 0n
    const band = most(25n * BPS, least(item.band_points_bps * BPS, (item.band_relative_bps * target) / 10_000n))
    return {
      ...(tokens[i] as Token),
      targetBps: item.target_bps,
      pointsBps: item.band_points_bps,
      relativeBps: item.band_relative_bps,
      minBps: item.min_target_bps,
      maxBps: item.max_target_bps,
      errorBps: item.price_error_bps,
      balance: state.balances[i] ?? 0n,
      unreadable: ((state.unreadable >> BigInt(i)) & 1n) === 1n,
      price: state.prices[i] ?? 0n,
      status: Number(state.statuses[i] ?? 0n),
      aside: i === aside,
      value,
      weight,
      target,
      band,
      drift: weight > target ? weight - target : target - weight,
    }
  })
  return { assets, nav }
}

/** What a mint in kind asks of each asset now: rounded up. */
export function mintAmounts(vault: Vault, shares: bigint): bigint[] {
  return vault.assets.map((asset) => ceilDiv(asset.balance * shares, vault.entrySupply))
}

/** What redeeming in kind pays of each asset now: rounded down. */
export function redeemAmounts(vault: Vault, shares: bigint, skip: bigint): bigint[] {
  return vault.assets.map((asset, i) =>
    (skip >> BigInt(i)) & 1n ? 0n : (least(asset.balance, MAX_BALANCE) * shares) / vault.supply,
  )
}

/** Shares worth so many USD, and back, at the oracle's prices; 0 where there is no price. */
export const sharesFor = (vault: Vault, wad: bigint): bigint => (vault.nav > 0n ? (wad * vault.supply) / vault.nav : 0n)
export const worth = (vault: Vault, shares: bigint): bigint => (shares * vault.nav) / most(vault.supply, 1n)
export const valueOf = (asset: Asset, units: bigint): bigint => (units * asset.price) / 10n ** BigInt(asset.decimals)
export const sharePrice = (vault: Vault): bigint => worth(vault, WAD)

/** The most shares that these balances can mint in kind. */
export function affordable(vault: Vault, balances: (bigint | undefined)[]): bigint {
  let shares: bigint | undefined
  vault.assets.forEach((asset, i) => {
    if (asset.balance === 0n) return
    const most_ = ((balances[i] ?? 0n) * vault.entrySupply) / asset.balance
    shares = shares === undefined ? most_ : least(shares, most_)
  })
  return shares ?? 0n
}

// Where the vaults are, and who may do what

const CREATED = vaultFactoryAbi.find((entry) => entry.type === 'event' && entry.name === 'VaultCreated')!
const TELLER_ADDED = timelockAbi.find((entry) => entry.type === 'event' && entry.name === 'TellerAdded')!
const RULE_CHANGED = parseAbiItem('event RuleChanged(bytes32 previous_head, uint256 kind, string name, uint256 time, bytes data)')

export async function listVaults(node: Node, config: Config, block: BlockRef): Promise<Address[]> {
  const found = [...config.vaults]
  if (config.factory) {
    const read = reader(node, block)
    const count = await read(config.factory, vaultFactoryAbi, 'vault_count', [])
    const newest = count > 100n ? count - 100n : 0n
    const indexes = Array.from({ length: Number(count - newest) }, (_, i) => newest + BigInt(i))
    found.push(...(await Promise.all(indexes.map((i) => read(config.factory!, vaultFactoryAbi, 'vaults', [i])))))
  }
  return [...new Set(found)]
}

export async function readRoles(node: Node, config: Config, vault: Vault): Promise<Roles> {
  const read = reader(node, vault.block)
  const birth = await born(node, vault.address, config.fromBlock, vault.block.number)
  const [terms, pending, changes, created] = await Promise.all([
    read(vault.timelock, timelockAbi, 'terms', [vault.address]),
    read(vault.timelock, timelockAbi, 'pending_admin', [vault.address]),
    logs(node, vault.address, [RULE_CHANGED], birth, vault.block.number),
    config.factory ? creation(node, config.factory, birth, vault) : undefined,
  ])
  const candidates = new Set<Address>()
  if (created) for (const account of [created.guardian, created.strategist, ...created.keepers]) candidates.add(account)
  for (const change of changes) {
    if (change.args.name === 'set_role') {
      candidates.add(decodeAbiParameters([{ type: 'address' }, { type: 'uint256' }], change.args.data)[0])
    }
  }
  const held = await Promise.all(
    [...candidates].map(async (account) => [account, await read(vault.address, vaultAbi, 'roles', [account])] as const),
  )
  const having = (role: bigint): Address[] => held.filter(([, roles]) => (roles & role) > 0n).map(([account]) => account)
  return {
    admin: terms.admin,
    pendingAdmin: pending,
    delaySeconds: terms.delay_seconds,
    keepers: having(1n),
    strategists: having(2n),
    guardians: having(4n),
    complete: created !== undefined,
  }
}

/** What the vault was created with: in the block in which its code appeared, or the first after it that is known. */
async function creation(node: Node, factory: Address, birth: bigint, vault: Vault) {
  for (let from = birth; from <= vault.block.number; from += PIECE) {
    const events = await logs(node, factory, [CREATED], from, least(from + PIECE - 1n, vault.block.number))
    const found = events.find((event) => same(event.args.vault, vault.address))
    if (found) return found.args.config
  }
  return undefined
}

const PIECE = 5_000n // blocks

export async function readTellers(node: Node, config: Config, vault: Vault): Promise<Teller[]> {
  const read = reader(node, vault.block)
  const birth = await born(node, vault.address, config.fromBlock, vault.block.number)
  const added = await logs(node, vault.timelock, [TELLER_ADDED], birth, vault.block.number)
  const mine = added.filter((event) => same(event.args.vault, vault.address))
  const found = await Promise.all(
    mine.map(async (event): Promise<Teller | undefined> => {
      const asset = vault.assets.find((item) => same(item.address, event.args.asset))
      const address = event.args.teller
      const fees = await attempt(read(address, tellerAbi, 'fees', []))
      const maxDeposit = await attempt(read(address, tellerAbi, 'maxDeposit', ['0x000000000000000000000000000000000000dEaD']))
      if (!asset || !fees) return undefined
      return { address, asset, floorBps: fees[0], surchargeBps: fees[1], burnSeconds: fees[2], maxDeposit: maxDeposit ?? 0n }
    }),
  )
  return found.filter((item) => item !== undefined)
}
