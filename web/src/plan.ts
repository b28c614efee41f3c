// What is about to be signed: approvals, perhaps a permit, and one call with a minimum. Everything is encoded here, by
// this page, and simulated before it is sent.

import {
  encodeFunctionData, hashTypedData, keccak256, maxUint256, parseSignature, type Abi, type Address, type Hex, type TransactionReceipt,
  type TypedDataDomain,
} from 'viem'
import { erc20Abi, permitDomain, type Token } from './erc20'
import { exact, same, short } from './format'
import { attempt, type Node } from './node'
import { ask, type RawCall, type Wallet } from './wallet'

export interface Call {
  to: Address
  abi: Abi
  functionName: string
  args: readonly unknown[]
  says: string // in words, for the review
}

export interface Need {
  token: Token
  spender: Address
  spenderName: string
  amount: bigint
}

export interface Permit {
  deadline: bigint
  v: number
  r: Hex
  s: Hex
}

export interface Plan {
  title: string // "Deposit in kind"
  facts: [string, string][] // what the review shows
  warnings: string[]
  needs: Need[]
  call: Call // with allowances in place
  withPermit?: (permit: Permit) => Call // where the contract takes one for the only need
  deadline: bigint // chain time, for permits and calls
  expires?: bigint // chain time after which a quote must not be sent
  vault: Address
  done: (receipt: TransactionReceipt) => string // what was confirmed, in words
}

export const MAX_PERMIT_SECONDS = 1200n

export const encode = (call: Call): Hex =>
  encodeFunctionData({ abi: call.abi, functionName: call.functionName, args: call.args } as never)

export const raw = (call: Call): RawCall => ({ to: call.to, data: encode(call) })

/** Exact approvals that are still missing; with a reset to 0 before it where the token wants one. */
export async function approvals(node: Node, account: Address, needs: Need[]): Promise<Call[]> {
  const calls: Call[] = []
  for (const need of needs) {
    if (need.amount === 0n) continue
    const allowed = (await attempt(
      node.readContract({ address: need.token.address, abi: erc20Abi, functionName: 'allowance', args: [account, need.spender] }),
    )) ?? 0n
    if (allowed >= need.amount) continue
    if (allowed > 0n && !(await accepts(node, account, need))) calls.push(approve(need, 0n))
    calls.push(approve(need, need.amount))
  }
  return calls
}

/** Whether the token takes a new allowance while an old one stands: USDT does not. */
async function accepts(node: Node, account: Address, need: Need): Promise<boolean> {
  const call = approve(need, need.amount)
  const answer = await attempt(node.call({ account, ...raw(call) }))
  // some answer false instead of reverting
  return answer !== undefined && !(answer.data && /^0x0{64}$/.test(answer.data))
}

function approve(need: Need, amount: bigint): Call {
  const says = amount === 0n
    ? `Reset the old approval of ${need.token.symbol} to 0: this token wants that first`
    : `Allow ${need.spenderName} to take exactly ${amount === maxUint256 ? 'Unlimited' : exact(amount, need.token.decimals)} ${need.token.symbol}`
  return { to: need.token.address, abi: erc20Abi as Abi, functionName: 'approve', args: [need.spender, amount], says }
}

/** The domain to sign a permit with, where that is possible: one need, a token with ERC-2612, an account that has a key. */
export async function permitFor(node: Node, plan: Plan, account: Address, chainId: number): Promise<TypedDataDomain | undefined> {
  const need = plan.needs[0]
  if (!plan.withPermit || plan.needs.length !== 1 || !need) return undefined
  return permitDomain(node, need.token.address, chainId, account)
}

export async function signPermit(node: Node, wallet: Wallet, plan: Plan, domain: TypedDataDomain): Promise<Permit> {
  const need = plan.needs[0] as Need
  const owner = wallet.account as Address
  const nonce = await node.readContract({ address: need.token.address, abi: erc20Abi, functionName: 'nonces', args: [owner] })
  const message = { owner, spender: need.spender, value: need.amount.toString(), nonce: nonce.toString(), deadline: plan.deadline.toString() }
  const types = { Permit: PERMIT }
  hashTypedData({ domain, types, primaryType: 'Permit', message: { ...message, value: need.amount, nonce, deadline: plan.deadline } })
  const data = JSON.stringify({
    domain,
    types: { EIP712Domain: DOMAIN, ...types },
    primaryType: 'Permit',
    message,
  })
  const { r, s, v, yParity } = parseSignature((await ask(wallet.provider, 'eth_signTypedData_v4', [owner, data])) as Hex)
  return { deadline: plan.deadline, v: v === undefined ? 27 + yParity : Number(v), r, s }
}

const PERMIT = [
  { name: 'owner', type: 'address' },
  { name: 'spender', type: 'address' },
  { name: 'value', type: 'uint256' },
  { name: 'nonce', type: 'uint256' },
  { name: 'deadline', type: 'uint256' },
]
const DOMAIN = [
  { name: 'name', type: 'string' },
  { name: 'version', type: 'string' },
  { name: 'chainId', type: 'uint256' },
  { name: 'verifyingContract', type: 'address' },
]

/** Run the call without sending it; throws the contract's refusal. */
export async function simulate(node: Node, account: Address, call: Call): Promise<void> {
  await node.simulateContract({ account, address: call.to, abi: call.abi, functionName: call.functionName, args: call.args } as never)
}

/** What a signer compares with what the wallet shows. */
export const fingerprint = (call: Call): string => keccak256(encode(call))

/** An account with code signs by other rules: no ERC-2612 permit, and others may have to sign too. */
export async function isContract(node: Node, account: Address): Promise<boolean> {
  const code = await attempt(node.getCode({ address: account }))
  // 0xef0100: a key's account that has delegated to code (EIP-7702) still signs by itself
  return code !== undefined && code !== '0x' && !code.startsWith('0xef0100')
}

/** The same calls for a Safe: a file for its Transaction Builder. */
export function safeFile(plan: Plan, calls: Call[], chainId: number, safe: Address, now: number): string {
  return JSON.stringify(
    {
      version: '1.0',
      chainId: String(chainId),
      createdAt: now,
      meta: {
        name: `Evenkeel: ${plan.title}`,
        description: calls.map((call, i) => `${i + 1}. ${call.says} (${short(call.to)}, keccak256 of the data ${fingerprint(call)})`).join('\n'),
        txBuilderVersion: '1.18.2',
        createdFromSafeAddress: safe,
        createdFromOwnerAddress: '',
      },
      transactions: calls.map((call) => ({
        to: call.to, value: '0', data: encode(call), contractMethod: null, contractInputsValues: null,
      })),
    },
    null,
    2,
  )
}

export const isMine = (a: Address | undefined, b: Address | undefined): boolean => Boolean(a && b && same(a, b))
