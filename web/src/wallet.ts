// Wallets that announce themselves (EIP-6963), spoken to by EIP-1193; batches by EIP-5792 where this chain has them.

import { numberToHex, type Address, type EIP1193Provider, type Hex } from 'viem'
import { codeOf, declined } from './errors'
import { tame } from './format'

export interface Announced {
  id: string
  name: string
  icon: string // a data: address, or nothing
  provider: EIP1193Provider
}

export interface Wallet extends Announced {
  account: Address | undefined
  chainId: number | undefined
}

interface Announcement {
  info?: { uuid?: unknown; name?: unknown; icon?: unknown; rdns?: unknown }
  provider?: EIP1193Provider
}

/** Calls back for every wallet that announces itself, now or later. */
export function discover(found: (wallet: Announced) => void): void {
  const seen = new Set<EIP1193Provider>()
  window.addEventListener('eip6963:announceProvider', (event) => {
    const { info, provider } = (event as CustomEvent<Announcement>).detail ?? {}
    if (!provider || typeof provider.request !== 'function' || seen.has(provider)) return
    seen.add(provider)
    const icon = String(info?.icon ?? '')
    found({
      id: String(info?.rdns || info?.uuid || seen.size),
      name: tame(String(info?.name ?? ''), 30) || 'Wallet without a name',
      icon: /^data:image\/(svg\+xml|png|webp|jpeg|gif)[;,]/.test(icon) && icon.length < 200_000 ? icon : '',
      provider,
    })
  })
  window.dispatchEvent(new Event('eip6963:requestProvider'))
}

// eslint-disable-next-line @typescript-eslint/no-explicit-any -- wallets answer what they like
export const ask = (provider: EIP1193Provider, method: string, params: unknown[] = []): Promise<any> =>
  provider.request({ method, params } as never)

export async function connect(wallet: Announced, silently = false): Promise<Wallet | undefined> {
  const accounts = (await ask(wallet.provider, silently ? 'eth_accounts' : 'eth_requestAccounts')) as Address[]
  if (!accounts[0]) return undefined
  return { ...wallet, account: accounts[0], chainId: Number(await ask(wallet.provider, 'eth_chainId')) }
}

/** Ask the wallet to go to the chain; one that does not know it yet gets it described. */
export async function switchChain(wallet: Wallet, chainId: number, name: string, rpc: string): Promise<void> {
  const id = numberToHex(chainId)
  try {
    await ask(wallet.provider, 'wallet_switchEthereumChain', [{ chainId: id }])
  } catch (error) {
    if (codeOf(error) !== 4902 && !/4902|unrecogni[sz]ed chain/i.test(String((error as Error).message))) throw error
    await ask(wallet.provider, 'wallet_addEthereumChain', [
      { chainId: id, chainName: name, rpcUrls: [rpc], nativeCurrency: { name: 'Ether', symbol: 'ETH', decimals: 18 } },
    ])
  }
}

// Batches

export interface RawCall {
  to: Address
  data: Hex
}

/** Whether the wallet runs several calls as one for this account, on this chain: another chain's answer counts for nothing. */
export async function batches(wallet: Wallet, chainId: number): Promise<boolean> {
  const id = numberToHex(chainId)
  try {
    const answer = (await ask(wallet.provider, 'wallet_getCapabilities', [wallet.account, [id]])) as Record<string, unknown>
    const key = Object.keys(answer ?? {}).find((chain) => chain !== '0x0' && Number(chain) === chainId)
    const atomic = key ? (answer[key] as { atomic?: { status?: string } } | undefined)?.atomic : undefined
    return atomic?.status === 'supported' || atomic?.status === 'ready'
  } catch {
    return false
  }
}

export const CANNOT_BATCH = Symbol('cannot batch')

/** The batch's id; CANNOT_BATCH where the wallet does not, or its user will not have the account upgraded (5750). */
export async function sendBatch(wallet: Wallet, chainId: number, calls: RawCall[]): Promise<string | typeof CANNOT_BATCH> {
  try {
    const answer: unknown = await ask(wallet.provider, 'wallet_sendCalls', [
      {
        version: '2.0.0', chainId: numberToHex(chainId), from: wallet.account, atomicRequired: true,
        calls: calls.map((call) => ({ to: call.to, data: call.data, value: '0x0' })),
      },
    ])
    return typeof answer === 'string' ? answer : String((answer as { id?: unknown }).id)
  } catch (error) {
    // 5750: the account's upgrade was declined, which is no answer to the deposit itself
    if (codeOf(error) !== 5750 && declined(error)) throw error
    return CANNOT_BATCH
  }
}

export interface BatchStatus {
  status: number // 100 pending, 200 confirmed, 400 never sent, 500 reverted, 600 in part
  receipts?: { transactionHash: Hex }[]
}

export const batchStatus = (wallet: Wallet, id: string): Promise<BatchStatus> =>
  ask(wallet.provider, 'wallet_getCallsStatus', [id])
