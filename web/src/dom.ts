// A view is a function of the state that returns a tree; `patch` changes the document to it, in place, so that focus
// and what was typed stay. Texts only ever become text nodes: nothing here parses HTML.

export type Child = VNode | string | number | null | undefined | false
export type Children = Child | Children[]
// eslint-disable-next-line @typescript-eslint/no-explicit-any -- each handler knows its event
type Handler = (event: any) => void
export type Attributes = Record<string, string | number | boolean | null | undefined | Handler>

export interface VNode {
  tag: string
  attributes: Attributes // `key`: another key makes a new element; `mounted`: called once with the element
  children: Child[]
}

const SVG = 'http://www.w3.org/2000/svg'
const SVG_TAGS = new Set(['svg', 'rect', 'line', 'path', 'g', 'circle', 'polyline'])
const known = new WeakMap<Element, Attributes>()

export function h(tag: string, attributes: Attributes = {}, ...children: Children[]): VNode {
  return { tag, attributes, children: (children as unknown[]).flat(Infinity) as Child[] }
}

/** Make the children of `parent` those of the tree. An absent child keeps its place, so that its neighbours keep theirs. */
export function patch(parent: Element, children: Child[]): void {
  children.forEach((child, index) => {
    const old = parent.childNodes[index]
    if (child && typeof child === 'object') {
      if (old instanceof Element && old.localName === child.tag && known.get(old)?.key === child.attributes.key) {
        update(old, child)
      } else {
        const made = create(child)
        if (old) old.replaceWith(made)
        else parent.append(made)
        const mounted = child.attributes.mounted
        if (typeof mounted === 'function') mounted(made)
      }
      return
    }
    const text = child === null || child === undefined || child === false ? '' : String(child)
    if (old instanceof Text) {
      if (old.data !== text) old.data = text
    } else if (old) old.replaceWith(document.createTextNode(text))
    else parent.append(document.createTextNode(text))
  })
  while (parent.childNodes.length > children.length) parent.lastChild?.remove()
}

function create(node: VNode): Element {
  const element = SVG_TAGS.has(node.tag) ? document.createElementNS(SVG, node.tag) : document.createElement(node.tag)
  known.set(element, {})
  update(element, node)
  return element
}

function update(element: Element, node: VNode): void {
  const before = known.get(element) ?? {}
  known.set(element, node.attributes)
  for (const name of Object.keys(before)) if (!(name in node.attributes)) set(element, name, before[name], undefined)
  patch(element, node.children)
  for (const [name, value] of Object.entries(node.attributes)) set(element, name, before[name], value)
}

function set(element: Element, name: string, before: Attributes[string], value: Attributes[string]): void {
  if (name === 'key' || name === 'mounted') return
  if (name.startsWith('on')) {
    // one listener for each kind of event; it looks the present handler up
    if (before === undefined && !listened.get(element)?.has(name)) {
      listened.set(element, (listened.get(element) ?? new Set()).add(name))
      element.addEventListener(name.slice(2), (event) => {
        const handler = known.get(element)?.[name]
        if (typeof handler === 'function') handler(event)
      })
    }
    return
  }
  if ((name === 'value' || name === 'checked') && name in element) {
    const input = element as HTMLInputElement
    if (name === 'checked') input.checked = Boolean(value)
    else if (input.value !== String(value ?? '')) input.value = String(value ?? '')
    return
  }
  if (value === before) return
  if (value === false || value === null || value === undefined) element.removeAttribute(name)
  else element.setAttribute(name, value === true ? '' : String(value))
}

const listened = new WeakMap<Element, Set<string>>()
