// Ways out. In kind is always there; a broken token can be left behind.

import { decodeEventLog, type Abi, type Address, type TransactionReceipt } from 'viem'
import { tellerAbi, vaultAbi, zapAbi } from './abi'
import { actor, app, changed } from './app'
import { CONSENT, blocked, costOf, dear, optionList, pricedAt, quote, slippageBps, type Option, type Quote } from './deposit'
import { h, type VNode } from './dom'
import { units, type Token } from './erc20'
import { explain } from './errors'
import { InputError, bps, exact, parseAmount, percent, same, time, usd } from './format'
import { attempt } from './node'
import { simulate, type Call, type Plan } from './plan'
import { review } from './run'
import { nextStep, safeField } from './step'
import { choice, field, note, quantity, stranger } from './ui'
import { redeemAmounts, valueOf, worth, type Teller, type Vault } from './vault'

const MARGIN = 1200n
const TOO_LITTLE = 'that is too little to be paid anything'
const form = { into: 'basket', text: '', slippage: '0.5', skip: 0n, touched: false, chosen: '' }
let broken: { key: string; found: boolean[] | undefined } = { key: '', found: undefined }
let options: Option[] | undefined
let optionsFor = ''
let problems: string[] = []
let timer: ReturnType<typeof setTimeout> | undefined

const less = (value: bigint, by: bigint): bigint => (value * (10_000n - by)) / 10_000n
const bit = (skip: bigint, i: number): boolean => ((skip >> BigInt(i)) & 1n) === 1n

function check(vault: Vault): { shares: bigint; slippage: bigint } {
  const slippage = slippageBps(form.slippage)
  const shares = parseAmount(form.text, 18)
  if (shares > vault.supply) throw new InputError('The vault does not have that many shares.')
  return { shares, slippage }
}

// In kind

function redeemCall(vault: Vault, shares: bigint, minima: bigint[], skip: bigint, account: Address): Call {
  return {
    to: vault.address, abi: vaultAbi as Abi, functionName: 'redeem_in_kind', args: [shares, account, account, minima, skip],
    says: `Redeem ${units(shares, vault.share)} in kind`,
  }
}

function inKind(vault: Vault, shares: bigint, slippage: bigint, account: Address): Plan {
  const amounts = redeemAmounts(vault, shares, form.skip)
  const forfeited = redeemAmounts(vault, shares, 0n)
  const minima = amounts.map((amount) => less(amount, slippage))
  const left = vault.assets.filter((_, i) => bit(form.skip, i))
  return {
    title: 'Redeem in kind',
    facts: [
      ['You give exactly', units(shares, vault.share)],
      ...vault.assets.map((asset, i): [string, string] =>
        bit(form.skip, i)
          ? [`${asset.symbol}: left behind, you forfeit`, units(forfeited[i]!, asset)]
          : [`You receive at least, of ${asset.symbol}`, `${units(minima[i]!, asset)} (now ${units(amounts[i]!, asset)})`],
      ),
      ['Fee', 'none'],
    ],
    warnings: left.length ? [`You leave ${left.map((asset) => asset.symbol).join(', ')} to the other holders. You cannot claim it later.`] : [],
    needs: [],
    call: redeemCall(vault, shares, minima, form.skip, account),
    deadline: vault.block.timestamp + MARGIN,
    vault: vault.address,
    done: (receipt) => paidInKind(vault, receipt, amounts),
  }
}

function paidInKind(vault: Vault, receipt: TransactionReceipt, expected: bigint[]): string {
  let amounts: readonly bigint[] = expected
  for (const log of receipt.logs) {
    if (!same(log.address, vault.address)) continue
    try {
      const event = decodeEventLog({ abi: vaultAbi, data: log.data, topics: log.topics })
      if (event.eventName === 'RedeemedInKind') amounts = event.args.amounts
    } catch {
      // a transfer
    }
  }
  return `You received ${vault.assets.map((asset, i) => units(amounts[i] ?? 0n, asset)).filter((_, i) => !bit(form.skip, i)).join(', ')}.`
}

