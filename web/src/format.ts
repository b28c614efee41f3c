// Numbers, dates and names as people read them. Amounts stay integers; nothing is rounded up.

import { getAddress, isAddress, type Address } from 'viem'

export const WAD = 10n ** 18n
export const BPS = 10n ** 14n // one basis point as a WAD
export const DAY = 86_400

/** An amount in whole units, cut (not rounded) after `digits` decimals. */
export function amount(value: bigint, decimals: number, digits = 6): string {
  const scale = 10n ** BigInt(decimals)
  const whole = group(value / scale)
  const fraction = (value % scale).toString().padStart(decimals, '0').slice(0, digits).replace(/0+$/, '')
  if (value > 0n && whole === '0' && fraction === '') return `<0.${'0'.repeat(Math.min(digits, decimals) - 1)}1`
  return fraction ? `${whole}.${fraction}` : whole
}

/** All of its digits. */
export function exact(value: bigint, decimals: number): string {
  const text = value.toString().padStart(decimals + 1, '0')
  const fraction = decimals > 0 ? text.slice(-decimals).replace(/0+$/, '') : ''
  const whole = decimals > 0 ? text.slice(0, -decimals) : text
  return fraction ? `${whole}.${fraction}` : whole
}

export function usd(wad: bigint): string {
  if (wad > 0n && wad < WAD / 100n) return '<$0.01'
  const cents = wad / 10n ** 16n
  return `$${group(cents / 100n)}.${(cents % 100n).toString().padStart(2, '0')}`
}

/** A WAD as a percentage with two decimals. */
export function percent(wad: bigint): string {
  const hundredths = (wad < 0n ? -wad : wad) / BPS
  const sign = wad < 0n && hundredths > 0n ? '−' : ''
  return `${sign}${hundredths / 100n}.${(hundredths % 100n).toString().padStart(2, '0')}\u00a0%`
}

export function bps(value: bigint): string {
  return percent(value * BPS).replace(/\.?0+\u00a0%$/, '\u00a0%')
}

export function time(seconds: bigint | number): string {
  const date = new Date(Number(seconds) * 1000)
  return Number.isNaN(date.getTime()) ? 'never' : `${date.toISOString().slice(0, 16).replace('T', ' ')} UTC`
}

export function duration(seconds: bigint | number): string {
  const total = Number(seconds)
  for (const [unit, size] of [['day', DAY], ['hour', 3600], ['minute', 60]] as const) {
    if (total >= size && total % size === 0) return `${total / size} ${unit}${total === size ? '' : 's'}`
  }
  if (total >= 2 * DAY) return `${Math.round(total / DAY)} days`
  if (total >= 2 * 3600) return `${Math.round(total / 3600)} hours`
  return total >= 120 ? `${Math.round(total / 60)} minutes` : `${total} seconds`
}

function group(value: bigint): string {
  return value.toString().replace(/\B(?=(\d{3})+$)/g, ',')
}

export class InputError extends Error {}

/** What somebody typed, in token units. Throws InputError with a sentence. */
export function parseAmount(text: string, decimals: number): bigint {
  const given = text.trim()
  if (given === '') throw new InputError('Enter an amount.')
  if (/,/.test(given)) throw new InputError('Write the amount without commas, with a point for decimals, like 1234.5.')
  const match = /^(\d{0,60})(?:\.(\d*))?$/.exec(given)
  if (!match || (match[1] === '' && !match[2])) throw new InputError('That is not an amount. Write digits, like 1234.5.')
  const fraction = (match[2] ?? '').replace(/0+$/, '')
  if (fraction.length > decimals) throw new InputError(`At most ${decimals} decimals exist here.`)
  const value = BigInt((match[1] || '0') + fraction.padEnd(decimals, '0'))
  if (value === 0n) throw new InputError('Enter an amount above 0.')
  if (value >= 2n ** 128n) throw new InputError('That is more than can exist.')
  return value
}

/** An address with a right checksum (or in one case). Throws InputError with a sentence. */
export function parseAddress(text: string): Address {
  const given = text.trim()
  if (!/^0x[0-9a-fA-F]{40}$/.test(given)) throw new InputError('An address is 0x and 40 hexadecimal digits.')
  const plain = given === given.toLowerCase() || given.slice(2) === given.slice(2).toUpperCase()
  if (!plain && !isAddress(given)) throw new InputError('The checksum of this address is wrong: a digit was mistyped.')
  return getAddress(given.toLowerCase())
}

export function short(hex: string): string {
  return hex.length > 14 ? `${hex.slice(0, 6)}…${hex.slice(-4)}` : hex
}

/** A name that somebody else chose: one line, no control or direction marks, not longer than `length`. */
export function tame(text: string, length = 32): string {
  const line = text
    .slice(0, 4 * length + 64)
    .normalize('NFC')
    .replace(/[\p{Cc}\p{Cf}\p{Co}\p{Cs}\p{Zl}\p{Zp}]/gu, '')
    .replace(/(\p{M}{2})\p{M}+/gu, '$1')
    .replace(/\s+/gu, ' ')
    .trim()
  const letters = [...line]
  return letters.length > length ? `${letters.slice(0, length - 1).join('')}…` : line
}

export const same = (a: string, b: string): boolean => a.toLowerCase() === b.toLowerCase()
export const least = (a: bigint, b: bigint): bigint => (a < b ? a : b)
export const most = (a: bigint, b: bigint): bigint => (a > b ? a : b)
export const ceilDiv = (a: bigint, b: bigint): bigint => (a + b - 1n) / b
