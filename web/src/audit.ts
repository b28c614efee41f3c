// The audit head, recomputed here from the events that the node gives: a port of offchain/audit/chain.py.

import { encodeAbiParameters, keccak256, parseAbiItem, type Address, type Hex } from 'viem'
import { vaultAbi } from './abi'
import type { Config } from './config'
import { born, logs, type BlockRef, type Node } from './node'

const EVENTS = [
  parseAbiItem('event Created(uint256 chain_id, address vault, bytes32 codehash, bytes32 config_hash)'),
  parseAbiItem('event SessionOpened(bytes32 previous_head, uint256 kind, uint256 session, bool by_calendar, uint256 slot, uint256 time, uint256 supply, uint256 flow_sequence, uint256[] prices, uint256[] balances)'),
  parseAbiItem('event Rebalanced(address indexed keeper, bytes32 previous_head, uint256 kind, uint256 session, uint256 time, uint256 supply, uint256 flow_sequence, uint256[] prices, uint256[] balances_before, uint256[] balances_after, uint256[] sells, address executor, bytes32 payload_hash, bytes32 decision)'),
  parseAbiItem('event RuleChanged(bytes32 previous_head, uint256 kind, string name, uint256 time, bytes data)'),
] as const

export type Entry = Awaited<ReturnType<typeof entries>>[number]
export const KINDS = { SessionOpened: 1n, Rebalanced: 2n, RuleChanged: 3n } as const

export const entries = async (node: Node, config: Config, vault: Address, to: bigint) =>
  logs(node, vault, EVENTS, await born(node, vault, config.fromBlock, to), to)

/** keccak256 of what the entry says, encoded again here from its decoded fields. */
export function headAfter(entry: Entry): Hex {
  const item = EVENTS.find((event) => event.name === entry.eventName)!
  const inputs = item.inputs.filter((input) => !('indexed' in input && input.indexed))
  const values = inputs.map((input) => (entry.args as Record<string, unknown>)[input.name])
  return keccak256(encodeAbiParameters(inputs, values as never))
}

export interface Verdict {
  recomputed: Hex | undefined // undefined where the history breaks
  stored: Hex // what the vault keeps
  entries: number
  block: BlockRef
  broken?: { field: string; reason: string; block: bigint; transaction: string }
}

export async function verify(node: Node, config: Config, vault: Address, chainId: number, block: BlockRef): Promise<Verdict> {
  const at = { address: vault, abi: vaultAbi, blockNumber: block.number } as const
  const [history, stored, implementation] = await Promise.all([
    entries(node, config, vault, block.number),
    node.readContract({ ...at, functionName: 'head' }),
    node.readContract({ ...at, functionName: 'implementation' }),
  ])
  const code = await node.getCode({ address: implementation, blockNumber: block.number })
  const verdict = { stored, entries: history.length, block }
  const broken = breakIn(history, chainId, vault, keccak256(code ?? '0x'))
  if (broken) return { ...verdict, recomputed: undefined, broken }
  return { ...verdict, recomputed: headAfter(history[history.length - 1]!) }
}

/** The first entry that does not fit, or undefined. */
export function breakIn(history: Entry[], chainId: number, vault: Address, codehash: Hex): Verdict['broken'] {
  const at = (entry: Entry | undefined, field: string, reason: string) => ({
    field, reason, block: entry?.blockNumber ?? 0n, transaction: entry?.transactionHash ?? 'none',
  })
  const first = history[0]
  if (!first || first.eventName !== 'Created') return at(first, 'kind', 'the history does not start with the vault’s creation: events are missing')
  if (first.args.chain_id !== BigInt(chainId)) return at(first, 'chain_id', `created on chain ${first.args.chain_id}, this is ${chainId}`)
  if (first.args.vault.toLowerCase() !== vault.toLowerCase()) return at(first, 'vault', 'this is the record of another vault')
  if (first.args.codehash !== codehash) return at(first, 'codehash', 'created with other code than it runs now')
  for (let i = 1; i < history.length; i++) {
    const before = history[i - 1]!
    const entry = history[i]!
    if (entry.eventName === 'Created') return at(entry, 'kind', 'created a second time')
    const after = entry.blockNumber > before.blockNumber || (entry.blockNumber === before.blockNumber && entry.logIndex > before.logIndex)
    if (!after) return at(entry, 'position', 'not after the entry before it')
    if (entry.args.kind !== KINDS[entry.eventName]) return at(entry, 'kind', `${entry.args.kind} in a ${entry.eventName} event`)
    if (entry.args.previous_head !== headAfter(before)) {
      return at(entry, 'previous_head', `the entry in block ${before.blockNumber} was changed, or entries between are missing`)
    }
    if (before.eventName !== 'Created' && entry.args.time < before.args.time) return at(entry, 'time', 'before the last entry’s time')
  }
  return undefined
}