/** Which tokens refuse to move: each is tried alone, without sending anything. */
async function probe(vault: Vault, shares: bigint, account: Address): Promise<void> {
  const key = [vault.address, shares, account, vault.block.number / 5n, vault.assets.map((asset) => asset.unreadable)].join()
  if (broken.key === key) return
  broken = { key, found: broken.key ? broken.found : undefined }
  const all = (1n << BigInt(vault.assets.length)) - 1n
  const zeros = vault.assets.map(() => 0n)
  const works = async (skip: bigint): Promise<boolean> =>
    (await attempt(simulate(app.node, account, redeemCall(vault, shares, zeros, skip, account)).then(() => true))) ?? false
  if (!(await works(all))) return // not even without tokens: it is about the shares, not about a token
  const found = (await works(0n)) ? vault.assets.map(() => false) : await Promise.all(vault.assets.map(async (_, i) => !(await works(all & ~(1n << BigInt(i))))))
  if (broken.key !== key) return
  broken.found = found
  changed()
}

// Into one token

function targets(vault: Vault): Token[] {
  const tokens: Token[] = [...vault.assets]
  if (app.hub && !tokens.some((token) => same(token.address, app.hub!.address))) tokens.unshift(app.hub)
  return tokens
}

function look(vault: Vault, account: Address | undefined, given: ReturnType<typeof check> | undefined, into: Token | undefined): void {
  if (!given || !into) {
    options = undefined
    optionsFor = ''
    return
  }
  const who = account ?? '0x000000000000000000000000000000000000dEaD'
  const key = [vault.address, into.address, given.shares, given.slippage, form.skip, who, (app.tellers ?? []).length].join()
  const old = options?.some((option) => option.expires !== undefined && vault.block.timestamp >= option.expires)
  if (key === optionsFor && !old) return
  if (key !== optionsFor) options = undefined
  optionsFor = key
  clearTimeout(timer)
  timer = setTimeout(() => void find(vault, into, given.shares, given.slippage, who), 300)
}

async function find(vault: Vault, into: Token, shares: bigint, slippage: bigint, account: Address): Promise<void> {
  const mine = optionsFor
  const found: Option[] = []
  problems = []
  const tellers = (app.tellers ?? []).filter((teller) => same(teller.asset.address, into.address))
  await Promise.all([
    ...tellers.map(async (teller) => {
      try {
        const expected = await app.node.readContract({ address: teller.address, abi: tellerAbi, functionName: 'previewRedeem', args: [shares] })
        found.push(throughTeller(vault, teller, into, shares, expected, slippage, account))
      } catch (error) {
        problems.push(`Through the teller: ${error instanceof InputError ? error.message : explain(error).text}`)
      }
    }),
    (async () => {
      if (!app.config.quotes || !app.config.zap) return void problems.push('By zap: this server makes no quotes.')
      try {
        const answer = await quote(vault, 'zap-out', { token: into.address, shares_units: shares, skip: form.skip, slippage_bps: slippage })
        found.push(await zapOut(vault, app.config.zap, into, shares, answer, slippage, account))
      } catch (error) {
        problems.push(`By zap: ${error instanceof InputError ? error.message : explain(error).text}`)
      }
    })(),
  ])
  if (mine !== optionsFor) return
  options = found.sort((a, b) => (a.expected > b.expected ? -1 : 1))
  changed()
}

function throughTeller(vault: Vault, teller: Teller, into: Token, shares: bigint, expected: bigint, slippage: bigint, account: Address): Option {
  const minimum = less(expected, slippage)
  if (minimum === 0n) throw new InputError(TOO_LITTLE)
  const cost = costOf(worth(vault, shares), valueOf(teller.asset, expected))
  const facts: [string, string][] = [
    ['You give exactly', units(shares, vault.share)],
    ['You receive, expected', units(expected, into)],
    ['You receive at least', units(minimum, into)],
    ['Fee', `${bps(teller.floorBps)}, and ${bps(teller.surchargeBps)} on what moves the basket away from its targets: about ${percent(cost ?? 0n)} together`],
  ]
  return {
    id: teller.address, name: 'Through the teller, at the oracle’s prices', expected, least: minimum, facts, warnings: [],
    costBps: cost === undefined ? undefined : cost / 10n ** 14n, route: [`the vault pays ${into.symbol}`], leftovers: [], expires: undefined,
    plan: {
      title: 'Redeem through the teller', facts, warnings: [], needs: [],
      call: {
        to: teller.address, abi: tellerAbi as Abi, functionName: 'redeem', args: [shares, account, account, minimum],
        says: `Redeem ${units(shares, vault.share)} through the teller`,
      },
      deadline: vault.block.timestamp + MARGIN,
      vault: vault.address,
      done: () => `You received at least ${units(minimum, into)}.`,
    },
  }
}

