// Failures as sentences: what happened, whether anything was taken, what to do.

import { BaseError, ContractFunctionRevertedError, UserRejectedRequestError } from 'viem'
import { tame } from './format'

export type Failure = { kind: 'declined' | 'refused' | 'trouble'; text: string; reason?: string }

const SENTENCES: Record<string, string> = {
  'amount above maximum': 'The vault’s holdings moved meanwhile, so this deposit would have cost more than the most that you agreed to. Review it again.',
  'amount below minimum': 'The vault’s holdings moved meanwhile, so you would have received less than the least that you agreed to. Review it again.',
  'transfer failed': 'One of the tokens refused to move. When you redeem, you can leave that token behind.',
  'received less than asked': 'One of the tokens arrived incomplete: it takes a fee on transfers, and the vault does not accept that.',
  'insufficient balance': 'There is not enough of one of the tokens in your account.',
  'insufficient allowance': 'The vault is not allowed to take enough of one of the tokens. Approve it again.',
  'balance too low': 'Your account does not hold that many shares.',
  'allowance too low': 'The approval of your shares is too small. Approve it again.',
  'zero shares': 'The amount is too small: it comes to no shares.',
  'wrong length': 'The basket has changed meanwhile: an asset joined or left. Load the page again.',
  'receiver not allowed': 'The receiver cannot be the vault or one of its helpers.',
  'owner not allowed': 'These shares cannot be redeemed by this account.',
  'supply above cap': 'The vault cannot issue that many shares.',
  'not initialized': 'This vault has not been set up.',
  'permit expired': 'The signature is too old. Review again and sign anew.',
  'invalid signature': 'The signature does not fit: another one was used since. Review again and sign anew.',
  'permit failed': 'The token did not accept the signature, and no approval is there either. Use an approval instead.',
  paused: 'The guardian has paused trades and priced flows. Deposits and redemptions in kind go on.',
  quarantined: 'One asset is in quarantine, so priced flows have stopped. Deposits and redemptions in kind go on.',
  'flow limit exceeded': 'The teller’s limit for now is used up. Take a smaller amount, wait, or go in kind.',
  'price not usable': 'The oracle has no usable price for one of the assets. Deposits and redemptions in kind need no price and go on.',
  'no value': 'The vault holds nothing that has a price.',
  'too few shares': 'Prices moved: you would have received fewer shares than the least that you agreed to. Review it again.',
  'too many shares': 'Prices moved: this would have cost more shares than the most that you agreed to. Review it again.',
  'too few assets': 'Prices moved: you would have received less than the least that you agreed to. Review it again.',
  'too many assets': 'Prices moved: this would have cost more than the most that you agreed to. Review it again.',
  'too little paid': 'Pools moved: you would have received less than the least that you agreed to. Ask for a new quote.',
  'leg paid too little': 'A pool on the route moved and pays less than the quote allows. Ask for a new quote.',
  'deadline passed': 'It took too long, and the call has expired. Review it again.',
  'shares changed': 'A token tried to change the vault while it was being moved.',
  locked: 'The contract was in the middle of another call. Try again.',
  'approve failed': 'A token refused the approval.',
  'targets do not sum to 100%': 'The target weights do not add up to 100 %.',
  'fewer than 2 assets': 'A vault needs at least two assets.',
  'asset twice': 'One asset is in the list twice.',
  'no token': 'An asset has no token address.',
  'target outside limits': 'A target is outside its own least and greatest weight.',
  'limit above 100%': 'A greatest weight is above 100 %.',
  'band above 100%': 'A band is above 100 %.',
  'price error too large': 'A feed error is above 2.55 %.',
  'too many decimals': 'A token has more than 24 decimals.',
  'slippage below price errors': 'The maximum slippage is too small: it must be at least the two largest feed errors and 0.1 % more, or no honest trade could pass.',
  'loss budget below one rebalance': 'The loss budget is too small for one full rebalance of twice the widest band. Raise the capacity, or narrow the bands.',
  'tolerance 0 with a calendar': 'With a calendar the tolerance must be above 0: no trade hits a target exactly.',
  'rule out of range': 'One of the rules is larger than the vault can store.',
  'calendar every 0': 'The calendar must come at least every 1 day or month.',
  'window 0': 'The trading window must be longer than 0.',
  'seed below 1 USD': 'The first deposit must be worth more than 1 USD.',
  'no seed of an asset': 'The first deposit must contain some of every asset.',
  'seed did not stay': 'A token took back its part of the first deposit, or two of the tokens are one.',
  'fee above cap': 'The fee is above the cap of 3 % a year.',
  'fee recipient not allowed': 'Name an account that receives the fee.',
  'delay out of range': 'The delay must be 2 to 30 days.',
  'no owner': 'Name an admin.',
}

export function explain(error: unknown): Failure {
  if (declined(error)) return { kind: 'declined', text: 'You declined in the wallet. Nothing was sent.' }
  const reason = revertReason(error)
  if (reason !== undefined) return { kind: 'refused', text: sentence(reason), reason }
  const raw = error instanceof BaseError ? error.shortMessage : error instanceof Error ? error.message : String(error)
  const code = codeOf(error)
  if (/insufficient funds/i.test(raw + detailsOf(error))) {
    return { kind: 'trouble', text: 'The account has too little of the chain’s coin to pay for gas.' }
  }
  if (code === -32002) return { kind: 'trouble', text: 'The wallet already shows a request. Open the wallet and answer it.' }
  if (/fetch|timed? ?out|HTTP request|network/i.test(raw)) {
    return { kind: 'trouble', text: 'The node does not answer. Nothing is lost: try again in a moment.' }
  }
  return { kind: 'trouble', text: `That did not work: ${tame(raw, 160) || 'no reason was given'}` }
}

export function sentence(reason: string): string {
  const known = SENTENCES[reason]
  if (known) return known
  const text = tame(reason, 120)
  if (text === '' || text === '0x') return 'A contract refused without a reason. One of the tokens may be broken.'
  return `A contract refused: “${text}”.`
}

export function declined(error: unknown): boolean {
  return codeOf(error) === 4001 || find(error, (e) => e instanceof UserRejectedRequestError) !== undefined
}

export function codeOf(error: unknown): number | undefined {
  const found = find(error, (e) => typeof (e as { code?: unknown }).code === 'number')
  return found && (found as { code: number }).code
}

export function revertReason(error: unknown): string | undefined {
  const revert = find(error, (e) => e instanceof ContractFunctionRevertedError) as ContractFunctionRevertedError | undefined
  if (revert) return revert.reason ?? revert.data?.errorName ?? ''
  const text = detailsOf(error)
  const match = /(?:execution reverted|revert(?:ed)?(?: with reason string)?):? ["']?([^"'\n]{1,120})/i.exec(text)
  if (match) return (match[1] ?? '').trim()
  return /revert/i.test(text) ? '' : undefined
}

function detailsOf(error: unknown): string {
  const parts: string[] = []
  find(error, (e) => {
    const item = e as { message?: unknown; details?: unknown }
    if (typeof item.details === 'string') parts.push(item.details)
    else if (typeof item.message === 'string') parts.push(item.message)
    return false
  })
  return parts.join('\n')
}

function find(error: unknown, wanted: (e: object) => boolean): object | undefined {
  let at: unknown = error
  for (let depth = 0; depth < 12 && at && typeof at === 'object'; depth++) {
    if (wanted(at)) return at
    at = (at as { cause?: unknown }).cause ?? (at as { data?: { originalError?: unknown } }).data?.originalError
  }
  return undefined
}
