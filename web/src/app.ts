// The state of the page, and what changes it from outside: the chain, the wallet, the address bar.

import type { Address } from 'viem'
import { chainName, loadConfig, type Config } from './config'
import type { Child } from './dom'
import { erc20Abi, forgetTokens, token, type Token } from './erc20'
import { explain } from './errors'
import { parseAddress, same } from './format'
import { forgetBirths, latest, nodeAt, nodeOf, attempt, type BlockRef, type Node } from './node'
import { readRoles, readTellers, readVault, listVaults, type Roles, type Teller, type Vault } from './vault'
import { ask, batches, connect, discover, type Announced, type Wallet } from './wallet'
import { isContract } from './plan'

export type Tab = 'overview' | 'deposit' | 'redeem' | 'history' | 'verify'
export interface Route {
  page: 'list' | 'vault' | 'create' | 'unknown'
  vault?: Address
  tab: Tab
  problem?: string
}

export interface Holdings {
  account: Address
  shares: bigint
  tokens: (bigint | undefined)[] // of the vault's assets
  hub: bigint | undefined
  coin: bigint
}

interface App {
  ready: boolean
  config: Config
  chainId: number
  node: Node
  block: BlockRef | undefined
  genesis: string
  trouble: string // the node's; empty while it answers
  notice: string
  wallets: Announced[]
  wallet: Wallet | undefined
  walletIsContract: boolean
  canBatch: boolean
  safe: Address | undefined // a Safe to make files for, instead of the wallet
  hub: Token | undefined
  route: Route
  vaults: (Vault | { address: Address; problem: string })[] | undefined
  vault: Vault | undefined
  vaultProblem: string
  roles: Roles | undefined
  tellers: Teller[] | undefined
  mine: Holdings | undefined
  dialog: (() => Child) | undefined
  restarts: number // how often the chain began anew
}

export const app: App = {
  ready: false, config: undefined as never, chainId: 0, node: undefined as never, block: undefined, genesis: '', trouble: '', notice: '',
  wallets: [], wallet: undefined, walletIsContract: false, canBatch: false, safe: undefined, hub: undefined,
  route: { page: 'list', tab: 'overview' }, vaults: undefined, vault: undefined, vaultProblem: '',
  roles: undefined, tellers: undefined, mine: undefined, dialog: undefined, restarts: 0,
}

// Drawing

let draw: () => void = () => undefined
let waiting = false
export const onDraw = (render: () => void): void => void (draw = render)

export function changed(): void {
  if (waiting) return
  waiting = true
  queueMicrotask(() => {
    waiting = false
    draw()
  })
}

/** Said by screen readers. */
export function announce(text: string): void {
  const live = document.getElementById('live')
  if (live) live.textContent = text
}

export function open(dialog: () => Child): void {
  app.dialog = dialog
  changed()
}

// Who acts

export const actor = (): Address | undefined => app.safe ?? app.wallet?.account
export const onChain = (): boolean => app.wallet?.chainId === app.chainId
export const chain = (): string => app.config.chainName || chainName(app.chainId)

// The address bar

const TABS: Tab[] = ['overview', 'deposit', 'redeem', 'history', 'verify']

