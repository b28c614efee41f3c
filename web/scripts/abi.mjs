// Writes src/abi.ts from the compiled contracts, so that every call is typed: node web/scripts/abi.mjs
import { readFileSync, writeFileSync } from 'node:fs'

const NAMES = ['Vault', 'VaultLens', 'Zap', 'Teller', 'VaultFactory', 'RuleBook', 'PriceOracle', 'Timelock']
const root = new URL('../../', import.meta.url)
const artifact = (name) => JSON.parse(readFileSync(new URL(`offchain/chain/artifacts/${name}.json`, root)))

const lines = ['// Written by web/scripts/abi.mjs from offchain/chain/artifacts: do not edit.', '']
for (const name of NAMES) {
  const abi = artifact(name).abi.filter((entry) => entry.type !== 'constructor')
  lines.push(`export const ${name[0].toLowerCase()}${name.slice(1)}Abi = ${JSON.stringify(abi)} as const`, '')
}
// The lens runs inside a call where none is deployed, too.
lines.push(`export const LENS_CODE = '${artifact('VaultLens').bytecode}'`, '')
writeFileSync(process.argv[2] ?? new URL('../src/abi.ts', import.meta.url), lines.join('\n'))