async function zapOut(vault: Vault, zap: Address, into: Token, shares: bigint, q: Quote, slippage: bigint, account: Address): Promise<Option> {
  const minimum = less(q.expected, slippage)
  if (minimum === 0n) throw new InputError(TOO_LITTLE)
  const value = await pricedAt(vault, into, q.expected)
  const paid = vault.assets.reduce((sum, asset, i) => sum + valueOf(asset, redeemAmounts(vault, shares, form.skip)[i]!), 0n)
  const own = value !== undefined && vault.priced ? costOf(paid, value) : undefined
  const cost = own === undefined ? undefined : own / 10n ** 14n
  const deadline = vault.block.timestamp + MARGIN
  const facts: [string, string][] = [
    ['You give exactly', units(shares, vault.share)],
    ['You receive, expected', units(q.expected, into)],
    ['You receive at least', units(minimum, into)],
    ['Cost of the route', cost === undefined ? 'unknown: a price is missing' : `${bps(cost < 0n ? 0n : cost)} in all, pools’ fees and price impact`],
    ['Left over', q.leftovers.length ? `${q.leftovers.join(', ')}; returned to your account` : 'at most dust; returned to your account'],
    ['Quote good until', time(q.expires)],
  ]
  const args = [vault.address, shares, form.skip, into.address, q.payload, q.via, minimum, account, deadline]
  const says = `Redeem ${units(shares, vault.share)} into ${into.symbol} by zap`
  return {
    id: 'zap', name: 'By zap, through pools', expected: q.expected, least: minimum, facts, warnings: [], costBps: cost,
    route: q.route, leftovers: q.leftovers, expires: q.expires,
    plan: {
      title: 'Redeem by zap', facts, warnings: [],
      needs: [{ token: vault.share, spender: zap, spenderName: 'the zap', amount: shares }],
      call: { to: zap, abi: zapAbi as Abi, functionName: 'zap_out', args, says },
      withPermit: (p) => ({ to: zap, abi: zapAbi as Abi, functionName: 'zap_out_with_permit', args: [...args.slice(0, 8), p.deadline, p.v, p.r, p.s], says }),
      deadline,
      expires: q.expires,
      vault: vault.address,
      done: (receipt) => `You received ${units(zapped(receipt, zap) ?? minimum, into)}.`,
    },
  }
}

function zapped(receipt: TransactionReceipt, zap: Address): bigint | undefined {
  for (const log of receipt.logs) {
    if (!same(log.address, zap)) continue
    try {
      const event = decodeEventLog({ abi: zapAbi, data: log.data, topics: log.topics })
      if (event.eventName === 'ZappedOut') return event.args.amount
    } catch {
      // not one of its own
    }
  }
  return undefined
}

// The form