export function parseRoute(hash: string): Route {
  const [page, first, second] = hash.replace(/^#?\/?/, '').split('/')
  if (!page) return { page: 'list', tab: 'overview' }
  if (page === 'create') return { page: 'create', tab: 'overview' }
  if (page !== 'vault' || !first) return { page: 'unknown', tab: 'overview', problem: 'There is no such page.' }
  try {
    return { page: 'vault', vault: parseAddress(decodeURIComponent(first)), tab: TABS.find((tab) => tab === second) ?? 'overview' }
  } catch (error) {
    return { page: 'unknown', tab: 'overview', problem: (error as Error).message }
  }
}

export const go = (hash: string): void => void (location.hash = hash)

function routed(): void {
  const before = app.route
  app.route = parseRoute(location.hash)
  if (app.route.vault !== before.vault) {
    app.vault = app.roles = app.tellers = app.mine = undefined
    app.vaultProblem = ''
  }
  changed()
  queueMicrotask(() => queueMicrotask(() => document.querySelector<HTMLElement>('h1')?.focus()))
  void refresh(true)
}

// The chain

let reading = 0
const DEEP = 8n // blocks; no public chain replaces more of what it showed

/** Read what the page shows, as of the newest block; with `always` also where the block is the same as before. */
export async function refresh(always = false): Promise<void> {
  const turn = ++reading
  const block = await newest()
  if (!block || turn !== reading) return
  const { config, node, route } = app
  try {
    if (route.page === 'vault' && route.vault && (always || app.vault?.block.hash !== block.hash)) {
      await readOne(turn, route.vault, block)
    } else if ((route.page === 'list' || route.page === 'create') && (always || app.vaults === undefined || blockOfList() !== block.hash)) {
      const addresses = await listVaults(node, config, block)
      const vaults = await Promise.all(
        addresses.map((address) =>
          readVault(node, config, address, block).catch((error: unknown) => ({ address, problem: unreadable(error) })),
        ),
      )
      if (turn === reading) app.vaults = vaults
    }
  } catch (error) {
    if (turn === reading) app.trouble = explain(error).text
  }
  changed()
}

const blockOfList = (): string | undefined => app.vaults?.map((vault) => ('block' in vault ? vault.block.hash : '')).find(Boolean)

function unreadable(error: unknown): string {
  const failure = explain(error)
  return failure.kind === 'trouble' && /node does not answer/.test(failure.text) ? failure.text : 'This is not a vault that can be read.'
}

async function readOne(turn: number, address: Address, block: BlockRef): Promise<void> {
  const { config, node } = app
  let vault: Vault
  try {
    vault = await readVault(node, config, address, block)
  } catch (error) {
    if (turn === reading) app.vaultProblem = unreadable(error)
    return
  }
  if (turn !== reading) return
  app.vault = vault
  app.vaultProblem = ''
  changed()
  await readMine(turn)
  const [roles, tellers] = await Promise.all([attempt(readRoles(node, config, vault)), attempt(readTellers(node, config, vault))])
  if (turn !== reading) return
  app.roles = roles ?? app.roles
  app.tellers = tellers ?? app.tellers
}

async function readMine(turn = reading): Promise<void> {
  const account = actor()
  const { vault, node, config } = app
  if (!account || !vault) {
    app.mine = undefined
    return
  }
  const balance = (of: Address) =>
    attempt(node.readContract({ address: of, abi: erc20Abi, functionName: 'balanceOf', args: [account], blockNumber: vault.block.number }))
  const [shares, coin, hub, tokens] = await Promise.all([
    balance(vault.address),
    attempt(node.getBalance({ address: account, blockNumber: vault.block.number })),
    config.hub ? balance(config.hub) : undefined,
    Promise.all(vault.assets.map((asset) => balance(asset.address))),
  ])
  if (turn !== reading || actor() !== account) return
  app.mine = { account, shares: shares ?? 0n, coin: coin ?? 0n, tokens, hub }
  changed()
}

async function newest(): Promise<BlockRef | undefined> {
  try {
    const block = await latest(app.node)
    if (app.block && block.number < app.block.number) await beganAnew(app.block.number - block.number)
    app.block = block
    app.trouble = ''
    return block
  } catch (error) {
    app.trouble = explain(error).text
    changed()
    return undefined
  }
}

/** The chain is shorter than before: a local chain was restarted, or blocks were replaced. */
async function beganAnew(blocks: bigint): Promise<void> {
  const genesis = (await attempt(app.node.getBlock({ blockNumber: 0n })))?.hash ?? ''
  forgetTokens()
  forgetBirths()
  if (genesis !== app.genesis || blocks > DEEP) {
    app.genesis = genesis
    app.restarts += 1
    app.vaults = app.vault = app.roles = app.tellers = app.mine = undefined
    app.config = await loadConfig()
    app.notice = 'The chain began anew: it was restarted or rolled back. Everything was read again; what was pending is gone.'
  } else app.notice = 'The chain replaced its newest blocks. Everything was read again.'
  announce(app.notice)
}

// The wallet

export async function use(wallet: Announced, silently = false): Promise<void> {
  const connected = await connect(wallet, silently)
  if (!connected) return
  app.wallet = connected
  app.safe = undefined
  localStorage.setItem('wallet', wallet.id)
  listen(connected)
  void walletChanged()
  announce(`Connected to ${wallet.name}.`)
}

export function disconnect(): void {
  app.wallet = app.mine = undefined
  app.canBatch = false
  localStorage.removeItem('wallet')
  announce('Disconnected.')
  changed()
}

async function walletChanged(): Promise<void> {
  const { wallet } = app
  changed()
  if (!wallet?.account) return
  if (app.trouble && onChain()) app.node = nodeOf(wallet.provider)
  const [contract, batch] = await Promise.all([isContract(app.node, wallet.account), onChain() ? batches(wallet, app.chainId) : false])
  if (app.wallet !== wallet) return
  app.walletIsContract = contract
  app.canBatch = batch
  await readMine()
  changed()
}

const heard = new WeakSet<object>()

function listen(wallet: Wallet): void {
  const { provider } = wallet
  if (heard.has(provider) || typeof provider.on !== 'function') return
  heard.add(provider)
  provider.on('accountsChanged', (accounts) => {
    if (app.wallet?.provider !== provider) return
    const account = accounts[0]
    if (!account) return disconnect()
    if (app.wallet.account && same(app.wallet.account, account)) return
    app.wallet = { ...app.wallet, account }
    app.mine = undefined
    app.dialog = undefined // what was to be signed was another account's
    announce('The account changed.')
    void walletChanged()
  })
  provider.on('chainChanged', (id) => {
    if (app.wallet?.provider !== provider) return
    app.wallet = { ...app.wallet, chainId: Number(id) }
    app.canBatch = false
    void walletChanged()
  })
}

export async function actFor(safe: Address | undefined): Promise<void> {
  app.safe = safe
  app.mine = undefined
  changed()
  await readMine()
}

// Start

export async function start(): Promise<void> {
  app.config = await loadConfig()
  app.node = nodeAt(app.config.rpc)
  window.addEventListener('hashchange', routed)
  app.route = parseRoute(location.hash)
  app.ready = true
  discover((wallet) => {
    app.wallets.push(wallet)
    changed()
    if (wallet.id === localStorage.getItem('wallet') && !app.wallet) void use(wallet, true).catch(() => undefined)
  })
  changed()
  await first()
  const tick = async (): Promise<void> => {
    if (!document.hidden) await (app.chainId === 0 ? first() : refresh())
    setTimeout(() => void tick(), 2_000)
  }
  setTimeout(() => void tick(), 2_000)
}

async function first(): Promise<void> {
  try {
    app.chainId = await app.node.getChainId()
    app.genesis = (await attempt(app.node.getBlock({ blockNumber: 0n })))?.hash ?? ''
    if (app.config.hub) app.hub = await attempt(token(app.node, app.config.hub))
    if (app.wallet) void walletChanged()
  } catch (error) {
    app.trouble = explain(error).text
    changed()
    return
  }
  await refresh(true)
}

export { ask }
