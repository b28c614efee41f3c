// Where the page reads: `/v1/config` of the server that served it, or, where there is none, its address's parameters:
// ?rpc=PATH&factory=0x…&lens=0x…&zap=0x…&vault=0x…&from_block=N

import type { Address } from 'viem'
import { parseAddress } from './format'

export interface Config {
  rpc: string // address of the node, on this server: the policy of the page allows no other
  chainId: number | undefined // the node's own answer counts where this is absent
  chainName: string
  factory: Address | undefined
  lens: Address | undefined
  zap: Address | undefined
  oracle: Address | undefined
  vaults: Address[]
  fromBlock: bigint // before it there are no events of these contracts
  quotes: boolean // whether the server makes quotes for zaps
  hub: Address | undefined // the token that most people pay with
  highImpactBps: bigint // from here on consent is typed
  blockedImpactBps: bigint // from here on nothing is sent
}

const NAMES: Record<number, string> = {
  1: 'Ethereum', 10: 'OP Mainnet', 137: 'Polygon', 8453: 'Base', 42161: 'Arbitrum One', 100: 'Gnosis',
  11155111: 'Sepolia', 1337: 'local chain', 31337: 'local chain',
}

export function chainName(id: number): string {
  return NAMES[id] ?? `chain ${id}`
}

export async function loadConfig(): Promise<Config> {
  const given = Object.fromEntries(new URLSearchParams(location.search)) as Record<string, unknown>
  const found = await fetchConfig()
  // a link must not be able to send anybody's approval elsewhere: where the server says what is here, it alone does
  const all: Record<string, unknown> = found ?? given
  const chainId = Number(all.chain_id) || undefined
  const vaults = [all.vault, all.default_vault, ...(Array.isArray(all.vaults) ? all.vaults : [])]
    .map((item) => (item && typeof item === 'object' && 'address' in item ? item.address : item))
    .map(address)
    .filter((item) => item !== undefined)
  return {
    rpc: new URL(String(all.rpc ?? all.rpc_path ?? 'rpc'), new URL('.', location.href)).href,
    chainId,
    chainName: String(all.chain_name ?? '') || (chainId ? chainName(chainId) : ''),
    factory: address(all.factory),
    lens: address(all.lens),
    zap: address(all.zap),
    oracle: address(all.oracle),
    vaults: [...new Set(vaults)],
    fromBlock: BigInt(Number(all.from_block) || 0),
    quotes: found !== undefined,
    hub: address((found?.hub as { token?: unknown } | null | undefined)?.token),
    highImpactBps: limit(found, 'high', 100n),
    blockedImpactBps: limit(found, 'blocked', 500n),
  }
}

function limit(found: Record<string, unknown> | undefined, name: string, standard: bigint): bigint {
  const limits = found?.impact_limits_bps as Record<string, unknown> | undefined
  const value = Number(limits?.[name])
  return Number.isInteger(value) && value > 0 && value < 10_000 ? BigInt(value) : standard
}

async function fetchConfig(): Promise<Record<string, unknown> | undefined> {
  try {
    const answer = await fetch('v1/config', { credentials: 'omit' })
    if (!answer.ok) return undefined
    const body: unknown = await answer.json()
    return body && typeof body === 'object' ? (body as Record<string, unknown>) : undefined
  } catch {
    return undefined
  }
}

function address(value: unknown): Address | undefined {
  try {
    return typeof value === 'string' && value ? parseAddress(value) : undefined
  } catch {
    return undefined
  }
}
