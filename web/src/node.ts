// The node: reads at one block, events in ranges that it accepts. No multicall, no server of ours.

import {
  createPublicClient, custom, http, type Abi, type Address, type Block, type ContractFunctionArgs, type ContractFunctionName,
  type EIP1193Provider, type GetLogsReturnType, type AbiEvent, type PublicClient, type ReadContractReturnType,
} from 'viem'

import { least } from './format'

export type Node = PublicClient
export interface BlockRef {
  number: bigint
  hash: string
  timestamp: bigint // seconds, UTC
}

export function nodeAt(url: string): Node {
  return createPublicClient({ transport: http(url, { retryCount: 1, timeout: 20_000, batch: { batchSize: 40 } }), pollingInterval: 1_000, cacheTime: 0 })
}

/** The wallet's own node, where the server's does not answer. */
export function nodeOf(provider: EIP1193Provider): Node {
  return createPublicClient({ transport: custom(provider, { retryCount: 0 }), pollingInterval: 1_000, cacheTime: 0 })
}

export async function latest(node: Node): Promise<BlockRef> {
  const block: Block = await node.getBlock({ blockTag: 'latest' })
  if (block.number === null || block.hash === null) throw new Error('the node knows no block yet')
  return { number: block.number, hash: block.hash, timestamp: block.timestamp }
}

export function reader(node: Node, block: BlockRef) {
  return <
    const abi extends Abi,
    name extends ContractFunctionName<abi, 'view' | 'pure'>,
    const args extends ContractFunctionArgs<abi, 'view' | 'pure', name>,
  >(
    address: Address, abi: abi, functionName: name, args: args,
  ): Promise<ReadContractReturnType<abi, name, args>> =>
    node.readContract({ address, abi, functionName, args, blockNumber: block.number } as never)
}

/** All logs of `address` from `from` to `to`; halves the range where the node refuses. */
export async function logs<const events extends readonly AbiEvent[]>(
  node: Node, address: Address, events: events, from: bigint, to: bigint,
): Promise<GetLogsReturnType<undefined, events, true, bigint, bigint>> {
  const found: unknown[] = []
  let start = from
  let size = to - from + 1n
  let limit = size
  while (start <= to) {
    const end = start + size - 1n < to ? start + size - 1n : to
    try {
      found.push(...(await node.getLogs({ address, events, fromBlock: start, toBlock: end, strict: true })))
      start = end + 1n
      size = least(limit, size * 2n)
    } catch (error) {
      if (size <= 1n) throw error
      limit = size > 5_000n ? 5_000n : size
      size = size > 5_000n ? 5_000n : size / 2n
    }
  }
  return found as never
}

/** The value, or undefined where the call fails: a token may be broken. */
export async function attempt<T>(call: Promise<T>): Promise<T | undefined> {
  try {
    return await call
  } catch {
    return undefined
  }
}

const births = new Map<string, Promise<bigint>>()
export const forgetBirths = (): void => births.clear()

/** The block in which the contract appeared, so that its events need not be looked for before; `from` where the node keeps no old states. */
export function born(node: Node, address: Address, from: bigint, to: bigint): Promise<bigint> {
  const kept = births.get(address)
  if (kept) return kept
  const found = to - from < SHORT ? Promise.resolve(from) : halve(node, address, from, to)
  births.set(address, found)
  return found
}

const SHORT = 5_000n // blocks that one request for events covers anywhere

async function halve(node: Node, address: Address, from: bigint, to: bigint): Promise<bigint> {
  let [low, high] = [from, to]
  try {
    while (low < high) {
      const middle = (low + high) / 2n
      const code = await node.getCode({ address, blockNumber: middle })
      if (code && code !== '0x') high = middle
      else low = middle + 1n
    }
    return low
  } catch {
    return from
  }
}
