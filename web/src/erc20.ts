// Tokens as they are: any of these calls may fail, lie, or answer with kilobytes.

import {
  hexToString, keccak256, encodeAbiParameters, parseAbi, toHex, type Address, type Hex, type TypedDataDomain,
} from 'viem'
import { amount, short, tame } from './format'
import { attempt, type Node } from './node'

export const erc20Abi = parseAbi([
  'function name() view returns (string)',
  'function symbol() view returns (string)',
  'function decimals() view returns (uint8)',
  'function balanceOf(address account) view returns (uint256)',
  'function allowance(address owner, address spender) view returns (uint256)',
  'function approve(address spender, uint256 amount)',
  'function nonces(address owner) view returns (uint256)',
  'function DOMAIN_SEPARATOR() view returns (bytes32)',
  'function version() view returns (string)',
])

export interface Token {
  address: Address
  symbol: string // tamed; the address, shortened, where there is none
  name: string
  decimals: number
}

const GAS = 500_000n // a token that wants more for its name has none
const cache = new Map<Address, Promise<Token>>()

export function forgetTokens(): void {
  cache.clear()
}

export function token(node: Node, address: Address, decimals?: number): Promise<Token> {
  const kept = cache.get(address)
  if (kept) return kept
  const read = readToken(node, address, decimals)
  cache.set(address, read)
  read.catch(() => cache.delete(address))
  return read
}

async function readToken(node: Node, address: Address, decimals?: number): Promise<Token> {
  const [symbol, name, own] = await Promise.all([
    text(node, address, '0x95d89b41'),
    text(node, address, '0x06fdde03'),
    decimals ?? attempt(node.readContract({ address, abi: erc20Abi, functionName: 'decimals' })),
  ])
  if (own === undefined) throw new Error(`${address} does not say its decimals`) // 0 would be a guess, a million times wrong
  return { address, symbol: tame(symbol, 14) || short(address), name: tame(name, 40), decimals: Number(own) }
}

/** A string, or 32 bytes padded with zeros as old tokens answer. */
async function text(node: Node, to: Address, data: Hex): Promise<string> {
  const answer = await attempt(node.call({ to, data, gas: GAS }))
  const bytes = answer?.data?.slice(2) ?? ''
  if (bytes.length === 64) return decode(bytes)
  if (bytes.length < 128) return ''
  const length = Math.min(Number(BigInt(`0x${bytes.slice(64, 128)}`)), 256)
  return decode(bytes.slice(128, 128 + 2 * length))
}

function decode(hex: string): string {
  try {
    return hexToString(`0x${hex}`).replaceAll('\0', '')
  } catch {
    return ''
  }
}

export const units = (value: bigint, of: Token): string => `${amount(value, of.decimals)} ${of.symbol}`

/** What to sign for the token's ERC-2612 permit, or undefined where it has none that this page understands. */
export async function permitDomain(node: Node, of: Address, chainId: number, owner: Address): Promise<TypedDataDomain | undefined> {
  const read = (functionName: 'name' | 'version' | 'DOMAIN_SEPARATOR') =>
    attempt(node.readContract({ address: of, abi: erc20Abi, functionName }))
  const [separator, name, version, nonce] = await Promise.all([
    read('DOMAIN_SEPARATOR'), read('name'), read('version'),
    attempt(node.readContract({ address: of, abi: erc20Abi, functionName: 'nonces', args: [owner] })),
  ])
  if (!separator || name === undefined || nonce === undefined) return undefined
  // the name and version are right when they make the token's own separator
  for (const guess of [version ?? '1', '1', '2']) {
    if (separatorOf(name, guess, chainId, of) === separator) {
      return { name, version: guess, chainId, verifyingContract: of }
    }
  }
  return undefined
}

const DOMAIN_TYPE = keccak256(
  toHex('EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)'),
)

function separatorOf(name: string, version: string, chainId: number, contract: Address): Hex {
  return keccak256(
    encodeAbiParameters(
      [{ type: 'bytes32' }, { type: 'bytes32' }, { type: 'bytes32' }, { type: 'uint256' }, { type: 'address' }],
      [DOMAIN_TYPE, keccak256(toHex(name)), keccak256(toHex(version)), BigInt(chainId), contract],
    ),
  )
}
