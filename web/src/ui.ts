// Small pieces that every view uses.

import { h, type Child, type Children, type VNode } from './dom'
import { announce, app, changed } from './app'
import { amount, exact, short } from './format'
import type { Token } from './erc20'

/** A name that a stranger chose: text, apart from what is around it whatever its direction. */
export const stranger = (text: string): VNode => h('bdi', { class: 'name', dir: 'auto' }, text)

export const quantity = (value: bigint, of: Token, digits = 6): VNode =>
  h('span', { class: 'number', title: `${exact(value, of.decimals)} (${value} units)` }, amount(value, of.decimals, digits), ' ', stranger(of.symbol))

export function address(value: string, whole = false): VNode {
  return h(
    'span', { class: 'address' },
    h('code', { title: value }, whole ? value : short(value)),
    h('button', { type: 'button', class: 'small', 'aria-label': `Copy address ${short(value)}`, onclick: () => void copy(value) }, 'Copy'),
  )
}

async function copy(text: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text)
    announce('Copied.')
  } catch {
    announce('The browser did not allow copying.')
  }
}

export const note = (kind: 'info' | 'warning' | 'error' | 'good', ...children: Children[]): VNode => {
  const word = { info: 'Note', warning: 'Warning', error: 'Problem', good: 'Done' }[kind]
  return h('p', { class: `note ${kind}` }, h('strong', {}, `${word}: `), ...children)
}

export const facts = (rows: [Child, Children][]): VNode =>
  h('dl', { class: 'facts' }, rows.map(([name, value]) => h('div', {}, h('dt', {}, name), h('dd', {}, value))))

/** A labelled input, its hint and its mistake tied to it. */
export function field(given: {
  id: string; label: Child; value: string; oninput: (value: string) => void
  hint?: Child; mistake?: string; type?: string; inputmode?: string; autocomplete?: string; maxlength?: number
}): VNode {
  const { id, mistake, hint } = given
  const described = [hint ? `${id}-hint` : '', mistake ? `${id}-mistake` : ''].filter(Boolean).join(' ')
  return h(
    'div', { class: 'field' },
    h('label', { for: id }, given.label),
    h('input', {
      id, value: given.value, type: given.type ?? 'text', inputmode: given.inputmode, autocomplete: given.autocomplete ?? 'off',
      maxlength: given.maxlength ?? 100, spellcheck: 'false', 'aria-describedby': described || null, 'aria-invalid': mistake ? 'true' : null,
      oninput: (event: InputEvent) => given.oninput((event.target as HTMLInputElement).value),
    }),
    hint ? h('p', { class: 'hint', id: `${id}-hint` }, hint) : null,
    mistake ? h('p', { class: 'mistake', id: `${id}-mistake` }, mistake) : null,
  )
}

export function choice(given: {
  id: string; label: string; value: string; options: [string, string][]; onchange: (value: string) => void; hint?: Child
}): VNode {
  return h(
    'div', { class: 'field' },
    h('label', { for: given.id }, given.label),
    h(
      'select',
      { id: given.id, value: given.value, 'aria-describedby': given.hint ? `${given.id}-hint` : null, onchange: (event: Event) => given.onchange((event.target as HTMLSelectElement).value) },
      given.options.map(([value, text]) => h('option', { value, key: value, selected: value === given.value }, text)),
    ),
    given.hint ? h('p', { class: 'hint', id: `${given.id}-hint` }, given.hint) : null,
  )
}

/** A modal dialog: the browser keeps the focus inside and gives it back afterwards. */
export function modal(title: string, content: Children[], onclosed: () => void = () => undefined): VNode {
  return h(
    'dialog',
    {
      key: title, 'aria-label': title, class: 'modal', id: 'modal',
      mounted: (element: HTMLDialogElement) => {
        element.showModal()
        element.querySelector<HTMLElement>('h2')?.focus()
      },
      onclose: () => {
        app.dialog = undefined
        onclosed()
        changed()
      },
    },
    h('div', { class: 'modal-head' }, h('h2', { tabindex: '-1' }, title), h('button', { type: 'button', class: 'small', onclick: closeDialog }, 'Close')),
    ...content,
  )
}

export function closeDialog(): void {
  document.querySelector<HTMLDialogElement>('dialog.modal')?.close()
}

/** That dialog, where it is still the one that is open. */
export function closeDialogNamed(title: string): void {
  const dialog = document.querySelector<HTMLDialogElement>('dialog.modal')
  if (dialog?.getAttribute('aria-label') === title) dialog.close()
}