export function redeemView(vault: Vault): VNode {
  const account = actor()
  let mistake = ''
  let given: ReturnType<typeof check> | undefined
  try {
    given = check(vault)
  } catch (error) {
    mistake = error instanceof InputError ? error.message : String(error)
  }
  const into = targets(vault).find((token) => same(token.address, form.into))
  look(vault, account, given, into)
  if (given && account && app.mine && app.mine.shares >= given.shares) void probe(vault, given.shares, account)
  const picked = options?.find((option) => option.id === form.chosen) ?? options?.[0]
  const edited = (): void => {
    form.touched = true
    changed()
  }
  return h(
    'section', { 'aria-labelledby': 'redeem-title' },
    h('h2', { id: 'redeem-title' }, 'Redeem'),
    choice({
      id: 'into', label: 'What do you want for your shares?', value: form.into,
      options: [['basket', 'The basket’s tokens (in kind): always possible'], ...targets(vault).map((token): [string, string] => [token.address, `${token.symbol} only`])],
      onchange: (value) => {
        form.into = value
        form.chosen = ''
        edited()
      },
      hint: into ? 'If this does not work now, in kind does: nothing can pause it.' : 'Your part of every token, without price or fee. Nothing can pause, delay or block it.',
    }),
    h(
      'div', { class: 'row' },
      field({
        id: 'shares', label: 'Shares', value: form.text, inputmode: 'decimal',
        mistake: form.touched && mistake && !/Between 0.01/.test(mistake) ? mistake : '',
        hint: app.mine
          ? h('span', {}, 'You have ', quantity(app.mine.shares, vault.share), '. ', h('button', {
              type: 'button', class: 'small',
              onclick: () => {
                form.text = exact(app.mine?.shares ?? 0n, 18)
                edited()
              },
            }, 'Max'))
          : null,
        oninput: (text) => {
          form.text = text
          edited()
        },
      }),
      field({
        id: 'slippage', label: 'Tolerance, %', value: form.slippage, inputmode: 'decimal', mistake: /Between 0.01/.test(mistake) ? mistake : '',
        oninput: (text) => {
          form.slippage = text
          edited()
        },
      }),
    ),
    tokens(vault, given?.shares, into !== undefined),
    safeField(),
    into && given ? (options ? optionList('Ways out, the one that pays most first', options, picked, into, (id) => (form.chosen = id), problems) : h('p', { class: 'working' }, 'Comparing the ways out…')) : null,
    h('div', { class: 'buttons' }, nextStep({
      mistake, focus: 'shares',
      shortfall: () => (given && app.mine && app.mine.shares < given.shares ? 'Not enough shares' : ''),
      ready: () => {
        if (!into) return ''
        if (!options) return 'Getting quotes…'
        if (!picked) return 'No way into this token now'
        if (blocked(picked)) return 'This costs too much'
        return picked.expires !== undefined && vault.block.timestamp >= picked.expires ? 'Getting a new quote…' : ''
      },
      review: () => {
        if (!account || !given) return
        if (!into) review(inKind(vault, given.shares, given.slippage, account))
        else if (picked) review(picked.plan, dear(picked) ? CONSENT : '')
      },
    })),
  )
}

function tokens(vault: Vault, shares: bigint | undefined, swapped: boolean): VNode {
  const all = shares === undefined ? undefined : redeemAmounts(vault, shares, 0n)
  const stuck = vault.assets.filter((asset, i) => (asset.unreadable || broken.found?.[i]) && !bit(form.skip, i))
  return h(
    'fieldset', { class: 'tokens' },
    h('legend', {}, swapped ? 'What the vault pays first' : 'What you receive'),
    vault.assets.map((asset, i) => {
      const left = bit(form.skip, i)
      return h(
        'div', { class: 'token', key: asset.address },
        h('span', { class: left ? 'left' : '' }, all ? quantity(all[i]!, asset) : stranger(asset.symbol), all && asset.status === 0 ? h('span', { class: 'soft' }, ` ${usd(valueOf(asset, all[i]!))}`) : null),
        h(
          'label', { class: 'check' },
          h('input', {
            type: 'checkbox', checked: left,
            onchange: () => {
              form.skip ^= 1n << BigInt(i)
              form.touched = true
              changed()
            },
          }),
          h('span', {}, 'Leave ', stranger(asset.symbol), ' behind'),
        ),
        left ? note('warning', 'You forfeit ', all ? quantity(all[i]!, asset) : 'your part', asset.status === 0 && all ? `, worth ${usd(valueOf(asset, all[i]!))},` : '', ' to the other holders. You cannot claim it later.') : null,
      )
    }),
    stuck.length
      ? note('error', 'These tokens do not move now: ', stuck.map((asset, i) => [i ? ', ' : '', stranger(asset.symbol)]), '. Wait until they do, or leave them behind and take the rest. ',
          h('button', {
            type: 'button',
            onclick: () => {
              vault.assets.forEach((asset, i) => {
                if (asset.unreadable || broken.found?.[i]) form.skip |= 1n << BigInt(i)
              })
              changed()
            },
          }, 'Leave them behind'))
      : null,
  )
}
