import { app, changed, go, onChain, onDraw, start, chain, type Tab } from './app'
import { createView } from './create'
import { depositView } from './deposit'
import { h, patch, type Child, type VNode } from './dom'
import { percent, time, usd } from './format'
import { historyView, verifyView } from './history'
import { alerts, asOf, headline, maxDrift, overview } from './overview'
import { redeemView } from './redeem'
import { accountBar, toChain } from './step'
import { address, note, stranger } from './ui'
import { sharePrice, type Vault } from './vault'

const TABS: [Tab, string][] = [['overview', 'Overview'], ['deposit', 'Deposit'], ['redeem', 'Redeem'], ['history', 'History'], ['verify', 'Verify']]

function view(): Child[] {
  return [
    h('a', { class: 'skip', href: '#main', onclick: toMain }, 'Skip to the content'),
    h(
      'header', { class: 'top' },
      h('a', { class: 'brand', href: '#/' }, h('img', { src: './icon.svg', alt: '', width: '28', height: '28' }), 'Evenkeel'),
      h('nav', { 'aria-label': 'Pages' },
        h('a', { href: '#/', 'aria-current': app.route.page === 'list' ? 'page' : null }, 'Vaults'),
        h('a', { href: '#/create', 'aria-current': app.route.page === 'create' ? 'page' : null }, 'Create')),
      accountBar(),
    ),
    h('main', { id: 'main', tabindex: '-1' }, banners(), page()),
    h('footer', {}, h('p', { class: 'soft' }, app.block ? `Newest block ${app.block.number}, ${time(app.block.timestamp)}, on ${chain()}.` : 'No block read yet.')),
    app.dialog ? app.dialog() : null,
  ]
}

function toMain(event: Event): void {
  event.preventDefault()
  document.getElementById('main')?.focus()
}

function banners(): VNode {
  return h(
    'div', { class: 'banners' },
    app.trouble ? note('error', app.trouble, app.block ? ` What you see is as of block ${app.block.number}, ${time(app.block.timestamp)}.` : '') : null,
    app.notice ? h('div', {}, note('info', app.notice, ' ', h('button', { type: 'button', class: 'small', onclick: () => { app.notice = ''; changed() } }, 'Dismiss'))) : null,
    app.wallet && !onChain() && app.chainId ? note('info', `Your wallet is on another network. Everything here can be read; to act, `, h('button', { type: 'button', class: 'small', onclick: () => void toChain() }, `switch to ${chain()}`), '.') : null,
  )
}

function page(): VNode {
  const { route } = app
  if (route.page === 'create') return createView()
  if (route.page === 'unknown') return h('div', { key: 'unknown' }, h('h1', { tabindex: '-1' }, 'Nothing here'), note('error', route.problem ?? ''), h('p', {}, h('a', { href: '#/' }, 'All vaults')))
  if (route.page === 'vault') return vaultPage()
  return listPage()
}

function vaultPage(): VNode {
  const { vault, route } = app
  if (!vault) {
    return h('div', { key: 'loading' }, h('h1', { tabindex: '-1' }, 'Vault'), address(route.vault ?? '', true), app.vaultProblem ? note('error', app.vaultProblem) : h('p', { class: 'working' }, 'Reading the chain…'))
  }
  return h(
    'div', { key: `vault ${vault.address}` },
    h('h1', { tabindex: '-1' }, stranger(vault.share.name || vault.share.symbol), ' ', h('small', {}, stranger(vault.share.symbol))),
    h('p', {}, address(vault.address, true)),
    asOf(vault),
    headline(vault),
    alerts(vault),
    h('nav', { class: 'tabs', 'aria-label': 'This vault' }, TABS.map(([tab, name]) =>
      h('a', { key: tab, href: `#/vault/${vault.address}/${tab}`, 'aria-current': tab === route.tab ? 'page' : null }, name))),
    h('div', { key: route.tab }, body(vault, route.tab)),
  )
}

function body(vault: Vault, tab: Tab): VNode {
  if (tab === 'deposit') return depositView(vault)
  if (tab === 'redeem') return redeemView(vault)
  if (tab === 'history') return historyView(vault)
  if (tab === 'verify') return verifyView(vault)
  return overview(vault)
}

function listPage(): VNode {
  return h(
    'div', { key: 'list' },
    h('h1', { tabindex: '-1' }, 'Vaults'),
    h('p', {}, 'Baskets of tokens that are kept at their target weights. Anyone can read; to deposit or redeem, connect a wallet.'),
    app.vaults === undefined
      ? h('p', { class: 'working' }, app.trouble ? '' : 'Reading the chain…')
      : app.vaults.length === 0
        ? note('info', 'There is no vault here yet.')
        : h(
            'table', { role: 'table', class: 'cards' },
            h('caption', { class: 'unseen' }, 'All vaults'),
            h('thead', { role: 'rowgroup' }, h('tr', { role: 'row' }, ['Vault', 'Value', 'Share', 'Largest drift', 'State', 'As of'].map((text) => h('th', { role: 'columnheader', scope: 'col' }, text)))),
            h('tbody', { role: 'rowgroup' }, app.vaults.map(row)),
          ),
    lookup(),
  )
}

function row(vault: NonNullable<typeof app.vaults>[number]): VNode {
  const cell = (label: string, ...content: Child[]): VNode => h('td', { role: 'cell', 'data-label': label }, ...content)
  if (!('block' in vault)) {
    return h('tr', { role: 'row', key: vault.address }, h('th', { role: 'rowheader', scope: 'row' }, address(vault.address)), h('td', { role: 'cell', colspan: 5, 'data-label': 'State' }, vault.problem))
  }
  const broken = vault.assets.some((asset) => asset.unreadable || asset.status !== 0)
  const out = vault.assets.some((asset) => asset.drift >= asset.band && !asset.aside)
  const state = vault.pausedUntil > vault.block.timestamp ? 'paused' : broken ? 'a price or token does not work' : out ? 'out of band' : 'within bands'
  return h(
    'tr', { role: 'row', key: vault.address },
    h('th', { role: 'rowheader', scope: 'row' }, h('a', { href: `#/vault/${vault.address}` }, stranger(vault.share.name || vault.address)), ' ', h('span', { class: 'soft' }, stranger(vault.share.symbol))),
    cell('Value', vault.priced ? usd(vault.nav) : 'incomplete'),
    cell('Share', vault.priced ? usd(sharePrice(vault)) : '—'),
    cell('Largest drift', vault.priced ? percent(maxDrift(vault)) : '—'),
    cell('State', state),
    cell('As of', `block ${vault.block.number}, ${time(vault.block.timestamp)}`),
  )
}

let sought = ''

function lookup(): VNode {
  return h(
    'form', {
      class: 'lookup',
      onsubmit: (event: Event) => {
        event.preventDefault()
        go(`#/vault/${encodeURIComponent(sought.trim())}`)
      },
    },
    h('label', { for: 'lookup' }, 'Another vault, by its address'),
    h('input', { id: 'lookup', value: sought, maxlength: 60, autocomplete: 'off', spellcheck: 'false', oninput: (event: InputEvent) => { sought = (event.target as HTMLInputElement).value } }),
    h('button', { type: 'submit' }, 'Open'),
  )
}

const root = document.getElementById('page')!
onDraw(() => {
  patch(root, view())
  document.title = app.vault && app.route.page === 'vault' ? `${app.vault.share.symbol} · Evenkeel` : 'Evenkeel'
})
void start()
